/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * headrace-arp: answers for the gateway, learns the endpoint (RFC 826, RFC 5227).
 */
#include "../packet/arp.h"
#include "../table/event.h"
#include "address.h"
#include "nodes.h"

/** Well-formed, for IPv4 over Ethernet, and from whom the frame is from. */
static bool
is_valid(const struct rte_ether_hdr *eth, const struct rte_arp_hdr *arp)
{
	return arp->arp_hardware == RTE_BE16(RTE_ARP_HRD_ETHER) &&
			arp->arp_protocol == RTE_BE16(RTE_ETHER_TYPE_IPV4) &&
			arp->arp_hlen == RTE_ETHER_ADDR_LEN &&
			arp->arp_plen == sizeof(rte_be32_t) &&
			(arp->arp_opcode == RTE_BE16(RTE_ARP_OP_REQUEST) ||
					arp->arp_opcode == RTE_BE16(RTE_ARP_OP_REPLY)) &&
			hr_mac_is_host(&arp->arp_data.arp_sha) &&
			rte_is_same_ether_addr(&arp->arp_data.arp_sha, &eth->src_addr);
}

static void
arp_one(struct rte_graph *graph, struct rte_node *node, struct hr_worker *worker,
		struct rte_mbuf *m)
{
	const struct hr_port_ctx *in = worker->in;
	void *frame = rte_pktmbuf_mtod(m, void *);
	const struct rte_arp_hdr *arp = RTE_PTR_ADD(frame, HR_L2_LEN);
	struct rte_arp_ipv4 data;
	struct hr_addr sender = {.family = 4};
	bool request, endpoint, learned = false;

	if (in->role != HR_ROLE_INTERFACE || m->data_len < HR_ARP_FRAME_LEN ||
			!is_valid(frame, arp)) {
		hr_drop(worker, m, HR_DROP_ARP);
		return;
	}
	memcpy(&data, &arp->arp_data, sizeof(data));
	request = arp->arp_opcode == RTE_BE16(RTE_ARP_OP_REQUEST);
	endpoint = data.arp_sip != 0 && hr_source4_has(in, data.arp_sip);
	/* Who claims the gateway's address, or one that is not its own, is a spoofer. */
	if (hr_owns4(in, data.arp_sip) || (data.arp_sip != 0 && !endpoint && in->source_check)) {
		hr_drop(worker, m, HR_DROP_ARP);
		return;
	}
	if (endpoint) {
		const struct hr_adj *adj = &hr_adjs[in->adj];

		sender.ip4 = data.arp_sip;
		learned = true;
		if (!request || hr_adj_op(adj) != HR_OP_ETH ||
				memcmp(adj->rewrite, &data.arp_sha, RTE_ETHER_ADDR_LEN) != 0)
			learned = hr_event_seen(worker, &sender, &data.arp_sha, !request, true);
	}
	if (request &&
			(hr_owns4(in, data.arp_tip) ||
					(endpoint && hr_proxies4(in, data.arp_tip))) &&
			hr_resize(m, HR_ARP_FRAME_LEN)) {
		hr_write_arp(frame, RTE_ARP_OP_REPLY, data.arp_sha, in->mac, data.arp_tip,
				data.arp_sha, data.arp_sip);
		m->port = in->port;
		rte_node_enqueue_x1(graph, node, HR_EDGE_TX, m);
		return;
	}
	/* A reply or an announcement has served when it is learned. */
	if (learned && (!request || data.arp_sip == data.arp_tip))
		rte_pktmbuf_free(m);
	else
		hr_drop(worker, m, HR_DROP_ARP);
}

static uint16_t
arp_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb)
{
	struct hr_worker *worker = hr_node_worker(node);

	for (uint16_t i = 0; i < nb; i++)
		arp_one(graph, node, worker, objs[i]);
	return nb;
}

static struct rte_node_register arp_node = {
		.name = "headrace-arp",
		.process = arp_process,
		.init = hr_node_init,
		.nb_edges = HR_EDGE_COUNT,
		.next_nodes = HR_NODE_NEXT(HR_EDGE_ARP),
};
RTE_NODE_REGISTER(arp_node);
