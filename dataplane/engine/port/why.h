/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Why a device cannot be had, or is not as it was asked for.
 */
#ifndef HR_PORT_WHY_H
#define HR_PORT_WHY_H

#define HR_WHY_TEXT 256 /**< Room for the text. */

/** Reasons that have a name of their own: seen in lists, conditions and metrics. */
#define HR_DEVICE_GONE "DeviceGone"       /**< Not there, or not any more. */
#define HR_DEVICE_REMOVED "DeviceRemoved" /**< Hardware that the node took away. */
#define HR_DEVICE_RESET "DeviceReset"     /**< Its physical function was reset. */
/** It is in another IOMMU group than those whose device nodes there are. */
#define HR_DEVICE_NODE_CHANGED "DeviceNodeChanged"
#define HR_DEVICE_NOT_BOUND "DeviceNotBound"   /**< To no driver of DPDK's. */
#define HR_MEMORY_LOCK_LIMIT "MemoryLockLimit" /**< The device may not reach our memory. */
/** Its queues may take more packet buffers than are left. */
#define HR_PACKET_BUFFER_LIMIT "PacketBufferLimit"

struct hr_why {
	const char *reason;     /**< One of the above; NULL: none of them. */
	char text[HR_WHY_TEXT]; /**< For people: what is wrong, and what to do. "": nothing. */
};

/** Say why. Control thread. */
void hr_why(struct hr_why *why, const char *reason, const char *format, ...)
		__attribute__((format(printf, 3, 4)));

#endif
