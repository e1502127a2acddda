/* SPDX-License-Identifier: Apache-2.0 */
#include "txn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "addr.h"
#include "map.h"
#include "reader.h"
#include "store.h"

enum action {
	KEEP, /**< Put with the hash it has. */
	PUT,
	DELETE,
};

struct change {
	enum hr_kind kind;
	enum action action;
	const char *key;
	const char *hash;         /**< Of the new spec; NULL when the port below was replaced. */
	struct hr_object *object; /**< Its own until applied, when is_new. NULL: deletes nothing. */
	bool is_new;
	bool is_prepared;
	bool is_reported; /**< As still in use. */
	void *spec;       /**< Spec after the commit. */
	void *garbage;    /**< Spec to free in the end: the new one, once applied the old one. */
	void *prepared;
};

struct hr_txn {
	struct hr_errors *errors;
	struct change *changes;
	size_t n_changes;
	struct hr_map by_key[HR_KIND_COUNT]; /**< Of changes. */
};

/** An object as it would be after the commit. */
struct view {
	enum hr_kind kind;
	const char *key;
	const void *spec;
	bool is_changed;
};

/** Where the checks gather what must be unique, and the totals. */
struct census {
	struct hr_map ports; /**< Port name -> view of its user. */
	struct hr_map vnis;
	struct hr_map underlay; /**< Address -> view of its owner. */
	size_t count[HR_KIND_COUNT];
	size_t routes;
};

static struct change *
find_change(const struct hr_txn *txn, enum hr_kind kind, const char *key)
{
	return hr_map_get(&txn->by_key[kind], key, strlen(key));
}

static int
out_of_memory(struct hr_txn *txn)
{
	hr_errors_at(txn->errors, NULL, NULL);
	hr_error(txn->errors, "", HR_OUT_OF_MEMORY, "out of memory");
	return -EINVAL;
}

const void *
hr_txn_spec(const struct hr_txn *txn, enum hr_kind kind, const char *key)
{
	const struct change *change = find_change(txn, kind, key);
	const struct hr_object *object;

	if (change != NULL)
		return change->spec;
	object = hr_store_get(kind, key);
	return object != NULL ? object->spec : NULL;
}

void *
hr_txn_prepared(const struct hr_txn *txn, enum hr_kind kind, const char *key)
{
	const struct change *change = find_change(txn, kind, key);

	return change != NULL ? change->prepared : NULL;
}

/** Add a change; room is there. */
static struct change *
add_change(struct hr_txn *txn, enum hr_kind kind, const char *key)
{
	struct change *change = &txn->changes[txn->n_changes++];

	*change = (struct change){
			.kind = kind,
			.key = key,
			.object = hr_store_get(kind, key),
	};
	hr_map_put(&txn->by_key[kind], key, strlen(key), change);
	return change;
}

