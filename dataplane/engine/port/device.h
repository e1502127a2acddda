/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * One DPDK device: probe, configure and start it, change it, ask about it, close it. Control
 * thread. What differs between drivers is known here and nowhere else.
 */
#ifndef HR_PORT_DEVICE_H
#define HR_PORT_DEVICE_H

#include <rte_ring.h>

#include "../kinds/port.h"
#include "port.h"

#define HR_DEVICE_WHY 256 /**< Room for why a device cannot be had. */

struct hr_device {
	uint16_t id;         /**< DPDK port id; HR_PORT_NO_ID while closed. */
	uint16_t n_rx, n_tx; /**< Queues set up. */
	uint16_t mtu;        /**< L3 MTU in force, bytes. */
	bool virtual;        /**< A vdev: takes any unicast address for its own. */
	bool client;         /**< Of memif or vhost-user: does not connect again by itself. */
	unsigned kernel;     /**< Index of the kernel device that is the wire; 0 for none. */
	unsigned netdev;     /**< Index of the kernel device to watch; 0 for none. */
	char driver[32];
	struct rte_ring *tx_ring; /**< Set when n_tx is less than there are workers. */
};

/** The name that devargs give a device: all before the first comma. @return name */
const char *hr_device_name(const char *devargs, char name[RTE_ETH_NAME_MAX_LEN]);

/** Whether DPDK has an Ethernet device of that name; *id is its port, or as it was. */
bool hr_device_find(const char *name, uint16_t *id);

/**
 * Probe, configure and start a device. It receives from then on, though nobody polls it.
 *
 * @param mtu wanted L3 MTU, bytes; device->mtu is what came of it
 * @param why text for people when it fails: which step, and what to do
 * @return 0; -EAGAIN when all is well but the peer, whose socket it is, is not there yet;
 * -ENOSPC when all port ids are taken; -EBUSY when the device is in use already; another -errno
 */
int hr_device_open(struct hr_device *device, const struct hr_port_spec *spec, uint16_t mtu,
		char why[HR_DEVICE_WHY]);

/** Stop, close and remove. No worker may use it any more. A closed device stays closed. */
void hr_device_close(struct hr_device *device);

/**
 * Change the MTU as far as the device and the size of our buffers allow; device->mtu says.
 *
 * @return 0; -EBUSY when the device must be stopped first; another -errno from the driver
 */
int hr_device_set_mtu(struct hr_device *device, uint16_t mtu);

/** The same with the device stopped meanwhile. No worker may use it. 0; -errno: it stays stopped. */
int hr_device_restart_with_mtu(struct hr_device *device, uint16_t mtu);

/** Set a device's own address. Virtual devices have no filter: nothing is done. 0, or -errno. */
int hr_device_set_mac(const struct hr_device *device, const struct rte_ether_addr *mac);

/** Receive all unicast, or only ours. A device that cannot choose is left alone. */
void hr_device_set_promiscuous(const struct hr_device *device, bool on);

bool hr_device_link_up(const struct hr_device *device);

/** Whether the hardware, or the kernel device to watch, has gone away. @param netdev its name */
bool hr_device_vanished(const struct hr_device *device, const char *netdev);

/** Watch for hardware removal. 0, or -errno. */
int hr_device_init(void);

#endif
