/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What routing reads and changes in IP headers.
 */
#ifndef HR_IP_H
#define HR_IP_H

#include <rte_ip.h>

#include "load.h"

#define HR_LINK_LOCAL4 RTE_BE32(0xa9fe0000) /**< 169.254/16 (RFC 3927). */

static inline bool
hr_ip4_is_link_local(rte_be32_t addr)
{
	return (addr & RTE_BE32(0xffff0000)) == HR_LINK_LOCAL4;
}

/** Length of an IPv4 packet as its header says, bytes. */
static inline uint32_t
hr_length4(const uint8_t *ip)
{
	return (uint16_t)(ip[2] << 8 | ip[3]); /* one load and a rotation; DPDK's swap is slower */
}

/** Length of an IPv6 packet as its header says, that header included, bytes. */
static inline uint32_t
hr_length6(const uint8_t *ip)
{
	return sizeof(struct rte_ipv6_hdr) + (uint16_t)(ip[4] << 8 | ip[5]);
}

/**
 * Decrement the TTL and update the checksum (RFC 1624) in one read and one write. TTL, protocol
 * and checksum stand side by side; the sum of ones' complement is the same in either byte order.
 */
static inline void
hr_ttl_decrement4(uint8_t *ip)
{
	const uint64_t sum = (uint64_t)rte_le_to_cpu_32(hr_load32(ip + 8)) + 0x10000 - 1;
	const uint32_t word = rte_cpu_to_le_32((uint32_t)sum + ((uint32_t)(sum >> 32) << 16));

	memcpy(ip + 8, &word, sizeof(word));
}

#endif
