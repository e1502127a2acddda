/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Hash of a packet's flow: what flow labels and ECMP follow.
 *
 * A flow is addresses, protocol and, in unfragmented TCP, UDP and SCTP, ports. An ICMP error belongs
 * to the flow that it reports of: it has the hash of what flows the way that it goes itself.
 */
#ifndef HR_FLOW_HASH_H
#define HR_FLOW_HASH_H

#include <stdbool.h>

#include <netinet/in.h>

#include "load.h"

/** Finalizer of MurmurHash3 (public domain, A. Appleby), one round: enough to spread flows. */
static inline uint32_t
hr_mix(uint64_t word)
{
	word *= 0xff51afd7ed558ccdULL;
	word ^= word >> 32;
	word *= 0xc4ceb9fe1a85ec53ULL;
	return word >> 32;
}

/** @param ports protocol, and above it source and destination port as they are in the packet */
static inline uint32_t
hr_flow_hash_of4(uint64_t addresses, uint64_t ports)
{
	return hr_mix(addresses ^ ports * 0x9e3779b97f4a7c15ULL);
}

static inline uint32_t
hr_flow_hash_of6(const uint8_t *src, const uint8_t *dst, uint64_t ports)
{
	uint64_t hash = hr_load64(src) ^ (hr_load64(src + 8) * 0x9e3779b97f4a7c15ULL);

	hash ^= (hr_load64(dst) ^ (hash >> 29)) * 0xbf58476d1ce4e5b9ULL;
	hash ^= hr_load64(dst + 8) * 0x94d049bb133111ebULL;
	return hr_mix(hash ^ ports * 0x9e3779b97f4a7c15ULL);
}

static inline bool
hr_has_ports(uint8_t protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

/** Of ICMP and ICMPv6: errors, and all the rest. */
uint32_t hr_flow_hash_icmp4(const uint8_t *ip);
uint32_t hr_flow_hash_icmp6(const uint8_t *ip);

static inline uint32_t
hr_flow_hash4(const uint8_t *ip)
{
	uint64_t ports = ip[9];

	if (hr_has_ports(ip[9]) && (ip[6] & 0x3f) == 0 && ip[7] == 0)
		ports |= (uint64_t)hr_load32(ip + 20) << 8;
	else if (ip[9] == IPPROTO_ICMP)
		return hr_flow_hash_icmp4(ip);
	return hr_flow_hash_of4(hr_load64(ip + 12), ports);
}

static inline uint32_t
hr_flow_hash6(const uint8_t *ip)
{
	uint64_t ports = ip[6];

	if (hr_has_ports(ip[6]))
		ports |= (uint64_t)hr_load32(ip + 40) << 8;
	else if (ip[6] == IPPROTO_ICMPV6)
		return hr_flow_hash_icmp6(ip);
	return hr_flow_hash_of6(ip + 8, ip + 24, ports);
}

static inline uint32_t
hr_flow_hash(const uint8_t *ip)
{
	return (ip[0] >> 4) == 4 ? hr_flow_hash4(ip) : hr_flow_hash6(ip);
}

#endif
