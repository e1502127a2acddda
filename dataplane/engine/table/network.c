/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Networks: a VRF (vrf.h), its gateway addresses, and what no network routes. Control thread.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../control/addr.h"
#include "../control/json.h"
#include "../control/store.h"
#include "../control/txn.h"
#include "../kinds/network.h"
#include "../rcu.h"
#include "adj.h"
#include "ecmp.h"
#include "locals.h"
#include "path.h"
#include "place.h"

/** A network as a commit will have it: the places of its gateways are held. */
struct change {
	struct hr_vrf *vrf;
	bool is_new;
	const struct hr_network_spec *spec;
	uint16_t held; /**< Gateways, the first ones. */
	uint32_t former[HR_NETWORK_GATEWAYS_MAX];
};

static void
destroy(void *arg)
{
	struct hr_vrf *vrf = arg;

	if (vrf->fib4 != NULL)
		hr_fib_destroy(vrf->fib4);
	if (vrf->fib6 != NULL)
		hr_fib_destroy(vrf->fib6);
	free(vrf);
}

/** What no network routes: RFC 1122 3.2.1.3, RFC 4291 2.5 and 2.7. */
static int
insert_reserved(struct hr_vrf *vrf)
{
	static const struct {
		struct hr_prefix prefix;
		uint32_t adj;
	} reserved[] = {
			{{{4, {.ip4 = RTE_BE32(0x00000000)}}, 8}, HR_ADJ_MARTIAN},
			{{{4, {.ip4 = RTE_BE32(0x7f000000)}}, 8}, HR_ADJ_MARTIAN},
			{{{4, {.ip4 = RTE_BE32(0xe0000000)}}, 4}, HR_ADJ_LOCAL},
			{{{4, {.ip4 = RTE_BE32(0xffffffff)}}, 32}, HR_ADJ_LOCAL},
			{{{6, {.ip6 = {.b = {0}}}}, 127}, HR_ADJ_MARTIAN},
			{{{6, {.ip6 = {.b = {0xfe, 0x80}}}}, 10}, HR_ADJ_LOCAL},
			{{{6, {.ip6 = {.b = {0xff}}}}, 8}, HR_ADJ_LOCAL},
	};

	for (size_t i = 0; i < RTE_DIM(reserved); i++) {
		const struct hr_prefix *prefix = &reserved[i].prefix;
		uint32_t former;
		int error = hr_place_hold(vrf, prefix, vrf->owner, vrf->owner, &former);

		if (error != 0)
			return error;
		hr_place_put(vrf, prefix, vrf->owner, reserved[i].adj);
	}
	return 0;
}

/** A VRF without gateways. NULL: out of memory. */
static struct hr_vrf *
create(const char *key, const struct hr_network_spec *spec)
{
	struct hr_vrf *vrf = calloc(1, sizeof(*vrf));

	if (vrf == NULL)
		return NULL;
	vrf->vni = spec->vni;
	vrf->dscp = spec->dscp;
	vrf->spec = spec;
	vrf->identity = hr_ecmp_identity(key, strlen(key));
	vrf->owner = hr_route_owner();
	vrf->fib4 = hr_fib_create(4);
	vrf->fib6 = hr_fib_create(6);
	if (vrf->fib4 == NULL || vrf->fib6 == NULL || insert_reserved(vrf) != 0) {
		destroy(vrf);
		return NULL;
	}
	LIST_INSERT_HEAD(&hr_vrfs, vrf, entry);
	return vrf;
}

static struct hr_prefix
host(const struct hr_addr *addr)
{
	return (struct hr_prefix){.addr = *addr, .len = addr->family == 4 ? 32 : 128};
}

static int
hold_gateways(struct change *change)
{
	struct hr_vrf *vrf = change->vrf;

	for (; change->held < change->spec->n_gateways; change->held++) {
		const struct hr_prefix prefix = host(&change->spec->gateways[change->held]);

		if (hr_place_hold(vrf, &prefix, vrf->owner, vrf->owner,
				    &change->former[change->held]) != 0)
			return -ENOMEM;
	}
	return 0;
}

int
hr_network_prepare(struct hr_txn *txn, const char *key, const struct hr_object *old, void *new_spec,
		void **state, struct hr_errors *errors)
{
	struct change *change = calloc(1, sizeof(*change));

	RTE_SET_USED(txn);
	if (change != NULL) {
		change->is_new = old == NULL;
		change->spec = new_spec;
		change->vrf = change->is_new ? create(key, new_spec) : old->state;
		if (change->vrf != NULL && hold_gateways(change) == 0) {
			*state = change;
			return 0;
		}
		hr_network_abort(change);
	}
	hr_error(errors, "", HR_OUT_OF_MEMORY, "no memory for the network's routing tables");
	return -1;
}

