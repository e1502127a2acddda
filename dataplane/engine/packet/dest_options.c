/* SPDX-License-Identifier: Apache-2.0 */
#include "dest_options.h"

#include <stdbool.h>

#include <netinet/in.h>

#include <rte_ip.h>

#define PAD1 0
#define TUNNEL_ENCAPSULATION_LIMIT 4
#define DISCARD_BITS 0xc0

static bool
may_skip(const uint8_t *option, const uint8_t *end)
{
	while (option < end) {
		if (*option == PAD1) {
			option++;
			continue;
		}
		if (end - option < 2 || end - option < 2 + option[1])
			return false;
		if ((*option & DISCARD_BITS) != 0)
			return false;
		if (*option == TUNNEL_ENCAPSULATION_LIMIT && option[1] != 1)
			return false;
		option += 2 + option[1];
	}
	return true;
}

unsigned
hr_dest_options(const uint8_t *ip, uint32_t n)
{
	const uint8_t *header = ip + sizeof(struct rte_ipv6_hdr);
	const uint32_t payload = ip[4] << 8 | ip[5];
	unsigned length;

	if (ip[0] >> 4 != 6 || ip[6] != IPPROTO_DSTOPTS || n < sizeof(struct rte_ipv6_hdr) + 8)
		return 0;
	length = (header[1] + 1) * 8;
	if (n < sizeof(struct rte_ipv6_hdr) + length || payload < length ||
			(header[0] != IPPROTO_IPIP && header[0] != IPPROTO_IPV6))
		return 0;
	return may_skip(header + 2, header + length) ? length : 0;
}
