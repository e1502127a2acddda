/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * The list `neighbor`: {"port","interface"|null,"address","mac"|null,"state","ageSeconds"}, one item
 * per address; filters port and address.
 */
#include "../control/addr.h"
#include "../control/json.h"
#include "../control/list.h"
#include "../control/store.h"
#include "../kinds/interface.h"
#include "../kinds/port.h"
#include "../port/port.h"
#include "neigh.h"
#include "neigh_private.h"
#include "neigh_table.h"

static const char *
port_name(uint16_t id)
{
	for (size_t i = 0; i < hr_store_count(&hr_port_kind); i++) {
		const char *name = hr_store_at(&hr_port_kind, i)->key;
		const struct hr_port *port = hr_port_get(name);

		if (port != NULL && hr_port_id(port) == id)
			return name;
	}
	return "";
}

static json_t *
describe(const struct hr_neigh *neigh, const char *port, const char *address)
{
	return json_pack("{s:s, s:s?, s:s, s:o, s:s, s:I}", "port", port, "interface", neigh->name,
			"address", address, "mac",
			hr_neigh_is_usable(neigh) ? hr_json_mac(&neigh->mac) : json_null(), "state",
			hr_neigh_state_name(neigh->state), "ageSeconds",
			(json_int_t)((hr_neigh_now - neigh->confirmed_ms) / 1000));
}

json_t *
hr_list_neighbor(const json_t *filter, size_t cursor, size_t limit, size_t *next,
		struct hr_errors *errors)
{
	json_t *items = json_array();
	const struct hr_neigh *neigh = NULL;
	char address[HR_ADDR_TEXT];
	size_t index = 0;

	RTE_SET_USED(errors);
	*next = 0;
	while ((neigh = hr_neigh_next(neigh)) != NULL) {
		const char *port;

		if (index + neigh->n_target <= cursor) {
			index += neigh->n_target;
			continue;
		}
		port = port_name(neigh->port);
		for (unsigned i = 0; i < neigh->n_target; i++, index++) {
			hr_addr_format(&neigh->target[i], address);
			if (index < cursor || !hr_filter_text(filter, "port", port) ||
					!hr_filter_text(filter, "address", address))
				continue;
			if (json_array_size(items) == limit) {
				*next = index;
				return items;
			}
			json_array_append_new(items, describe(neigh, port, address));
		}
	}
	return items;
}