/** Read one element of a commit's objects. */
static void
read_change(struct hr_txn *txn, size_t i, const json_t *json)
{
	const char *kind_name, *key;
	const json_t *spec = NULL;
	struct hr_reader reader;
	struct change *change;
	char path[32];
	int kind = -1;

	snprintf(path, sizeof(path), "objects[%zu]", i);
	hr_errors_at(txn->errors, NULL, NULL);
	hr_read_begin(&reader, json, path, txn->errors);
	kind_name = hr_read_string(&reader, "kind", HR_NAME_MAX - 1);
	key = hr_read_string(&reader, "key", HR_NAME_MAX - 1);
	if (kind_name != NULL) {
		kind = hr_kind_find(kind_name);
		if (kind < 0)
			hr_read_error(&reader, "kind", HR_INVALID_FIELD,
					"\"%.64s\" is no kind of object", kind_name);
	}
	if (kind < 0 || key == NULL)
		return;
	hr_errors_at(txn->errors, kind_name, key);
	reader.path[0] = '\0';
	if (kind == HR_KIND_SETTINGS && strcmp(key, "engine") != 0)
		hr_read_error(&reader, "key", HR_INVALID_FIELD, "must be \"engine\"");
	if (find_change(txn, kind, key) != NULL) {
		hr_read_error(&reader, "", HR_DUPLICATE, "twice in one transaction");
		return;
	}
	change = add_change(txn, kind, key);
	if (hr_read_has(&reader, "delete")) {
		change->action = DELETE;
		if (!hr_read_bool(&reader, "delete"))
			hr_read_error(&reader, "delete", HR_INVALID_FIELD, "must be true");
	} else {
		change->action = PUT;
		change->hash = hr_read_string(&reader, "hash", HR_HASH_MAX);
		spec = hr_read_field(&reader, "spec");
	}
	if (hr_read_end(&reader) != 0 || change->action == DELETE)
		return;
	if (change->object != NULL && strcmp(change->object->hash, change->hash) == 0) {
		change->action = KEEP;
		change->spec = change->object->spec;
		return;
	}
	change->spec = change->garbage = hr_kinds[kind]->parse(spec, txn->errors);
	if (change->object == NULL) {
		change->is_new = true;
		change->object = hr_object_create(kind, key);
		if (change->object == NULL)
			out_of_memory(txn);
	}
}

static int
read_changes(struct hr_txn *txn, const json_t *objects)
{
	size_t n = json_array_size(objects);
	size_t n_dependants = hr_store_count(HR_KIND_UPLINK) + hr_store_count(HR_KIND_INTERFACE);
	size_t n_kind[HR_KIND_COUNT] = {0};

	txn->changes = calloc(n + n_dependants + 1, sizeof(*txn->changes));
	if (txn->changes == NULL)
		return out_of_memory(txn);
	for (size_t i = 0; i < n; i++) {
		const char *name = json_string_value(json_object_get(json_array_get(objects, i),
				"kind"));
		int kind = name != NULL ? hr_kind_find(name) : -1;

		if (kind >= 0)
			n_kind[kind]++;
	}
	for (int kind = 0; kind < HR_KIND_COUNT; kind++) {
		size_t again = kind == HR_KIND_UPLINK || kind == HR_KIND_INTERFACE
				? hr_store_count(kind)
				: 0;

		if (hr_map_reserve(&txn->by_key[kind], n_kind[kind] + again) != 0 ||
				hr_store_reserve(kind, n_kind[kind]) != 0)
			return out_of_memory(txn);
	}
	for (size_t i = 0; i < n; i++)
		read_change(txn, i, json_array_get(objects, i));
	return txn->errors->count == 0 ? 0 : -EINVAL;
}

/** Check that what a field names will be there. */
static void
check_reference(struct hr_txn *txn, const struct view *view, const char *field, enum hr_kind kind,
		const char *key)
{
	struct change *change = find_change(txn, kind, key);

	if (hr_txn_spec(txn, kind, key) != NULL)
		return;
	if (view->is_changed || change == NULL) {
		hr_errors_at(txn->errors, hr_kinds[view->kind]->name, view->key);
		hr_error(txn->errors, field, HR_UNKNOWN_REFERENCE, "no %s \"%s\"",
				hr_kinds[kind]->name, key);
	} else if (!change->is_reported) {
		change->is_reported = true;
		hr_errors_at(txn->errors, hr_kinds[kind]->name, key);
		hr_error(txn->errors, "", HR_IN_USE, "in use by %s \"%s\"",
				hr_kinds[view->kind]->name, view->key);
	}
}

/** Check that no object before this one has the same value. */
static void
check_unique(struct hr_txn *txn, const struct view *view, const char *field, struct hr_map *map,
		const void *value, size_t length, const char *text)
{
	const struct view *other = hr_map_get(map, value, length);

	if (other == NULL) {
		/* The map gives back what it was given, and no one writes through it. */
		hr_map_put(map, value, length, (void *)(uintptr_t)view);
		return;
	}
	hr_errors_at(txn->errors, hr_kinds[view->kind]->name, view->key);
	hr_error(txn->errors, field, HR_CONFLICT, "%s is already taken by %s \"%s\"", text,
			hr_kinds[other->kind]->name, other->key);
}

