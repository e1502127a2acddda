/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink_state.h"

#include <rte_jhash.h>

#include "../control/addr.h"
#include "../kinds/uplink.h"
#include "ecmp.h"
#include "neigh.h"
#include "neigh_lost.h"

static bool
on_link(const struct hr_uplink_spec *spec, const struct hr_ip6 *addr)
{
	for (uint16_t i = 0; i < spec->n_on_link; i++)
		if (hr_prefix_has6(&spec->on_link[i], addr))
			return true;
	return false;
}

/** The address to resolve on an uplink for a destination, or NULL when it does not lead there. */
static const struct hr_ip6 *
next_hop_of(const struct hr_uplink *uplink, const struct hr_ip6 *destination, bool *is_on_link)
{
	const struct hr_uplink_spec *spec;

	if (uplink == NULL || uplink->port_id == HR_PORT_NO_ID)
		return NULL;
	spec = uplink->object->spec;
	*is_on_link = on_link(spec, destination);
	return *is_on_link ? destination : spec->has_gateway ? &spec->gateway : NULL;
}

/** What an uplink is good for, the better the more. What is on the link goes first by that link. */
enum {
	BY_GATEWAY = 1,
	ON_LINK,
	RANKS,
	DOWN = 0 * RANKS,
	LOST = 1 * RANKS,
	HELD = 2 * RANKS, /* Link or next hop are back, and perhaps not for long. */
	GOOD = 3 * RANKS,
};

static int
rank_of(const struct hr_uplink *uplink, const struct hr_ip6 *next_hop, bool is_on_link)
{
	const int rank = is_on_link ? ON_LINK : BY_GATEWAY;
	bool answers = true;
	const bool lost = hr_neigh_lost(uplink->port_id, next_hop, &answers) != NULL;

	if (uplink->link == HR_UPLINK_DOWN)
		return rank + DOWN;
	if (!answers)
		return rank + LOST;
	return rank + (lost || uplink->link == HR_UPLINK_HELD ? HELD : GOOD);
}

/**
 * What an uplink asks for a destination, whatever others there are: where one comes or goes only its
 * own share moves.
 */
static uint64_t
asked(const struct hr_uplink *uplink, const struct hr_ip6 *destination)
{
	uint32_t name = 2166136261; /* FNV-1a: keys are not aligned. */

	for (const char *key = uplink->object->key; *key != '\0'; key++)
		name = (name ^ (uint8_t)*key) * 16777619;
	return hr_ecmp_asked(rte_jhash(destination, sizeof(*destination), name),
			((const struct hr_uplink_spec *)uplink->object->spec)->weight);
}

const struct hr_uplink *
hr_uplink_choose(const struct hr_ip6 *destination, struct hr_ip6 *next_hop)
{
	const struct hr_uplink *chosen = NULL;
	const size_t count = hr_store_count(&hr_uplink_kind);
	uint64_t least = 0;
	int best = 0;

	for (size_t i = 0; i < count; i++) {
		const struct hr_uplink *uplink = hr_store_at(&hr_uplink_kind, i)->state;
		bool is_on_link;
		const struct hr_ip6 *hop = next_hop_of(uplink, destination, &is_on_link);
		const int rank = hop == NULL ? 0 : rank_of(uplink, hop, is_on_link);
		const uint64_t price = rank == 0 ? 0 : asked(uplink, destination);

		if (rank < RTE_MAX(best, 1) || (rank == best && price >= least))
			continue;
		chosen = uplink;
		best = rank;
		least = price;
		*next_hop = *hop;
	}
	return chosen;
}

unsigned
hr_uplink_lost(const struct hr_ip6 *destination, struct hr_neigh *lost[HR_UPLINK_LOST_MAX])
{
	const size_t count = hr_store_count(&hr_uplink_kind);
	unsigned n = 0;

	for (size_t i = 0; i < count && n < HR_UPLINK_LOST_MAX; i++) {
		const struct hr_uplink *uplink = hr_store_at(&hr_uplink_kind, i)->state;
		bool ignored;
		const struct hr_ip6 *hop = next_hop_of(uplink, destination, &ignored);
		struct hr_neigh *neigh =
				hop == NULL ? NULL : hr_neigh_lost(uplink->port_id, hop, &ignored);

		if (neigh == NULL)
			continue;
		hr_neigh_get(neigh);
		lost[n++] = neigh;
	}
	return n;
}

const struct rte_ether_addr *
hr_uplink_fixed_mac(const struct hr_uplink *uplink, const struct hr_ip6 *next_hop)
{
	const struct hr_uplink_spec *spec = uplink->object->spec;

	for (uint16_t i = 0; i < spec->n_neighbors; i++)
		if (memcmp(&spec->neighbors[i].address, next_hop, sizeof(*next_hop)) == 0)
			return &spec->neighbors[i].mac;
	return NULL;
}
