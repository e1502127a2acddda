/* SPDX-License-Identifier: Apache-2.0 */
#include "neigh.h"

#include <stdlib.h>
#include <sys/queue.h>

#include <rte_jhash.h>

#include "../control/addr.h"
#include "../control/json.h"
#include "../control/list.h"
#include "../packet/arp.h"
#include "../packet/nd.h"
#include "../port/port.h"
#include "../worker.h"
#include "event.h"

/** Records taken by one call of hr_events_poll(), and at once. */
#define EVENTS_MAX 1024
#define EVENTS_BURST 32

#define NEXT_HOP_SLOTS 16384
#define PAYER_SLOTS 256

/* A timer wheel: a slot holds whatever is due in its time, in this round or a later one. */
#define WHEEL_SLOTS 1024
#define WHEEL_SLOT_MS 64

struct timer {
	LIST_ENTRY(timer) entry;
	uint64_t due; /**< Milliseconds; 0: not running. */
	void (*expired)(struct hr_neigh *neigh);
	struct hr_neigh *neigh;
};
LIST_HEAD(timers, timer);

/** A namespace that has packets waiting: the buffers are everybody's. */
struct payer {
	LIST_ENTRY(payer) entry;
	unsigned n;
	unsigned here; /**< How many of them for the neighbour that give_way() looks at. */
	char namespace[];
};

struct waiting {
	struct rte_mbuf *packet;
	struct payer *payer;
};

struct hr_neigh {
	TAILQ_ENTRY(hr_neigh) all;
	LIST_ENTRY(hr_neigh) same_hash; /**< Next hops. */
	uint16_t port;
	bool endpoint;
	enum hr_neigh_state state;
	uint8_t tries;
	unsigned refs;
	struct rte_ether_addr own_mac;
	struct rte_ether_addr mac; /**< Zero when not known. */
	uint32_t adj;              /**< First bound adjacency; 0: none. */
	uint64_t confirmed_ms;     /**< When `mac` was last heard of, or the start. */
	uint64_t hold_until_ms;
	struct hr_addr seen;   /**< The address that was last heard of; family 0: none. */
	struct timer timer;    /**< Of the state. */
	struct timer another;  /**< Endpoint: router advertisements; next hop: its end. */
	struct waiting *queue; /**< HR_NEIGH_QUEUE packets; NULL unless INCOMPLETE. */
	uint16_t queued, oldest;
	unsigned n_source, n_target;
	struct hr_addr *source;
	char *name;
	struct hr_addr target[];
};

/** What an adjacency is bound to: a list through this table, by adjacency index. */
struct binding {
	struct hr_neigh *neigh;
	uint32_t next, previous;
};

static TAILQ_HEAD(, hr_neigh) neighs = TAILQ_HEAD_INITIALIZER(neighs);
static LIST_HEAD(, hr_neigh) next_hops[NEXT_HOP_SLOTS];
static struct hr_neigh *endpoints[HR_MAX_PORTS];
static LIST_HEAD(, payer) payers[PAYER_SLOTS];
static struct timers wheel[WHEEL_SLOTS];
static uint64_t now, ticked;

unsigned hr_neigh_waiting_max = HR_NEIGH_WAITING_MAX;

static const char *const state_names[] = {
		[HR_NEIGH_UNRESOLVED] = "unresolved",
		[HR_NEIGH_INCOMPLETE] = "incomplete",
		[HR_NEIGH_REACHABLE] = "reachable",
		[HR_NEIGH_STALE] = "stale",
		[HR_NEIGH_PROBE] = "probe",
		[HR_NEIGH_STATIC] = "static",
};

/* Timers. */

static void
timer_stop(struct timer *timer)
{
	if (timer->due != 0)
		LIST_REMOVE(timer, entry);
	timer->due = 0;
}

static void
timer_start(struct timer *timer, uint64_t ms)
{
	timer_stop(timer);
	timer->due = RTE_MAX(now + ms, 1u);
	LIST_INSERT_HEAD(&wheel[timer->due / WHEEL_SLOT_MS % WHEEL_SLOTS], timer, entry);
}