static void
check_underlay(struct hr_txn *txn, const struct view *view, const char *field,
		struct census *census, const struct hr_ip6 *ip6)
{
	char text[HR_ADDR_TEXT];

	check_unique(txn, view, field, &census->underlay, ip6->b, sizeof(ip6->b),
			hr_ip6_format(ip6, text));
}

static void
check_limit(struct hr_txn *txn, const struct view *view, const char *what, size_t before,
		size_t count, size_t max)
{
	if (before + count <= max || before > max)
		return;
	hr_errors_at(txn->errors, hr_kinds[view->kind]->name, view->key);
	hr_error(txn->errors, "", HR_LIMIT_EXCEEDED, "more than %zu %s in all", max, what);
}

static void
check_port_user(struct hr_txn *txn, const struct view *view, struct census *census,
		const char *port)
{
	check_reference(txn, view, "port", HR_KIND_PORT, port);
	check_unique(txn, view, "port", &census->ports, port, strlen(port), port);
}

static void
check_network(struct hr_txn *txn, const struct view *view, struct census *census)
{
	const struct hr_network_spec *network = view->spec;
	char text[16];

	snprintf(text, sizeof(text), "%u", network->vni);
	check_unique(txn, view, "vni", &census->vnis, &network->vni, sizeof(network->vni), text);
	check_limit(txn, view, "networks", census->count[HR_KIND_NETWORK], 1, HR_MAX_NETWORKS);
}

static void
check_uplink(struct hr_txn *txn, const struct view *view, struct census *census)
{
	const struct hr_uplink_spec *uplink = view->spec;

	check_port_user(txn, view, census, uplink->port);
	for (unsigned i = 0; i < uplink->n_addresses; i++) {
		char field[32];

		snprintf(field, sizeof(field), "addresses[%u]", i);
		check_underlay(txn, view, field, census, &uplink->addresses[i]);
	}
}

static void
check_interface(struct hr_txn *txn, const struct view *view, struct census *census)
{
	const struct hr_interface_spec *interface = view->spec;

	check_port_user(txn, view, census, interface->port);
	check_reference(txn, view, "network", HR_KIND_NETWORK, interface->network);
	check_underlay(txn, view, "underlay", census, &interface->underlay);
	for (unsigned i = 0; i < interface->n_former; i++) {
		char field[48];

		snprintf(field, sizeof(field), "formerUnderlayAddresses[%u]", i);
		check_underlay(txn, view, field, census, &interface->former[i]);
	}
}

static void
check_routes(struct hr_txn *txn, const struct view *view, struct census *census)
{
	const struct hr_routes_spec *routes = view->spec;

	check_reference(txn, view, "network", HR_KIND_NETWORK, routes->network);
	for (uint32_t i = 0; i < routes->n_networks; i++)
		check_reference(txn, view, "routes", HR_KIND_NETWORK, routes->networks[i]);
	check_limit(txn, view, "routes", census->routes, routes->n_routes, HR_MAX_ROUTES);
	census->routes += routes->n_routes;
}

static void
check_view(struct hr_txn *txn, const struct view *view, struct census *census)
{
	switch (view->kind) {
	case HR_KIND_PORT:
		check_limit(txn, view, "ports", census->count[HR_KIND_PORT], 1, HR_MAX_PORTS);
		break;
	case HR_KIND_NETWORK:
		check_network(txn, view, census);
		break;
	case HR_KIND_UPLINK:
		check_uplink(txn, view, census);
		break;
	case HR_KIND_INTERFACE:
		check_interface(txn, view, census);
		break;
	case HR_KIND_ROUTES:
		check_routes(txn, view, census);
		break;
	case HR_KIND_SETTINGS:
	case HR_KIND_COUNT:
		break;
	}
	census->count[view->kind]++;
}

