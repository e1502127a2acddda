/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Stalls: workers that no longer walk, in a driver that does not return, in a loop without an end or
 * because their CPU is another's.
 *
 * A thread of its own looks, for the control thread may be waiting for just that worker. It counts
 * looks, not time: an engine that stood still as a whole has no worker that stalls.
 */
#ifndef HR_STALL_H
#define HR_STALL_H

#include <stdbool.h>

#define HR_STALL_LOOK_MS 100 /**< Between two looks. */
#define HR_STALL_LOOKS 5     /**< Looks in a row without a walk, and the worker stalls. */

/** Look at all workers from now on; they are running. 0, or -errno. */
int hr_stalls_start(void);
/** Look no more. */
void hr_stalls_stop(void);

/** Take one look. Says in the log which worker stalls, and where it stands, and which walks again. */
void hr_stalls_look(void);
/** Whether a worker stalls. Any thread. */
bool hr_stalled(unsigned worker);

#endif
