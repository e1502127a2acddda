/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Keys of the FIB: addresses in network byte order. Both families use struct hr_ip6 on the
 * control thread; an IPv4 address is its first word and the rest is zero.
 */
#ifndef HR_FIB_KEY_H
#define HR_FIB_KEY_H

#include "../types.h"

/** The mask of a prefix length, 0..128. */
static inline struct hr_ip6
hr_key_mask(unsigned len)
{
	return (struct hr_ip6){
			.q = {
					rte_cpu_to_be_64(len == 0 ? 0
									: len >= 64
									? UINT64_MAX
									: UINT64_MAX << (64 - len)),
					rte_cpu_to_be_64(len <= 64 ? 0 : UINT64_MAX << (128 - len)),
			}};
}

/** The key with all bits after the first len cleared. */
static inline struct hr_ip6
hr_key_prefix(const struct hr_ip6 *key, unsigned len)
{
	struct hr_ip6 mask = hr_key_mask(len);

	return (struct hr_ip6){.q = {key->q[0] & mask.q[0], key->q[1] & mask.q[1]}};
}

/** Leading bits that two keys share, 0..128. */
static inline unsigned
hr_key_common(const struct hr_ip6 *a, const struct hr_ip6 *b)
{
	uint64_t high = rte_be_to_cpu_64(a->q[0] ^ b->q[0]);
	uint64_t low = rte_be_to_cpu_64(a->q[1] ^ b->q[1]);

	if (high != 0)
		return __builtin_clzll(high);
	return low != 0 ? 64 + __builtin_clzll(low) : 128;
}

#endif
