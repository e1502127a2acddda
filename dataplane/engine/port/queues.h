/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Which worker receives and sends on which queue. Control thread.
 *
 * Receive queues go to the worker with the fewest. Transmit queue i belongs to worker i; a worker
 * without one hands its packets to the port's ring, which worker 0 drains: no queue is shared.
 */
#ifndef HR_PORT_QUEUES_H
#define HR_PORT_QUEUES_H

#include "device.h"

/** Workers start to use the device; they receive from it after hr_queues_publish(). */
void hr_queues_attach(const struct hr_device *device);

/** Have workers receive from what was attached. Once for many: each may wait for a grace period. */
void hr_queues_publish(void);

/** Workers stop to use it, each from its next walk on: hr_rcu_barrier() before it is closed. */
void hr_queues_detach(const struct hr_device *device);

/** The worker that polls a receive queue of an attached device. */
uint16_t hr_queues_worker(uint16_t id, uint16_t queue);

/* For workers: devices that have fewer transmit queues than there are workers. */

/** Where a worker whose txq[] is HR_TXQ_NONE puts packets; NULL: the port is gone. MP/SC. */
extern struct rte_ring *hr_tx_ring[HR_MAX_PORTS];

/** Ports whose ring worker 0 drains into their transmit queue 0. Immutable once published. */
struct hr_tx_shared {
	uint16_t n;
	uint16_t port[HR_MAX_PORTS];
};
/** Never NULL. Read with hr_read(). */
extern const struct hr_tx_shared *hr_tx_shared;

#endif
