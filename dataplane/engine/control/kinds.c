/* SPDX-License-Identifier: Apache-2.0 */
#include "kind.h"

const struct hr_kind_ops *const hr_kinds[HR_KIND_COUNT] = {
		[HR_KIND_SETTINGS] = &hr_settings_ops,
		[HR_KIND_PORT] = &hr_port_ops,
		[HR_KIND_NETWORK] = &hr_network_ops,
		[HR_KIND_UPLINK] = &hr_uplink_ops,
		[HR_KIND_INTERFACE] = &hr_interface_ops,
		[HR_KIND_ROUTES] = &hr_routes_ops,
};

int
hr_kind_find(const char *name)
{
	for (int kind = 0; kind < HR_KIND_COUNT; kind++) {
		if (strcmp(hr_kinds[kind]->name, name) == 0)
			return kind;
	}
	return -1;
}
