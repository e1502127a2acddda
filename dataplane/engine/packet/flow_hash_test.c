/* SPDX-License-Identifier: Apache-2.0 */
/** @file Flow hashes: what has the same one as what. */
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

#include "../tests/check.h"
#include "flow_hash.h"
#include "ip.h"

#define LENGTH 200

static const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP, IPPROTO_GRE};

/** From a client to a server, or back; their addresses are in the last bytes. */
static void
make4(uint8_t *ip, uint8_t protocol, uint8_t from, uint8_t to)
{
	const uint8_t header[] = {0x45, 0, 0, LENGTH, 0, 1, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0,
			from, 10, 9, 9, to, 1, from, 2, to};

	memset(ip, 0, LENGTH);
	memcpy(ip, header, sizeof(header));
}

static void
make6(uint8_t *ip, uint8_t protocol, uint8_t from, uint8_t to)
{
	const uint8_t ports[] = {1, from, 2, to};

	memset(ip, 0, LENGTH);
	ip[0] = 0x60;
	ip[5] = LENGTH - 40;
	ip[6] = protocol;
	ip[8] = ip[24] = 0xfd;
	ip[23] = from;
	ip[39] = to;
	memcpy(ip + 40, ports, sizeof(ports));
}

/** Addresses are those of make4(), whichever way. */
static void
turn4(uint8_t *ip)
{
	uint8_t half[4];

	memcpy(half, ip + 12, 4);
	memcpy(ip + 12, ip + 16, 4);
	memcpy(ip + 16, half, 4);
	memcpy(half, ip + 20, 2);
	memcpy(ip + 20, ip + 22, 2);
	memcpy(ip + 22, half, 2);
}

/** An error from a router to `to`, about a packet. */
static void
make_error4(uint8_t *ip, uint8_t type, const uint8_t *about, uint16_t quoted)
{
	make4(ip, IPPROTO_ICMP, 77, 0);
	memcpy(ip + 16, about + 12, 4);
	ip[3] = 28 + quoted;
	ip[20] = type;
	ip[21] = 0;
	memcpy(ip + 28, about, quoted);
}

static void
make_error6(uint8_t *ip, uint8_t type, const uint8_t *about, uint16_t quoted)
{
	make6(ip, IPPROTO_ICMPV6, 77, 0);
	memcpy(ip + 24, about + 8, 16);
	ip[5] = 8 + quoted;
	ip[40] = type;
	memcpy(ip + 48, about, quoted);
}

/** An error about what the server sends is for whoever serves what the client sends. */
static void
test_errors_follow(void)
{
	static const uint8_t types4[] = {ICMP_DEST_UNREACH, ICMP_SOURCE_QUENCH, ICMP_TIME_EXCEEDED,
			ICMP_PARAMETERPROB};
	uint8_t flow[LENGTH], back[LENGTH], error[LENGTH];

	for (unsigned p = 0; p < sizeof(protocols); p++) {
		for (unsigned t = 0; t < sizeof(types4); t++) {
			make4(flow, protocols[p], 5, 9);
			memcpy(back, flow, sizeof(back));
			turn4(back);
			make_error4(error, types4[t], back, 28);
			CHECK(hr_flow_hash(error) == hr_flow_hash(flow));
			make_error4(error, types4[t], back, LENGTH - 28);
			CHECK(hr_flow_hash(error) == hr_flow_hash(flow));
			/* Whoever sends it. */
			error[12] ^= 3;
			CHECK(hr_flow_hash(error) == hr_flow_hash(flow));
		}
		for (uint8_t type = ICMP6_DST_UNREACH; type <= ICMP6_PARAM_PROB; type++) {
			make6(flow, protocols[p], 5, 9);
			make6(back, protocols[p], 9, 5);
			memcpy(back + 40, (const uint8_t[]){2, 9, 1, 5}, 4);
			make_error6(error, type, back, 48);
			CHECK(hr_flow_hash(error) == hr_flow_hash(flow));
			error[9] ^= 3;
			CHECK(hr_flow_hash(error) == hr_flow_hash(flow));
		}
	}
}

