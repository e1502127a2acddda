/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Have DPDK make a virtual device, or take up a hardware one.
 */
#ifndef HR_PORT_PROBE_H
#define HR_PORT_PROBE_H

#include "../kinds/port.h"
#include "device.h"

/**
 * Probe a device.
 *
 * @param device its id and netdev are set
 * @param name what hr_device_name() says
 * @param why text for people when it fails: what to do
 * @return 0, or -errno as of hr_device_open()
 */
int hr_device_probe(struct hr_device *device, const struct hr_port_spec *spec, const char *name,
		struct hr_why *why);

#endif
