/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * From JSON to the specs of every kind.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "addr.h"
#include "kind.h"
#include "reader.h"

/** Parse a text into *value, padding zeroed. NULL, or what the text must be. */
typedef const char *(*parse_value)(const char *text, void *value);

static const char *
parse_host(const char *text, void *value)
{
	if (hr_addr_parse(text, value) == 0 && hr_addr_is_host(value))
		return NULL;
	return "must be an IPv4 or IPv6 unicast address";
}

static const char *
parse_host6(const char *text, void *value)
{
	struct hr_addr addr;

	if (hr_addr_parse(text, &addr) == 0 && addr.family == 6 && hr_addr_is_host(&addr)) {
		*(struct hr_ip6 *)value = addr.ip6;
		return NULL;
	}
	return "must be an IPv6 unicast address";
}

/** What can be the outer destination of an encapsulated packet. */
static const char *
parse_underlay(const char *text, void *value)
{
	const struct hr_ip6 *ip6 = value;

	if (parse_host6(text, value) == NULL && !(ip6->b[0] == 0xfe && (ip6->b[1] & 0xc0) == 0x80))
		return NULL;
	return "must be an IPv6 unicast address that is not link-local";
}

static const char *
parse_prefix(const char *text, void *value)
{
	switch (hr_prefix_parse(text, value)) {
	case 0:
		return NULL;
	case -ERANGE:
		return "must be a prefix with no bits set after its length";
	default:
		return "must be an IPv4 or IPv6 prefix, as 10.0.0.0/8";
	}
}

static const char *
parse_prefix6(const char *text, void *value)
{
	const char *must = parse_prefix(text, value);

	if (must == NULL && ((struct hr_prefix *)value)->addr.family != 6)
		must = "must be an IPv6 prefix";
	return must;
}

/** What nodes get a /64 each of. */
static const char *
parse_node_pool(const char *text, void *value)
{
	const struct hr_prefix *prefix = value;
	const char *must = parse_prefix6(text, value);

	if (must == NULL && (prefix->len < 1 || prefix->len > 64))
		must = "must be an IPv6 prefix of 1 to 64 bits";
	return must;
}

static const char *
parse_mac(const char *text, void *value)
{
	if (hr_mac_parse(text, value) == 0 && rte_is_valid_assigned_ether_addr(value))
		return NULL;
	return "must be a unicast MAC address, as 02:00:00:00:00:01";
}

/** Parse a JSON string; an error names the field. */
static bool
read_json_value(struct hr_reader *reader, const char *field, const json_t *json, parse_value parse,
		void *value)
{
	const char *text = json_string_value(json);
	const char *must = parse(text != NULL ? text : "", value);

	if (must == NULL)
		return true;
	if (text != NULL)
		hr_read_error(reader, field, HR_INVALID_FIELD, "%s, not \"%.64s\"", must, text);
	else
		hr_read_error(reader, field, HR_INVALID_FIELD, "%s, in a string", must);
	return false;
}

static void
read_value(struct hr_reader *reader, const char *name, parse_value parse, void *value)
{
	const json_t *json = hr_read_field(reader, name);

	if (json != NULL)
		read_json_value(reader, name, json, parse, value);
}

/** As read_value(), for an optional field: whether it is there. */
static bool
read_optional(struct hr_reader *reader, const char *name, parse_value parse, void *value)
{
	bool has = hr_read_has(reader, name);

	if (has)
		read_value(reader, name, parse, value);
	return has;
}

/** Read an array of values of one size, all different. @return how many */
static uint16_t
read_values(struct hr_reader *reader, const char *name, uint16_t max, parse_value parse,
		void *values, size_t size)
{
	const json_t *array = hr_read_array(reader, name, max);
	size_t n = json_array_size(array);
	char *value = values;

	for (size_t i = 0; i < n; i++, value += size) {
		char field[64];

		snprintf(field, sizeof(field), "%s[%zu]", name, i);
		if (!read_json_value(reader, field, json_array_get(array, i), parse, value))
			continue;
		for (const char *other = values; other < value; other += size) {
			if (memcmp(other, value, size) == 0) {
				hr_read_error(reader, field, HR_DUPLICATE, "is there twice");
				break;
			}
		}
	}
	return (uint16_t)n;
}

