/* SPDX-License-Identifier: Apache-2.0 */
#include "buffers.h"

#include <errno.h>
#include <stdio.h>

#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_memzone.h>

/** Of what is no buffer: an eighth, and in MiB at least. */
#define REST_SHARE 8u
#define REST_MIB 32u
/** What the pool's ring has for a buffer, bytes: a pointer, in a power of two of them. */
#define SLOT (2 * sizeof(void *))
/** AF_PACKET wants room for its frames, whatever the MTU. */
#define LEAST_ROOM 2048u

struct rte_mempool *hr_pool;
static struct {
	unsigned n, kept;
	uint32_t size;
	bool given; /**< How many was said, and does not follow from the memory. */
} buffers;

static uint32_t
size_of(uint32_t room)
{
	return rte_mempool_calc_obj_size(sizeof(struct rte_mbuf) + room, 0, NULL);
}

/**
 * Room for headroom and a frame. From one buffer to the next it is a number of cache lines that is
 * neither even nor a multiple of three: so they begin in all sets of a cache, and on all memory
 * channels, be those 2, 4, 6, 8 or 12. On Arm DPDK does not see to that by itself.
 */
static uint32_t
room_for(uint16_t mtu)
{
	const uint32_t frame = mtu + HR_UNDERLAY_OVERHEAD + RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;
	uint32_t room = RTE_ALIGN_CEIL(RTE_MAX(frame, LEAST_ROOM) + RTE_PKTMBUF_HEADROOM,
			RTE_CACHE_LINE_SIZE);
	uint32_t lines;

	for (;; room += RTE_CACHE_LINE_SIZE) {
		lines = size_of(room) / RTE_CACHE_LINE_SIZE;
		if (lines % 2 != 0 && lines % 3 != 0)
			return room;
	}
}

/** How many fit into so much memory. */
static unsigned
fitting(unsigned mib)
{
	const unsigned rest = RTE_MAX(mib / REST_SHARE, REST_MIB);

	return mib <= rest ? 0 : ((uint64_t)(mib - rest) << 20) / (buffers.size + SLOT);
}

/** Least memory into which n fit, MiB. */
static unsigned
memory_for(uint64_t n)
{
	const uint64_t mib = (n * (buffers.size + SLOT) + (1 << 20) - 1) >> 20;

	return RTE_MAX(mib + REST_MIB, (mib * REST_SHARE + REST_SHARE - 2) / (REST_SHARE - 1));
}

/**
 * Put the buffers side by side, across the borders of pages: devices see our addresses as they are, so
 * what is in one piece for us is for them. By itself DPDK lets none cross a border: with ordinary
 * pages each would have one of its own, and begin in the same sets of a cache as all others.
 */
static int
populate(void)
{
	const struct rte_memzone *zone = rte_memzone_reserve_aligned("packet-buffers",
			(size_t)buffers.n * buffers.size, SOCKET_ID_ANY, 0, RTE_CACHE_LINE_SIZE);
	int n;

	if (zone == NULL)
		return -rte_errno;
	n = rte_mempool_populate_iova(hr_pool, zone->addr, zone->iova, zone->len, NULL, NULL);
	if (n >= 0 && (unsigned)n < buffers.n)
		return -ENOMEM;
	return RTE_MIN(n, 0);
}

int
hr_buffers_create(unsigned n, unsigned memory_mib, uint16_t max_mtu)
{
	const uint32_t room = room_for(max_mtu);
	struct rte_pktmbuf_pool_private private = {.mbuf_data_room_size = room};
	int error;

	buffers.size = size_of(room);
	buffers.given = n != 0;
	buffers.n = n != 0 ? n : fitting(memory_mib);
	hr_pool = rte_mempool_create_empty("packets", buffers.n, sizeof(struct rte_mbuf) + room,
			HR_BUFFERS_CACHE, sizeof(private), SOCKET_ID_ANY,
			RTE_MEMPOOL_F_NO_IOVA_CONTIG);
	if (hr_pool == NULL)
		return -rte_errno;
	error = rte_mempool_set_ops_byname(hr_pool, rte_mbuf_best_mempool_ops(), NULL);
	if (error != 0)
		return error;
	rte_pktmbuf_pool_init(hr_pool, &private);
	error = populate();
	if (error == 0)
		rte_mempool_obj_iter(hr_pool, rte_pktmbuf_init, NULL);
	return error;
}

unsigned
hr_buffers_count(void)
{
	return buffers.n;
}

unsigned
hr_buffers_kept(void)
{
	return buffers.kept;
}

unsigned
hr_buffers_size(void)
{
	return buffers.size;
}

bool
hr_buffers_keep(unsigned n)
{
	if (n > buffers.n - buffers.kept)
		return false;
	buffers.kept += n;
	return true;
}

void
hr_buffers_release(unsigned n)
{
	buffers.kept -= n;
}

const char *
hr_buffers_remedy(unsigned n, char text[HR_BUFFERS_REMEDY])
{
	const unsigned wanted = buffers.kept + n, mib = memory_for(wanted);

	if (buffers.given)
		snprintf(text, HR_BUFFERS_REMEDY, "give the engine --mbufs %u and --memory %u",
				wanted, mib);
	else
		snprintf(text, HR_BUFFERS_REMEDY,
				"give the engine %u MiB (hugepages.amount of the Pipeline; --memory)",
				mib);
	return text;
}
