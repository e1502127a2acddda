/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * VXLAN over IPv6 (RFC 7348): a UDP, a VXLAN and an Ethernet header between the outer IPv6 header and
 * the packet.
 */
#ifndef HR_VXLAN_H
#define HR_VXLAN_H

#include "frame.h"

#define HR_VXLAN_PORT 4789
/** Bytes of UDP (8), VXLAN (8) and inner Ethernet header (14). */
#define HR_VXLAN_LEN 30
#define HR_VNI_MAX 0xffffff

/** What the other end of a tunnel wants to see. */
struct hr_vxlan {
	uint32_t vni;              /**< 0: it is reached by IP in IPv6. */
	struct rte_ether_addr mac; /**< Destination of the inner Ethernet header. */
	uint16_t _reserved;
};
static_assert(sizeof(struct hr_vxlan) == 12, "no padding: compared as bytes");

/**
 * Write the headers between outer IPv6 header and packet, HR_VXLAN_LEN bytes.
 *
 * The UDP checksum is zero (RFC 7348 5, RFC 6935 5): to compute it is to read all of the packet, and
 * what it would protect is checked by the other end, by outer addresses and VNI.
 *
 * @param length of the packet, bytes
 * @param ether_type of the packet
 * @param hash of its flow: 14 bits become the source port, 49152..65535
 */
void hr_vxlan_write(uint8_t *header, const struct hr_vxlan *vxlan, uint16_t length,
		uint16_t ether_type, uint32_t hash);

/** Whether an IPv6 packet is UDP to VXLAN's port. `n` bytes of it are there, 40 or more. */
bool hr_is_vxlan(const uint8_t *ip, uint32_t n);

/**
 * Read what hr_vxlan_write() writes. A checksum is not looked at (RFC 7348 4.1).
 *
 * @param ip an IPv6 packet for which hr_is_vxlan() is true
 * @param n bytes there are of it
 * @param[out] vni its network
 * @return IPPROTO_IPIP or IPPROTO_IPV6, what is in it; 0: malformed, or neither
 */
uint8_t hr_vxlan_read(const uint8_t *ip, uint32_t n, uint32_t *vni);

#endif
