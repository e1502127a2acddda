/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * The buckets of latencies: each nanosecond counts to the one whose bounds are around it.
 */
#include "latency.h"

#include <stdbool.h>

#include "tests/check.h"

static unsigned
bucket_of(uint64_t ns)
{
	struct hr_latency latency = {0};

	hr_latency_note(&latency, ns, 3);
	CHECK(latency.ns == ns * 3);
	for (unsigned i = 0; i < HR_LATENCY_BUCKETS; i++) {
		if (latency.packets[i] != 0) {
			CHECK(latency.packets[i] == 3);
			return i;
		}
	}
	CHECK(false);
	return 0;
}

int
main(void)
{
	unsigned last = 0;

	CHECK(hr_latency_bound_ns(0) == 256);
	CHECK(hr_latency_bound_ns(HR_LATENCY_BUCKETS - 1) == UINT64_MAX);
	for (unsigned i = 1; i < HR_LATENCY_BUCKETS - 1; i++) {
		const double ratio =
				(double)hr_latency_bound_ns(i) / (double)hr_latency_bound_ns(i - 1);

		CHECK(ratio > 1.40 && ratio < 1.43);
	}
	for (uint64_t ns = 0; ns < (uint64_t)1 << 40; ns += ns / 1000 + 1) {
		const unsigned bucket = bucket_of(ns);

		CHECK(bucket >= last);
		last = bucket;
		CHECK(ns < hr_latency_bound_ns(bucket));
		CHECK(bucket == 0 || ns >= hr_latency_bound_ns(bucket - 1));
	}
	CHECK(last == HR_LATENCY_BUCKETS - 1);
	return 0;
}
