/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "changes.h"

/** An object as it would be after the commit. */
struct view {
	const struct hr_kind *kind;
	const char *key;
	const void *spec;
	bool is_changed;
};

struct hr_check {
	struct hr_txn *txn;
	const struct view *view; /**< Checked now. */
	/** By index of the kind: whose only user each object is; the total so far. */
	struct hr_resource users[HR_KINDS_MAX];
	size_t size[HR_KINDS_MAX];
	struct hr_resource *resources; /**< Seen so far. */
};

static void
errors_at(const struct hr_check *check)
{
	hr_errors_at(check->txn->errors, check->view->kind->name, check->view->key);
}

/** Check that an object that a field names will be there. */
static void
check_exists(const struct hr_check *check, const struct hr_reference *reference, const char *key)
{
	struct hr_errors *errors = check->txn->errors;
	struct hr_change *change = hr_changes_find(check->txn, reference->kind, key);

	if (change != NULL ? change->action != HR_DELETE
			   : hr_store_get(reference->kind, key) != NULL)
		return;
	if (check->view->is_changed || change == NULL) {
		errors_at(check);
		hr_error(errors, reference->field, HR_UNKNOWN_REFERENCE, "no %s \"%s\"",
				reference->kind->name, key);
	} else if (!change->is_reported) {
		change->is_reported = true;
		hr_errors_at(errors, reference->kind->name, key);
		hr_error(errors, "", HR_IN_USE, "in use by %s \"%s\"", check->view->kind->name,
				check->view->key);
	}
}

void
hr_claim(struct hr_check *check, struct hr_resource *resource, const char *field, const void *value,
		size_t length, const char *text)
{
	const struct view *other = hr_map_get(&resource->owners, value, length);

	if (other != NULL && other != check->view && other->kind == resource->shared_by &&
			check->view->kind == resource->shared_by)
		return;
	if (other != NULL) {
		errors_at(check);
		hr_error(check->txn->errors, field, HR_CONFLICT, "%s is already taken by %s \"%s\"",
				text, other->kind->name, other->key);
		return;
	}
	if (hr_map_reserve(&resource->owners, resource->owners.count + 1) != 0) {
		hr_changes_out_of_memory(check->txn);
		return;
	}
	if (resource->owners.count == 0) {
		resource->next = check->resources;
		check->resources = resource;
	}
	/* The map gives back what it was given, and no one writes through it. */
	hr_map_put(&resource->owners, value, length, (void *)(uintptr_t)check->view);
}

static void
check_references(struct hr_check *check)
{
	for (const struct hr_reference *reference = check->view->kind->references;
			reference->field != NULL; reference++) {
		const char *key;

		for (uint32_t i = 0; (key = reference->name(check->view->spec, i)) != NULL; i++) {
			check_exists(check, reference, key);
			if (reference->is_exclusive)
				hr_claim(check, &check->users[reference->kind->index],
						reference->field, key, strlen(key), key);
		}
	}
}

static void
check_size(struct hr_check *check)
{
	const struct hr_kind *kind = check->view->kind;
	const size_t before = check->size[kind->index];

	check->size[kind->index] += kind->size != NULL ? kind->size(check->view->spec) : 1;
	if (kind->max == 0 || check->size[kind->index] <= kind->max || before > kind->max)
		return;
	errors_at(check);
	hr_error(check->txn->errors, "", HR_LIMIT_EXCEEDED, "more than %zu %s in all", kind->max,
			kind->plural);
}

/** The whole state after the commit: what stays first, so that errors name what changes. */
static struct view *
view_all(const struct hr_txn *txn, size_t *n_views)
{
	size_t room = txn->n_changes, n = 0;
	struct view *views;

	for (unsigned i = 0; i < hr_n_kinds; i++)
		room += hr_store_count(hr_kinds[i]);
	views = calloc(room + 1, sizeof(*views));
	for (unsigned i = 0; views != NULL && i < hr_n_kinds; i++) {
		for (size_t j = 0; j < hr_store_count(hr_kinds[i]); j++) {
			const struct hr_object *object = hr_store_at(hr_kinds[i], j);
			const struct hr_change *change =
					hr_changes_find(txn, hr_kinds[i], object->key);

			if (change == NULL || change->action == HR_KEEP)
				views[n++] = (struct view){
						hr_kinds[i], object->key, object->spec, false};
		}
	}
	for (size_t i = 0; views != NULL && i < txn->n_changes; i++) {
		const struct hr_change *change = &txn->changes[i];

		if (change->action == HR_PUT)
			views[n++] = (struct view){change->kind, change->key, change->spec, true};
	}
	*n_views = n;
	return views;
}

/*
 * The state after the commit is checked as a whole, whatever the size of the change: objects are
 * few (routes come in slices), and so there are no reverse indexes to keep true.
 */
int
hr_check(struct hr_txn *txn)
{
	struct hr_check check = {.txn = txn};
	size_t n;
	struct view *views = view_all(txn, &n);

	if (views == NULL)
		return hr_changes_out_of_memory(txn);
	for (size_t i = 0; i < n; i++) {
		check.view = &views[i];
		check_references(&check);
		if (views[i].kind->claim != NULL)
			views[i].kind->claim(&check, views[i].spec);
		check_size(&check);
	}
	for (struct hr_resource *resource = check.resources; resource != NULL;
			resource = resource->next)
		hr_map_free(&resource->owners);
	free(views);
	return txn->errors->count == 0 ? 0 : -EINVAL;
}
