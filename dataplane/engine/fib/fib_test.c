/* SPDX-License-Identifier: Apache-2.0 */
/** @file Tests of the FIB and of grace periods. Needs no EAL, hugepages or privileges. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_common.h>

#include "../rcu.h"
#include "../tests/check.h"
#include "../tests/memory.h"
#include "fib_oracle.h"
#include "fib_private.h"

static uint64_t state;

/** xorshift64*: the same on every machine. */
static uint32_t
rnd(uint32_t below)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return ((state * 0x2545f4914f6cdd1d) >> 32) % below;
}

static struct hr_ip6
random_address(uint8_t family)
{
	struct hr_ip6 key = {0};

	for (unsigned i = 0; i < (family == 4 ? 4 : 16); i++)
		key.b[i] = rnd(256);
	return key;
}

/** Near a base: alike up to a random bit; or anywhere. */
static struct hr_ip6
clustered_address(uint8_t family, const struct hr_ip6 *bases, unsigned n)
{
	unsigned bits = family == 4 ? 32 : 128;
	struct hr_ip6 key = random_address(family);

	if (rnd(16) == 0)
		return key;

	const struct hr_ip6 *base = &bases[rnd(n)];
	unsigned same = rnd(4) == 0 ? rnd(bits + 1) : bits - rnd(18);

	for (unsigned bit = 0; bit < same; bit++) {
		uint8_t mask = 0x80 >> bit % 8;

		key.b[bit / 8] = (key.b[bit / 8] & ~mask) | (base->b[bit / 8] & mask);
	}
	return key;
}

static void
clear_host_bits(struct hr_ip6 *key, unsigned len)
{
	for (unsigned bit = len; bit < 128; bit++)
		key->b[bit / 8] &= ~(0x80 >> bit % 8);
}

static void
check_addresses(const struct hr_fib *fib, const struct oracle *oracle, const struct hr_ip6 *keys,
		unsigned n)
{
	uint32_t values[HR_BURST];

	CHECK(n <= HR_BURST);
	oracle_fib_lookup(fib, oracle->family, keys, values, n);
	for (unsigned i = 0; i < n; i++)
		CHECK(values[i] == oracle_lookup(oracle, &keys[i]));
}

static void
check_all_edges(const struct hr_fib *fib, const struct oracle *oracle)
{
	for (unsigned i = 0; i < oracle->count; i++) {
		struct hr_ip6 edges[4];

		oracle_edges(oracle->family, &oracle->routes[i].key, oracle->routes[i].len, edges);
		check_addresses(fib, oracle, edges, 4);
	}
}

static bool
in_oracle(const struct hr_prefix *prefix, uint32_t value, uint32_t owner, void *arg)
{
	struct {
		const struct oracle *oracle;
		unsigned seen;
	} *walk = arg;
	struct hr_ip6 key = {0};

	if (prefix->addr.family == 4)
		key.w[0] = prefix->addr.ip4;
	else
		key = prefix->addr.ip6;

	const struct oracle_route *route = oracle_get(walk->oracle, &key, prefix->len);

	CHECK(route != NULL && route->value == value && route->owner == owner);
	walk->seen++;
	return false;
}

static void
check_walk(const struct hr_fib *fib, const struct oracle *oracle)
{
	struct {
		const struct oracle *oracle;
		unsigned seen;
	} walk = {oracle, 0};

	hr_fib_walk(fib, in_oracle, &walk);
	CHECK(walk.seen == oracle->count);
	CHECK(hr_fib_count(fib) == oracle->count);
}

/** The only table is gone: so must be all that it took from the pools. */
static void
destroy(struct hr_fib *fib)
{
	hr_rcu_barrier();
	hr_fib_destroy(fib);
	CHECK(hr_blocks.used == 0 && hr_guards4.used == 0 && hr_guards6.used == 0);
}

