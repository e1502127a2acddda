/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * headrace-rx: takes in one burst of one port and says what it is. Source of every walk.
 */
#include "../packet/flow_hash.h"
#include "../packet/traffic_class.h"
#include "fragment.h"
#include "nodes.h"
#include "rewrite.h"

#define IP4 RTE_BE16(RTE_ETHER_TYPE_IPV4)
#define IP6 RTE_BE16(RTE_ETHER_TYPE_IPV6)
#define ARP RTE_BE16(RTE_ETHER_TYPE_ARP)

/** Shortest frame that the fast path reads without asking: Ethernet and an IPv4 header. */
#define SHORTEST (HR_L2_LEN + sizeof(struct rte_ipv4_hdr))

/** Of a word in memory: a MAC address in its first 6 bytes, an EtherType in its last 2. */
#define MAC_BYTES RTE_BE64(0xffffffffffff0000)
#define TYPE_IP4 RTE_BE64(RTE_ETHER_TYPE_IPV4)
#define TYPE_IP6 RTE_BE64(RTE_ETHER_TYPE_IPV6)

/** How the frames of a burst begin, as words in memory. */
struct header {
	uint64_t dst;         /**< Bytes 0 to 7: the destination, and what is not compared. */
	uint64_t source_type; /**< Bytes 6 to 13: the source and the EtherType. */
	uint64_t source_mask; /**< Which bits of source_type are compared. */
};

/** What is expected of frames of this EtherType, given as a word in memory. */
static inline struct header
expected(const struct hr_port_ctx *in, uint64_t ether_type)
{
	const uint8_t *ctx = (const uint8_t *)in;
	/* Each with two bytes more, of what follows it. */
	const uint64_t dst = hr_load64(ctx + offsetof(struct hr_port_ctx, mac));
	const uint64_t source =
			hr_load64(ctx + offsetof(struct hr_port_ctx, source_mac)) & MAC_BYTES;

	return (struct header){
			.dst = dst,
			.source_type = source | ether_type,
			.source_mask = source != 0 ? UINT64_MAX : ~MAC_BYTES,
	};
}

/** Zero when the frame begins as is expected. */
static inline uint64_t
mismatch(const uint8_t *frame, const struct header *header)
{
	return ((hr_load64(frame) ^ header->dst) & MAC_BYTES) |
			((hr_load64(frame + 6) ^ header->source_type) & header->source_mask);
}

/** Whether a frame sent to many is none of a unicast packet: RFC 1812 5.3.4 forbids to route it. */
static bool
may_be_group(const struct rte_mbuf *m, const struct rte_ether_hdr *eth)
{
	const uint8_t *ip = (const uint8_t *)(eth + 1);

	if (eth->ether_type == IP4)
		return ip[16] >= 0xe0;
	if (eth->ether_type == IP6 && m->data_len >= HR_L2_LEN + sizeof(struct rte_ipv6_hdr))
		return ip[24] == 0xff;
	return true;
}

/** One frame of a mixed burst to where it belongs. */
static void
classify(struct rte_graph *graph, struct rte_node *node, struct hr_worker *worker,
		struct rte_mbuf *m)
{
	const struct hr_port_ctx *in = worker->in;
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	rte_edge_t edge;

