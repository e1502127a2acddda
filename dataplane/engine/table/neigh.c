/* SPDX-License-Identifier: Apache-2.0 */
#include "neigh.h"

#include <stdlib.h>

#include "adj.h"
#include "neigh_adj.h"
#include "neigh_ask.h"
#include "neigh_private.h"
#include "neigh_queue.h"
#include "neigh_state.h"
#include "neigh_table.h"

static void
destroy(struct hr_neigh *neigh)
{
	while (neigh->adj != 0) {
		const uint32_t adj = neigh->adj;

		hr_neigh_unbind(adj);
		hr_adj_set_op(&hr_adjs[adj], HR_OP_RESOLVE);
	}
	hr_neigh_flush(neigh, false);
	hr_neigh_timer_stop(&neigh->timer);
	hr_neigh_timer_stop(&neigh->another);
	hr_neigh_remove(neigh);
	free(neigh->source);
	free(neigh->name);
	free(neigh);
}

static void
unreferenced(struct hr_neigh *neigh)
{
	if (neigh->refs == 0)
		destroy(neigh);
}

static struct hr_neigh *
create(uint16_t port, const char *name, const struct hr_addr *target, unsigned n_target,
		const struct hr_addr *source, unsigned n_source,
		const struct rte_ether_addr *own_mac)
{
	struct hr_neigh *neigh = calloc(1, sizeof(*neigh) + n_target * sizeof(*target));

	if (neigh == NULL)
		return NULL;
	neigh->source = calloc(RTE_MAX(n_source, 1u), sizeof(*source));
	neigh->name = name != NULL ? strdup(name) : NULL;
	if (neigh->source == NULL || (name != NULL && neigh->name == NULL)) {
		free(neigh->source);
		free(neigh->name);
		free(neigh);
		return NULL;
	}
	neigh->port = port;
	neigh->endpoint = name != NULL;
	neigh->refs = 1;
	neigh->own_mac = *own_mac;
	neigh->confirmed_ms = hr_neigh_now;
	neigh->n_target = n_target;
	neigh->n_source = n_source;
	for (unsigned i = 0; i < n_target; i++)
		neigh->target[i] = target[i];
	for (unsigned i = 0; i < n_source; i++)
		neigh->source[i] = source[i];
	neigh->timer = (struct hr_neigh_timer){.neigh = neigh, .expired = hr_neigh_expired};
	neigh->another = (struct hr_neigh_timer){
			.neigh = neigh,
			.expired = neigh->endpoint ? hr_neigh_advertise : unreferenced,
	};
	hr_neigh_insert(neigh);
	return neigh;
}

struct hr_neigh *
hr_neigh_endpoint(uint16_t port, const char *name, const struct hr_addr *target, unsigned n_target,
		const struct hr_addr *source, unsigned n_source,
		const struct rte_ether_addr *own_mac, const struct rte_ether_addr *fixed,
		const struct rte_ether_addr *learned)
{
	struct hr_neigh *neigh = create(port, name, target, n_target, source, n_source, own_mac);

	if (neigh == NULL)
		return NULL;
	if (fixed != NULL)
		hr_neigh_learn(neigh, fixed, HR_NEIGH_STATIC);
	else if (learned != NULL)
		hr_neigh_learn(neigh, learned, HR_NEIGH_STALE);
	if (neigh->state != HR_NEIGH_STATIC)
		hr_neigh_timer_start(&neigh->timer, 0);
	if (hr_neigh_source6(neigh) != NULL)
		hr_neigh_timer_start(&neigh->another, 0);
	return neigh;
}

struct hr_neigh *
hr_neigh_next_hop(uint16_t port, const struct hr_ip6 *target, const struct hr_ip6 *source,
		const struct rte_ether_addr *own_mac, const struct rte_ether_addr *fixed)
{
	const struct hr_addr from = {.family = 6, .ip6 = *source};
	const struct hr_addr to = {.family = 6, .ip6 = *target};
	struct hr_neigh *neigh = hr_neigh_find_next_hop(port, target);

	if (neigh != NULL) {
		neigh->refs++;
		neigh->source[0] = from;
		if (!rte_is_same_ether_addr(&neigh->own_mac, own_mac)) {
			neigh->own_mac = *own_mac;
			hr_neigh_enter(neigh, HR_NEIGH_UNRESOLVED);
		}
	} else {
		neigh = create(port, NULL, &to, 1, &from, 1, own_mac);
		if (neigh == NULL)
			return NULL;
	}
	if (fixed != NULL)
		hr_neigh_learn(neigh, fixed, HR_NEIGH_STATIC);
	else if (neigh->state == HR_NEIGH_STATIC)
		hr_neigh_enter(neigh, HR_NEIGH_STALE); /* Still the best guess. */
	return neigh;
}

void
hr_neigh_put(struct hr_neigh *neigh)
{
	if (--neigh->refs > 0)
		return;
	if (neigh->endpoint)
		destroy(neigh);
	else
		hr_neigh_timer_start(&neigh->another, 0);
}

enum hr_neigh_state
hr_neigh_state(const struct hr_neigh *neigh, struct rte_ether_addr *mac)
{
	if (mac != NULL)
		*mac = neigh->mac;
	return neigh->state;
}

const char *
hr_neigh_state_name(enum hr_neigh_state state)
{
	static const char *const names[] = {
			[HR_NEIGH_UNRESOLVED] = "unresolved",
			[HR_NEIGH_INCOMPLETE] = "incomplete",
			[HR_NEIGH_REACHABLE] = "reachable",
			[HR_NEIGH_STALE] = "stale",
			[HR_NEIGH_PROBE] = "probe",
			[HR_NEIGH_STATIC] = "static",
	};

	return names[state];
}
