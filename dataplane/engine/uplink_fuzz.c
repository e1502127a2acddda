/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Fuzzing of frames from the fabric: of what is encapsulated there, nothing goes back to it but what
 * the engine says of it by ICMP. Else packets could go round between nodes.
 */
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

#include "frames_fuzz.h"

const enum site_port fuzz_ports[] = {SITE_UP};
const unsigned fuzz_n_ports = RTE_DIM(fuzz_ports);

void
fuzz_sent(enum site_port port, const uint8_t *frame, unsigned length)
{
	const uint8_t *outer = frame + RTE_ETHER_HDR_LEN, *inner = outer + 40;

	if (port != SITE_UP || (outer[6] != IPPROTO_IPIP && outer[6] != IPPROTO_IPV6))
		return;
	CHECK(length > RTE_ETHER_HDR_LEN + 40 + 48 || outer[6] == IPPROTO_IPIP);
	if (outer[6] == IPPROTO_IPIP)
		CHECK(inner[9] == IPPROTO_ICMP &&
				(inner[20] == ICMP_DEST_UNREACH ||
						inner[20] == ICMP_TIME_EXCEEDED));
	else
		CHECK(inner[6] == IPPROTO_ICMPV6 && inner[40] <= ICMP6_PARAM_PROB);
}
