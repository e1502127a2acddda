/* SPDX-License-Identifier: Apache-2.0 */
#include "path.h"

#include <stdlib.h>

#include "../control/addr.h"
#include "../control/map.h"
#include "../control/store.h"
#include "../kinds/interface.h"
#include "../packet/frame.h"
#include "../packet/traffic_class.h"
#include "../rcu.h"
#include "adj.h"
#include "ecmp.h"
#include "interface_state.h"
#include "neigh.h"
#include "neigh_adj.h"
#include "underlay.h"
#include "uplink_state.h"
#include "vrf.h"

enum path_type {
	PATH_UNDERLAY,
	PATH_NETWORK,
	PATH_GROUP,
};

/** Where to, and in which network that was found. Compared as bytes: no padding. */
struct underlay_key {
	const struct hr_vrf *vrf;
	struct hr_ip6 address;
};
static_assert(sizeof(struct underlay_key) == sizeof(void *) + sizeof(struct hr_ip6), "no padding");

struct path {
	uint32_t adj;
	uint32_t refs;
	enum path_type type;
	/* PATH_UNDERLAY */
	struct underlay_key underlay;
	const struct hr_uplink *uplink; /**< That packets leave by; NULL when local or no way. */
	struct hr_neigh *next_hop;      /**< Ours to put; NULL as well then. */
	/* PATH_NETWORK */
	const struct hr_vrf *vrf;
	/* PATH_GROUP */
	unsigned n;
	struct hr_path_member members[];
};

static struct hr_map by_underlay, by_vrf, by_members;

/** By adjacency index. Pages of it that were never touched cost nothing. */
static struct path **
path_slot(uint32_t adj)
{
	static struct path *paths[HR_ADJ_MAX];

	return &paths[adj];
}

static struct path *
path_new(enum path_type type, unsigned n_members, struct hr_map *map)
{
	struct path *path = calloc(1, sizeof(*path) + n_members * sizeof(path->members[0]));

	if (path == NULL || hr_map_reserve(map, map->count + 1) != 0)
		goto fail;
	/* Whatever becomes of uplinks: one next hop at a time is what it can need. */
	if (type == PATH_UNDERLAY && hr_neigh_reserve(false) != 0)
		goto fail;
	path->adj = hr_adj_alloc();
	if (path->adj == 0) {
		if (type == PATH_UNDERLAY)
			hr_neigh_unreserve(false);
		goto fail;
	}
	path->type = type;
	path->refs = 1;
	path->n = n_members;
	*path_slot(path->adj) = path;
	return path;
fail:
	free(path);
	return NULL;
}

/** Byte of an adjacency's rewrite at which the outer source begins, and its VNI. */
#define SOURCE_AT (HR_L2_LEN + 8)
#define SOURCE_VNI_AT (SOURCE_AT + 8)
#define SOURCE_VNI_BYTES 3

static struct hr_ip6
source_of(const struct path *path)
{
	return hr_underlay_source(&path->uplink->source, &path->underlay.address,
			path->underlay.vrf->vni);
}

/** RFC 6040 4.1: ECN is copied always; RFC 2983: DSCP, or one for the network. */
static void
set_class(const struct path *path)
{
	const int8_t dscp = path->underlay.vrf->dscp;

	if (dscp == HR_DSCP_COPIED)
		hr_adj_set_class(&hr_adjs[path->adj], UINT8_MAX, 0);
	else
		hr_adj_set_class(&hr_adjs[path->adj], HR_ECN_MASK, dscp << HR_DSCP_SHIFT);
}

/** Encapsulate, by an uplink, to the next hop that leads to the underlay address. */
static void
fill_remote(struct path *path, struct hr_adj *adj)
{
	struct hr_ip6 next_hop;
	const struct hr_uplink *uplink = hr_uplink_choose(&path->underlay.address, &next_hop);
	struct hr_ip6 source;

	if (uplink == NULL) {
		hr_adj_set_op(adj, HR_OP_NO_ROUTE);
		return;
	}
	path->uplink = uplink;
	source = source_of(path);
	memset(adj->rewrite, 0, sizeof(adj->rewrite));
	memcpy(adj->rewrite + 6, uplink->mac.addr_bytes, RTE_ETHER_ADDR_LEN);
	adj->rewrite[12] = RTE_ETHER_TYPE_IPV6 >> 8;
	adj->rewrite[13] = RTE_ETHER_TYPE_IPV6 & 0xff;
	memcpy(adj->rewrite + SOURCE_AT, source.b, sizeof(source.b));
	memcpy(adj->rewrite + SOURCE_AT + sizeof(source.b), path->underlay.address.b,
			sizeof(path->underlay.address.b));
	set_class(path);
	adj->mtu = uplink->mtu - HR_UNDERLAY_OVERHEAD;
	adj->port = uplink->port_id;
	adj->ready_op = HR_OP_ENCAP;
	path->next_hop = hr_neigh_next_hop(uplink->port_id, &next_hop, &uplink->link_local,
			&uplink->mac, hr_uplink_fixed_mac(uplink, &next_hop));
	hr_neigh_bind(path->next_hop, path->adj);
}

