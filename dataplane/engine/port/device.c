/* SPDX-License-Identifier: Apache-2.0 */
#include "device.h"

#include <errno.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>

#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <rte_mbuf.h>

#include "../worker.h"
#include "event.h"
#include "netdev.h"

/** What the MTU leaves out of a frame: Ethernet header and checksum, as rte_ethdev counts. */
#define FRAME_OVERHEAD (RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN)

const char *
hr_device_name(const char *devargs, char name[RTE_ETH_NAME_MAX_LEN])
{
	snprintf(name, RTE_ETH_NAME_MAX_LEN, "%.*s", (int)strcspn(devargs, ","), devargs);
	return name;
}

/** By the device's name: a driver may name its port otherwise. */
bool
hr_device_find(const char *name, uint16_t *id)
{
	struct rte_eth_dev_info info;
	uint16_t port;

	RTE_ETH_FOREACH_DEV(port) {
		if (rte_eth_dev_info_get(port, &info) == 0 && info.device != NULL &&
				strcmp(rte_dev_name(info.device), name) == 0) {
			*id = port;
			return true;
		}
	}
	return false;
}

/** The largest MTU whose frames fit one buffer of ours. */
static uint16_t
buffer_mtu(void)
{
	const uint16_t room = rte_pktmbuf_data_room_size(hr_pool) - RTE_PKTMBUF_HEADROOM;

	return room - FRAME_OVERHEAD;
}

/** The largest MTU that rte_ethdev lets a device have. */
static uint16_t
device_mtu(const struct rte_eth_dev_info *info)
{
	uint32_t overhead = FRAME_OVERHEAD;

	if (info->max_mtu != UINT16_MAX && info->max_rx_pktlen > info->max_mtu)
		overhead = info->max_rx_pktlen - info->max_mtu;
	return RTE_MIN((uint32_t)info->max_mtu, info->max_rx_pktlen - overhead);
}

uint16_t
hr_device_possible_mtu(const struct rte_eth_dev_info *info, uint16_t mtu)
{
	return RTE_MIN(mtu, RTE_MIN(device_mtu(info), buffer_mtu()));
}

int
hr_device_set_mtu(struct hr_device *device, uint16_t mtu)
{
	struct rte_eth_dev_info info;
	uint16_t possible;
	int error = rte_eth_dev_info_get(device->id, &info);

	if (error != 0)
		return error;
	possible = hr_device_possible_mtu(&info, mtu);
	/*
	 * A kernel device throws away what is larger than its MTU, unseen. One that came with a larger
	 * one keeps it: who sends too large a packet is told.
	 */
	if (device->netdev != 0)
		error = hr_netdev_set_mtu(device->netdev, RTE_MAX(possible, device->netdev_mtu));
	else
		error = rte_eth_dev_set_mtu(device->id, possible);
	if (error == -ENOTSUP) { /* It does not care; only our buffers do. */
		possible = RTE_MIN(mtu, buffer_mtu());
		error = 0;
	}
	if (error == 0)
		hr_device_mtu_set(device, mtu, possible);
	else if (error != -EBUSY)
		hr_device_refused(device, HR_REFUSED_MTU, "the device refuses %u (%s) and keeps %u",
				mtu, rte_strerror(-error), device->mtu);
	return error;
}

void
hr_device_mtu_set(struct hr_device *device, uint16_t wanted, uint16_t mtu)
{
	device->mtu = mtu;
	if (mtu >= wanted)
		hr_device_granted(device, HR_REFUSED_MTU);
	else if (mtu == buffer_mtu())
		hr_device_refused(device, HR_REFUSED_MTU,
				"%u of the %u wanted: packet buffers are no larger (--max-mtu)",
				mtu, wanted);
	else
		hr_device_refused(device, HR_REFUSED_MTU,
				"%u of the %u wanted: the device allows no more", mtu, wanted);
}

void
hr_device_ask_burst(struct hr_device *device)
{
	struct rte_eth_burst_mode mode;

	device->least_burst = 1;
	for (uint16_t queue = 0; queue < device->n_rx; queue++)
		if (rte_eth_rx_burst_mode_get(device->id, queue, &mode) != 0 ||
				strstr(mode.info, "Vector") != NULL)
			device->least_burst = HR_VECTOR_BURST;
}

