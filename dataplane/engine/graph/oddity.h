/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What is odd about a burst, found without a branch.
 */
#ifndef HR_ODDITY_H
#define HR_ODDITY_H

#include "../types.h"

/** 16 bytes side by side: the compilers' vector extension, SSE2 or NEON. */
typedef uint8_t hr_bytes16 __attribute__((vector_size(16)));

/** What is odd about the packets of a burst so far; all zero when nothing is. */
struct hr_oddity {
	hr_bytes16 bytes;
	uint32_t rest;
};

static inline bool
hr_is_odd(const struct hr_oddity *oddity)
{
	uint64_t words[2];

	memcpy(words, &oddity->bytes, sizeof(words));
	return (words[0] | words[1] | oddity->rest) != 0;
}

#endif