/** The local Interface that has the path's address, or NULL. */
static const struct hr_interface *
local_of(const struct path *path)
{
	return hr_interface_by_underlay(&path->underlay.address);
}

static bool
is_foreign(const struct path *path, const struct hr_interface *interface)
{
	const struct hr_interface_spec *spec = interface->object->spec;

	return hr_underlay.source_check && hr_network_vrf(spec->network) != path->underlay.vrf;
}

static void
fill(struct path *path)
{
	const struct hr_interface *interface = local_of(path);

	if (interface == NULL)
		fill_remote(path, &hr_adjs[path->adj]);
	else if (is_foreign(path, interface))
		hr_adj_set_op(&hr_adjs[path->adj], HR_OP_FOREIGN);
	else
		hr_interface_deliver(interface, path->adj);
}

/** Keep packets waiting while the adjacency is written. */
static void
hold(struct path *path)
{
	hr_neigh_unbind(path->adj);
	hr_adj_set_op(&hr_adjs[path->adj], HR_OP_RESOLVE);
	if (path->next_hop != NULL)
		hr_neigh_put(path->next_hop);
	path->next_hop = NULL;
	path->uplink = NULL;
}

static struct path *
find_underlay(const struct hr_ip6 *underlay, const struct hr_vrf *vrf)
{
	const struct underlay_key key = {.vrf = vrf, .address = *underlay};

	return hr_map_get(&by_underlay, &key, sizeof(key));
}

uint32_t
hr_path_underlay(const struct hr_ip6 *underlay, const struct hr_vrf *vrf)
{
	struct path *path = find_underlay(underlay, vrf);

	if (path != NULL) {
		path->refs++;
		return path->adj;
	}
	path = path_new(PATH_UNDERLAY, 0, &by_underlay);
	if (path == NULL)
		return 0;
	path->underlay = (struct underlay_key){.vrf = vrf, .address = *underlay};
	hr_map_put(&by_underlay, &path->underlay, sizeof(path->underlay), path);
	fill(path);
	return path->adj;
}

uint32_t
hr_path_network(const struct hr_vrf *vrf)
{
	struct path *path = hr_map_get(&by_vrf, &vrf, sizeof(vrf));

	if (path != NULL) {
		path->refs++;
		return path->adj;
	}
	path = path_new(PATH_NETWORK, 0, &by_vrf);
	if (path == NULL)
		return 0;
	path->vrf = vrf;
	hr_map_put(&by_vrf, &path->vrf, sizeof(path->vrf), path);
	hr_adjs[path->adj].vrf = vrf;
	hr_adj_set_op(&hr_adjs[path->adj], HR_OP_NETWORK);
	return path->adj;
}

/** What a member is called on every node, and when the engine has been started again. */
static uint64_t
identity_of(const struct path *path)
{
	if (path->type == PATH_NETWORK)
		return path->vrf->identity;
	return hr_ecmp_identity(&path->underlay.address, sizeof(path->underlay.address));
}

static struct hr_ecmp *
spread(const struct hr_path_member *members, unsigned n)
{
	struct hr_ecmp_member named[HR_MAX_NEXT_HOPS];

	for (unsigned i = 0; i < n; i++)
		named[i] = (struct hr_ecmp_member){
				.identity = identity_of(*path_slot(members[i].adj)),
				.weight = members[i].weight,
				.adj = members[i].adj,
		};
	return hr_ecmp_new(named, n);
}

static int
compare_members(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct hr_path_member));
}

/** Make one of members that are there twice. @return how many there are */
static unsigned
merge(struct hr_path_member *sorted, unsigned n)
{
	unsigned last = 0;

	for (unsigned i = 1; i < n; i++) {
		if (sorted[i].adj != sorted[last].adj) {
			sorted[++last] = sorted[i];
			continue;
		}
		sorted[last].weight += sorted[i].weight;
		hr_path_put(sorted[i].adj);
	}
	return last + 1;
}

uint32_t
hr_path_group(const struct hr_path_member *members, unsigned n)
{
	struct hr_path_member sorted[HR_MAX_NEXT_HOPS];
	struct hr_ecmp *ecmp;
	struct path *path;

	memcpy(sorted, members, n * sizeof(sorted[0]));
	qsort(sorted, n, sizeof(sorted[0]), compare_members);
	n = merge(sorted, n);
	if (n == 1)
		return sorted[0].adj;
	path = hr_map_get(&by_members, sorted, n * sizeof(sorted[0]));
	if (path != NULL) {
		path->refs++;
		for (unsigned i = 0; i < n; i++)
			hr_path_put(sorted[i].adj); /* the group holds its own */
		return path->adj;
	}
	ecmp = spread(sorted, n);
	path = ecmp == NULL ? NULL : path_new(PATH_GROUP, n, &by_members);
	if (path == NULL) {
		free(ecmp);
		for (unsigned i = 0; i < n; i++)
			hr_path_put(sorted[i].adj);
		return 0;
	}
	memcpy(path->members, sorted, n * sizeof(sorted[0]));
	hr_map_put(&by_members, path->members, n * sizeof(sorted[0]), path);
	hr_adjs[path->adj].ecmp = ecmp;
	hr_adj_set_op(&hr_adjs[path->adj], HR_OP_ECMP);
	return path->adj;
}

