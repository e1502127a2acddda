/* SPDX-License-Identifier: Apache-2.0 */
#include "neigh_table.h"

#include "../packet/ip6.h"
#include "neigh_private.h"

#define NEXT_HOP_SLOTS 16384

static TAILQ_HEAD(, hr_neigh) neighs = TAILQ_HEAD_INITIALIZER(neighs);
static LIST_HEAD(, hr_neigh) next_hops[NEXT_HOP_SLOTS];
static struct hr_neigh *endpoints[HR_MAX_PORTS];
static bool is_down[HR_MAX_PORTS];

static unsigned
next_hop_slot(uint16_t port, const struct hr_ip6 *target)
{
	uint32_t words[sizeof(*target) / 4]; /* Aligned, as addresses of specs are not. */

	memcpy(words, target, sizeof(words));
	return rte_jhash(words, sizeof(words), port) % NEXT_HOP_SLOTS;
}

struct hr_neigh *
hr_neigh_find_next_hop(uint16_t port, const struct hr_ip6 *target)
{
	struct hr_neigh *neigh;

	LIST_FOREACH(neigh, &next_hops[next_hop_slot(port, target)], same_hash)
		if (neigh->port == port && hr_ip6_equal(&neigh->target[0].ip6, target))
			return neigh;
	return NULL;
}

struct hr_neigh *
hr_neigh_find_endpoint(uint16_t port)
{
	return endpoints[port];
}

struct hr_neigh *
hr_neigh_next(const struct hr_neigh *neigh)
{
	return neigh == NULL ? TAILQ_FIRST(&neighs) : TAILQ_NEXT(neigh, all);
}

void
hr_neigh_insert(struct hr_neigh *neigh)
{
	TAILQ_INSERT_TAIL(&neighs, neigh, all);
	if (neigh->endpoint)
		endpoints[neigh->port] = neigh;
	else
		LIST_INSERT_HEAD(&next_hops[next_hop_slot(neigh->port, &neigh->target[0].ip6)],
				neigh, same_hash);
}

void
hr_neigh_remove(struct hr_neigh *neigh)
{
	if (!neigh->endpoint)
		LIST_REMOVE(neigh, same_hash);
	else if (endpoints[neigh->port] == neigh)
		endpoints[neigh->port] = NULL;
	TAILQ_REMOVE(&neighs, neigh, all);
}

void
hr_neigh_set_down(uint16_t port, bool down)
{
	is_down[port] = down;
}

bool
hr_neigh_is_down(uint16_t port)
{
	return is_down[port];
}
