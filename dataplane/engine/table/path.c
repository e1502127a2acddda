/* SPDX-License-Identifier: Apache-2.0 */
#include "path.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "../control/addr.h"
#include "../control/map.h"
#include "../control/spec.h"
#include "../graph/nodes.h"
#include "../rcu.h"
#include "adj.h"
#include "interface.h"
#include "neigh.h"
#include "uplink.h"
#include "vrf.h"

enum path_type {
	PATH_UNDERLAY,
	PATH_NETWORK,
	PATH_GROUP,
};

struct path {
	uint32_t adj;
	uint32_t refs;
	enum path_type type;
	/* PATH_UNDERLAY */
	struct hr_ip6 underlay;
	struct hr_neigh *next_hop; /**< Ours to put; NULL when local or no way. */
	/* PATH_NETWORK */
	const struct hr_vrf *vrf;
	const char *network;
	/* PATH_GROUP */
	unsigned n;
	struct hr_path_member members[];
};

static struct hr_map by_underlay, by_vrf, by_members;

/** By adjacency index: reserved address space, like the adjacencies. */
static struct path **
path_slot(uint32_t adj)
{
	static struct path **paths;

	if (paths == NULL) {
		void *memory = mmap(NULL, HR_ADJ_MAX * sizeof(*paths), PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (memory == MAP_FAILED)
			abort();
		paths = memory;
	}
	return &paths[adj];
}

static struct path *
path_new(enum path_type type, unsigned n_members, struct hr_map *map)
{
	struct path *path = calloc(1, sizeof(*path) + n_members * sizeof(path->members[0]));

	if (path == NULL || hr_map_reserve(map, map->count + 1) != 0)
		goto fail;
	path->adj = hr_adj_alloc();
	if (path->adj == 0)
		goto fail;
	path->type = type;
	path->refs = 1;
	path->n = n_members;
	*path_slot(path->adj) = path;
	return path;
fail:
	free(path);
	return NULL;
}

/** Deliver to the endpoint of a local Interface. */
static void
fill_local(struct hr_adj *adj, const struct hr_interface *interface)
{
	hr_interface_rewrite(interface, adj);
	hr_neigh_bind(interface->neigh, adj - hr_adjs);
}

/** Encapsulate, by an uplink, to the next hop that leads to the underlay address. */
static void
fill_remote(struct path *path, struct hr_adj *adj)
{
	struct hr_ip6 next_hop;
	const struct hr_uplink *uplink = hr_uplink_choose(&path->underlay, &next_hop);
	uint8_t *ip = adj->rewrite + HR_L2_LEN;

	if (uplink == NULL) {
		hr_adj_set_op(adj, HR_OP_NO_ROUTE);
		return;
	}
	memset(adj->rewrite, 0, sizeof(adj->rewrite));
	memcpy(adj->rewrite + 6, uplink->mac.addr_bytes, RTE_ETHER_ADDR_LEN);
	adj->rewrite[12] = RTE_ETHER_TYPE_IPV6 >> 8;
	adj->rewrite[13] = RTE_ETHER_TYPE_IPV6 & 0xff;
	memcpy(ip + 8, uplink->source.b, sizeof(uplink->source.b));
	memcpy(ip + 24, path->underlay.b, sizeof(path->underlay.b));
	adj->mtu = uplink->mtu - HR_UNDERLAY_OVERHEAD;
	adj->port = uplink->port_id;
	adj->ready_op = HR_OP_ENCAP;
	path->next_hop = hr_neigh_next_hop(uplink->port_id, &next_hop, &uplink->link_local,
			&uplink->mac, hr_uplink_fixed_mac(uplink, &next_hop));
	if (path->next_hop == NULL)
		hr_adj_set_op(adj, HR_OP_NO_ROUTE);
	else
		hr_neigh_bind(path->next_hop, path->adj);
}

static void
fill(struct path *path)
{
	const struct hr_interface *interface = hr_interface_by_underlay(&path->underlay);

	if (interface == NULL)
		fill_remote(path, &hr_adjs[path->adj]);
	else if (interface->neigh != NULL)
		fill_local(&hr_adjs[path->adj], interface);
	else
		hr_adj_set_op(&hr_adjs[path->adj], HR_OP_RESOLVE); /* its device is gone */
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
}

uint32_t
hr_path_underlay(const struct hr_ip6 *underlay)
{
	struct path *path = hr_map_get(&by_underlay, underlay->b, sizeof(underlay->b));

	if (path != NULL) {
		path->refs++;
		return path->adj;
	}
	path = path_new(PATH_UNDERLAY, 0, &by_underlay);
	if (path == NULL)
		return 0;
	path->underlay = *underlay;
	hr_map_put(&by_underlay, path->underlay.b, sizeof(path->underlay.b), path);
	fill(path);
	return path->adj;
}

uint32_t
hr_path_network(const struct hr_vrf *vrf, const char *name)
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
	path->network = name;
	hr_map_put(&by_vrf, &path->vrf, sizeof(path->vrf), path);
	hr_adjs[path->adj].vrf = vrf;
	hr_adj_set_op(&hr_adjs[path->adj], HR_OP_NETWORK);
	return path->adj;
}

