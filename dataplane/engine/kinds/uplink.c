/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink.h"

#include <stdio.h>
#include <stdlib.h>

#include "../control/addr.h"
#include "../control/values.h"
#include "port.h"

/** Read the optional array of {"address", "mac"}. @return how many */
static uint16_t
read_neighbors(struct hr_reader *reader, struct hr_static_neighbor *neighbors)
{
	const json_t *array = hr_read_has(reader, "neighbors")
			? hr_read_array(reader, "neighbors", HR_UPLINK_NEIGHBORS_MAX)
			: NULL;
	const size_t n = json_array_size(array);

	for (size_t i = 0; i < n; i++) {
		struct hr_reader element;
		char path[64];

		snprintf(path, sizeof(path), "neighbors[%zu]", i);
		hr_read_begin(&element, json_array_get(array, i), path, reader->errors);
		hr_read_value(&element, "address", hr_parse_host6, &neighbors[i].address);
		hr_read_value(&element, "mac", hr_parse_mac, &neighbors[i].mac);
		hr_read_end(&element);
	}
	return (uint16_t)n;
}

static void *
parse(const json_t *json, struct hr_errors *errors)
{
	struct hr_reader reader;
	struct hr_uplink_spec *spec = hr_spec_begin(&reader, json, sizeof(*spec), errors);

	if (spec == NULL)
		return NULL;
	hr_read_text(&reader, "port", spec->port, sizeof(spec->port));
	spec->mtu = (uint16_t)hr_read_uint(&reader, "mtu", HR_MTU_MIN + HR_UNDERLAY_OVERHEAD,
			HR_MTU_MAX);
	spec->n_addresses = hr_read_values(&reader, "addresses", HR_UPLINK_ADDRESSES_MAX,
			hr_parse_underlay, spec->addresses, sizeof(spec->addresses[0]));
	if (spec->n_addresses == 0 && json_is_array(json_object_get(json, "addresses")))
		hr_read_error(&reader, "addresses", HR_INVALID_FIELD, "at least one is required");
	spec->n_on_link = hr_read_values(&reader, "onLink", HR_UPLINK_ON_LINK_MAX, hr_parse_prefix6,
			spec->on_link, sizeof(spec->on_link[0]));
	spec->has_gateway = hr_read_optional(&reader, "gateway", hr_parse_host6, &spec->gateway);
	spec->n_neighbors = read_neighbors(&reader, spec->neighbors);
	spec->weight = hr_read_has(&reader, "weight")
			? (uint16_t)hr_read_uint(&reader, "weight", 1, UINT16_MAX)
			: 1;
	return hr_spec_end(&reader, spec);
}

static const char *
port_name(const void *spec, uint32_t i)
{
	return i == 0 ? ((const struct hr_uplink_spec *)spec)->port : NULL;
}

void
hr_underlay_claim(struct hr_check *check, const char *field, const struct hr_ip6 *address)
{
	/* All uplinks of a node have its address. */
	static struct hr_resource addresses = {.shared_by = &hr_uplink_kind};
	char text[HR_ADDR_TEXT];

	hr_claim(check, &addresses, field, address->b, sizeof(address->b),
			hr_ip6_format(address, text));
}

static void
claim(struct hr_check *check, const void *spec)
{
	const struct hr_uplink_spec *uplink = spec;

	for (unsigned i = 0; i < uplink->n_addresses; i++) {
		char field[32];

		snprintf(field, sizeof(field), "addresses[%u]", i);
		hr_underlay_claim(check, field, &uplink->addresses[i]);
	}
}

struct hr_kind hr_uplink_kind = {
		.name = "uplink",
		.plural = "uplinks",
		.order = 30,
		.parse = parse,
		.free_spec = free,
		.references = {{.field = "port",
				.kind = &hr_port_kind,
				.name = port_name,
				.is_exclusive = true}},
		.claim = claim,
		.prepare = hr_uplink_prepare,
		.abort = free,
		.apply = hr_uplink_apply,
		.remove = hr_uplink_remove,
		.describe = hr_uplink_describe,
		.lists = {{"pathMtu", hr_list_path_mtu, {"underlay"}}},
		.port = hr_uplink_port,
};
HR_KIND_REGISTER(hr_uplink_kind);
