/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What is known of drivers, and cannot be asked: where one says yes and does not.
 * Whatever DPDK tells (queues, MTU, RSS) is asked. Privileges: docs/sriov.md.
 */
#ifndef HR_PORT_DRIVER_H
#define HR_PORT_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#define HR_GROUPS_MAX 128 /**< Multicast groups of one device, at most. */

struct hr_driver {
	const char *name;   /**< As DPDK names it. */
	const char *kernel; /**< Kernel driver with which it shares the device; NULL: none. */
	/** Groups that fit its filter, and that of its physical function. Beyond, all or none. */
	uint16_t groups;
	/**
	 * It is asked for groups alone. To ask for all multicast, or all frames, takes the groups out
	 * of force, and what comes instead is not said: igb has one or the other for a VF, never
	 * gives it others' frames, and emulations know groups alone.
	 */
	bool groups_alone;
	/** A MAC address that the physical function refuses is set without a word. */
	bool mac_unsaid;
	/** It copies frames as it is asked: its queues hold no buffers of ours, but one at most. */
	bool copies;
};

/** What is known of a driver. Never NULL: of one that is not in the table nothing is. */
const struct hr_driver *hr_driver(const char *name);

/** Whether a kernel driver shares its device with DPDK, which takes it as it is bound. */
bool hr_driver_shares(const char *kernel);

#endif
