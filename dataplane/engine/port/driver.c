/* SPDX-License-Identifier: Apache-2.0 */
#include "driver.h"

#include <string.h>

#include <rte_common.h>

/* Sources: DPDK's drivers (24.11) and Linux's of the physical functions (6.12). */
static const struct hr_driver drivers[] = {
		/* The mailbox has room for 30 hashes. */
		{.name = "net_e1000_igb_vf",
				.groups = 30,
				.groups_alone = true,
				.mac_unsaid = true},
		{.name = "net_ixgbe_vf", .groups = 30},
		/* What ice and i40e let a VF have that nobody trusts: 18 with its own address. */
		{.name = "net_iavf", .groups = 16},
		{.name = "mlx5_pci", .kernel = "mlx5_core", .groups = HR_GROUPS_MAX},
		{.name = "net_mlx4", .kernel = "mlx4_core", .groups = HR_GROUPS_MAX},
		{.name = "net_mana", .kernel = "mana", .groups = HR_GROUPS_MAX},
		{.name = "net_ena", .groups = HR_GROUPS_MAX},
		{.name = "net_gve", .groups = HR_GROUPS_MAX},
		{.name = "net_virtio", .groups = HR_GROUPS_MAX},
		{.name = "net_af_packet", .groups = HR_GROUPS_MAX, .copies = true},
		/* Unless it is told zero-copy=yes. */
		{.name = "net_memif", .groups = HR_GROUPS_MAX, .copies = true},
		{.name = "net_null", .groups = HR_GROUPS_MAX, .copies = true},
		{.name = "net_pcap", .groups = HR_GROUPS_MAX, .copies = true},
		{.name = "net_tap", .groups = HR_GROUPS_MAX, .copies = true},
		{.name = "net_vhost", .groups = HR_GROUPS_MAX, .copies = true},
};
static const struct hr_driver unknown = {.name = "", .groups = HR_GROUPS_MAX};

const struct hr_driver *
hr_driver(const char *name)
{
	for (unsigned i = 0; i < RTE_DIM(drivers); i++)
		if (strcmp(drivers[i].name, name) == 0)
			return &drivers[i];
	return &unknown;
}

bool
hr_driver_shares(const char *kernel)
{
	for (unsigned i = 0; i < RTE_DIM(drivers); i++)
		if (drivers[i].kernel != NULL && strcmp(drivers[i].kernel, kernel) == 0)
			return true;
	return false;
}
