/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * headrace-ip6: IPv6 from an Interface: validate, check the source, look up, rewrite.
 */
#include "../table/vrf.h"
#include "forward.h"
#include "oddity.h"

#define SHORTEST (HR_L2_LEN + sizeof(struct rte_ipv6_hdr))

static inline bool
matches(const struct hr_source6 *entry, uint64_t high, uint64_t low)
{
	return ((high & entry->mask.q[0]) == entry->addr.q[0]) &
			((low & entry->mask.q[1]) == entry->addr.q[1]);
}

/** The Interface's first source entry that a source address matches; NULL: it is not allowed. */
static inline const struct hr_source6 *
allowed(const struct hr_port_ctx *in, uint64_t high, uint64_t low)
{
	for (uint16_t i = 0; i < in->n_source6; i++)
		if (matches(&in->source6[i], high, low))
			return &in->source6[i];
	return NULL;
}

static inline bool
is_link_local(const uint8_t *addr)
{
	return addr[0] == 0xfe && (addr[1] & 0xc0) == 0x80;
}

/** Whether some link-local source matches. */
static inline bool
matches_link_local(const struct hr_source6 *entry)
{
	return (((entry->addr.b[0] ^ 0xfe) & entry->mask.b[0]) |
			       ((entry->addr.b[1] ^ 0x80) & entry->mask.b[1] & 0xc0)) == 0;
}

static inline bool
is_unspecified(const uint8_t *addr)
{
	return (hr_load64(addr) | hr_load64(addr + 8)) == 0;
}

/** A packet the fast checks did not pass: say why, or send it on if it is only unusual. */
static bool __attribute__((noinline)) unusual(struct rte_graph *graph, struct rte_node *node,
		struct hr_worker *worker, struct rte_mbuf *m)
{
	const uint8_t *ip = rte_pktmbuf_mtod_offset(m, const uint8_t *, HR_L2_LEN);
	const uint8_t *source = ip + 8, *destination = ip + 24;
	bool own_link;
	uint32_t adj;

	if (m->data_len < SHORTEST || ip[0] >> 4 != 6 || m->pkt_len < HR_L2_LEN + hr_length6(ip)) {
		hr_drop(worker, m, HR_DROP_IP6_HEADER);
		return true;
	}
	/* RFC 4291 2.5.6: what has a link-local or no source stays on its link. */
	own_link = is_link_local(source) || is_unspecified(source);
	if (own_link && (is_link_local(destination) || destination[0] == 0xff)) {
		hr_except(graph, node, worker, m, HR_ADJ_LOCAL);
		return true;
	}
	if (own_link ||
			(!worker->trusted && worker->in->source_check &&
					allowed(worker->in, hr_load64(source),
							hr_load64(source + 8)) == NULL)) {
		hr_drop(worker, m, HR_DROP_SOURCE);
		return true;
	}
	if (ip[7] <= 1) {
		adj = hr_vrf_lookup(worker->in->vrf, ip);
		if (hr_adj_op(&hr_adjs[adj]) == HR_OP_LOCAL)
			hr_except(graph, node, worker, m, adj);
		else
			hr_except_ttl(graph, node, m);
		return true;
	}
	return false;
}

/** What every packet of a burst is checked for, in the header's first 32 bytes. */
struct filter {
	/**
	 * (header ^ value) & mask is zero for version 6 and a source address that matches the
	 * source entry that the burst's first packet does; other sources are unusual().
	 */
	hr_bytes16 value[2], mask[2];
	bool wide; /**< Sources match that must not leave their link. */
};

