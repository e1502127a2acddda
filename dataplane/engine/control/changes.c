/* SPDX-License-Identifier: Apache-2.0 */
#include "changes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reader.h"

struct hr_change *
hr_changes_find(const struct hr_txn *txn, const struct hr_kind *kind, const char *key)
{
	return hr_map_get(&txn->by_key[kind->index], key, strlen(key));
}

int
hr_changes_out_of_memory(struct hr_txn *txn)
{
	hr_errors_at(txn->errors, NULL, NULL);
	hr_error(txn->errors, "", HR_OUT_OF_MEMORY, "out of memory");
	return -EINVAL;
}

/** Add a change; room is there. */
static struct hr_change *
add(struct hr_txn *txn, const struct hr_kind *kind, const char *key)
{
	struct hr_change *change = &txn->changes[txn->n_changes++];

	*change = (struct hr_change){
			.kind = kind,
			.key = key,
			.object = hr_store_get(kind, key),
	};
	hr_map_put(&txn->by_key[kind->index], key, strlen(key), change);
	return change;
}

/** Read one element of a commit's objects. */
static void
read_change(struct hr_txn *txn, size_t i, const json_t *json)
{
	const struct hr_kind *kind = NULL;
	const char *kind_name, *key;
	const json_t *spec = NULL;
	struct hr_reader reader;
	struct hr_change *change;
	char path[32];

	snprintf(path, sizeof(path), "objects[%zu]", i);
	hr_errors_at(txn->errors, NULL, NULL);
	hr_read_begin(&reader, json, path, txn->errors);
	kind_name = hr_read_string(&reader, "kind", HR_NAME_MAX - 1);
	key = hr_read_string(&reader, "key", HR_NAME_MAX - 1);
	if (kind_name != NULL) {
		kind = hr_kind_find(kind_name);
		if (kind == NULL)
			hr_read_error(&reader, "kind", HR_INVALID_FIELD,
					"\"%.64s\" is no kind of object", kind_name);
	}
	if (kind == NULL || key == NULL)
		return;
	hr_errors_at(txn->errors, kind_name, key);
	reader.path[0] = '\0';
	if (kind->only_key != NULL && strcmp(key, kind->only_key) != 0)
		hr_read_error(&reader, "key", HR_INVALID_FIELD, "must be \"%s\"", kind->only_key);
	if (hr_changes_find(txn, kind, key) != NULL) {
		hr_read_error(&reader, "", HR_DUPLICATE, "twice in one transaction");
		return;
	}
	change = add(txn, kind, key);
	if (hr_read_has(&reader, "delete")) {
		change->action = HR_DELETE;
		if (!hr_read_bool(&reader, "delete"))
			hr_read_error(&reader, "delete", HR_INVALID_FIELD, "must be true");
	} else {
		change->action = HR_PUT;
		change->hash = hr_read_string(&reader, "hash", HR_HASH_MAX);
		spec = hr_read_field(&reader, "spec");
	}
	if (hr_read_end(&reader) != 0 || change->action == HR_DELETE)
		return;
	if (change->object != NULL && strcmp(change->object->hash, change->hash) == 0) {
		change->action = HR_KEEP;
		change->spec = change->object->spec;
		return;
	}
	change->spec = change->garbage = kind->parse(spec, txn->errors);
	if (change->object == NULL) {
		change->is_new = true;
		change->object = hr_object_create(kind, key);
		if (change->object == NULL)
			hr_changes_out_of_memory(txn);
	}
}

/** How many objects of a kind may be put again because of others. */
static size_t
count_dependants(const struct hr_kind *kind)
{
	for (const struct hr_reference *reference = kind->references; reference->field != NULL;
			reference++) {
		if (reference->is_exclusive)
			return hr_store_count(kind);
	}
	return 0;
}

/** Make room for so many objects of a kind, and for its dependants. */
static int
reserve(struct hr_txn *txn, const struct hr_kind *kind, size_t n)
{
	if (hr_map_reserve(&txn->by_key[kind->index], n + count_dependants(kind)) != 0)
		return -ENOMEM;
	return hr_store_reserve(kind, n);
}

int
hr_changes_read(struct hr_txn *txn, const json_t *objects)
{
	size_t n = json_array_size(objects), n_dependants = 0, n_kind[HR_KINDS_MAX] = {0};

	for (unsigned i = 0; i < hr_n_kinds; i++)
		n_dependants += count_dependants(hr_kinds[i]);
	txn->changes = calloc(n + n_dependants + 1, sizeof(*txn->changes));
	if (txn->changes == NULL)
		return hr_changes_out_of_memory(txn);
	for (size_t i = 0; i < n; i++) {
		const char *name = json_string_value(json_object_get(json_array_get(objects, i),
				"kind"));
		const struct hr_kind *kind = name != NULL ? hr_kind_find(name) : NULL;

		if (kind != NULL)
			n_kind[kind->index]++;
	}
	for (unsigned i = 0; i < hr_n_kinds; i++) {
		if (reserve(txn, hr_kinds[i], n_kind[i]) != 0)
			return hr_changes_out_of_memory(txn);
	}
	for (size_t i = 0; i < n; i++)
		read_change(txn, i, json_array_get(objects, i));
	return txn->errors->count == 0 ? 0 : -EINVAL;
}

/** Whether an object has the only use of one that is replaced. */
static bool
depends_on_replaced(const struct hr_txn *txn, const struct hr_object *object)
{
	for (const struct hr_reference *reference = object->kind->references;
			reference->field != NULL; reference++) {
		const char *name;

		if (!reference->is_exclusive)
			continue;
		for (uint32_t i = 0; (name = reference->name(object->spec, i)) != NULL; i++) {
			const struct hr_change *change =
					hr_changes_find(txn, reference->kind, name);

			if (change != NULL && change->action == HR_PUT)
				return true;
		}
	}
	return false;
}

void
hr_changes_add_dependants(struct hr_txn *txn)
{
	for (unsigned i = 0; i < hr_n_kinds; i++) {
		size_t n = count_dependants(hr_kinds[i]);

		for (size_t j = 0; j < n; j++) {
			struct hr_object *object = hr_store_at(hr_kinds[i], j);
			struct hr_change *change;

			if (!depends_on_replaced(txn, object))
				continue;
			change = hr_changes_find(txn, hr_kinds[i], object->key);
			if (change == NULL)
				change = add(txn, hr_kinds[i], object->key);
			else if (change->action != HR_KEEP)
				continue;
			change->action = HR_PUT;
			change->spec = object->spec;
		}
	}
}

void
hr_changes_free(struct hr_txn *txn)
{
	for (size_t i = 0; i < txn->n_changes; i++) {
		struct hr_change *change = &txn->changes[i];

		if (change->garbage != NULL)
			change->kind->free_spec(change->garbage);
		if (change->is_new)
			hr_object_free(change->object);
	}
	for (unsigned i = 0; i < hr_n_kinds; i++)
		hr_map_free(&txn->by_key[i]);
	free(txn->changes);
}
