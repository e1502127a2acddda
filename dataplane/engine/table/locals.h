/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * The underlay addresses that live here: decapsulation is one exact lookup in this table.
 */
#ifndef HR_LOCALS_H
#define HR_LOCALS_H

#include "../worker.h"
#include "adj.h"

/** Slots; at most half is taken (HR_MAX_PORTS Interfaces). A power of two. */
#define HR_LOCALS_SLOTS 1024

/** One underlay address of an Interface. */
struct hr_local {
	struct hr_ip6 addr;
	uint32_t adj; /**< To the endpoint; 0: free slot. */
	/** Endpoints of other gear that may send there: endpoints[first] .. [first + n - 1]. */
	uint16_t first, n;
	uint32_t _reserved[2];
};

struct hr_locals {
	/** See hr_underlay_source_mask(). */
	struct hr_ip6 source_mask;
	/** The Pipeline's prefixes, for sources in another than their destination's. */
	uint16_t n_prefixes;
	struct hr_prefix prefixes[HR_UNDERLAY_PREFIXES_MAX];
	struct hr_local slot[HR_LOCALS_SLOTS];
	struct hr_ip6 endpoints[HR_MAX_PORTS * HR_MAX_ENDPOINTS];
	uint32_t vni[HR_MAX_PORTS * HR_MAX_ENDPOINTS]; /**< Of each, in VXLAN; 0: none. */
};
static_assert(HR_MAX_PORTS * (1 + HR_MAX_FORMER) * 2 <= HR_LOCALS_SLOTS,
		"room for one Interface per port");
static_assert(HR_MAX_PORTS * HR_MAX_ENDPOINTS <= UINT16_MAX, "hr_local.first counts them all");

/** The table in force; replaced by pointer swap. Read with hr_read(). Never NULL. */
extern const struct hr_locals *hr_locals;

struct hr_object;

/** Publish the table anew from all Interfaces but one, and the settings. Control thread. */
void hr_locals_rebuild(const struct hr_object *except);

static inline unsigned
hr_locals_slot(const struct hr_ip6 *addr)
{
	return (addr->q[0] ^ addr->q[1]) * 0x9e3779b97f4a7c15ULL >> 54;
}
static_assert(HR_LOCALS_SLOTS == 1024, "hr_locals_slot() yields 10 bits");

/** A local underlay address; a free slot when it is not one. */
static inline const struct hr_local *
hr_locals_find(const struct hr_locals *locals, const struct hr_ip6 *addr)
{
	const uint64_t q0 = addr->q[0], q1 = addr->q[1];

	for (unsigned i = hr_locals_slot(addr);; i = (i + 1) % HR_LOCALS_SLOTS)
		if (locals->slot[i].adj == 0 ||
				(locals->slot[i].addr.q[0] == q0 &&
						locals->slot[i].addr.q[1] == q1))
			return &locals->slot[i];
}

/** The adjacency of a local underlay address, 0 when it is not one. */
static inline uint32_t
hr_locals_lookup(const struct hr_locals *locals, const struct hr_ip6 *addr)
{
	return hr_locals_find(locals, addr)->adj;
}

/**
 * Whether this source may send to a local destination, where the two do not agree in source_mask:
 * a node with a /64 of another prefix, or other gear.
 */
bool hr_locals_admit(const struct hr_locals *locals, const struct hr_ip6 *src,
		const struct hr_ip6 *dst);

/** Whether this source may send to a local destination by VXLAN, with this VNI. */
bool hr_locals_admit_vxlan(const struct hr_locals *locals, const struct hr_ip6 *src,
		const struct hr_ip6 *dst, uint32_t vni);

/** Whether the node answers for this underlay address on this uplink. */
static inline bool
hr_locals_has(const struct hr_port_ctx *in, const struct hr_ip6 *addr)
{
	struct hr_ip6 copy;

	memcpy(&copy, addr, sizeof(copy));
	return in->role == HR_ROLE_UPLINK && hr_locals_lookup(hr_read(hr_locals), &copy) != 0;
}

#endif
