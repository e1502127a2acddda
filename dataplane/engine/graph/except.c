/* SPDX-License-Identifier: Apache-2.0 */
#include "except.h"

#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

#include "../packet/flow_hash.h"
#include "../packet/ip.h"
#include "../table/vrf.h"
#include "fragment.h"
#include "nodes.h"
#include "rewrite.h"

/** Networks that a packet may be led to, one by another, from its own. */
#define NETWORK_HOPS 4

static bool
is_ip4(const uint8_t *ip)
{
	return ip[0] >> 4 == 4;
}

static void
error(struct rte_graph *graph, struct rte_node *node, struct rte_mbuf *m, uint8_t type,
		uint8_t code, uint16_t mtu, enum hr_drop reason)
{
	hr_icmp_error_mark(m, type, code, mtu, reason);
	rte_node_enqueue_x1(graph, node, HR_EDGE_ICMP_ERROR, m);
}

void
hr_except_ttl(struct rte_graph *graph, struct rte_node *node, struct rte_mbuf *m)
{
	const uint8_t *ip = rte_pktmbuf_mtod_offset(m, const uint8_t *, HR_L2_LEN);

	error(graph, node, m, is_ip4(ip) ? ICMP_TIME_EXCEEDED : ICMP6_TIME_EXCEEDED, 0, 0,
			HR_DROP_TTL);
}

static void
too_big(struct rte_graph *graph, struct rte_node *node, struct rte_mbuf *m, uint16_t mtu)
{
	const uint8_t *ip = rte_pktmbuf_mtod_offset(m, const uint8_t *, HR_L2_LEN);

	if (is_ip4(ip))
		error(graph, node, m, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, mtu, HR_DROP_MTU);
	else
		error(graph, node, m, ICMP6_PACKET_TOO_BIG, 0, mtu, HR_DROP_MTU);
}

void
hr_except_mtu(struct rte_graph *graph, struct rte_node *node, struct hr_worker *worker,
		struct rte_mbuf *m, const struct hr_adj *adj, unsigned hops)
{
	uint8_t *ip = rte_pktmbuf_mtod_offset(m, uint8_t *, HR_L2_LEN);

	if (!hr_may_fragment(ip)) {
		too_big(graph, node, m, hr_adj_mtu(adj));
		return;
	}
	if (hops > 0)
		hr_ttl_decrement4(ip);
	hr_fragment(worker, m, adj);
}

void
hr_except(struct rte_graph *graph, struct rte_node *node, struct hr_worker *worker,
		struct rte_mbuf *m, uint32_t adj)
{
	uint8_t *ip = rte_pktmbuf_mtod_offset(m, uint8_t *, HR_L2_LEN);
	uint16_t mtu;

	switch (hr_adj_op(&hr_adjs[adj])) {
	case HR_OP_NO_ROUTE:
		if (is_ip4(ip))
			error(graph, node, m, ICMP_DEST_UNREACH, ICMP_NET_UNREACH, 0,
					HR_DROP_NO_ROUTE);
		else
			error(graph, node, m, ICMP6_DST_UNREACH, ICMP6_DST_UNREACH_NOROUTE, 0,
					HR_DROP_NO_ROUTE);
		return;
	case HR_OP_LOCAL:
		rte_node_enqueue_x1(graph, node, HR_EDGE_LOCAL, m);
		return;
	case HR_OP_BLACKHOLE:
		hr_drop(worker, m, HR_DROP_BLACKHOLE);
		return;
	case HR_OP_MARTIAN:
		hr_drop(worker, m, HR_DROP_MARTIAN);
		return;
	case HR_OP_FOREIGN:
		hr_drop(worker, m, HR_DROP_UNDERLAY_SOURCE);
		return;
	case HR_OP_VXLAN:
		if (m->pkt_len - HR_L2_LEN > hr_adj_mtu(&hr_adjs[adj])) {
			hr_except_mtu(graph, node, worker, m, &hr_adjs[adj], 1);
			return;
		}
		if (is_ip4(ip))
			hr_ttl_decrement4(ip);
		else
			ip[7]--;
		hr_rewrite_vxlan(m, adj);
		rte_node_enqueue_x1(graph, node, HR_EDGE_TX, m);
		return;
	default: /* No way to the neighbour, or one since the last look: it waits its turn, if any. */
		mtu = hr_adj_mtu(&hr_adjs[adj]);
		/* A held adjacency may have no MTU yet. What may be fragmented waits whole. */
		if (mtu != 0 && m->pkt_len - HR_L2_LEN > mtu && !hr_may_fragment(ip)) {
			too_big(graph, node, m, mtu);
			return;
		}
		if (is_ip4(ip))
			hr_ttl_decrement4(ip);
		else
			ip[7]--;
		hr_adj_mark(m, adj);
		rte_node_enqueue_x1(graph, node, HR_EDGE_RESOLVE, m);
	}
}

/**
 * Follow what stands between a lookup and a way out: ECMP groups and other networks.
 * @return an adjacency whose op is neither; HR_ADJ_MAX when there are too many networks
 */
static uint32_t
follow(uint32_t adj, const uint8_t *ip)
{
	for (unsigned hops = 0;; hops++) {
		const struct hr_adj *a = &hr_adjs[adj];

		if (hr_adj_op(a) == HR_OP_ECMP) {
			adj = hr_ecmp_choose(a->ecmp, hr_flow_hash(ip));
			a = &hr_adjs[adj];
		}
		if (hr_adj_op(a) != HR_OP_NETWORK)
			return adj;
		if (hops == NETWORK_HOPS)
			return HR_ADJ_MAX;
		adj = hr_vrf_lookup(a->vrf, ip);
		if (hr_adj_op(&hr_adjs[adj]) == HR_OP_LOCAL)
			return HR_ADJ_MARTIAN;
	}
}

const struct hr_adj *
hr_divert(struct rte_graph *graph, struct rte_node *node, struct hr_worker *worker,
		struct rte_mbuf *m, uint32_t index)
{
	const uint8_t *ip = rte_pktmbuf_mtod_offset(m, const uint8_t *, HR_L2_LEN);
	const struct hr_adj *adj;
	uint8_t op;

	index = follow(index, ip);
	if (index == HR_ADJ_MAX) {
		hr_drop(worker, m, HR_DROP_NETWORK_LOOP);
		return NULL;
	}
	adj = &hr_adjs[index];
	op = hr_adj_op(adj);
	if (op == HR_OP_ETH || op == HR_OP_ENCAP)
		return adj;
	hr_except(graph, node, worker, m, index);
	return NULL;
}