static inline struct filter
filter_of(const struct hr_worker *worker, const struct rte_mbuf *first)
{
	const uint8_t *ip = rte_pktmbuf_mtod_offset(first, const uint8_t *, HR_L2_LEN);
	const struct hr_port_ctx *in = worker->in;
	struct filter filter = {.value = {{0x60}}, .mask = {{0xf0}}, .wide = true};
	/** Matched by no source alone, which is odd: all packets are unusual. */
	static const struct hr_source6 none = {.mask = {.q = {UINT64_MAX, UINT64_MAX}}};
	const struct hr_source6 *source;

	if (!in->source_check || worker->trusted)
		return filter;
	source = allowed(in, hr_load64(ip + 8), hr_load64(ip + 16));
	if (source == NULL)
		source = &none;
	memcpy((uint8_t *)filter.value + 8, &source->addr, sizeof(source->addr));
	memcpy((uint8_t *)filter.mask + 8, &source->mask, sizeof(source->mask));
	filter.wide = matches_link_local(source) || is_unspecified(source->addr.b);
	return filter;
}

/** Add what is odd about a packet: ill-formed, out of hops, or not from where it may. No branch. */
static inline void
inspect(const struct rte_mbuf *m, const uint8_t *ip, const struct filter *filter,
		struct hr_oddity *oddity)
{
	static const hr_bytes16 least = {0, 0, 0, 0, 0, 0, 0, 2}; /* hop limit */
	hr_bytes16 first, second;

	memcpy(&first, ip, sizeof(first));
	memcpy(&second, ip + 16, sizeof(second));
	oddity->bytes |= ((first ^ filter->value[0]) & filter->mask[0]) |
			((second ^ filter->value[1]) & filter->mask[1]) |
			(hr_bytes16)(first < least);
	oddity->rest |= m->data_len < SHORTEST;
	oddity->rest |= m->pkt_len < HR_L2_LEN + hr_length6(ip);
	if (filter->wide)
		oddity->rest |= is_link_local(ip + 8) || is_unspecified(ip + 8);
}

/** Take the packets out of the burst that are not forwarded. @return how many remain */
static uint16_t
sift(struct rte_graph *graph, struct rte_node *node, struct hr_worker *worker,
		struct rte_mbuf **pkts, const struct hr_ip6 **dst, uint16_t nb,
		const struct filter *filter)
{
	uint16_t n = 0;

	for (uint16_t i = 0; i < nb; i++) {
		const uint8_t *ip = rte_pktmbuf_mtod_offset(pkts[i], const uint8_t *, HR_L2_LEN);
		struct hr_oddity oddity = {0};

		inspect(pkts[i], ip, filter, &oddity);
		if (hr_is_odd(&oddity) && unusual(graph, node, worker, pkts[i]))
			continue;
		dst[n] = dst[i];
		pkts[n++] = pkts[i];
	}
	return n;
}

static uint16_t
ip6_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb)
{
	struct hr_worker *worker = hr_node_worker(node);
	const struct hr_vrf *vrf = worker->in->vrf;
	struct rte_mbuf **pkts = (struct rte_mbuf **)objs;
	const struct filter filter = filter_of(worker, pkts[0]);
	const struct hr_ip6 *dst[HR_BURST];
	uint32_t next_hop[HR_BURST];
	struct hr_oddity oddity = {0};
	uint16_t n = nb;

	for (uint16_t i = 0; i < nb; i++) {
		const uint8_t *ip = rte_pktmbuf_mtod_offset(pkts[i], const uint8_t *, HR_L2_LEN);

		inspect(pkts[i], ip, &filter, &oddity);
		dst[i] = (const void *)(ip + 24);
	}
	if (unlikely(hr_is_odd(&oddity)))
		n = sift(graph, node, worker, pkts, dst, nb, &filter);
	if (likely(n > 0))
		hr_fib6_lookup(vrf->fib6, dst, next_hop, n);

	hr_forward(graph, node, worker, next_hop, n, 6);
	return nb;
}

static struct rte_node_register ip6_node = {
		.name = "headrace-ip6",
		.process = ip6_process,
		.init = hr_node_init,
		.nb_edges = HR_EDGE_COUNT,
		.next_nodes = HR_NODE_NEXT(HR_EDGE_IP6),
};
RTE_NODE_REGISTER(ip6_node);
