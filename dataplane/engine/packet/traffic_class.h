/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Traffic class (RFC 2474) and congestion marks (ECN, RFC 3168) through a tunnel.
 */
#ifndef HR_TRAFFIC_CLASS_H
#define HR_TRAFFIC_CLASS_H

#include <stdbool.h>
#include <stdint.h>

#define HR_DSCP_SHIFT 2 /**< Above the two bits of ECN. */
#define HR_ECN_MASK 3

/** The traffic class of an IPv4 packet, its DSCP and ECN. */
static inline uint8_t
hr_traffic_class4(const uint8_t *ip)
{
	return ip[1];
}

static inline uint8_t
hr_traffic_class6(const uint8_t *ip)
{
	return (uint8_t)(ip[0] << 4 | ip[1] >> 4);
}

static inline uint8_t
hr_traffic_class(const uint8_t *ip)
{
	return (ip[0] >> 4) == 4 ? hr_traffic_class4(ip) : hr_traffic_class6(ip);
}

/**
 * Whether an outer IPv6 header is marked with what may have to be known inside: ECT(1) or CE.
 * Neither not-ECT nor ECT(0) ever is.
 */
static inline bool
hr_ecn_is_marked(const uint8_t *outer)
{
	return (outer[1] & 0x10) != 0;
}

/**
 * Have an inner IPv4 or IPv6 header say what it and the outer IPv6 header say together (RFC 6040
 * 4.2).
 * @return false: congestion was marked in place of a drop, which the inner flow does not know: drop
 */
bool hr_ecn_decapsulate(const uint8_t *outer, uint8_t *inner);

#endif
