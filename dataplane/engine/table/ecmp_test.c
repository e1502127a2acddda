/* SPDX-License-Identifier: Apache-2.0 */
/** @file Weighted groups: who has which buckets, and which of them move. */
#include <stdio.h>
#include <stdlib.h>

#include "../tests/check.h"
#include "ecmp.h"

/** The k-th member that there may be: an underlay address of a node each. */
static struct hr_ecmp_member
member(unsigned k, uint32_t weight)
{
	const struct hr_ip6 address = {.b = {0xfd, [3] = 1, [7] = k, [10] = 7, [15] = 9}};

	return (struct hr_ecmp_member){
			.identity = hr_ecmp_identity(&address, sizeof(address)),
			.weight = weight,
			.adj = 1000 + k,
	};
}

static uint32_t
weight_of(unsigned k)
{
	static const uint32_t weights[] = {1, 1, 3, 1, 10, 100, 2};

	return weights[k % RTE_DIM(weights)];
}

static struct hr_ecmp *
group(const struct hr_ecmp_member *members, unsigned n)
{
	struct hr_ecmp *ecmp = hr_ecmp_new(members, n);

	CHECK(ecmp != NULL);
	return ecmp;
}

/** Where the flows of a bucket go. */
static uint32_t
at(const struct hr_ecmp *ecmp, unsigned bucket)
{
	return hr_ecmp_choose(ecmp, bucket);
}

/** Every member of groups of every size leaves, and comes back: nobody else's flows move. */
static void
test_only_its_own_move(void)
{
	struct hr_ecmp_member members[HR_MAX_NEXT_HOPS], rest[HR_MAX_NEXT_HOPS];

	for (unsigned n = 2; n <= HR_MAX_NEXT_HOPS; n++) {
		struct hr_ecmp *all, *without;

		for (unsigned k = 0; k < n; k++)
			members[k] = member(k, weight_of(k));
		all = group(members, n);
		for (unsigned gone = 0; gone < n; gone++) {
			for (unsigned k = 0; k < n - 1; k++)
				rest[k] = members[k + (k >= gone)];
			without = group(rest, n - 1);
			for (unsigned b = 0; b < HR_ECMP_BUCKETS; b++) {
				CHECK(at(without, b) != members[gone].adj);
				CHECK(at(all, b) == at(without, b) ||
						at(all, b) == members[gone].adj);
			}
			free(without);
		}
		free(all);
	}
}

static void
test_a_weight_moves_the_difference(void)
{
	struct hr_ecmp_member members[] = {member(0, 5), member(1, 5), member(2, 5)};
	struct hr_ecmp *before = group(members, 3), *after;

	members[1].weight = 8;
	after = group(members, 3);
	for (unsigned b = 0; b < HR_ECMP_BUCKETS; b++)
		CHECK(at(before, b) == at(after, b) || at(after, b) == members[1].adj);
	free(before);
	free(after);
}

/** Whatever order the members came in, and what they are called in one engine. */
static void
test_alike_everywhere(void)
{
	struct hr_ecmp_member here[] = {member(0, 1), member(1, 2), member(2, 1)}, there[3];
	struct hr_ecmp *a = group(here, 3), *b;

	for (unsigned k = 0; k < 3; k++) {
		there[k] = here[2 - k];
		there[k].adj += 70 - 10 * k;
	}
	b = group(there, 3);
	for (unsigned i = 0; i < HR_ECMP_BUCKETS; i++)
		for (unsigned k = 0; k < 3; k++)
			CHECK((at(a, i) == here[k].adj) == (at(b, i) == there[2 - k].adj));
	free(a);
	free(b);
}

/** As every release and every machine has it: nodes of two releases send a flow the same way. */
static void
test_alike_for_ever(void)
{
	const struct hr_ecmp_member members[] = {member(0, 1), member(1, 3), member(2, 100)};
	struct hr_ecmp *ecmp = group(members, 3);

	CHECK(hr_ecmp_identity("t/blue", 6) == 0x5d653edafd6a4c88);
	CHECK(hr_ecmp_identity(ecmp->bucket, sizeof(ecmp->bucket)) == 0xe077e7a87da09f20);
	free(ecmp);
}

static unsigned
count(const struct hr_ecmp *ecmp, uint32_t adj)
{
	unsigned n = 0;

	for (unsigned b = 0; b < HR_ECMP_BUCKETS; b++)
		n += at(ecmp, b) == adj;
	return n;
}

/** Shares follow weights, by the standard deviation that is promised. */
static void
test_shares(void)
{
	struct hr_ecmp_member members[HR_MAX_NEXT_HOPS];
	double squares = 0;
	unsigned shares = 0;

	for (unsigned first = 0; first < 200; first += 10) {
		for (unsigned n = 1; n <= HR_MAX_NEXT_HOPS; n++) {
			struct hr_ecmp *ecmp;
			uint32_t total = 0;

			for (unsigned k = 0; k < n; k++) {
				members[k] = member(first + k, weight_of(first + k));
				total += members[k].weight;
			}
			ecmp = group(members, n);
			for (unsigned k = 0; k < n; k++) {
				const double p = (double)members[k].weight / total;
				const double mean = p * HR_ECMP_BUCKETS;
				const double off = count(ecmp, members[k].adj) - mean;
				const double variance = mean * (1 - p);

				CHECK(off * off <= 25 * variance + 1);
				squares += n == 1 ? 0 : off * off / variance;
				shares += n > 1;
			}
			free(ecmp);
		}
	}
	CHECK(squares / shares < 1.2);
}

/** The greatest weights that there can be, beside the least. */
static void
test_extremes(void)
{
	struct hr_ecmp_member members[] = {member(0, HR_ECMP_WEIGHT_MAX), member(1, 1)};
	struct hr_ecmp *ecmp = group(members, 2);

	CHECK(count(ecmp, members[0].adj) >= HR_ECMP_BUCKETS - 1);
	free(ecmp);
	members[1].weight = HR_ECMP_WEIGHT_MAX;
	ecmp = group(members, 2);
	CHECK(count(ecmp, members[0].adj) > HR_ECMP_BUCKETS / 3);
	CHECK(count(ecmp, members[1].adj) > HR_ECMP_BUCKETS / 3);
	free(ecmp);
}

int
main(void)
{
	test_only_its_own_move();
	test_a_weight_moves_the_difference();
	test_alike_everywhere();
	test_alike_for_ever();
	test_shares();
	test_extremes();
	return 0;
}
