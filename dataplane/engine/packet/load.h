/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Words as they are in memory, at any address.
 */
#ifndef HR_LOAD_H
#define HR_LOAD_H

#include <stdint.h>
#include <string.h>

static inline uint64_t
hr_load64(const void *from)
{
	uint64_t word;

	memcpy(&word, from, sizeof(word));
	return word;
}

static inline uint32_t
hr_load32(const void *from)
{
	uint32_t word;

	memcpy(&word, from, sizeof(word));
	return word;
}

#endif
