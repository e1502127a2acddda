/* SPDX-License-Identifier: Apache-2.0 */
#include "neigh_state.h"

#include "adj.h"
#include "neigh_adj.h"
#include "neigh_ask.h"
#include "neigh_lost.h"
#include "neigh_private.h"
#include "neigh_queue.h"
#include "neigh_table.h"

/** How long to take an answer for granted. */
static void
start_reachable(struct hr_neigh *neigh)
{
	const uint64_t ms = hr_neigh_is_watched(neigh) ? HR_NEIGH_WATCH_MS : HR_NEIGH_REACHABLE_MS;

	hr_neigh_timer_start(&neigh->timer, ms - hr_neigh_spread(neigh, ms / 4));
}

void
hr_neigh_enter(struct hr_neigh *neigh, enum hr_neigh_state state)
{
	const bool was_usable = hr_neigh_is_usable(neigh);
	const uint8_t was = neigh->unusable_op;

	neigh->state = state;
	neigh->tries = 0;
	neigh->unusable_op = state == HR_NEIGH_FAILED ? HR_OP_UNREACHABLE : HR_OP_RESOLVE;
	if (!hr_neigh_is_usable(neigh))
		memset(&neigh->mac, 0, sizeof(neigh->mac));
	if (hr_neigh_is_usable(neigh) != was_usable || (!was_usable && neigh->unusable_op != was))
		hr_neigh_tell_adjs(neigh);
	switch (state) {
	case HR_NEIGH_REACHABLE:
		hr_neigh_answers(neigh);
		start_reachable(neigh);
		break;
	case HR_NEIGH_STALE:
		hr_neigh_timer_start(&neigh->timer, HR_NEIGH_STALE_MS);
		break;
	case HR_NEIGH_INCOMPLETE:
	case HR_NEIGH_PROBE:
		hr_neigh_ask(neigh, state == HR_NEIGH_PROBE);
		hr_neigh_timer_start(&neigh->timer, HR_NEIGH_RETRY_MS);
		return;
	case HR_NEIGH_FAILED:
		hr_neigh_timer_start(&neigh->timer, HR_NEIGH_HOLD_MS);
		break;
	case HR_NEIGH_UNRESOLVED:
	case HR_NEIGH_STATIC:
		hr_neigh_not_lost(neigh);
		hr_neigh_timer_stop(&neigh->timer);
		break;
	}
	hr_neigh_flush(neigh, hr_neigh_is_usable(neigh));
}

void
hr_neigh_crowded(struct hr_neigh *neigh)
{
	if (neigh->unusable_op == HR_OP_CROWDED)
		return;
	neigh->unusable_op = HR_OP_CROWDED;
	hr_neigh_tell_adjs(neigh);
}

/** One that was there is asked for again by the next packet, or at once if that goes elsewhere. */
static enum hr_neigh_state
unknown(const struct hr_neigh *neigh)
{
	return neigh->lost ? HR_NEIGH_INCOMPLETE : HR_NEIGH_UNRESOLVED;
}

void
hr_neigh_expired(struct hr_neigh *neigh)
{
	switch (neigh->state) {
	case HR_NEIGH_REACHABLE:
	case HR_NEIGH_STALE:
		hr_neigh_enter(neigh, HR_NEIGH_PROBE);
		break;
	case HR_NEIGH_PROBE:
	case HR_NEIGH_INCOMPLETE:
		if (neigh->tries < HR_NEIGH_TRIES) {
			hr_neigh_ask(neigh, neigh->state == HR_NEIGH_PROBE);
			hr_neigh_timer_start(&neigh->timer, HR_NEIGH_RETRY_MS);
			break;
		}
		hr_neigh_lose(neigh);
		hr_neigh_enter(neigh,
				neigh->state == HR_NEIGH_INCOMPLETE ? HR_NEIGH_FAILED
								    : unknown(neigh));
		break;
	case HR_NEIGH_FAILED:
		hr_neigh_enter(neigh, unknown(neigh));
		break;
	case HR_NEIGH_UNRESOLVED: /* A new endpoint: ask before any packet has to wait. */
		hr_neigh_ask(neigh, false);
		break;
	case HR_NEIGH_STATIC:
		break;
	}
}

void
hr_neigh_learn(struct hr_neigh *neigh, const struct rte_ether_addr *mac, enum hr_neigh_state state)
{
	const bool changed = hr_neigh_is_usable(neigh) && !rte_is_same_ether_addr(&neigh->mac, mac);

	neigh->mac = *mac;
	neigh->confirmed_ms = hr_neigh_now;
	if (changed)
		hr_neigh_tell_adjs(neigh);
	hr_neigh_enter(neigh, state);
}

void
hr_neigh_endpoint_seen(struct hr_neigh *neigh, const struct hr_event *event)
{
	const struct rte_ether_addr mac =
			rte_is_zero_ether_addr(&event->mac) ? neigh->mac : event->mac;

	if (neigh->state == HR_NEIGH_STATIC || rte_is_zero_ether_addr(&mac))
		return;
	neigh->seen = event->addr;
	hr_neigh_learn(neigh, &mac, HR_NEIGH_REACHABLE);
}

void
hr_neigh_next_hop_seen(struct hr_neigh *neigh, const struct hr_event *event)
{
	const bool has_mac = !rte_is_zero_ether_addr(&event->mac);
	const bool same = !has_mac || rte_is_same_ether_addr(&event->mac, &neigh->mac);

	if (!hr_neigh_is_usable(neigh)) {
		if (has_mac)
			hr_neigh_learn(neigh, &event->mac,
					event->solicited ? HR_NEIGH_REACHABLE : HR_NEIGH_STALE);
	} else if (!same && !event->override) {
		if (neigh->state == HR_NEIGH_REACHABLE)
			hr_neigh_enter(neigh, HR_NEIGH_STALE);
	} else if (event->solicited) {
		hr_neigh_learn(neigh, same ? &neigh->mac : &event->mac, HR_NEIGH_REACHABLE);
	} else if (!same) {
		hr_neigh_learn(neigh, &event->mac, HR_NEIGH_STALE);
	}
}

void
hr_neigh_watch(bool on)
{
	struct hr_neigh *neigh = NULL;

	if (hr_neigh_watching == on)
		return;
	hr_neigh_watching = on;
	while ((neigh = hr_neigh_next(neigh)) != NULL) {
		if (neigh->endpoint)
			continue;
		hr_neigh_not_lost(neigh);
		if (neigh->state == HR_NEIGH_REACHABLE)
			start_reachable(neigh);
	}
}

void
hr_neigh_link(uint16_t port, bool up)
{
	struct hr_neigh *neigh = NULL;

	if (hr_neigh_is_down(port) == !up)
		return;
	hr_neigh_set_down(port, !up);
	while ((neigh = hr_neigh_next(neigh)) != NULL) {
		if (neigh->endpoint || neigh->port != port)
			continue;
		hr_neigh_tell_adjs(neigh);
		if (neigh->state == HR_NEIGH_STATIC)
			continue;
		if (!up)
			hr_neigh_lose(neigh);
		else if (neigh->lost)
			hr_neigh_enter(neigh,
					hr_neigh_is_usable(neigh) ? HR_NEIGH_PROBE
								  : HR_NEIGH_INCOMPLETE);
	}
}