/** As read_values(), for an optional field: 0 when it is not there. */
static uint16_t
read_optional_values(struct hr_reader *reader, const char *name, uint16_t max, parse_value parse,
		void *values, size_t size)
{
	return hr_read_has(reader, name) ? read_values(reader, name, max, parse, values, size) : 0;
}

/** Copy a string field of less than size bytes. */
static void
read_text(struct hr_reader *reader, const char *name, char *text, size_t size)
{
	const char *value = hr_read_string(reader, name, size - 1);

	if (value != NULL)
		memcpy(text, value, strlen(value) + 1);
}

/** Start reading into a new spec. NULL when out of memory. */
static void *
begin(struct hr_reader *reader, const json_t *json, size_t size, struct hr_errors *errors)
{
	void *spec = calloc(1, size);

	if (spec == NULL) {
		hr_error(errors, "", HR_OUT_OF_MEMORY, "out of memory");
		return NULL;
	}
	hr_read_begin(reader, json, "", errors);
	return spec;
}

/** Done reading: the spec, or NULL. */
static void *
end(struct hr_reader *reader, void *spec)
{
	if (hr_read_end(reader) == 0)
		return spec;
	free(spec);
	return NULL;
}

void
hr_spec_free(void *spec)
{
	free(spec);
}

void *
hr_settings_parse(const json_t *json, struct hr_errors *errors)
{
	struct hr_reader reader;
	struct hr_settings_spec *spec = begin(&reader, json, sizeof(*spec), errors);
	const char *idle;

	if (spec == NULL)
		return NULL;
	idle = hr_read_string(&reader, "idle", 16);
	if (idle != NULL) {
		spec->adaptive = strcmp(idle, "adaptive") == 0;
		if (!spec->adaptive && strcmp(idle, "poll") != 0)
			hr_read_error(&reader, "idle", HR_INVALID_FIELD,
					"must be \"poll\" or \"adaptive\"");
	}
	spec->burst = (uint16_t)hr_read_uint(&reader, "burst", 1, HR_BURST);
	spec->icmp_per_second = (uint32_t)hr_read_uint(&reader, "icmpPerSecond", 0, UINT32_MAX);
	spec->n_underlay_prefixes = read_optional_values(&reader, "underlayPrefixes",
			HR_UNDERLAY_PREFIXES_MAX, parse_node_pool, spec->underlay_prefixes,
			sizeof(spec->underlay_prefixes[0]));
	if (hr_read_has(&reader, "underlaySourceCheck"))
		spec->underlay_source_check = hr_read_bool(&reader, "underlaySourceCheck");
	if (spec->underlay_source_check && spec->n_underlay_prefixes == 0)
		hr_read_error(&reader, "underlaySourceCheck", HR_INVALID_FIELD,
				"needs underlayPrefixes: give them too");
	if (hr_read_has(&reader, "waitingPacketsPerNamespace"))
		spec->waiting_max = (uint32_t)hr_read_uint(&reader, "waitingPacketsPerNamespace", 1,
				HR_WAITING_PACKETS_MAX);
	return end(&reader, spec);
}

void *
hr_port_parse(const json_t *json, struct hr_errors *errors)
{
	struct hr_reader reader;
	struct hr_port_spec *spec = begin(&reader, json, sizeof(*spec), errors);

	if (spec == NULL)
		return NULL;
	read_text(&reader, "devargs", spec->devargs, sizeof(spec->devargs));
	spec->rx_queues = (uint16_t)hr_read_uint(&reader, "rxQueues", 1, HR_MAX_WORKERS);
	spec->mtu = (uint16_t)hr_read_uint(&reader, "mtu", HR_MTU_MIN, HR_MTU_MAX);
	spec->has_mac = read_optional(&reader, "mac", parse_mac, &spec->mac);
	if (hr_read_has(&reader, "netdev"))
		read_text(&reader, "netdev", spec->netdev, sizeof(spec->netdev));
	if (hr_read_has(&reader, "promiscuous"))
		spec->promiscuous = hr_read_bool(&reader, "promiscuous");
	return end(&reader, spec);
}

