/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Values that every part of the engine shares: addresses, prefixes, drop reasons, limits.
 */
#ifndef HR_TYPES_H
#define HR_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <rte_byteorder.h>
#include <rte_ethdev.h>
#include <rte_ether.h>

#define HR_BURST 64                   /**< Most packets one walk of a graph takes in. */
#define HR_MAX_PORTS RTE_MAX_ETHPORTS /**< Fixed when DPDK is built; 32 in Debian's. */
#define HR_PORT_NO_ID UINT16_MAX      /**< The DPDK port id of none. */
#define HR_MAX_WORKERS 64
#define HR_MAX_NETWORKS 4096
#define HR_MAX_ROUTES 1000000   /**< In all networks together. */
#define HR_MAX_ADDRESSES 32     /**< Addresses of one Interface, both families. */
#define HR_MAX_PREFIXES 64      /**< Routed prefixes of one Interface. */
#define HR_MAX_GATEWAYS 16      /**< Gateway addresses an Interface answers for. */
#define HR_MAX_NEXT_HOPS 16     /**< Next hops of one route. */
#define HR_NAME_MAX 256         /**< Object keys, with the terminating zero. */
#define HR_UNDERLAY_OVERHEAD 40 /**< Bytes the overlay adds: one IPv6 header. */
#define HR_DSCP_MAX 63
#define HR_DSCP_COPIED (-1) /**< In place of a DSCP: each packet's own. */
#define HR_MTU_MIN 1280     /**< RFC 8200 section 5. */
#define HR_MTU_MAX 9216
#define HR_UNDERLAY_PREFIXES_MAX 8 /**< Of one Pipeline. */
#define HR_MAX_FORMER 4            /**< Former underlay addresses of one Interface. */
#define HR_MAX_ENDPOINTS 64        /**< Underlay endpoints that may send into one network. */

/**
 * An IPv6 address in network byte order. Our own type: DPDK's differs between releases. Of any
 * alignment, because it is also read where it stands in a packet.
 */
struct hr_ip6 {
	union {
		uint8_t b[16];
		uint32_t w[4];
		uint64_t q[2];
	};
} __attribute__((packed));

/** An address of either family, in network byte order. */
struct hr_addr {
	uint8_t family; /**< 4 or 6. */
	union {
		rte_be32_t ip4;
		struct hr_ip6 ip6;
	};
};

/** A prefix; host bits are zero. len is 0..32 or 0..128. */
struct hr_prefix {
	struct hr_addr addr;
	uint8_t len;
};

/**
 * Why a packet was dropped: X(identifier, name seen in telemetry, metrics and `headrace drops`,
 * meaning). Every freed packet that was not sent counts under exactly one of these.
 */
#define HR_DROPS(X)                                                                                \
	X(RUNT, "runt", "frame shorter than its headers")                                          \
	X(NOT_FOR_US, "not_for_us", "unicast frame for another MAC address")                       \
	X(ETHERTYPE, "ethertype", "neither IPv4, IPv6 nor ARP")                                    \
	X(IP4_HEADER, "ip4_header", "bad IPv4 version, header length or total length")             \
	X(IP4_CHECKSUM, "ip4_checksum", "bad IPv4 header checksum")                                \
	X(IP6_HEADER, "ip6_header", "bad IPv6 version or payload length")                          \
	X(SOURCE, "source", "source is not one of the Interface's, or may not leave its link")     \
	X(SOURCE_MAC, "source_mac", "source MAC address is not the Interface's")                   \
	X(TTL, "ttl", "TTL or hop limit exceeded")                                                 \
	X(NO_ROUTE, "no_route", "no route to the destination")                                     \
	X(BLACKHOLE, "blackhole", "blackhole route")                                               \
	X(MARTIAN, "martian", "destination must never be routed")                                  \
	X(MTU, "mtu", "larger than the MTU of the way out")                                        \
	X(OVERSIZE, "oversize", "larger than a packet buffer")                                     \
	X(UNKNOWN_UNDERLAY, "unknown_underlay", "outer destination is no local Interface")         \
	X(UNDERLAY_SOURCE, "underlay_source", "outer source may not send into that network")       \
	X(UNDERLAY_PROTOCOL, "underlay_protocol", "outer next header is not IPv4 or IPv6")         \
	X(VXLAN, "vxlan", "bad VXLAN header, or no IPv4 or IPv6 in it")                            \
	X(ECN, "ecn", "congestion was marked on a packet whose flow does not know such marks")     \
	X(INNER_HEADER, "inner_header", "bad inner header after decapsulation")                    \
	X(NETWORK_LOOP, "network_loop", "route leads through too many networks")                   \
	X(UNRESOLVED, "unresolved", "next hop's or endpoint's MAC address not resolved in time")   \
	X(RESOLVE_QUEUE, "resolve_queue", "too many packets wait for neighbours")                  \
	X(ARP, "arp", "malformed or unwanted ARP")                                                 \
	X(ND, "nd", "malformed or unwanted neighbour discovery")                                   \
	X(LOCAL, "local", "to the gateway itself, and nothing it answers")                         \
	X(MULTICAST, "multicast", "multicast that no one listens to")                              \
	X(ICMP_RATE, "icmp_rate", "ICMP reply or error over the rate limit")                       \
	X(NO_INTERFACE, "no_interface", "the port belongs to no Interface or uplink")              \
	X(PORT_DOWN, "port_down", "the port out is gone or down")                                  \
	X(TX_FULL, "tx_full", "the transmit queue did not take it")                                \
	X(CONTROL_FULL, "control_full", "the control thread's ring, or the share in it, is full")  \
	X(NO_MBUF, "no_mbuf", "no buffer to answer with")

/* clang-format off */
enum hr_drop {
#define HR_DROP_ENUM(id, name, text) HR_DROP_##id,
	HR_DROPS(HR_DROP_ENUM)
#undef HR_DROP_ENUM
	HR_DROP_COUNT
};
/* clang-format on */

/** Names of enum hr_drop, in order. */
extern const char *const hr_drop_names[HR_DROP_COUNT];
/** One line each on what enum hr_drop means, in order. */
extern const char *const hr_drop_texts[HR_DROP_COUNT];

#endif
