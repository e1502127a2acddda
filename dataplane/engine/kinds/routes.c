/* SPDX-License-Identifier: Apache-2.0 */
#include "routes.h"

#include <stdio.h>
#include <stdlib.h>

#include "../control/addr.h"
#include "../control/store.h"
#include "../control/values.h"
#include "network.h"

static void
free_spec(void *spec)
{
	struct hr_routes_spec *routes = spec;

	if (routes == NULL)
		return;
	free(routes->routes);
	free(routes->next_hops);
	free(routes->networks);
	free(routes);
}

/** Index of a next-hop network's name in spec->networks; added when new. */
static uint32_t
intern_network(struct hr_reader *reader, const char *field, struct hr_routes_spec *spec,
		json_t *indexes, const char *name)
{
	const json_t *index = json_object_get(indexes, name);
	char(*bigger)[HR_NAME_MAX];

	if (index != NULL)
		return (uint32_t)json_integer_value(index);
	if (spec->n_networks == HR_MAX_NETWORKS) {
		hr_read_error(reader, field, HR_LIMIT_EXCEEDED, "at most %u different networks",
				HR_MAX_NETWORKS);
		return 0;
	}
	bigger = realloc(spec->networks, (spec->n_networks + 1) * sizeof(*bigger));
	if (bigger == NULL ||
			json_object_set_new(indexes, name, json_integer(spec->n_networks)) != 0) {
		spec->networks = bigger != NULL ? bigger : spec->networks;
		hr_read_error(reader, field, HR_OUT_OF_MEMORY, "out of memory");
		return 0;
	}
	spec->networks = bigger;
	memcpy(bigger[spec->n_networks], name, strlen(name) + 1);
	return spec->n_networks++;
}

/** One next hop: "address", ["address", weight] or {"network", "weight"}. */
static void
read_next_hop(struct hr_reader *reader, const char *field, struct hr_routes_spec *spec,
		json_t *indexes, const json_t *json, struct hr_next_hop *hop)
{
	*hop = (struct hr_next_hop){.type = HR_NH_UNDERLAY, .weight = 1};
	if (json_is_object(json)) {
		struct hr_reader inner;
		const char *name;

		hr_read_begin(&inner, json, field, reader->errors);
		name = hr_read_string(&inner, "network", HR_NAME_MAX - 1);
		hop->weight = (uint16_t)hr_read_uint(&inner, "weight", 1, UINT16_MAX);
		hop->type = HR_NH_NETWORK;
		if (name != NULL)
			hop->network = intern_network(reader, field, spec, indexes, name);
		hr_read_end(&inner);
		return;
	}
	if (json_is_array(json)) {
		const json_t *weight = json_array_get(json, 1);

		if (json_array_size(json) != 2 || !json_is_integer(weight) ||
				json_integer_value(weight) < 1 ||
				json_integer_value(weight) > UINT16_MAX) {
			hr_read_error(reader, field, HR_INVALID_FIELD,
					"must be [address, weight], weight from 1 to %u",
					UINT16_MAX);
			return;
		}
		hop->weight = (uint16_t)json_integer_value(weight);
		json = json_array_get(json, 0);
	}
	hr_read_json(reader, field, json, hr_parse_underlay, &hop->underlay);
}

/** One route: [prefix, next hop...]. */
static void
read_route(struct hr_reader *reader, size_t i, struct hr_routes_spec *spec, json_t *indexes,
		const json_t *json)
{
	struct hr_route_spec *route = &spec->routes[spec->n_routes++];
	size_t n = json_array_size(json);
	struct hr_prefix prefix;
	char field[64];

	if (n < 1 || n - 1 > HR_MAX_NEXT_HOPS) {
		snprintf(field, sizeof(field), "routes[%zu]", i);
		hr_read_error(reader, field, HR_INVALID_FIELD,
				"must be [prefix, next hop...], with at most %u next hops",
				HR_MAX_NEXT_HOPS);
		return;
	}
	snprintf(field, sizeof(field), "routes[%zu][0]", i);
	if (hr_read_json(reader, field, json_array_get(json, 0), hr_parse_prefix, &prefix)) {
		route->family = prefix.addr.family;
		route->len = prefix.len;
		if (prefix.addr.family == 4)
			memcpy(route->addr, &prefix.addr.ip4, sizeof(prefix.addr.ip4));
		else
			memcpy(route->addr, prefix.addr.ip6.b, sizeof(prefix.addr.ip6.b));
	}
	route->n = (uint16_t)(n - 1);
	route->first = spec->n_next_hops;
	for (size_t hop = 1; hop < n; hop++) {
		snprintf(field, sizeof(field), "routes[%zu][%zu]", i, hop);
		read_next_hop(reader, field, spec, indexes, json_array_get(json, hop),
				&spec->next_hops[spec->n_next_hops++]);
	}
}