void
hr_network_abort(void *state)
{
	struct change *change = state;
	struct hr_vrf *vrf = change->vrf;

	while (change->held-- > 0) {
		const struct hr_prefix prefix = host(&change->spec->gateways[change->held]);

		hr_place_release(vrf, &prefix, vrf->owner, vrf->owner,
				change->former[change->held]);
	}
	if (change->is_new && vrf != NULL) {
		LIST_REMOVE(vrf, entry);
		destroy(vrf);
	}
	free(change);
}

struct hr_vrf *
hr_network_vrf_after(const struct hr_txn *txn, const char *name)
{
	const struct change *change = hr_txn_prepared(txn, &hr_network_kind, name);

	return change != NULL ? change->vrf : hr_network_vrf(name);
}

static bool
has_gateway(const struct hr_network_spec *spec, const struct hr_addr *addr)
{
	for (uint16_t i = 0; i < spec->n_gateways; i++)
		if (hr_addr_equal(&spec->gateways[i], addr))
			return true;
	return false;
}

void
hr_network_apply(struct hr_object *object, void *old_spec, void *prepared)
{
	const struct hr_network_spec *spec = object->spec, *old = old_spec;
	struct hr_vrf *vrf = ((struct change *)prepared)->vrf;
	const bool endpoints_differ = old != NULL &&
			(old->n_endpoints != spec->n_endpoints ||
					memcmp(old->endpoints, spec->endpoints,
							sizeof(old->endpoints)) != 0);

	free(prepared);
	object->state = vrf;
	vrf->name = object->key;
	vrf->vni = spec->vni;
	vrf->dscp = spec->dscp;
	vrf->spec = spec;
	if (old != NULL && (old->vni != spec->vni || old->dscp != spec->dscp || endpoints_differ))
		hr_path_refresh_all();
	if (endpoints_differ)
		hr_locals_rebuild(NULL);
	for (uint16_t i = 0; i < spec->n_gateways; i++) {
		const struct hr_prefix prefix = host(&spec->gateways[i]);

		hr_place_put(vrf, &prefix, vrf->owner, HR_ADJ_LOCAL);
	}
	for (uint16_t i = 0; old != NULL && i < old->n_gateways; i++) {
		const struct hr_prefix prefix = host(&old->gateways[i]);

		if (!has_gateway(spec, &old->gateways[i]))
			hr_place_delete(vrf, &prefix, vrf->owner);
	}
}

void
hr_network_remove(struct hr_object *object)
{
	struct hr_vrf *vrf = object->state;

	LIST_REMOVE(vrf, entry);
	hr_defer(destroy, vrf);
}

static json_t *
describe_vxlan(const struct hr_underlay_endpoint *endpoint)
{
	char address[HR_ADDR_TEXT], mac[HR_MAC_TEXT];

	return json_pack("{s:s, s:I, s:s}", "address", hr_ip6_format(&endpoint->address, address),
			"vni", (json_int_t)endpoint->vxlan.vni, "mac",
			hr_mac_format(&endpoint->vxlan.mac, mac));
}

json_t *
hr_network_describe(const struct hr_object *object)
{
	const struct hr_network_spec *spec = object->spec;
	const struct hr_vrf *vrf = object->state;
	json_t *gateways = json_array(), *endpoints = json_array(), *vxlan = json_array(), *item;

	for (uint16_t i = 0; i < spec->n_gateways; i++)
		hr_json_append_addr(gateways, &spec->gateways[i]);
	for (uint16_t i = 0; i < spec->n_endpoints; i++)
		if (spec->endpoints[i].vxlan.vni == 0)
			hr_json_append_ip6(endpoints, &spec->endpoints[i].address);
		else
			json_array_append_new(vxlan, describe_vxlan(&spec->endpoints[i]));
	item = json_pack("{s:s, s:I, s:o, s:o, s:I, s:I, s:I}", "name", object->key, "vni",
			(json_int_t)spec->vni, "gateways", gateways, "endpoints", endpoints,
			"routes4", (json_int_t)hr_fib_count(vrf->fib4), "routes6",
			(json_int_t)hr_fib_count(vrf->fib6), "bytes",
			(json_int_t)(hr_fib_bytes(vrf->fib4) + hr_fib_bytes(vrf->fib6)));
	json_object_set_new(item, "vxlanEndpoints", vxlan);
	if (spec->dscp != HR_DSCP_COPIED)
		json_object_set_new(item, "dscp", json_integer(spec->dscp));
	return item;
}

uint64_t
hr_network_routes(void)
{
	uint64_t routes = 0;

	for (size_t i = 0; i < hr_store_count(&hr_network_kind); i++) {
		const struct hr_vrf *vrf = hr_store_at(&hr_network_kind, i)->state;

		routes += hr_fib_count(vrf->fib4) + hr_fib_count(vrf->fib6);
	}
	return routes;
}

uint64_t
hr_network_fib_bytes(void)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < hr_store_count(&hr_network_kind); i++) {
		const struct hr_vrf *vrf = hr_store_at(&hr_network_kind, i)->state;

		bytes += hr_fib_bytes(vrf->fib4) + hr_fib_bytes(vrf->fib6);
	}
	return bytes;
}
