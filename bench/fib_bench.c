/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Lookup structures side by side: cycles per lookup in bursts of 64, memory, time to insert.
 *
 * Prints hr_fib beside rte_fib (DIR24_8, and the trie for IPv6), in one run and on the same
 * routes and addresses. Compare ratios: cycles differ between machines and runs. Every answer is
 * compared too; it exits with 1 when one differs. Arguments are EAL's; the default needs no
 * hugepages: `--no-huge --no-pci -m 2048`.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <rte_common.h>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_log.h>
#include <rte_memory.h>

#include "../dataplane/engine/fib/fib.h"
#include "../dataplane/engine/rcu.h"

#define MIN_LOOKUPS (4u << 20) /* of one timing */
#define TIMINGS 5              /* the best counts */
#define TBL8S 65535
#define PEER_ROUTES 1000000

struct route {
	struct hr_addr addr;
	uint8_t len;
};

static uint64_t state = 1;

static uint32_t
rnd(void)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (state * 0x2545f4914f6cdd1d) >> 32;
}

/** Seconds of CPU time: other load counts for less than in the time of day. */
static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

/** Resident memory, MiB. */
static double
resident(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	unsigned long size, pages = 0;

	if (file == NULL || fscanf(file, "%lu %lu", &size, &pages) != 2)
		pages = 0;
	if (file != NULL)
		fclose(file);
	return pages * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

static void *
array(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (p == NULL) {
		fputs("out of memory\n", stderr);
		exit(2);
	}
	return p;
}

/** Share of each prefix length of the IPv4 Internet, per mille, roughly; the rest is /24. */
static unsigned
internet_length4(void)
{
	static const uint16_t share[33] = {
			[10] = 1,
			[12] = 2,
			[14] = 2,
			[16] = 14,
			[17] = 9,
			[18] = 15,
			[19] = 28,
			[20] = 45,
			[21] = 52,
			[22] = 110,
			[23] = 100,
			[28] = 3,
			[32] = 5,
	};
	unsigned at = rnd() % 1000;

	for (unsigned len = 0; len <= 32; len++) {
		if (at < share[len])
			return len;
		at -= share[len];
	}
	return 24;
}

static unsigned
internet_length6(void)
{
	static const uint8_t lengths[10] = {48, 48, 48, 48, 48, 32, 44, 40, 36, 29};

	return lengths[rnd() % RTE_DIM(lengths)];
}

enum set {
	ONE4,
	TENANT24,
	TENANT32,
	INTERNET4,
	RANDOM32,
	ONE6,
	TENANT64,
	TENANT128,
	INTERNET6,
};

static struct route
make_route(enum set set)
{
	struct route route = {.addr.family = set >= ONE6 ? 6 : 4};
	uint32_t ip = rnd();

	switch (set) {
	case ONE4:
		ip = 0x30000000;
		route.len = 8;
		break;
	case TENANT24:
		ip = 0x30000000 | ip >> 8;
		route.len = 24;
		break;
	case TENANT32:
		/* In a thousand subnets. */
		ip = 0x30000000 | (ip >> 8 & 0x0ffcff);
		route.len = 32;
		break;
	case INTERNET4:
		ip = 0x01000000 + ip % 0xde000000;
		route.len = internet_length4();
		break;
	case RANDOM32:
		route.len = 32;
		break;
	default:
		for (unsigned i = 0; i < 4; i++)
			route.addr.ip6.w[i] = rnd();
		/* 2001:db8::/32, or all of 2000::/3. */
		if (set == INTERNET6)
			route.addr.ip6.b[0] = 0x20 | (route.addr.ip6.b[0] & 0x0f);
		else
			route.addr.ip6.w[0] = rte_cpu_to_be_32(0x20010db8);
		route.len = set == ONE6            ? 32
				: set == TENANT64  ? 64
				: set == TENANT128 ? 128
						   : internet_length6();
		/* Of one /48, in a thousand subnets. */
		if (set == TENANT128) {
			route.addr.ip6.b[4] = route.addr.ip6.b[5] = 0;
			route.addr.ip6.b[6] &= 3;
		}
		for (unsigned bit = route.len; bit < 128; bit++)
			route.addr.ip6.b[bit / 8] &= ~(0x80 >> bit % 8);
		return route;
	}
	if (route.len < 32)
		ip &= ~(UINT32_MAX >> route.len);
	route.addr.ip4 = rte_cpu_to_be_32(ip);
	return route;
}

/** Addresses within random ones of the routes. */
static void
make_addresses(const struct route *routes, unsigned n_routes, struct hr_ip6 *addrs, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const struct route *route = &routes[rnd() % n_routes];
		unsigned bits = route->addr.family == 4 ? 32 : 128;

		addrs[i] = route->addr.family == 4 ? (struct hr_ip6){.w = {route->addr.ip4}}
						   : route->addr.ip6;
		for (unsigned bit = route->len; bit < bits; bit++)
			addrs[i].b[bit / 8] |= (rnd() & 1) << (7 - bit % 8);
	}
}