/** Random inserts, replacements and deletes, with every answer compared. */
static void
test_random(uint8_t family, uint64_t seed, unsigned routes, unsigned steps)
{
	unsigned bits = family == 4 ? 32 : 128;
	struct oracle oracle = {
			.family = family,
			.capacity = routes,
			.routes = calloc(routes, sizeof(*oracle.routes)),
	};
	struct hr_fib *fib = hr_fib_create(family);
	struct hr_ip6 bases[6];
	size_t empty;

	CHECK(oracle.routes != NULL && fib != NULL);
	empty = hr_fib_bytes(fib);
	state = seed * 2 + 1;
	for (unsigned i = 0; i < RTE_DIM(bases); i++) {
		bases[i] = random_address(family);
		/* Pairs that share half: a /16 and a /64. */
		if (i % 2 == 1)
			memcpy(&bases[i], &bases[i - 1], bits / 16);
	}
	for (unsigned step = 0; step < steps; step++) {
		/* Fill up, then thin out, and again. */
		bool filling = step / routes % 2 == 0;
		struct hr_ip6 keys[8];
		struct oracle_route route = {
				.key = clustered_address(family, bases, RTE_DIM(bases)),
				.len = rnd(3) == 0 ? bits : rnd(bits + 1),
				.value = 1 + rnd(step % 2 == 0 ? 3 : HR_ENTRY_VALUE),
				.owner = rnd(2),
		};
		struct oracle_route *old;
		struct hr_addr addr;

		if (oracle.count > 0 && rnd(4) < (filling ? 1 : 3)) {
			old = &oracle.routes[rnd(oracle.count)];
			route.key = old->key;
			route.len = old->len;
			if (rnd(8) == 0)
				route.owner = old->owner ^ 1;
			else
				route.owner = old->owner;
		}
		clear_host_bits(&route.key, route.len);
		old = oracle_get(&oracle, &route.key, route.len);
		addr = oracle_addr(family, &route.key);
		if (rnd(8) < (filling ? 6 : 2)) {
			uint32_t expected = old != NULL ? old->value : 0, replaced = UINT32_MAX;
			uint32_t value = 0, owner = UINT32_MAX;

			if (!oracle_insert(&oracle, &route))
				continue;
			CHECK(hr_fib_insert(fib, &addr, route.len, route.value, route.owner,
					      &replaced) == 0);
			CHECK(replaced == expected);
			CHECK(hr_fib_get(fib, &addr, route.len, &value, &owner) == 0);
			CHECK(value == route.value && owner == route.owner);
		} else {
			uint32_t value = 0;
			int rc = hr_fib_delete(fib, &addr, route.len, route.owner, &value);

			if (old == NULL || old->owner != route.owner) {
				CHECK(rc == -ENOENT);
			} else {
				CHECK(rc == 0 && value == old->value);
				oracle_delete(&oracle, old);
				CHECK(hr_fib_get(fib, &addr, route.len, NULL, NULL) == -ENOENT);
			}
		}
		oracle_edges(family, &route.key, route.len, keys);
		for (unsigned i = 4; i < RTE_DIM(keys); i++)
			keys[i] = clustered_address(family, bases, RTE_DIM(bases));
		check_addresses(fib, &oracle, keys, RTE_DIM(keys));
		if (step % (routes / 2) == 0) {
			check_all_edges(fib, &oracle);
			check_walk(fib, &oracle);
			hr_rcu_reclaim();
		}
	}
	while (oracle.count > 0) {
		struct oracle_route *route = &oracle.routes[rnd(oracle.count)];
		struct hr_addr addr = oracle_addr(family, &route->key);

		CHECK(hr_fib_delete(fib, &addr, route->len, route->owner, NULL) == 0);
		oracle_delete(&oracle, route);
		if (oracle.count < 8)
			check_all_edges(fib, &oracle);
	}
	CHECK(hr_fib_count(fib) == 0);
	CHECK(hr_fib_bytes(fib) == empty);
	destroy(fib);
	free(oracle.routes);
}

