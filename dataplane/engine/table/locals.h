/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * The underlay addresses that live here: decapsulation is one exact lookup in this table.
 */
#ifndef HR_LOCALS_H
#define HR_LOCALS_H

#include "../worker.h"
#include "adj.h"

/** Slots; at most a quarter is taken (HR_MAX_PORTS Interfaces). A power of two. */
#define HR_LOCALS_SLOTS 256

struct hr_locals {
	struct {
		struct hr_ip6 addr;
		uint32_t adj; /**< To the endpoint; 0: free slot. */
		uint32_t _reserved[3];
	} slot[HR_LOCALS_SLOTS];
};
static_assert(HR_MAX_PORTS * 4 <= HR_LOCALS_SLOTS, "room for one Interface per port");

/** The table in force; replaced by pointer swap. Read with hr_read(). Never NULL. */
extern const struct hr_locals *hr_locals;

struct hr_object;

/** Publish the table anew from all Interfaces but one. Control thread. */
void hr_locals_rebuild(const struct hr_object *except);

static inline unsigned
hr_locals_slot(const struct hr_ip6 *addr)
{
	return (addr->q[0] ^ addr->q[1]) * 0x9e3779b97f4a7c15ULL >> 56;
}
static_assert(HR_LOCALS_SLOTS == 256, "hr_locals_slot() yields 8 bits");

/** The adjacency of a local underlay address, 0 when it is not one. */
static inline uint32_t
hr_locals_lookup(const struct hr_locals *locals, const struct hr_ip6 *addr)
{
	const uint64_t q0 = addr->q[0], q1 = addr->q[1];

	for (unsigned i = hr_locals_slot(addr);; i = (i + 1) % HR_LOCALS_SLOTS)
		if (locals->slot[i].adj == 0 ||
				(locals->slot[i].addr.q[0] == q0 &&
						locals->slot[i].addr.q[1] == q1))
			return locals->slot[i].adj;
}

/** Whether the node answers for this underlay address on this uplink. */
static inline bool
hr_locals_has(const struct hr_port_ctx *in, const struct hr_ip6 *addr)
{
	struct hr_ip6 copy;

	memcpy(&copy, addr, sizeof(copy));
	return in->role == HR_ROLE_UPLINK && hr_locals_lookup(hr_read(hr_locals), &copy) != 0;
}

#endif
