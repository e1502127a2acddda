/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Interfaces as commits and ports change them. Control thread.
 */
#include <stdlib.h>

#include "../control/addr.h"
#include "../control/json.h"
#include "../kinds/interface.h"
#include "../packet/frame.h"
#include "../rcu.h"
#include "../worker.h"
#include "group.h"
#include "interface_state.h"
#include "locals.h"
#include "neigh_adj.h"
#include "path.h"
#include "vrf.h"

static void
add_source(struct hr_port_ctx *ctx, const struct hr_addr *addr, uint8_t len)
{
	if (addr->family == 4) {
		const rte_be32_t mask = len == 0 ? 0 : rte_cpu_to_be_32(UINT32_MAX << (32 - len));

		ctx->source4[ctx->n_source4++] =
				(struct hr_source4){.addr = addr->ip4, .mask = mask};
	} else {
		struct hr_source6 *source = &ctx->source6[ctx->n_source6++];

		source->addr = addr->ip6;
		for (unsigned i = 0; i < 16; i++)
			source->mask.b[i] = len >= 8 * (i + 1) ? 0xff
					: len <= 8 * i         ? 0
							       : 0xff << (8 - len % 8);
	}
}

static void
publish(const struct hr_interface *interface)
{
	const struct hr_interface_spec *spec = interface->object->spec;
	struct hr_port_ctx ctx = {
			.port = interface->port_id,
			.role = HR_ROLE_INTERFACE,
			.source_check = spec->source_check,
			.mtu = RTE_MIN(spec->mtu, hr_port_mtu(interface->port)),
			.mac = interface->gateway_mac,
			.vrf = hr_network_vrf(spec->network),
			.adj = interface->adj,
	};

	if (spec->source_check && spec->has_mac)
		ctx.source_mac = spec->mac;
	for (uint16_t i = 0; i < spec->n_addresses; i++)
		add_source(&ctx, &spec->addresses[i], spec->addresses[i].family == 4 ? 32 : 128);
	for (uint16_t i = 0; i < spec->n_prefixes; i++)
		add_source(&ctx, &spec->prefixes[i].addr, spec->prefixes[i].len);
	for (uint16_t i = 0; i < spec->n_gateways; i++)
		ctx.own[ctx.n_own++] = spec->gateways[i];
	hr_port_ctx_set(interface->port_id, &ctx);
	hr_groups_changed();
}

static void
set_gateway_mac(struct hr_interface *interface)
{
	/* A VF's switch may drop what leaves with another address than the VF's. */
	if (hr_port_is_virtual(interface->port))
		interface->gateway_mac = hr_mac_gateway;
	else
		hr_port_mac(interface->port, &interface->gateway_mac);
}

/**
 * Take up the device and the spec as they are now. Packets to the endpoint wait meanwhile.
 * The MAC address learned so far is kept, to be confirmed.
 */
static void
refresh(struct hr_port *port, void *user)
{
	struct hr_interface *interface = user;
	const struct hr_interface_spec *spec = interface->object->spec;
	struct hr_neigh *old = interface->neigh;

	if (old != NULL)
		hr_neigh_state(old, &interface->learned);
	interface->port = port;
	interface->port_id = hr_port_id(port);
	interface->neigh = NULL;
	hr_neigh_unbind(interface->adj);
	hr_adj_set_op(&hr_adjs[interface->adj], HR_OP_RESOLVE);
	/* Before there is another: memory is reserved for one. */
	if (old != NULL)
		hr_neigh_put(old);
	if (interface->port_id != HR_PORT_NO_ID) {
		set_gateway_mac(interface);
		interface->neigh = hr_neigh_endpoint(interface->port_id, interface->object->key,
				spec->addresses, spec->n_addresses, spec->gateways,
				spec->n_gateways, &interface->gateway_mac,
				spec->has_mac ? &spec->mac : NULL,
				rte_is_zero_ether_addr(&interface->learned) ? NULL
									    : &interface->learned);
		publish(interface);
	}
	hr_rcu_barrier();
	hr_interface_rewrite(interface, &hr_adjs[interface->adj]);
	if (interface->neigh != NULL)
		hr_neigh_bind(interface->neigh, interface->adj);
	else
		hr_adj_set_op(&hr_adjs[interface->adj], HR_OP_UNREACHABLE);
	hr_path_refresh(interface->underlay, interface->n_underlay);
}

