/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Latency: how long a worker had its packets, from when it asked the device for them until they
 * were sent, dropped or given to another. Not how long they waited in the device before.
 *
 * A walk takes in one burst and ends when that has left, so what it took is the latency of each of
 * its packets. One walk in HR_LATENCY_SAMPLE is counted: a prime, as workers with many queues come
 * back to the same one after so many walks.
 */
#ifndef HR_LATENCY_H
#define HR_LATENCY_H

#include <stdint.h>

#define HR_LATENCY_SAMPLE 31
/** Two an octave, from 256 ns to 67 ms, and one for what took longer. */
#define HR_LATENCY_BUCKETS 38

/** A histogram on a log scale, of the packets of the walks that were counted. */
struct hr_latency {
	uint64_t packets[HR_LATENCY_BUCKETS];
	uint64_t ns; /**< Sum over these packets. */
};

/** Count packets of a walk that took so many nanoseconds. */
void hr_latency_note(struct hr_latency *latency, uint64_t ns, unsigned packets);

/** What is shorter than this counts to a bucket or one before; UINT64_MAX for the last one. */
uint64_t hr_latency_bound_ns(unsigned bucket);

#endif
