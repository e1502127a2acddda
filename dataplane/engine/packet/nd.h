/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Neighbour discovery on the wire (RFC 4861).
 */
#ifndef HR_ND_H
#define HR_ND_H

#include <netinet/icmp6.h>

#include "icmp.h"
#include "ip6.h"

#define HR_ND_HOP_LIMIT 255 /**< Proof that it came from the link (RFC 4861). */

#define HR_ND_OPTION_MAC_SOURCE 1
#define HR_ND_OPTION_MAC_TARGET 2
#define HR_ND_OPTION_MTU 5

/** RFC 4861: seconds that endpoints keep us as their router. */
#define HR_ROUTER_LIFETIME 1800

/** Source or target link-layer address option. */
struct hr_nd_mac {
	uint8_t type, length; /**< length in units of 8 bytes: 1 */
	struct rte_ether_addr mac;
} HR_WIRE;

/** Neighbour solicitation or advertisement with its one option. */
struct hr_nd_neighbor {
	struct hr_icmp icmp;
	rte_be32_t flags;
	struct hr_ip6 target;
	struct hr_nd_mac option;
} HR_WIRE;

/** Router advertisement with its two options. */
struct hr_nd_router {
	struct hr_icmp icmp;
	uint8_t hop_limit, flags;
	rte_be16_t lifetime;
	rte_be32_t reachable, retransmit;
	struct hr_nd_mac option;
	uint8_t mtu_type, mtu_length;
	uint16_t mtu_reserved;
	rte_be32_t mtu;
} HR_WIRE;

/** Every message of ours is 32 bytes, so every frame of ours is as long. */
#define HR_ND_LEN 32
#define HR_ND_FRAME_LEN (HR_L2_LEN + sizeof(struct rte_ipv6_hdr) + HR_ND_LEN)

static_assert(sizeof(struct hr_nd_neighbor) == HR_ND_LEN, "RFC 4861 4.3, 4.4");
static_assert(sizeof(struct hr_nd_router) == HR_ND_LEN, "RFC 4861 4.2");

/** A frame of HR_ND_FRAME_LEN bytes around a message of HR_ND_LEN bytes. */
static inline void
hr_write_nd(void *frame, struct rte_ether_addr dst_mac, struct rte_ether_addr src_mac,
		struct hr_ip6 src, struct hr_ip6 dst, const void *message)
{
	struct rte_ipv6_hdr *ip = RTE_PTR_ADD(frame, HR_L2_LEN);
	struct hr_icmp *icmp = (struct hr_icmp *)(ip + 1);

	hr_write_ether(frame, dst_mac, src_mac, RTE_ETHER_TYPE_IPV6);
	hr_write_ip6(ip, src, dst, HR_ND_LEN, HR_ND_HOP_LIMIT);
	memcpy(icmp, message, HR_ND_LEN);
	icmp->checksum = 0;
	icmp->checksum = hr_icmp6_checksum(ip, icmp, HR_ND_LEN);
}

/**
 * Neighbour solicitation.
 *
 * @param dst_mac the neighbour's, to probe what is known; NULL: to its solicited-node group
 */
static inline void
hr_write_solicitation(void *frame, const struct rte_ether_addr *dst_mac,
		struct rte_ether_addr src_mac, struct hr_ip6 src, struct hr_ip6 target)
{
	const struct hr_ip6 group = hr_ip6_solicited_node(&target);
	const struct hr_nd_neighbor message = {
			.icmp.type = ND_NEIGHBOR_SOLICIT,
			.target = target,
			.option = {HR_ND_OPTION_MAC_SOURCE, 1, src_mac},
	};

	if (dst_mac != NULL)
		hr_write_nd(frame, *dst_mac, src_mac, src, target, &message);
	else
		hr_write_nd(frame, hr_ip6_multicast_mac(&group), src_mac, src, group, &message);
}

/** Neighbour advertisement; flags are ND_NA_FLAG_*. */
static inline void
hr_write_advertisement(void *frame, struct rte_ether_addr dst_mac, struct rte_ether_addr src_mac,
		struct hr_ip6 dst, struct hr_ip6 target, rte_be32_t flags)
{
	const struct hr_nd_neighbor message = {
			.icmp.type = ND_NEIGHBOR_ADVERT,
			.flags = flags,
			.target = target,
			.option = {HR_ND_OPTION_MAC_TARGET, 1, src_mac},
	};

	hr_write_nd(frame, dst_mac, src_mac, target, dst, &message);
}

/** Router advertisement of the gateway: a default router, and no address configuration. */
static inline void
hr_write_router(void *frame, struct rte_ether_addr dst_mac, struct rte_ether_addr src_mac,
		struct hr_ip6 dst, uint16_t mtu)
{
	const struct hr_nd_router message = {
			.icmp.type = ND_ROUTER_ADVERT,
			.hop_limit = HR_HOP_LIMIT,
			.lifetime = rte_cpu_to_be_16(HR_ROUTER_LIFETIME),
			.option = {HR_ND_OPTION_MAC_SOURCE, 1, src_mac},
			.mtu_type = HR_ND_OPTION_MTU,
			.mtu_length = 1,
			.mtu = rte_cpu_to_be_32(mtu),
	};

	hr_write_nd(frame, dst_mac, src_mac, hr_ip6_gateway, dst, &message);
}

#endif
