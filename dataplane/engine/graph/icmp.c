/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * headrace-icmp-error: tells the sender why its packet went nowhere (RFC 792, RFC 1812 4.3.2,
 * RFC 4443 2.4). The packet itself is always dropped, and counts under its own reason.
 *
 * The error quotes the packet in a buffer of its own: the packet may be a chain of segments.
 */
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

#include "../packet/icmp.h"
#include "../packet/ip.h"
#include "../packet/ip6.h"
#include "nodes.h"

/** Most of an error that every host takes: RFC 1812 4.3.2.3, RFC 8200 5. */
#define ERROR4_MAX 576
#define ERROR6_MAX 1280

#define ICMP_LEN 8

/** Extension headers looked through for an ICMPv6 error (RFC 4443 2.4 e.1). */
#define EXTENSIONS_MAX 8

/** What speaks IPv4 here when no gateway does that is routed: RFC 7600 4.8's dummy address. */
#define DUMMY4 RTE_BE32(0xc0000008)

/** As marked by hr_icmp_error_mark(). */
struct error {
	uint8_t type, code;
	uint16_t mtu;
	const struct hr_port_ctx *ctx; /**< The Interface in whose network the sender is. */
};

static bool
may_answer4(const struct rte_mbuf *m)
{
	const struct rte_ipv4_hdr *ip =
			rte_pktmbuf_mtod_offset(m, const struct rte_ipv4_hdr *, HR_L2_LEN);
	const unsigned header = (ip->version_ihl & 0xf) * 4;
	const uint32_t src = rte_be_to_cpu_32(ip->src_addr);
	const uint32_t dst = rte_be_to_cpu_32(ip->dst_addr);

	if ((ip->fragment_offset & RTE_BE16(RTE_IPV4_HDR_OFFSET_MASK)) != 0)
		return false;
	/* One host, and from outside neither "this network" nor loopback. */
	if (src >> 24 == 0 || src >> 24 == 127 || src >> 28 >= 0xe || dst >> 28 >= 0xe)
		return false;
	if (ip->next_proto_id != IPPROTO_ICMP)
		return true;
	if (m->data_len <= HR_L2_LEN + header)
		return false;
	switch (((const uint8_t *)ip)[header]) {
	case ICMP_DEST_UNREACH:
	case ICMP_SOURCE_QUENCH:
	case ICMP_REDIRECT:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETERPROB:
		return false;
	default:
		return true;
	}
}

static bool
may_answer6(const struct rte_mbuf *m, uint8_t error_type)
{
	const struct rte_ipv6_hdr *ip =
			rte_pktmbuf_mtod_offset(m, const struct rte_ipv6_hdr *, HR_L2_LEN);
	const uint8_t *at = (const uint8_t *)(ip + 1);
	const uint8_t *end = rte_pktmbuf_mtod_offset(m, const uint8_t *, m->data_len);
	uint8_t next = ip->proto;
	struct hr_ip6 src, dst;

	memcpy(&src, &ip->src_addr, sizeof(src));
	memcpy(&dst, &ip->dst_addr, sizeof(dst));
	if (hr_ip6_is_multicast(&src) || hr_ip6_is_unspecified(&src))
		return false;
	if (hr_ip6_is_multicast(&dst) && error_type != ICMP6_PACKET_TOO_BIG)
		return false;
	for (unsigned i = 0; i < EXTENSIONS_MAX; i++) {
		switch (next) {
		case IPPROTO_ICMPV6:
			return end - at >= 1 && (at[0] & ICMP6_INFOMSG_MASK) != 0 &&
					at[0] != ND_REDIRECT;
		case IPPROTO_FRAGMENT:
			/* Only the first fragment shows what it is. */
			if (end - at < 8 || ((at[2] << 8 | at[3]) & 0xfff8) != 0)
				return false;
			next = at[0];
			at += 8;
			break;
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
			if (end - at < 8)
				return false;
			next = at[0];
			at += (at[1] + 1u) * 8;
			break;
		default:
			return true;
		}
		if (at > end)
			return false;
	}
	return false;
}

/** Copy what the error quotes from the packet's L3 header on. */
static bool
quote(struct rte_mbuf *reply, unsigned header, const struct rte_mbuf *m, uint32_t limit)
{
	const uint32_t length = RTE_MIN(m->pkt_len - HR_L2_LEN, limit);
	void *to = rte_pktmbuf_mtod_offset(reply, void *, HR_L2_LEN + header);
	const void *from;

	if (!hr_resize(reply, HR_L2_LEN + header + length))
		return false;
	from = rte_pktmbuf_read(m, HR_L2_LEN, length, to);
	if (from != NULL && from != to)
		memcpy(to, from, length);
	return from != NULL;
}

