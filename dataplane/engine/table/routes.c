/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Routes: slices of a network's routing table, as paths in its FIBs. Control thread.
 */
#include <stdlib.h>

#include "../control/addr.h"
#include "../control/list.h"
#include "../control/map.h"
#include "../control/store.h"
#include "../kinds/network.h"
#include "../kinds/routes.h"
#include "adj.h"
#include "network.h"
#include "path.h"

struct slice {
	uint32_t owner; /**< Changes with each spec, so that what a new spec kept is not deleted. */
	struct hr_object *object;
};

/** Slices by owner, for `list`. */
static struct hr_map by_owner;
/** Slices prepared and neither applied nor aborted: each has room in by_owner. */
static size_t n_prepared;

static struct hr_fib *
fib_of(struct hr_vrf *vrf, const struct hr_route_spec *route)
{
	return route->family == 4 ? vrf->fib4 : vrf->fib6;
}

static uint32_t
path_of(const struct hr_routes_spec *spec, const struct hr_next_hop *hop)
{
	if (hop->type == HR_NH_UNDERLAY)
		return hr_path_underlay(&hop->underlay, hr_network_vrf(spec->network));
	return hr_path_network(hr_network_vrf(spec->networks[hop->network]),
			hr_store_get(&hr_network_kind, spec->networks[hop->network])->key);
}

/** The adjacency a route leads to, counted. Without room for one it leads nowhere. */
static uint32_t
adj_of(const struct hr_routes_spec *spec, const struct hr_route_spec *route)
{
	struct hr_path_member members[HR_MAX_NEXT_HOPS];
	uint32_t adj;
	unsigned n = 0;

	if (route->n == 0)
		return HR_ADJ_BLACKHOLE;
	for (unsigned i = 0; i < route->n; i++) {
		const struct hr_next_hop *hop = &spec->next_hops[route->first + i];

		members[n].adj = path_of(spec, hop);
		members[n].weight = hop->weight;
		if (members[n].adj != 0)
			n++;
	}
	adj = n == 0 ? 0 : hr_path_group(members, n);
	return adj == 0 ? HR_ADJ_BLACKHOLE : adj;
}

int
hr_routes_prepare(struct hr_txn *txn, const char *key, const struct hr_object *old, void *new_spec,
		void **state, struct hr_errors *errors)
{
	RTE_SET_USED(txn);
	RTE_SET_USED(key);
	RTE_SET_USED(new_spec);
	*state = old == NULL ? calloc(1, sizeof(struct slice)) : old->state;
	if (*state != NULL && hr_map_reserve(&by_owner, by_owner.count + n_prepared + 1) == 0) {
		n_prepared++;
		return 0;
	}
	if (old == NULL)
		free(*state);
	hr_error(errors, "", HR_OUT_OF_MEMORY, "no memory for the routes");
	return -1;
}

void
hr_routes_abort(void *state)
{
	struct slice *slice = state;

	n_prepared--;
	if (slice->object == NULL)
		free(slice);
}

static void
insert_all(const struct hr_routes_spec *spec, struct slice *slice)
{
	struct hr_vrf *vrf = hr_network_vrf(spec->network);

	for (uint32_t i = 0; i < spec->n_routes; i++) {
		const struct hr_prefix prefix = hr_route_prefix(&spec->routes[i]);
		const uint32_t adj = adj_of(spec, &spec->routes[i]);
		uint32_t replaced;

		if (hr_fib_insert(fib_of(vrf, &spec->routes[i]), &prefix.addr, prefix.len, adj,
				    slice->owner, &replaced) != 0)
			hr_path_put(adj);
		else
			hr_path_put(replaced);
	}
}

static void
delete_all(const struct hr_routes_spec *spec, uint32_t owner)
{
	struct hr_vrf *vrf = hr_network_vrf(spec->network);

	for (uint32_t i = 0; i < spec->n_routes; i++) {
		const struct hr_prefix prefix = hr_route_prefix(&spec->routes[i]);
		uint32_t adj;

		if (hr_fib_delete(fib_of(vrf, &spec->routes[i]), &prefix.addr, prefix.len, owner,
				    &adj) == 0)
			hr_path_put(adj);
	}
}

void
hr_routes_apply(struct hr_object *object, void *old_spec, void *prepared)
{
	struct slice *slice = prepared;
	const uint32_t old_owner = slice->owner;

	n_prepared--;
	if (old_spec == object->spec)
		return;
	object->state = slice;
	slice->object = object;
	if (old_spec != NULL)
		hr_map_remove(&by_owner, &slice->owner, sizeof(slice->owner));
	slice->owner = hr_route_owner();
	insert_all(object->spec, slice);
	if (old_spec != NULL)
		delete_all(old_spec, old_owner);
	hr_map_put(&by_owner, &slice->owner, sizeof(slice->owner), slice);
}

