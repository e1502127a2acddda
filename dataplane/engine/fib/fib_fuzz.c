/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Fuzzing of the FIB against the oracle (libFuzzer). The first byte is the family and the size of
 * the root; then come operations of 4 bytes: what, length, and two that choose the address.
 */
#include <rte_common.h>

#include "../rcu.h"
#include "../tests/check.h"
#include "fib_oracle.h"
#include "fib_private.h"

#define MAX_ROUTES 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_edges(const struct hr_fib *fib, const struct oracle *oracle, const struct hr_ip6 *key,
		unsigned len)
{
	struct hr_ip6 edges[4];
	uint32_t values[4];

	oracle_edges(oracle->family, key, len, edges);
	oracle_fib_lookup(fib, oracle->family, edges, values, 4);
	for (unsigned i = 0; i < 4; i++)
		CHECK(values[i] == oracle_lookup(oracle, &edges[i]));
}

static void
step(struct hr_fib *fib, struct oracle *oracle, const uint8_t *op)
{
	unsigned bits = oracle->family == 4 ? 32 : 128;
	struct oracle_route route = {
			.len = op[1] % (bits + 1),
			.value = 1 + op[0] / 8,
			.owner = op[0] / 4 % 2,
	};
	struct oracle_route *old;
	struct hr_addr addr;

	/* All zeros, but for one byte anywhere and one bit: near each other and yet apart. */
	route.key.b[op[2] % (bits / 8)] = op[3];
	route.key.b[op[2] / 16 % (bits / 8)] ^= 1;
	for (unsigned bit = route.len; bit < 128; bit++)
		route.key.b[bit / 8] &= ~(0x80 >> bit % 8);
	old = oracle_get(oracle, &route.key, route.len);
	addr = oracle_addr(oracle->family, &route.key);
	if (op[0] % 4 != 0) {
		if (!oracle_insert(oracle, &route))
			return;
		CHECK(hr_fib_insert(fib, &addr, route.len, route.value, route.owner, NULL) == 0);
	} else {
		bool owned = old != NULL && old->owner == route.owner;
		int rc = hr_fib_delete(fib, &addr, route.len, route.owner, NULL);

		CHECK(owned == (rc == 0));
		if (owned)
			oracle_delete(oracle, old);
	}
	check_edges(fib, oracle, &route.key, route.len);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct oracle_route routes[MAX_ROUTES];
	struct oracle oracle = {.capacity = MAX_ROUTES, .routes = routes};
	struct hr_fib *fib;
	size_t empty;

	if (size == 0)
		return 0;
	if (hr_qsbr == NULL)
		CHECK(hr_rcu_init(1) == 0);
	oracle.family = data[0] % 2 == 0 ? 4 : 6;
	hr_fib_root24_routes = UINT32_MAX;
	hr_fib_root16_routes = data[0] / 2 % 2 == 0 ? UINT32_MAX : 8;
	fib = hr_fib_create(oracle.family);
	CHECK(fib != NULL);
	empty = hr_fib_bytes(fib);
	for (size_t at = 1; at + 4 <= size; at += 4)
		step(fib, &oracle, data + at);
	for (unsigned i = 0; i < oracle.count; i++)
		check_edges(fib, &oracle, &routes[i].key, routes[i].len);
	while (oracle.count > 0) {
		struct oracle_route *route = &routes[oracle.count / 2];
		struct hr_addr addr = oracle_addr(oracle.family, &route->key);

		CHECK(hr_fib_delete(fib, &addr, route->len, route->owner, NULL) == 0);
		oracle_delete(&oracle, route);
	}
	CHECK(hr_fib_bytes(fib) == empty);
	hr_fib_destroy(fib);
	hr_rcu_barrier();
	CHECK(hr_blocks.used == 0 && hr_guards4.used == 0 && hr_guards6.used == 0);
	return 0;
}
