/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Gaps: how long a worker did not come to look at its queues, be it that interrupts, other threads
 * or firmware had its CPU, or that a walk took so long. What it slept on purpose is left out, what
 * it slept longer is not.
 */
#ifndef HR_GAP_H
#define HR_GAP_H

#include "worker.h"

#define HR_GAP_SECONDS 60 /**< How far back hr_gap_longest() looks. */

/** Take over what workers noted. Called by the control loop, as often as it likes. */
void hr_gaps_tick(uint64_t now_ms);

/** The longest gap of a worker in the last HR_GAP_SECONDS, in cycles. Any thread. */
uint64_t hr_gap_longest(unsigned worker);

#endif