	/* What one buffer does not hold goes on: its sender is told of the MTU. */
	if (m->nb_segs != 1)
		hr_chain_gather(m);
	if (m->data_len < SHORTEST) {
		hr_drop(worker, m, HR_DROP_RUNT);
		return;
	}
	if (in->role == HR_ROLE_NONE) {
		hr_drop(worker, m, HR_DROP_NO_INTERFACE);
		return;
	}
	if (!rte_is_zero_ether_addr(&in->source_mac) &&
			!rte_is_same_ether_addr(&eth->src_addr, &in->source_mac)) {
		hr_drop(worker, m, HR_DROP_SOURCE_MAC);
		return;
	}
	if (!rte_is_same_ether_addr(&eth->dst_addr, &in->mac) &&
			!(rte_is_multicast_ether_addr(&eth->dst_addr) && may_be_group(m, eth))) {
		hr_drop(worker, m, HR_DROP_NOT_FOR_US);
		return;
	}
	if (eth->ether_type == IP6) {
		edge = in->role == HR_ROLE_UPLINK ? HR_EDGE_DECAP : HR_EDGE_IP6;
	} else if (in->role == HR_ROLE_UPLINK) {
		hr_drop(worker, m, HR_DROP_ETHERTYPE);
		return;
	} else if (eth->ether_type == IP4) {
		edge = HR_EDGE_IP4;
	} else if (eth->ether_type == ARP) {
		edge = HR_EDGE_ARP;
	} else {
		hr_drop(worker, m, HR_DROP_ETHERTYPE);
		return;
	}
	rte_node_enqueue_x1(graph, node, edge, m);
}

/** Whether a packet of the inject ring is of a device whose port id another has now. */
static bool
is_late(const struct rte_mbuf *m)
{
	return (m->hash.fdir.hi & 0xff) != HR_INJECT_ADJ &&
			((m->hash.fdir.hi >> 8) ^ hr_port_generation_now(m->port)) & 0xffffff;
}

/** One packet from the inject ring. */
static uint16_t
injected(struct rte_graph *graph, struct rte_node *node, struct hr_worker *worker)
{
	struct rte_mbuf *m;
	const uint8_t *ip;
	const struct hr_adj *adj;
	uint32_t length;
	uint8_t op;

	if (rte_ring_sc_dequeue(worker->inject, (void **)&m) != 0)
		return 0;
	worker->injected = true;
	worker->received = 1;
	worker->trusted = true;
	worker->in = hr_read(hr_port_ctx[m->port]);
	ip = rte_pktmbuf_mtod_offset(m, const uint8_t *, HR_L2_LEN);
	if (is_late(m)) {
		hr_drop(worker, m, HR_DROP_PORT_DOWN);
		return 1;
	}
	switch (m->hash.fdir.hi & 0xff) {
	case HR_INJECT_SEND:
		rte_node_enqueue_x1(graph, node, HR_EDGE_TX, m);
		break;
	case HR_INJECT_ROUTE:
		if (worker->in->role != HR_ROLE_INTERFACE)
			hr_drop(worker, m, HR_DROP_NO_INTERFACE);
		else
			rte_node_enqueue_x1(graph, node,
					(ip[0] >> 4) == 4 ? HR_EDGE_IP4 : HR_EDGE_IP6, m);
		break;
	default:
		adj = &hr_adjs[m->hash.fdir.lo];
		op = hr_adj_op(adj);
		length = m->pkt_len - HR_L2_LEN;
		if (hr_adj_mark_holds(m) && op == HR_OP_RESOLVE) {
			/* A commit is about it once more. */
			rte_node_enqueue_x1(graph, node, HR_EDGE_RESOLVE, m);
		} else if (!hr_adj_mark_holds(m) ||
				(op != HR_OP_ETH && op != HR_OP_ENCAP && op != HR_OP_VXLAN)) {
			hr_drop(worker, m, HR_DROP_UNRESOLVED);
		} else if (length > hr_adj_mtu(adj)) {
			/* Not known, or another, when it began to wait. */
			if (hr_may_fragment(ip))
				hr_fragment(worker, m, adj);
			else
				hr_drop(worker, m, HR_DROP_MTU);
		} else if (op == HR_OP_ETH) {
			hr_rewrite_eth(m, adj, (ip[0] >> 4) == 4 ? IP4 : IP6);
			rte_node_enqueue_x1(graph, node, HR_EDGE_TX, m);
		} else if (op == HR_OP_VXLAN) {
			hr_rewrite_vxlan(m, m->hash.fdir.lo);
			rte_node_enqueue_x1(graph, node, HR_EDGE_TX, m);
		} else {
			hr_rewrite_encap(m, adj, length,
					(ip[0] >> 4) == 4 ? IPPROTO_IPIP : IPPROTO_IPV6,
					hr_traffic_class(ip), hr_flow_hash(ip));
			rte_node_enqueue_x1(graph, node, HR_EDGE_TX, m);
		}
	}
	return 1;
}

