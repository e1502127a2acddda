/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink_state.h"

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

const struct hr_uplink *
hr_uplink_choose(const struct hr_ip6 *destination, struct hr_ip6 *next_hop)
{
	const struct hr_uplink *candidates[HR_MAX_PORTS], *chosen;
	const size_t count = hr_store_count(&hr_uplink_kind);
	unsigned n = 0;
	int best = 1;

	for (size_t i = 0; i < count; i++) {
		const struct hr_uplink *uplink = hr_store_at(&hr_uplink_kind, i)->state;
		const int rank = uplink == NULL ? 0 : preference(uplink, destination);

		if (rank > best) {
			best = rank;
			n = 0;
		}
		if (rank == best && n < HR_MAX_PORTS)
			candidates[n++] = uplink;
	}
	if (n == 0)
		return NULL;
	chosen = candidates[(destination->b[15] ^ destination->b[14] ^ destination->b[7]) % n];
	*next_hop = best == 2 ? *destination
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
