/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Timers of neighbours: a wheel, by the clock of the control loop.
 */
#ifndef HR_NEIGH_TIMER_H
#define HR_NEIGH_TIMER_H

#include <stdint.h>
#include <sys/queue.h>

struct hr_neigh;

struct hr_neigh_timer {
	LIST_ENTRY(hr_neigh_timer) entry;
	uint64_t due; /**< Milliseconds; 0: not running. */
	void (*expired)(struct hr_neigh *neigh);
	struct hr_neigh *neigh;
};

/** Milliseconds, as the control loop said last. */
extern uint64_t hr_neigh_now;

/** Start anew, from now on. */
void hr_neigh_timer_start(struct hr_neigh_timer *timer, uint64_t ms);
void hr_neigh_timer_stop(struct hr_neigh_timer *timer);

/** Timers: resolution, aging, periodic router advertisements. Called by the control loop. */
void hr_neigh_tick(uint64_t now_ms);

#endif
