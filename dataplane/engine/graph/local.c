/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * headrace-local: packets addressed to the engine itself, or to a group. Answers echo requests
 * (RFC 792, RFC 4443), passes neighbour discovery on.
 */
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

#include "../packet/icmp.h"
#include "../table/event.h"
#include "../table/locals.h"
#include "address.h"
#include "nodes.h"

/** An echo message without data. */
#define ECHO_LEN 8

/** Turn the frame around. */
static void
reply(struct rte_graph *graph, struct rte_node *node, const struct hr_port_ctx *in,
		struct rte_mbuf *m)
{
	struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, struct rte_ether_hdr *);

	eth->dst_addr = eth->src_addr;
	eth->src_addr = in->mac;
	m->port = in->port;
	rte_node_enqueue_x1(graph, node, HR_EDGE_TX, m);
}

/** An ICMP message's first 32 bits become `type` and code 0; its checksum follows. */
static void
become(void *message, uint8_t type)
{
	struct hr_icmp *icmp = message;
	uint16_t old, new;

	memcpy(&old, icmp, sizeof(old));
	icmp->type = type;
	icmp->code = 0;
	memcpy(&new, icmp, sizeof(new));
	icmp->checksum = hr_checksum_update(icmp->checksum, old, new);
}

static void
local4(struct rte_graph *graph, struct rte_node *node, struct hr_worker *worker, struct rte_mbuf *m)
{
	const struct hr_port_ctx *in = worker->in;
	struct rte_ipv4_hdr *ip = rte_pktmbuf_mtod_offset(m, struct rte_ipv4_hdr *, HR_L2_LEN);
	const unsigned header = (ip->version_ihl & 0xf) * 4;
	const rte_be32_t src = ip->src_addr, dst = ip->dst_addr;
	uint8_t *icmp = (uint8_t *)ip + header;

	if (dst == RTE_BE32(0xffffffff) || (dst & RTE_BE32(0xf0000000)) == RTE_BE32(0xe0000000)) {
		hr_drop(worker, m, HR_DROP_MULTICAST);
		return;
	}
	/* A fragment cannot be answered without the rest of it. */
	if (m->data_len < HR_L2_LEN + header + ECHO_LEN ||
			rte_be_to_cpu_16(ip->total_length) < header + ECHO_LEN ||
			ip->next_proto_id != IPPROTO_ICMP || icmp[0] != ICMP_ECHO ||
			(ip->fragment_offset & RTE_BE16(0x3fff)) != 0 || !hr_owns4(in, dst) ||
			hr_owns4(in, src)) {
		hr_drop(worker, m, HR_DROP_LOCAL);
		return;
	}
	if (!hr_icmp_take(worker, in->port, HR_ICMP_ECHO)) {
		hr_drop(worker, m, HR_DROP_ICMP_RATE);
		return;
	}
	become(icmp, ICMP_ECHOREPLY);
	ip->src_addr = dst;
	ip->dst_addr = src;
	ip->time_to_live = HR_HOP_LIMIT;
	ip->hdr_checksum = 0;
	ip->hdr_checksum = (uint16_t)~rte_raw_cksum(ip, header);
	reply(graph, node, in, m);
}

/**
 * Have the control thread know of a Packet Too Big about what an uplink sent encapsulated (RFC 2473
 * 8.3): the packet quoted is from the address that the error is for.
 * @return false when it is not such a one, is damaged, or there are too many
 */
