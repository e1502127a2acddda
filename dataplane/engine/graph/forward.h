/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What routed packets have in common: MTU, TTL, and the rewrite by an adjacency.
 */
#ifndef HR_FORWARD_H
#define HR_FORWARD_H

#include "../packet/flow_hash.h"
#include "../packet/ip.h"
#include "../packet/traffic_class.h"
#include "except.h"
#include "nodes.h"
#include "rewrite.h"

/**
 * Send the node's first n packets on by their next hops: rewrite what leaves, hand on the rest.
 * @param family 4 or 6, of all of them; a constant, so that each caller has a loop of its own
 */
static __rte_always_inline void
hr_forward(struct rte_graph *graph, struct rte_node *node, struct hr_worker *worker,
		const uint32_t *next_hop, uint16_t n, const int family)
{
	struct rte_mbuf **pkts = (struct rte_mbuf **)node->objs;
	uint16_t out = 0;

	for (uint16_t i = 0; i < n; i++) {
		struct rte_mbuf *m = pkts[i];
		uint8_t *ip = rte_pktmbuf_mtod_offset(m, uint8_t *, HR_L2_LEN);
		const uint32_t length = family == 4 ? hr_length4(ip) : hr_length6(ip);
		const struct hr_adj *adj = &hr_adjs[next_hop[i]];
		const uint8_t op = hr_adj_op(adj);

		hr_trim(m, length);
		if (unlikely(op != HR_OP_ETH && op != HR_OP_ENCAP)) {
			adj = hr_divert(graph, node, worker, m, next_hop[i]);
			if (adj == NULL)
				continue;
		}
		if (unlikely(length > hr_adj_mtu(adj))) {
			hr_except_mtu(graph, node, worker, m, adj, 1);
			continue;
		}
		if (family == 4)
			hr_ttl_decrement4(ip);
		else
			ip[7]--;
		if (adj->ready_op == HR_OP_ETH)
			hr_rewrite_eth(m, adj,
					family == 4 ? RTE_BE16(RTE_ETHER_TYPE_IPV4)
						    : RTE_BE16(RTE_ETHER_TYPE_IPV6));
		else if (family == 4)
			hr_rewrite_encap(m, adj, length, IPPROTO_IPIP, hr_traffic_class4(ip),
					hr_flow_hash4(ip));
		else
			hr_rewrite_encap(m, adj, length, IPPROTO_IPV6, hr_traffic_class6(ip),
					hr_flow_hash6(ip));
		pkts[out++] = m;
	}
	if (likely(out > 0)) {
		node->idx = out;
		rte_node_next_stream_move(graph, node, HR_EDGE_TX);
	}
}

#endif