/** The options of either header. */
static void
test_options(void)
{
	uint8_t flow[LENGTH], back[LENGTH], error[LENGTH], moved[LENGTH];

	make4(flow, IPPROTO_TCP, 5, 9);
	memcpy(back, flow, sizeof(back));
	turn4(back);
	memmove(back + 24, back + 20, 8);
	memset(back + 20, 1, 4);
	back[0] = 0x46;
	make_error4(error, ICMP_DEST_UNREACH, back, 32);
	CHECK(hr_flow_hash(error) == hr_flow_hash(flow));
	memcpy(moved, error, 20);
	memset(moved + 20, 1, 4);
	memcpy(moved + 24, error + 20, LENGTH - 24);
	moved[0] = 0x46;
	moved[3] += 4;
	CHECK(hr_flow_hash(moved) == hr_flow_hash(flow));
}

/** Of a fragment the quoted ports count where they are. */
static void
test_errors_about_fragments(void)
{
	uint8_t flow[LENGTH], back[LENGTH], error[LENGTH];

	make4(flow, IPPROTO_UDP, 5, 9);
	memcpy(back, flow, sizeof(back));
	turn4(back);
	back[6] = 0x20;
	make_error4(error, ICMP_TIME_EXCEEDED, back, 28);
	CHECK(hr_flow_hash(error) == hr_flow_hash(flow));
	back[7] = 185;
	make_error4(error, ICMP_TIME_EXCEEDED, back, 28);
	flow[6] = 0x20; /* By addresses alone. */
	CHECK(hr_flow_hash(error) == hr_flow_hash(flow));
}

/** What quotes nothing, or too little, is of a flow of its own: by its addresses. */
static void
test_no_error(void)
{
	uint8_t back[LENGTH], a[LENGTH], b[LENGTH];

	make4(back, IPPROTO_TCP, 9, 5);
	make_error4(a, ICMP_ECHO, back, 28);
	make_error4(b, ICMP_ECHO, back, 28);
	b[50] ^= 1;
	CHECK(hr_flow_hash(a) == hr_flow_hash(b));
	for (uint16_t quoted = 0; quoted < 24; quoted++) {
		make_error4(b, ICMP_DEST_UNREACH, back, quoted);
		CHECK(hr_flow_hash(a) == hr_flow_hash(b));
	}
	make_error4(b, ICMP_DEST_UNREACH, back, 28);
	b[6] = 0x20; /* A fragment of an error. */
	CHECK(hr_flow_hash(a) == hr_flow_hash(b));
	make_error4(b, ICMP_DEST_UNREACH, back, 28);
	b[28] = 0x65;
	CHECK(hr_flow_hash(a) == hr_flow_hash(b));
	b[28] = 0x44;
	CHECK(hr_flow_hash(a) == hr_flow_hash(b));

	make6(back, IPPROTO_TCP, 9, 5);
	make_error6(a, ICMP6_ECHO_REQUEST, back, 48);
	for (uint16_t quoted = 0; quoted < 44; quoted++) {
		make_error6(b, ICMP6_DST_UNREACH, back, quoted);
		CHECK(hr_flow_hash(a) == hr_flow_hash(b));
	}
	make_error6(b, ICMP6_DST_UNREACH, back, 48);
	b[48] = 0x40;
	CHECK(hr_flow_hash(a) == hr_flow_hash(b));
}

/** All fragments of a packet go one way. */
static void
test_fragments(void)
{
	uint8_t first[LENGTH], last[LENGTH];

	for (unsigned p = 0; p < sizeof(protocols); p++) {
		make4(first, protocols[p], 5, 9);
		first[6] = 0x20;
		make4(last, protocols[p], 5, 9);
		last[7] = 185;
		memset(last + 20, 0xaa, 4);
		CHECK(hr_flow_hash(first) == hr_flow_hash(last));
	}
}

int
main(void)
{
	test_errors_follow();
	test_options();
	test_errors_about_fragments();
	test_no_error();
	test_fragments();
	return 0;
}