void
hr_routes_remove(struct hr_object *object)
{
	struct slice *slice = object->state;

	delete_all(object->spec, slice->owner);
	hr_map_remove(&by_owner, &slice->owner, sizeof(slice->owner));
	object->state = NULL;
	free(slice);
}

json_t *
hr_routes_describe(const struct hr_object *object)
{
	const struct hr_routes_spec *spec = object->spec;

	return json_pack("{s:s, s:s, s:I}", "name", object->key, "network", spec->network, "routes",
			(json_int_t)spec->n_routes);
}

/* What is asked of the FIB itself. */

struct query {
	const json_t *filter;
	const char *network;
	struct hr_prefix prefix;
	bool has_prefix;
	size_t skip, limit, seen;
	bool more;
	json_t *items;
};

static bool
visit(const struct hr_prefix *prefix, uint32_t value, uint32_t owner, void *arg)
{
	const struct slice *slice = hr_map_get(&by_owner, &owner, sizeof(owner));
	struct query *query = arg;
	char text[HR_PREFIX_TEXT];
	json_t *item, *hops;

	if (slice == NULL) /* the network's own: gateways, multicast */
		return false;
	if (query->has_prefix &&
			(query->prefix.len != prefix->len ||
					!hr_addr_equal(&query->prefix.addr, &prefix->addr)))
		return false;
	if (!hr_filter_text(query->filter, "slice", slice->object->key))
		return false;
	if (query->seen++ < query->skip)
		return false;
	if (json_array_size(query->items) == query->limit) {
		query->more = true;
		return true;
	}
	item = json_pack("{s:s, s:s, s:s}", "network", query->network, "prefix",
			hr_prefix_format(prefix, text), "slice", slice->object->key);
	hops = hr_path_describe(value);
	if (hops == NULL) {
		json_object_set_new(item, "blackhole", json_true());
		hops = json_array();
	}
	json_object_set_new(item, "nextHops", hops);
	json_array_append_new(query->items, item);
	return false;
}

/** The route that an address takes: by prefix lengths, since workers' lookups forget which. */
static void
visit_match(struct query *query, struct hr_fib *fib, const struct hr_addr *addr)
{
	for (int len = addr->family == 4 ? 32 : 128; len >= 0; len--) {
		struct hr_prefix prefix = {.addr = *addr, .len = len};
		uint32_t value, owner;
		uint8_t *bytes =
				addr->family == 4 ? (uint8_t *)&prefix.addr.ip4 : prefix.addr.ip6.b;

		for (int bit = len; bit < (addr->family == 4 ? 32 : 128); bit++)
			bytes[bit / 8] &= ~(0x80 >> bit % 8);
		if (hr_fib_get(fib, &prefix.addr, prefix.len, &value, &owner) == 0) {
			visit(&prefix, value, owner, query);
			return;
		}
	}
}

json_t *
hr_list_route(const json_t *filter, size_t cursor, size_t limit, size_t *next,
		struct hr_errors *errors)
{
	const char *prefix = json_string_value(json_object_get(filter, "prefix"));
	const char *match = json_string_value(json_object_get(filter, "match"));
	struct query query = {.filter = filter, .skip = cursor, .limit = limit};
	struct hr_addr addr;

	if (prefix != NULL && hr_prefix_parse(prefix, &query.prefix) != 0) {
		hr_error(errors, "filter.prefix", HR_INVALID_FIELD,
				"\"%s\" is not a prefix such as 10.0.0.0/8", prefix);
		return NULL;
	}
	if (match != NULL && hr_addr_parse(match, &addr) != 0) {
		hr_error(errors, "filter.match", HR_INVALID_FIELD,
				"\"%s\" is not an address such as 10.0.0.1", match);
		return NULL;
	}
	query.has_prefix = prefix != NULL;
	query.items = json_array();
	for (size_t i = 0; i < hr_store_count(&hr_network_kind) && !query.more; i++) {
		const struct hr_object *object = hr_store_at(&hr_network_kind, i);
		struct hr_vrf *vrf = object->state;

		if (!hr_filter_text(filter, "network", object->key))
			continue;
		query.network = object->key;
		if (match != NULL) {
			visit_match(&query, addr.family == 4 ? vrf->fib4 : vrf->fib6, &addr);
			continue;
		}
		hr_fib_walk(vrf->fib4, visit, &query);
		if (!query.more)
			hr_fib_walk(vrf->fib6, visit, &query);
	}
	*next = query.more ? cursor + json_array_size(query.items) : 0;
	return query.items;
}
