/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Fuzzing of the packet path, from receive to transmit, with the control thread's part of it: what
 * interface_fuzz.c and uplink_fuzz.c have in common.
 *
 * The input is frames: each a byte that says how it comes (enum how), its length in two bytes, little
 * endian, and so many bytes of it as there are. Whatever they are, no buffer is lost or freed twice,
 * all that came in is sent, counted as dropped or was listened to, and nothing that is sent depends on
 * what was in a buffer before: each input is run with buffers full of zeros and of ones.
 */
#ifndef HR_FRAMES_FUZZ_H
#define HR_FRAMES_FUZZ_H

#include <rte_cycles.h>

#include "packet/icmp.h"
#include "table/neigh_event.h"
#include "table/neigh_timer.h"
#include "test_site.h"
#include "walk.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum how {
	HOW_PORT = 1,            /**< On which of the ports. */
	HOW_AS_IS = 1 << 1,      /**< With the checksums that it has; else with right ones. */
	HOW_PIECES = 7 << 2,     /**< In how many buffers, less one. */
	HOW_BURST = 1 << 5,      /**< In one burst with the next on its port. */
	HOW_UNATTENDED = 1 << 6, /**< The control thread is busy elsewhere. */
	HOW_LATER = 1 << 7,      /**< Half a second passes before the next. */
};

#define BUFFERS 511
#define PIECE 1500 /**< Most bytes of a frame in one buffer. */
/** Until neighbours that were learned are forgotten, and packets that wait for one dropped. */
#define FORGOTTEN_SECONDS 45

/** On which frames arrive. By the fuzzer. */
extern const enum site_port fuzz_ports[];
extern const unsigned fuzz_n_ports;
/** What was sent, but in settle(). By the fuzzer; frames are in one buffer. */
void fuzz_sent(enum site_port port, const uint8_t *frame, unsigned length);

static struct hr_worker *worker;
static uint64_t now_ms;
/** What the ports' drivers have; one at a time has any. */
static struct rte_mbuf *arriving[HR_BURST];
static enum site_port arriving_on;
static uint16_t n_arriving;
static bool settling;

/** What an input came to. */
static struct result {
	uint64_t in, listened, sent, digest, drops[HR_DROP_COUNT];
} result;

static uint16_t
receive(void *port, struct rte_mbuf **pkts, uint16_t n)
{
	const uint16_t found = n_arriving;

	if ((uintptr_t)port != arriving_on || found == 0)
		return 0;
	CHECK(found <= n);
	memcpy(pkts, arriving, found * sizeof(*pkts));
	n_arriving = 0;
	return found;
}

static void
digest(const void *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		result.digest = (result.digest ^ ((const uint8_t *)bytes)[i]) * 1099511628211;
}

/** No packet is sent that is longer than its frame: receivers would read on. @param at of its header */
static void
check_whole(const uint8_t *frame, unsigned length, unsigned at)
{
	const uint8_t *ip = frame + at;
	unsigned packet;

	CHECK(length >= at + sizeof(struct rte_ipv4_hdr));
	if (ip[0] >> 4 == 4) {
		packet = ip[2] << 8 | ip[3];
	} else {
		CHECK(ip[0] >> 4 == 6 && length >= at + sizeof(struct rte_ipv6_hdr));
		packet = sizeof(struct rte_ipv6_hdr) + (ip[4] << 8 | ip[5]);
	}
	CHECK(at + packet <= length);
}

static uint16_t
send_frames(void *port, struct rte_mbuf **pkts, uint16_t n)
{
	const uint8_t number = (uint8_t)(uintptr_t)port;

	for (uint16_t i = 0; i < n; i++) {
		const struct rte_mbuf *m = pkts[i];
		const uint8_t *frame = rte_pktmbuf_mtod(m, const uint8_t *);

		CHECK(m->nb_segs == 1 && m->next == NULL && m->pkt_len == m->data_len);
		CHECK(m->data_off + m->data_len <= m->buf_len && m->data_len >= RTE_ETHER_HDR_LEN);
		CHECK(rte_mbuf_refcnt_read(m) == 1);
		/* What goes to groups it says by the clock. */
		if (settling || (frame[0] & 1) != 0)
			continue;
		result.sent++;
		if (frame[12] != 0x08 || frame[13] != 0x06)
			check_whole(frame, m->data_len, RTE_ETHER_HDR_LEN);
		if (number == SITE_UP && (frame[20] == IPPROTO_IPIP || frame[20] == IPPROTO_IPV6))
			check_whole(frame, m->data_len,
					RTE_ETHER_HDR_LEN + sizeof(struct rte_ipv6_hdr));
		digest(&number, sizeof(number));
		digest(&m->data_len, sizeof(m->data_len));
		digest(frame, m->data_len);
		fuzz_sent((enum site_port)number, frame, m->data_len);
	}
	rte_pktmbuf_free_bulk(pkts, n);
	return n;
}

/** Walk until nothing is left to do. */
static void
walk(void)
{
	do {
		worker->received = 0;
		worker->now += rte_get_tsc_hz() / 1000;
		hr_walk(worker->graph);
	} while (worker->received > 0 || !rte_ring_empty(worker->inject));
	CHECK(n_arriving == 0);
}

static void
attend(unsigned ms)
{
	now_ms += ms;
	worker->now += ms * (rte_get_tsc_hz() / 1000);
	hr_events_poll(now_ms);
	hr_neigh_tick(now_ms);
	hr_rcu_reclaim();
	walk();
}

/** Have all be as before the input. */
static void
settle(void)
{
	settling = true;
	attend(0);
	for (unsigned i = 0; i < FORGOTTEN_SECONDS; i++)
		attend(1000);
	settling = false;
}

