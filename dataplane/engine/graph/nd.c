/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * headrace-nd: neighbour discovery (RFC 4861). Answers for the gateway on Interfaces and for
 * the underlay addresses that live here on uplinks, learns neighbours, is the endpoints' router.
 */
#include "../packet/nd.h"
#include "../table/event.h"
#include "../table/locals.h"
#include "address.h"
#include "nodes.h"

/** What a message says, copied: the answer overwrites it. */
struct question {
	struct rte_ether_addr from; /**< Source of the frame. */
	struct hr_ip6 src, dst, target;
	struct rte_ether_addr mac; /**< From the option; zero when there is none. */
	rte_be32_t flags;          /**< ND_NA_FLAG_* */
	uint8_t type;
};

/**
 * Find a link-layer address option.
 *
 * @param mac zero when there is none
 * @return false when an option is malformed
 */
static bool
read_options(const uint8_t *option, const uint8_t *end, uint8_t wanted, struct rte_ether_addr *mac)
{
	memset(mac, 0, sizeof(*mac));
	while (option < end) {
		const size_t left = end - option;
		const size_t length = left >= 2 ? option[1] * 8u : 0;

		if (length == 0 || length > left)
			return false;
		if (option[0] == wanted) {
			memcpy(mac, option + 2, sizeof(*mac));
			if (length != sizeof(struct hr_nd_mac) || !hr_mac_is_host(mac))
				return false;
		}
		option += length;
	}
	return true;
}

/** Validate and read a message (RFC 4861 6.1.1, 7.1). @return false when it is to be dropped */
static bool
read_message(const struct rte_mbuf *m, struct question *q)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	const struct rte_ipv6_hdr *ip = (const void *)(eth + 1);
	const uint8_t *message = (const uint8_t *)(ip + 1);
	const struct hr_nd_neighbor *neighbor = (const void *)message;
	uint16_t fixed, length;
	bool multicast, unspecified;

	if (m->nb_segs != 1 || m->data_len < HR_L2_LEN + sizeof(*ip) + 8)
		return false;
	length = rte_be_to_cpu_16(ip->payload_len);
	q->type = neighbor->icmp.type;
	fixed = q->type == ND_ROUTER_SOLICIT ? 8 : offsetof(struct hr_nd_neighbor, option);
	if (m->data_len < HR_L2_LEN + sizeof(*ip) + length || length < fixed ||
			ip->proto != IPPROTO_ICMPV6 || ip->hop_limits != HR_ND_HOP_LIMIT ||
			neighbor->icmp.code != 0 || hr_icmp6_checksum(ip, message, length) != 0)
		return false;
	q->from = eth->src_addr;
	memcpy(&q->src, &ip->src_addr, sizeof(q->src));
	memcpy(&q->dst, &ip->dst_addr, sizeof(q->dst));
	multicast = hr_ip6_is_multicast(&q->dst);
	unspecified = hr_ip6_is_unspecified(&q->src);
	if (!hr_mac_is_host(&q->from) || hr_ip6_is_multicast(&q->src) ||
			!read_options(message + fixed, message + length,
					q->type == ND_NEIGHBOR_ADVERT ? HR_ND_OPTION_MAC_TARGET
								      : HR_ND_OPTION_MAC_SOURCE,
					&q->mac))
		return false;
	if (q->type != ND_NEIGHBOR_ADVERT && unspecified && !rte_is_zero_ether_addr(&q->mac))
		return false;
	if (q->type == ND_ROUTER_SOLICIT)
		return true;

	q->target = neighbor->target;
	q->flags = neighbor->flags;
	if (hr_ip6_is_multicast(&q->target) || hr_ip6_is_unspecified(&q->target))
		return false;
	if (q->type == ND_NEIGHBOR_ADVERT)
		return !unspecified && !(multicast && (q->flags & ND_NA_FLAG_SOLICITED));
	if (unspecified) {
		const struct hr_ip6 group = hr_ip6_solicited_node(&q->target);

		return hr_ip6_equal(&q->dst, &group);
	}
	return true;
}

/** Whether a neighbour on this port may call itself this. */
static bool
may_be(const struct hr_port_ctx *in, const struct hr_ip6 *addr)
{
	if (in->role == HR_ROLE_INTERFACE)
		return hr_source6_has(in, addr);
	return !hr_owns6(in, addr) && !hr_locals_has(in, addr);
}

/**
 * Whether an address tells who a neighbour is. An endpoint's link-local one does not: any host
 * on the link has one, such as the kernel that holds the other end of a veth pair.
 */
