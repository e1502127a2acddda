/* SPDX-License-Identifier: Apache-2.0 */
#include "interface.h"

#include <stdio.h>
#include <stdlib.h>

#include "../control/addr.h"
#include "../control/check.h"
#include "../control/values.h"
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
		.describe = hr_interface_describe,
		.lists = {{"neighbor", hr_list_neighbor, {"port", "address"}}},
		.port = hr_interface_port,
};
HR_KIND_REGISTER(hr_interface_kind);
