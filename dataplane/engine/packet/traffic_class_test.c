/* SPDX-License-Identifier: Apache-2.0 */
/** @file Traffic class: where it is in a header, and the table of RFC 6040 4.2. */
#include <string.h>

#include <rte_ip.h>

#include "../tests/check.h"
#include "traffic_class.h"

#define NOT_ECT 0
#define ECT1 1
#define ECT0 2
#define CE 3
#define DROP 4

static void
make4(uint8_t *ip, uint8_t class, uint8_t seed)
{
	const uint8_t header[] = {0x45, class, 1, seed, seed, 7, 0x40, 0, 64, 6, 0, 0, 10, 0, seed,
			1, 10, 0, 0, 2};
	const uint16_t checksum = ~rte_raw_cksum(header, sizeof(header));

	memcpy(ip, header, sizeof(header));
	memcpy(ip + 10, &checksum, sizeof(checksum));
}

static void
make6(uint8_t *ip, uint8_t class, uint8_t seed)
{
	memset(ip, seed, 40);
	ip[0] = 0x60 | class >> 4;
	ip[1] = (uint8_t)(class << 4) | (seed & 0xf);
}

static void
test_class(void)
{
	uint8_t ip[40];

	for (unsigned class = 0; class < 256; class ++) {
		make4(ip, class, 3);
		CHECK(hr_traffic_class(ip) == class && hr_traffic_class4(ip) == class);
		make6(ip, class, 0xff);
		CHECK(hr_traffic_class(ip) == class && hr_traffic_class6(ip) == class);
	}
}

/** All but the two bits stays, and the checksum remains right. */
static void
test_decapsulate(void)
{
	static const struct {
		uint8_t inner, outer, result;
	} cases[] = {
			{NOT_ECT, NOT_ECT, NOT_ECT},
			{NOT_ECT, ECT0, NOT_ECT},
			{NOT_ECT, ECT1, NOT_ECT},
			{NOT_ECT, CE, DROP},
			{ECT0, NOT_ECT, ECT0},
			{ECT0, ECT0, ECT0},
			{ECT0, ECT1, ECT1},
			{ECT0, CE, CE},
			{ECT1, NOT_ECT, ECT1},
			{ECT1, ECT0, ECT1},
			{ECT1, ECT1, ECT1},
			{ECT1, CE, CE},
			{CE, NOT_ECT, CE},
			{CE, ECT0, CE},
			{CE, ECT1, CE},
			{CE, CE, CE},
	};
	uint8_t outer[40], inner[40], expected[40];

	for (unsigned i = 0; i < RTE_DIM(cases); i++) {
		const uint8_t result = cases[i].result == DROP ? cases[i].inner : cases[i].result;

		for (unsigned seed = 0; seed < 256; seed++) {
			const uint8_t dscp = (uint8_t)(seed << 2);

			make6(outer, (uint8_t)~dscp << 2 | cases[i].outer, seed);
			make4(inner, dscp | cases[i].inner, seed);
			make4(expected, dscp | result, seed);
			CHECK(hr_ecn_decapsulate(outer, inner) == (cases[i].result != DROP));
			CHECK(memcmp(inner, expected, 20) == 0);
			CHECK(rte_raw_cksum(inner, 20) == 0xffff);
			make6(inner, dscp | cases[i].inner, seed);
			make6(expected, dscp | result, seed);
			CHECK(hr_ecn_decapsulate(outer, inner) == (cases[i].result != DROP));
			CHECK(memcmp(inner, expected, 40) == 0);
		}
		/* Where nothing says that it is marked, there is nothing to do. */
		CHECK(hr_ecn_is_marked(outer) || cases[i].result == cases[i].inner);
	}
}

int
main(void)
{
	test_class();
	test_decapsulate();
	return 0;
}