void
hr_neigh_tick(uint64_t now_ms)
{
	const uint64_t last = now_ms / WHEEL_SLOT_MS;
	uint64_t slot = ticked / WHEEL_SLOT_MS;

	now = now_ms;
	ticked = now_ms;
	/* The last slot of before once more: it was not over. */
	for (slot = RTE_MAX(slot + WHEEL_SLOTS, last + 1) - WHEEL_SLOTS; slot <= last; slot++) {
		struct timers *timers = &wheel[slot % WHEEL_SLOTS];
		struct timer *timer = LIST_FIRST(timers);

		while (timer != NULL) {
			if (timer->due > now) {
				timer = LIST_NEXT(timer, entry);
				continue;
			}
			timer_stop(timer);
			timer->expired(timer->neigh);
			/* That may have started or freed others of this slot. */
			timer = LIST_FIRST(timers);
		}
	}
}

/** Spread what was started together: a share of `ms` that is always the same for a neighbour. */
static uint64_t
spread(const struct hr_neigh *neigh, uint64_t ms)
{
	return rte_jhash(neigh->target, sizeof(neigh->target[0]) * (neigh->n_target > 0),
			       neigh->port) %
			ms;
}

/* Frames. */

static struct rte_mbuf *
new_frame(uint16_t port, uint16_t length)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(hr_pool);

	if (m == NULL || !hr_resize(m, length)) {
		rte_pktmbuf_free(m);
		return NULL;
	}
	m->port = port;
	return m;
}

/** Send a frame of ours. One that is lost is as good as lost on the wire. */
static void
send_frame(struct rte_mbuf *m)
{
	if (!hr_inject(hr_workers[0], m, HR_INJECT_SEND))
		rte_pktmbuf_free(m);
}

/** Our IPv4 address that shares most leading bits with the target; 0 when we have none. */
static rte_be32_t
source_like(const struct hr_neigh *neigh, rte_be32_t target)
{
	uint32_t best_difference = UINT32_MAX;
	rte_be32_t best = 0;

	for (unsigned i = 0; i < neigh->n_source; i++) {
		const struct hr_addr *source = &neigh->source[i];
		const uint32_t difference = rte_be_to_cpu_32(source->ip4 ^ target);

		if (source->family == 4 && difference <= best_difference) {
			best_difference = difference;
			best = source->ip4;
		}
	}
	return best;
}

static void
ask_arp(const struct hr_neigh *neigh, rte_be32_t target, bool unicast)
{
	const rte_be32_t source = source_like(neigh, target);
	struct rte_mbuf *m;

	if (source == 0)
		return;
	m = new_frame(neigh->port, HR_ARP_FRAME_LEN);
	if (m == NULL)
		return;
	hr_write_arp(rte_pktmbuf_mtod(m, void *), RTE_ARP_OP_REQUEST,
			unicast ? neigh->mac : hr_mac_broadcast, neigh->own_mac, source,
			(struct rte_ether_addr){{0}}, target);
	send_frame(m);
}

/** Our IPv6 address to ask from, NULL when there is none. */
static const struct hr_ip6 *
source6(const struct hr_neigh *neigh)
{
	if (!neigh->endpoint)
		return &neigh->source[0].ip6;
	for (unsigned i = 0; i < neigh->n_source; i++)
		if (neigh->source[i].family == 6 &&
				hr_ip6_equal(&neigh->source[i].ip6, &hr_ip6_gateway))
			return &hr_ip6_gateway;
	return NULL;
}

static void
ask_nd(const struct hr_neigh *neigh, const struct hr_ip6 *target, bool unicast)
{
	const struct hr_ip6 *source = source6(neigh);
	struct rte_mbuf *m;

	if (source == NULL)
		return;
	m = new_frame(neigh->port, HR_ND_FRAME_LEN);
	if (m == NULL)
		return;
	hr_write_solicitation(rte_pktmbuf_mtod(m, void *), unicast ? &neigh->mac : NULL,
			neigh->own_mac, *source, *target);
	send_frame(m);
}

