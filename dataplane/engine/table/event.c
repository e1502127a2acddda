/* SPDX-License-Identifier: Apache-2.0 */
#include "event.h"

#include <rte_errno.h>
#include <rte_ring_elem.h>

#define RECORDS 8192
#define RECORDS_FOR_LEARNING (RECORDS / 4)

static_assert(RECORDS - RECORDS_FOR_LEARNING == HR_EVENT_BUFFERS, "the rest are packets");
static_assert(sizeof(struct hr_event) % 4 == 0, "rte_ring wants multiples of 4 bytes");

static struct rte_ring *ring;

int
hr_events_init(void)
{
	ring = rte_ring_create_elem("headrace-events", sizeof(struct hr_event), RECORDS,
			SOCKET_ID_ANY, RING_F_SC_DEQ | RING_F_EXACT_SZ);
	return ring != NULL ? 0 : -rte_errno;
}

bool
hr_event_post(const struct hr_event *event)
{
	if (event->type == HR_EVENT_RESOLVE && rte_ring_free_count(ring) <= RECORDS_FOR_LEARNING)
		return false;
	/* DPDK's parameter lacks a const. */
	return rte_ring_mp_enqueue_elem(ring, (void *)(uintptr_t)event, sizeof(*event)) == 0;
}

unsigned
hr_events_take(struct hr_event *events, unsigned n)
{
	return rte_ring_sc_dequeue_burst_elem(ring, events, sizeof(*events), n, NULL);
}
