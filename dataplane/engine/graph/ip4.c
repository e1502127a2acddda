/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * headrace-ip4: IPv4 from an Interface: validate, check the source, look up, rewrite.
 */
#include "rewrite.h"

static inline bool
source_is_allowed(const struct hr_port_ctx *in, rte_be32_t source)
{
	for (uint16_t i = 0; i < in->n_source4; i++)
		if ((source & in->source4[i].mask) == in->source4[i].addr)
			return true;
	return false;
}

/** Whether the header's checksum verifies: 20 bytes, no options (RFC 1071). */
static inline bool
checksum_is_good(const uint8_t *ip)
{
	uint64_t sum = (uint64_t)hr_load32(ip) + hr_load32(ip + 4) + hr_load32(ip + 8) +
			hr_load32(ip + 12) + hr_load32(ip + 16);

	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum == 0xffff;
}

static inline uint16_t
total_length(const uint8_t *ip)
{
	uint16_t length;

	memcpy(&length, ip + 2, sizeof(length));
	return rte_be_to_cpu_16(length);
}

/** A packet the fast checks did not pass: say why, or send it on if it is only unusual. */
static bool
unusual(struct rte_graph *graph, struct rte_node *node, struct hr_worker *worker,
		struct rte_mbuf *m)
{
	const uint8_t *ip = rte_pktmbuf_mtod_offset(m, const uint8_t *, HR_L2_LEN);
	const unsigned header = (ip[0] & 0xf) * 4;
	uint32_t adj;

	if (ip[0] >> 4 != 4 || header < sizeof(struct rte_ipv4_hdr) ||
			m->data_len < HR_L2_LEN + header || total_length(ip) < header ||
			m->pkt_len < HR_L2_LEN + (uint32_t)total_length(ip)) {
		hr_drop(worker, m, HR_DROP_IP4_HEADER);
		return true;
	}
	if (rte_raw_cksum(ip, header) != 0xffff) {
		hr_drop(worker, m, HR_DROP_IP4_CHECKSUM);
		return true;
	}
	if (!worker->trusted && worker->in->source_check &&
			!source_is_allowed(worker->in, hr_load32(ip + 12))) {
		hr_drop(worker, m, HR_DROP_SOURCE);
		return true;
	}
	if (ip[8] <= 1) {
		adj = hr_vrf_lookup(worker->in->vrf, ip);
		if (hr_adjs[adj].op == HR_OP_LOCAL)
			hr_except(graph, node, worker, m, adj);
		else
			hr_except_ttl(graph, node, m);
		return true;
	}
	return false; /* IP options: forwarded, not interpreted. */
}

static uint16_t
ip4_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb)
{
	struct hr_worker *worker = hr_node_worker(node);
	const struct hr_port_ctx *in = worker->in;
	struct rte_mbuf **pkts = (struct rte_mbuf **)objs;
	const bool check = in->source_check && !worker->trusted;
	const rte_be32_t source = in->n_source4 > 0 ? in->source4[0].addr : 0;
	const rte_be32_t source_mask = in->n_source4 > 0 ? in->source4[0].mask : 0;
	rte_be32_t dst[RTE_GRAPH_BURST_SIZE];
	uint32_t next_hop[RTE_GRAPH_BURST_SIZE];
	uint16_t n = 0, out = 0;

	for (uint16_t i = 0; i < nb; i++) {
		struct rte_mbuf *m = pkts[i];
		const uint8_t *ip = rte_pktmbuf_mtod_offset(m, const uint8_t *, HR_L2_LEN);
		const uint16_t length = total_length(ip);
		const rte_be32_t from = hr_load32(ip + 12);
		const bool usual = (ip[0] == 0x45) & (ip[8] > 1) &
				(length >= sizeof(struct rte_ipv4_hdr)) &
				(m->pkt_len >= (uint32_t)HR_L2_LEN + length) &
				checksum_is_good(ip) &
				(!check | ((from & source_mask) == source && in->n_source4 > 0));

		if (unlikely(!usual) && unusual(graph, node, worker, m))
			continue;
		hr_trim(m, length);
		dst[n] = hr_load32(ip + 16);
		pkts[n++] = m;
	}
	for (uint16_t i = 0; i < n; i += HR_BURST)
		hr_fib4_lookup(in->vrf->fib4, dst + i, next_hop + i, RTE_MIN(n - i, HR_BURST));

	for (uint16_t i = 0; i < n; i++) {
		struct rte_mbuf *m = pkts[i];
		uint8_t *ip = rte_pktmbuf_mtod_offset(m, uint8_t *, HR_L2_LEN);
		const uint16_t length = total_length(ip);
		uint32_t index = next_hop[i];
		const struct hr_adj *adj = &hr_adjs[index];
		uint8_t op = adj->op;

		if (unlikely(op == HR_OP_ECMP || op == HR_OP_NETWORK)) {
			index = hr_follow(index, ip);
			if (index == HR_ADJ_MAX) {
				hr_drop(worker, m, HR_DROP_NETWORK_LOOP);
				continue;
			}
			adj = &hr_adjs[index];
			op = adj->op;
		}
		if (unlikely(op > HR_OP_ENCAP || op == HR_OP_NO_ROUTE)) {
			hr_except(graph, node, worker, m, index);
			continue;
		}
		if (unlikely(length > adj->mtu)) {
			hr_except_mtu(graph, node, m, adj->mtu);
			continue;
		}
		hr_ttl_decrement4(ip);
		if (op == HR_OP_ETH)
			hr_rewrite_eth(m, adj, RTE_BE16(RTE_ETHER_TYPE_IPV4));
		else
			hr_rewrite_encap(m, adj, length, IPPROTO_IPIP, hr_flow_hash4(ip));
		pkts[out++] = m;
	}
	if (likely(out > 0)) {
		node->idx = out;
		rte_node_next_stream_move(graph, node, HR_EDGE_TX);
	}
	return nb;
}

static struct rte_node_register ip4_node = {
	.name = "headrace-ip4",
	.process = ip4_process,
	.init = hr_node_init,
	.nb_edges = HR_EDGE_COUNT,
	.next_nodes = HR_NODE_NEXT(HR_EDGE_IP4),
};
RTE_NODE_REGISTER(ip4_node);
