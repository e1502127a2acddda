/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * One DPDK device that is open (open.h): change it, ask about it. Control thread. What differs
 * between drivers is known here and in what open.c includes, and nowhere else.
 */
#ifndef HR_PORT_DEVICE_H
#define HR_PORT_DEVICE_H

#include <rte_ring.h>

#include "../types.h"
#include "driver.h"
#include "why.h"

#define HR_PORT_QUEUES 16 /**< Receive queues of one port, at most. */

/** A vector driver that is asked for less than its loop takes, 4 or 8, takes nothing. */
#define HR_VECTOR_BURST 8

/** By what a device receives multicast. */
enum hr_multicast {
	HR_MULTICAST_NONE,
	HR_MULTICAST_GROUPS,      /**< The groups that it was told. */
	HR_MULTICAST_ALL,         /**< All multicast, as its driver says. */
	HR_MULTICAST_PROMISCUOUS, /**< All frames, as its driver says. */
};

/** What was asked of a device that it does without. */
enum hr_refusal {
	HR_REFUSED_MAC,
	HR_REFUSED_MTU,
	HR_REFUSED_QUEUES,
	HR_REFUSED_PROMISCUOUS,
	HR_REFUSED_COUNT,
};

struct hr_device {
	uint16_t id;         /**< DPDK port id; HR_PORT_NO_ID while closed. */
	uint16_t n_rx, n_tx; /**< Queues set up. */
	uint16_t mtu;        /**< L3 MTU in force, bytes. */
	/** Packets to ask a receive queue for, at least: 1..HR_VECTOR_BURST. */
	uint16_t least_burst;
	bool virtual;        /**< A vdev: takes any unicast address for its own. */
	bool client;         /**< Of memif or vhost-user: does not connect again by itself. */
	unsigned kernel;     /**< Index of the kernel device that is the wire; 0 for none. */
	unsigned netdev;     /**< Index of the kernel device to watch; 0 for none. */
	uint16_t netdev_mtu; /**< The MTU that it was found with. */
	char driver[32];
	struct rte_device *handle; /**< DPDK's. */
	bool mac_set;              /**< Not the one with which it was found. */
	enum hr_multicast multicast;
	bool all;          /**< Multicast beside the groups is wanted. */
	unsigned n_groups; /**< Wanted; the first HR_GROUPS_MAX of them: */
	struct rte_ether_addr groups[HR_GROUPS_MAX];
	char refused[HR_REFUSED_COUNT][HR_WHY_TEXT]; /**< What came instead; "": not refused. */
	struct rte_ring *tx_ring; /**< Set when n_tx is less than there are workers. */
	unsigned buffers;         /**< Kept for what queues and ring may hold. */
};

/** The name that devargs give a device: all before the first comma. @return name */
const char *hr_device_name(const char *devargs, char name[RTE_ETH_NAME_MAX_LEN]);

/** Whether DPDK has an Ethernet device of that name; *id is its port, or as it was. */
bool hr_device_find(const char *name, uint16_t *id);

/** An L3 MTU, or as much of it as the device and our buffers allow. */
uint16_t hr_device_possible_mtu(const struct rte_eth_dev_info *info, uint16_t mtu);

/**
 * Change the MTU as far as the device and the size of our buffers allow; device->mtu says.
 *
 * @return 0; -EBUSY when the device must be stopped first; another -errno from the driver
 */
int hr_device_set_mtu(struct hr_device *device, uint16_t mtu);

/** Note the MTU that a device has now, and what of it was wanted. */
void hr_device_mtu_set(struct hr_device *device, uint16_t wanted, uint16_t mtu);

/** The same with the device stopped meanwhile. No worker may use it. 0; -errno: it stays stopped. */
int hr_device_restart_with_mtu(struct hr_device *device, uint16_t mtu);

/**
 * Set a device's own address. Virtual devices have no filter: nothing is done.
 *
 * @return 0; -errno from the driver: it keeps its own, device->refused says
 */
int hr_device_set_mac(struct hr_device *device, const struct rte_ether_addr *mac);

/** Receive all unicast, or only ours. A device that cannot is left alone; device->refused says. */
void hr_device_set_promiscuous(struct hr_device *device, bool on);

/** Note what a device refused, and what came instead. Logged where it is news. */
void hr_device_refused(struct hr_device *device, enum hr_refusal what, const char *format, ...)
		__attribute__((format(printf, 3, 4)));
/** The device has what it was asked for. */
void hr_device_granted(struct hr_device *device, enum hr_refusal what);
/** "mac", "mtu", "rxQueues", "promiscuous": the field of the spec. */
const char *hr_refusal_name(enum hr_refusal what);

/** Find out least_burst of a device that was started. Who does not say is asked for more. */
void hr_device_ask_burst(struct hr_device *device);

bool hr_device_link_up(const struct hr_device *device);

/**
 * Whether the device has to be given up: the hardware, or the kernel device to watch, went away.
 *
 * @param netdev the name of the latter
 * @param why which, when it has
 */
bool hr_device_lost(const struct hr_device *device, const char *netdev, struct hr_why *why);

#endif