static bool
write4(struct rte_mbuf *reply, const struct rte_mbuf *m, const struct error *error)
{
	const struct rte_ipv4_hdr *about =
			rte_pktmbuf_mtod_offset(m, const struct rte_ipv4_hdr *, HR_L2_LEN);
	struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(reply, struct rte_ipv4_hdr *, HR_L2_LEN);
	struct hr_icmp *icmp = (struct hr_icmp *)(ip + 1);
	/* RFC 1191 4: in the low half of a word that is zero without it. */
	const rte_be32_t mtu = rte_cpu_to_be_32(error->mtu);
	const unsigned header = sizeof(*ip) + ICMP_LEN;
	uint16_t length;

	if (!quote(reply, header, m, ERROR4_MAX - header))
		return false;
	length = reply->pkt_len - HR_L2_LEN;
	*ip = (struct rte_ipv4_hdr){
			.version_ihl = RTE_IPV4_VHL_DEF,
			.type_of_service = 0xc0, /* Internetwork control: RFC 1812 4.3.2.5. */
			.total_length = rte_cpu_to_be_16(length),
			.time_to_live = HR_HOP_LIMIT,
			.next_proto_id = IPPROTO_ICMP,
			.src_addr = DUMMY4,
			.dst_addr = about->src_addr,
	};
	for (uint16_t i = 0; i < error->ctx->n_own; i++) {
		const struct hr_addr *own = &error->ctx->own[i];

		if (own->family == 4 && !hr_ip4_is_link_local(own->ip4)) {
			ip->src_addr = own->ip4;
			break;
		}
	}
	ip->hdr_checksum = rte_ipv4_cksum(ip);
	*icmp = (struct hr_icmp){.type = error->type, .code = error->code};
	memcpy(icmp + 1, &mtu, sizeof(mtu));
	icmp->checksum = (uint16_t)~rte_raw_cksum(icmp, length - sizeof(*ip));
	hr_write_ether(rte_pktmbuf_mtod(reply, void *), hr_mac_broadcast, error->ctx->mac,
			RTE_ETHER_TYPE_IPV4);
	return true;
}

static bool
write6(struct rte_mbuf *reply, const struct rte_mbuf *m, const struct error *error)
{
	const struct rte_ipv6_hdr *about =
			rte_pktmbuf_mtod_offset(m, const struct rte_ipv6_hdr *, HR_L2_LEN);
	struct rte_ipv6_hdr *ip = rte_pktmbuf_mtod_offset(reply, struct rte_ipv6_hdr *, HR_L2_LEN);
	struct hr_icmp *icmp = (struct hr_icmp *)(ip + 1);
	const rte_be32_t mtu = rte_cpu_to_be_32(error->mtu);
	const unsigned header = sizeof(*ip) + ICMP_LEN;
	struct hr_ip6 src = hr_ip6_gateway, dst;
	uint16_t payload;

	if (!quote(reply, header, m, ERROR6_MAX - header))
		return false;
	payload = reply->pkt_len - HR_L2_LEN - sizeof(*ip);
	for (uint16_t i = 0; i < error->ctx->n_own; i++) {
		const struct hr_addr *own = &error->ctx->own[i];

		if (own->family == 6 && !hr_ip6_is_link_local(&own->ip6)) {
			src = own->ip6;
			break;
		}
	}
	memcpy(&dst, &about->src_addr, sizeof(dst));
	hr_write_ip6(ip, src, dst, payload, HR_HOP_LIMIT);
	*icmp = (struct hr_icmp){.type = error->type, .code = error->code};
	memcpy(icmp + 1, &mtu, sizeof(mtu));
	icmp->checksum = hr_icmp6_checksum(ip, icmp, payload);
	hr_write_ether(rte_pktmbuf_mtod(reply, void *), hr_mac_broadcast, error->ctx->mac,
			RTE_ETHER_TYPE_IPV6);
	return true;
}

/** Tell the sender, if that is allowed and possible. The packet remains the caller's. */
static void
tell(struct rte_graph *graph, struct rte_node *node, struct hr_worker *worker,
		const struct rte_mbuf *m)
{
	const struct hr_port_ctx *in = worker->in;
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	const bool decapsulated = in->role == HR_ROLE_UPLINK;
	const bool is4 = *(const uint8_t *)(eth + 1) >> 4 == 4;
	const struct error error = {
			.type = m->hash.fdir.lo >> 24,
			.code = m->hash.fdir.lo >> 16,
			.mtu = m->hash.fdir.lo,
			.ctx = decapsulated ? hr_read(hr_port_ctx[m->port]) : in,
	};
	struct rte_mbuf *reply;

	/* Never about a packet of the engine's own, or one sent to more than us. */
	if (worker->trusted || error.ctx->role != HR_ROLE_INTERFACE)
		return;
	if (!decapsulated &&
			(rte_is_multicast_ether_addr(&eth->dst_addr) ||
					!hr_mac_is_host(&eth->src_addr)))
		return;
	if (is4 ? !may_answer4(m) : !may_answer6(m, error.type))
		return;
	if (!hr_icmp_take(worker, error.ctx->port, decapsulated ? HR_ICMP_COMING : HR_ICMP_SENT))
		return;
	reply = rte_pktmbuf_alloc(hr_pool);
	if (reply == NULL)
		return;
	if (!(is4 ? write4(reply, m, &error) : write6(reply, m, &error))) {
		rte_pktmbuf_free(reply);
		return;
	}
	reply->port = error.ctx->port;
	if (!decapsulated) {
		rte_pktmbuf_mtod(reply, struct rte_ether_hdr *)->dst_addr = eth->src_addr;
		rte_node_enqueue_x1(graph, node, HR_EDGE_TX, reply);
	} else if (!hr_inject(worker, reply, HR_INJECT_ROUTE)) {
		rte_pktmbuf_free(reply);
	}
}

static uint16_t
icmp_error_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb)
{
	struct hr_worker *worker = hr_node_worker(node);

	for (uint16_t i = 0; i < nb; i++) {
		struct rte_mbuf *m = objs[i];

		tell(graph, node, worker, m);
		hr_drop(worker, m, m->hash.fdir.hi);
	}
	return nb;
}

static struct rte_node_register icmp_error_node = {
		.name = "headrace-icmp-error",
		.process = icmp_error_process,
		.init = hr_node_init,
		.nb_edges = HR_EDGE_COUNT,
		.next_nodes = HR_NODE_NEXT(HR_EDGE_ICMP_ERROR),
};
RTE_NODE_REGISTER(icmp_error_node);
