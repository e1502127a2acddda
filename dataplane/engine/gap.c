/* SPDX-License-Identifier: Apache-2.0 */
#include "gap.h"

#define SECOND_MS 1000

/** The longest of each second; a ring. */
static uint64_t seconds[HR_MAX_WORKERS][HR_GAP_SECONDS];

void
hr_gaps_tick(uint64_t now_ms)
{
	static uint64_t next_ms;
	static unsigned at;

	if (now_ms < next_ms)
		return;
	next_ms = now_ms + SECOND_MS;
	at = (at + 1) % HR_GAP_SECONDS;
	for (unsigned i = 0; i < hr_n_workers; i++) {
		/* What the worker notes meanwhile counts to this second or the next. */
		const uint64_t gap = __atomic_exchange_n(&hr_workers[i]->gap, 0, __ATOMIC_RELAXED);

		__atomic_store_n(&seconds[i][at], gap, __ATOMIC_RELAXED);
	}
}

uint64_t
hr_gap_longest(unsigned worker)
{
	uint64_t longest = hr_count(hr_workers[worker]->gap);

	for (unsigned i = 0; i < HR_GAP_SECONDS; i++)
		longest = RTE_MAX(longest, hr_count(seconds[worker][i]));
	return longest;
}
