/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What workers tell of neighbours, and packets that they could not send.
 */
#ifndef HR_NEIGH_EVENT_H
#define HR_NEIGH_EVENT_H

#include <stdint.h>

/** Packets and events from workers, up to a bound per call. Called by the control loop. */
void hr_events_poll(uint64_t now_ms);

#endif
