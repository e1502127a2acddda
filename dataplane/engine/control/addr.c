/* SPDX-License-Identifier: Apache-2.0 */
#include "addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>

static uint8_t *
addr_bytes(struct hr_addr *addr)
{
	return addr->family == 4 ? (uint8_t *)&addr->ip4 : addr->ip6.b;
}

int
hr_addr_parse(const char *text, struct hr_addr *addr)
{
	bool is6 = strchr(text, ':') != NULL;

	/* Padding too, so that equal addresses have equal bytes. */
	memset(addr, 0, sizeof(*addr));
	addr->family = is6 ? 6 : 4;
	return inet_pton(is6 ? AF_INET6 : AF_INET, text, addr_bytes(addr)) == 1 ? 0 : -EINVAL;
}

static int
parse_length(const char *text, uint8_t max)
{
	unsigned len = 0;

	if (text[0] == '\0' || strlen(text) > 3 || (text[0] == '0' && text[1] != '\0'))
		return -EINVAL;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		len = len * 10 + (unsigned)(*text - '0');
	}
	return len <= max ? (int)len : -EINVAL;
}

int
hr_prefix_parse(const char *text, struct hr_prefix *prefix)
{
	const char *slash = strchr(text, '/');
	char head[HR_ADDR_TEXT];
	uint8_t *bytes, set = 0;
	int len, bits;

	memset(prefix, 0, sizeof(*prefix));
	if (slash == NULL || (size_t)(slash - text) >= sizeof(head))
		return -EINVAL;
	memcpy(head, text, (size_t)(slash - text));
	head[slash - text] = '\0';
	if (hr_addr_parse(head, &prefix->addr) != 0)
		return -EINVAL;
	bits = prefix->addr.family == 4 ? 32 : 128;
	len = parse_length(slash + 1, (uint8_t)bits);
	if (len < 0)
		return -EINVAL;
	prefix->len = (uint8_t)len;

	bytes = addr_bytes(&prefix->addr);
	for (int i = len / 8; i < bits / 8; i++) {
		uint8_t host = i == len / 8 ? 0xff >> (len % 8) : 0xff;

		set |= bytes[i] & host;
		bytes[i] &= (uint8_t)~host;
	}
	return set == 0 ? 0 : -ERANGE;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int
hr_mac_parse(const char *text, struct rte_ether_addr *mac)
{
	if (strlen(text) != HR_MAC_TEXT - 1)
		return -EINVAL;
	for (unsigned i = 0; i < RTE_ETHER_ADDR_LEN; i++, text += 3) {
		int high = hex_digit(text[0]), low = hex_digit(text[1]);

		if (high < 0 || low < 0 || text[2] != (i < RTE_ETHER_ADDR_LEN - 1 ? ':' : '\0'))
			return -EINVAL;
		mac->addr_bytes[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}

const char *
hr_addr_format(const struct hr_addr *addr, char buf[HR_ADDR_TEXT])
{
	if (addr->family == 4)
		return inet_ntop(AF_INET, &addr->ip4, buf, HR_ADDR_TEXT);
	return hr_ip6_format(&addr->ip6, buf);
}

const char *
hr_ip6_format(const struct hr_ip6 *ip6, char buf[HR_ADDR_TEXT])
{
	return inet_ntop(AF_INET6, ip6->b, buf, HR_ADDR_TEXT);
}

const char *
hr_prefix_format(const struct hr_prefix *prefix, char buf[HR_PREFIX_TEXT])
{
	size_t n;

	hr_addr_format(&prefix->addr, buf);
	n = strlen(buf);
	snprintf(buf + n, HR_PREFIX_TEXT - n, "/%u", prefix->len);
	return buf;
}

const char *
hr_mac_format(const struct rte_ether_addr *mac, char buf[HR_MAC_TEXT])
{
	const uint8_t *b = mac->addr_bytes;

	snprintf(buf, HR_MAC_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4],
			b[5]);
	return buf;
}

bool
hr_prefix_has6(const struct hr_prefix *prefix, const struct hr_ip6 *ip6)
{
	const unsigned whole = prefix->len / 8, rest = prefix->len % 8;

	if (memcmp(ip6->b, prefix->addr.ip6.b, whole) != 0)
		return false;
	return rest == 0 || ((ip6->b[whole] ^ prefix->addr.ip6.b[whole]) >> (8 - rest)) == 0;
}

bool
hr_addr_equal(const struct hr_addr *a, const struct hr_addr *b)
{
	if (a->family != b->family)
		return false;
	if (a->family == 4)
		return a->ip4 == b->ip4;
	return memcmp(a->ip6.b, b->ip6.b, sizeof(a->ip6.b)) == 0;
}

bool
hr_addr_is_host(const struct hr_addr *addr)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	static const uint8_t zero[15];

	if (addr->family == 4) {
		uint8_t first = *(const uint8_t *)&addr->ip4;

		return first != 0 && first != 127 && first < 224;
	}
	if (memcmp(addr->ip6.b, zero, sizeof(zero)) == 0 && addr->ip6.b[15] <= 1)
		return false;
	return addr->ip6.b[0] != 0xff && memcmp(addr->ip6.b, mapped, sizeof(mapped)) != 0;
}
