/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * ARP and neighbour discovery on the wire, and questions that the exceptional nodes share.
 *
 * Writers take everything by value or from outside the frame they write, so that an answer may
 * overwrite its question once the caller has copied what it needs.
 */
#ifndef HR_PACKET_H
#define HR_PACKET_H

#include <netinet/icmp6.h>
#include <netinet/in.h>

#include <rte_arp.h>
#include <rte_ip.h>
#include <rte_mbuf.h>

#include "../fib/fib.h"
#include "../table/vrf.h"
#include "nodes.h"

/** Headers as they are on the wire, at any even address. */
#define HR_WIRE __attribute__((packed, aligned(2)))

#define HR_HOP_LIMIT 64     /**< Of what the engine itself originates (RFC 1700). */
#define HR_ND_HOP_LIMIT 255 /**< Proof that it came from the link (RFC 4861). */

#define HR_ND_OPTION_MAC_SOURCE 1
#define HR_ND_OPTION_MAC_TARGET 2
#define HR_ND_OPTION_MTU 5

/** RFC 4861: seconds that endpoints keep us as their router. */
#define HR_ROUTER_LIFETIME 1800

static const struct hr_ip6 hr_ip6_unspecified;
static const struct hr_ip6 hr_ip6_all_nodes = {.b = {0xff, 0x02, [15] = 1}};
/** The gateway's link-local address, the same on every Interface. */
static const struct hr_ip6 hr_ip6_gateway = {.b = {0xfe, 0x80, [15] = 1}};
static const struct rte_ether_addr hr_mac_broadcast = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

/** What every ICMP and ICMPv6 message begins with. */
struct hr_icmp {
	uint8_t type, code;
	uint16_t checksum;
} HR_WIRE;

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
#define HR_ARP_FRAME_LEN (HR_L2_LEN + sizeof(struct rte_arp_hdr))
static_assert(sizeof(struct hr_nd_neighbor) == HR_ND_LEN, "RFC 4861 4.3, 4.4");
static_assert(sizeof(struct hr_nd_router) == HR_ND_LEN, "RFC 4861 4.2");

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

/** Whether a MAC address can be a neighbour's: neither zero nor a group's. */
static inline bool
hr_mac_is_host(const struct rte_ether_addr *mac)
{
	return rte_is_valid_assigned_ether_addr(mac);
}

/** Whether the port answers for this IPv4 address. */
static inline bool
hr_owns4(const struct hr_port_ctx *in, rte_be32_t addr)
{
	for (uint16_t i = 0; i < in->n_own; i++)
		if (in->own[i].family == 4 && in->own[i].ip4 == addr)
			return true;
	return false;
}

/** Whether the port answers for this IPv6 address. */
static inline bool
hr_owns6(const struct hr_port_ctx *in, const struct hr_ip6 *addr)
{
	uint64_t compared = ~in->own_free; /* of the first one alone */

	for (uint16_t i = 0; i < in->n_own; i++, compared = UINT64_MAX)
		if (in->own[i].family == 6 && in->own[i].ip6.q[0] == addr->q[0] &&
				((in->own[i].ip6.q[1] ^ addr->q[1]) & compared) == 0)
			return true;
	return false;
}

/** Whether a lookup led elsewhere than to the gateway, nowhere, or back out of the port. */
static inline bool
hr_leads_away(const struct hr_port_ctx *in, uint32_t adj)
{
	switch (hr_adjs[adj].op) {
	case HR_OP_ETH:
	case HR_OP_ENCAP:
	case HR_OP_RESOLVE:
		return hr_adjs[adj].port != in->port;
	case HR_OP_ECMP:
	case HR_OP_NETWORK:
		return true;
	default:
		return false;
	}
}

/**
 * Whether an address that an endpoint asks for on its link is reached through us: it then gets
 * the gateway's MAC address (RFC 1027), so that endpoints may be given the subnet's prefix length.
 */
static inline bool
hr_proxies4(const struct hr_port_ctx *in, rte_be32_t addr)
{
	uint32_t adj;

	hr_fib4_lookup(in->vrf->fib4, &addr, &adj, 1);
	return hr_leads_away(in, adj);
}

/** The same by neighbour discovery (RFC 4389). */
static inline bool
hr_proxies6(const struct hr_port_ctx *in, const struct hr_ip6 *addr)
{
	uint32_t adj;

	if (in->role != HR_ROLE_INTERFACE)
		return false;
	hr_fib6_lookup(in->vrf->fib6, &addr, &adj, 1);
	return hr_leads_away(in, adj);
}

/** Whether an Interface's endpoint may call itself this. */
static inline bool
hr_source4_has(const struct hr_port_ctx *in, rte_be32_t addr)
{
	for (uint16_t i = 0; i < in->n_source4; i++)
		if ((addr & in->source4[i].mask) == in->source4[i].addr)
			return true;
	return false;
}

/** Whether an Interface's endpoint may call itself this; any link-local address but ours. */
static inline bool
hr_source6_has(const struct hr_port_ctx *in, const struct hr_ip6 *addr)
{
	if (hr_owns6(in, addr))
		return false;
	if (hr_ip6_is_link_local(addr))
		return true;
	for (uint16_t i = 0; i < in->n_source6; i++) {
		const struct hr_source6 *source = &in->source6[i];

		if ((addr->q[0] & source->mask.q[0]) == source->addr.q[0] &&
				(addr->q[1] & source->mask.q[1]) == source->addr.q[1])
			return true;
	}
	return false;
}

/** One token for an ICMP reply or error of this worker; a second's worth at once. */
static inline bool
hr_icmp_take(struct hr_worker *worker)
{
	const uint32_t rate = hr_worker_settings.icmp_per_second;

	return hr_bucket_take(&worker->icmp, worker->now, rate, rate);
}

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

static inline void
hr_write_ether(void *frame, struct rte_ether_addr dst, struct rte_ether_addr src, uint16_t type)
{
	struct rte_ether_hdr *eth = frame;

	eth->dst_addr = dst;
	eth->src_addr = src;
	eth->ether_type = rte_cpu_to_be_16(type);
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

/** Make a packet of one segment `length` bytes long. @return false when it has no room */
static inline bool
hr_resize(struct rte_mbuf *m, uint16_t length)
{
	if (m->nb_segs != 1 || m->data_off + length > m->buf_len)
		return false;
	m->data_len = length;
	m->pkt_len = length;
	return true;
}

#endif
