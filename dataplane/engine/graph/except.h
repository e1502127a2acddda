/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Packets that leave a burst: which node they go to, or why they drop.
 */
#ifndef HR_EXCEPT_H
#define HR_EXCEPT_H

#include "../table/adj.h"
#include "../worker.h"

/**
 * Dispose of a packet whose adjacency is an exception: drop it, or hand it to a node.
 * The packet's TTL is as it arrived; for HR_OP_RESOLVE it is decremented here.
 */
void hr_except(struct rte_graph *graph, struct rte_node *node, struct hr_worker *worker,
		struct rte_mbuf *m, uint32_t adj);

/**
 * Dispose of a packet larger than its way out takes: fragment it, or have its sender told.
 * @param hops 1 if its TTL is as it arrived, 0 if this is no hop
 */
void hr_except_mtu(struct rte_graph *graph, struct rte_node *node, struct hr_worker *worker,
		struct rte_mbuf *m, const struct hr_adj *adj, unsigned hops);

/** Dispose of a packet whose TTL or hop limit does not allow another hop. */
void hr_except_ttl(struct rte_graph *graph, struct rte_node *node, struct rte_mbuf *m);

/**
 * Where a packet goes whose lookup gave neither HR_OP_ETH nor HR_OP_ENCAP.
 * @return an adjacency with one of those, or NULL when the packet was disposed of
 */
const struct hr_adj *hr_divert(struct rte_graph *graph, struct rte_node *node,
		struct hr_worker *worker, struct rte_mbuf *m, uint32_t index);

#endif
