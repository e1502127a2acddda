/* SPDX-License-Identifier: Apache-2.0 */
#include "adj.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "../rcu.h"

struct hr_adj *hr_adjs;
struct hr_vxlan *hr_vxlans;

/** Indexes to use again: the first of a list through hr_adj.next_released; 0: none. */
static uint32_t released;
static uint32_t n_released;
static uint32_t next_fresh = HR_ADJ_LOCAL + 1;

static void *
reserve(size_t size)
{
	void *memory = mmap(NULL, HR_ADJ_MAX * size, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

int
hr_adj_init(void)
{
	hr_adjs = reserve(sizeof(*hr_adjs));
	hr_vxlans = reserve(sizeof(*hr_vxlans));
	if (hr_adjs == NULL || hr_vxlans == NULL)
		return -errno;
	hr_adjs[HR_ADJ_NO_ROUTE].op = HR_OP_NO_ROUTE;
	hr_adjs[HR_ADJ_BLACKHOLE].op = HR_OP_BLACKHOLE;
	hr_adjs[HR_ADJ_MARTIAN].op = HR_OP_MARTIAN;
	hr_adjs[HR_ADJ_LOCAL].op = HR_OP_LOCAL;
	return 0;
}

uint32_t
hr_adj_alloc(void)
{
	const uint32_t index = released;

	if (index == 0)
		return next_fresh < HR_ADJ_MAX ? next_fresh++ : 0;
	released = hr_adjs[index].next_released;
	hr_adjs[index].next_released = 0;
	n_released--;
	return index;
}

/** What was marked until now leaves by this adjacency no more. */
static void
next_serial(struct hr_adj *adj)
{
	__atomic_store_n(&adj->serial, adj->serial + 1, __ATOMIC_RELAXED);
}

static void
release(void *arg)
{
	const uint32_t index = (uintptr_t)arg;
	struct hr_adj *adj = &hr_adjs[index];

	if (adj->op == HR_OP_ECMP)
		free((void *)(uintptr_t)adj->ecmp);
	memset(adj, 0, offsetof(struct hr_adj, serial));
	next_serial(adj);
	adj->next_released = released;
	released = index;
	n_released++;
}

void
hr_adj_free(uint32_t adj)
{
	/*
	 * Now, for a worker that takes up such a packet after the grace period would read what is
	 * becoming another's; and again then, for what is marked meanwhile.
	 */
	next_serial(&hr_adjs[adj]);
	hr_defer(release, (void *)(uintptr_t)adj);
}

uint32_t
hr_adj_end(void)
{
	return next_fresh;
}

uint32_t
hr_adj_count(void)
{
	return next_fresh - n_released;
}
