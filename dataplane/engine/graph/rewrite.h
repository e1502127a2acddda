/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What routed packets have in common: flow hash, TTL, and the rewrite by an adjacency.
 */
#ifndef HR_REWRITE_H
#define HR_REWRITE_H

#include <rte_ip.h>
#include <rte_mbuf.h>

#include "../fib/fib.h"
#include "../table/vrf.h"
#include "nodes.h"

#define HR_UNDERLAY_HOP_LIMIT 64
/** Networks one packet may pass through by HR_OP_NETWORK. */
#define HR_NETWORK_HOPS 4

static inline uint64_t
hr_load64(const void *from)
{
	uint64_t word;

	memcpy(&word, from, sizeof(word));
	return word;
}

static inline uint32_t
hr_load32(const void *from)
{
	uint32_t word;

	memcpy(&word, from, sizeof(word));
	return word;
}

/** 16 bytes side by side: the compilers' vector extension, SSE2 or NEON. */
typedef uint8_t hr_bytes16 __attribute__((vector_size(16)));

/** What is odd about the packets of a burst so far; all zero when nothing is. */
struct hr_oddity {
	hr_bytes16 bytes;
	uint32_t rest;
};

static inline bool
hr_is_odd(const struct hr_oddity *oddity)
{
	uint64_t words[2];

	memcpy(words, &oddity->bytes, sizeof(words));
	return (words[0] | words[1] | oddity->rest) != 0;
}

/** Length of an IPv4 packet as its header says, bytes. */
static inline uint32_t
hr_length4(const uint8_t *ip)
{
	return (uint16_t)(ip[2] << 8 | ip[3]); /* one load and a rotation; DPDK's swap is slower */
}

/** Length of an IPv6 packet as its header says, that header included, bytes. */
static inline uint32_t
hr_length6(const uint8_t *ip)
{
	return sizeof(struct rte_ipv6_hdr) + (uint16_t)(ip[4] << 8 | ip[5]);
}

/** Finalizer of MurmurHash3 (public domain, A. Appleby), one round: enough to spread flows. */
static inline uint32_t
hr_mix(uint64_t word)
{
	word *= 0xff51afd7ed558ccdULL;
	word ^= word >> 32;
	word *= 0xc4ceb9fe1a85ec53ULL;
	return word >> 32;
}

/** Hash of a flow's addresses, protocol and, in unfragmented TCP, UDP and SCTP, ports. */
static inline uint32_t
hr_flow_hash4(const uint8_t *ip)
{
	uint64_t ports = ip[9];

	if ((ip[9] == IPPROTO_TCP || ip[9] == IPPROTO_UDP || ip[9] == IPPROTO_SCTP) &&
			(ip[6] & 0x3f) == 0 && ip[7] == 0)
		ports |= (uint64_t)hr_load32(ip + 20) << 8;
	return hr_mix(hr_load64(ip + 12) ^ ports * 0x9e3779b97f4a7c15ULL);
}

static inline uint32_t
hr_flow_hash6(const uint8_t *ip)
{
	uint64_t ports = ip[6];
	uint64_t hash = hr_load64(ip + 8) ^ (hr_load64(ip + 16) * 0x9e3779b97f4a7c15ULL);

	if (ip[6] == IPPROTO_TCP || ip[6] == IPPROTO_UDP || ip[6] == IPPROTO_SCTP)
		ports |= (uint64_t)hr_load32(ip + 40) << 8;
	hash ^= (hr_load64(ip + 24) ^ (hash >> 29)) * 0xbf58476d1ce4e5b9ULL;
	hash ^= hr_load64(ip + 32) * 0x94d049bb133111ebULL;
	return hr_mix(hash ^ ports * 0x9e3779b97f4a7c15ULL);
}

static inline uint32_t
hr_flow_hash(const uint8_t *ip)
{
	return (ip[0] >> 4) == 4 ? hr_flow_hash4(ip) : hr_flow_hash6(ip);
}

/**
 * Decrement the TTL and update the checksum (RFC 1624) in one read and one write. TTL, protocol
 * and checksum stand side by side; the sum of ones' complement is the same in either byte order.
 */
static inline void
hr_ttl_decrement4(uint8_t *ip)
{
	const uint64_t sum = (uint64_t)rte_le_to_cpu_32(hr_load32(ip + 8)) + 0x10000 - 1;
	const uint32_t word = rte_cpu_to_le_32((uint32_t)sum + ((uint32_t)(sum >> 32) << 16));

	memcpy(ip + 8, &word, sizeof(word));
}

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

/**
 * Follow what stands between a lookup and a way out: ECMP groups and other networks.
 * @return an adjacency whose op is neither; HR_ADJ_MAX when there are too many networks
 */
