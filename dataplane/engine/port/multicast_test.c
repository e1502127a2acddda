/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * How a device comes to hear multicast. The functions of rte_ethdev that ask a driver are the
 * test's own: drivers that refuse what is here refused need their hardware.
 */
#include "multicast.h"

#include <errno.h>
#include <stdio.h>

#include "../tests/check.h"

#define OK 0

/** What the driver says, and what it was asked for. */
static struct {
	int list, all, promiscuous;
	unsigned n;
	bool lists, hears_all, hears_everything;
} driver;

int
rte_eth_dev_set_mc_addr_list(uint16_t id, struct rte_ether_addr *list, uint32_t n)
{
	RTE_SET_USED(id);
	RTE_SET_USED(list);
	driver.n = n;
	driver.lists = driver.list == OK;
	return driver.list;
}

int
rte_eth_allmulticast_enable(uint16_t id)
{
	RTE_SET_USED(id);
	driver.hears_all = driver.all == OK;
	return driver.all;
}

int
rte_eth_allmulticast_disable(uint16_t id)
{
	RTE_SET_USED(id);
	driver.hears_all = false;
	return OK;
}

int
rte_eth_promiscuous_enable(uint16_t id)
{
	RTE_SET_USED(id);
	driver.hears_everything = driver.promiscuous == OK;
	return driver.promiscuous;
}

int
rte_eth_promiscuous_get(uint16_t id)
{
	RTE_SET_USED(id);
	return driver.hears_everything;
}

/** Join n groups. @return "groups", "all", "promiscuous" or "none" */
static const char *
join(struct hr_device *device, const char *name, unsigned n, bool all)
{
	struct rte_ether_addr groups[HR_GROUPS_MAX] = {{{0}}};

	snprintf(device->driver, sizeof(device->driver), "%s", name);
	for (unsigned i = 0; i < HR_GROUPS_MAX; i++)
		groups[i] = (struct rte_ether_addr){{0x33, 0x33, 0, 0, 0, (uint8_t)i}};
	hr_device_join(device, groups, n, all);
	return hr_multicast_name(device->multicast);
}

static bool
comes_to(const char *expected, const char *name, unsigned n, bool all)
{
	struct hr_device device = {0};

	return strcmp(join(&device, name, n, all), expected) == 0;
}

static void
test_order(void)
{
	driver.list = driver.all = driver.promiscuous = OK;
	CHECK(comes_to("groups", "net_any", 3, false) && driver.n == 3 && !driver.hears_all);
	CHECK(comes_to("groups", "net_any", 3, true) && driver.n == 3 && driver.hears_all);
	CHECK(comes_to("groups", "net_any", 0, false) && driver.n == 0 && !driver.hears_all);
	CHECK(comes_to("all", "net_any", HR_GROUPS_MAX + 1, false) && driver.hears_all);
	CHECK(!driver.hears_everything);
	driver.list = -ENOTSUP;
	CHECK(comes_to("all", "net_any", 3, false) && driver.hears_all);
	CHECK(!driver.hears_everything);
	driver.all = -ENOTSUP;
	CHECK(comes_to("promiscuous", "net_any", 3, true) && driver.hears_everything);
	driver.promiscuous = -EPERM;
	driver.hears_everything = false;
	CHECK(comes_to("none", "net_any", 3, false));
	/* All multicast may be refused, as long as groups are not. */
	driver.list = OK;
	CHECK(comes_to("groups", "net_iavf", 16, true) && driver.lists);
	CHECK(comes_to("none", "net_iavf", 17, true));
}

/** igb takes a VF's groups away from it when all multicast is asked for. */
static void
test_groups_alone(void)
{
	driver.list = driver.all = driver.promiscuous = OK;
	driver.hears_all = true;
	CHECK(comes_to("groups", "net_e1000_igb_vf", 30, true) && !driver.hears_all);
	CHECK(comes_to("all", "net_e1000_igb_vf", 31, true) && driver.hears_all);
}

static void
test_virtual(void)
{
	struct hr_device device = {.virtual = true};

	driver.lists = driver.hears_everything = false;
	CHECK(strcmp(join(&device, "net_any", 3, false), "all") == 0);
	driver.hears_everything = true;
	CHECK(strcmp(join(&device, "net_any", 3, false), "promiscuous") == 0 && !driver.lists);
	CHECK(device.n_groups == 3 && device.groups[2].addr_bytes[5] == 2);
}

/** A device that was stopped and started has forgotten them. */
static void
test_again(void)
{
	struct hr_device device = {0};

	driver.list = driver.all = OK;
	CHECK(strcmp(join(&device, "net_any", 5, false), "groups") == 0);
	driver.n = 0;
	hr_device_rejoin(&device);
	CHECK(driver.n == 5 && device.multicast == HR_MULTICAST_GROUPS);
}

int
main(void)
{
	test_order();
	test_groups_alone();
	test_virtual();
	test_again();
	return 0;
}
