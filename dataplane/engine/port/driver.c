/* SPDX-License-Identifier: Apache-2.0 */
#include "driver.h"

#include <string.h>

#include <rte_common.h>

/* Sources: DPDK's drivers (24.11) and Linux's of the physical functions (6.12). */
static const struct hr_driver drivers[] = {
		/* The mailbox has room for 30 hashes. */
		{"net_e1000_igb_vf", NULL, 30, true, true},
		{"net_ixgbe_vf", NULL, 30, false, false},
		/* What ice and i40e let a VF have that nobody trusts: 18 with its own address. */
		{"net_iavf", NULL, 16, false, false},
		{"mlx5_pci", "mlx5_core", HR_GROUPS_MAX, false, false},
		{"net_mlx4", "mlx4_core", HR_GROUPS_MAX, false, false},
		{"net_mana", "mana", HR_GROUPS_MAX, false, false},
		{"net_ena", NULL, HR_GROUPS_MAX, false, false},
		{"net_gve", NULL, HR_GROUPS_MAX, false, false},
		{"net_virtio", NULL, HR_GROUPS_MAX, false, false},
};
static const struct hr_driver unknown = {"", NULL, HR_GROUPS_MAX, false, false};

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
