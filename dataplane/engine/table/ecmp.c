/* SPDX-License-Identifier: Apache-2.0 */
#include "ecmp.h"

#include <stdlib.h>

#include "../packet/flow_hash.h"

#define LUCK_BITS 12 /**< A member's luck with a bucket: 0 .. LEVELS - 1. */
#define LEVELS (1u << LUCK_BITS)
#define LOG_BITS 24 /**< After the point. */
/** Last bits of a price: by whom. Who asks the same as another has the bucket by its identity. */
#define WHO (uint64_t)(HR_MAX_NEXT_HOPS - 1)
static_assert(HR_MAX_NEXT_HOPS == 16, "a power of two");

uint64_t
hr_ecmp_identity(const void *name, size_t length)
{
	const uint8_t *bytes = name;
	uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3;
	return hash;
}

/** Binary logarithm of 1 .. 2^31, fixed point: to the last bit alike on every machine. */
static uint32_t
log2_of(uint32_t value)
{
	const unsigned whole = 31 - __builtin_clz(value);
	uint64_t rest = (uint64_t)value << (31 - whole); /* 1 <= rest < 2, in units of 2^-31 */
	uint32_t log = whole;

	for (unsigned bit = 0; bit < LOG_BITS; bit++) {
		const unsigned carry = (rest = rest * rest >> 31) >> 32;

		log = log << 1 | carry;
		rest >>= carry;
	}
	return log;
}

/**
 * What a member of weight 1 asks for a bucket, by its luck: -log2((luck + 1/2) / LEVELS). One of
 * weight w asks the w-th part. The least of exponentially distributed prices is a member's with a
 * probability that goes by its weight.
 */
static const uint32_t *
prices(void)
{
	static uint32_t table[LEVELS];

	if (table[0] == 0)
		for (uint32_t luck = 0; luck < LEVELS; luck++)
			table[luck] = log2_of(2 * LEVELS) - log2_of(2 * luck + 1);
	return table;
}

/** The part of a price that one of a weight asks. */
static uint64_t
part_of(uint32_t weight)
{
	return (1ULL << 32) / weight;
}

uint64_t
hr_ecmp_asked(uint32_t luck, uint32_t weight)
{
	return (log2_of(1u << 31) - log2_of(luck >> 1 | 1)) * part_of(weight);
}

static unsigned
luck(const struct hr_ecmp_member *member, uint32_t bucket)
{
	return hr_mix(member->identity + bucket * 0x9e3779b97f4a7c15ULL) >> (32 - LUCK_BITS);
}

static int
compare_identities(const void *a, const void *b)
{
	const struct hr_ecmp_member *one = a, *other = b;

	return (one->identity > other->identity) - (one->identity < other->identity);
}

struct hr_ecmp *
hr_ecmp_new(const struct hr_ecmp_member *members, unsigned n)
{
	static uint64_t least[HR_ECMP_BUCKETS]; /* What is asked, and WHO does. */
	struct hr_ecmp *ecmp = calloc(1, sizeof(*ecmp));
	struct hr_ecmp_member sorted[HR_MAX_NEXT_HOPS];
	const uint32_t *price = prices();

	if (ecmp == NULL)
		return NULL;
	memcpy(sorted, members, n * sizeof(sorted[0]));
	qsort(sorted, n, sizeof(sorted[0]), compare_identities);
	memset(least, 0xff, sizeof(least));
	for (uint64_t i = 0; i < n; i++) {
		const uint64_t part = part_of(sorted[i].weight);

		ecmp->adj[i] = sorted[i].adj;
		for (uint32_t bucket = 0; bucket < HR_ECMP_BUCKETS; bucket++) {
			const uint64_t asked = price[luck(&sorted[i], bucket)] * part;

			least[bucket] = RTE_MIN(least[bucket], (asked & ~WHO) | i);
		}
	}
	for (uint32_t bucket = 0; bucket < HR_ECMP_BUCKETS; bucket++)
		ecmp->bucket[bucket] = least[bucket] & WHO;
	return ecmp;
}
