/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Uplinks as commits and ports change them. Control thread.
 */
#include "uplink.h"

#include <stdlib.h>

#include "../control/addr.h"
#include "../control/json.h"
#include "../kinds/uplink.h"
#include "../worker.h"
#include "group.h"
#include "neigh_lost.h"
#include "neigh_state.h"
#include "neigh_timer.h"
#include "path.h"
#include "underlay.h"
#include "uplink_state.h"

/** The link-local address that a MAC address makes: RFC 4291 appendix A. */
static struct hr_ip6
link_local_of(const struct rte_ether_addr *mac)
{
	const uint8_t *m = mac->addr_bytes;

	return (struct hr_ip6){.b = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, m[0] ^ 2, m[1], m[2], 0xff, 0xfe,
					       m[3], m[4], m[5]}};
}

static void
publish(struct hr_uplink *uplink)
{
	const struct hr_uplink_spec *spec = uplink->object->spec;
	struct hr_port_ctx ctx = {
			.port = uplink->port_id,
			.role = HR_ROLE_UPLINK,
			.mtu = uplink->mtu,
			.mac = uplink->mac,
	};

	for (uint16_t i = 0; i < spec->n_addresses; i++)
		ctx.own[ctx.n_own++] = (struct hr_addr){
				.family = 6,
				.ip6 = spec->addresses[i],
		};
	ctx.own[ctx.n_own++] = (struct hr_addr){.family = 6, .ip6 = uplink->link_local};
	if (hr_underlay_has(&spec->addresses[0]))
		ctx.own_free = HR_VNI_BITS;
	hr_port_ctx_set(uplink->port_id, &ctx);
	hr_groups_changed();
}

void
hr_uplinks_publish(void)
{
	for (size_t i = 0; i < hr_store_count(&hr_uplink_kind); i++) {
		struct hr_uplink *uplink = hr_store_at(&hr_uplink_kind, i)->state;

		if (uplink->port_id != HR_PORT_NO_ID)
			publish(uplink);
	}
}

/** Take in how the link is. @return whether that makes a difference to who has which share */
static bool
look(struct hr_uplink *uplink, uint64_t now_ms)
{
	const bool up = hr_port_look(uplink->port, now_ms) == HR_PORT_UP;
	const enum hr_uplink_link before = uplink->link;

	if (uplink->port_id != HR_PORT_NO_ID)
		hr_neigh_link(uplink->port_id, up);
	if (!up) {
		uplink->link = HR_UPLINK_DOWN;
	} else if (before == HR_UPLINK_NEW) {
		uplink->link = HR_UPLINK_UP;
	} else if (before == HR_UPLINK_DOWN) {
		uplink->link = HR_UPLINK_HELD;
		uplink->up_ms = now_ms;
	} else if (before == HR_UPLINK_HELD && now_ms - uplink->up_ms >= HR_UPLINK_HOLD_MS) {
		uplink->link = HR_UPLINK_UP;
	}
	return uplink->link != before;
}

void
hr_uplinks_tick(uint64_t now_ms)
{
	static uint64_t next_ms;
	bool changed = hr_neigh_lost_changed();

	if (now_ms >= next_ms) {
		next_ms = now_ms + HR_UPLINK_LOOK_MS;
		for (size_t i = 0; i < hr_store_count(&hr_uplink_kind); i++)
			changed |= look(hr_store_at(&hr_uplink_kind, i)->state, now_ms);
	}
	if (changed)
		hr_path_refresh_all();
}

/** Take up the device as it is now: present or gone. */
static void
refresh(struct hr_port *port, void *user)
{
	struct hr_uplink *uplink = user;
	const struct hr_uplink_spec *spec = uplink->object->spec;

	uplink->port = port;
	uplink->port_id = hr_port_id(port);
	uplink->mtu = RTE_MIN(spec->mtu, hr_port_mtu(port));
	uplink->source = spec->addresses[0];
	if (uplink->port_id != HR_PORT_NO_ID) {
		hr_port_mac(port, &uplink->mac);
		uplink->link_local = link_local_of(&uplink->mac);
		publish(uplink);
	}
	hr_neigh_watch(hr_store_count(&hr_uplink_kind) > 1);
	look(uplink, hr_neigh_now);
	hr_path_refresh_all();
}

int
hr_uplink_prepare(struct hr_txn *txn, const char *key, const struct hr_object *old, void *new_spec,
		void **state, struct hr_errors *errors)
{
	RTE_SET_USED(txn);
	RTE_SET_USED(key);
	RTE_SET_USED(new_spec);
	if (old != NULL)
		return 0;
	*state = calloc(1, sizeof(struct hr_uplink));
	if (*state != NULL)
		return 0;
	hr_error(errors, "", HR_OUT_OF_MEMORY, "no memory for the uplink");
	return -1;
}

/** Unless another took the port over in the same commit. */
static void
leave_port(struct hr_uplink *uplink)
{
	if (hr_port_user(uplink->port) != uplink)
		return;
	if (uplink->port_id != HR_PORT_NO_ID)
		hr_port_ctx_set(uplink->port_id, NULL);
	hr_groups_changed();
	hr_port_detach(uplink->port);
}

void
hr_uplink_apply(struct hr_object *object, void *old_spec, void *prepared)
{
	const struct hr_uplink_spec *spec = object->spec;
	struct hr_uplink *uplink;
	struct hr_port *port;

	RTE_SET_USED(old_spec);
	if (prepared != NULL)
		object->state = prepared;
	uplink = object->state;
	uplink->object = object;
	port = hr_port_get(spec->port);
	if (uplink->port != NULL && uplink->port != port)
		leave_port(uplink);
	hr_port_attach(port, refresh, uplink);
	refresh(port, uplink);
}

void
hr_uplink_remove(struct hr_object *object)
{
	struct hr_uplink *uplink = object->state;

	leave_port(uplink);
	object->state = NULL;
	hr_neigh_watch(hr_store_count(&hr_uplink_kind) > 2);
	hr_path_refresh_all();
	free(uplink);
}

json_t *
hr_uplink_describe(const struct hr_object *object)
{
	const struct hr_uplink_spec *spec = object->spec;
	const struct hr_uplink *uplink = object->state;
	json_t *addresses = json_array(), *links = json_array(), *item;
	char text[HR_ADDR_TEXT];

	for (uint16_t i = 0; i < spec->n_addresses; i++)
		hr_json_append_ip6(addresses, &spec->addresses[i]);
	for (uint16_t i = 0; i < spec->n_on_link; i++)
		hr_json_append_prefix(links, &spec->on_link[i]);
	item = json_pack("{s:s, s:s, s:s, s:i, s:o, s:o, s:i, s:n}", "name", object->key, "port",
			spec->port, "state", hr_port_state_name(hr_port_state(uplink->port)), "mtu",
			uplink->mtu, "addresses", addresses, "onLink", links, "weight",
			spec->weight, "gateway");
	if (spec->has_gateway) {
		json_object_set_new(item, "gateway",
				json_string(hr_ip6_format(&spec->gateway, text)));
	}
	hr_port_describe_device(uplink->port, item);
	return item;
}

const struct hr_port *
hr_uplink_port(const struct hr_object *object)
{
	return hr_port_get(((const struct hr_uplink_spec *)object->spec)->port);
}
