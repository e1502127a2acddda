/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Kinds that do nothing but write down what is asked of them, and check that what an object names
 * is there for as long as the object is. Included by one file of a program.
 */
#ifndef HR_TESTS_CONTROL_STUBS_H
#define HR_TESTS_CONTROL_STUBS_H

#include <stdio.h>
#include <stdlib.h>

#include "../control/list.h"
#include "../control/server.h"
#include "../control/store.h"
#include "../control/txn.h"

#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #what);         \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static char stub_log[8192]; /**< "prepare port/a, apply port/a, ..." */
static bool stub_logs;
static const char *stub_fail_key; /**< The prepare() of this key fails. */
static int stub_prepared;         /**< prepare() not yet followed by apply() or abort(). */

static void
stub_write(const char *verb, enum hr_kind kind, const char *key)
{
	size_t n = strlen(stub_log);

	if (stub_logs)
		snprintf(stub_log + n, sizeof(stub_log) - n, "%s%s %s/%s", n > 0 ? ", " : "", verb,
				hr_kinds[kind]->name, key);
}

struct stub_state {
	enum hr_kind kind;
	char key[HR_NAME_MAX];
};

static int
stub_prepare(enum hr_kind kind, struct hr_txn *txn, const char *key, const struct hr_object *old,
		void *new_spec, void **state, struct hr_errors *errors)
{
	struct stub_state *mine;

	CHECK(old == hr_store_get(kind, key));
	CHECK(*state == NULL);
	CHECK(hr_txn_spec(txn, kind, key) == new_spec);
	stub_write("prepare", kind, key);
	if (stub_fail_key != NULL && strcmp(stub_fail_key, key) == 0) {
		hr_error(errors, "devargs", "PortFailed", "cannot \xff probe");
		return -1;
	}
	if (stub_fail_key != NULL && strcmp(stub_fail_key, "silent") == 0)
		return -1;
	if (kind == HR_KIND_INTERFACE) {
		const struct hr_interface_spec *interface = new_spec;
		const struct stub_state *port = hr_txn_prepared(txn, HR_KIND_PORT, interface->port);

		CHECK(hr_txn_spec(txn, HR_KIND_PORT, interface->port) != NULL);
		CHECK(port == NULL || strcmp(port->key, interface->port) == 0);
	}
	mine = calloc(1, sizeof(*mine));
	mine->kind = kind;
	snprintf(mine->key, sizeof(mine->key), "%s", key);
	*state = mine;
	stub_prepared++;
	return 0;
}

static void
stub_abort(void *state)
{
	struct stub_state *mine = state;

	stub_write("abort", mine->kind, mine->key);
	stub_prepared--;
	free(mine);
}

/** Check that an object names what is in the store. */
static void
stub_check_names(const struct hr_object *object)
{
	const struct hr_uplink_spec *uplink = object->spec;
	const struct hr_interface_spec *interface = object->spec;
	const struct hr_routes_spec *routes = object->spec;

	switch (object->kind) {
	case HR_KIND_UPLINK:
		CHECK(hr_store_get(HR_KIND_PORT, uplink->port) != NULL);
		break;
	case HR_KIND_INTERFACE:
		CHECK(hr_store_get(HR_KIND_PORT, interface->port) != NULL);
		CHECK(hr_store_get(HR_KIND_NETWORK, interface->network) != NULL);
		break;
	case HR_KIND_ROUTES:
		CHECK(hr_store_get(HR_KIND_NETWORK, routes->network) != NULL);
		for (uint32_t i = 0; i < routes->n_networks; i++)
			CHECK(hr_store_get(HR_KIND_NETWORK, routes->networks[i]) != NULL);
		break;
	default:
		break;
	}
}

