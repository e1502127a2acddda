/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Routes: slices of a network's routing table, as paths in its FIBs. Control thread.
 */
#include <errno.h>
#include <stdlib.h>

#include "../control/addr.h"
#include "../control/list.h"
#include "../control/map.h"
#include "../control/store.h"
#include "../kinds/network.h"
#include "../kinds/routes.h"
#include "adj.h"
#include "path.h"
#include "place.h"

struct slice {
	uint32_t owner; /**< Changes with each spec, so that what a new spec kept is not deleted. */
	struct hr_object *object;
};

/** Slices by owner, for `list`. */
static struct hr_map by_owner;
/** Slices prepared and neither applied nor aborted: each has room in by_owner. */
static size_t n_prepared;

/** A slice as a commit will have it: the paths of its routes are counted, and their places held. */
struct change {
	struct slice *slice;
	bool is_new;
	uint32_t owner; /**< To be. */
	uint32_t own;   /**< Of the routes that are the slice's already. */
	struct hr_vrf *vrf;
	const struct hr_routes_spec *spec;
	uint32_t held; /**< Routes, the first ones. */
	struct {
		uint32_t adj;
		uint32_t former;
	} routes[];
};

static uint32_t
path_of(const struct hr_txn *txn, const struct change *change, const struct hr_next_hop *hop)
{
	if (hop->type == HR_NH_UNDERLAY)
		return hr_path_underlay(&hop->underlay, change->vrf);
	return hr_path_network(hr_network_vrf_after(txn, change->spec->networks[hop->network]));
}

/** The adjacency a route leads to, counted; 0 when there is no room for it. */
static uint32_t
adj_of(const struct hr_txn *txn, const struct change *change, const struct hr_route_spec *route)
{
	struct hr_path_member members[HR_MAX_NEXT_HOPS];

	if (route->n == 0)
		return HR_ADJ_BLACKHOLE;
	for (unsigned i = 0; i < route->n; i++) {
		const struct hr_next_hop *hop = &change->spec->next_hops[route->first + i];

		members[i].adj = path_of(txn, change, hop);
		members[i].weight = hop->weight;
		if (members[i].adj == 0) {
			while (i-- > 0)
				hr_path_put(members[i].adj);
			return 0;
		}
	}
	return hr_path_group(members, route->n);
}

static int
hold_all(const struct hr_txn *txn, struct change *change)
{
	for (; change->held < change->spec->n_routes; change->held++) {
		const struct hr_route_spec *route = &change->spec->routes[change->held];
		const struct hr_prefix prefix = hr_route_prefix(route);
		const uint32_t adj = adj_of(txn, change, route);

		if (adj == 0)
			return -ENOMEM;
		if (hr_place_hold(change->vrf, &prefix, change->owner, change->own,
				    &change->routes[change->held].former) != 0) {
			hr_path_put(adj);
			return -ENOMEM;
		}
		change->routes[change->held].adj = adj;
	}
	return 0;
}

static void
release_all(struct change *change)
{
	while (change->held > 0) {
		const struct hr_prefix prefix =
				hr_route_prefix(&change->spec->routes[--change->held]);

		hr_place_release(change->vrf, &prefix, change->owner, change->own,
				change->routes[change->held].former);
		hr_path_put(change->routes[change->held].adj);
	}
}

/** @return NULL: out of memory */
static struct change *
change_new(const struct hr_txn *txn, const struct hr_object *old, const struct hr_routes_spec *spec)
{
	struct change *change =
			calloc(1, sizeof(*change) + spec->n_routes * sizeof(change->routes[0]));

	if (change == NULL)
		return NULL;
	change->is_new = old == NULL;
	change->slice = change->is_new ? calloc(1, sizeof(*change->slice)) : old->state;
	if (change->slice == NULL) {
		free(change);
		return NULL;
	}
	change->owner = hr_route_owner();
	change->own = change->is_new ? change->owner : change->slice->owner;
	change->vrf = hr_network_vrf_after(txn, spec->network);
	change->spec = spec;
	return change;
}

static void
change_free(struct change *change)
{
	release_all(change);
	if (change->is_new)
		free(change->slice);
	free(change);
}

int
hr_routes_prepare(struct hr_txn *txn, const char *key, const struct hr_object *old, void *new_spec,
		void **state, struct hr_errors *errors)
{
	struct change *change = change_new(txn, old, new_spec);

	RTE_SET_USED(key);
	if (change != NULL && hold_all(txn, change) == 0 &&
			hr_map_reserve(&by_owner, by_owner.count + n_prepared + 1) == 0) {
		n_prepared++;
		*state = change;
		return 0;
	}
	if (change != NULL)
		change_free(change);
	hr_error(errors, "", HR_OUT_OF_MEMORY, "no memory for the routes");
	return -1;
}

void
hr_routes_abort(void *state)
{
	n_prepared--;
	change_free(state);
}

static void
delete_all(const struct hr_routes_spec *spec, uint32_t owner)
{
	struct hr_vrf *vrf = hr_network_vrf(spec->network);

	for (uint32_t i = 0; i < spec->n_routes; i++) {
		const struct hr_prefix prefix = hr_route_prefix(&spec->routes[i]);

		hr_place_delete(vrf, &prefix, owner);
	}
}

void
hr_routes_apply(struct hr_object *object, void *old_spec, void *prepared)
{
	const struct hr_routes_spec *spec = object->spec;
	struct change *change = prepared;
	struct slice *slice = change->slice;

	n_prepared--;
	for (uint32_t i = 0; i < spec->n_routes; i++) {
		const struct hr_prefix prefix = hr_route_prefix(&spec->routes[i]);

		hr_place_put(change->vrf, &prefix, change->owner, change->routes[i].adj);
	}
	if (old_spec != NULL) {
		delete_all(old_spec, slice->owner);
		hr_map_remove(&by_owner, &slice->owner, sizeof(slice->owner));
	}
	object->state = slice;
	slice->object = object;
	slice->owner = change->owner;
	hr_map_put(&by_owner, &slice->owner, sizeof(slice->owner), slice);
	free(change);
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
