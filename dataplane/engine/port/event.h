/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What devices tell of themselves: DPDK's interrupt thread hears it, the control thread asks.
 */
#ifndef HR_PORT_EVENT_H
#define HR_PORT_EVENT_H

#include "../types.h"

enum hr_device_event {
	HR_DEVICE_NO_EVENT,
	HR_DEVICE_WAS_RESET,  /**< By its physical function: it works again when opened anew. */
	HR_DEVICE_IS_LEAVING, /**< Unplugged, or the node waits for us to let go of it. */
};

/** Before devices are opened. 0, or -errno. */
int hr_device_events_init(void);
/** After all devices are closed. */
void hr_device_events_close(void);

/** Listen to a device from now on; forget what another had told under the same port id. */
void hr_device_events_start(uint16_t id, const char *name);
/** Listen no longer. */
void hr_device_events_stop(uint16_t id);

/** The gravest that the device has told. */
enum hr_device_event hr_device_event(uint16_t id);

/** Whether any device has told anything since this was last asked. */
bool hr_device_events_new(void);

#endif