static bool
too_big(struct hr_worker *worker, const struct rte_mbuf *m)
{
	const struct rte_ipv6_hdr *ip =
			rte_pktmbuf_mtod_offset(m, const struct rte_ipv6_hdr *, HR_L2_LEN);
	const uint16_t payload = rte_be_to_cpu_16(ip->payload_len);
	const struct hr_icmp *icmp = (const void *)(ip + 1);
	const uint8_t *word = (const uint8_t *)(icmp + 1);
	const struct rte_ipv6_hdr *quoted = (const void *)(word + 4);
	struct hr_event event = {
			.type = HR_EVENT_TOO_BIG,
			.port = worker->in->port,
			.generation = hr_port_generation_now(worker->in->port),
			.addr = {.family = 6},
	};
	uint32_t mtu;

	if (worker->in->role != HR_ROLE_UPLINK || payload < ECHO_LEN + sizeof(*quoted) ||
			m->data_len < HR_L2_LEN + sizeof(*ip) + payload ||
			hr_icmp6_checksum(ip, icmp, payload) != 0)
		return false;
	if ((quoted->proto != IPPROTO_IPIP && quoted->proto != IPPROTO_IPV6 &&
			    quoted->proto != IPPROTO_UDP) ||
			memcmp(&quoted->src_addr, &ip->dst_addr, sizeof(quoted->src_addr)) != 0)
		return false;
	mtu = rte_be_to_cpu_32(hr_load32(word));
	if (mtu >= sizeof(*quoted) + rte_be_to_cpu_16(quoted->payload_len))
		return false;
	event.mtu = mtu;
	memcpy(&event.source, &quoted->src_addr, sizeof(event.source));
	memcpy(&event.addr.ip6, &quoted->dst_addr, sizeof(event.addr.ip6));
	return hr_icmp_take(worker, worker->in->port, HR_ICMP_HEARD) &&
			hr_event_post(worker, &event);
}

static void
local6(struct rte_graph *graph, struct rte_node *node, struct hr_worker *worker, struct rte_mbuf *m)
{
	const struct hr_port_ctx *in = worker->in;
	struct rte_ipv6_hdr *ip = rte_pktmbuf_mtod_offset(m, struct rte_ipv6_hdr *, HR_L2_LEN);
	uint8_t *icmp = (uint8_t *)(ip + 1);
	const bool is_icmp = m->data_len >= HR_L2_LEN + sizeof(*ip) + ECHO_LEN &&
			ip->proto == IPPROTO_ICMPV6 &&
			rte_be_to_cpu_16(ip->payload_len) >= ECHO_LEN;
	struct hr_ip6 src, dst;

	if (is_icmp && icmp[0] >= ND_ROUTER_SOLICIT && icmp[0] <= ND_REDIRECT) {
		rte_node_enqueue_x1(graph, node, HR_EDGE_ND, m);
		return;
	}
	memcpy(&src, &ip->src_addr, sizeof(src));
	memcpy(&dst, &ip->dst_addr, sizeof(dst));
	if (hr_ip6_is_multicast(&dst)) {
		hr_drop(worker, m, HR_DROP_MULTICAST);
		return;
	}
	if (is_icmp && icmp[0] == ICMP6_PACKET_TOO_BIG && too_big(worker, m)) {
		rte_pktmbuf_free(m);
		return;
	}
	if (!is_icmp || icmp[0] != ICMP6_ECHO_REQUEST || hr_ip6_is_multicast(&src) ||
			hr_ip6_is_unspecified(&src) || hr_owns6(in, &src) ||
			!(hr_owns6(in, &dst) || hr_locals_has(in, &dst))) {
		hr_drop(worker, m, HR_DROP_LOCAL);
		return;
	}
	if (!hr_icmp_take(worker, in->port, HR_ICMP_ECHO)) {
		hr_drop(worker, m, HR_DROP_ICMP_RATE);
		return;
	}
	/* The pseudo-header's sum stays: source and destination change places. */
	become(icmp, ICMP6_ECHO_REPLY);
	memcpy(&ip->src_addr, &dst, sizeof(dst));
	memcpy(&ip->dst_addr, &src, sizeof(src));
	ip->hop_limits = HR_HOP_LIMIT;
	reply(graph, node, in, m);
}

static uint16_t
local_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb)
{
	struct hr_worker *worker = hr_node_worker(node);

	for (uint16_t i = 0; i < nb; i++) {
		struct rte_mbuf *m = objs[i];
		const uint8_t *ip = rte_pktmbuf_mtod_offset(m, const uint8_t *, HR_L2_LEN);

		/* What the engine itself routes has no frame to turn around. */
		if (worker->trusted || worker->in->role == HR_ROLE_NONE)
			hr_drop(worker, m, HR_DROP_LOCAL);
		else if (ip[0] >> 4 == 4)
			local4(graph, node, worker, m);
		else
			local6(graph, node, worker, m);
	}
	return nb;
}

static struct rte_node_register local_node = {
		.name = "headrace-local",
		.process = local_process,
		.init = hr_node_init,
		.nb_edges = HR_EDGE_COUNT,
		.next_nodes = HR_NODE_NEXT(HR_EDGE_LOCAL),
};
RTE_NODE_REGISTER(local_node);