int
hr_device_restart_with_mtu(struct hr_device *device, uint16_t mtu)
{
	int error = rte_eth_dev_stop(device->id);

	if (error != 0)
		return error;
	hr_device_set_mtu(device, mtu);
	error = rte_eth_dev_start(device->id);
	if (error == 0)
		hr_device_ask_burst(device); /* It may have chosen another way to receive. */
	return error;
}

int
hr_device_set_mac(struct hr_device *device, const struct rte_ether_addr *mac)
{
	struct rte_ether_addr before;
	int error = 0;

	if (device->virtual)
		return 0;
	if (rte_eth_macaddr_get(device->id, &before) != 0 ||
			!rte_is_same_ether_addr(&before, mac)) {
		device->mac_set = true;
		error = rte_eth_dev_default_mac_addr_set(device->id,
				(struct rte_ether_addr *)(uintptr_t)mac);
	}
	if (error == 0)
		hr_device_granted(device, HR_REFUSED_MAC);
	else
		hr_device_refused(device, HR_REFUSED_MAC,
				"the device keeps its own (%s): set it on the physical function, or "
				"trust the VF",
				rte_strerror(-error));
	return error;
}

void
hr_device_set_promiscuous(struct hr_device *device, bool on)
{
	int error = -ENOTSUP;

	if (!hr_driver(device->driver)->groups_alone)
		error = on ? rte_eth_promiscuous_enable(device->id)
			   : rte_eth_promiscuous_disable(device->id);
	if (on && error != 0)
		hr_device_refused(device, HR_REFUSED_PROMISCUOUS,
				"the device does not receive frames for others (%s): of a VF its physical "
				"function decides",
				rte_strerror(-error));
	else
		hr_device_granted(device, HR_REFUSED_PROMISCUOUS);
}

const char *
hr_refusal_name(enum hr_refusal what)
{
	static const char *const names[] = {
			[HR_REFUSED_MAC] = "mac",
			[HR_REFUSED_MTU] = "mtu",
			[HR_REFUSED_QUEUES] = "rxQueues",
			[HR_REFUSED_PROMISCUOUS] = "promiscuous",
	};

	return names[what];
}

void
hr_device_refused(struct hr_device *device, enum hr_refusal what, const char *format, ...)
{
	char text[HR_WHY_TEXT];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (strcmp(device->refused[what], text) == 0)
		return;
	memcpy(device->refused[what], text, sizeof(text));
	RTE_LOG(WARNING, USER1, "port id %u: %s: %s\n", device->id, hr_refusal_name(what), text);
}

void
hr_device_granted(struct hr_device *device, enum hr_refusal what)
{
	device->refused[what][0] = '\0';
}

bool
hr_device_link_up(const struct hr_device *device)
{
	char name[IF_NAMESIZE];
	struct rte_eth_link link;
	int flags;

	if (device->kernel == 0)
		return rte_eth_link_get_nowait(device->id, &link) == 0 &&
				link.link_status == RTE_ETH_LINK_UP;
	/*
	 * The drivers of kernel devices do not look (AF_PACKET), or complain at each look once
	 * the device was moved to another network namespace (tap), where it works on unseen.
	 */
	if (if_indextoname(device->kernel, name) == NULL)
		return true;
	flags = hr_netdev_flags(name, 0);
	return flags < 0 || (flags & (IFF_UP | IFF_RUNNING)) == (IFF_UP | IFF_RUNNING);
}

bool
hr_device_lost(const struct hr_device *device, const char *netdev, struct hr_why *why)
{
	switch (hr_device_event(device->id)) {
	case HR_DEVICE_IS_LEAVING:
		hr_why(why, HR_DEVICE_REMOVED,
				"the node took the device away: it is used again when it is back");
		return true;
	case HR_DEVICE_WAS_RESET:
		hr_why(why, HR_DEVICE_RESET,
				"its physical function was reset: it is used again when that is "
				"up");
		return true;
	case HR_DEVICE_NO_EVENT:
		break;
	}
	if (device->netdev == 0 || if_nametoindex(netdev) == device->netdev)
		return false;
	hr_why(why, HR_DEVICE_GONE, "the device %s vanished", netdev);
	return true;
}
