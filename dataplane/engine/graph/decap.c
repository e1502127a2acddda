/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * headrace-decap: IPv6 from an uplink. The outer destination names the endpoint: one exact
 * lookup, strip, rewrite. Its network is in it, and in the outer source: one comparison.
 */
#include "../packet/dest_options.h"
#include "../packet/load.h"
#include "../packet/traffic_class.h"
#include "../packet/vxlan.h"
#include "../table/locals.h"
#include "address.h"
#include "except.h"
#include "nodes.h"
#include "rewrite.h"

#define OUTER (HR_L2_LEN + sizeof(struct rte_ipv6_hdr))

/** Why a packet drops that is for an Interface here, and was not delivered. */
static enum hr_drop
reason(const uint8_t *ip, uint32_t n)
{
	uint32_t vni;

	if (ip[6] == IPPROTO_IPIP || ip[6] == IPPROTO_IPV6)
		return HR_DROP_INNER_HEADER;
	if (!hr_is_vxlan(ip, n))
		return HR_DROP_UNDERLAY_PROTOCOL;
	return hr_vxlan_read(ip, n, &vni) == 0 ? HR_DROP_VXLAN : HR_DROP_UNDERLAY_SOURCE;
}

/** Not an encapsulated packet for an Interface here: for the uplink itself, or a drop. */
static void
unusual(struct rte_graph *graph, struct rte_node *node, struct hr_worker *worker,
		struct rte_mbuf *m)
{
	const struct hr_port_ctx *in = worker->in;
	const uint8_t *ip = rte_pktmbuf_mtod_offset(m, const uint8_t *, HR_L2_LEN);
	struct hr_ip6 dst;

	if (m->data_len < OUTER || ip[0] >> 4 != 6 ||
			m->pkt_len < OUTER + (uint32_t)(ip[4] << 8 | ip[5])) {
		hr_drop(worker, m, HR_DROP_IP6_HEADER);
		return;
	}
	hr_trim(m, sizeof(struct rte_ipv6_hdr) + (ip[4] << 8 | ip[5]));
	memcpy(&dst, ip + 24, sizeof(dst));
	if (hr_ip6_is_multicast(&dst) || hr_owns6(in, &dst) ||
			(ip[6] == IPPROTO_ICMPV6 && hr_locals_has(in, &dst)))
		rte_node_enqueue_x1(graph, node, HR_EDGE_LOCAL, m);
	else if (hr_locals_has(in, &dst))
		hr_drop(worker, m, reason(ip, m->data_len - HR_L2_LEN));
	else
		hr_drop(worker, m, HR_DROP_UNKNOWN_UNDERLAY);
}

/** Take away `length` bytes between the outer header and what is `inner`. */
static void
strip(struct rte_mbuf *m, unsigned length, uint8_t inner)
{
	uint8_t *frame = rte_pktmbuf_mtod(m, uint8_t *), *ip = frame + HR_L2_LEN;
	const unsigned payload = (ip[4] << 8 | ip[5]) - length;

	ip[4] = payload >> 8;
	ip[5] = payload & 0xff;
	ip[6] = inner;
	memmove(frame + length, frame, OUTER);
	rte_pktmbuf_adj(m, length);
}

/**
 * Take away what other gear has between the headers: options, or those of VXLAN from who may send it.
 * @return whether there was any: the packet is now as without
 */
static bool __attribute__((cold)) simplify(const struct hr_locals *locals, struct rte_mbuf *m)
{
	const uint8_t *ip = rte_pktmbuf_mtod_offset(m, const uint8_t *, HR_L2_LEN);
	const uint32_t n = m->data_len - HR_L2_LEN;
	unsigned length;
	uint8_t inner;
	uint32_t vni;

	if (m->data_len < OUTER || ip[0] >> 4 != 6)
		return false;
	length = hr_dest_options(ip, n);
	if (length != 0) {
		strip(m, length, ip[sizeof(struct rte_ipv6_hdr)]);
		return true;
	}
	if (!hr_is_vxlan(ip, n))
		return false;
	inner = hr_vxlan_read(ip, n, &vni);
	if (inner == 0 ||
			!hr_locals_admit_vxlan(locals, (const void *)(ip + 8),
					(const void *)(ip + 24), vni))
		return false;
	strip(m, HR_VXLAN_LEN, inner);
	return true;
}

/** Whether outer source and destination agree in these bits. */
static inline bool
outer_agree(const uint8_t *ip, struct hr_ip6 mask)
{
	return (((hr_load64(ip + 8) ^ hr_load64(ip + 24)) & mask.q[0]) |
			       ((hr_load64(ip + 16) ^ hr_load64(ip + 32)) & mask.q[1])) == 0;
}