int
hr_interface_prepare(struct hr_txn *txn, const char *key, const struct hr_object *old,
		void *new_spec, void **state, struct hr_errors *errors)
{
	struct hr_interface *interface;

	RTE_SET_USED(txn);
	RTE_SET_USED(key);
	RTE_SET_USED(new_spec);
	if (hr_interface_reserve() != 0)
		goto fail;
	if (old != NULL)
		return 0;
	interface = calloc(1, sizeof(*interface));
	if (interface == NULL || hr_neigh_reserve(true) != 0) {
		free(interface);
		goto fail;
	}
	interface->adj = hr_adj_alloc();
	if (interface->adj != 0) {
		*state = interface;
		return 0;
	}
	hr_neigh_unreserve(true);
	free(interface);
fail:
	hr_error(errors, "", HR_OUT_OF_MEMORY, "no memory for the interface");
	return -1;
}

void
hr_interface_abort(void *state)
{
	struct hr_interface *interface = state;

	if (interface == NULL)
		return;
	hr_adj_free(interface->adj);
	hr_neigh_unreserve(true);
	free(interface);
}

static bool
had_underlay(const struct hr_interface_spec *spec, const struct hr_ip6 *underlay)
{
	bool had = memcmp(&spec->underlay, underlay, sizeof(*underlay)) == 0;

	for (uint16_t i = 0; i < spec->n_former && !had; i++)
		had = memcmp(&spec->former[i], underlay, sizeof(*underlay)) == 0;
	return had;
}

/** Choose again for the addresses that the Interface had and has not, or has and had not. */
static void
refresh_changed_paths(const struct hr_interface *interface, const struct hr_interface_spec *old)
{
	struct hr_ip6 changed[2 * (1 + HR_MAX_FORMER)];
	unsigned n = 0;

	for (int i = -1; i < old->n_former; i++) {
		const struct hr_ip6 *underlay = i < 0 ? &old->underlay : &old->former[i];

		if (hr_interface_by_underlay(underlay) != interface)
			changed[n++] = *underlay;
	}
	for (uint16_t i = 0; i < interface->n_underlay; i++)
		if (!had_underlay(old, &interface->underlay[i]))
			changed[n++] = interface->underlay[i];
	hr_path_refresh(changed, n);
}

/** Whether a changed spec leaves the way to the endpoint as it is: no packet has to wait. */
static bool
keeps_endpoint(const struct hr_interface *interface, const struct hr_interface_spec *old,
		const struct hr_interface_spec *spec)
{
	return old != NULL && old != spec && interface->port == hr_port_get(spec->port) &&
			interface->port_id == hr_port_id(interface->port) &&
			interface->port_id != HR_PORT_NO_ID &&
			old->n_addresses == spec->n_addresses &&
			memcmp(old->addresses, spec->addresses, sizeof(old->addresses)) == 0 &&
			old->n_gateways == spec->n_gateways &&
			memcmp(old->gateways, spec->gateways, sizeof(old->gateways)) == 0 &&
			old->has_mac == spec->has_mac && old->mtu == spec->mtu &&
			rte_is_same_ether_addr(&old->mac, &spec->mac);
}

/** Unless another took the port over in the same commit. */
static void
leave_port(struct hr_interface *interface)
{
	if (hr_port_user(interface->port) != interface)
		return;
	if (interface->port_id != HR_PORT_NO_ID)
		hr_port_ctx_set(interface->port_id, NULL);
	hr_groups_changed();
	hr_port_detach(interface->port);
}

