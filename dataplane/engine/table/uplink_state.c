/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink_state.h"

#include <rte_jhash.h>

#include "../control/addr.h"
#include "../kinds/uplink.h"

static bool
on_link(const struct hr_uplink_spec *spec, const struct hr_ip6 *addr)
{
	for (uint16_t i = 0; i < spec->n_on_link; i++)
		if (hr_prefix_has6(&spec->on_link[i], addr))
			return true;
	return false;
}

/** Whether the uplink leads there, and better than the one before (on link, then by gateway). */
static int
preference(const struct hr_uplink *uplink, const struct hr_ip6 *destination)
{
	const struct hr_uplink_spec *spec = uplink->object->spec;

	if (uplink->port_id == HR_PORT_NO_ID)
		return 0;
	return on_link(spec, destination) ? 2 : spec->has_gateway ? 1 : 0;
}

/**
 * How much an uplink draws a destination, whatever others there are: where one comes or goes only its
 * own share moves.
 */
static uint32_t
draw(const struct hr_uplink *uplink, const struct hr_ip6 *destination)
{
	uint32_t name = 2166136261; /* FNV-1a: keys are not aligned. */

	for (const char *key = uplink->object->key; *key != '\0'; key++)
		name = (name ^ (uint8_t)*key) * 16777619;
	return rte_jhash(destination, sizeof(*destination), name);
}

const struct hr_uplink *
hr_uplink_choose(const struct hr_ip6 *destination, struct hr_ip6 *next_hop)
{
	const struct hr_uplink *chosen = NULL;
	const size_t count = hr_store_count(&hr_uplink_kind);
	uint32_t most = 0;
	int best = 0;

	for (size_t i = 0; i < count; i++) {
		const struct hr_uplink *uplink = hr_store_at(&hr_uplink_kind, i)->state;
		const int rank = uplink == NULL ? 0 : preference(uplink, destination);
		const uint32_t drawn = rank == 0 ? 0 : draw(uplink, destination);

		if (rank < RTE_MAX(best, 1) || (rank == best && drawn <= most))
			continue;
		chosen = uplink;
		best = rank;
		most = drawn;
	}
	if (chosen != NULL)
		*next_hop = best == 2
				? *destination
				: ((const struct hr_uplink_spec *)chosen->object->spec)->gateway;
	return chosen;
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
