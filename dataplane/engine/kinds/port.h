/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * port/NAME: a DPDK port.
 */
#ifndef HR_KINDS_PORT_H
#define HR_KINDS_PORT_H

#include "../control/kind.h"

#define HR_DEVARGS_MAX 512 /**< With the terminating zero. */
#define HR_NETDEV_MAX 16   /**< IFNAMSIZ. */

extern struct hr_kind hr_port_kind;

struct hr_port_spec {
	char devargs[HR_DEVARGS_MAX];
	uint16_t rx_queues; /**< 1..HR_MAX_WORKERS. */
	uint16_t mtu;       /**< L3, HR_MTU_MIN..HR_MTU_MAX. */
	bool has_mac;
	struct rte_ether_addr mac;  /**< To set; the device's own is kept when !has_mac. */
	char netdev[HR_NETDEV_MAX]; /**< Kernel device to watch; "" for none. */
	bool promiscuous;
};

/* What it does: port/port.c. */

hr_prepare_fn hr_port_prepare;
hr_abort_fn hr_port_abort;
hr_apply_fn hr_port_apply;
/** Workers receive from new ports now that they know whose they are. */
hr_applied_fn hr_port_applied;
hr_remove_fn hr_port_remove;
/**
 * {"name","state","mac","mtu","driver","rxQueues":[{"queue","worker"}],"txQueues","losses",
 * "multicast","groups":[MAC],"refused":{FIELD: what came instead}}, and "reason" and "error" where the device
 * cannot be had.
 */
hr_describe_fn hr_port_describe;

#endif
