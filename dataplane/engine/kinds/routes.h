/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * routes/SLICE: part of a network's routes.
 */
#ifndef HR_KINDS_ROUTES_H
#define HR_KINDS_ROUTES_H

#include "../control/kind.h"

#define HR_SLICE_ROUTES_MAX 65536 /**< Routes of one routes object. */

extern struct hr_kind hr_routes_kind;

enum hr_next_hop_type {
	HR_NH_UNDERLAY,
	HR_NH_NETWORK,
};

/** 20 bytes. */
struct hr_next_hop {
	union {
		struct hr_ip6 underlay; /**< HR_NH_UNDERLAY; never link-local. */
		uint32_t network;       /**< HR_NH_NETWORK: index into networks[]. */
	};
	uint16_t weight; /**< 1..65535. */
	uint8_t type;    /**< enum hr_next_hop_type. */
};

/** 24 bytes. The first 18, compared as bytes, give the order of routes. */
struct hr_route_spec {
	uint8_t family;   /**< 4 or 6. */
	uint8_t addr[16]; /**< Network byte order; IPv4 in the first four, then zeros. */
	uint8_t len;
	uint16_t n;     /**< 0: blackhole; else 1..HR_MAX_NEXT_HOPS. */
	uint32_t first; /**< Next hops are next_hops[first] .. next_hops[first + n - 1]. */
};

/**
 * Sorted, no prefix twice: an old and a new spec can be compared by merging. Another slice may hold
 * the same prefix (it may be moving between them).
 */
struct hr_routes_spec {
	char network[HR_NAME_MAX];
	uint32_t n_routes; /**< 0..HR_SLICE_ROUTES_MAX. */
	struct hr_route_spec *routes;
	uint32_t n_next_hops;
	struct hr_next_hop *next_hops;
	uint32_t n_networks; /**< Networks that next hops name, each once. */
	char (*networks)[HR_NAME_MAX];
};

/** Order of two routes of a slice, by prefix: <0, 0, >0. */
static inline int
hr_route_compare(const struct hr_route_spec *a, const struct hr_route_spec *b)
{
	return memcmp(a, b, offsetof(struct hr_route_spec, n));
}

/** A route's prefix, unpacked. */
static inline struct hr_prefix
hr_route_prefix(const struct hr_route_spec *route)
{
	struct hr_prefix prefix = {.addr.family = route->family, .len = route->len};

	if (route->family == 4)
		memcpy(&prefix.addr.ip4, route->addr, sizeof(prefix.addr.ip4));
	else
		memcpy(prefix.addr.ip6.b, route->addr, sizeof(prefix.addr.ip6.b));
	return prefix;
}

/* What it does: table/routes.c. */

hr_prepare_fn hr_routes_prepare;
hr_abort_fn hr_routes_abort;
hr_apply_fn hr_routes_apply;
hr_remove_fn hr_routes_remove;
hr_describe_fn hr_routes_describe;
/** {"network","prefix","slice","nextHops"}, and "blackhole"; filters network, slice, prefix, match. */
hr_list_fn hr_list_route;

#endif
