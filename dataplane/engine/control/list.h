/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What "list" requests can ask for: the objects of each kind, and what else a kind lists.
 */
#ifndef HR_CONTROL_LIST_H
#define HR_CONTROL_LIST_H

#include "kind.h"

#define HR_LIST_LIMIT 1000      /**< Items of one reply when the request names no limit. */
#define HR_LIST_LIMIT_MAX 10000 /**< Most that a request may name. */

/** Whether there is a list of that name. */
bool hr_list_exists(const char *name);
/** One page of the list of a name: as hr_list_fn. */
json_t *hr_list(const char *name, const json_t *filter, size_t cursor, size_t limit, size_t *next,
		struct hr_errors *errors);

/** Whether a text filter of this name is absent or says this. */
bool hr_filter_text(const json_t *filter, const char *name, const char *text);

#endif
