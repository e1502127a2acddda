/* SPDX-License-Identifier: Apache-2.0 */
#include "rcu.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include <rte_common.h>

struct rte_rcu_qsbr *hr_qsbr;

struct call {
	void (*fn)(void *arg);
	void *arg;
};

/**
 * Deferred calls, oldest first, in a ring of a power of two. The first `closed` of them wait for
 * `token`; the rest, deferred after it was taken, share the next one. So a transaction costs one
 * token however much it frees.
 */
static struct {
	struct call *calls;
	size_t size, head, count, closed;
	uint64_t token;
} fifo;

int
hr_rcu_init(unsigned workers)
{
	if (workers == 0)
		return -EINVAL;
	size_t size = RTE_ALIGN_CEIL(rte_rcu_qsbr_get_memsize(workers), RTE_CACHE_LINE_SIZE);
	struct rte_rcu_qsbr *qsbr = aligned_alloc(RTE_CACHE_LINE_SIZE, size);

	if (qsbr == NULL)
		return -ENOMEM;
	if (rte_rcu_qsbr_init(qsbr, workers) != 0) {
		free(qsbr);
		return -EINVAL;
	}
	hr_qsbr = qsbr;
	return 0;
}

static bool
fifo_grow(void)
{
	size_t size = fifo.size != 0 ? fifo.size * 2 : 64;
	struct call *calls = malloc(size * sizeof(*calls));

	if (calls == NULL)
		return false;
	for (size_t i = 0; i < fifo.count; i++)
		calls[i] = fifo.calls[(fifo.head + i) & (fifo.size - 1)];
	free(fifo.calls);
	fifo.calls = calls;
	fifo.size = size;
	fifo.head = 0;
	return true;
}

void
hr_defer(void (*fn)(void *arg), void *arg)
{
	if (fifo.count == fifo.size && !fifo_grow()) {
		/* Out of memory: waiting here is the one way to keep the promise. */
		hr_rcu_wait();
		fn(arg);
		return;
	}
	fifo.calls[(fifo.head + fifo.count++) & (fifo.size - 1)] = (struct call){fn, arg};
}

/** Run the closed calls. They may defer more. */
static void
run_closed(void)
{
	for (; fifo.closed > 0; fifo.closed--) {
		struct call call = fifo.calls[fifo.head];

		fifo.head = (fifo.head + 1) & (fifo.size - 1);
		fifo.count--;
		call.fn(call.arg);
	}
	if (fifo.count == 0) {
		/* One large transaction must not hold its peak for ever. */
		free(fifo.calls);
		fifo.calls = NULL;
		fifo.size = fifo.head = 0;
	}
}

void
hr_rcu_reclaim(void)
{
	if (fifo.closed > 0) {
		if (!rte_rcu_qsbr_check(hr_qsbr, fifo.token, false))
			return;
		run_closed();
	}
	if (fifo.count > 0) {
		fifo.token = rte_rcu_qsbr_start(hr_qsbr);
		fifo.closed = fifo.count;
		if (rte_rcu_qsbr_check(hr_qsbr, fifo.token, false))
			run_closed();
	}
}

void
hr_rcu_wait(void)
{
	/* Not rte_rcu_qsbr_synchronize(): ThreadSanitizer sees what is inlined alone. */
	rte_rcu_qsbr_check(hr_qsbr, rte_rcu_qsbr_start(hr_qsbr), true);
}

void
hr_rcu_barrier(void)
{
	do {
		hr_rcu_wait();
		fifo.closed = fifo.count;
		run_closed();
	} while (fifo.count > 0);
}

unsigned
hr_twin_begin(const struct hr_twin *twin)
{
	const unsigned place = !twin->read;

	rte_rcu_qsbr_check(hr_qsbr, twin->retired[place], true);
	return place;
}

void
hr_twin_end(struct hr_twin *twin)
{
	twin->retired[twin->read] = rte_rcu_qsbr_start(hr_qsbr);
	twin->read = !twin->read;
}