static void
ask_for(const struct hr_neigh *neigh, const struct hr_addr *target, bool unicast)
{
	if (target->family == 4)
		ask_arp(neigh, target->ip4, unicast);
	else
		ask_nd(neigh, &target->ip6, unicast);
}

/** Ask everybody for all its addresses, or itself for the one that it was last heard of by. */
static void
ask(struct hr_neigh *neigh, bool unicast)
{
	neigh->tries++;
	if (unicast && neigh->seen.family != 0) {
		ask_for(neigh, &neigh->seen, true);
		return;
	}
	for (unsigned i = 0; i < neigh->n_target; i++)
		ask_for(neigh, &neigh->target[i], unicast);
}

static void
advertise(struct hr_neigh *neigh)
{
	const struct hr_port_ctx *ctx = hr_port_ctx[neigh->port];
	struct rte_mbuf *m;

	timer_start(&neigh->another,
			HR_NEIGH_ADVERTISE_MS - spread(neigh, HR_NEIGH_ADVERTISE_MS / 8));
	if (ctx == NULL || ctx->role != HR_ROLE_INTERFACE)
		return;
	m = new_frame(neigh->port, HR_ND_FRAME_LEN);
	if (m == NULL)
		return;
	hr_write_router(rte_pktmbuf_mtod(m, void *), hr_ip6_multicast_mac(&hr_ip6_all_nodes),
			neigh->own_mac, hr_ip6_all_nodes, ctx->mtu);
	send_frame(m);
}

/* Packets that wait. */

/**
 * Who has a packet wait: the namespace of whoever sent it, or of whom it is for when it came by an
 * uplink; "" when it is neither's. NULL when there is no memory.
 */
static struct payer *
payer_of(const struct hr_neigh *neigh, const struct rte_mbuf *m)
{
	const struct hr_neigh *endpoint = endpoints[m->port];
	const char *name;
	struct payer *payer;
	size_t length;
	unsigned slot;

	if (endpoint == NULL && neigh->endpoint)
		endpoint = neigh;
	name = endpoint != NULL ? endpoint->name : "";
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
	if (--payer->n > 0)
		return;
	LIST_REMOVE(payer, entry);
	free(payer);
}

/** The i-th oldest of the queue. */
static struct waiting *
place(const struct hr_neigh *neigh, unsigned i)
{
	return &neigh->queue[(neigh->oldest + i) % HR_NEIGH_QUEUE];
}

