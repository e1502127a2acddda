/* SPDX-License-Identifier: Apache-2.0 */
/** @file A longest prefix match too simple to be wrong: a list of routes, searched end to end. */
#ifndef HR_FIB_ORACLE_H
#define HR_FIB_ORACLE_H

#include "fib.h"

struct oracle_route {
	struct hr_ip6 key; /* IPv4: the first word */
	uint8_t len;
	uint32_t value, owner;
};

struct oracle {
	uint8_t family;
	unsigned count, capacity;
	struct oracle_route *routes;
};

static inline bool
oracle_holds(const struct hr_ip6 *prefix, unsigned len, const struct hr_ip6 *addr)
{
	for (unsigned bit = 0; bit < len; bit++) {
		if ((prefix->b[bit / 8] ^ addr->b[bit / 8]) & (0x80 >> bit % 8))
			return false;
	}
	return true;
}

static inline struct oracle_route *
oracle_get(const struct oracle *oracle, const struct hr_ip6 *key, unsigned len)
{
	for (unsigned i = 0; i < oracle->count; i++) {
		struct oracle_route *route = &oracle->routes[i];

		if (route->len == len && memcmp(&route->key, key, sizeof(*key)) == 0)
			return route;
	}
	return NULL;
}

/** The longest route's value, 0 for none. */
static inline uint32_t
oracle_lookup(const struct oracle *oracle, const struct hr_ip6 *addr)
{
	const struct oracle_route *best = NULL;

	for (unsigned i = 0; i < oracle->count; i++) {
		const struct oracle_route *route = &oracle->routes[i];

		if ((best == NULL || route->len > best->len) &&
				oracle_holds(&route->key, route->len, addr))
			best = route;
	}
	return best != NULL ? best->value : 0;
}

/** Add or replace. False when the list is full. */
static inline bool
oracle_insert(struct oracle *oracle, const struct oracle_route *route)
{
	struct oracle_route *at = oracle_get(oracle, &route->key, route->len);

	if (at == NULL) {
		if (oracle->count == oracle->capacity)
			return false;
		at = &oracle->routes[oracle->count++];
	}
	*at = *route;
	return true;
}

static inline void
oracle_delete(struct oracle *oracle, struct oracle_route *route)
{
	*route = oracle->routes[--oracle->count];
}

static inline struct hr_addr
oracle_addr(uint8_t family, const struct hr_ip6 *key)
{
	struct hr_addr addr = {.family = family};

	if (family == 4)
		addr.ip4 = key->w[0];
	else
		addr.ip6 = *key;
	return addr;
}

/** hr_fib4_lookup() or hr_fib6_lookup() of any number of addresses, in bursts. */
static inline void
oracle_fib_lookup(const struct hr_fib *fib, uint8_t family, const struct hr_ip6 *keys,
		uint32_t *values, unsigned n)
{
	rte_be32_t ip4[HR_BURST];
	const struct hr_ip6 *ip6[HR_BURST];

	for (unsigned done = 0; done < n; done += HR_BURST) {
		unsigned burst = n - done < HR_BURST ? n - done : HR_BURST;

		for (unsigned i = 0; i < burst; i++) {
			ip4[i] = keys[done + i].w[0];
			ip6[i] = &keys[done + i];
		}
		if (family == 4)
			hr_fib4_lookup(fib, ip4, values + done, burst);
		else
			hr_fib6_lookup(fib, ip6, values + done, burst);
	}
}

/** The prefix's first and last address, and the ones before and after it. */
static inline void
oracle_edges(uint8_t family, const struct hr_ip6 *key, unsigned len, struct hr_ip6 edges[4])
{
	int bytes = family == 4 ? 4 : 16;

	edges[0] = *key;
	edges[1] = *key;
	for (int bit = len; bit < 8 * bytes; bit++)
		edges[1].b[bit / 8] |= 0x80 >> bit % 8;
	edges[2] = edges[0];
	for (int i = bytes - 1; i >= 0 && edges[2].b[i]-- == 0; i--)
		;
	edges[3] = edges[1];
	for (int i = bytes - 1; i >= 0 && ++edges[3].b[i] == 0; i--)
		;
}

#endif
