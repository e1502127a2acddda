/* SPDX-License-Identifier: Apache-2.0 */
#include "neigh_adj.h"

#include "adj.h"
#include "neigh_private.h"
#include "neigh_table.h"

/**
 * What an adjacency is bound to: a list through this table, by adjacency index. Pages of it that were
 * never touched cost nothing.
 */
struct binding {
	struct hr_neigh *neigh;
	uint32_t next, previous;
};

static struct binding *
binding_of(uint32_t adj)
{
	static struct binding bindings[HR_ADJ_MAX];

	return &bindings[adj];
}

static void
tell_adj(const struct hr_neigh *neigh, uint32_t index)
{
	struct hr_adj *adj = &hr_adjs[index];

	if (!neigh->endpoint && hr_neigh_is_down(neigh->port)) {
		hr_adj_set_op(adj, HR_OP_DOWN);
	} else if (hr_neigh_is_usable(neigh)) {
		hr_adj_set_mac(adj, &neigh->mac);
		hr_adj_set_op(adj, adj->ready_op);
	} else {
		hr_adj_set_op(adj, neigh->unusable_op);
	}
}

void
hr_neigh_tell_adjs(const struct hr_neigh *neigh)
{
	for (uint32_t adj = neigh->adj; adj != 0; adj = binding_of(adj)->next)
		tell_adj(neigh, adj);
}

void
hr_neigh_bind(struct hr_neigh *neigh, uint32_t adj)
{
	struct binding *binding = binding_of(adj);

	hr_neigh_unbind(adj);
	*binding = (struct binding){.neigh = neigh, .next = neigh->adj};
	if (neigh->adj != 0)
		binding_of(neigh->adj)->previous = adj;
	neigh->adj = adj;
	tell_adj(neigh, adj);
}

void
hr_neigh_unbind(uint32_t adj)
{
	struct binding *binding = binding_of(adj);

	if (binding->neigh == NULL)
		return;
	if (binding->previous != 0)
		binding_of(binding->previous)->next = binding->next;
	else
		binding->neigh->adj = binding->next;
	if (binding->next != 0)
		binding_of(binding->next)->previous = binding->previous;
	*binding = (struct binding){0};
}

struct hr_neigh *
hr_neigh_of_adj(uint32_t adj)
{
	return binding_of(adj)->neigh;
}
