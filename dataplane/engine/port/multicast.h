/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Which multicast a device receives: neighbour discovery lives by it, and a VF is asked for groups,
 * for what it says of all multicast is not to be believed. Control thread.
 */
#ifndef HR_PORT_MULTICAST_H
#define HR_PORT_MULTICAST_H

#include "device.h"

/**
 * Join these groups and leave all others; where the device has no list of groups, receive all
 * multicast, or else every frame. device->multicast says what came of it.
 *
 * @param n at most HR_GROUPS_MAX; more are not counted: all multicast is wanted then
 * @param all whether groups are wanted besides that nobody can list, where they can be had too
 */
void hr_device_join(struct hr_device *device, const struct rte_ether_addr *groups, unsigned n,
		bool all);

/** Join again what hr_device_join() was told last: the device was stopped and started. */
void hr_device_rejoin(struct hr_device *device);

/** "groups", "all", "promiscuous" or "none". */
const char *hr_multicast_name(enum hr_multicast multicast);

#endif