static int
compare_routes(const void *a, const void *b)
{
	return hr_route_compare(a, b);
}

static void
sort_routes(struct hr_reader *reader, struct hr_routes_spec *spec)
{
	qsort(spec->routes, spec->n_routes, sizeof(*spec->routes), compare_routes);
	for (uint32_t i = 1; i < spec->n_routes; i++) {
		char text[HR_PREFIX_TEXT];
		struct hr_prefix prefix;

		if (hr_route_compare(&spec->routes[i - 1], &spec->routes[i]) != 0)
			continue;
		prefix = hr_route_prefix(&spec->routes[i]);
		hr_read_error(reader, "routes", HR_DUPLICATE, "%s is there twice",
				hr_prefix_format(&prefix, text));
	}
}

static void *
parse(const json_t *json, struct hr_errors *errors)
{
	struct hr_reader reader;
	struct hr_routes_spec *spec = hr_spec_begin(&reader, json, sizeof(*spec), errors);
	size_t n_routes, n_next_hops = 0;
	const json_t *routes;
	json_t *indexes;

	if (spec == NULL)
		return NULL;
	hr_read_text(&reader, "network", spec->network, sizeof(spec->network));
	routes = hr_read_array(&reader, "routes", HR_SLICE_ROUTES_MAX);
	n_routes = json_array_size(routes);
	for (size_t i = 0; i < n_routes; i++) {
		size_t n = json_array_size(json_array_get(routes, i));

		if (n > 1 && n - 1 <= HR_MAX_NEXT_HOPS)
			n_next_hops += n - 1;
	}
	spec->routes = calloc(n_routes + 1, sizeof(*spec->routes));
	spec->next_hops = calloc(n_next_hops + 1, sizeof(*spec->next_hops));
	indexes = json_object();
	if (spec->routes == NULL || spec->next_hops == NULL || indexes == NULL) {
		hr_read_error(&reader, "", HR_OUT_OF_MEMORY, "out of memory");
	} else {
		for (size_t i = 0; i < n_routes; i++)
			read_route(&reader, i, spec, indexes, json_array_get(routes, i));
	}
	json_decref(indexes);
	if (errors->count == reader.errors_before)
		sort_routes(&reader, spec);
	if (hr_read_end(&reader) == 0)
		return spec;
	free_spec(spec);
	return NULL;
}

static const char *
network_name(const void *spec, uint32_t i)
{
	return i == 0 ? ((const struct hr_routes_spec *)spec)->network : NULL;
}

static const char *
next_hop_name(const void *spec, uint32_t i)
{
	const struct hr_routes_spec *routes = spec;

	return i < routes->n_networks ? routes->networks[i] : NULL;
}

static size_t
size(const void *spec)
{
	return ((const struct hr_routes_spec *)spec)->n_routes;
}

struct hr_kind hr_routes_kind = {
		.name = "routes",
		.plural = "routes",
		.order = 50,
		.parse = parse,
		.free_spec = free_spec,
		.references = {{.field = "network", .kind = &hr_network_kind, .name = network_name},
				{.field = "routes",
						.kind = &hr_network_kind,
						.name = next_hop_name}},
		.max = HR_MAX_ROUTES,
		.size = size,
		.prepare = hr_routes_prepare,
		.abort = hr_routes_abort,
		.apply = hr_routes_apply,
		.remove = hr_routes_remove,
		.describe = hr_routes_describe,
		.lists = {{"route", hr_list_route, {"network", "slice", "prefix", "match"}}},
};
HR_KIND_REGISTER(hr_routes_kind);
