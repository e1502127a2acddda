/* SPDX-License-Identifier: Apache-2.0 */
#include "neigh_event.h"

#include "adj.h"
#include "event.h"
#include "neigh_adj.h"
#include "neigh_private.h"
#include "neigh_queue.h"
#include "neigh_state.h"
#include "neigh_table.h"
#include "path.h"

/** Records taken by one call of hr_events_poll(), and at once. */
#define EVENTS_MAX 1024
#define EVENTS_BURST 32

static void
seen(const struct hr_event *event)
{
	struct hr_neigh *neigh = hr_neigh_find_endpoint(event->port);

	if (neigh != NULL)
		hr_neigh_endpoint_seen(neigh, event);
	else if (event->addr.family == 6 &&
			(neigh = hr_neigh_find_next_hop(event->port, &event->addr.ip6)) != NULL)
		hr_neigh_next_hop_seen(neigh, event);
}

static void
resolve(struct rte_mbuf *m)
{
	const uint32_t adj = m->hash.fdir.lo;
	struct hr_neigh *neigh = hr_neigh_of_adj(adj);

	if (neigh == NULL || !hr_adj_mark_holds(m)) {
		hr_control_drop(m->port, m, HR_DROP_UNRESOLVED);
	} else if (hr_neigh_is_usable(neigh)) {
		hr_neigh_forward(m);
	} else if (neigh->state == HR_NEIGH_FAILED) {
		/* On its way here before workers knew. */
		hr_neigh_drop(neigh, m);
	} else {
		if (neigh->state == HR_NEIGH_UNRESOLVED)
			hr_neigh_enter(neigh, HR_NEIGH_INCOMPLETE);
		if (!hr_neigh_enqueue(neigh, m, hr_neigh_find_endpoint(m->port)))
			hr_neigh_crowded(neigh);
	}
}

static void
take(const struct hr_event *event)
{
	/* Of a device that is gone: its port id is another's now. */
	const bool late = event->generation != hr_port_generation_now(event->port);

	if (event->type == HR_EVENT_RESOLVE && late)
		hr_control_drop(event->port, event->packet, HR_DROP_PORT_DOWN);
	else if (event->type == HR_EVENT_RESOLVE)
		resolve(event->packet);
	else if (event->type == HR_EVENT_TOO_BIG)
		hr_path_too_big(&event->source, &event->addr.ip6, event->mtu, hr_neigh_now);
	else if (!late)
		seen(event);
}

void
hr_events_poll(uint64_t now_ms)
{
	struct hr_event events[EVENTS_BURST];
	unsigned taken = 0, n;

	hr_neigh_now = now_ms;
	do {
		n = hr_events_take(events, EVENTS_BURST);
		for (unsigned i = 0; i < n; i++)
			take(&events[i]);
		taken += n;
	} while (n == EVENTS_BURST && taken < EVENTS_MAX);
}