/** Drop the oldest packet of who has most of a full queue, when one more of `newcomer` comes. */
static void
give_way(struct hr_neigh *neigh, struct payer *newcomer)
{
	struct waiting victim;
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

static void
enqueue(struct hr_neigh *neigh, struct rte_mbuf *m)
{
	struct payer *payer;

	if (neigh->queue == NULL)
		neigh->queue = calloc(HR_NEIGH_QUEUE, sizeof(*neigh->queue));
	payer = neigh->queue != NULL ? payer_of(neigh, m) : NULL;
	if (payer == NULL || payer->n >= hr_neigh_waiting_max) {
		hr_control_drop(m->port, m, HR_DROP_RESOLVE_QUEUE);
		return;
	}
	payer->n++;
	if (neigh->queued == HR_NEIGH_QUEUE)
		give_way(neigh, payer);
	*place(neigh, neigh->queued++) = (struct waiting){.packet = m, .payer = payer};
}

static void
forward(struct rte_mbuf *m)
{
	if (!hr_inject(hr_workers[0], m, HR_INJECT_ADJ))
		hr_control_drop(m->port, m, HR_DROP_CONTROL_FULL);
}

/** Send what waited, or drop it. */
static void
flush(struct hr_neigh *neigh, bool resolved)
{
	for (uint16_t i = 0; i < neigh->queued; i++) {
		struct waiting *waiting = place(neigh, i);
		struct rte_mbuf *m = waiting->packet;

		pay_back(waiting->payer);
		if (resolved)
			forward(m);
		else
			hr_control_drop(m->port, m, HR_DROP_UNRESOLVED);
	}
	free(neigh->queue);
	neigh->queue = NULL;
	neigh->queued = 0;
	neigh->oldest = 0;
}

/* Adjacencies. */

static struct binding *
binding_of(uint32_t adj)
{
	static struct binding *bindings;

	/* Memory follows use: untouched pages of so large a block cost nothing. */
	if (bindings == NULL)
		bindings = calloc(HR_ADJ_MAX, sizeof(*bindings));
	if (bindings == NULL)
		rte_panic("no address space for neighbours' adjacencies\n");
	return &bindings[adj];
}

static bool
is_usable(const struct hr_neigh *neigh)
{
	return neigh->state >= HR_NEIGH_REACHABLE;
}

static void
tell_adj(const struct hr_neigh *neigh, uint32_t index)
{
	struct hr_adj *adj = &hr_adjs[index];

	if (is_usable(neigh)) {
		hr_adj_set_mac(adj, &neigh->mac);
		hr_adj_set_op(adj, adj->ready_op);
	} else {
		hr_adj_set_op(adj, HR_OP_RESOLVE);
	}
}

static void
tell_adjs(const struct hr_neigh *neigh)
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

/* States. */

/** Enter a state, with what follows from it for adjacencies, packets and timers. */
static void
enter(struct hr_neigh *neigh, enum hr_neigh_state state)
{
	const bool was_usable = is_usable(neigh);

	neigh->state = state;
	neigh->tries = 0;
	if (!is_usable(neigh))
		memset(&neigh->mac, 0, sizeof(neigh->mac));
	if (is_usable(neigh) != was_usable)
		tell_adjs(neigh);
	switch (state) {
	case HR_NEIGH_REACHABLE:
		timer_start(&neigh->timer,
				HR_NEIGH_REACHABLE_MS - spread(neigh, HR_NEIGH_REACHABLE_MS / 4));
		break;
	case HR_NEIGH_STALE:
		timer_start(&neigh->timer, HR_NEIGH_STALE_MS);
		break;
	case HR_NEIGH_INCOMPLETE:
	case HR_NEIGH_PROBE:
		ask(neigh, state == HR_NEIGH_PROBE);
		timer_start(&neigh->timer, HR_NEIGH_RETRY_MS);
		return;
	case HR_NEIGH_UNRESOLVED:
	case HR_NEIGH_STATIC:
		timer_stop(&neigh->timer);
		break;
	}
	flush(neigh, is_usable(neigh));
}

static void
state_expired(struct hr_neigh *neigh)
{
	switch (neigh->state) {
	case HR_NEIGH_REACHABLE:
	case HR_NEIGH_STALE:
		enter(neigh, HR_NEIGH_PROBE);
		break;
	case HR_NEIGH_PROBE:
	case HR_NEIGH_INCOMPLETE:
		if (neigh->tries < HR_NEIGH_TRIES) {
			ask(neigh, neigh->state == HR_NEIGH_PROBE);
			timer_start(&neigh->timer, HR_NEIGH_RETRY_MS);
			break;
		}
		/* One that was there is asked for again by the next packet. */
		if (neigh->state == HR_NEIGH_INCOMPLETE)
			neigh->hold_until_ms = now + HR_NEIGH_HOLD_MS;
		enter(neigh, HR_NEIGH_UNRESOLVED);
		break;
	case HR_NEIGH_UNRESOLVED: /* A new endpoint: ask before any packet has to wait. */
		ask(neigh, false);
		break;
	case HR_NEIGH_STATIC:
		break;
	}
}

/** Take a MAC address as the neighbour's. */
static void
learn(struct hr_neigh *neigh, const struct rte_ether_addr *mac, enum hr_neigh_state state)
{
	const bool changed = is_usable(neigh) && !rte_is_same_ether_addr(&neigh->mac, mac);

	neigh->mac = *mac;
	neigh->confirmed_ms = now;
	if (changed)
		tell_adjs(neigh);
	enter(neigh, state);
}

/** An endpoint spoke: that is proof enough, behind this port is nobody else. */
static void
endpoint_seen(struct hr_neigh *neigh, const struct hr_event *event)
{
	const struct rte_ether_addr mac =
			rte_is_zero_ether_addr(&event->mac) ? neigh->mac : event->mac;

	if (neigh->state == HR_NEIGH_STATIC || rte_is_zero_ether_addr(&mac))
		return;
	neigh->seen = event->addr;
	learn(neigh, &mac, HR_NEIGH_REACHABLE);
}

/** RFC 4861 7.2.5, and 7.2.3 with a solicitation as an unsolicited, overriding advertisement. */
static void
next_hop_seen(struct hr_neigh *neigh, const struct hr_event *event)
{
	const bool has_mac = !rte_is_zero_ether_addr(&event->mac);
	const bool same = !has_mac || rte_is_same_ether_addr(&event->mac, &neigh->mac);

	if (!is_usable(neigh)) {
		if (has_mac)
			learn(neigh, &event->mac,
					event->solicited ? HR_NEIGH_REACHABLE : HR_NEIGH_STALE);
	} else if (!same && !event->override) {
		if (neigh->state == HR_NEIGH_REACHABLE)
			enter(neigh, HR_NEIGH_STALE);
	} else if (event->solicited) {
		learn(neigh, same ? &neigh->mac : &event->mac, HR_NEIGH_REACHABLE);
	} else if (!same) {
		learn(neigh, &event->mac, HR_NEIGH_STALE);
	}
}

/* Neighbours. */

static unsigned
next_hop_slot(uint16_t port, const struct hr_ip6 *target)
{
	return rte_jhash(target, sizeof(*target), port) % NEXT_HOP_SLOTS;
}

static struct hr_neigh *
find_next_hop(uint16_t port, const struct hr_ip6 *target)
{
	struct hr_neigh *neigh;

	LIST_FOREACH(neigh, &next_hops[next_hop_slot(port, target)], same_hash)
		if (neigh->port == port && hr_ip6_equal(&neigh->target[0].ip6, target))
			return neigh;
	return NULL;
}

static void
destroy(struct hr_neigh *neigh)
{
	while (neigh->adj != 0) {
		const uint32_t adj = neigh->adj;

		hr_neigh_unbind(adj);
		hr_adj_set_op(&hr_adjs[adj], HR_OP_RESOLVE);
	}
	flush(neigh, false);
	timer_stop(&neigh->timer);
	timer_stop(&neigh->another);
	if (!neigh->endpoint)
		LIST_REMOVE(neigh, same_hash);
	else if (endpoints[neigh->port] == neigh)
		endpoints[neigh->port] = NULL;
	TAILQ_REMOVE(&neighs, neigh, all);
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
	neigh->confirmed_ms = now;
	neigh->n_target = n_target;
	neigh->n_source = n_source;
	for (unsigned i = 0; i < n_target; i++)
		neigh->target[i] = target[i];
	for (unsigned i = 0; i < n_source; i++)
		neigh->source[i] = source[i];
	neigh->timer = (struct timer){.neigh = neigh, .expired = state_expired};
	neigh->another = (struct timer){
			.neigh = neigh,
			.expired = neigh->endpoint ? advertise : unreferenced,
	};
	TAILQ_INSERT_TAIL(&neighs, neigh, all);
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
	endpoints[port] = neigh;
	if (fixed != NULL)
		learn(neigh, fixed, HR_NEIGH_STATIC);
	else if (learned != NULL)
		learn(neigh, learned, HR_NEIGH_STALE);
	if (neigh->state != HR_NEIGH_STATIC)
		timer_start(&neigh->timer, 0);
	if (source6(neigh) != NULL)
		timer_start(&neigh->another, 0);
	return neigh;
}

struct hr_neigh *
hr_neigh_next_hop(uint16_t port, const struct hr_ip6 *target, const struct hr_ip6 *source,
		const struct rte_ether_addr *own_mac, const struct rte_ether_addr *fixed)
{
	const struct hr_addr from = {.family = 6, .ip6 = *source};
	const struct hr_addr to = {.family = 6, .ip6 = *target};
	struct hr_neigh *neigh = find_next_hop(port, target);

	if (neigh != NULL) {
		neigh->refs++;
		neigh->source[0] = from;
		if (!rte_is_same_ether_addr(&neigh->own_mac, own_mac)) {
			neigh->own_mac = *own_mac;
			enter(neigh, HR_NEIGH_UNRESOLVED);
		}
	} else {
		neigh = create(port, NULL, &to, 1, &from, 1, own_mac);
		if (neigh == NULL)
			return NULL;
		LIST_INSERT_HEAD(&next_hops[next_hop_slot(port, target)], neigh, same_hash);
	}
	if (fixed != NULL)
		learn(neigh, fixed, HR_NEIGH_STATIC);
	else if (neigh->state == HR_NEIGH_STATIC)
		enter(neigh, HR_NEIGH_UNRESOLVED);
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
		timer_start(&neigh->another, 0);
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
	return state_names[state];
}

/* Events. */

static void
seen(const struct hr_event *event)
{
	struct hr_neigh *neigh = endpoints[event->port];

	if (neigh != NULL)
		endpoint_seen(neigh, event);
	else if (event->addr.family == 6 &&
			(neigh = find_next_hop(event->port, &event->addr.ip6)) != NULL)
		next_hop_seen(neigh, event);
}

static void
resolve(struct rte_mbuf *m)
{
	const uint32_t adj = m->hash.fdir.lo;
	struct hr_neigh *neigh = binding_of(adj)->neigh;

	if (neigh == NULL || !hr_adj_mark_holds(m)) {
		hr_control_drop(m->port, m, HR_DROP_UNRESOLVED);
	} else if (is_usable(neigh)) {
		forward(m);
	} else if (neigh->state == HR_NEIGH_UNRESOLVED && now < neigh->hold_until_ms) {
		hr_control_drop(m->port, m, HR_DROP_UNRESOLVED);
	} else {
		enqueue(neigh, m);
		if (neigh->state == HR_NEIGH_UNRESOLVED)
			enter(neigh, HR_NEIGH_INCOMPLETE);
	}
}

void
hr_events_poll(uint64_t now_ms)
{
	struct hr_event events[EVENTS_BURST];
	unsigned taken = 0, n;

	now = now_ms;
	do {
		n = hr_events_take(events, EVENTS_BURST);
		for (unsigned i = 0; i < n; i++) {
			if (events[i].type == HR_EVENT_SEEN)
				seen(&events[i]);
			else
				resolve(events[i].packet);
		}
		taken += n;
	} while (n == EVENTS_BURST && taken < EVENTS_MAX);
}

/* The list. */

static const char *
port_name(uint16_t id)
{
	for (size_t i = 0; i < hr_store_count(HR_KIND_PORT); i++) {
		const char *name = hr_store_at(HR_KIND_PORT, i)->key;
		const struct hr_port *port = hr_port_get(name);

		if (port != NULL && hr_port_id(port) == id)
			return name;
	}
	return "";
}

static json_t *
describe(const struct hr_neigh *neigh, const char *port, const char *address)
{
	return json_pack("{s:s, s:s?, s:s, s:o, s:s, s:I}", "port", port, "interface", neigh->name,
			"address", address, "mac",
			is_usable(neigh) ? hr_json_mac(&neigh->mac) : json_null(), "state",
			state_names[neigh->state], "ageSeconds",
			(json_int_t)((now - neigh->confirmed_ms) / 1000));
}

json_t *
hr_list_neighbor(const json_t *filter, size_t cursor, size_t limit, size_t *next,
		struct hr_errors *errors)
{
	json_t *items = json_array();
	const struct hr_neigh *neigh;
	char address[HR_ADDR_TEXT];
	size_t index = 0;

	RTE_SET_USED(errors);
	*next = 0;
	TAILQ_FOREACH(neigh, &neighs, all) {
		const char *port;

		if (index + neigh->n_target <= cursor) {
			index += neigh->n_target;
			continue;
		}
		port = port_name(neigh->port);
		for (unsigned i = 0; i < neigh->n_target; i++, index++) {
			hr_addr_format(&neigh->target[i], address);
			if (index < cursor || !hr_filter_text(filter, "port", port) ||
					!hr_filter_text(filter, "address", address))
				continue;
			if (json_array_size(items) == limit) {
				*next = index;
				return items;
			}
			json_array_append_new(items, describe(neigh, port, address));
		}
	}
	return items;
}
