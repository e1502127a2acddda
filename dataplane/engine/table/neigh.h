/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Neighbours: who has which MAC address behind a port. Control thread only.
 *
 * Two kinds. An Interface's endpoint: one MAC address, asked for by any of the Interface's
 * addresses (ARP, ND), learned from what it sends, aged. An uplink's next hop: one IPv6 address
 * (RFC 4861). Adjacencies are bound to a neighbour; the neighbour keeps their MAC address and
 * op (ready_op, or HR_OP_RESOLVE) in step with its state. An Interface with an IPv6 gateway also
 * gets router advertisements, here because here are the timers.
 *
 * The list `neighbor` of kinds/interface.h is here too: {"port","interface"|null,"address","mac"
 * |null,"state","ageSeconds"}, one item per address; filters port and address.
 */
#ifndef HR_NEIGH_H
#define HR_NEIGH_H

#include "../kinds/interface.h"
#include "../types.h"
#include "adj.h"

#define HR_NEIGH_QUEUE 64            /**< Packets that wait for one neighbour. */
#define HR_NEIGH_WAITING_MAX 256     /**< hr_neigh_waiting_max unless it is set. */
#define HR_NEIGH_TRIES 3             /**< RFC 4861 10: MAX_MULTICAST_SOLICIT, MAX_UNICAST_.. */
#define HR_NEIGH_RETRY_MS 1000       /**< RETRANS_TIMER */
#define HR_NEIGH_REACHABLE_MS 30000  /**< REACHABLE_TIME, then a neighbour is probed. */
#define HR_NEIGH_STALE_MS 5000       /**< DELAY_FIRST_PROBE_TIME */
#define HR_NEIGH_HOLD_MS 3000        /**< After no answer: packets drop, none is asked for. */
#define HR_NEIGH_ADVERTISE_MS 200000 /**< Between router advertisements, up to an eighth less. */

enum hr_neigh_state {
	HR_NEIGH_UNRESOLVED, /**< Unknown: nobody asked, or there was no answer. */
	HR_NEIGH_INCOMPLETE, /**< Asked, packets wait. */
	HR_NEIGH_REACHABLE,
	HR_NEIGH_STALE,  /**< Used, and to be confirmed. */
	HR_NEIGH_PROBE,  /**< Used, and being asked. */
	HR_NEIGH_STATIC, /**< From the configuration. */
};

struct hr_neigh;

/**
 * Most packets of one namespace that wait, for all neighbours together. A namespace is what an
 * Interface's key begins with, up to "/". What waits stays when it is lowered.
 */
extern unsigned hr_neigh_waiting_max;

/**
 * The endpoint of an Interface; the latest on a port is the one that learns. It is asked for at
 * the next tick, so the port's context may be published after this call.
 *
 * @param name the Interface's key, for lists
 * @param target its addresses: what is asked for
 * @param source our addresses on that port, to ask from: ARP asks from the one that is most like
 * the target and not at all without an IPv4 address; ND asks from fe80::1, when it is one of them
 * @param fixed its MAC address when configured, else NULL
 * @param learned a MAC address known from before (a replaced configuration), else NULL
 * @return NULL when there is no memory
 */
struct hr_neigh *hr_neigh_endpoint(uint16_t port, const char *name, const struct hr_addr *target,
		unsigned n_target, const struct hr_addr *source, unsigned n_source,
		const struct rte_ether_addr *own_mac, const struct rte_ether_addr *fixed,
		const struct rte_ether_addr *learned);

/**
 * An uplink's next hop, one per port and address, counted: each call needs a hr_neigh_put().
 * With another own_mac than before it is another link, and what was known is forgotten.
 *
 * @param fixed its MAC address when configured, else NULL
 * @return NULL when there is no memory
 */
struct hr_neigh *hr_neigh_next_hop(uint16_t port, const struct hr_ip6 *target,
		const struct hr_ip6 *source, const struct rte_ether_addr *own_mac,
		const struct rte_ether_addr *fixed);

/**
 * Drop a reference; the last one unbinds, frees waiting packets, and frees. A next hop is freed
 * at the next tick only, so that a change that still leads there finds it as it was.
 */
void hr_neigh_put(struct hr_neigh *neigh);

/** Keep this adjacency in step from now on (sets MAC address and op at once). */
void hr_neigh_bind(struct hr_neigh *neigh, uint32_t adj);
/** Leave the adjacency as it is from now on. Unbound ones are left alone. */
void hr_neigh_unbind(uint32_t adj);

/** @param mac zero when not known; may be NULL */
enum hr_neigh_state hr_neigh_state(const struct hr_neigh *neigh, struct rte_ether_addr *mac);
const char *hr_neigh_state_name(enum hr_neigh_state state);

/** Timers: resolution, aging, periodic router advertisements. Called by the control loop. */
void hr_neigh_tick(uint64_t now_ms);

/** Packets and events from workers, up to a bound per call. Called by the control loop. */
void hr_events_poll(uint64_t now_ms);

#endif
