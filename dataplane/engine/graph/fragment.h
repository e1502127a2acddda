/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * IPv4 packets larger than the way out that may be fragmented (RFC 791 3.2, RFC 1812 4.2.2.7), one
 * by one, and before they are encapsulated (RFC 2473 7.2): whom they are for puts them together.
 */
#ifndef HR_FRAGMENT_H
#define HR_FRAGMENT_H

#include "../packet/load.h"
#include "../table/adj.h"
#include "../worker.h"

/** Flags and offset of an IPv4 header. */
static inline uint16_t
hr_fragment_field(const uint8_t *ip)
{
	return (uint16_t)(ip[6] << 8 | ip[7]);
}

/** Whether a packet is IPv4 and its sender does not forbid it. */
static inline bool
hr_may_fragment(const uint8_t *ip)
{
	return ip[0] >> 4 == 4 && (hr_fragment_field(ip) & RTE_IPV4_HDR_DF_FLAG) == 0;
}

/**
 * Send a packet that hr_may_fragment() in pieces, by an adjacency that leads out.
 * Its TTL is as it leaves. It drops whole when its header is ill-formed or no buffers are left.
 */
void hr_fragment(struct hr_worker *worker, struct rte_mbuf *m, const struct hr_adj *adj);

#endif