/** Each length alone, and all on one address: every split of a path, both ways. */
static void
test_lengths(uint8_t family)
{
	unsigned bits = family == 4 ? 32 : 128;
	struct oracle_route routes[129];
	struct oracle oracle = {.family = family, .capacity = 129, .routes = routes};
	struct hr_fib *fib = hr_fib_create(family);
	size_t empty = hr_fib_bytes(fib);
	struct hr_ip6 key;

	state = 7;
	for (unsigned round = 0; round < 8; round++) {
		key = random_address(family);
		for (unsigned i = 0; i <= bits; i++) {
			/* Ascending, descending, then in leaps. */
			unsigned len = round == 0    ? i
					: round == 1 ? bits - i
						     : (i * (10 + 4 * round) + round) % (bits + 1);
			struct oracle_route route = {.key = key, .len = len, .value = len + 1};
			struct hr_addr addr;

			clear_host_bits(&route.key, len);
			if (oracle_get(&oracle, &route.key, len) != NULL)
				continue;
			addr = oracle_addr(family, &route.key);
			CHECK(oracle_insert(&oracle, &route));
			CHECK(hr_fib_insert(fib, &addr, len, len + 1, 0, NULL) == 0);
			check_all_edges(fib, &oracle);
		}
		CHECK(round > 1 || oracle.count == bits + 1);
		while (oracle.count > 0) {
			struct oracle_route *route = &oracle.routes[rnd(oracle.count)];
			struct hr_addr addr = oracle_addr(family, &route->key);

			CHECK(hr_fib_delete(fib, &addr, route->len, 0, NULL) == 0);
			oracle_delete(&oracle, route);
			check_all_edges(fib, &oracle);
		}
		CHECK(hr_fib_bytes(fib) == empty);
	}
	destroy(fib);
}

/** Lone routes cost a guard each, not blocks; a route left alone goes back to that. */
static void
test_memory(void)
{
	struct hr_addr far[2] = {{.family = 6}, {.family = 6}};
	struct hr_fib *fib = hr_fib_create(6);
	size_t empty = hr_fib_bytes(fib), one;

	far[0].ip6.b[0] = 0x20;
	far[1].ip6.b[0] = 0x20;
	far[1].ip6.b[15] = 1;
	CHECK(hr_fib_insert(fib, &far[0], 128, 1, 0, NULL) == 0);
	one = hr_fib_bytes(fib);
	CHECK(one - empty <= 192);
	CHECK(hr_fib_insert(fib, &far[1], 128, 2, 0, NULL) == 0);
	CHECK(hr_fib_bytes(fib) - one <= sizeof(struct hr_block) + 128);
	CHECK(hr_fib_delete(fib, &far[1], 128, 0, NULL) == 0);
	CHECK(hr_fib_bytes(fib) == one);
	CHECK(hr_fib_delete(fib, &far[0], 128, 0, NULL) == 0);
	CHECK(hr_fib_bytes(fib) == empty);
	destroy(fib);
}

/** Without room in a pool an insert fails and changes nothing; what is there can be replaced. */
static void
test_full(uint8_t family)
{
	struct oracle_route routes[3];
	struct oracle oracle = {.family = family, .capacity = 3, .routes = routes};
	struct hr_fib *fib = hr_fib_create(family);
	uint32_t capacity = hr_blocks.capacity, old = 0;
	struct oracle_route route = {.len = 24, .value = 1};
	struct hr_addr addr = oracle_addr(family, &route.key);
	size_t bytes;

	CHECK(oracle_insert(&oracle, &route));
	CHECK(hr_fib_insert(fib, &addr, 24, 1, 0, NULL) == 0);
	bytes = hr_fib_bytes(fib);
	hr_blocks.capacity = hr_blocks.used;
	CHECK(hr_fib_insert(fib, &addr, 8, 2, 0, &old) == -ENOMEM);
	CHECK(hr_fib_bytes(fib) == bytes);
	check_all_edges(fib, &oracle);
	check_walk(fib, &oracle);
	CHECK(hr_fib_insert(fib, &addr, 24, 2, 5, &old) == 0 && old == 1);
	hr_blocks.capacity = capacity;
	CHECK(hr_fib_delete(fib, &addr, 24, 5, &old) == 0 && old == 2);
	destroy(fib);
}

/** All that a reader and a writer share. State s is what s operations of the script have made. */
#define RACE_STATES 257
#define RACE_ADDRESSES HR_BURST

static struct {
	uint8_t family;
	struct hr_fib *fib;
	struct hr_ip6 keys[RACE_ADDRESSES];
	uint32_t answers[RACE_STATES][RACE_ADDRESSES];
	uint64_t begun, done; /* operations */
	uint64_t checked;     /* bursts */
	bool stop;
} race;

/** The script goes forth and back, for ever. */
static unsigned
race_state(uint64_t operations)
{
	unsigned at = operations % (2 * (RACE_STATES - 1));

	return at < RACE_STATES ? at : 2 * (RACE_STATES - 1) - at;
}