void
hr_path_get(uint32_t adj)
{
	if (adj > HR_ADJ_LOCAL)
		(*path_slot(adj))->refs++;
}

void
hr_path_put(uint32_t adj)
{
	struct path *path = adj <= HR_ADJ_LOCAL ? NULL : *path_slot(adj);

	if (path == NULL || --path->refs > 0)
		return;
	switch (path->type) {
	case PATH_UNDERLAY:
		hr_map_remove(&by_underlay, &path->underlay, sizeof(path->underlay));
		hr_neigh_unbind(adj);
		if (path->next_hop != NULL)
			hr_neigh_put(path->next_hop);
		hr_neigh_unreserve(false);
		break;
	case PATH_NETWORK:
		hr_map_remove(&by_vrf, &path->vrf, sizeof(path->vrf));
		break;
	case PATH_GROUP:
		hr_map_remove(&by_members, path->members, path->n * sizeof(path->members[0]));
		for (unsigned i = 0; i < path->n; i++)
			hr_path_put(path->members[i].adj);
		break;
	}
	*path_slot(adj) = NULL;
	hr_adj_free(adj);
	free(path);
}

/** Call for all networks' paths to these addresses. @return how many there are */
static unsigned
for_each(const struct hr_ip6 *underlay, unsigned n, void (*call)(struct path *path))
{
	const struct hr_vrf *vrf;
	unsigned found = 0;

	LIST_FOREACH(vrf, &hr_vrfs, entry) {
		for (unsigned j = 0; j < n; j++) {
			struct path *path = find_underlay(&underlay[j], vrf);

			if (path == NULL)
				continue;
			call(path);
			found++;
		}
	}
	return found;
}

void
hr_path_refresh(const struct hr_ip6 *underlay, unsigned n)
{
	if (for_each(underlay, n, hold) == 0)
		return;
	hr_rcu_barrier();
	for_each(underlay, n, fill);
}

void
hr_path_refresh_all(void)
{
	const uint32_t end = hr_adj_end();

	for (uint32_t adj = HR_ADJ_LOCAL + 1; adj < end; adj++) {
		struct path *path = *path_slot(adj);

		if (path != NULL && path->type == PATH_UNDERLAY)
			hold(path);
	}
	hr_rcu_barrier();
	for (uint32_t adj = HR_ADJ_LOCAL + 1; adj < end; adj++) {
		struct path *path = *path_slot(adj);

		if (path != NULL && path->type == PATH_UNDERLAY)
			fill(path);
	}
}

/**
 * Write the source in place: a packet meanwhile has the old one, the new one, or of the two VNIs
 * some bytes each, which only where sources are not checked yet has been good before.
 */
static void
update_source(struct path *path)
{
	struct hr_adj *adj = &hr_adjs[path->adj];
	const struct hr_ip6 source = source_of(path);

	for (unsigned i = 0; i < SOURCE_VNI_BYTES; i++)
		__atomic_store_n(&adj->rewrite[SOURCE_VNI_AT + i],
				source.b[SOURCE_VNI_AT - SOURCE_AT + i], __ATOMIC_RELAXED);
}

void
hr_path_update_outer(void)
{
	const uint32_t end = hr_adj_end();

	for (uint32_t adj = HR_ADJ_LOCAL + 1; adj < end; adj++) {
		struct path *path = *path_slot(adj);
		const struct hr_interface *interface;

		if (path == NULL || path->type != PATH_UNDERLAY)
			continue;
		interface = local_of(path);
		if (path->uplink != NULL) {
			update_source(path);
			set_class(path);
		} else if (interface != NULL &&
				is_foreign(path, interface) != (hr_adjs[adj].op == HR_OP_FOREIGN)) {
			hold(path);
			hr_rcu_barrier();
			fill(path);
		}
	}
}

static json_t *
describe_member(const struct path *path, uint32_t weight)
{
	const struct hr_interface *interface;
	char text[HR_ADDR_TEXT];
	json_t *hop;

	if (path->type == PATH_NETWORK)
		return json_pack("{s:s, s:i}", "network", path->vrf->name, "weight", weight);
	hop = json_pack("{s:s, s:i}", "underlay", hr_ip6_format(&path->underlay.address, text),
			"weight", weight);
	interface = local_of(path);
	if (interface != NULL)
		json_object_set_new(hop, "interface", json_string(interface->object->key));
	return hop;
}

json_t *
hr_path_describe(uint32_t adj)
{
	const struct path *path = adj <= HR_ADJ_LOCAL ? NULL : *path_slot(adj);
	json_t *hops;

	if (path == NULL)
		return NULL;
	hops = json_array();
	if (path->type != PATH_GROUP)
		json_array_append_new(hops, describe_member(path, 1));
	else
		for (unsigned i = 0; i < path->n; i++)
			json_array_append_new(hops,
					describe_member(*path_slot(path->members[i].adj),
							path->members[i].weight));
	return hops;
}
