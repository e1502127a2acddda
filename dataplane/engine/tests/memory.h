/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Memory that ends when a test says so: of the engine and, after memory_init(), of jansson. Included by
 * one file of a program that is linked with --wrap for each of these (meson.build).
 */
#ifndef HR_TESTS_MEMORY_H
#define HR_TESTS_MEMORY_H

#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <jansson.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__real_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset);

static unsigned memory_fails_at; /**< Which request from now on fails; 0: none. */
static bool memory_stays_away;   /**< And all after it. */
static unsigned memory_failed;   /**< Requests that have failed. */

static bool
memory_fails(void)
{
	if (memory_fails_at == 0 || --memory_fails_at > 0)
		return false;
	memory_fails_at = memory_stays_away;
	memory_failed++;
	return true;
}

/** From now on the n-th request fails; 0: none does. With `stays`, all after it too. */
static inline void
memory_fail(unsigned n, bool stays)
{
	memory_fails_at = n;
	memory_stays_away = stays;
	memory_failed = 0;
}

void *
__wrap_malloc(size_t size)
{
	return memory_fails() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return memory_fails() ? NULL : __real_calloc(n, size);
}

void *
__wrap_realloc(void *memory, size_t size)
{
	return memory_fails() ? NULL : __real_realloc(memory, size);
}

void *
__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return memory_fails() ? NULL : __real_aligned_alloc(alignment, size);
}

void *
__wrap_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
	return memory_fails() ? MAP_FAILED
			      : __real_mmap(address, size, protection, flags, fd, offset);
}

static inline void
memory_init(void)
{
	json_set_alloc_funcs(__wrap_malloc, free);
}

#endif
