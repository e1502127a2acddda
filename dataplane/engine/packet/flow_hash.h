/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Hash of a packet's flow: what flow labels and ECMP follow.
 */
#ifndef HR_FLOW_HASH_H
#define HR_FLOW_HASH_H

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

/** Hash of a flow's addresses, protocol and, in unfragmented TCP, UDP and SCTP, ports. */
static inline uint32_t
hr_flow_hash4(const uint8_t *ip)
{
	uint64_t ports = ip[9];

	if ((ip[9] == IPPROTO_TCP || ip[9] == IPPROTO_UDP || ip[9] == IPPROTO_SCTP) &&
			(ip[6] & 0x3f) == 0 && ip[7] == 0)
		ports |= (uint64_t)hr_load32(ip + 20) << 8;
	return hr_mix(hr_load64(ip + 12) ^ ports * 0x9e3779b97f4a7c15ULL);
}

static inline uint32_t
hr_flow_hash6(const uint8_t *ip)
{
	uint64_t ports = ip[6];
	uint64_t hash = hr_load64(ip + 8) ^ (hr_load64(ip + 16) * 0x9e3779b97f4a7c15ULL);

	if (ip[6] == IPPROTO_TCP || ip[6] == IPPROTO_UDP || ip[6] == IPPROTO_SCTP)
		ports |= (uint64_t)hr_load32(ip + 40) << 8;
	hash ^= (hr_load64(ip + 24) ^ (hash >> 29)) * 0xbf58476d1ce4e5b9ULL;
	hash ^= hr_load64(ip + 32) * 0x94d049bb133111ebULL;
	return hr_mix(hash ^ ports * 0x9e3779b97f4a7c15ULL);
}

static inline uint32_t
hr_flow_hash(const uint8_t *ip)
{
	return (ip[0] >> 4) == 4 ? hr_flow_hash4(ip) : hr_flow_hash6(ip);
}

#endif
