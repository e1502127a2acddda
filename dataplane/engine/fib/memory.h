/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Memory of the FIB: arrays, and pools of equal elements named by index. Control thread only.
 */
#ifndef HR_FIB_MEMORY_H
#define HR_FIB_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** A zeroed array, cache-line aligned; on huge pages when it is large. NULL: out of memory. */
void *hr_array_alloc(size_t bytes);
/** Free what hr_array_alloc() gave for the same size. NULL is allowed. */
void hr_array_free(void *array, size_t bytes);

/**
 * Elements of one size, shared by all tables. The address space is reserved once, so that an
 * element's address is base + index * size and never moves; memory is touched as it is used.
 */
struct hr_pool {
	char *base;
	uint32_t size;     /**< Bytes of an element. */
	uint32_t capacity; /**< Elements at most. */
	uint32_t used;     /**< Elements taken. */
	uint32_t fresh;    /**< Elements from here on were never taken. */
	uint32_t free;     /**< Head of the free list, as index + 1; 0 when it is empty. */
};

/** Reserve the address space of a pool. Elements are of at least 4 bytes. 0, or -ENOMEM. */
int hr_pool_init(struct hr_pool *pool, uint32_t size, uint32_t capacity);

/** Is there room for n more elements? */
static inline bool
hr_pool_has(const struct hr_pool *pool, uint32_t n)
{
	return pool->capacity - pool->used >= n;
}

/** An element's index; its content is undefined. The caller has made sure of the room. */
uint32_t hr_pool_alloc(struct hr_pool *pool);
/** Give an element back that no reader holds any more. The last one returns all memory. */
void hr_pool_free(struct hr_pool *pool, uint32_t index);

#endif
