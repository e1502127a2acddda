/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Uplinks: the underlay on a port; which one leads to an underlay address. Control thread. How they
 * change is in uplink.c.
 */
#ifndef HR_UPLINK_STATE_H
#define HR_UPLINK_STATE_H

#include "../control/store.h"
#include "../port/port.h"

struct hr_uplink {
	struct hr_object *object;
	struct hr_port *port;
	uint16_t port_id; /**< HR_PORT_NO_ID while the device is gone. */
	uint16_t mtu;
	struct rte_ether_addr mac;
	struct hr_ip6 source;     /**< The node's own address: outer source of what leaves by it. */
	struct hr_ip6 link_local; /**< Source of neighbour solicitations. */
};

/**
 * The uplink by which an underlay address is reached. Where several lead there, addresses are
 * spread over those whose device is there; when one of them comes or goes no other's move.
 *
 * @param next_hop the address to resolve on it: the destination itself on link, else the gateway
 * @return NULL when no uplink leads there
 */
const struct hr_uplink *hr_uplink_choose(const struct hr_ip6 *destination, struct hr_ip6 *next_hop);

/** The MAC address configured for a next hop, or NULL. */
const struct rte_ether_addr *hr_uplink_fixed_mac(const struct hr_uplink *uplink,
		const struct hr_ip6 *next_hop);

#endif
