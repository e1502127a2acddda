/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * uplink/NAME: the underlay on one port.
 */
#ifndef HR_KINDS_UPLINK_H
#define HR_KINDS_UPLINK_H

#include "../control/check.h"
#include "../control/kind.h"

#define HR_UPLINK_ADDRESSES_MAX 16
#define HR_UPLINK_ON_LINK_MAX 16
#define HR_UPLINK_NEIGHBORS_MAX 64

extern struct hr_kind hr_uplink_kind;

/** A next hop that is not asked for its MAC address. */
struct hr_static_neighbor {
	struct hr_ip6 address;
	struct rte_ether_addr mac;
};

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
	uint16_t weight; /**< 1..65535: its share of what several lead to. */
};

/** Claim an underlay address, of an uplink or an Interface. */
void hr_underlay_claim(struct hr_check *check, const char *field, const struct hr_ip6 *address);

/* What it does: table/uplink.c. */

hr_prepare_fn hr_uplink_prepare;
hr_apply_fn hr_uplink_apply;
hr_remove_fn hr_uplink_remove;
hr_describe_fn hr_uplink_describe;
hr_port_fn hr_uplink_port;

hr_list_fn hr_list_path_mtu;

#endif
