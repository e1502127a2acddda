/* SPDX-License-Identifier: Apache-2.0 */
#include "list.h"

#include <string.h>

static const struct {
	const char *name;
	hr_list_fn *fn;
} lists[] = {
		{"port", hr_list_port},
		{"network", hr_list_network},
		{"uplink", hr_list_uplink},
		{"interface", hr_list_interface},
		{"routes", hr_list_routes},
		{"route", hr_list_route},
		{"neighbor", hr_list_neighbor},
};

hr_list_fn *
hr_list_find(const char *name)
{
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		if (strcmp(lists[i].name, name) == 0)
			return lists[i].fn;
	}
	return NULL;
}
