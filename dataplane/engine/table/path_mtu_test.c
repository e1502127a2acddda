/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What is remembered of paths: how long, of how many, and what counts for nothing.
 */
#include "path_mtu.h"

#include "../tests/check.h"

static struct hr_ip6
address(uint16_t n)
{
	return (struct hr_ip6){.b = {0xfd, [14] = n >> 8, [15] = n & 0xff}};
}

static void
test_only_lower(void)
{
	const struct hr_ip6 a = address(1);
	struct hr_ip6 old;

	CHECK(hr_path_mtu(&a) == UINT16_MAX);
	CHECK(!hr_path_mtu_lower(&a, 1279, 0) && hr_path_mtu(&a) == UINT16_MAX);
	CHECK(hr_path_mtu_lower(&a, 1400, 0) && hr_path_mtu(&a) == 1400);
	CHECK(!hr_path_mtu_lower(&a, 1400, 5) && !hr_path_mtu_lower(&a, 1450, 5));
	CHECK(hr_path_mtu_lower(&a, 1280, 10) && hr_path_mtu(&a) == 1320);
	CHECK(!hr_path_mtu_expire(HR_PATH_MTU_MS + 9, &old));
	CHECK(hr_path_mtu_expire(HR_PATH_MTU_MS + 10, &old) && old.b[15] == 1);
	CHECK(hr_path_mtu(&a) == UINT16_MAX);
}

static void
test_bounded(void)
{
	const struct hr_ip6 more = address(HR_PATH_MTUS_MAX);
	struct hr_ip6 a = address(0);

	for (unsigned i = 0; i < HR_PATH_MTUS_MAX; i++) {
		const struct hr_ip6 each = address(i);

		CHECK(hr_path_mtu_lower(&each, 1400 + i % 100, i));
	}
	CHECK(!hr_path_mtu_lower(&more, 1400, 0));
	/* The last takes the place of the first, and is found there. */
	hr_path_mtu_forget(&a);
	a = address(HR_PATH_MTUS_MAX - 1);
	CHECK(hr_path_mtu(&a) == 1400 + (HR_PATH_MTUS_MAX - 1) % 100);
	CHECK(hr_path_mtu_lower(&more, 1400, 0) && hr_path_mtu(&more) == 1400);
	for (unsigned i = 0; i < HR_PATH_MTUS_MAX; i++)
		CHECK(hr_path_mtu_expire(2 * HR_PATH_MTU_MS, &a));
	CHECK(!hr_path_mtu_expire(2 * HR_PATH_MTU_MS, &a) && hr_path_mtu(&more) == UINT16_MAX);
}

int
main(void)
{
	test_only_lower();
	test_bounded();
	return 0;
}
