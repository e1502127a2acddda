/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * All neighbours, by port and address.
 */
#ifndef HR_NEIGH_TABLE_H
#define HR_NEIGH_TABLE_H

#include "../types.h"

struct hr_neigh;

/** Take in a neighbour. An endpoint is that of its port from now on. */
void hr_neigh_insert(struct hr_neigh *neigh);
void hr_neigh_remove(struct hr_neigh *neigh);

/** The endpoint that learns on a port, or NULL. */
struct hr_neigh *hr_neigh_find_endpoint(uint16_t port);
struct hr_neigh *hr_neigh_find_next_hop(uint16_t port, const struct hr_ip6 *target);
/** The one after this, the first after NULL; NULL at the end. */
struct hr_neigh *hr_neigh_next(const struct hr_neigh *neigh);

/** Ports whose link is down: of next hops alone. */
void hr_neigh_set_down(uint16_t port, bool down);
bool hr_neigh_is_down(uint16_t port);

#endif
