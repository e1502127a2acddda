/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Networks: a VRF (vrf.h), its gateway addresses, and what no network routes. Control thread.
 */
#include <stdlib.h>

#include "../control/addr.h"
#include "../control/json.h"
#include "../control/store.h"
#include "../kinds/network.h"
#include "../rcu.h"
#include "adj.h"
#include "locals.h"
#include "path.h"
#include "vrf.h"

static struct hr_fib *
fib_of(struct hr_vrf *vrf, const struct hr_addr *addr)
{
	return addr->family == 4 ? vrf->fib4 : vrf->fib6;
}

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
		int error = hr_fib_insert(fib_of(vrf, &reserved[i].prefix.addr),
				&reserved[i].prefix.addr, reserved[i].prefix.len, reserved[i].adj,
				vrf->owner, NULL);

		if (error != 0)
			return error;
	}
	return 0;
}

int
hr_network_prepare(struct hr_txn *txn, const char *key, const struct hr_object *old, void *new_spec,
		void **state, struct hr_errors *errors)
{
	struct hr_vrf *vrf;

	RTE_SET_USED(txn);
	RTE_SET_USED(key);
	RTE_SET_USED(new_spec);
	if (old != NULL)
		return 0;
	vrf = calloc(1, sizeof(*vrf));
	if (vrf != NULL) {
		vrf->owner = hr_route_owner();
		vrf->fib4 = hr_fib_create(4);
		vrf->fib6 = hr_fib_create(6);
		if (vrf->fib4 != NULL && vrf->fib6 != NULL && insert_reserved(vrf) == 0) {
			*state = vrf;
			return 0;
		}
		destroy(vrf);
	}
	hr_error(errors, "", HR_OUT_OF_MEMORY, "no memory for the network's routing tables");
	return -1;
}

void
hr_network_abort(void *state)
{
	if (state != NULL)
		destroy(state);
}

static uint8_t
host_len(const struct hr_addr *addr)
{
	return addr->family == 4 ? 32 : 128;
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
	struct hr_vrf *vrf;

	if (prepared != NULL)
		object->state = prepared;
	vrf = object->state;
	vrf->vni = spec->vni;
	if (old != NULL && old->vni != spec->vni)
		hr_path_refresh_all();
	if (old != NULL &&
			(old->n_endpoints != spec->n_endpoints ||
					memcmp(old->endpoints, spec->endpoints,
							sizeof(old->endpoints)) != 0))
		hr_locals_rebuild(NULL);
	for (uint16_t i = 0; i < spec->n_gateways; i++) {
		const struct hr_addr *addr = &spec->gateways[i];

		hr_fib_insert(fib_of(vrf, addr), addr, host_len(addr), HR_ADJ_LOCAL, vrf->owner,
				NULL);
	}
	for (uint16_t i = 0; old != NULL && i < old->n_gateways; i++) {
		const struct hr_addr *addr = &old->gateways[i];

		if (!has_gateway(spec, addr))
			hr_fib_delete(fib_of(vrf, addr), addr, host_len(addr), vrf->owner, NULL);
	}
}

void
hr_network_remove(struct hr_object *object)
{
	hr_defer(destroy, object->state);
}

json_t *
hr_network_describe(const struct hr_object *object)
{
	const struct hr_network_spec *spec = object->spec;
	const struct hr_vrf *vrf = object->state;
	json_t *gateways = json_array(), *endpoints = json_array();

	for (uint16_t i = 0; i < spec->n_gateways; i++)
		hr_json_append_addr(gateways, &spec->gateways[i]);
	for (uint16_t i = 0; i < spec->n_endpoints; i++)
		hr_json_append_ip6(endpoints, &spec->endpoints[i]);
	return json_pack("{s:s, s:I, s:o, s:o, s:I, s:I, s:I}", "name", object->key, "vni",
			(json_int_t)spec->vni, "gateways", gateways, "endpoints", endpoints,
			"routes4", (json_int_t)hr_fib_count(vrf->fib4), "routes6",
			(json_int_t)hr_fib_count(vrf->fib6), "bytes",
			(json_int_t)(hr_fib_bytes(vrf->fib4) + hr_fib_bytes(vrf->fib6)));
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
