/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Neighbours: who has which MAC address behind a port. Control thread only.
 *
 * Two kinds. An Interface's endpoint: one MAC address, asked for by any of the Interface's
 * addresses (ARP, ND), learned from what it sends, aged. An uplink's next hop: one IPv6 address
 * (RFC 4861). Adjacencies are bound to a neighbour (neigh_adj.h); the neighbour keeps their MAC
 * address and op (ready_op, or why not) in step with its state. An Interface with an IPv6
 * gateway also gets router advertisements, here because here are the timers.
 */
#ifndef HR_NEIGH_H
#define HR_NEIGH_H

#include "../types.h"
#include "neigh_types.h"

struct hr_neigh;

/**
 * Have memory for one more endpoint, or next hop: whoever has one at a time and has reserved it gets
 * it. 0, or -ENOMEM.
 */
int hr_neigh_reserve(bool endpoint);
/** What was reserved is not needed any more. */
void hr_neigh_unreserve(bool endpoint);

/**
 * The endpoint of an Interface; the latest on a port is the one that learns. It is asked for at
 * the next tick, so the port's context may be published after this call.
 *
 * @param name the Interface's key, for lists
 * @param target its addresses: what is asked for; at most HR_MAX_ADDRESSES
 * @param source our addresses on that port, to ask from: ARP asks from the one that is most like
 * the target and not at all without an IPv4 address; ND asks from fe80::1, when it is one of them.
 * At most HR_MAX_GATEWAYS
 * @param fixed its MAC address when configured, else NULL
 * @param learned a MAC address known from before (a replaced configuration), else NULL
 * @return NULL when there is no memory, nor was any reserved
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
 * @return NULL when there is no memory, nor was any reserved
 */
struct hr_neigh *hr_neigh_next_hop(uint16_t port, const struct hr_ip6 *target,
		const struct hr_ip6 *source, const struct rte_ether_addr *own_mac,
		const struct rte_ether_addr *fixed);

/**
 * Drop a reference; the last one unbinds, frees waiting packets, and frees. A next hop is freed
 * at the next tick only, so that a change that still leads there finds it as it was.
 */
void hr_neigh_put(struct hr_neigh *neigh);

/** One reference more. */
void hr_neigh_get(struct hr_neigh *neigh);

/** @param mac zero when not known; may be NULL */
enum hr_neigh_state hr_neigh_state(const struct hr_neigh *neigh, struct rte_ether_addr *mac);
const char *hr_neigh_state_name(enum hr_neigh_state state);

#endif
