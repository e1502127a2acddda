/* SPDX-License-Identifier: Apache-2.0 */
#include "event.h"

#include <rte_errno.h>
#include <rte_ring_elem.h>

#define RECORDS 8192u
#define RECORDS_FOR_LEARNING (RECORDS / 4)

static_assert(RECORDS - RECORDS_FOR_LEARNING == HR_EVENT_BUFFERS, "the rest are packets");
static_assert(sizeof(struct hr_event) % 4 == 0, "rte_ring wants multiples of 4 bytes");

static struct rte_ring *ring;

/** Packets taken, of those that each worker gave (hr_worker.given). The control thread writes it. */
static struct {
	uint32_t packets[HR_MAX_PORTS];
} __rte_cache_aligned taken[HR_MAX_WORKERS];

int
hr_events_init(void)
{
	ring = rte_ring_create_elem("headrace-events", sizeof(struct hr_event), RECORDS,
			SOCKET_ID_ANY, RING_F_SC_DEQ | RING_F_EXACT_SZ);
	return ring != NULL ? 0 : -rte_errno;
}

/** How many more packets there is room for. */
static unsigned
room_for_packets(void)
{
	const unsigned used = RECORDS - rte_ring_free_count(ring);
	const unsigned most = RTE_MIN(RECORDS - RECORDS_FOR_LEARNING, hr_pool_waiting);

	return used < most ? most - used : 0;
}

/** Packets of a worker's port that the control thread has yet to take. */
static uint32_t
on_their_way(const struct hr_worker *worker, uint16_t port)
{
	return worker->given[port] - hr_count(taken[worker->index].packets[port]);
}

bool
hr_event_post(struct hr_worker *worker, const struct hr_event *event)
{
	struct hr_event record = *event;
	const bool packet = record.type == HR_EVENT_RESOLVE;

	if (packet && on_their_way(worker, record.share) >= room_for_packets())
		return false;
	record.worker = worker->index;
	if (rte_ring_mp_enqueue_elem(ring, &record, sizeof(record)) != 0)
		return false;
	worker->given[record.share] += packet;
	return true;
}

unsigned
hr_events_take(struct hr_event *events, unsigned n)
{
	n = rte_ring_sc_dequeue_burst_elem(ring, events, sizeof(*events), n, NULL);
	for (unsigned i = 0; i < n; i++) {
		uint32_t *count = &taken[events[i].worker].packets[events[i].share];

		if (events[i].type == HR_EVENT_RESOLVE)
			__atomic_store_n(count, *count + 1, __ATOMIC_RELAXED);
	}
	return n;
}
