/* SPDX-License-Identifier: Apache-2.0 */
#include "latency.h"

/** The first bound is 1 << FIRST_BITS ns. */
#define FIRST_BITS 8

/** 2^(bits + 1/2): the bound in the middle of an octave. */
static uint64_t
middle(unsigned bits)
{
	return (uint64_t)1518500250 >> (30 - bits); /* sqrt(2) * 2^30 */
}

uint64_t
hr_latency_bound_ns(unsigned bucket)
{
	const unsigned bits = FIRST_BITS + bucket / 2;

	if (bucket == HR_LATENCY_BUCKETS - 1)
		return UINT64_MAX;
	return bucket % 2 == 0 ? 1ULL << bits : middle(bits);
}

static unsigned
bucket_of(uint64_t ns)
{
	unsigned bits;

	if (ns < 1ULL << FIRST_BITS)
		return 0;
	if (ns >= hr_latency_bound_ns(HR_LATENCY_BUCKETS - 2))
		return HR_LATENCY_BUCKETS - 1;
	bits = 63 - (unsigned)__builtin_clzll(ns);
	return (bits - FIRST_BITS) * 2 + (ns < middle(bits) ? 1 : 2);
}

void
hr_latency_note(struct hr_latency *latency, uint64_t ns, unsigned packets)
{
	latency->packets[bucket_of(ns)] += packets;
	latency->ns += ns * packets;
}
