/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include "addr.h"

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