/** The whole state after the commit: what stays first, so that errors name what changes. */
static struct view *
view_all(const struct hr_txn *txn, size_t *n_views)
{
	size_t room = txn->n_changes, n = 0;
	struct view *views;

	for (int kind = 0; kind < HR_KIND_COUNT; kind++)
		room += hr_store_count(kind);
	views = calloc(room + 1, sizeof(*views));
	for (int kind = 0; views != NULL && kind < HR_KIND_COUNT; kind++) {
		for (size_t i = 0; i < hr_store_count(kind); i++) {
			const struct hr_object *object = hr_store_at(kind, i);
			const struct change *change = find_change(txn, kind, object->key);

			if (change == NULL || change->action == KEEP)
				views[n++] = (struct view){kind, object->key, object->spec, false};
		}
	}
	for (size_t i = 0; views != NULL && i < txn->n_changes; i++) {
		const struct change *change = &txn->changes[i];

		if (change->action == PUT)
			views[n++] = (struct view){change->kind, change->key, change->spec, true};
	}
	*n_views = n;
	return views;
}

/**
 * Check the state after the commit as a whole, whatever the size of the change: objects are few
 * (routes come in slices), and so there are no reverse indexes to keep true.
 */
static int
check(struct hr_txn *txn)
{
	struct census census = {0};
	size_t n, n_ports = 0, n_networks = 0, n_underlay = 0;
	struct view *views = view_all(txn, &n);

	for (size_t i = 0; views != NULL && i < n; i++) {
		const struct hr_uplink_spec *uplink = views[i].spec;
		const struct hr_interface_spec *interface = views[i].spec;
		bool is_uplink = views[i].kind == HR_KIND_UPLINK;
		bool is_interface = views[i].kind == HR_KIND_INTERFACE;

		n_networks += views[i].kind == HR_KIND_NETWORK;
		n_ports += is_uplink || is_interface;
		n_underlay += is_uplink        ? uplink->n_addresses
				: is_interface ? 1u + interface->n_former
					       : 0;
	}
	if (views == NULL || hr_map_reserve(&census.ports, n_ports) != 0 ||
			hr_map_reserve(&census.vnis, n_networks) != 0 ||
			hr_map_reserve(&census.underlay, n_underlay) != 0) {
		out_of_memory(txn);
	} else {
		for (size_t i = 0; i < n; i++)
			check_view(txn, &views[i], &census);
	}
	hr_map_free(&census.ports);
	hr_map_free(&census.vnis);
	hr_map_free(&census.underlay);
	free(views);
	return txn->errors->count == 0 ? 0 : -EINVAL;
}

/** Put again what is on a replaced port. */
static void
add_dependants(struct hr_txn *txn, enum hr_kind kind)
{
	for (size_t i = 0; i < hr_store_count(kind); i++) {
		struct hr_object *object = hr_store_at(kind, i);
		const struct hr_interface_spec *interface = object->spec;
		const struct hr_uplink_spec *uplink = object->spec;
		const struct change *port = find_change(txn, HR_KIND_PORT,
				kind == HR_KIND_UPLINK ? uplink->port : interface->port);
		struct change *change;

		if (port == NULL || port->action != PUT)
			continue;
		change = find_change(txn, kind, object->key);
		if (change == NULL)
			change = add_change(txn, kind, object->key);
		else if (change->action != KEEP)
			continue;
		change->action = PUT;
		change->spec = object->spec;
	}
}

