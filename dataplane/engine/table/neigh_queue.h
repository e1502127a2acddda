/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Packets that wait for a neighbour's MAC address.
 */
#ifndef HR_NEIGH_QUEUE_H
#define HR_NEIGH_QUEUE_H

#include "../types.h"

struct hr_neigh;

#define HR_NEIGH_QUEUE 64        /**< Packets that wait for one neighbour. */
#define HR_NEIGH_WAITING_MAX 256 /**< hr_neigh_waiting_max unless it is set. */
/** Buffers that are kept for packets that wait, of all namespaces together. */
#define HR_NEIGH_BUFFERS 4096

/**
 * Most packets of one namespace that wait, for all neighbours together. A namespace is what an
 * Interface's key begins with, up to "/". What waits stays when it is lowered. Of none more wait
 * than there still is room for in hr_pool_waiting.
 */
extern unsigned hr_neigh_waiting_max;

/**
 * Have a packet wait, or drop it.
 *
 * @param sender the endpoint that sent it; NULL when it came by an uplink
 * @return false when that was one too many: it, or another in its stead, was dropped
 */
bool hr_neigh_enqueue(struct hr_neigh *neigh, struct rte_mbuf *m, const struct hr_neigh *sender);
/** Send what waited, or drop it. */
void hr_neigh_flush(struct hr_neigh *neigh, bool resolved);
/** Send a packet by the adjacency that it is marked with. */
void hr_neigh_forward(struct rte_mbuf *m);

/**
 * Drop a packet because of its neighbour: a next hop's counts under the uplink that was to take it, an
 * endpoint's where the packet came in.
 */
void hr_neigh_drop(const struct hr_neigh *neigh, struct rte_mbuf *m);

#endif
