/* SPDX-License-Identifier: Apache-2.0 */
#include "neigh_lost.h"

#include "neigh_private.h"
#include "neigh_table.h"

bool hr_neigh_watching;
static bool changed;

bool
hr_neigh_is_watched(const struct hr_neigh *neigh)
{
	return hr_neigh_watching && !neigh->endpoint;
}

void
hr_neigh_lose(struct hr_neigh *neigh)
{
	if (!hr_neigh_is_watched(neigh) || (neigh->lost && neigh->answers_ms == 0))
		return;
	neigh->lost = true;
	neigh->answers_ms = 0;
	changed = true;
}

void
hr_neigh_answers(struct hr_neigh *neigh)
{
	if (!neigh->lost)
		return;
	if (neigh->answers_ms == 0) {
		neigh->answers_ms = RTE_MAX(hr_neigh_now, 1u);
		changed = true;
	} else if (hr_neigh_now - neigh->answers_ms >= HR_NEIGH_RETURN_MS) {
		hr_neigh_not_lost(neigh);
	}
}

void
hr_neigh_not_lost(struct hr_neigh *neigh)
{
	changed |= neigh->lost;
	neigh->lost = false;
}

struct hr_neigh *
hr_neigh_lost(uint16_t port, const struct hr_ip6 *target, bool *answers)
{
	struct hr_neigh *neigh = hr_neigh_watching ? hr_neigh_find_next_hop(port, target) : NULL;

	if (neigh == NULL || !neigh->lost)
		return NULL;
	*answers = neigh->answers_ms != 0;
	return neigh;
}

bool
hr_neigh_lost_changed(void)
{
	const bool was = changed;

	changed = false;
	return was;
}
