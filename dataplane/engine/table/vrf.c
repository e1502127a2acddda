/* SPDX-License-Identifier: Apache-2.0 */
#include "vrf.h"

#include "../control/store.h"
#include "../kinds/network.h"

struct hr_vrfs hr_vrfs = LIST_HEAD_INITIALIZER(hr_vrfs);

uint32_t
hr_route_owner(void)
{
	static uint32_t last;

	return ++last;
}

struct hr_vrf *
hr_network_vrf(const char *name)
{
	const struct hr_object *object = hr_store_get(&hr_network_kind, name);

	return object == NULL ? NULL : object->state;
}
