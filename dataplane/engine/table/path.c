/* SPDX-License-Identifier: Apache-2.0 */
#include "path.h"

#include <stdlib.h>

#include "../control/addr.h"
#include "../control/map.h"
#include "../control/store.h"
#include "../rcu.h"
#include "adj.h"
#include "ecmp.h"
#include "interface_state.h"
#include "neigh.h"
#include "neigh_adj.h"
#include "path_mtu.h"
#include "uplink_state.h"
#include "vrf.h"
#include "way.h"

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
	struct hr_neigh *next_hop; /**< Ours to put; NULL when local or no way. */
	unsigned n_lost;
	struct hr_neigh *lost[HR_UPLINK_LOST_MAX]; /**< To lead back to; ours to put. */
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

static void
put_next_hops(struct path *path)
{
	if (path->next_hop != NULL)
		hr_neigh_put(path->next_hop);
	for (unsigned i = 0; i < path->n_lost; i++)
		hr_neigh_put(path->lost[i]);
}

/** Find where an underlay path leads now, and hold its next hop. */
static void
find_way(struct path *path, struct hr_way *way)
{
	/* Before there is another: memory is reserved for one. It stays until the commit is over. */
	put_next_hops(path);
	hr_way_find(&path->underlay.address, path->underlay.vrf, way);
	path->next_hop = way->is_next_hop ? way->neigh : NULL;
	path->n_lost = way->is_next_hop ? hr_uplink_lost(&path->underlay.address, path->lost) : 0;
}

/** Fill an adjacency that no route leads to yet. */
static void
fill(struct path *path)
{
	struct hr_way way;

	find_way(path, &way);
	hr_way_rewrite(&way, path->adj);
	hr_way_take(&way, path->adj);
}

/** Most paths that are rewritten together: so long, and a grace period, their packets wait. */
#define SLICE 64

static struct {
	unsigned n;
	struct path *path[SLICE];
	struct hr_way way[SLICE];
} slice;

static void
rewrite_slice(void)
{
	if (slice.n == 0)
		return;
	for (unsigned i = 0; i < slice.n; i++) {
		hr_neigh_unbind(slice.path[i]->adj);
		hr_adj_set_op(&hr_adjs[slice.path[i]->adj], HR_OP_RESOLVE);
	}
	hr_rcu_wait();
	for (unsigned i = 0; i < slice.n; i++) {
		hr_way_rewrite(&slice.way[i], slice.path[i]->adj);
		hr_way_take(&slice.way[i], slice.path[i]->adj);
	}
	slice.n = 0;
}

/** Have a path lead where it does now; rewrite_slice() is due after the last one. */
static void
refresh(struct path *path)
{
	struct hr_way *way = &slice.way[slice.n];

	find_way(path, way);
	if (!hr_way_needs_rewrite(way, path->adj)) {
		hr_way_take(way, path->adj);
		return;
	}
	slice.path[slice.n++] = path;
	if (slice.n == SLICE)
		rewrite_slice();
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

/** Whether packets of any network go to an underlay address. */
static bool
leads_to(const struct hr_ip6 *underlay)
{
	const struct hr_vrf *vrf;

	LIST_FOREACH(vrf, &hr_vrfs, entry)
		if (find_underlay(underlay, vrf) != NULL)
			return true;
	return false;
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
		if (hr_path_mtu(&path->underlay.address) != UINT16_MAX &&
				!leads_to(&path->underlay.address))
			hr_path_mtu_forget(&path->underlay.address);
		hr_neigh_unbind(adj);
		put_next_hops(path);
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

/** Bytes of the largest packet that leaves by an adjacency, as the fabric sees it. */
static unsigned
outer_size(const struct hr_adj *adj)
{
	return adj->mtu + HR_UNDERLAY_OVERHEAD + (adj->ready_op == HR_OP_VXLAN ? HR_VXLAN_LEN : 0);
}

static bool
exceeds(const struct hr_ip6 *source, const struct hr_ip6 *underlay, uint16_t mtu)
{
	const struct hr_vrf *vrf;

	LIST_FOREACH(vrf, &hr_vrfs, entry) {
		const struct path *path = find_underlay(underlay, vrf);

		if (path != NULL && hr_way_is_from(path->adj, source) &&
				outer_size(&hr_adjs[path->adj]) > mtu)
			return true;
	}
	return false;
}

void
hr_path_refresh(const struct hr_ip6 *underlay, unsigned n)
{
	const struct hr_vrf *vrf;

	LIST_FOREACH(vrf, &hr_vrfs, entry) {
		for (unsigned j = 0; j < n; j++) {
			struct path *path = find_underlay(&underlay[j], vrf);

			if (path != NULL)
				refresh(path);
		}
	}
	rewrite_slice();
}

void
hr_path_refresh_all(void)
{
	const uint32_t end = hr_adj_end();

	for (uint32_t adj = HR_ADJ_LOCAL + 1; adj < end; adj++) {
		struct path *path = *path_slot(adj);

		if (path != NULL && path->type == PATH_UNDERLAY)
			refresh(path);
	}
	rewrite_slice();
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
	interface = hr_interface_by_underlay(&path->underlay.address);
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

void
hr_path_too_big(const struct hr_ip6 *source, const struct hr_ip6 *underlay, uint16_t mtu,
		uint64_t now_ms)
{
	if (exceeds(source, underlay, mtu) && hr_path_mtu_lower(underlay, mtu, now_ms))
		hr_path_refresh(underlay, 1);
}

void
hr_paths_tick(uint64_t now_ms)
{
	struct hr_ip6 underlay;

	while (hr_path_mtu_expire(now_ms, &underlay))
		hr_path_refresh(&underlay, 1);
}