/**
 * Look again at a packet that is not for an Interface, or not from its network, or marked.
 * @return whether it is to be delivered by `index`; if not, it was disposed of
 */
static bool __attribute__((noinline))
admit(struct rte_graph *graph, struct rte_node *node, struct hr_worker *worker,
		const struct hr_locals *locals, struct rte_mbuf *m, uint32_t index)
{
	uint8_t *ip = rte_pktmbuf_mtod_offset(m, uint8_t *, HR_L2_LEN);

	if (index == 0) {
		unusual(graph, node, worker, m);
		return false;
	}
	if (!outer_agree(ip, locals->source_mask) &&
			!hr_locals_admit(locals, (const void *)(ip + 8), (const void *)(ip + 24))) {
		hr_drop(worker, m, HR_DROP_UNDERLAY_SOURCE);
		return false;
	}
	if (!hr_ecn_decapsulate(ip, ip + sizeof(struct rte_ipv6_hdr))) {
		hr_drop(worker, m, HR_DROP_ECN);
		return false;
	}
	return true;
}

static uint16_t
decap_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb)
{
	struct hr_worker *worker = hr_node_worker(node);
	const struct hr_locals *locals = hr_read(hr_locals);
	const struct hr_ip6 mask = locals->source_mask;
	struct rte_mbuf **pkts = (struct rte_mbuf **)objs;
	uint16_t out = 0;

	for (uint16_t i = 0; i < nb; i++) {
		struct rte_mbuf *m = pkts[i];
		const uint8_t *ip = rte_pktmbuf_mtod_offset(m, const uint8_t *, HR_L2_LEN);
		const uint8_t *inner = ip + sizeof(struct rte_ipv6_hdr);
		const uint16_t payload = ip[4] << 8 | ip[5];
		const bool is6 = ip[6] == IPPROTO_IPV6;
		const uint16_t length =
				is6 ? 40 + (inner[4] << 8 | inner[5]) : inner[2] << 8 | inner[3];
		/* Version and, of IPv4, a header of at least 20 bytes: 0x45..0x4f. */
		const bool version = is6 ? (inner[0] >> 4) == 6 : (uint8_t)(inner[0] - 0x45) <= 10;
		const uint16_t header = is6 ? 40 : (inner[0] & 0xf) * 4;
		const bool usual = ((ip[0] >> 4) == 6) & (is6 | (ip[6] == IPPROTO_IPIP)) & version &
				(length <= payload) & (length >= header) &
				(m->pkt_len >= OUTER + payload) &
				(m->data_len >= OUTER + (is6 ? 40 : 20));
		const struct hr_adj *adj;
		uint32_t index;

		index = usual ? hr_locals_lookup(locals, (const void *)(ip + 24)) : 0;
		if (unlikely((int)(index == 0) | (int)!outer_agree(ip, mask) |
				    (int)hr_ecn_is_marked(ip))) {
			if (index == 0 && simplify(locals, m)) {
				i--; /* Once more: it is a packet in IPv6 now. */
				continue;
			}
			if (!admit(graph, node, worker, locals, m, index))
				continue;
		}
		adj = &hr_adjs[index];
		m->data_off += HR_UNDERLAY_OVERHEAD;
		m->data_len -= HR_UNDERLAY_OVERHEAD;
		m->pkt_len -= HR_UNDERLAY_OVERHEAD;
		hr_trim(m, length);
		/* Before anything else of it is read: its device may be gone, its port another's. */
		if (unlikely(hr_adj_op(adj) != HR_OP_ETH)) {
			hr_adj_mark(m, index);
			rte_node_enqueue_x1(graph, node, HR_EDGE_RESOLVE, m);
			continue;
		}
		if (unlikely(length > hr_adj_mtu(adj))) {
			m->port = adj->port; /* whose network the error is routed in */
			hr_except_mtu(graph, node, worker, m, adj, 0);
			continue;
		}
		hr_rewrite_eth(m, adj,
				is6 ? RTE_BE16(RTE_ETHER_TYPE_IPV6)
				    : RTE_BE16(RTE_ETHER_TYPE_IPV4));
		pkts[out++] = m;
	}
	if (likely(out > 0)) {
		node->idx = out;
		rte_node_next_stream_move(graph, node, HR_EDGE_TX);
	}
	return nb;
}

static struct rte_node_register decap_node = {
		.name = "headrace-decap",
		.process = decap_process,
		.init = hr_node_init,
		.nb_edges = HR_EDGE_COUNT,
		.next_nodes = HR_NODE_NEXT(HR_EDGE_DECAP),
};
RTE_NODE_REGISTER(decap_node);
