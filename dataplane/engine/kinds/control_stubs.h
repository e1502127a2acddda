/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * The engine's kinds as they are, but for what they do: that is to write down what is asked of them,
 * and to check that what an object names is there for as long as the object is. Included by one file
 * of a program, which calls stub_kinds() first and has the whole engine linked.
 */
#ifndef HR_KINDS_CONTROL_STUBS_H
#define HR_KINDS_CONTROL_STUBS_H

#include <stdio.h>
#include <stdlib.h>

#include "../control/server.h"
#include "../control/store.h"
#include "../control/txn.h"
#include "../tests/check.h"
#include "interface.h"
#include "network.h"
#include "port.h"
#include "routes.h"
#include "settings.h"
#include "uplink.h"

static char stub_log[8192]; /**< "prepare port/a, apply port/a, ..." */
static bool stub_logs;
static const char *stub_fail_key; /**< The prepare() of this key fails. */
static int stub_prepared;         /**< prepare() not yet followed by apply() or abort(). */

static void
stub_write(const char *verb, const struct hr_kind *kind, const char *key)
{
	size_t n = strlen(stub_log);

	if (stub_logs)
		snprintf(stub_log + n, sizeof(stub_log) - n, "%s%s %s/%s", n > 0 ? ", " : "", verb,
				kind->name, key);
}

struct stub_state {
	const struct hr_kind *kind;
	char key[HR_NAME_MAX];
};

/** The kind of which a transaction has this spec for a key. */
static const struct hr_kind *
stub_kind_of(const struct hr_txn *txn, const char *key, const void *spec)
{
	for (unsigned i = 0; i < hr_n_kinds; i++) {
		if (hr_txn_spec(txn, hr_kinds[i], key) == spec)
			return hr_kinds[i];
	}
	return NULL;
}

static int
stub_prepare(struct hr_txn *txn, const char *key, const struct hr_object *old, void *new_spec,
		void **state, struct hr_errors *errors)
{
	const struct hr_kind *kind = stub_kind_of(txn, key, new_spec);
	struct stub_state *mine;

	CHECK(kind != NULL && old == hr_store_get(kind, key));
	CHECK(*state == NULL);
	stub_write("prepare", kind, key);
	if (stub_fail_key != NULL && strcmp(stub_fail_key, key) == 0) {
		hr_error(errors, "devargs", "PortFailed", "cannot \xff probe");
		return -1;
	}
	if (stub_fail_key != NULL && strcmp(stub_fail_key, "silent") == 0)
		return -1;
	if (kind == &hr_interface_kind) {
		const struct hr_interface_spec *interface = new_spec;
		const struct stub_state *port =
				hr_txn_prepared(txn, &hr_port_kind, interface->port);

		CHECK(hr_txn_spec(txn, &hr_port_kind, interface->port) != NULL);
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

	if (object->kind == &hr_uplink_kind)
		CHECK(hr_store_get(&hr_port_kind, uplink->port) != NULL);
	if (object->kind == &hr_interface_kind) {
		CHECK(hr_store_get(&hr_port_kind, interface->port) != NULL);
		CHECK(hr_store_get(&hr_network_kind, interface->network) != NULL);
	}
	if (object->kind == &hr_routes_kind) {
		CHECK(hr_store_get(&hr_network_kind, routes->network) != NULL);
		for (uint32_t i = 0; i < routes->n_networks; i++)
			CHECK(hr_store_get(&hr_network_kind, routes->networks[i]) != NULL);
	}
}

static void
stub_check_all(void)
{
	for (unsigned k = 0; k < hr_n_kinds; k++) {
		const struct hr_kind *kind = hr_kinds[k];

		for (size_t i = 0; i < hr_store_count(kind); i++) {
			const struct hr_object *object = hr_store_at(kind, i);

			CHECK(object->index == i && object->kind == kind);
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

json_t *
hr_hello(void)
{
	return json_pack("{s:s}", "version", "0.0.0");
}

uint64_t
hr_started(void)
{
	return 0;
}

/** Items 0..24, or with the filter "huge" more than fits a message. */
static json_t *
stub_list(const json_t *filter, size_t cursor, size_t limit, size_t *next, struct hr_errors *errors)
{
	json_t *items = json_array();

	RTE_SET_USED(errors);
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

/** Also the list of the kind itself, where it has one. */
static void
stub_lists(struct hr_kind *kind)
{
	struct hr_list *list = kind->lists;

	for (; list->name != NULL; list++)
		list->fn = stub_list;
	if (kind->describe != NULL)
		*list = (struct hr_list){kind->name, stub_list, {"name", "huge"}};
	kind->describe = NULL;
}

static void
stub_kinds(void)
{
	for (unsigned i = 0; i < hr_n_kinds; i++) {
		hr_kinds[i]->prepare = stub_prepare;
		hr_kinds[i]->abort = stub_abort;
		hr_kinds[i]->apply = stub_apply;
		hr_kinds[i]->remove = stub_remove;
		stub_lists(hr_kinds[i]);
	}
}

#endif