static void
stub_check_all(void)
{
	for (int kind = 0; kind < HR_KIND_COUNT; kind++) {
		for (size_t i = 0; i < hr_store_count(kind); i++) {
			const struct hr_object *object = hr_store_at(kind, i);

			CHECK(object->index == i && object->kind == (enum hr_kind)kind);
			CHECK(hr_store_get(kind, object->key) == object);
			CHECK(object->spec != NULL && object->state != NULL);
			stub_check_names(object);
		}
	}
}

static void
stub_apply(struct hr_object *object, void *old_spec, void *prepared)
{
	struct stub_state *mine = prepared;

	CHECK(hr_store_get(object->kind, object->key) == object);
	CHECK(strcmp(mine->key, object->key) == 0 && mine->kind == object->kind);
	CHECK((old_spec == NULL) == (object->state == NULL));
	stub_check_names(object);
	stub_write(old_spec == NULL                                ? "create"
					: old_spec == object->spec ? "reapply"
								   : "replace",
			object->kind, object->key);
	stub_prepared--;
	free(object->state);
	object->state = mine;
}

static void
stub_remove(struct hr_object *object)
{
	CHECK(hr_store_get(object->kind, object->key) == object);
	stub_check_names(object);
	stub_write("remove", object->kind, object->key);
	free(object->state);
	object->state = NULL;
}

#define STUB_KIND(lower, UPPER, free_fn)                                                           \
	static int lower##_prepare(struct hr_txn *txn, const char *key,                            \
			const struct hr_object *old, void *new_spec, void **state,                 \
			struct hr_errors *errors)                                                  \
	{                                                                                          \
		return stub_prepare(HR_KIND_##UPPER, txn, key, old, new_spec, state, errors);      \
	}                                                                                          \
	const struct hr_kind_ops hr_##lower##_ops = {                                              \
			.name = #lower,                                                            \
			.parse = hr_##lower##_parse,                                               \
			.free_spec = free_fn,                                                      \
			.prepare = lower##_prepare,                                                \
			.abort = stub_abort,                                                       \
			.apply = stub_apply,                                                       \
			.remove = stub_remove,                                                     \
	}

STUB_KIND(settings, SETTINGS, hr_spec_free);
STUB_KIND(port, PORT, hr_spec_free);
STUB_KIND(network, NETWORK, hr_spec_free);
STUB_KIND(uplink, UPLINK, hr_spec_free);
STUB_KIND(interface, INTERFACE, hr_spec_free);
STUB_KIND(routes, ROUTES, hr_routes_free);

json_t *
hr_hello(void)
{
	return json_pack("{s:s}", "version", "0.0.0");
}

/** Items 0..24, or a filter error, or with filter {"huge": true} more than fits a message. */
static json_t *
stub_list(const json_t *filter, size_t cursor, size_t limit, size_t *next, struct hr_errors *errors)
{
	json_t *items;

	if (json_object_get(filter, "nonsense") != NULL) {
		hr_error(errors, "filter.nonsense", HR_UNKNOWN_FIELD, "unknown field");
		return NULL;
	}
	items = json_array();
	if (json_object_get(filter, "huge") != NULL) {
		char *text = calloc(1, HR_MESSAGE_MAX + 1);

		memset(text, 'x', HR_MESSAGE_MAX);
		json_array_append_new(items, json_string(text));
		free(text);
		return items;
	}
	for (; cursor < 25 && limit > 0; cursor++, limit--)
		json_array_append_new(items, json_integer((json_int_t)cursor));
	*next = cursor < 25 ? cursor : 0;
	return items;
}

#define STUB_LIST(name)                                                                            \
	json_t *hr_list_##name(const json_t *filter, size_t cursor, size_t limit, size_t *next,    \
			struct hr_errors *errors)                                                  \
	{                                                                                          \
		return stub_list(filter, cursor, limit, next, errors);                             \
	}                                                                                          \
	_Static_assert(sizeof(#name) > 1, "a list has a name")

STUB_LIST(port);
STUB_LIST(network);
STUB_LIST(uplink);
STUB_LIST(interface);
STUB_LIST(routes);
STUB_LIST(route);
STUB_LIST(neighbor);

#endif