static void *
race_reader(void *arg)
{
	uint32_t values[RACE_ADDRESSES];

	rte_rcu_qsbr_thread_register(hr_qsbr, 0);
	rte_rcu_qsbr_thread_online(hr_qsbr, 0);
	while (!__atomic_load_n(&race.stop, __ATOMIC_ACQUIRE)) {
		uint64_t from = __atomic_load_n(&race.done, __ATOMIC_ACQUIRE), to;

		oracle_fib_lookup(race.fib, race.family, race.keys, values, RACE_ADDRESSES);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		to = __atomic_load_n(&race.begun, __ATOMIC_ACQUIRE);
		for (unsigned i = 0; i < RACE_ADDRESSES; i++) {
			uint64_t s = from;

			while (s <= to && race.answers[race_state(s)][i] != values[i])
				s++;
			CHECK(s <= to);
		}
		rte_rcu_qsbr_quiescent(hr_qsbr, 0);
		__atomic_fetch_add(&race.checked, 1, __ATOMIC_RELEASE);
	}
	rte_rcu_qsbr_thread_offline(hr_qsbr, 0);
	rte_rcu_qsbr_thread_unregister(hr_qsbr, 0);
	return arg;
}

/** Every burst of a reader must be what some state between its begin and its end answers. */
static void
test_race(uint8_t family, uint64_t seed, unsigned operations)
{
	static struct {
		struct oracle_route route;
		struct oracle_route replaced; /* value 0: it was new */
		bool deletes;
	} script[RACE_STATES - 1];
	struct oracle_route routes[RACE_STATES];
	struct oracle oracle = {.family = family, .capacity = RACE_STATES, .routes = routes};
	unsigned bits = family == 4 ? 32 : 128;
	struct hr_ip6 bases[3];
	pthread_t reader;

	state = seed;
	memset(&race, 0, sizeof(race));
	race.family = family;
	race.fib = hr_fib_create(family);
	for (unsigned i = 0; i < RTE_DIM(bases); i++)
		bases[i] = random_address(family);
	for (unsigned i = 0; i < RACE_ADDRESSES; i++)
		race.keys[i] = clustered_address(family, bases, RTE_DIM(bases));
	for (unsigned s = 0; s < RACE_STATES; s++) {
		struct oracle_route route = {
				.key = race.keys[rnd(RACE_ADDRESSES)],
				.len = rnd(bits + 1),
				.value = 1 + s,
		};
		struct oracle_route *old;

		for (unsigned i = 0; i < RACE_ADDRESSES; i++)
			race.answers[s][i] = oracle_lookup(&oracle, &race.keys[i]);
		if (s == RACE_STATES - 1)
			break;
		if (oracle.count > 0 && rnd(2) == 0) {
			route.key = routes[rnd(oracle.count)].key;
			route.len = routes[rnd(oracle.count)].len;
		}
		clear_host_bits(&route.key, route.len);
		old = oracle_get(&oracle, &route.key, route.len);
		script[s].route = route;
		script[s].replaced = old != NULL ? *old : (struct oracle_route){.value = 0};
		script[s].deletes = old != NULL && rnd(2) == 0;
		if (script[s].deletes)
			oracle_delete(&oracle, old);
		else
			CHECK(oracle_insert(&oracle, &route));
	}
	CHECK(pthread_create(&reader, NULL, race_reader, NULL) == 0);
	while (__atomic_load_n(&race.checked, __ATOMIC_ACQUIRE) == 0)
		sched_yield();
	for (uint64_t t = 0; t < operations; t++) {
		unsigned from = race_state(t), to = race_state(t + 1);
		unsigned s = RTE_MIN(from, to);
		const struct oracle_route *route = &script[s].route;
		struct hr_addr addr = oracle_addr(family, &route->key);
		/* Forth: the script's own; back: what it replaced. */
		uint32_t value = from > to          ? script[s].replaced.value
				: script[s].deletes ? 0
						    : route->value;

		__atomic_store_n(&race.begun, t + 1, __ATOMIC_RELEASE);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (value == 0)
			CHECK(hr_fib_delete(race.fib, &addr, route->len, 0, NULL) == 0);
		else
			CHECK(hr_fib_insert(race.fib, &addr, route->len, value, 0, NULL) == 0);
		__atomic_store_n(&race.done, t + 1, __ATOMIC_RELEASE);
		hr_rcu_reclaim();
	}

	/* Freed only once the reader has been through a grace period: it never stops before. */
	uint64_t checked = __atomic_load_n(&race.checked, __ATOMIC_ACQUIRE);

	while (__atomic_load_n(&race.checked, __ATOMIC_ACQUIRE) < checked + 2)
		sched_yield();
	__atomic_store_n(&race.stop, true, __ATOMIC_RELEASE);
	CHECK(pthread_join(reader, NULL) == 0);
	destroy(race.fib);
}

