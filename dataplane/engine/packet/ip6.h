/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * IPv6: addresses, groups, the header of what the engine itself sends.
 */
#ifndef HR_IP6_H
#define HR_IP6_H

#include <netinet/in.h>

#include <rte_ip.h>

#include "../types.h"

static const struct hr_ip6 hr_ip6_unspecified;
static const struct hr_ip6 hr_ip6_all_nodes = {.b = {0xff, 0x02, [15] = 1}};
static const struct hr_ip6 hr_ip6_all_routers = {.b = {0xff, 0x02, [15] = 2}};
/** The gateway's link-local address, the same on every Interface. */
static const struct hr_ip6 hr_ip6_gateway = {.b = {0xfe, 0x80, [15] = 1}};

static inline bool
hr_ip6_equal(const struct hr_ip6 *a, const struct hr_ip6 *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static inline bool
hr_ip6_is_unspecified(const struct hr_ip6 *addr)
{
	return hr_ip6_equal(addr, &hr_ip6_unspecified);
}

static inline bool
hr_ip6_is_multicast(const struct hr_ip6 *addr)
{
	return addr->b[0] == 0xff;
}

static inline bool
hr_ip6_is_link_local(const struct hr_ip6 *addr)
{
	return addr->b[0] == 0xfe && (addr->b[1] & 0xc0) == 0x80;
}

/** ff02::1:ffXX:XXXX (RFC 4291 2.7.1). */
static inline struct hr_ip6
hr_ip6_solicited_node(const struct hr_ip6 *addr)
{
	struct hr_ip6 group = {.b = {0xff, 0x02, [11] = 1, [12] = 0xff}};

	memcpy(group.b + 13, addr->b + 13, 3);
	return group;
}

/** RFC 2464 7. */
static inline struct rte_ether_addr
hr_ip6_multicast_mac(const struct hr_ip6 *group)
{
	struct rte_ether_addr mac = {{0x33, 0x33}};

	memcpy(mac.addr_bytes + 2, group->b + 12, 4);
	return mac;
}

/** IPv6 header of an ICMPv6 message of ours. */
static inline void
hr_write_ip6(struct rte_ipv6_hdr *ip, struct hr_ip6 src, struct hr_ip6 dst, uint16_t payload,
		uint8_t hop_limit)
{
	ip->vtc_flow = rte_cpu_to_be_32(6u << 28);
	ip->payload_len = rte_cpu_to_be_16(payload);
	ip->proto = IPPROTO_ICMPV6;
	ip->hop_limits = hop_limit;
	memcpy(&ip->src_addr, &src, sizeof(src));
	memcpy(&ip->dst_addr, &dst, sizeof(dst));
}

#endif
