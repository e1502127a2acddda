/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * headrace-ip4: IPv4 from an Interface: validate, check the source, look up, rewrite.
 */
#include "../table/vrf.h"
#include "forward.h"
#include "oddity.h"

/** The Interface's first source entry that a source address matches; NULL: it is not allowed. */
static inline const struct hr_source4 *
allowed(const struct hr_port_ctx *in, rte_be32_t source)
{
	for (uint16_t i = 0; i < in->n_source4; i++)
		if ((source & in->source4[i].mask) == in->source4[i].addr)
			return &in->source4[i];
	return NULL;
}

/**
 * Whether a header of 20 bytes, as two words of 8 and one of 4, has a good checksum (RFC 1071): its
 * sum of ones' complement is 0xffff, that is, its sum with end-around carry a multiple of 65535.
 * Divisibility is one multiplication by the inverse modulo 2^64 (Granlund and Montgomery, 1994).
 */
static inline bool
checksum_is_good(uint64_t a, uint64_t b, uint32_t c)
{
	uint64_t sum = a + b;

	sum += sum < b;
	sum += c;
	sum += sum < c;
	return sum * 0xfffefffefffeffffULL <= UINT64_MAX / 65535;
}

/** A packet the fast checks did not pass: say why, or send it on if it is only unusual. */
static bool
unusual(struct rte_graph *graph, struct rte_node *node, struct hr_worker *worker,
		struct rte_mbuf *m)
{
	const uint8_t *ip = rte_pktmbuf_mtod_offset(m, const uint8_t *, HR_L2_LEN);
	const unsigned header = (ip[0] & 0xf) * 4;
	bool own_link;
	uint32_t adj;

	if (ip[0] >> 4 != 4 || header < sizeof(struct rte_ipv4_hdr) ||
			m->data_len < HR_L2_LEN + header || hr_length4(ip) < header ||
			m->pkt_len < HR_L2_LEN + (uint32_t)hr_length4(ip)) {
		hr_drop(worker, m, HR_DROP_IP4_HEADER);
		return true;
	}
	if (rte_raw_cksum(ip, header) != 0xffff) {
		hr_drop(worker, m, HR_DROP_IP4_CHECKSUM);
		return true;
	}
	if (!worker->trusted && worker->in->source_check &&
			allowed(worker->in, hr_load32(ip + 12)) == NULL) {
		hr_drop(worker, m, HR_DROP_SOURCE);
		return true;
	}
	/* RFC 3927 2.7: what has a link-local source stays on its link, where the gateway is. */
	own_link = hr_ip4_is_link_local(hr_load32(ip + 12));
	if (own_link || ip[8] <= 1) {
		adj = hr_vrf_lookup(worker->in->vrf, ip);
		if (hr_adj_op(&hr_adjs[adj]) == HR_OP_LOCAL)
			hr_except(graph, node, worker, m, adj);
		else if (own_link)
			hr_drop(worker, m, HR_DROP_SOURCE);
		else
			hr_except_ttl(graph, node, m);
		return true;
	}
	return false; /* IP options: forwarded, not interpreted. */
}

/** What every packet of a burst is checked for, in the header's first 16 bytes. */
struct filter {
	/**
	 * (header ^ value) & mask is zero for a header without options whose source address matches
	 * the source entry that the burst's first packet does; other sources are unusual().
	 */
	hr_bytes16 value, mask;
	bool wide; /**< Sources match that must not leave their link. */
};

/** The filter of a burst: without a check all sources match, without any source none does. */
static inline struct filter
filter_of(const struct hr_worker *worker, const struct rte_mbuf *first)
{
	const uint8_t *ip = rte_pktmbuf_mtod_offset(first, const uint8_t *, HR_L2_LEN);
	const struct hr_port_ctx *in = worker->in;
	struct filter filter = {.value = {0x45}, .mask = {0xff}, .wide = true};
	/** Matched by a source alone that must not leave its link: all packets are unusual. */
	static const struct hr_source4 none = {HR_LINK_LOCAL4, UINT32_MAX};
	const struct hr_source4 *source;

	if (!in->source_check || worker->trusted)
		return filter;
	source = allowed(in, hr_load32(ip + 12));
	if (source == NULL)
		source = &none;
	memcpy((uint8_t *)&filter.value + 12, &source->addr, sizeof(source->addr));
	memcpy((uint8_t *)&filter.mask + 12, &source->mask, sizeof(source->mask));
	filter.wide = hr_ip4_is_link_local((source->addr & source->mask) |
			(HR_LINK_LOCAL4 & ~source->mask));
	return filter;
}

/** Add what is odd about a packet: ill-formed, out of hops, or not from where it may. No branch. */
static inline void
inspect(const struct rte_mbuf *m, const uint8_t *ip, const struct filter *filter,
		struct hr_oddity *oddity)
{
	static const hr_bytes16 least = {0, 0, 0, 0, 0, 0, 0, 0, 2}; /* TTL */
	/* rx saw to it that there is a whole header. */
	const uint32_t room = m->pkt_len - HR_L2_LEN - sizeof(struct rte_ipv4_hdr);
	hr_bytes16 header;

	memcpy(&header, ip, sizeof(header));
	oddity->bytes |= ((header ^ filter->value) & filter->mask) | (hr_bytes16)(header < least);
	oddity->rest |= hr_length4(ip) - (uint32_t)sizeof(struct rte_ipv4_hdr) > room;
	if (filter->wide)
		oddity->rest |= hr_ip4_is_link_local(hr_load32(ip + 12));
	oddity->rest |= !checksum_is_good(hr_load64(ip), hr_load64(ip + 8), hr_load32(ip + 16));
}

/** Take the packets out of the burst that are not forwarded. @return how many remain */
static uint16_t
sift(struct rte_graph *graph, struct rte_node *node, struct hr_worker *worker,
		struct rte_mbuf **pkts, rte_be32_t *dst, uint16_t nb, const struct filter *filter)
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
ip4_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb)
{
	struct hr_worker *worker = hr_node_worker(node);
	const struct hr_vrf *vrf = worker->in->vrf;
	struct rte_mbuf **pkts = (struct rte_mbuf **)objs;
	const struct filter filter = filter_of(worker, pkts[0]);
	rte_be32_t dst[HR_BURST];
	uint32_t next_hop[HR_BURST];
	struct hr_oddity oddity = {0};
	uint16_t n = nb;

	for (uint16_t i = 0; i < nb; i++) {
		const uint8_t *ip = rte_pktmbuf_mtod_offset(pkts[i], const uint8_t *, HR_L2_LEN);

		inspect(pkts[i], ip, &filter, &oddity);
		dst[i] = hr_load32(ip + 16);
	}
	if (unlikely(hr_is_odd(&oddity)))
		n = sift(graph, node, worker, pkts, dst, nb, &filter);
	if (likely(n > 0))
		hr_fib4_lookup(vrf->fib4, dst, next_hop, n);

	hr_forward(graph, node, worker, next_hop, n, 4);
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