/** Give each member its share of the buckets, within one bucket of its weight's. */
static struct hr_ecmp *
spread(const struct hr_path_member *members, unsigned n)
{
	struct hr_ecmp *ecmp = malloc(sizeof(*ecmp));
	uint32_t total = 0, seen = 0, bucket = 0;

	if (ecmp == NULL)
		return NULL;
	for (unsigned i = 0; i < n; i++)
		total += members[i].weight;
	for (unsigned i = 0; i < n; i++) {
		seen += members[i].weight;
		for (; bucket < (uint64_t)HR_ECMP_BUCKETS * seen / total; bucket++)
			ecmp->bucket[bucket] = members[i].adj;
	}
	return ecmp;
}

static int
compare_members(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct hr_path_member));
}

uint32_t
hr_path_group(const struct hr_path_member *members, unsigned n)
{
	struct hr_path_member sorted[HR_MAX_NEXT_HOPS];
	struct hr_ecmp *ecmp;
	struct path *path;

	if (n == 1)
		return members[0].adj;
	memset(sorted, 0, sizeof(sorted)); /* padding too: these bytes are the key */
	for (unsigned i = 0; i < n; i++) {
		sorted[i].adj = members[i].adj;
		sorted[i].weight = members[i].weight;
	}
	qsort(sorted, n, sizeof(sorted[0]), compare_members);
	path = hr_map_get(&by_members, sorted, n * sizeof(sorted[0]));
	if (path != NULL) {
		path->refs++;
		for (unsigned i = 0; i < n; i++)
			hr_path_put(members[i].adj); /* the group holds its own */
		return path->adj;
	}
	ecmp = spread(sorted, n);
	path = ecmp == NULL ? NULL : path_new(PATH_GROUP, n, &by_members);
	if (path == NULL) {
		free(ecmp);
		for (unsigned i = 0; i < n; i++)
			hr_path_put(members[i].adj);
		return 0;
	}
	memcpy(path->members, sorted, n * sizeof(sorted[0]));
	hr_map_put(&by_members, path->members, n * sizeof(sorted[0]), path);
	hr_adjs[path->adj].ecmp = ecmp;
	hr_adj_set_op(&hr_adjs[path->adj], HR_OP_ECMP);
	return path->adj;
}

void
hr_path_put(uint32_t adj)
{
	struct path *path = adj <= HR_ADJ_LOCAL ? NULL : *path_slot(adj);

	if (path == NULL || --path->refs > 0)
		return;
	switch (path->type) {
	case PATH_UNDERLAY:
		hr_map_remove(&by_underlay, path->underlay.b, sizeof(path->underlay.b));
		hr_neigh_unbind(adj);
		if (path->next_hop != NULL)
			hr_neigh_put(path->next_hop);
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

void
hr_path_refresh(const struct hr_ip6 *underlay)
{
	struct path *path = hr_map_get(&by_underlay, underlay->b, sizeof(underlay->b));

	if (path == NULL)
		return;
	hold(path);
	hr_rcu_barrier();
	fill(path);
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

static json_t *
describe_member(const struct path *path, uint16_t weight)
{
	const struct hr_interface *interface;
	char text[HR_ADDR_TEXT];
	json_t *hop;

	if (path->type == PATH_NETWORK)
		return json_pack("{s:s, s:i}", "network", path->network, "weight", weight);
	hop = json_pack("{s:s, s:i}", "underlay", hr_ip6_format(&path->underlay, text), "weight",
			weight);
	interface = hr_interface_by_underlay(&path->underlay);
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
