/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * headrace-ip6: IPv6 from an Interface: validate, check the source, look up, rewrite.
 */
#include "rewrite.h"

#define SHORTEST (HR_L2_LEN + sizeof(struct rte_ipv6_hdr))

static inline bool
matches(const struct hr_source6 *entry, uint64_t high, uint64_t low)
{
	return ((high & entry->mask.q[0]) == entry->addr.q[0]) &
			((low & entry->mask.q[1]) == entry->addr.q[1]);
}

static inline bool
source_is_allowed(const struct hr_port_ctx *in, uint64_t high, uint64_t low)
{
	for (uint16_t i = 0; i < in->n_source6; i++)
		if (matches(&in->source6[i], high, low))
			return true;
	return false;
}

static inline bool
is_link_local(const uint8_t *addr)
{
	return addr[0] == 0xfe && (addr[1] & 0xc0) == 0x80;
}

static inline bool
is_unspecified(const uint8_t *addr)
{
	return (hr_load64(addr) | hr_load64(addr + 8)) == 0;
}

/** A packet the fast checks did not pass: say why, or send it on if it is only unusual. */
static bool
unusual(struct rte_graph *graph, struct rte_node *node, struct hr_worker *worker,
		struct rte_mbuf *m)
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
					!source_is_allowed(worker->in, hr_load64(source),
							hr_load64(source + 8)))) {
		hr_drop(worker, m, HR_DROP_SOURCE);
		return true;
	}
	if (ip[7] <= 1) {
		adj = hr_vrf_lookup(worker->in->vrf, ip);
		if (hr_adjs[adj].op == HR_OP_LOCAL)
			hr_except(graph, node, worker, m, adj);
		else
			hr_except_ttl(graph, node, m);
		return true;
	}
	return false;
}

/** What every packet of a burst is checked for. */
struct filter {
	struct hr_source6 source; /**< The Interface's first source entry; the rest is unusual(). */
	bool check;
};

static inline struct filter
filter_of(const struct hr_worker *worker)
{
	static const struct hr_source6 none = {.addr = {.b = {1}}};
	const struct hr_port_ctx *in = worker->in;

	return (struct filter){
			.source = in->n_source6 > 0 ? in->source6[0] : none,
			.check = in->source_check && !worker->trusted,
	};
}

/**
 * Zero when a packet is well-formed, has hops left and comes from where it may. Without a check
 * every source is good that is not link-local: see unusual().
 */
static inline uint32_t
oddity(const struct rte_mbuf *m, const uint8_t *ip, const struct filter *filter)
{
	uint32_t odd = (ip[0] >> 4) ^ 6;

	odd |= ip[7] <= 1;
	odd |= m->data_len < SHORTEST;
	odd |= m->pkt_len < HR_L2_LEN + hr_length6(ip);
	if (filter->check)
		odd |= !matches(&filter->source, hr_load64(ip + 8), hr_load64(ip + 16));
	else
		odd |= is_link_local(ip + 8) || is_unspecified(ip + 8);
	return odd;
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

		if (oddity(pkts[i], ip, filter) != 0 && unusual(graph, node, worker, pkts[i]))
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
	const struct filter filter = filter_of(worker);
	struct rte_mbuf **pkts = (struct rte_mbuf **)objs;
	const struct hr_ip6 *dst[HR_BURST];
	uint32_t next_hop[HR_BURST];
	uint32_t odd = 0;
	uint16_t n = nb;

	for (uint16_t i = 0; i < nb; i++) {
		const uint8_t *ip = rte_pktmbuf_mtod_offset(pkts[i], const uint8_t *, HR_L2_LEN);

		odd |= oddity(pkts[i], ip, &filter);
		dst[i] = (const void *)(ip + 24);
	}
	if (unlikely(odd != 0))
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