void
hr_interface_apply(struct hr_object *object, void *old_spec, void *prepared)
{
	const struct hr_interface_spec *spec = object->spec, *old = old_spec;
	struct hr_interface *interface;
	struct hr_port *port;

	if (prepared != NULL)
		object->state = prepared;
	interface = object->state;
	interface->object = object;
	hr_interface_release_underlay(interface);
	hr_interface_take_underlay(interface, spec);
	if (keeps_endpoint(interface, old, spec)) {
		publish(interface);
		if (strcmp(old->network, spec->network) != 0)
			hr_path_refresh(interface->underlay, interface->n_underlay);
	} else {
		port = hr_port_get(spec->port);
		if (interface->port != NULL && interface->port != port)
			leave_port(interface);
		hr_port_attach(port, refresh, interface);
		refresh(port, interface);
	}
	hr_locals_rebuild(NULL);
	hr_groups_changed(); /* All uplinks answer for it. */
	if (old != NULL)
		refresh_changed_paths(interface, old);
}

void
hr_interface_remove(struct hr_object *object)
{
	struct hr_interface *interface = object->state;
	const uint16_t n_underlay = interface->n_underlay;

	hr_interface_release_underlay(interface);
	hr_locals_rebuild(object);
	hr_groups_changed();
	leave_port(interface);
	hr_path_refresh(interface->underlay, n_underlay);
	hr_neigh_unbind(interface->adj);
	if (interface->neigh != NULL)
		hr_neigh_put(interface->neigh);
	hr_neigh_unreserve(true);
	hr_adj_free(interface->adj);
	object->state = NULL;
	free(interface);
}

json_t *
hr_interface_describe(const struct hr_object *object)
{
	const struct hr_interface_spec *spec = object->spec;
	const struct hr_interface *interface = object->state;
	json_t *addresses = json_array(), *prefixes = json_array(), *gateways = json_array(),
	       *former = json_array(), *item;
	enum hr_neigh_state state = HR_NEIGH_UNRESOLVED;
	struct rte_ether_addr mac = {0};
	char text[HR_ADDR_TEXT];

	for (uint16_t i = 0; i < spec->n_addresses; i++)
		hr_json_append_addr(addresses, &spec->addresses[i]);
	for (uint16_t i = 0; i < spec->n_prefixes; i++)
		hr_json_append_prefix(prefixes, &spec->prefixes[i]);
	for (uint16_t i = 0; i < spec->n_gateways; i++)
		hr_json_append_addr(gateways, &spec->gateways[i]);
	for (uint16_t i = 0; i < spec->n_former; i++)
		hr_json_append_ip6(former, &spec->former[i]);
	if (interface->neigh != NULL)
		state = hr_neigh_state(interface->neigh, &mac);
	item = json_pack("{s:s, s:s, s:I, s:s, s:s, s:o, s:o, s:o, s:s, s:s, s:b, s:i}", "name",
			object->key, "network", spec->network, "vni",
			(json_int_t)hr_network_vrf(spec->network)->vni, "port", spec->port, "state",
			hr_port_state_name(hr_port_state(interface->port)), "addresses", addresses,
			"prefixes", prefixes, "gateways", gateways, "macState",
			hr_neigh_state_name(state), "underlay",
			hr_ip6_format(&interface->underlay[0], text), "sourceCheck",
			spec->source_check, "mtu",
			RTE_MIN(spec->mtu, hr_port_mtu(interface->port)));
	json_object_set_new(item, "formerUnderlayAddresses", former);
	hr_port_describe_device(interface->port, item);
	json_object_set_new(item, "mac",
			rte_is_zero_ether_addr(&mac) ? json_null() : hr_json_mac(&mac));
	return item;
}

const struct hr_port *
hr_interface_port(const struct hr_object *object)
{
	return hr_port_get(((const struct hr_interface_spec *)object->spec)->port);
}