static bool
identifies(const struct hr_port_ctx *in, const struct hr_ip6 *addr)
{
	return may_be(in, addr) && (in->role == HR_ROLE_UPLINK || !hr_ip6_is_link_local(addr));
}

/**
 * Learn the sender of a solicitation. An endpoint says what is known already with every one of
 * them; the control thread is told only news.
 */
static void
learn_source(struct hr_worker *worker, const struct question *q)
{
	const struct hr_port_ctx *in = worker->in;
	const struct hr_adj *adj = &hr_adjs[in->adj];
	const struct hr_addr addr = {.family = 6, .ip6 = q->src};

	if (rte_is_zero_ether_addr(&q->mac) || !identifies(in, &q->src))
		return;
	if (in->role == HR_ROLE_UPLINK || hr_adj_op(adj) != HR_OP_ETH ||
			memcmp(adj->rewrite, &q->mac, RTE_ETHER_ADDR_LEN) != 0)
		hr_event_seen(worker, &addr, &q->mac, false, true);
}

/** Write the answer over the question. @return false when there is none */
static bool
answer(const struct hr_port_ctx *in, struct rte_mbuf *m, const struct question *q)
{
	const bool interface = in->role == HR_ROLE_INTERFACE;
	const bool unspecified = hr_ip6_is_unspecified(&q->src);
	const struct hr_ip6 *dst = unspecified ? &hr_ip6_all_nodes : &q->src;
	void *frame = rte_pktmbuf_mtod(m, void *);
	rte_be32_t flags = interface ? ND_NA_FLAG_ROUTER : 0;
	struct rte_ether_addr dst_mac = q->from;

	if (q->type == ND_ROUTER_SOLICIT) {
		if (!interface || !hr_owns6(in, &hr_ip6_gateway) || !hr_resize(m, HR_ND_FRAME_LEN))
			return false;
		hr_write_router(frame, dst_mac, in->mac, *dst, in->mtu);
		return true;
	}
	/* Who has the address speaks for it: a proxy overrides nobody (RFC 4861 7.2.8). */
	if (hr_owns6(in, &q->target) || hr_locals_has(in, &q->target))
		flags |= ND_NA_FLAG_OVERRIDE;
	else if (unspecified || !hr_proxies6(in, &q->target))
		return false;
	if (!hr_resize(m, HR_ND_FRAME_LEN))
		return false;
	if (unspecified)
		dst_mac = hr_ip6_multicast_mac(dst);
	else
		flags |= ND_NA_FLAG_SOLICITED;
	hr_write_advertisement(frame, dst_mac, in->mac, *dst, q->target, flags);
	return true;
}

static void
nd_one(struct rte_graph *graph, struct rte_node *node, struct hr_worker *worker, struct rte_mbuf *m)
{
	const struct hr_port_ctx *in = worker->in;
	struct hr_addr addr = {.family = 6};
	struct question q;

	if (in->role == HR_ROLE_NONE || !read_message(m, &q)) {
		hr_drop(worker, m, HR_DROP_ND);
		return;
	}
	if (!hr_ip6_is_unspecified(&q.src) && !may_be(in, &q.src) &&
			(in->source_check || hr_owns6(in, &q.src))) {
		hr_drop(worker, m, HR_DROP_ND);
		return;
	}
	switch (q.type) {
	case ND_NEIGHBOR_ADVERT:
		addr.ip6 = q.target;
		if (identifies(in, &q.target) &&
				hr_event_seen(worker, &addr, &q.mac, q.flags & ND_NA_FLAG_SOLICITED,
						q.flags & ND_NA_FLAG_OVERRIDE)) {
			rte_pktmbuf_free(m);
			return;
		}
		break;
	case ND_NEIGHBOR_SOLICIT:
	case ND_ROUTER_SOLICIT:
		learn_source(worker, &q);
		if (answer(in, m, &q)) {
			m->port = in->port;
			rte_node_enqueue_x1(graph, node, HR_EDGE_TX, m);
			return;
		}
		break;
	default: /* Nobody here takes a router or a redirect from its neighbours. */
		break;
	}
	hr_drop(worker, m, HR_DROP_ND);
}

static uint16_t
nd_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb)
{
	struct hr_worker *worker = hr_node_worker(node);

	for (uint16_t i = 0; i < nb; i++)
		nd_one(graph, node, worker, objs[i]);
	return nb;
}

static struct rte_node_register nd_node = {
		.name = "headrace-nd",
		.process = nd_process,
		.init = hr_node_init,
		.nb_edges = HR_EDGE_COUNT,
		.next_nodes = HR_NODE_NEXT(HR_EDGE_ND),
};
RTE_NODE_REGISTER(nd_node);
