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

struct hr_neigh;

#define HR_UPLINK_LOOK_MS 10 /**< Between two looks at links. */
/** How long a link has to be up before the uplink has its share again. */
#define HR_UPLINK_HOLD_MS 5000

enum hr_uplink_link {
	HR_UPLINK_NEW, /**< Not looked at yet. */
	HR_UPLINK_DOWN,
	HR_UPLINK_HELD, /**< Up, for not long enough. */
	HR_UPLINK_UP,
};

struct hr_uplink {
	struct hr_object *object;
	struct hr_port *port;
	enum hr_uplink_link link;
	uint64_t up_ms;   /**< HELD: since when. */
	uint16_t port_id; /**< HR_PORT_NO_ID while the device is gone. */
	uint16_t mtu;
	struct rte_ether_addr mac;
	struct hr_ip6 source;     /**< The node's own address: outer source of what leaves by it. */
	struct hr_ip6 link_local; /**< Source of neighbour solicitations. */
};

/**
 * The uplink by which an underlay address is reached. Where several lead there, addresses are spread
 * by weight over those whose link is up and whose next hop is not lost, and over the least bad of all
 * when none is; when one of them comes or goes no other's move.
 *
 * @param next_hop the address to resolve on it: the destination itself on link, else the gateway
 * @return NULL when no uplink leads there
 */
const struct hr_uplink *hr_uplink_choose(const struct hr_ip6 *destination, struct hr_ip6 *next_hop);

#define HR_UPLINK_LOST_MAX 4 /**< Next hops of one destination that are remembered as lost. */

/**
 * The next hops to a destination that are lost, counted: whoever refers to them has them asked, and
 * leads back when they answer.
 *
 * @return how many
 */
unsigned hr_uplink_lost(const struct hr_ip6 *destination,
		struct hr_neigh *lost[HR_UPLINK_LOST_MAX]);

/** The MAC address configured for a next hop, or NULL. */
const struct rte_ether_addr *hr_uplink_fixed_mac(const struct hr_uplink *uplink,
		const struct hr_ip6 *next_hop);

#endif