void __real_hr_defer(void (*fn)(void *arg), void *arg);
void __wrap_hr_defer(void (*fn)(void *arg), void *arg);

/** What a reader may see while memory is freed at once; NULL: it is freed later. */
static struct {
	const struct hr_fib *fib;
	const struct oracle *before, *after;
} freed_at_once;

/** Without memory hr_defer() waits and frees before it returns: what it frees no reader may reach. */
void
__wrap_hr_defer(void (*fn)(void *arg), void *arg)
{
	const struct oracle *before = freed_at_once.before, *after = freed_at_once.after;

	if (freed_at_once.fib == NULL) {
		__real_hr_defer(fn, arg);
		return;
	}
	fn(arg);
	for (unsigned i = 0; i < before->count; i++) {
		struct hr_ip6 edges[4];
		uint32_t values[4];

		oracle_edges(before->family, &before->routes[i].key, before->routes[i].len, edges);
		oracle_fib_lookup(freed_at_once.fib, before->family, edges, values, 4);
		for (unsigned j = 0; j < 4; j++)
			CHECK(values[j] == oracle_lookup(before, &edges[j]) ||
					values[j] == oracle_lookup(after, &edges[j]));
	}
}

/**
 * Memory that ends anywhere: an insert has failed and changed nothing, or it is done; a delete or a
 * replacement is done. What is freed nobody reads.
 */
static void
test_out_of_memory(uint8_t family, uint64_t seed, unsigned steps)
{
	enum { ROUTES = 64 };
	struct oracle_route before_routes[ROUTES], after_routes[ROUTES];
	struct oracle before = {.family = family, .capacity = ROUTES, .routes = before_routes};
	struct oracle after = {.family = family, .capacity = ROUTES, .routes = after_routes};
	unsigned bits = family == 4 ? 32 : 128, failed = 0;
	struct hr_fib *fib = hr_fib_create(family);
	struct hr_ip6 bases[3];

	state = seed;
	for (unsigned i = 0; i < RTE_DIM(bases); i++)
		bases[i] = random_address(family);
	for (unsigned step = 0; step < steps; step++) {
		struct oracle_route route = {
				.key = clustered_address(family, bases, RTE_DIM(bases)),
				.len = rnd(3) == 0 ? bits : rnd(bits + 1),
				.value = 1 + rnd(1000),
		};
		struct hr_addr addr;
		bool present;
		int rc;

		if (before.count == ROUTES || (before.count > 0 && rnd(2) == 0)) {
			const struct oracle_route *old = &before.routes[rnd(before.count)];

			route.key = old->key;
			route.len = old->len;
		}
		clear_host_bits(&route.key, route.len);
		addr = oracle_addr(family, &route.key);
		memcpy(after_routes, before_routes, sizeof(after_routes));
		after.count = before.count;
		present = oracle_get(&after, &route.key, route.len) != NULL;
		freed_at_once.fib = fib;
		freed_at_once.before = &before;
		freed_at_once.after = &after;
		if (present && rnd(3) > 0) {
			oracle_delete(&after, oracle_get(&after, &route.key, route.len));
			memory_fail(1, true);
			rc = hr_fib_delete(fib, &addr, route.len, 0, NULL);
			CHECK(rc == 0);
		} else {
			CHECK(oracle_insert(&after, &route));
			memory_fail(1 + rnd(3), rnd(2) == 0);
			rc = hr_fib_insert(fib, &addr, route.len, route.value, 0, NULL);
			CHECK(rc == 0 || (rc == -ENOMEM && !present && memory_failed > 0));
		}
		memory_fail(0, false);
		freed_at_once.fib = NULL;
		if (rc == 0) {
			memcpy(before_routes, after_routes, sizeof(before_routes));
			before.count = after.count;
		}
		failed += rc != 0;
		if (rc != 0 || step % 16 == 0) {
			check_all_edges(fib, &before);
			check_walk(fib, &before);
		}
	}
	CHECK(failed > 0);
	destroy(fib);
}

