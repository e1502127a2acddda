/* SPDX-License-Identifier: Apache-2.0 */
#include "neigh_timer.h"

#include <rte_common.h>

/* A timer wheel: a slot holds whatever is due in its time, in this round or a later one. */
#define WHEEL_SLOTS 1024
#define WHEEL_SLOT_MS 64

LIST_HEAD(timers, hr_neigh_timer);

static struct timers wheel[WHEEL_SLOTS];
static uint64_t ticked;
uint64_t hr_neigh_now;

void
hr_neigh_timer_stop(struct hr_neigh_timer *timer)
{
	if (timer->due != 0)
		LIST_REMOVE(timer, entry);
	timer->due = 0;
}

void
hr_neigh_timer_start(struct hr_neigh_timer *timer, uint64_t ms)
{
	hr_neigh_timer_stop(timer);
	timer->due = RTE_MAX(hr_neigh_now + ms, 1u);
	LIST_INSERT_HEAD(&wheel[timer->due / WHEEL_SLOT_MS % WHEEL_SLOTS], timer, entry);
}

void
hr_neigh_tick(uint64_t now_ms)
{
	const uint64_t last = now_ms / WHEEL_SLOT_MS;
	uint64_t slot = ticked / WHEEL_SLOT_MS;

	hr_neigh_now = now_ms;
	ticked = now_ms;
	/* The last slot of before once more: it was not over. */
	for (slot = RTE_MAX(slot + WHEEL_SLOTS, last + 1) - WHEEL_SLOTS; slot <= last; slot++) {
		struct timers *timers = &wheel[slot % WHEEL_SLOTS];
		struct hr_neigh_timer *timer = LIST_FIRST(timers);

		while (timer != NULL) {
			if (timer->due > hr_neigh_now) {
				timer = LIST_NEXT(timer, entry);
				continue;
			}
			hr_neigh_timer_stop(timer);
			timer->expired(timer->neigh);
			/* That may have started or freed others of this slot. */
			timer = LIST_FIRST(timers);
		}
	}
}
