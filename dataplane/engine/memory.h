/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * On which NUMA node memory is.
 */
#ifndef HR_MEMORY_H
#define HR_MEMORY_H

#include <rte_malloc.h>
#include <rte_memory.h>

/**
 * The NUMA node itself when the engine has memory there, else SOCKET_ID_ANY: a pod gets no more pages
 * than it has asked for, and those are where its first worker is.
 */
static inline int
hr_memory_near(int node)
{
	struct rte_malloc_socket_stats stats;

	return rte_malloc_get_socket_stats(node, &stats) == 0 && stats.heap_totalsz_bytes > 0
			? node
			: SOCKET_ID_ANY;
}

#endif
