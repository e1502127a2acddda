/* SPDX-License-Identifier: Apache-2.0 */
/** @file What ip6tnl puts in front of a packet, and what may not be skipped. */
#include "dest_options.h"

#include <stdio.h>
#include <string.h>

#include "../tests/check.h"

#define OUTER 40

/** Options in front of 20 more bytes. @return what hr_dest_options() makes of them */
static unsigned
options(uint8_t next, const char *bytes, unsigned n)
{
	uint8_t packet[OUTER + 64 + 20] = {[0] = 0x60, [6] = 60};

	packet[5] = n + 2 + 20;
	packet[OUTER] = next;
	packet[OUTER + 1] = (n + 2) / 8 - 1;
	memcpy(packet + OUTER + 2, bytes, n);
	return hr_dest_options(packet, OUTER + n + 2 + 20);
}

static void
test_the_limit_of_ip6tnl_is_skipped(void)
{
	CHECK(options(4, "\x04\x01\x04\x01\x01\x00", 6) == 8);
	CHECK(options(41, "\x04\x01\x00\x01\x01\x00", 6) == 8);
}

static void
test_what_may_be_skipped_is(void)
{
	CHECK(options(4, "\0\0\0\0\0\0", 6) == 8);
	CHECK(options(4, "\x01\x0c\0\0\0\0\0\0\0\0\0\0\0\0", 14) == 16);
	CHECK(options(4, "\x1e\x04wxyz", 6) == 8);
}

static void
test_what_is_to_be_discarded_is_not_skipped(void)
{
	CHECK(options(4, "\x5e\x04wxyz", 6) == 0);
	CHECK(options(4, "\x9e\x04wxyz", 6) == 0);
	CHECK(options(4, "\xde\x04wxyz", 6) == 0);
}

static void
test_malformed_options(void)
{
	CHECK(options(4, "\x01\x05\0\0\0\0", 6) == 0);
	CHECK(options(4, "\0\0\0\0\0\x01", 6) == 0);
	CHECK(options(4, "\x04\x02\x04\0\0\0", 6) == 0);
	CHECK(options(58, "\x04\x01\x04\x01\x01\x00", 6) == 0);
	CHECK(options(60, "\x04\x01\x04\x01\x01\x00", 6) == 0);
}

static void
test_options_that_are_not_whole(void)
{
	uint8_t packet[OUTER + 16] = {[0] = 0x60, [5] = 16, [6] = 60, [OUTER] = 4};

	CHECK(hr_dest_options(packet, OUTER + 8) == 8);
	CHECK(hr_dest_options(packet, OUTER + 7) == 0);
	CHECK(hr_dest_options(packet, OUTER) == 0);
	packet[OUTER + 1] = 1;
	CHECK(hr_dest_options(packet, OUTER + 16) == 16);
	CHECK(hr_dest_options(packet, OUTER + 15) == 0);
	packet[5] = 15;
	CHECK(hr_dest_options(packet, OUTER + 16) == 0);
	packet[5] = 16;
	packet[6] = 0;
	CHECK(hr_dest_options(packet, OUTER + 16) == 0);
}

int
main(void)
{
	test_the_limit_of_ip6tnl_is_skipped();
	test_what_may_be_skipped_is();
	test_what_is_to_be_discarded_is_not_skipped();
	test_malformed_options();
	test_options_that_are_not_whole();
	return 0;
}
