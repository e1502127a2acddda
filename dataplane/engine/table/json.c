/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include "../control/addr.h"

void
hr_json_append_addr(json_t *array, const struct hr_addr *addr)
{
	char text[HR_ADDR_TEXT];

	json_array_append_new(array, json_string(hr_addr_format(addr, text)));
}

void
hr_json_append_ip6(json_t *array, const struct hr_ip6 *ip6)
{
	char text[HR_ADDR_TEXT];

	json_array_append_new(array, json_string(hr_ip6_format(ip6, text)));
}

void
hr_json_append_prefix(json_t *array, const struct hr_prefix *prefix)
{
	char text[HR_PREFIX_TEXT];

	json_array_append_new(array, json_string(hr_prefix_format(prefix, text)));
}

json_t *
hr_json_mac(const struct rte_ether_addr *mac)
{
	char text[HR_MAC_TEXT];

	return json_string(hr_mac_format(mac, text));
}

bool
hr_filter_text(const json_t *filter, const char *name, const char *text)
{
	const char *wanted = json_string_value(json_object_get(filter, name));

	return wanted == NULL || strcmp(wanted, text) == 0;
}

json_t *
hr_list_objects(const struct hr_kind *kind, json_t *(*describe)(const struct hr_object *object),
		const json_t *filter, size_t cursor, size_t limit, size_t *next)
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
		json_array_append_new(items, describe(object));
	}
	return items;
}
