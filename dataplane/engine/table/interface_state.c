/* SPDX-License-Identifier: Apache-2.0 */
#include "interface_state.h"

#include "../control/map.h"

static struct hr_map by_underlay;

const struct hr_interface *
hr_interface_by_underlay(const struct hr_ip6 *underlay)
{
	return hr_map_get(&by_underlay, underlay->b, sizeof(underlay->b));
}

void
hr_interface_rewrite(const struct hr_interface *interface, struct hr_adj *adj)
{
	const struct hr_interface_spec *spec = interface->object->spec;

	memset(adj->rewrite, 0, sizeof(adj->rewrite));
	memcpy(adj->rewrite + RTE_ETHER_ADDR_LEN, interface->gateway_mac.addr_bytes,
			RTE_ETHER_ADDR_LEN);
	hr_adj_set_mtu(adj, RTE_MIN(spec->mtu, hr_port_mtu(interface->port)));
	hr_adj_set_port(adj, interface->port_id);
	adj->ready_op = HR_OP_ETH;
}

int
hr_interface_reserve(void)
{
	return hr_map_reserve(&by_underlay, HR_MAX_PORTS * (1 + HR_MAX_FORMER));
}

void
hr_interface_release_underlay(struct hr_interface *interface)
{
	for (uint16_t i = 0; i < interface->n_underlay; i++) {
		const struct hr_ip6 *underlay = &interface->underlay[i];

		if (hr_interface_by_underlay(underlay) == interface)
			hr_map_remove(&by_underlay, underlay->b, sizeof(underlay->b));
	}
	interface->n_underlay = 0;
}

void
hr_interface_take_underlay(struct hr_interface *interface, const struct hr_interface_spec *spec)
{
	interface->n_underlay = 1 + spec->n_former;
	interface->underlay[0] = spec->underlay;
	memcpy(&interface->underlay[1], spec->former, spec->n_former * sizeof(spec->former[0]));
	for (uint16_t i = 0; i < interface->n_underlay; i++) {
		const struct hr_ip6 *underlay = &interface->underlay[i];

		hr_map_remove(&by_underlay, underlay->b, sizeof(underlay->b));
		hr_map_put(&by_underlay, underlay->b, sizeof(underlay->b), interface);
	}
}
