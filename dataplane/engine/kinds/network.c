/* SPDX-License-Identifier: Apache-2.0 */
#include "network.h"

#include <stdio.h>
#include <stdlib.h>

#include "../control/check.h"
#include "../control/store.h"
#include "../control/values.h"

/** Read the optional array of {"address", "vni", "mac"}, behind the endpoints that there are. */
static void
read_vxlan_endpoints(struct hr_reader *reader, struct hr_network_spec *spec)
{
	const json_t *array = hr_read_has(reader, "vxlanEndpoints")
			? hr_read_array(reader, "vxlanEndpoints",
					  HR_MAX_ENDPOINTS - spec->n_endpoints)
			: NULL;
	const size_t n = json_array_size(array);

	for (size_t i = 0; i < n; i++) {
		struct hr_underlay_endpoint *endpoint = &spec->endpoints[spec->n_endpoints];
		struct hr_reader element;
		char path[64];

		snprintf(path, sizeof(path), "vxlanEndpoints[%zu]", i);
		hr_read_begin(&element, json_array_get(array, i), path, reader->errors);
		hr_read_value(&element, "address", hr_parse_underlay, &endpoint->address);
		endpoint->vxlan.vni = (uint32_t)hr_read_uint(&element, "vni", 1, HR_VNI_MAX);
		hr_read_value(&element, "mac", hr_parse_mac, &endpoint->vxlan.mac);
		if (hr_network_endpoint(spec, &endpoint->address) != NULL)
			hr_read_error(&element, "address", HR_DUPLICATE, "is there twice");
		hr_read_end(&element);
		spec->n_endpoints++;
	}
}

static void
read_endpoints(struct hr_reader *reader, struct hr_network_spec *spec)
{
	struct hr_ip6 addresses[HR_MAX_ENDPOINTS];

	spec->n_endpoints = hr_read_optional_values(reader, "endpoints", HR_MAX_ENDPOINTS,
			hr_parse_underlay, addresses, sizeof(addresses[0]));
	for (uint16_t i = 0; i < spec->n_endpoints; i++)
		spec->endpoints[i].address = addresses[i];
	read_vxlan_endpoints(reader, spec);
}

const struct hr_underlay_endpoint *
hr_network_endpoint(const struct hr_network_spec *spec, const struct hr_ip6 *address)
{
	for (uint16_t i = 0; i < spec->n_endpoints; i++)
		if (memcmp(&spec->endpoints[i].address, address, sizeof(*address)) == 0)
			return &spec->endpoints[i];
	return NULL;
}

static void *
parse(const json_t *json, struct hr_errors *errors)
{
	struct hr_reader reader;
	struct hr_network_spec *spec = hr_spec_begin(&reader, json, sizeof(*spec), errors);

	if (spec == NULL)
		return NULL;
	spec->vni = (uint32_t)hr_read_uint(&reader, "vni", 1, HR_VNI_MAX);
	spec->dscp = HR_DSCP_COPIED;
	if (hr_read_has(&reader, "dscp"))
		spec->dscp = (int8_t)hr_read_uint(&reader, "dscp", 0, HR_DSCP_MAX);
	spec->n_gateways = hr_read_values(&reader, "gateways", HR_NETWORK_GATEWAYS_MAX,
			hr_parse_host, spec->gateways, sizeof(spec->gateways[0]));
	read_endpoints(&reader, spec);
	return hr_spec_end(&reader, spec);
}

static void
claim(struct hr_check *check, const void *spec)
{
	static struct hr_resource vnis;
	const struct hr_network_spec *network = spec;
	char text[16];

	snprintf(text, sizeof(text), "%u", network->vni);
	hr_claim(check, &vnis, "vni", &network->vni, sizeof(network->vni), text);
}

static uint64_t
count(void)
{
	return hr_store_count(&hr_network_kind);
}

struct hr_kind hr_network_kind = {
		.name = "network",
		.plural = "networks",
		.order = 20,
		.features = {"DSCPOfNetworks"},
		.parse = parse,
		.free_spec = free,
		.claim = claim,
		.max = HR_MAX_NETWORKS,
		.prepare = hr_network_prepare,
		.abort = hr_network_abort,
		.apply = hr_network_apply,
		.remove = hr_network_remove,
		.describe = hr_network_describe,
		.figures = {{"networks", count}, {"routes", hr_network_routes},
				{"fib_bytes", hr_network_fib_bytes}},
};
HR_KIND_REGISTER(hr_network_kind);