static inline uint32_t
hr_follow(uint32_t adj, const uint8_t *ip)
{
	for (unsigned hops = 0; hops < HR_NETWORK_HOPS; hops++) {
		const struct hr_adj *a = &hr_adjs[adj];

		if (a->op == HR_OP_ECMP) {
			adj = a->ecmp->bucket[hr_flow_hash(ip) % HR_ECMP_BUCKETS];
			a = &hr_adjs[adj];
		}
		if (a->op != HR_OP_NETWORK)
			return adj;
		adj = hr_vrf_lookup(a->vrf, ip);
		if (hr_adjs[adj].op == HR_OP_LOCAL)
			return HR_ADJ_MARTIAN;
	}
	return HR_ADJ_MAX;
}

/** HR_OP_ETH: new Ethernet header in place of the old. */
static inline void
hr_rewrite_eth(struct rte_mbuf *m, const struct hr_adj *adj, rte_be16_t ether_type)
{
	uint8_t *eth = rte_pktmbuf_mtod(m, uint8_t *);

	memcpy(eth, adj->rewrite, 12);
	memcpy(eth + 12, &ether_type, sizeof(ether_type));
	m->port = adj->port;
}

/**
 * HR_OP_ENCAP: Ethernet and outer IPv6 header in front of the inner packet (RFC 2473, 4213).
 *
 * @param length of the inner packet, bytes
 * @param next_header IPPROTO_IPIP or IPPROTO_IPV6
 * @param hash of the inner flow: its upper 20 bits become the flow label (RFC 6438)
 */
static inline void
hr_rewrite_encap(struct rte_mbuf *m, const struct hr_adj *adj, uint16_t length, uint8_t next_header,
		uint32_t hash)
{
	const uint32_t first = rte_cpu_to_be_32(6u << 28 | hash >> 12);
	const uint32_t second = rte_cpu_to_be_32((uint32_t)length << 16 |
			(uint32_t)next_header << 8 | HR_UNDERLAY_HOP_LIMIT);
	uint8_t *eth;

	m->data_off -= HR_UNDERLAY_OVERHEAD;
	m->data_len += HR_UNDERLAY_OVERHEAD;
	m->pkt_len += HR_UNDERLAY_OVERHEAD;
	eth = rte_pktmbuf_mtod(m, uint8_t *);
	memcpy(eth, adj->rewrite, sizeof(adj->rewrite));
	memcpy(eth + 14, &first, sizeof(first));
	memcpy(eth + 18, &second, sizeof(second));
	m->port = adj->port;
}

/** Cut what Ethernet padded, so that lengths agree with the IP header's. */
static inline void
hr_trim(struct rte_mbuf *m, uint32_t l3_length)
{
	if (unlikely(m->pkt_len > HR_L2_LEN + l3_length))
		rte_pktmbuf_trim(m, m->pkt_len - HR_L2_LEN - l3_length);
}

/**
 * Dispose of a packet whose adjacency is an exception: drop it, or hand it to a node.
 * The packet's TTL is as it arrived; for HR_OP_RESOLVE it is decremented here.
 */
void hr_except(struct rte_graph *graph, struct rte_node *node, struct hr_worker *worker,
		struct rte_mbuf *m, uint32_t adj);

/** Dispose of a packet larger than the way out takes. TTL as it arrived. */
void hr_except_mtu(struct rte_graph *graph, struct rte_node *node, struct rte_mbuf *m,
		uint16_t mtu);

/** Dispose of a packet whose TTL or hop limit does not allow another hop. */
void hr_except_ttl(struct rte_graph *graph, struct rte_node *node, struct rte_mbuf *m);

/**
 * Where a packet goes whose lookup gave neither HR_OP_ETH nor HR_OP_ENCAP.
 * @return an adjacency with one of those, or NULL when the packet was disposed of
 */
const struct hr_adj *hr_divert(struct rte_graph *graph, struct rte_node *node,
		struct hr_worker *worker, struct rte_mbuf *m, uint32_t index);

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

		hr_trim(m, length);
		if (unlikely(adj->op != HR_OP_ETH && adj->op != HR_OP_ENCAP)) {
			adj = hr_divert(graph, node, worker, m, next_hop[i]);
			if (adj == NULL)
				continue;
		}
		if (unlikely(length > adj->mtu)) {
			hr_except_mtu(graph, node, m, adj->mtu);
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
			hr_rewrite_encap(m, adj, length, IPPROTO_IPIP, hr_flow_hash4(ip));
		else
			hr_rewrite_encap(m, adj, length, IPPROTO_IPV6, hr_flow_hash6(ip));
		pkts[out++] = m;
	}
	if (likely(out > 0)) {
		node->idx = out;
		rte_node_next_stream_move(graph, node, HR_EDGE_TX);
	}
}

#endif
