/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Interfaces: an endpoint behind a port, in a network; which one has an underlay address. Control
 * thread. How they change is in interface.c.
 */
#ifndef HR_INTERFACE_STATE_H
#define HR_INTERFACE_STATE_H

#include "../control/store.h"
#include "../kinds/interface.h"
#include "../port/port.h"
#include "adj.h"
#include "neigh.h"

struct hr_interface {
	struct hr_object *object;
	struct hr_port *port;
	uint16_t port_id;       /**< HR_PORT_NO_ID while the device is gone. */
	uint32_t adj;           /**< What decapsulated packets leave by. */
	struct hr_neigh *neigh; /**< The endpoint; NULL while the device is gone. */
	struct rte_ether_addr gateway_mac;
	struct rte_ether_addr learned; /**< Last MAC address of the endpoint; zero if none. */
	uint16_t n_underlay;
	struct hr_ip6 underlay[1 + HR_MAX_FORMER]; /**< Its own, then former ones. */
};

/** The local Interface with this underlay address, or NULL. */
const struct hr_interface *hr_interface_by_underlay(const struct hr_ip6 *underlay);

/**
 * Write what an adjacency to the endpoint has beside the neighbour's MAC address and `op`: no worker
 * may be using it. While the device is gone its port is HR_PORT_NO_ID.
 */
void hr_interface_rewrite(const struct hr_interface *interface, struct hr_adj *adj);

/** Make room for as many as there can be underlay addresses. 0, or -ENOMEM. */
int hr_interface_reserve(void);
/** Give it the underlay addresses of a spec, from whoever has them. */
void hr_interface_take_underlay(struct hr_interface *interface,
		const struct hr_interface_spec *spec);
/** Forget the underlay addresses but those that another Interface took over in this commit. */
void hr_interface_release_underlay(struct hr_interface *interface);

#endif
