/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Destination Options (RFC 8200 4.6) between an outer IPv6 header and the packet in it. Linux' ip6tnl
 * sends its tunnel encapsulation limit in one (RFC 2473 4.1.1), which means nothing at the exit.
 */
#ifndef HR_DEST_OPTIONS_H
#define HR_DEST_OPTIONS_H

#include <stdint.h>

/**
 * How long the options are that may be skipped to find an IPv4 or IPv6 packet.
 *
 * @param ip an IPv6 header and what follows it
 * @param n bytes there are, 40 or more
 * @return bytes, a multiple of 8; 0: no such header, one that is not whole, no packet after it, or
 *	an option that who does not know it has to discard (RFC 8200 4.2)
 */
unsigned hr_dest_options(const uint8_t *ip, uint32_t n);

#endif