/** Whether a frame may be listened to, and neither sent on nor dropped: ARP, neighbour discovery. */
static bool
may_be_heard(const uint8_t *frame, unsigned length)
{
	return length > 20 && ((frame[12] == 0x08 && frame[13] == 0x06) || frame[20] == 58);
}

static struct rte_mbuf *
in_pieces(const uint8_t *frame, unsigned length, unsigned pieces)
{
	struct rte_mbuf *first = NULL;

	pieces = RTE_MAX(pieces, (length + PIECE - 1) / PIECE);
	for (unsigned at = 0; pieces > 0; pieces--) {
		const uint16_t n = (uint16_t)((length - at) / pieces);
		struct rte_mbuf *m = rte_pktmbuf_alloc(hr_pool);

		CHECK(m != NULL);
		memcpy(rte_pktmbuf_append(m, n), frame + at, n);
		at += n;
		if (first == NULL)
			first = m;
		else
			CHECK(rte_pktmbuf_chain(first, m) == 0);
	}
	return first;
}

/** Make checksums right, so that frames get further: of the IP header at an offset, or of its ICMPv6. */
static void
mend(uint8_t *frame, size_t length, size_t at)
{
	struct rte_ipv4_hdr *ip4 = (void *)(frame + at);
	struct rte_ipv6_hdr *ip6 = (void *)(frame + at);
	struct hr_icmp *icmp = (void *)(ip6 + 1);

	if (length < at + 48)
		return;
	if (frame[at] >> 4 == 4 && rte_ipv4_hdr_len(ip4) <= length - at) {
		ip4->hdr_checksum = 0;
		ip4->hdr_checksum = (uint16_t)~rte_raw_cksum(ip4, rte_ipv4_hdr_len(ip4));
	} else if (frame[at] >> 4 == 6 && ip6->proto == IPPROTO_ICMPV6 &&
			rte_be_to_cpu_16(ip6->payload_len) >= sizeof(*icmp) &&
			rte_be_to_cpu_16(ip6->payload_len) <= length - at - sizeof(*ip6)) {
		icmp->checksum = 0;
		icmp->checksum = hr_icmp6_checksum(ip6, icmp, rte_be_to_cpu_16(ip6->payload_len));
	}
}

/** A frame arrives. */
static void
arrive(const uint8_t *bytes, unsigned length, unsigned how)
{
	const enum site_port port = fuzz_ports[(how & HOW_PORT) % fuzz_n_ports];
	static uint8_t frame[UINT16_MAX];
	struct rte_mbuf *m;

	memcpy(frame, bytes, length);
	if (!(how & HOW_AS_IS)) {
		mend(frame, length, RTE_ETHER_HDR_LEN);
		mend(frame, length, RTE_ETHER_HDR_LEN + sizeof(struct rte_ipv6_hdr));
	}
	if (port != arriving_on || n_arriving == HR_BURST)
		walk();
	m = in_pieces(frame, length, 1 + (how & HOW_PIECES) / 4);
	m->port = site_id(port);
	arriving_on = port;
	arriving[n_arriving++] = m;
	result.in++;
	result.listened += may_be_heard(frame, length);
	if (how & HOW_BURST)
		return;
	walk();
	if (!(how & HOW_UNATTENDED))
		attend(how & HOW_LATER ? 500 : 0);
}

static void
fill(struct rte_mempool *pool, void *arg, void *object, unsigned index)
{
	struct rte_mbuf *m = object;

	RTE_SET_USED(pool);
	RTE_SET_USED(index);
	memset(m->buf_addr, *(const int *)arg, m->buf_len);
}

/** Drops of all reasons so far. */
static void
count_drops(uint64_t drops[HR_DROP_COUNT])
{
	memset(drops, 0, sizeof(*drops) * HR_DROP_COUNT);
	for (unsigned port = 0; port < HR_MAX_PORTS; port++)
		for (unsigned i = 0; i < HR_DROP_COUNT; i++)
			drops[i] += worker->ports[port].drops[i] + hr_control_drops[port][i];
}

static struct result
run(const uint8_t *data, size_t size, int filling)
{
	uint64_t before[HR_DROP_COUNT], dropped = 0;

	result = (struct result){0};
	rte_mempool_obj_iter(hr_pool, fill, &filling);
	count_drops(before);
	for (size_t at = 0; at + 3 <= size;) {
		const unsigned how = data[at];
		size_t length = data[at + 1] | data[at + 2] << 8;

		at += 3;
		length = RTE_MIN(length, size - at);
		arrive(data + at, (unsigned)length, how);
		at += length;
		/* A driver has only so many buffers. */
		if (rte_mempool_avail_count(hr_pool) < BUFFERS / 4)
			break;
	}
	walk();
	settle();
	count_drops(result.drops);
	for (unsigned i = 0; i < HR_DROP_COUNT; i++) {
		result.drops[i] -= before[i];
		dropped += result.drops[i];
	}
	CHECK(rte_mempool_avail_count(hr_pool) == BUFFERS);
	CHECK(result.sent + dropped + result.listened >= result.in);
	return result;
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	RTE_SET_USED(argc);
	RTE_SET_USED(argv);
	site_start("fuzz", BUFFERS, NULL);
	worker = hr_workers[0];
	for (unsigned port = 0; port < SITE_PORTS; port++)
		site_stand_in(port, receive, send_frames);
	settle();
	CHECK(atexit(site_end) == 0);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct result zeros = run(data, size, 0), ones = run(data, size, 0xff);

	CHECK(memcmp(&zeros, &ones, sizeof(zeros)) == 0);
	return 0;
}

#endif