/** Prepare the objects put. After a failure the rest of its kind is still tried, for the report. */
static int
prepare(struct hr_txn *txn)
{
	for (int kind = 0; kind < HR_KIND_COUNT && txn->errors->count == 0; kind++) {
		const struct hr_kind_ops *ops = hr_kinds[kind];

		for (size_t i = 0; i < txn->n_changes; i++) {
			struct change *change = &txn->changes[i];
			size_t before = txn->errors->count;

			if ((int)change->kind != kind || change->action != PUT)
				continue;
			hr_errors_at(txn->errors, ops->name, change->key);
			if (ops->prepare == NULL ||
					ops->prepare(txn, change->key,
							change->is_new ? NULL : change->object,
							change->spec, &change->prepared,
							txn->errors) == 0)
				change->is_prepared = true;
			else if (txn->errors->count == before)
				hr_error(txn->errors, "", HR_PREPARE_FAILED, "cannot be prepared");
		}
	}
	if (txn->errors->count == 0)
		return 0;
	for (int kind = HR_KIND_COUNT - 1; kind >= 0; kind--) {
		for (size_t i = txn->n_changes; i-- > 0;) {
			struct change *change = &txn->changes[i];

			if ((int)change->kind == kind && change->is_prepared &&
					hr_kinds[kind]->abort != NULL)
				hr_kinds[kind]->abort(change->prepared);
		}
	}
	return -EINVAL;
}

static void
remove_object(struct hr_object *object)
{
	hr_kinds[object->kind]->remove(object);
	hr_store_remove(object);
	hr_object_free(object);
}

static void
apply_deletes(struct hr_txn *txn, enum hr_kind kind)
{
	for (size_t i = txn->n_changes; i-- > 0;) {
		const struct change *change = &txn->changes[i];

		if (change->kind == kind && change->action == DELETE && change->object != NULL)
			remove_object(change->object);
	}
}

static void
apply_puts(struct hr_txn *txn, enum hr_kind kind)
{
	for (size_t i = 0; i < txn->n_changes; i++) {
		struct change *change = &txn->changes[i];
		struct hr_object *object = change->object;
		void *old_spec;

		if (change->kind != kind || change->action != PUT)
			continue;
		old_spec = object->spec;
		object->spec = change->spec;
		if (change->garbage != NULL)
			change->garbage = old_spec;
		if (change->hash != NULL)
			memcpy(object->hash, change->hash, strlen(change->hash) + 1);
		if (change->is_new)
			hr_store_insert(object);
		change->is_new = false;
		hr_kinds[kind]->apply(object, old_spec, change->prepared);
	}
}

/** See struct hr_kind_ops for why in this order. */
static void
apply(struct hr_txn *txn)
{
	int kind;

	for (kind = HR_KIND_COUNT - 1; kind >= HR_KIND_UPLINK; kind--)
		apply_deletes(txn, kind);
	for (kind = 0; kind < HR_KIND_COUNT; kind++)
		apply_puts(txn, kind);
	for (kind = HR_KIND_UPLINK - 1; kind >= 0; kind--)
		apply_deletes(txn, kind);
}

int
hr_txn_commit(const json_t *objects, int64_t generation, struct hr_errors *errors)
{
	struct hr_txn txn = {.errors = errors};
	int rc = read_changes(&txn, objects);

	if (rc == 0)
		rc = check(&txn);
	if (rc == 0) {
		add_dependants(&txn, HR_KIND_UPLINK);
		add_dependants(&txn, HR_KIND_INTERFACE);
		rc = prepare(&txn);
	}
	if (rc == 0) {
		apply(&txn);
		hr_store_set_generation(generation);
	}
	for (size_t i = 0; i < txn.n_changes; i++) {
		struct change *change = &txn.changes[i];

		if (change->garbage != NULL)
			hr_kinds[change->kind]->free_spec(change->garbage);
		if (change->is_new)
			hr_object_free(change->object);
	}
	for (int kind = 0; kind < HR_KIND_COUNT; kind++)
		hr_map_free(&txn.by_key[kind]);
	free(txn.changes);
	return rc;
}

void
hr_txn_clear(void)
{
	for (int kind = HR_KIND_COUNT - 1; kind >= 0; kind--) {
		while (hr_store_count(kind) > 0)
			remove_object(hr_store_at(kind, hr_store_count(kind) - 1));
	}
}