typedef void (*lookup_fn)(void *fib, const void *addrs, uint32_t *values);

static void
lookup_hr4(void *fib, const void *addrs, uint32_t *values)
{
	hr_fib4_lookup(fib, addrs, values, HR_BURST);
}

static void
lookup_hr6(void *fib, const void *addrs, uint32_t *values)
{
	const struct hr_ip6 *pointers[HR_BURST];

	for (unsigned i = 0; i < HR_BURST; i++)
		pointers[i] = (const struct hr_ip6 *)addrs + i;
	hr_fib6_lookup(fib, pointers, values, HR_BURST);
}

static void
lookup_rte4(void *fib, const void *addrs, uint32_t *values)
{
	uint64_t hops[HR_BURST];
	uint32_t host[HR_BURST];

	/* It takes host order; packets carry network order. */
	for (unsigned i = 0; i < HR_BURST; i++)
		host[i] = rte_be_to_cpu_32(((const rte_be32_t *)addrs)[i]);
	rte_fib_lookup_bulk(fib, host, hops, HR_BURST);
	for (unsigned i = 0; i < HR_BURST; i++)
		values[i] = hops[i];
}

static void
lookup_rte6(void *fib, const void *addrs, uint32_t *values)
{
	uint64_t hops[HR_BURST];

	rte_fib6_lookup_bulk(fib, (void *)(uintptr_t)addrs, hops, HR_BURST);
	for (unsigned i = 0; i < HR_BURST; i++)
		values[i] = hops[i];
}

/** Cycles per lookup. */
static double
measure(lookup_fn lookup, void *fib, const void *addrs, size_t addr_size, unsigned n)
{
	uint32_t values[HR_BURST];
	double best = 1e9;

	for (unsigned t = 0; t < TIMINGS; t++) {
		uint64_t start = rte_rdtsc_precise(), lookups = 0;

		while (lookups < MIN_LOOKUPS) {
			for (unsigned i = 0; i + HR_BURST <= n; i += HR_BURST) {
				lookup(fib, (const char *)addrs + i * addr_size, values);
				rte_compiler_barrier();
			}
			lookups += n;
		}
		best = RTE_MIN(best, (double)(rte_rdtsc_precise() - start) / lookups);
	}
	return best;
}

