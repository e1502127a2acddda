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

/** Publish a pointer: what it points to is complete before a worker can see it. */
#define hr_publish(where, pointer) __atomic_store_n(&(where), (pointer), __ATOMIC_RELEASE)
/** Read a published pointer on a worker. */
#define hr_read(where) __atomic_load_n(&(where), __ATOMIC_ACQUIRE)

#endif
