/* SPDX-License-Identifier: Apache-2.0 */
#include "multicast.h"

static enum hr_multicast
join(const struct hr_device *device)
{
	const struct hr_driver *driver = hr_driver(device->driver);
	const uint16_t id = device->id;

	/* They hear everything; some say that they have a list, and have none. */
	if (device->virtual) {
		rte_eth_allmulticast_enable(id);
		return rte_eth_promiscuous_get(id) == 1 ? HR_MULTICAST_PROMISCUOUS
							: HR_MULTICAST_ALL;
	}
	if (!device->all || driver->groups_alone)
		rte_eth_allmulticast_disable(id);
	else
		rte_eth_allmulticast_enable(id);
	if (device->n_groups <= driver->groups &&
			rte_eth_dev_set_mc_addr_list(id,
					(struct rte_ether_addr *)(uintptr_t)device->groups,
					device->n_groups) == 0)
		return HR_MULTICAST_GROUPS;
	if (rte_eth_allmulticast_enable(id) == 0)
		return HR_MULTICAST_ALL;
	if (rte_eth_promiscuous_enable(id) == 0)
		return HR_MULTICAST_PROMISCUOUS;
	return HR_MULTICAST_NONE;
}

void
hr_device_join(struct hr_device *device, const struct rte_ether_addr *groups, unsigned n, bool all)
{
	device->n_groups = n;
	device->all = all;
	for (unsigned i = 0; i < RTE_MIN(n, (unsigned)HR_GROUPS_MAX); i++)
		device->groups[i] = groups[i];
	device->multicast = join(device);
}

void
hr_device_rejoin(struct hr_device *device)
{
	device->multicast = join(device);
}

const char *
hr_multicast_name(enum hr_multicast multicast)
{
	static const char *const names[] = {
			[HR_MULTICAST_NONE] = "none",
			[HR_MULTICAST_GROUPS] = "groups",
			[HR_MULTICAST_ALL] = "all",
			[HR_MULTICAST_PROMISCUOUS] = "promiscuous",
	};

	return names[multicast];
}
