/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Addresses, prefixes and MAC addresses as text.
 *
 * Parsing is strict: the whole text, decimal numbers without leading zeros or signs, no zone.
 * Formatting gives the one canonical text (IPv6: RFC 5952; MAC: lower case).
 */
#ifndef HR_CONTROL_ADDR_H
#define HR_CONTROL_ADDR_H

#include "../types.h"

#define HR_ADDR_TEXT 46   /**< Room for any address, with the terminating zero. */
#define HR_PREFIX_TEXT 50 /**< Room for any prefix. */
#define HR_MAC_TEXT 18    /**< Room for a MAC address. */

/** Parse "10.0.0.1" or "2001:db8::1". 0, or -EINVAL with *addr unspecified. */
int hr_addr_parse(const char *text, struct hr_addr *addr);

/**
 * Parse "10.0.0.0/8" or "2001:db8::/32". The length must be there.
 *
 * @return 0; -EINVAL; -ERANGE when host bits are set, *prefix then has them cleared
 */
int hr_prefix_parse(const char *text, struct hr_prefix *prefix);

/** Parse six pairs of hexadecimal digits, either case, between colons. 0, or -EINVAL. */
int hr_mac_parse(const char *text, struct rte_ether_addr *mac);

/** @return buf */
const char *hr_addr_format(const struct hr_addr *addr, char buf[HR_ADDR_TEXT]);
/** @return buf */
const char *hr_ip6_format(const struct hr_ip6 *ip6, char buf[HR_ADDR_TEXT]);
/** @return buf */
const char *hr_prefix_format(const struct hr_prefix *prefix, char buf[HR_PREFIX_TEXT]);
/** @return buf */
const char *hr_mac_format(const struct rte_ether_addr *mac, char buf[HR_MAC_TEXT]);

/** Whether an IPv6 prefix contains the address. */
bool hr_prefix_has6(const struct hr_prefix *prefix, const struct hr_ip6 *ip6);

/** Same family and same address. */
bool hr_addr_equal(const struct hr_addr *a, const struct hr_addr *b);

/**
 * Can be one host's address: not unspecified, loopback, multicast, broadcast or reserved
 * (240.0.0.0/4), nor IPv4-mapped. Link-local addresses can.
 */
bool hr_addr_is_host(const struct hr_addr *addr);

#endif
