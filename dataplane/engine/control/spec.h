/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Objects' specs, parsed and validated: all values are in range, all prefixes masked. What they
 * name exists from the commit that brought them on.
 */
#ifndef HR_CONTROL_SPEC_H
#define HR_CONTROL_SPEC_H

#include "../types.h"

#define HR_DEVARGS_MAX 512         /**< With the terminating zero. */
#define HR_NETDEV_MAX 16           /**< IFNAMSIZ. */
#define HR_NETWORK_GATEWAYS_MAX 64 /**< Of one network: two for each of its 32 subnets. */
#define HR_UPLINK_ADDRESSES_MAX 16
#define HR_UPLINK_ON_LINK_MAX 16
#define HR_UPLINK_NEIGHBORS_MAX 64
#define HR_UNDERLAY_PREFIXES_MAX 8
#define HR_SLICE_ROUTES_MAX 65536 /**< Routes of one routes object. */
#define HR_WAITING_PACKETS_MAX 65536
#define HR_VNI_MAX 0xffffff
#define HR_MTU_MIN 1280 /**< RFC 8200 section 5. */
#define HR_MTU_MAX 9216

/** settings/"engine". */
struct hr_settings_spec {
	bool adaptive;            /**< "idle": a worker without packets sleeps; else it polls. */
	uint16_t burst;           /**< 1..HR_BURST packets. */
	uint32_t icmp_per_second; /**< ICMP messages made by the engine, each second; 0: none. */
	uint16_t n_underlay_prefixes;
	/** The Pipeline's: IPv6, 1..64 bits. */
	struct hr_prefix underlay_prefixes[HR_UNDERLAY_PREFIXES_MAX];
	bool underlay_source_check; /**< Only with a prefix. */
	uint32_t waiting_max;       /**< Packets of a namespace; 0: HR_NEIGH_WAITING_MAX. */
};

/** port/NAME: a DPDK port. */
struct hr_port_spec {
	char devargs[HR_DEVARGS_MAX];
	uint16_t rx_queues; /**< 1..HR_MAX_WORKERS. */
	uint16_t mtu;       /**< L3, HR_MTU_MIN..HR_MTU_MAX. */
	bool has_mac;
	struct rte_ether_addr mac;  /**< To set; the device's own is kept when !has_mac. */
	char netdev[HR_NETDEV_MAX]; /**< Kernel device to watch; "" for none. */
	bool promiscuous;
};

/** network/"NAMESPACE/NAME". */
struct hr_network_spec {
	uint32_t vni; /**< 1..HR_VNI_MAX. */
	uint16_t n_gateways;
	struct hr_addr gateways[HR_NETWORK_GATEWAYS_MAX];
	uint16_t n_endpoints;
	struct hr_ip6 endpoints[HR_MAX_ENDPOINTS]; /**< Of others: may send into the network. */
};

/** A next hop that is not asked for its MAC address. */
struct hr_static_neighbor {
	struct hr_ip6 address;
	struct rte_ether_addr mac;
};

/** uplink/NAME: the underlay on one port. */
struct hr_uplink_spec {
	char port[HR_NAME_MAX];
	uint16_t mtu; /**< L3, of the underlay; HR_MTU_MIN + HR_UNDERLAY_OVERHEAD..HR_MTU_MAX. */
	uint16_t n_addresses; /**< 1.. */
	struct hr_ip6 addresses[HR_UPLINK_ADDRESSES_MAX];
	uint16_t n_on_link;
	struct hr_prefix on_link[HR_UPLINK_ON_LINK_MAX]; /**< IPv6. */
	bool has_gateway;
	struct hr_ip6 gateway;
	uint16_t n_neighbors;
	struct hr_static_neighbor neighbors[HR_UPLINK_NEIGHBORS_MAX];
};

/** interface/"NAMESPACE/NAME": an endpoint behind one port. */
struct hr_interface_spec {
	char port[HR_NAME_MAX];
	char network[HR_NAME_MAX];
	uint16_t n_addresses;
	struct hr_addr addresses[HR_MAX_ADDRESSES];
	uint16_t n_prefixes;
	struct hr_prefix prefixes[HR_MAX_PREFIXES];
	uint16_t n_gateways;
	struct hr_addr gateways[HR_MAX_GATEWAYS];
	bool has_mac;
	struct rte_ether_addr mac; /**< The endpoint's; learned when !has_mac. */
	struct hr_ip6 underlay;    /**< Never link-local. */
	uint16_t n_former;
	struct hr_ip6 former[HR_MAX_FORMER]; /**< Underlay addresses that still lead here. */
	bool source_check;
	uint16_t mtu; /**< L3, HR_MTU_MIN..HR_MTU_MAX. */
};

enum hr_next_hop_type {
	HR_NH_UNDERLAY,
	HR_NH_NETWORK,
};

/** 20 bytes. */
struct hr_next_hop {
	union {
		struct hr_ip6 underlay; /**< HR_NH_UNDERLAY; never link-local. */
		uint32_t network;       /**< HR_NH_NETWORK: index into networks[]. */
	};
	uint16_t weight; /**< 1..65535. */
	uint8_t type;    /**< enum hr_next_hop_type. */
};

/** 24 bytes. The first 18, compared as bytes, give the order of routes. */
struct hr_route_spec {
	uint8_t family;   /**< 4 or 6. */
	uint8_t addr[16]; /**< Network byte order; IPv4 in the first four, then zeros. */
	uint8_t len;
	uint16_t n;     /**< 0: blackhole; else 1..HR_MAX_NEXT_HOPS. */
	uint32_t first; /**< Next hops are next_hops[first] .. next_hops[first + n - 1]. */
};

/**
 * routes/SLICE: part of a network's routes. Sorted, no prefix twice: an old and a new spec can be
 * compared by merging. Another slice may hold the same prefix (it may be moving between them).
 */
struct hr_routes_spec {
	char network[HR_NAME_MAX];
	uint32_t n_routes; /**< 0..HR_SLICE_ROUTES_MAX. */
	struct hr_route_spec *routes;
	uint32_t n_next_hops;
	struct hr_next_hop *next_hops;
	uint32_t n_networks; /**< Networks that next hops name, each once. */
	char (*networks)[HR_NAME_MAX];
};

/** Order of two routes of a slice, by prefix: <0, 0, >0. */
static inline int
hr_route_compare(const struct hr_route_spec *a, const struct hr_route_spec *b)
{
	return memcmp(a, b, offsetof(struct hr_route_spec, n));
}

/** A route's prefix, unpacked. */
static inline struct hr_prefix
hr_route_prefix(const struct hr_route_spec *route)
{
	struct hr_prefix prefix = {.addr.family = route->family, .len = route->len};

	if (route->family == 4)
		memcpy(&prefix.addr.ip4, route->addr, sizeof(prefix.addr.ip4));
	else
		memcpy(prefix.addr.ip6.b, route->addr, sizeof(prefix.addr.ip6.b));
	return prefix;
}

#endif
