/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * ARP on the wire (RFC 826).
 */
#ifndef HR_ARP_H
#define HR_ARP_H

#include <rte_arp.h>

#include "frame.h"

#define HR_ARP_FRAME_LEN (HR_L2_LEN + sizeof(struct rte_arp_hdr))

/** ARP frame of HR_ARP_FRAME_LEN bytes (RFC 826). */
static inline void
hr_write_arp(void *frame, uint16_t op, struct rte_ether_addr dst_mac, struct rte_ether_addr src_mac,
		rte_be32_t src, struct rte_ether_addr target_mac, rte_be32_t target)
{
	const struct rte_arp_hdr message = {
			.arp_hardware = RTE_BE16(RTE_ARP_HRD_ETHER),
			.arp_protocol = RTE_BE16(RTE_ETHER_TYPE_IPV4),
			.arp_hlen = RTE_ETHER_ADDR_LEN,
			.arp_plen = sizeof(rte_be32_t),
			.arp_opcode = rte_cpu_to_be_16(op),
			.arp_data = {src_mac, src, target_mac, target},
	};

	hr_write_ether(frame, dst_mac, src_mac, RTE_ETHER_TYPE_ARP);
	memcpy(RTE_PTR_ADD(frame, HR_L2_LEN), &message, sizeof(message));
}

#endif
