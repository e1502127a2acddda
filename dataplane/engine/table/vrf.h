/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * VRFs: the routing tables of a VirtualNetwork.
 */
#ifndef HR_VRF_H
#define HR_VRF_H

#include <sys/queue.h>

#include "../fib/fib.h"
#include "../packet/load.h"

struct hr_network_spec;

struct hr_vrf {
	struct hr_fib *fib4, *fib6;
	uint32_t vni;
	uint64_t identity; /**< hr_ecmp_identity() of the network's name. */
	int8_t dscp;       /**< As in the spec of the network. */
	uint32_t owner;    /**< Owner number of its own routes (gateways, multicast) in the FIBs. */
	const char *name;  /**< Of the network; NULL while it is only prepared. */
	const struct hr_network_spec *spec; /**< Of the network, or as it will be. */
	LIST_ENTRY(hr_vrf) entry;           /**< Of hr_vrfs. */
};

/** All VRFs, those of networks that are only prepared among them. Control thread. */
LIST_HEAD(hr_vrfs, hr_vrf);
extern struct hr_vrfs hr_vrfs;

/** Adjacency of one address, for exceptions; bursts use the bulk lookups. */
static inline uint32_t
hr_vrf_lookup(const struct hr_vrf *vrf, const uint8_t *ip)
{
	uint32_t adj;

	if ((ip[0] >> 4) == 4) {
		rte_be32_t dst = hr_load32(ip + 16);

		hr_fib4_lookup(vrf->fib4, &dst, &adj, 1);
	} else {
		const struct hr_ip6 *dst = (const void *)(ip + 24);

		hr_fib6_lookup(vrf->fib6, &dst, &adj, 1);
	}
	return adj;
}

/** The VRF of a network, NULL when there is none of this key. Control thread. */
struct hr_vrf *hr_network_vrf(const char *name);
/** A number no other owner of routes has; never 0. Control thread. */
uint32_t hr_route_owner(void);

#endif
