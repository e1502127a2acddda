/* SPDX-License-Identifier: Apache-2.0 */
#include "list.h"

#include <string.h>

#include "reader.h"
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
static const struct hr_list *
find(const char *name)
{
	for (unsigned i = 0; i < hr_n_kinds; i++) {
		for (const struct hr_list *list = hr_kinds[i]->lists; list->name != NULL; list++) {
			if (strcmp(list->name, name) == 0)
				return list;
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

/** Whether a filter has only strings, of these names. @return 0, or -EINVAL with errors added */
static int
check_filter(const json_t *filter, const char *const *names, struct hr_errors *errors)
{
	struct hr_reader reader;

	if (filter == NULL)
		return 0;
	hr_read_begin(&reader, filter, "filter", errors);
	for (; *names != NULL; names++)
		if (hr_read_has(&reader, *names))
			hr_read_string(&reader, *names, HR_NAME_MAX);
	return hr_read_end(&reader);
}

json_t *
hr_list(const char *name, const json_t *filter, size_t cursor, size_t limit, size_t *next,
		struct hr_errors *errors)
{
	static const char *const of_objects[] = {"name", NULL};
	const struct hr_kind *kind = hr_kind_find(name);
	const bool is_kind = kind != NULL && kind->describe != NULL;
	const struct hr_list *list = is_kind ? NULL : find(name);

	if (check_filter(filter, is_kind ? of_objects : list->filters, errors) != 0)
		return NULL;
	return is_kind ? list_objects(kind, filter, cursor, limit, next)
		       : list->fn(filter, cursor, limit, next, errors);
}
