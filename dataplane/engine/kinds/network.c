/* SPDX-License-Identifier: Apache-2.0 */
#include "network.h"

#include <stdio.h>
#include <stdlib.h>

#include "../control/check.h"
#include "../control/values.h"
#include "../table/json.h"
#include "../table/network.h"

static void *
parse(const json_t *json, struct hr_errors *errors)
{
	struct hr_reader reader;
	struct hr_network_spec *spec = hr_spec_begin(&reader, json, sizeof(*spec), errors);

	if (spec == NULL)
		return NULL;
	spec->vni = (uint32_t)hr_read_uint(&reader, "vni", 1, HR_VNI_MAX);
	spec->n_gateways = hr_read_values(&reader, "gateways", HR_NETWORK_GATEWAYS_MAX,
			hr_parse_host, spec->gateways, sizeof(spec->gateways[0]));
	spec->n_endpoints = hr_read_optional_values(&reader, "endpoints", HR_MAX_ENDPOINTS,
			hr_parse_underlay, spec->endpoints, sizeof(spec->endpoints[0]));
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

static json_t *
describe(const struct hr_object *object)
{
	const struct hr_network_spec *spec = object->spec;
	const struct hr_vrf *vrf = object->state;
	json_t *gateways = json_array(), *endpoints = json_array();

	for (uint16_t i = 0; i < spec->n_gateways; i++)
		hr_json_append_addr(gateways, &spec->gateways[i]);
	for (uint16_t i = 0; i < spec->n_endpoints; i++)
		hr_json_append_ip6(endpoints, &spec->endpoints[i]);
	return json_pack("{s:s, s:I, s:o, s:o, s:I, s:I, s:I}", "name", object->key, "vni",
			(json_int_t)spec->vni, "gateways", gateways, "endpoints", endpoints,
			"routes4", (json_int_t)hr_fib_count(vrf->fib4), "routes6",
			(json_int_t)hr_fib_count(vrf->fib6), "bytes",
			(json_int_t)(hr_fib_bytes(vrf->fib4) + hr_fib_bytes(vrf->fib6)));
}

static uint64_t
count(void)
{
	return hr_store_count(&hr_network_kind);
}

static uint64_t
count_routes(void)
{
	uint64_t routes = 0;

	for (size_t i = 0; i < hr_store_count(&hr_network_kind); i++) {
		const struct hr_vrf *vrf = hr_store_at(&hr_network_kind, i)->state;

		routes += hr_fib_count(vrf->fib4) + hr_fib_count(vrf->fib6);
	}
	return routes;
}

static uint64_t
count_bytes(void)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < hr_store_count(&hr_network_kind); i++) {
		const struct hr_vrf *vrf = hr_store_at(&hr_network_kind, i)->state;

		bytes += hr_fib_bytes(vrf->fib4) + hr_fib_bytes(vrf->fib6);
	}
	return bytes;
}

struct hr_kind hr_network_kind = {
		.name = "network",
		.plural = "networks",
		.order = 20,
		.parse = parse,
		.free_spec = free,
		.claim = claim,
		.max = HR_MAX_NETWORKS,
		.prepare = hr_network_prepare,
		.abort = hr_network_abort,
		.apply = hr_network_apply,
		.remove = hr_network_remove,
		.describe = describe,
		.figures = {{"networks", count}, {"routes", count_routes},
				{"fib_bytes", count_bytes}},
};
HR_KIND_REGISTER(hr_network_kind);
