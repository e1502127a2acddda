/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * The /headrace/... commands on DPDK's telemetry socket.
 *
 * They run on threads of DPDK's. Counters of workers are read as they are; whatever the control
 * thread changes is read under its lock, which it holds while it changes things and at no other
 * time. Workers know of no lock.
 */
#ifndef HR_TELEMETRY_H
#define HR_TELEMETRY_H

/** Register the commands. After hr_workers_create(). 0, or -errno. */
int hr_telemetry_init(void);

/** Held by the control loop around everything but waiting. */
void hr_control_lock(void);
void hr_control_unlock(void);

#endif
