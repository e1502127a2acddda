/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Packet buffers: how many there are, of which size, and for whom they are kept. Control thread.
 *
 * Who may come to hold buffers says beforehand how many at most: the workers and what waits in the
 * engine when it starts, the queues of a device when it is opened. One for whom there are not so
 * many left is refused, and takes none from those that were there before.
 *
 * headrace_api/buffers.py reckons the same before there is an engine: what a pod is to ask for.
 */
#ifndef HR_BUFFERS_H
#define HR_BUFFERS_H

#include "types.h"

struct rte_mempool;

/** The pool that all packets come from. */
extern struct rte_mempool *hr_pool;

#define HR_BUFFERS_CACHE 256 /**< Buffers that a thread of ours takes from the pool at once. */
/** Most that it keeps to itself: DPDK's caches grow to one and a half times their size. */
#define HR_BUFFERS_CACHED (HR_BUFFERS_CACHE * 3 / 2)

#define HR_BUFFERS_REMEDY 96 /**< Room for the text. */

/**
 * Make the pool.
 *
 * @param n how many; 0: as many as there is room for
 * @param memory_mib DPDK's memory, of which an eighth, and 32 MiB at least, is for all else:
 * descriptors, rings, what drivers allocate
 * @param max_mtu largest L3 MTU of any port, bytes
 * @return 0, or -errno
 */
int hr_buffers_create(unsigned n, unsigned memory_mib, uint16_t max_mtu);

/** How many there are. */
unsigned hr_buffers_count(void);
/** How many are kept for somebody. */
unsigned hr_buffers_kept(void);
/** Bytes from one to the next. */
unsigned hr_buffers_size(void);

/** Keep n buffers. @return false, and keep none, when so many are not left */
bool hr_buffers_keep(unsigned n);
/** Give up n that were kept. */
void hr_buffers_release(unsigned n);

/** What to set so that n more could be kept. @return text */
const char *hr_buffers_remedy(unsigned n, char text[HR_BUFFERS_REMEDY]);

#endif
