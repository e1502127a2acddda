/* SPDX-License-Identifier: Apache-2.0 */
#include "neigh.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "adj.h"
#include "neigh_adj.h"
#include "neigh_ask.h"
#include "neigh_private.h"
#include "neigh_queue.h"
#include "neigh_state.h"
#include "neigh_table.h"

TAILQ_HEAD(neigh_list, hr_neigh);

/** Memory for neighbours of one kind, all of one size. */
struct stock {
	unsigned n_target, n_source, name_size; /**< Room in each. */
	unsigned reserved;
	unsigned n;               /**< Neighbours, those to come among them. */
	struct neigh_list spare;  /**< To come. */
	struct neigh_list unused; /**< There, but nothing refers to them. */
};

static struct stock endpoints = {
		.n_target = HR_MAX_ADDRESSES,
		.n_source = HR_MAX_GATEWAYS,
		.name_size = HR_NAME_MAX,
		.spare = TAILQ_HEAD_INITIALIZER(endpoints.spare),
		.unused = TAILQ_HEAD_INITIALIZER(endpoints.unused),
};
static struct stock next_hops = {
		.n_target = 1,
		.n_source = 1,
		.spare = TAILQ_HEAD_INITIALIZER(next_hops.spare),
		.unused = TAILQ_HEAD_INITIALIZER(next_hops.unused),
};

static struct stock *
stock_of(bool endpoint)
{
	return endpoint ? &endpoints : &next_hops;
}

static size_t
size_of(const struct stock *stock)
{
	return sizeof(struct hr_neigh) +
			(stock->n_target + stock->n_source) * sizeof(struct hr_addr) +
			stock->name_size;
}

int
hr_neigh_reserve(bool endpoint)
{
	struct stock *stock = stock_of(endpoint);

	if (stock->n <= stock->reserved) {
		struct hr_neigh *neigh = malloc(size_of(stock));

		if (neigh == NULL)
			return -ENOMEM;
		TAILQ_INSERT_TAIL(&stock->spare, neigh, all);
		stock->n++;
	}
	stock->reserved++;
	return 0;
}

/** Free what is there to come beyond what is reserved. */
static void
trim(struct stock *stock)
{
	struct hr_neigh *neigh;

	while (stock->n > stock->reserved && (neigh = TAILQ_FIRST(&stock->spare)) != NULL) {
		TAILQ_REMOVE(&stock->spare, neigh, all);
		stock->n--;
		free(neigh);
	}
}

void
hr_neigh_unreserve(bool endpoint)
{
	struct stock *stock = stock_of(endpoint);

	stock->reserved--;
	trim(stock);
}

static void
destroy(struct hr_neigh *neigh)
{
	struct stock *stock = stock_of(neigh->endpoint);

	while (neigh->adj != 0) {
		const uint32_t adj = neigh->adj;

		hr_neigh_unbind(adj);
		hr_adj_set_op(&hr_adjs[adj], HR_OP_UNREACHABLE);
	}
	hr_neigh_flush(neigh, false);
	hr_neigh_timer_stop(&neigh->timer);
	hr_neigh_timer_stop(&neigh->another);
	hr_neigh_remove(neigh);
	if (neigh->refs == 0 && !neigh->endpoint)
		TAILQ_REMOVE(&stock->unused, neigh, unused);
	TAILQ_INSERT_TAIL(&stock->spare, neigh, all);
	trim(stock);
}

static void
unreferenced(struct hr_neigh *neigh)
{
	if (neigh->refs == 0)
		destroy(neigh);
}

/** Memory for a neighbour; of one that is on its way out when there is no other. */
static struct hr_neigh *
take(struct stock *stock)
{
	struct hr_neigh *neigh = TAILQ_FIRST(&stock->spare);

	if (neigh == NULL) {
		neigh = malloc(size_of(stock));
		if (neigh != NULL) {
			stock->n++;
			return neigh;
		}
		while ((neigh = TAILQ_FIRST(&stock->spare)) == NULL) {
			if (TAILQ_EMPTY(&stock->unused))
				return NULL;
			destroy(TAILQ_FIRST(&stock->unused));
		}
	}
	TAILQ_REMOVE(&stock->spare, neigh, all);
	return neigh;
}

static struct hr_neigh *
create(uint16_t port, const char *name, const struct hr_addr *target, unsigned n_target,
		const struct hr_addr *source, unsigned n_source,
		const struct rte_ether_addr *own_mac)
{
	struct stock *stock = stock_of(name != NULL);
	struct hr_neigh *neigh = take(stock);

	if (neigh == NULL)
		return NULL;
	memset(neigh, 0, size_of(stock));
	neigh->source = neigh->target + stock->n_target;
	if (name != NULL) {
		neigh->name = (char *)(neigh->source + stock->n_source);
		snprintf(neigh->name, stock->name_size, "%s", name);
	}
	neigh->port = port;
	neigh->endpoint = name != NULL;
	neigh->refs = 1;
	neigh->unusable_op = HR_OP_RESOLVE;
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

void
hr_neigh_get(struct hr_neigh *neigh)
{
	if (neigh->refs++ == 0)
		TAILQ_REMOVE(&next_hops.unused, neigh, unused);
}

struct hr_neigh *
hr_neigh_next_hop(uint16_t port, const struct hr_ip6 *target, const struct hr_ip6 *source,
		const struct rte_ether_addr *own_mac, const struct rte_ether_addr *fixed)
{
	const struct hr_addr from = {.family = 6, .ip6 = *source};
	const struct hr_addr to = {.family = 6, .ip6 = *target};
	struct hr_neigh *neigh = hr_neigh_find_next_hop(port, target);

	if (neigh != NULL) {
		hr_neigh_get(neigh);
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
	if (neigh->endpoint) {
		destroy(neigh);
	} else {
		TAILQ_INSERT_TAIL(&next_hops.unused, neigh, unused);
		hr_neigh_timer_start(&neigh->another, 0);
	}
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
			[HR_NEIGH_FAILED] = "unresolved",
			[HR_NEIGH_REACHABLE] = "reachable",
			[HR_NEIGH_STALE] = "stale",
			[HR_NEIGH_PROBE] = "probe",
			[HR_NEIGH_STATIC] = "static",
	};

	return names[state];
}
