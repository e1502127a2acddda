/* SPDX-License-Identifier: Apache-2.0 */
#include "flow_hash.h"

#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

#include "ip.h"

#define ICMP_LEN 8  /**< Of an error, before what it quotes. */
#define PORTS_LEN 4 /**< All that is needed of the transport header. RFC 792 quotes 8. */

/** Addresses, or ports, the other way round. */
static uint64_t
turn64(uint64_t addresses)
{
	return addresses << 32 | addresses >> 32;
}

static uint32_t
turn32(uint32_t ports)
{
	return ports << 16 | ports >> 16;
}

static unsigned
header4(const uint8_t *ip)
{
	return (ip[0] & 0xf) * 4;
}

static bool
is_error4(uint8_t type)
{
	return type == ICMP_DEST_UNREACH || type == ICMP_SOURCE_QUENCH ||
			type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
}

/** What an ICMP error quotes, an IPv4 header and ports; NULL: no error, or not so much of it. */
static const uint8_t *
quoted4(const uint8_t *ip)
{
	const unsigned at = header4(ip) + ICMP_LEN;
	const uint8_t *quoted = ip + at;

	if ((ip[6] & 0x3f) != 0 || ip[7] != 0) /* A fragment: all of them go one way. */
		return NULL;
	if (hr_length4(ip) < at + sizeof(struct rte_ipv4_hdr) || !is_error4(ip[header4(ip)]))
		return NULL;
	if (quoted[0] >> 4 != 4 || header4(quoted) < sizeof(struct rte_ipv4_hdr) ||
			hr_length4(ip) < at + header4(quoted) + PORTS_LEN)
		return NULL;
	return quoted;
}

uint32_t
hr_flow_hash_icmp4(const uint8_t *ip)
{
	const uint8_t *quoted = quoted4(ip);
	uint64_t ports;

	if (quoted == NULL)
		return hr_flow_hash_of4(hr_load64(ip + 12), ip[9]);
	ports = quoted[9];
	/* Its first fragment has the ports, too, and answers to what was fragmented need not be. */
	if (hr_has_ports(quoted[9]) && (quoted[6] & 0x1f) == 0 && quoted[7] == 0)
		ports |= (uint64_t)turn32(hr_load32(quoted + header4(quoted))) << 8;
	return hr_flow_hash_of4(turn64(hr_load64(quoted + 12)), ports);
}

/** As quoted4(): an IPv6 header and ports. */
static const uint8_t *
quoted6(const uint8_t *ip)
{
	const uint8_t *icmp = ip + sizeof(struct rte_ipv6_hdr), *quoted = icmp + ICMP_LEN;

	if (hr_length6(ip) < 2 * sizeof(struct rte_ipv6_hdr) + ICMP_LEN + PORTS_LEN)
		return NULL;
	if (icmp[0] < ICMP6_DST_UNREACH || icmp[0] > ICMP6_PARAM_PROB || quoted[0] >> 4 != 6)
		return NULL;
	return quoted;
}

uint32_t
hr_flow_hash_icmp6(const uint8_t *ip)
{
	const uint8_t *quoted = quoted6(ip);
	uint64_t ports;

	if (quoted == NULL)
		return hr_flow_hash_of6(ip + 8, ip + 24, ip[6]);
	ports = quoted[6];
	if (hr_has_ports(quoted[6]))
		ports |= (uint64_t)turn32(hr_load32(quoted + sizeof(struct rte_ipv6_hdr))) << 8;
	return hr_flow_hash_of6(quoted + 24, quoted + 8, ports);
}
