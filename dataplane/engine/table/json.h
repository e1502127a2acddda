/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What `list` replies of all kinds share.
 */
#ifndef HR_JSON_H
#define HR_JSON_H

#include "../control/store.h"

void hr_json_append_addr(json_t *array, const struct hr_addr *addr);
void hr_json_append_ip6(json_t *array, const struct hr_ip6 *ip6);
void hr_json_append_prefix(json_t *array, const struct hr_prefix *prefix);
json_t *hr_json_mac(const struct rte_ether_addr *mac);

/** Whether a text filter of this name is absent or says this. */
bool hr_filter_text(const json_t *filter, const char *name, const char *text);

/**
 * Describe the objects of a kind in the order of the store, those whose key is filter "name",
 * or all.
 * @param next the cursor to go on from; 0 at the end
 */
json_t *hr_list_objects(const struct hr_kind *kind,
		json_t *(*describe)(const struct hr_object *object), const json_t *filter,
		size_t cursor, size_t limit, size_t *next);

#endif
