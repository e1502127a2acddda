/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Kernel devices that a port's device is made of.
 */
#ifndef HR_PORT_NETDEV_H
#define HR_PORT_NETDEV_H

#include <stdint.h>

/** Get a kernel device's flags, or set some besides. @return the flags, or -errno */
int hr_netdev_flags(const char *name, int set);

/** The MTU of a kernel device, or -errno. */
int hr_netdev_mtu(const char *name);
/** 0, or -errno. */
int hr_netdev_set_mtu(unsigned index, uint16_t mtu);

#endif
