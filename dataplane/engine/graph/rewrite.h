/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Rewrite by an adjacency.
 */
#ifndef HR_REWRITE_H
#define HR_REWRITE_H

#include <rte_ip.h>
#include <rte_mbuf.h>

#include "../packet/flow_hash.h"
#include "../packet/frame.h"
#include "../packet/traffic_class.h"
#include "../table/adj.h"
#include "chain.h"

#define HR_UNDERLAY_HOP_LIMIT 64

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
 * @param class traffic class of the inner packet
 * @param hash of the inner flow: its upper 20 bits become the flow label (RFC 6438)
 */
static inline void
hr_rewrite_encap(struct rte_mbuf *m, const struct hr_adj *adj, uint16_t length, uint8_t next_header,
		uint8_t class, uint32_t hash)
{
	const uint32_t first = rte_cpu_to_be_32(6u << 28 |
			(uint32_t)hr_adj_class(adj, class) << 20 | hash >> 12);
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

/**
 * HR_OP_VXLAN: the packet's Ethernet header becomes the inner one. Its TTL is less already.
 * @param index of the adjacency
 */
static inline void
hr_rewrite_vxlan(struct rte_mbuf *m, uint32_t index)
{
	const uint8_t *ip = rte_pktmbuf_mtod_offset(m, const uint8_t *, HR_L2_LEN);
	const uint16_t length = m->pkt_len - HR_L2_LEN;
	const uint16_t type = ip[0] >> 4 == 4 ? RTE_ETHER_TYPE_IPV4 : RTE_ETHER_TYPE_IPV6;
	const uint8_t class = hr_traffic_class(ip);
	const uint32_t hash = hr_flow_hash(ip);
	uint8_t *header = rte_pktmbuf_mtod_offset(m, uint8_t *, HR_L2_LEN - HR_VXLAN_LEN);

	m->data_off -= HR_VXLAN_LEN;
	m->data_len += HR_VXLAN_LEN;
	m->pkt_len += HR_VXLAN_LEN;
	hr_vxlan_write(header, &hr_vxlans[index], length, type, hash);
	hr_rewrite_encap(m, &hr_adjs[index], HR_VXLAN_LEN + length, IPPROTO_UDP, class, hash);
}
static_assert(HR_UNDERLAY_OVERHEAD + HR_VXLAN_LEN <= RTE_PKTMBUF_HEADROOM, "room for it");

/** Cut what Ethernet padded, so that lengths agree with the IP header's. */
static inline void
hr_trim(struct rte_mbuf *m, uint32_t l3_length)
{
	if (likely(m->pkt_len <= HR_L2_LEN + l3_length))
		return;
	if (likely(m->nb_segs == 1))
		m->data_len = m->pkt_len = HR_L2_LEN + l3_length;
	else
		hr_chain_cut(m, HR_L2_LEN + l3_length);
}

#endif
