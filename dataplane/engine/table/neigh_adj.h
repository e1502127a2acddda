/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Adjacencies that follow a neighbour.
 */
#ifndef HR_NEIGH_ADJ_H
#define HR_NEIGH_ADJ_H

#include <stdint.h>

struct hr_neigh;

/** Keep this adjacency in step from now on (sets MAC address and op at once). */
void hr_neigh_bind(struct hr_neigh *neigh, uint32_t adj);
/** Leave the adjacency as it is from now on. Unbound ones are left alone. */
void hr_neigh_unbind(uint32_t adj);

/** The neighbour that an adjacency is bound to, or NULL. */
struct hr_neigh *hr_neigh_of_adj(uint32_t adj);
/** Bring the adjacencies of a neighbour in step. */
void hr_neigh_tell_adjs(const struct hr_neigh *neigh);

#endif