/** What a prefix's addresses get without it. */
static void
test_cover(void)
{
	struct hr_fib *fib = hr_fib_create(4);
	struct hr_addr addr = {.family = 4, .ip4 = RTE_BE32(0x0a000000)};
	rte_be32_t in = RTE_BE32(0x0a000001);
	uint32_t value;

	CHECK(hr_fib_cover(fib, &addr, 8) == 0);
	/* Led where they are led already, and so no other way than before. */
	CHECK(hr_fib_insert(fib, &addr, 0, 0, 1, NULL) == 0 && hr_fib_count(fib) == 1);
	hr_fib4_lookup(fib, &in, &value, 1);
	CHECK(value == 0 && hr_fib_get(fib, &addr, 0, &value, NULL) == 0 && value == 0);
	CHECK(hr_fib_insert(fib, &addr, 8, 7, 1, NULL) == 0);
	CHECK(hr_fib_cover(fib, &addr, 8) == 0 && hr_fib_cover(fib, &addr, 24) == 7);
	CHECK(hr_fib_insert(fib, &addr, 24, 7, 1, NULL) == 0);
	CHECK(hr_fib_delete(fib, &addr, 8, 1, NULL) == 0);
	hr_fib4_lookup(fib, &in, &value, 1);
	CHECK(value == 7);
	destroy(fib);
}

static unsigned called;

static void
count_call(void *arg)
{
	/* Each call defers another, `arg` deep. */
	uintptr_t deeper = (uintptr_t)arg;

	called++;
	if (deeper > 0)
		hr_defer(count_call, (void *)(deeper - 1));
}

static void
test_rcu(void)
{
	CHECK(rte_rcu_qsbr_thread_register(hr_qsbr, 1) == 0);
	rte_rcu_qsbr_thread_online(hr_qsbr, 1);
	hr_defer(count_call, NULL);
	hr_rcu_reclaim();
	hr_defer(count_call, NULL);
	hr_rcu_reclaim();
	CHECK(called == 0);
	rte_rcu_qsbr_quiescent(hr_qsbr, 1);
	/* The second was deferred after the first one's grace period had begun. */
	hr_rcu_reclaim();
	CHECK(called == 1);
	rte_rcu_qsbr_quiescent(hr_qsbr, 1);
	hr_rcu_reclaim();
	CHECK(called == 2);
	for (unsigned i = 0; i < 100000; i++)
		hr_defer(count_call, NULL);
	rte_rcu_qsbr_thread_offline(hr_qsbr, 1);
	hr_rcu_reclaim();
	CHECK(called == 100002);
	rte_rcu_qsbr_thread_unregister(hr_qsbr, 1);
	hr_defer(count_call, (void *)(uintptr_t)3);
	hr_rcu_barrier();
	CHECK(called == 100006);
}

int
main(void)
{
	CHECK(hr_rcu_init(0) == -EINVAL);
	CHECK(hr_rcu_init(2) == 0);
	test_rcu();
	for (uint8_t family = 4; family <= 6; family += 2) {
		hr_fib_root16_routes = hr_fib_root24_routes = UINT32_MAX;
		test_full(family);
		test_lengths(family);
		test_random(family, 1, 16, 20000);
		test_random(family, 2, 200, 20000);
		test_race(family, 3, 100000);
		test_race(family, 4, 100000);
		test_out_of_memory(family, 9, 2000);
		hr_fib_root16_routes = 24;
		test_lengths(family);
		test_random(family, 5, 200, 20000);
		test_race(family, 6, 100000);
		test_out_of_memory(family, 8, 2000);
		hr_fib_root16_routes = 20;
		hr_fib_root24_routes = 120;
		test_random(family, 7, 200, 2000);
	}
	test_memory();
	test_cover();
	puts("ok");
	return 0;
}
