/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What neighbours are sent: ARP requests, neighbour solicitations, router advertisements.
 */
#ifndef HR_NEIGH_ASK_H
#define HR_NEIGH_ASK_H

#include <stdbool.h>

struct hr_ip6;
struct hr_neigh;

/** Our IPv6 address to ask from, NULL when there is none. */
const struct hr_ip6 *hr_neigh_source6(const struct hr_neigh *neigh);

/** Ask everybody for all its addresses, or itself for the one that it was last heard of by. */
void hr_neigh_ask(struct hr_neigh *neigh, bool unicast);

/** Tell an endpoint that the gateway is its router, and start the timer of the next time. */
void hr_neigh_advertise(struct hr_neigh *neigh);

#endif
