/* SPDX-License-Identifier: Apache-2.0 */
#include "neigh_queue.h"

#include <stdlib.h>

#include "../worker.h"
#include "neigh_private.h"

#define PAYER_SLOTS 256

/** A namespace that has packets waiting: the buffers are everybody's. */
struct payer {
	LIST_ENTRY(payer) entry;
	unsigned n;
	unsigned here; /**< How many of them for the neighbour that give_way() looks at. */
	char namespace[];
};

struct hr_neigh_waiting {
	struct rte_mbuf *packet;
	struct payer *payer;
};

static LIST_HEAD(, payer) payers[PAYER_SLOTS];

unsigned hr_neigh_waiting_max = HR_NEIGH_WAITING_MAX;

/** How many packets wait, for all neighbours and of all namespaces. */
static unsigned n_waiting;

/**
 * Who has a packet wait: the namespace of whoever sent it, or of whom it is for when it came by an
 * uplink; "" when it is neither's. NULL when there is no memory.
 */
static struct payer *
payer_of(const struct hr_neigh *neigh, const struct hr_neigh *sender)
{
	const char *name;
	struct payer *payer;
	size_t length;
	unsigned slot;

	if (sender == NULL && neigh->endpoint)
		sender = neigh;
	name = sender != NULL ? sender->name : "";
	length = strcspn(name, "/");
	slot = rte_jhash(name, (uint32_t)length, 0) % PAYER_SLOTS;
	LIST_FOREACH(payer, &payers[slot], entry)
		if (strncmp(payer->namespace, name, length) == 0 &&
				payer->namespace[length] == '\0')
			return payer;
	payer = calloc(1, sizeof(*payer) + length + 1);
	if (payer == NULL)
		return NULL;
	memcpy(payer->namespace, name, length);
	LIST_INSERT_HEAD(&payers[slot], payer, entry);
	return payer;
}

static void
pay_back(struct payer *payer)
{
	n_waiting--;
	if (--payer->n > 0)
		return;
	LIST_REMOVE(payer, entry);
	free(payer);
}

/** The i-th oldest of the queue. */
static struct hr_neigh_waiting *
place(const struct hr_neigh *neigh, unsigned i)
{
	return &neigh->queue[(neigh->oldest + i) % HR_NEIGH_QUEUE];
}

/** Drop the oldest packet of who has most of a full queue, when one more of `newcomer` comes. */
static void
give_way(struct hr_neigh *neigh, struct payer *newcomer)
{
	struct hr_neigh_waiting victim;
	unsigned at = 0;

	for (unsigned i = 0; i < HR_NEIGH_QUEUE; i++)
		place(neigh, i)->payer->here = 0;
	newcomer->here = 1;
	for (unsigned i = 0; i < HR_NEIGH_QUEUE; i++)
		place(neigh, i)->payer->here++;
	for (unsigned i = 1; i < HR_NEIGH_QUEUE; i++)
		if (place(neigh, i)->payer->here > place(neigh, at)->payer->here)
			at = i;
	victim = *place(neigh, at);
	for (; at > 0; at--)
		*place(neigh, at) = *place(neigh, at - 1);
	neigh->oldest = (neigh->oldest + 1) % HR_NEIGH_QUEUE;
	neigh->queued--;
	hr_control_drop(victim.packet->port, victim.packet, HR_DROP_RESOLVE_QUEUE);
	pay_back(victim.payer);
}

bool
hr_neigh_enqueue(struct hr_neigh *neigh, struct rte_mbuf *m, const struct hr_neigh *sender)
{
	const bool full = neigh->queued == HR_NEIGH_QUEUE;
	const unsigned room = hr_pool_waiting - RTE_MIN(n_waiting, hr_pool_waiting);
	struct payer *payer;

	if (neigh->queue == NULL)
		neigh->queue = calloc(HR_NEIGH_QUEUE, sizeof(*neigh->queue));
	payer = neigh->queue != NULL && room > 0 ? payer_of(neigh, sender) : NULL;
	if (payer == NULL || payer->n >= RTE_MIN(hr_neigh_waiting_max, room)) {
		hr_control_drop(m->port, m, HR_DROP_RESOLVE_QUEUE);
		return false;
	}
	n_waiting++;
	payer->n++;
	if (full)
		give_way(neigh, payer);
	*place(neigh, neigh->queued++) = (struct hr_neigh_waiting){.packet = m, .payer = payer};
	return !full;
}

void
hr_neigh_forward(struct rte_mbuf *m)
{
	if (!hr_inject(hr_workers[0], m, HR_INJECT_ADJ))
		hr_control_drop(m->port, m, HR_DROP_CONTROL_FULL);
}

void
hr_neigh_drop(const struct hr_neigh *neigh, struct rte_mbuf *m)
{
	hr_control_drop(neigh->endpoint ? m->port : neigh->port, m, HR_DROP_UNRESOLVED);
}

void
hr_neigh_flush(struct hr_neigh *neigh, bool resolved)
{
	for (uint16_t i = 0; i < neigh->queued; i++) {
		struct hr_neigh_waiting *waiting = place(neigh, i);
		struct rte_mbuf *m = waiting->packet;

		pay_back(waiting->payer);
		if (resolved)
			hr_neigh_forward(m);
		else
			hr_neigh_drop(neigh, m);
	}
	free(neigh->queue);
	neigh->queue = NULL;
	neigh->queued = 0;
	neigh->oldest = 0;
}