static void *
peer_create(uint8_t family, const struct route *routes, unsigned n)
{
	static unsigned number;
	char name[32];

	snprintf(name, sizeof(name), "peer%u", number++);
	if (family == 4) {
		struct rte_fib *fib = rte_fib_create(name, SOCKET_ID_ANY,
				&(struct rte_fib_conf){
						.type = RTE_FIB_DIR24_8,
						.max_routes = PEER_ROUTES,
						.dir24_8 = {.nh_sz = RTE_FIB_DIR24_8_4B,
								.num_tbl8 = TBL8S},
				});

		for (unsigned i = 0; fib != NULL && i < n; i++) {
			if (rte_fib_add(fib, rte_be_to_cpu_32(routes[i].addr.ip4), routes[i].len,
					    i % 4000 + 1) != 0) {
				rte_fib_free(fib);
				return NULL;
			}
		}
		return fib;
	}

	struct rte_fib6 *fib = rte_fib6_create(name, SOCKET_ID_ANY,
			&(struct rte_fib6_conf){
					.type = RTE_FIB6_TRIE,
					.max_routes = PEER_ROUTES,
					.trie = {.nh_sz = RTE_FIB6_TRIE_4B, .num_tbl8 = 4 * TBL8S},
			});

	for (unsigned i = 0; fib != NULL && i < n; i++) {
		if (rte_fib6_add(fib, (void *)(uintptr_t)&routes[i].addr.ip6, routes[i].len,
				    i % 4000 + 1) != 0) {
			rte_fib6_free(fib);
			return NULL;
		}
	}
	return fib;
}

static int
differences(lookup_fn a, void *fib_a, lookup_fn b, void *fib_b, const void *addrs, size_t addr_size,
		unsigned n)
{
	uint32_t values_a[HR_BURST], values_b[HR_BURST];
	int found = 0;

	for (unsigned i = 0; i + HR_BURST <= n; i += HR_BURST) {
		a(fib_a, (const char *)addrs + i * addr_size, values_a);
		b(fib_b, (const char *)addrs + i * addr_size, values_b);
		found += memcmp(values_a, values_b, sizeof(values_a)) != 0;
	}
	return found;
}

/** One row. Returns how many bursts were answered differently. */
static int
row(const char *title, enum set set, unsigned n, unsigned n_addrs)
{
	uint8_t family = set >= ONE6 ? 6 : 4;
	size_t addr_size = family == 4 ? sizeof(rte_be32_t) : sizeof(struct hr_ip6);
	struct route *routes = array(n, sizeof(*routes));
	struct hr_ip6 *addrs = array(n_addrs, sizeof(*addrs));
	lookup_fn lookup = family == 4 ? lookup_hr4 : lookup_hr6;
	lookup_fn peer_lookup = family == 4 ? lookup_rte4 : lookup_rte6;
	int wrong = 0;

	state = 1;
	for (unsigned i = 0; i < n; i++)
		routes[i] = make_route(set);
	make_addresses(routes, n, addrs, n_addrs);

	double before = resident(), start = now();
	struct hr_fib *fib = hr_fib_create(family);

	for (unsigned i = 0; i < n; i++) {
		if (hr_fib_insert(fib, &routes[i].addr, routes[i].len, i % 4000 + 1, 0, NULL) != 0)
			exit(2);
	}
	hr_rcu_barrier();

	double inserting = now() - start, grown = resident() - before;

	if (family == 4) {
		/* Close up: the burst's addresses lie side by side, as they do in the engine. */
		for (unsigned i = 0; i < n_addrs; i++)
			memcpy((char *)addrs + i * addr_size, &addrs[i], addr_size);
	}

	double cycles = measure(lookup, fib, addrs, addr_size, n_addrs);
	void *peer = peer_create(family, routes, n);

	printf("%-24s %7u %8u %8.1f ", title, hr_fib_count(fib), n_addrs, cycles);
	if (peer != NULL) {
		wrong = differences(lookup, fib, peer_lookup, peer, addrs, addr_size, n_addrs);
		printf("%8.1f", measure(peer_lookup, peer, addrs, addr_size, n_addrs));
		if (family == 4)
			rte_fib_free(peer);
		else
			rte_fib6_free(peer);
	} else {
		printf("%8s", "-");
	}
	start = now();
	for (unsigned i = 0; i < n; i++)
		hr_fib_delete(fib, &routes[i].addr, routes[i].len, 0, NULL);

	double deleting = now() - start;

	printf(" %9.2f %9.2f %9.1f %9.1f%s\n", hr_fib_bytes(fib) / 1e6, grown, inserting * 1e3,
			deleting * 1e3, wrong != 0 ? "  DIFFERENT ANSWERS" : "");
	fflush(stdout);
	hr_fib_destroy(fib);
	hr_rcu_barrier();
	free(addrs);
	free(routes);
	return wrong;
}