void *
hr_network_parse(const json_t *json, struct hr_errors *errors)
{
	struct hr_reader reader;
	struct hr_network_spec *spec = begin(&reader, json, sizeof(*spec), errors);

	if (spec == NULL)
		return NULL;
	spec->vni = (uint32_t)hr_read_uint(&reader, "vni", 1, HR_VNI_MAX);
	spec->n_gateways = read_values(&reader, "gateways", HR_NETWORK_GATEWAYS_MAX, parse_host,
			spec->gateways, sizeof(spec->gateways[0]));
	spec->n_endpoints = read_optional_values(&reader, "endpoints", HR_MAX_ENDPOINTS,
			parse_underlay, spec->endpoints, sizeof(spec->endpoints[0]));
	return end(&reader, spec);
}

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
		read_value(&element, "address", parse_host6, &neighbors[i].address);
		read_value(&element, "mac", parse_mac, &neighbors[i].mac);
		hr_read_end(&element);
	}
	return (uint16_t)n;
}

void *
hr_uplink_parse(const json_t *json, struct hr_errors *errors)
{
	struct hr_reader reader;
	struct hr_uplink_spec *spec = begin(&reader, json, sizeof(*spec), errors);

	if (spec == NULL)
		return NULL;
	read_text(&reader, "port", spec->port, sizeof(spec->port));
	spec->mtu = (uint16_t)hr_read_uint(&reader, "mtu", HR_MTU_MIN + HR_UNDERLAY_OVERHEAD,
			HR_MTU_MAX);
	spec->n_addresses = read_values(&reader, "addresses", HR_UPLINK_ADDRESSES_MAX,
			parse_underlay, spec->addresses, sizeof(spec->addresses[0]));
	if (spec->n_addresses == 0 && json_is_array(json_object_get(json, "addresses")))
		hr_read_error(&reader, "addresses", HR_INVALID_FIELD, "at least one is required");
	spec->n_on_link = read_values(&reader, "onLink", HR_UPLINK_ON_LINK_MAX, parse_prefix6,
			spec->on_link, sizeof(spec->on_link[0]));
	spec->has_gateway = read_optional(&reader, "gateway", parse_host6, &spec->gateway);
	spec->n_neighbors = read_neighbors(&reader, spec->neighbors);
	return end(&reader, spec);
}

void *
hr_interface_parse(const json_t *json, struct hr_errors *errors)
{
	struct hr_reader reader;
	struct hr_interface_spec *spec = begin(&reader, json, sizeof(*spec), errors);

	if (spec == NULL)
		return NULL;
	read_text(&reader, "port", spec->port, sizeof(spec->port));
	read_text(&reader, "network", spec->network, sizeof(spec->network));
	spec->n_addresses = read_values(&reader, "addresses", HR_MAX_ADDRESSES, parse_host,
			spec->addresses, sizeof(spec->addresses[0]));
	spec->n_prefixes = read_values(&reader, "prefixes", HR_MAX_PREFIXES, parse_prefix,
			spec->prefixes, sizeof(spec->prefixes[0]));
	spec->n_gateways = read_values(&reader, "gateways", HR_MAX_GATEWAYS, parse_host,
			spec->gateways, sizeof(spec->gateways[0]));
	spec->has_mac = read_optional(&reader, "mac", parse_mac, &spec->mac);
	read_value(&reader, "underlay", parse_underlay, &spec->underlay);
	spec->n_former = read_optional_values(&reader, "formerUnderlayAddresses", HR_MAX_FORMER,
			parse_underlay, spec->former, sizeof(spec->former[0]));
	spec->source_check = hr_read_bool(&reader, "sourceCheck");
	spec->mtu = (uint16_t)hr_read_uint(&reader, "mtu", HR_MTU_MIN, HR_MTU_MAX);
	return end(&reader, spec);
}

void
hr_routes_free(void *spec)
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
	read_json_value(reader, field, json, parse_underlay, &hop->underlay);
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
	if (read_json_value(reader, field, json_array_get(json, 0), parse_prefix, &prefix)) {
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

void *
hr_routes_parse(const json_t *json, struct hr_errors *errors)
{
	struct hr_reader reader;
	struct hr_routes_spec *spec = begin(&reader, json, sizeof(*spec), errors);
	size_t n_routes, n_next_hops = 0;
	const json_t *routes;
	json_t *indexes;

	if (spec == NULL)
		return NULL;
	read_text(&reader, "network", spec->network, sizeof(spec->network));
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
	hr_routes_free(spec);
	return NULL;
}
