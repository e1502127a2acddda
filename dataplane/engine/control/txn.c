/* SPDX-License-Identifier: Apache-2.0 */
#include "txn.h"

#include <errno.h>
#include <string.h>

#include "changes.h"
#include "check.h"

const void *
hr_txn_spec(const struct hr_txn *txn, const struct hr_kind *kind, const char *key)
{
	const struct hr_change *change = hr_changes_find(txn, kind, key);
	const struct hr_object *object;

	if (change != NULL)
		return change->spec;
	object = hr_store_get(kind, key);
	return object != NULL ? object->spec : NULL;
}

void *
hr_txn_prepared(const struct hr_txn *txn, const struct hr_kind *kind, const char *key)
{
	const struct hr_change *change = hr_changes_find(txn, kind, key);

	return change != NULL ? change->prepared : NULL;
}

static void
prepare_change(struct hr_txn *txn, struct hr_change *change)
{
	const struct hr_kind *kind = change->kind;
	size_t before = txn->errors->count;

	hr_errors_at(txn->errors, kind->name, change->key);
	if (kind->prepare == NULL ||
			kind->prepare(txn, change->key, change->is_new ? NULL : change->object,
					change->spec, &change->prepared, txn->errors) == 0)
		change->is_prepared = true;
	else if (txn->errors->count == before)
		hr_error(txn->errors, "", HR_PREPARE_FAILED, "cannot be prepared");
}

/** Prepare the objects put. After a failure the rest of its kind is still tried, for the report. */
static int
prepare(struct hr_txn *txn)
{
	for (unsigned k = 0; k < hr_n_kinds && txn->errors->count == 0; k++) {
		for (size_t i = 0; i < txn->n_changes; i++) {
			struct hr_change *change = &txn->changes[i];

			if (change->kind == hr_kinds[k] && change->action == HR_PUT)
				prepare_change(txn, change);
		}
	}
	if (txn->errors->count == 0)
		return 0;
	for (unsigned k = hr_n_kinds; k-- > 0;) {
		for (size_t i = txn->n_changes; i-- > 0;) {
			struct hr_change *change = &txn->changes[i];

			if (change->kind == hr_kinds[k] && change->is_prepared &&
					change->kind->abort != NULL)
				change->kind->abort(change->prepared);
		}
	}
	return -EINVAL;
}

static void
remove_object(struct hr_object *object)
{
	object->kind->remove(object);
	hr_store_remove(object);
	hr_object_free(object);
}

/** Remove what is deleted of the kinds to which others refer, or of those to which none does. */
static void
apply_deletes(struct hr_txn *txn, bool referenced)
{
	for (unsigned k = hr_n_kinds; k-- > 0;) {
		if (hr_kind_is_referenced(hr_kinds[k]) != referenced)
			continue;
		for (size_t i = txn->n_changes; i-- > 0;) {
			const struct hr_change *change = &txn->changes[i];

			if (change->kind == hr_kinds[k] && change->action == HR_DELETE &&
					change->object != NULL)
				remove_object(change->object);
		}
	}
}

static void
apply_put(struct hr_change *change)
{
	struct hr_object *object = change->object;
	void *old_spec = object->spec;

	object->spec = change->spec;
	if (change->garbage != NULL)
		change->garbage = old_spec;
	if (change->hash != NULL)
		memcpy(object->hash, change->hash, strlen(change->hash) + 1);
	if (change->is_new)
		hr_store_insert(object);
	change->is_new = false;
	change->kind->apply(object, old_spec, change->prepared);
}

/** See struct hr_kind for why in this order. */
static void
apply(struct hr_txn *txn)
{
	apply_deletes(txn, false);
	for (unsigned k = 0; k < hr_n_kinds; k++) {
		for (size_t i = 0; i < txn->n_changes; i++) {
			struct hr_change *change = &txn->changes[i];

			if (change->kind == hr_kinds[k] && change->action == HR_PUT)
				apply_put(change);
		}
	}
	for (unsigned k = 0; k < hr_n_kinds; k++) {
		if (hr_kinds[k]->applied != NULL)
			hr_kinds[k]->applied();
	}
	apply_deletes(txn, true);
}

int
hr_txn_commit(const json_t *objects, int64_t generation, struct hr_errors *errors)
{
	struct hr_txn txn = {.errors = errors};
	int rc = hr_changes_read(&txn, objects);

	if (rc == 0)
		rc = hr_check(&txn);
	if (rc == 0) {
		hr_changes_add_dependants(&txn);
		rc = prepare(&txn);
	}
	if (rc == 0) {
		apply(&txn);
		hr_store_set_generation(generation);
	}
	hr_changes_free(&txn);
	return rc;
}

void
hr_txn_clear(void)
{
	for (unsigned k = hr_n_kinds; k-- > 0;) {
		while (hr_store_count(hr_kinds[k]) > 0)
			remove_object(hr_store_at(hr_kinds[k], hr_store_count(hr_kinds[k]) - 1));
	}
}
