/* SPDX-License-Identifier: Apache-2.0 */
/** @file VXLAN headers: as RFC 7348 draws them, there and back, and malformed. */
#include "vxlan.h"

#include <stdio.h>

#include <netinet/in.h>

#include "../tests/check.h"

#define IP6_LEN 40
#define INNER 60
#define PAYLOAD (HR_VXLAN_LEN + INNER)

static const struct hr_vxlan vxlan = {.vni = 0x123456, .mac = {{2, 0, 0, 0, 0, 9}}};

static void
make(uint8_t packet[IP6_LEN + PAYLOAD], uint16_t type, uint32_t hash)
{
	memset(packet, 0, IP6_LEN + PAYLOAD);
	packet[0] = 0x60;
	packet[5] = PAYLOAD;
	packet[6] = IPPROTO_UDP;
	hr_vxlan_write(packet + IP6_LEN, &vxlan, INNER, type, hash);
}

static void
test_as_on_the_wire(void)
{
	static const uint8_t expected[HR_VXLAN_LEN] = {0xc0, 0, 0x12, 0xb5, 0, PAYLOAD, 0, 0, 8, 0,
			0, 0, 0x12, 0x34, 0x56, 0, 2, 0, 0, 0, 0, 9, 2, 0x68, 0x72, 0, 0, 1, 0x86,
			0xdd};
	uint8_t packet[IP6_LEN + PAYLOAD];

	make(packet, RTE_ETHER_TYPE_IPV6, 0x3ffff);
	CHECK(memcmp(packet + IP6_LEN, expected, sizeof(expected)) == 0);
	make(packet, RTE_ETHER_TYPE_IPV6, UINT32_MAX);
	CHECK(packet[IP6_LEN] == 0xff && packet[IP6_LEN + 1] == 0xff);
}

static void
test_there_and_back(void)
{
	uint8_t packet[IP6_LEN + PAYLOAD];
	uint32_t vni = 0;

	make(packet, RTE_ETHER_TYPE_IPV4, 1);
	CHECK(hr_is_vxlan(packet, sizeof(packet)));
	CHECK(hr_vxlan_read(packet, sizeof(packet), &vni) == IPPROTO_IPIP && vni == vxlan.vni);
	make(packet, RTE_ETHER_TYPE_IPV6, 1);
	CHECK(hr_vxlan_read(packet, sizeof(packet), &vni) == IPPROTO_IPV6);
}

static void
test_malformed(void)
{
	static const struct {
		uint8_t at, value;
	} wrong[] = {
			{5, PAYLOAD - 1},           /* UDP longer than IPv6 */
			{IP6_LEN + 5, PAYLOAD - 1}, /* and shorter */
			{IP6_LEN + 8, 0},           /* no VNI */
			{IP6_LEN + 28, 0x81},       /* 802.1Q, or ARP */
			{IP6_LEN + 29, 0x06},
	};
	uint8_t packet[IP6_LEN + PAYLOAD];
	uint32_t vni;

	for (size_t i = 0; i < RTE_DIM(wrong); i++) {
		make(packet, RTE_ETHER_TYPE_IPV4, 1);
		packet[wrong[i].at] = wrong[i].value;
		CHECK(hr_is_vxlan(packet, sizeof(packet)));
		CHECK(hr_vxlan_read(packet, sizeof(packet), &vni) == 0);
	}
	make(packet, RTE_ETHER_TYPE_IPV4, 1);
	CHECK(hr_vxlan_read(packet, IP6_LEN + HR_VXLAN_LEN - 1, &vni) == 0);
	CHECK(!hr_is_vxlan(packet, IP6_LEN + 7));
	packet[IP6_LEN + 3]++;
	CHECK(!hr_is_vxlan(packet, sizeof(packet)));
	make(packet, RTE_ETHER_TYPE_IPV4, 1);
	packet[6] = IPPROTO_TCP;
	CHECK(!hr_is_vxlan(packet, sizeof(packet)));
}

int
main(void)
{
	test_as_on_the_wire();
	test_there_and_back();
	test_malformed();
	return 0;
}
