/* SPDX-License-Identifier: Apache-2.0 */
#include "interface.h"

#include <stdio.h>
#include <stdlib.h>

#include "../control/addr.h"
#include "../control/check.h"
#include "../control/values.h"
#include "../table/interface.h"
#include "../table/json.h"
#include "../table/network.h"
#include "network.h"
#include "port.h"
#include "uplink.h"

static void *
parse(const json_t *json, struct hr_errors *errors)
{
	struct hr_reader reader;
	struct hr_interface_spec *spec = hr_spec_begin(&reader, json, sizeof(*spec), errors);

	if (spec == NULL)
		return NULL;
	hr_read_text(&reader, "port", spec->port, sizeof(spec->port));
	hr_read_text(&reader, "network", spec->network, sizeof(spec->network));
	spec->n_addresses = hr_read_values(&reader, "addresses", HR_MAX_ADDRESSES, hr_parse_host,
			spec->addresses, sizeof(spec->addresses[0]));
	spec->n_prefixes = hr_read_values(&reader, "prefixes", HR_MAX_PREFIXES, hr_parse_prefix,
			spec->prefixes, sizeof(spec->prefixes[0]));
	spec->n_gateways = hr_read_values(&reader, "gateways", HR_MAX_GATEWAYS, hr_parse_host,
			spec->gateways, sizeof(spec->gateways[0]));
	spec->has_mac = hr_read_optional(&reader, "mac", hr_parse_mac, &spec->mac);
	hr_read_value(&reader, "underlay", hr_parse_underlay, &spec->underlay);
	spec->n_former = hr_read_optional_values(&reader, "formerUnderlayAddresses", HR_MAX_FORMER,
			hr_parse_underlay, spec->former, sizeof(spec->former[0]));
	spec->source_check = hr_read_bool(&reader, "sourceCheck");
	spec->mtu = (uint16_t)hr_read_uint(&reader, "mtu", HR_MTU_MIN, HR_MTU_MAX);
	return hr_spec_end(&reader, spec);
}

static const char *
port_name(const void *spec, uint32_t i)
{
	return i == 0 ? ((const struct hr_interface_spec *)spec)->port : NULL;
}

static const char *
network_name(const void *spec, uint32_t i)
{
	return i == 0 ? ((const struct hr_interface_spec *)spec)->network : NULL;
}

static void
claim(struct hr_check *check, const void *spec)
{
	const struct hr_interface_spec *interface = spec;

	hr_underlay_claim(check, "underlay", &interface->underlay);
	for (unsigned i = 0; i < interface->n_former; i++) {
		char field[48];

		snprintf(field, sizeof(field), "formerUnderlayAddresses[%u]", i);
		hr_underlay_claim(check, field, &interface->former[i]);
	}
}

static json_t *
describe(const struct hr_object *object)
{
	const struct hr_interface_spec *spec = object->spec;
	const struct hr_interface *interface = object->state;
	json_t *addresses = json_array(), *prefixes = json_array(), *gateways = json_array(),
	       *former = json_array(), *item;
	enum hr_neigh_state state = HR_NEIGH_UNRESOLVED;
	struct rte_ether_addr mac = {0};
	char text[HR_ADDR_TEXT];

	for (uint16_t i = 0; i < spec->n_addresses; i++)
		hr_json_append_addr(addresses, &spec->addresses[i]);
	for (uint16_t i = 0; i < spec->n_prefixes; i++)
		hr_json_append_prefix(prefixes, &spec->prefixes[i]);
	for (uint16_t i = 0; i < spec->n_gateways; i++)
		hr_json_append_addr(gateways, &spec->gateways[i]);
	for (uint16_t i = 0; i < spec->n_former; i++)
		hr_json_append_ip6(former, &spec->former[i]);
	if (interface->neigh != NULL)
		state = hr_neigh_state(interface->neigh, &mac);
	item = json_pack("{s:s, s:s, s:I, s:s, s:s, s:o, s:o, s:o, s:s, s:s, s:b, s:i}", "name",
			object->key, "network", spec->network, "vni",
			(json_int_t)hr_network_vrf(spec->network)->vni, "port", spec->port, "state",
			hr_port_state_name(hr_port_state(interface->port)), "addresses", addresses,
			"prefixes", prefixes, "gateways", gateways, "macState",
			hr_neigh_state_name(state), "underlay",
			hr_ip6_format(&interface->underlay[0], text), "sourceCheck",
			spec->source_check, "mtu", spec->mtu);
	json_object_set_new(item, "formerUnderlayAddresses", former);
	json_object_set_new(item, "mac",
			rte_is_zero_ether_addr(&mac) ? json_null() : hr_json_mac(&mac));
	return item;
}

static const struct hr_port *
port_of(const struct hr_object *object)
{
	return hr_port_get(port_name(object->spec, 0));
}

struct hr_kind hr_interface_kind = {
		.name = "interface",
		.plural = "interfaces",
		.order = 40,
		.parse = parse,
		.free_spec = free,
		.references = {{.field = "port",
					       .kind = &hr_port_kind,
					       .name = port_name,
					       .is_exclusive = true},
				{.field = "network",
						.kind = &hr_network_kind,
						.name = network_name}},
		.claim = claim,
		.prepare = hr_interface_prepare,
		.abort = hr_interface_abort,
		.apply = hr_interface_apply,
		.remove = hr_interface_remove,
		.describe = describe,
		.lists = {{"neighbor", hr_list_neighbor}},
		.port = port_of,
};
HR_KIND_REGISTER(hr_interface_kind);
