/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Take up and give back a device.
 */
#ifndef HR_PORT_OPEN_H
#define HR_PORT_OPEN_H

#include "../kinds/port.h"
#include "device.h"

/**
 * Probe, configure and start a device. It receives from then on, though nobody polls it.
 *
 * @param mtu wanted L3 MTU, bytes; device->mtu is what came of it
 * @param why text for people when it fails: which step, and what to do
 * @return 0; -EAGAIN when all is well but the peer, whose socket it is, is not there yet;
 * -EDQUOT when there are too few packet buffers; -ENOSPC when all port ids are taken; -EBUSY when the device is in use already; another -errno
 */
int hr_device_open(struct hr_device *device, const struct hr_port_spec *spec, uint16_t mtu,
		struct hr_why *why);

/** Stop, close and remove. No worker may use it any more. A closed device stays closed. */
void hr_device_close(struct hr_device *device);

#endif