/** Many small tables: memory only. */
static void
networks(void)
{
	static struct hr_fib *fibs[HR_MAX_NETWORKS][2];
	double before = resident(), start = now(), grown;

	for (unsigned n = 0; n < HR_MAX_NETWORKS; n++) {
		fibs[n][0] = hr_fib_create(4);
		fibs[n][1] = hr_fib_create(6);
		for (unsigned i = 0; i < 16; i++) {
			struct route route = make_route(i < 4 ? RANDOM32 : TENANT32);

			hr_fib_insert(fibs[n][0], &route.addr, route.len, i + 1, 0, NULL);
		}
		for (unsigned i = 0; i < 2; i++) {
			struct route route = make_route(i == 0 ? TENANT64 : TENANT128);

			hr_fib_insert(fibs[n][1], &route.addr, route.len, i + 1, 0, NULL);
		}
	}
	hr_rcu_barrier();
	grown = resident() - before;
	printf("%u networks of 16 IPv4 and 2 IPv6 routes: %.1f MiB, %.0f ms\n", HR_MAX_NETWORKS,
			grown, (now() - start) * 1e3);
	for (unsigned n = 0; n < HR_MAX_NETWORKS; n++) {
		hr_fib_destroy(fibs[n][0]);
		hr_fib_destroy(fibs[n][1]);
	}
}

static int
advise_huge(const struct rte_memseg_list *list, void *arg)
{
	/* Without hugepages both sides have the kernel's transparent ones. */
	(void)madvise(list->base_va, list->len, MADV_HUGEPAGE);
	return arg != NULL;
}

int
main(int argc, char **argv)
{
	char *defaults[] = {argv[0], "--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "-m",
			"2048"};
	int wrong = 0;

	rte_log_set_global_level(RTE_LOG_ERR);
	if (rte_eal_init(argc > 1 ? argc : (int)RTE_DIM(defaults), argc > 1 ? argv : defaults) < 0)
		return 2;
	rte_memseg_list_walk(advise_huge, NULL);
	if (hr_rcu_init(1) != 0)
		return 2;
	networks();
	printf("%-24s %7s %8s %17s %19s %19s\n", "", "", "", "cycles per lookup", "MB",
			"CPU ms for all");
	printf("%-24s %7s %8s %8s %8s %9s %9s %9s %9s\n", "routes", "", "addrs", "hr_fib",
			"rte_fib", "left", "resident", "insert", "delete");
	wrong += row("1 x /8", ONE4, 1, 4096);
	wrong += row("100 x /32", TENANT32, 100, 4096);
	wrong += row("10k x /24", TENANT24, 10000, 262144);
	wrong += row("50k x /32", TENANT32, 50000, 262144);
	wrong += row("100k Internet-like", INTERNET4, 100000, 4096);
	wrong += row("1M Internet-like", INTERNET4, 1000000, 4096);
	wrong += row("1M Internet-like", INTERNET4, 1000000, 1000000);
	wrong += row("1M random /32", RANDOM32, 1000000, 1000000);
	wrong += row("1 x /32 (IPv6)", ONE6, 1, 4096);
	wrong += row("100 x /128", TENANT128, 100, 4096);
	wrong += row("10k x /64", TENANT64, 10000, 262144);
	wrong += row("50k x /128", TENANT128, 50000, 262144);
	wrong += row("200k Internet-like", INTERNET6, 200000, 4096);
	wrong += row("200k Internet-like", INTERNET6, 200000, 262144);
	return wrong != 0;
}
