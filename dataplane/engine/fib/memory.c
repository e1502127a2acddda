/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <rte_common.h>

#define HUGE_PAGE ((size_t)2 << 20)

/** Pools go over to huge pages here: a started one is then at most a quarter on top. */
#define POOL_SMALL (4 * HUGE_PAGE)

/** Reserve zeroed address space that starts on a huge page. */
static void *
reserve(size_t bytes)
{
	size_t all = bytes + HUGE_PAGE;
	char *map = mmap(NULL, all, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		return NULL;

	char *start = RTE_PTR_ALIGN_CEIL(map, HUGE_PAGE);

	if (start > map)
		munmap(map, start - map);
	munmap(start + bytes, map + all - (start + bytes));
	return start;
}

static bool
is_large(size_t bytes)
{
	return bytes >= HUGE_PAGE;
}

void *
hr_array_alloc(size_t bytes)
{
	void *array;

	if (is_large(bytes)) {
		array = reserve(RTE_ALIGN_CEIL(bytes, HUGE_PAGE));
		/* Only advice: a kernel without it serves small pages. */
		if (array != NULL)
			madvise(array, bytes, MADV_HUGEPAGE);
		return array;
	}
	bytes = RTE_ALIGN_CEIL(bytes, RTE_CACHE_LINE_SIZE);
	array = aligned_alloc(RTE_CACHE_LINE_SIZE, bytes);
	if (array != NULL)
		memset(array, 0, bytes);
	return array;
}

void
hr_array_free(void *array, size_t bytes)
{
	if (array != NULL && is_large(bytes))
		munmap(array, RTE_ALIGN_CEIL(bytes, HUGE_PAGE));
	else
		free(array);
}

static size_t
pool_bytes(const struct hr_pool *pool)
{
	return RTE_ALIGN_CEIL((size_t)pool->size * pool->capacity, HUGE_PAGE);
}

int
hr_pool_init(struct hr_pool *pool, uint32_t size, uint32_t capacity)
{
	*pool = (struct hr_pool){.size = size, .capacity = capacity};
	pool->base = reserve(pool_bytes(pool));
	if (pool->base == NULL)
		return -ENOMEM;
	madvise(pool->base, POOL_SMALL, MADV_NOHUGEPAGE);
	madvise(pool->base + POOL_SMALL, pool_bytes(pool) - POOL_SMALL, MADV_HUGEPAGE);
	return 0;
}

uint32_t
hr_pool_alloc(struct hr_pool *pool)
{
	uint32_t index;

	pool->used++;
	if (pool->free == 0)
		return pool->fresh++;
	index = pool->free - 1;
	memcpy(&pool->free, pool->base + (size_t)index * pool->size, sizeof(pool->free));
	return index;
}

void
hr_pool_free(struct hr_pool *pool, uint32_t index)
{
	memcpy(pool->base + (size_t)index * pool->size, &pool->free, sizeof(pool->free));
	pool->free = index + 1;
	if (--pool->used == 0) {
		madvise(pool->base, (size_t)pool->fresh * pool->size, MADV_DONTNEED);
		pool->fresh = pool->free = 0;
	}
}
