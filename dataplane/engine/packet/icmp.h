/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * ICMP and ICMPv6: how messages begin, and their checksums.
 */
#ifndef HR_ICMP_H
#define HR_ICMP_H

#include <netinet/in.h>

#include <rte_ip.h>

#include "frame.h"

#define HR_HOP_LIMIT 64 /**< Of what the engine itself originates (RFC 1700). */

/** What every ICMP and ICMPv6 message begins with. */
struct hr_icmp {
	uint8_t type, code;
	uint16_t checksum;
} HR_WIRE;

/** The checksum of an ICMPv6 message with its IPv6 header; 0 when one that is in place holds. */
static inline uint16_t
hr_icmp6_checksum(const struct rte_ipv6_hdr *ip, const void *message, uint16_t length)
{
	uint32_t sum = rte_raw_cksum((const uint8_t *)ip + 8, 32);

	sum += rte_raw_cksum(message, length);
	sum += rte_cpu_to_be_16(length) + rte_cpu_to_be_16(IPPROTO_ICMPV6);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/** Update a checksum for one 16-bit word that changes (RFC 1624, eqn. 3). */
static inline uint16_t
hr_checksum_update(uint16_t checksum, uint16_t old, uint16_t new)
{
	uint32_t sum = (uint16_t)~checksum + (uint32_t)(uint16_t)~old + new;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

#endif
