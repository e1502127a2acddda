/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Grace periods between the control thread, which changes tables, and workers, which read them.
 *
 * A worker reports a quiescent state between two walks of its graph; while it reads it takes no
 * lock. The control thread unpublishes, then defers the free.
 */
#ifndef HR_RCU_H
#define HR_RCU_H

#include <rte_rcu_qsbr.h>

/** The one QSBR variable. Workers report at it with their worker number as thread id. */
extern struct rte_rcu_qsbr *hr_qsbr;

/** Allocate hr_qsbr for as many workers. 0, or -errno. */
int hr_rcu_init(unsigned workers);

/** Call fn(arg) once no worker can hold what was unpublished before this call. Control thread. */
void hr_defer(void (*fn)(void *arg), void *arg);

/** Run deferred calls whose grace period is over. Called by the control loop; never waits. */
void hr_rcu_reclaim(void);

/** Wait for a grace period and do nothing else: packets are waiting, too. */
void hr_rcu_wait(void);

/** Wait for a grace period and run all deferred calls. For port removal and shutdown. */
void hr_rcu_barrier(void);

/**
 * Two places, of which workers read one while the other is written: what is replaced often, by commits
 * too, which may not fail for want of memory. Zero-initialised: place 0 is read, if any.
 */
struct hr_twin {
	uint64_t retired[2]; /**< Grace period after which no worker reads the place. */
	uint8_t read;
};

/** The place to write now. Waits for a grace period where it was read a moment ago. */
unsigned hr_twin_begin(const struct hr_twin *twin);
/** That place was published, or nothing of either is any more. */
void hr_twin_end(struct hr_twin *twin);

/** Publish a pointer: what it points to is complete before a worker can see it. */
#define hr_publish(where, pointer) __atomic_store_n(&(where), (pointer), __ATOMIC_RELEASE)
/** Read a published pointer on a worker. */
#define hr_read(where) __atomic_load_n(&(where), __ATOMIC_ACQUIRE)

#endif
