/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Ethernet frames.
 *
 * Writers of messages (arp.h, nd.h) take everything by value or from outside the frame they write,
 * so that an answer may overwrite its question once the caller has copied what it needs.
 */
#ifndef HR_FRAME_H
#define HR_FRAME_H

#include <rte_mbuf.h>

#include "../types.h"

#define HR_L2_LEN 14

/** Headers as they are on the wire, at any even address. */
#define HR_WIRE __attribute__((packed, aligned(2)))

/**
 * The gateway's MAC address on virtual devices, and in VXLAN: the same everywhere, so that an
 * endpoint that moves to another node finds its gateway where it was. Locally administered.
 */
static const struct rte_ether_addr hr_mac_gateway = {{0x02, 0x68, 0x72, 0, 0, 1}};
static const struct rte_ether_addr hr_mac_broadcast = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

/** Whether a MAC address can be a neighbour's: neither zero nor a group's. */
static inline bool
hr_mac_is_host(const struct rte_ether_addr *mac)
{
	return rte_is_valid_assigned_ether_addr(mac);
}

static inline void
hr_write_ether(void *frame, struct rte_ether_addr dst, struct rte_ether_addr src, uint16_t type)
{
	struct rte_ether_hdr *eth = frame;

	eth->dst_addr = dst;
	eth->src_addr = src;
	eth->ether_type = rte_cpu_to_be_16(type);
}

/** Make a packet of one segment `length` bytes long. @return false when it has no room */
static inline bool
hr_resize(struct rte_mbuf *m, uint16_t length)
{
	if (m->nb_segs != 1 || m->data_off + length > m->buf_len)
		return false;
	m->data_len = length;
	m->pkt_len = length;
	return true;
}

#endif
