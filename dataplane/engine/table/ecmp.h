/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Which member of a weighted group has which flows. Control thread.
 *
 * Each bucket of flows has the member that asks least for it, and what a member asks is nobody else's
 * business (weighted rendezvous hashing: Thaler and Ravishankar 1998, Schindelhauer and Schomaker
 * 2005). So a member that leaves gives its own buckets away, one that comes takes its own, a weight
 * that changes moves the difference, and no other flow moves. Nothing is remembered: whoever knows
 * the members, another node or an engine started again, gives them the same buckets.
 *
 * The price is that shares are a matter of luck: for a share p of all weights, by a standard deviation
 * of sqrt(p * (1 - p) / HR_ECMP_BUCKETS) of all flows: 0.8 % of them for a half, 0.7 % for a quarter,
 * 0.4 % for a sixteenth.
 */
#ifndef HR_ECMP_H
#define HR_ECMP_H

#include "adj.h"

/** No two members of a group have the same identity. */
struct hr_ecmp_member {
	uint64_t identity; /**< hr_ecmp_identity() of what it is called everywhere. */
	uint32_t weight;   /**< 1 .. HR_ECMP_WEIGHT_MAX. */
	uint32_t adj;
};
#define HR_ECMP_WEIGHT_MAX (1u << 20)

uint64_t hr_ecmp_identity(const void *name, size_t length);

/**
 * What one of a weight (1 .. HR_ECMP_WEIGHT_MAX) asks, by its luck, a hash of 32 bits. Who asks least
 * has it, so shares go by weight, and of one weight the luckiest has it.
 */
uint64_t hr_ecmp_asked(uint32_t luck, uint32_t weight);

/**
 * Give 1 .. HR_MAX_NEXT_HOPS members their buckets.
 * @return to be freed; NULL when there is no memory
 */
struct hr_ecmp *hr_ecmp_new(const struct hr_ecmp_member *members, unsigned n);

#endif