/** Which fill counter a burst of n packets belongs to. */
static inline unsigned
fill_class(uint16_t n)
{
	return n == 1 ? 0 : n < 8 ? 1 : n < 32 ? 2 : n < 64 ? 3 : 4;
}

static uint16_t
rx_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb)
{
	struct hr_worker *worker = hr_node_worker(node);
	struct rte_mbuf **pkts = (struct rte_mbuf **)node->objs;
	const struct hr_rxqs *rxqs = hr_read(worker->rxqs);
	const uint16_t burst = hr_count(hr_worker_settings.burst);
	struct hr_port_counters *counters;
	const struct hr_port_ctx *in;
	uint64_t ether_type = TYPE_IP6, other = 0, bytes = 0;
	uint16_t n = 0, port = 0, segments = 0;
	struct header header;

	RTE_SET_USED(objs);
	RTE_SET_USED(nb);
	if (worker->index == 0)
		hr_tx_drain(worker);
	if (unlikely(!worker->injected && !rte_ring_empty(worker->inject)))
		return injected(graph, node, worker);
	worker->injected = false;
	worker->trusted = false;

	for (uint16_t polled = 0; polled < rxqs->n && n == 0; polled++) {
		if (++worker->cursor >= rxqs->n)
			worker->cursor = 0;
		port = rxqs->q[worker->cursor].port;
		n = rte_eth_rx_burst(port, rxqs->q[worker->cursor].queue, pkts,
				RTE_MAX(burst, rxqs->q[worker->cursor].least_burst));
	}
	if (n == 0)
		return 0;

	in = hr_read(hr_port_ctx[port]);
	worker->in = in;
	worker->received = n;
	hr_count_add(&worker->bursts, 1);
	hr_count_add(&worker->packets, n);
	hr_count_add(&worker->fill[fill_class(n)], 1);

	for (uint16_t i = 0; i < RTE_MIN(n, 4); i++)
		rte_prefetch0(rte_pktmbuf_mtod(pkts[i], void *));
	/* Speculate that the burst is all of one family; the first packet says which. */
	if (in->role == HR_ROLE_INTERFACE && pkts[0]->data_len >= SHORTEST &&
			rte_pktmbuf_mtod(pkts[0], struct rte_ether_hdr *)->ether_type == IP4)
		ether_type = TYPE_IP4;
	header = expected(in, ether_type);
	for (uint16_t i = 0; i < n; i++) {
		if (i + 4 < n)
			rte_prefetch0(rte_pktmbuf_mtod(pkts[i + 4], void *));
		bytes += pkts[i]->pkt_len;
		segments |= pkts[i]->nb_segs;
		other |= mismatch(rte_pktmbuf_mtod(pkts[i], uint8_t *), &header) |
				(pkts[i]->data_len < SHORTEST);
	}
	counters = &worker->ports[port];
	hr_count_add(&counters->rx_packets, n);
	hr_count_add(&counters->rx_bytes, bytes);

	if (likely(other == 0 && segments == 1 && in->role != HR_ROLE_NONE)) {
		node->idx = n;
		rte_node_next_stream_move(graph, node,
				in->role == HR_ROLE_UPLINK               ? HR_EDGE_DECAP
						: ether_type == TYPE_IP4 ? HR_EDGE_IP4
									 : HR_EDGE_IP6);
		return n;
	}
	for (uint16_t i = 0; i < n; i++)
		classify(graph, node, worker, pkts[i]);
	return n;
}

static struct rte_node_register rx_node = {
		.name = "headrace-rx",
		.flags = RTE_NODE_SOURCE_F,
		.process = rx_process,
		.init = hr_node_init,
		.nb_edges = HR_EDGE_COUNT,
		.next_nodes = HR_NODE_NEXT(HR_EDGE_COUNT),
};
RTE_NODE_REGISTER(rx_node);
