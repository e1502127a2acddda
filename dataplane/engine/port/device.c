/* SPDX-License-Identifier: Apache-2.0 */
#include "device.h"

#include <errno.h>
#include <net/if.h>
#include <stdio.h>

#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <rte_mbuf.h>

#include "../worker.h"
#include "netdev.h"

/** What the MTU leaves out of a frame: Ethernet header and checksum, as rte_ethdev counts. */
#define FRAME_OVERHEAD (RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN)

/** Hardware that has told of its removal, by port id. */
static bool removed[HR_MAX_PORTS];

static int
on_removal(uint16_t id, enum rte_eth_event_type event, void *arg, void *ret)
{
	RTE_SET_USED(event);
	RTE_SET_USED(arg);
	RTE_SET_USED(ret);
	__atomic_store_n(&removed[id], true, __ATOMIC_RELEASE);
	return 0;
}

int
hr_device_init(void)
{
	return rte_eth_dev_callback_register(RTE_ETH_ALL, RTE_ETH_EVENT_INTR_RMV, on_removal, NULL);
}

void
hr_device_forget(uint16_t id)
{
	__atomic_store_n(&removed[id], false, __ATOMIC_RELEASE);
}

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
	error = rte_eth_dev_set_mtu(device->id, possible);
	if (error == -ENOTSUP) { /* It does not care; only our buffers do. */
		device->mtu = RTE_MIN(mtu, buffer_mtu());
		return 0;
	}
	if (error == 0)
		device->mtu = possible;
	return error;
}

int
hr_device_restart_with_mtu(struct hr_device *device, uint16_t mtu)
{
	int error = rte_eth_dev_stop(device->id);

	if (error != 0)
		return error;
	error = hr_device_set_mtu(device, mtu);
	if (error != 0)
		RTE_LOG(WARNING, USER1, "port id %u: MTU %u refused: %s\n", device->id, mtu,
				rte_strerror(-error));
	return rte_eth_dev_start(device->id);
}

int
hr_device_set_mac(const struct hr_device *device, const struct rte_ether_addr *mac)
{
	return device->virtual ? 0
			       : rte_eth_dev_default_mac_addr_set(device->id,
						 (struct rte_ether_addr *)(uintptr_t)mac);
}

void
hr_device_set_promiscuous(const struct hr_device *device, bool on)
{
	if (on)
		rte_eth_promiscuous_enable(device->id);
	else
		rte_eth_promiscuous_disable(device->id);
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
hr_device_vanished(const struct hr_device *device, const char *netdev)
{
	return __atomic_load_n(&removed[device->id], __ATOMIC_ACQUIRE) ||
			(device->netdev != 0 && if_nametoindex(netdev) != device->netdev);
}
