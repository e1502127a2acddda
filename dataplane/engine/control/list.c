/* SPDX-License-Identifier: Apache-2.0 */
#include "list.h"

#include <string.h>

#include "store.h"

bool
hr_filter_text(const json_t *filter, const char *name, const char *text)
{
	const char *wanted = json_string_value(json_object_get(filter, name));

	return wanted == NULL || strcmp(wanted, text) == 0;
}

/** The objects of a kind in the order of the store: those whose key is filter "name", or all. */
static json_t *
list_objects(const struct hr_kind *kind, const json_t *filter, size_t cursor, size_t limit,
		size_t *next)
{
	const size_t count = hr_store_count(kind);
	json_t *items = json_array();

	*next = 0;
	for (size_t i = cursor; i < count; i++) {
		const struct hr_object *object = hr_store_at(kind, i);

		if (!hr_filter_text(filter, "name", object->key))
			continue;
		if (json_array_size(items) == limit) {
			*next = i;
			break;
		}
		json_array_append_new(items, kind->describe(object));
	}
	return items;
}

/** The list of a name that is no kind's, or NULL. */
static hr_list_fn *
find(const char *name)
{
	for (unsigned i = 0; i < hr_n_kinds; i++) {
		for (const struct hr_list *list = hr_kinds[i]->lists; list->name != NULL; list++) {
			if (strcmp(list->name, name) == 0)
				return list->fn;
		}
	}
	return NULL;
}

bool
hr_list_exists(const char *name)
{
	const struct hr_kind *kind = hr_kind_find(name);

	return (kind != NULL && kind->describe != NULL) || find(name) != NULL;
}

json_t *
hr_list(const char *name, const json_t *filter, size_t cursor, size_t limit, size_t *next,
		struct hr_errors *errors)
{
	const struct hr_kind *kind = hr_kind_find(name);

	if (kind != NULL && kind->describe != NULL)
		return list_objects(kind, filter, cursor, limit, next);
	return find(name)(filter, cursor, limit, next, errors);
}
