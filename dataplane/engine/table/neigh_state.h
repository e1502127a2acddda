/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * How a neighbour goes from state to state.
 */
#ifndef HR_NEIGH_STATE_H
#define HR_NEIGH_STATE_H

#include "event.h"
#include "neigh_types.h"

struct hr_neigh;

/** Enter a state, with what follows from it for adjacencies, packets and timers. */
void hr_neigh_enter(struct hr_neigh *neigh, enum hr_neigh_state state);
/** One that is asked for has had a packet too many wait: workers hold back, until it is over. */
void hr_neigh_crowded(struct hr_neigh *neigh);
/** Take a MAC address as the neighbour's. */
void hr_neigh_learn(struct hr_neigh *neigh, const struct rte_ether_addr *mac,
		enum hr_neigh_state state);
/** The timer of the state is over. */
void hr_neigh_expired(struct hr_neigh *neigh);
/** An endpoint spoke: that is proof enough, behind this port is nobody else. */
void hr_neigh_endpoint_seen(struct hr_neigh *neigh, const struct hr_event *event);
/** RFC 4861 7.2.5, and 7.2.3 with a solicitation as an unsolicited, overriding advertisement. */
void hr_neigh_next_hop_seen(struct hr_neigh *neigh, const struct hr_event *event);

/**
 * Whether several uplinks are there, one of which may do for another. Next hops then are asked more
 * often, and may be lost (neigh_lost.h).
 */
void hr_neigh_watch(bool on);
/** The link of a port went down, with all its next hops, or is up. */
void hr_neigh_link(uint16_t port, bool up);

#endif
