/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Ways: where an underlay address leads just now, to an Interface here or out by an uplink. Control
 * thread.
 *
 * An adjacency that is in use is left alone where its way is as it was, and changed in place where
 * a worker may see the old and the new. Only for another rewrite do packets have to wait.
 */
#ifndef HR_WAY_H
#define HR_WAY_H

#include "adj.h"

struct hr_neigh;

struct hr_way {
	struct hr_adj adj;     /**< As it is to be, but for what is the neighbour's to write. */
	struct hr_vxlan vxlan; /**< Of HR_OP_VXLAN; else zero. */
	/** Who writes the destination's MAC address and `op`; NULL: `op` is what `adj` says. */
	struct hr_neigh *neigh;
	bool is_next_hop; /**< `neigh` is an uplink's, and counted: a hr_neigh_put() is due. */
};

/** Find the way to an underlay address, for packets of a network. */
void hr_way_find(const struct hr_ip6 *underlay, const struct hr_vrf *vrf, struct hr_way *way);

/** Whether an adjacency leads through the underlay, from this outer source. */
bool hr_way_is_from(uint32_t adj, const struct hr_ip6 *source);

/** Whether an adjacency has to be rewritten before packets can take this way. */
bool hr_way_needs_rewrite(const struct hr_way *way, uint32_t adj);
/** Rewrite an adjacency that no worker is using. */
void hr_way_rewrite(const struct hr_way *way, uint32_t adj);
/** Have packets take this way, now that no rewrite is needed. Stores only what changes. */
void hr_way_take(const struct hr_way *way, uint32_t adj);

#endif
