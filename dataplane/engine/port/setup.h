/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Configure and start a device that was probed.
 */
#ifndef HR_PORT_SETUP_H
#define HR_PORT_SETUP_H

#include "../kinds/port.h"
#include "device.h"

/**
 * Choose the queues of a device, configure and start it. What it refuses and can do without is in
 * device->refused.
 *
 * @param mac to set, NULL for none
 * @param mtu wanted L3 MTU, bytes; device->mtu is what came of it
 * @param step what failed, for "cannot ... device"
 * @param why when it returns -EDQUOT
 * @return 0, or -errno as of hr_device_open()
 */
int hr_device_setup(struct hr_device *device, const struct hr_port_spec *spec,
		const struct rte_ether_addr *mac, uint16_t mtu, const struct rte_eth_dev_info *info,
		const char **step, struct hr_why *why);

#endif
