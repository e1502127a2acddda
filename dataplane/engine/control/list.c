/* SPDX-License-Identifier: Apache-2.0 */
#include "list.h"

#include <string.h>

#include "kind.h"

hr_list_fn *
hr_list_find(const char *name)
{
	for (unsigned i = 0; i < hr_n_kinds; i++) {
		for (const struct hr_list *list = hr_kinds[i]->lists; list->name != NULL; list++) {
			if (strcmp(list->name, name) == 0)
				return list->fn;
		}
	}
	return NULL;
}
