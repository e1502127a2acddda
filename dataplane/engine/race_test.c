/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * A worker walks under traffic while the control thread commits, learns and tells: with
 * ThreadSanitizer (make test) nothing that both touch is touched out of order; without it no buffer is
 * lost. Every so many commits the engine is emptied, and all that it had taken is there again; given
 * its objects anew, all at once, it is as it was.
 *
 * HEADRACE_TEST_CHURN_SECONDS in the environment says for how long; without, it is twice.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include <rte_cycles.h>
#include <rte_mempool.h>

#include "control/list.h"
#include "fib/fib_private.h"
#include "packet/arp.h"
#include "table/neigh_event.h"
#include "table/neigh_timer.h"
#include "test_site.h"
#include "walk.h"

#define BUFFERS 2047
#define BURST 16
#define COMMITS 100 /**< From one time that the engine is emptied to the next. */
/** What an empty engine may have more than at first, bytes: of libraries, once. */
#define SLACK 65536
#define SLACK_COMMIT 32 /**< And with each commit: some are lost where devices are opened anew. */

/* A pool whose hand-over of buffers ThreadSanitizer sees: DPDK's own is in a library. */

struct locked_pool {
	pthread_mutex_t lock;
	unsigned n;
	void *objects[BUFFERS];
};

static int
locked_alloc(struct rte_mempool *pool)
{
	struct locked_pool *locked = calloc(1, sizeof(*locked));

	CHECK(locked != NULL && pool->size <= BUFFERS);
	pthread_mutex_init(&locked->lock, NULL);
	pool->pool_data = locked;
	return 0;
}

static void
locked_free(struct rte_mempool *pool)
{
	free(pool->pool_data);
}

static int
locked_enqueue(struct rte_mempool *pool, void *const *objects, unsigned n)
{
	struct locked_pool *locked = pool->pool_data;

	pthread_mutex_lock(&locked->lock);
	CHECK(locked->n + n <= BUFFERS);
	memcpy(&locked->objects[locked->n], objects, n * sizeof(*objects));
	locked->n += n;
	pthread_mutex_unlock(&locked->lock);
	return 0;
}

static int
locked_dequeue(struct rte_mempool *pool, void **objects, unsigned n)
{
	struct locked_pool *locked = pool->pool_data;
	int rc = -ENOBUFS;

	pthread_mutex_lock(&locked->lock);
	if (locked->n >= n) {
		locked->n -= n;
		memcpy(objects, &locked->objects[locked->n], n * sizeof(*objects));
		rc = 0;
	}
	pthread_mutex_unlock(&locked->lock);
	return rc;
}

static unsigned
locked_count(const struct rte_mempool *pool)
{
	struct locked_pool *locked = pool->pool_data;
	unsigned n;

	pthread_mutex_lock(&locked->lock);
	n = locked->n;
	pthread_mutex_unlock(&locked->lock);
	return n;
}

static struct rte_mempool_ops locked_ops = {
		.name = "locked",
		.alloc = locked_alloc,
		.free = locked_free,
		.enqueue = locked_enqueue,
		.dequeue = locked_dequeue,
		.get_count = locked_count,
};

/* The worker */

static atomic_bool stopping;
static atomic_uint walks, packets_sent;
static unsigned taken_in;        /**< Of the worker alone, as its traffic is. */
static uint16_t ids[SITE_PORTS]; /**< Of ports that stay. */

static const struct rte_ether_addr gateway_mac = {{2, 0x68, 0x72, 0, 0, 1}};
static const struct rte_ether_addr uplink_mac = {{2, 0x68, 0x72, 0, 0, 2}};
static const struct rte_ether_addr remote_mac = {{2, 0, 0, 0, 2, 9}};
static const struct hr_ip6 remote = {.b = {0xfd, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0x64, [15] = 9}};
static const struct hr_ip6 underlay_a = {.b = {0xfd, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0x64, [15] = 0xa}};

static void
write_ip4(uint8_t *ip, uint32_t from, uint32_t to, uint8_t protocol)
{
	struct rte_ipv4_hdr header = {
			.version_ihl = RTE_IPV4_VHL_DEF,
			.total_length = RTE_BE16(60),
			.time_to_live = taken_in % 50 == 0 ? 1 : 64,
			.next_proto_id = protocol,
			.src_addr = rte_cpu_to_be_32(from),
			.dst_addr = rte_cpu_to_be_32(to),
	};

	header.hdr_checksum = rte_ipv4_cksum(&header);
	memcpy(ip, &header, sizeof(header));
	memset(ip + sizeof(header), 0, 40);
	ip[sizeof(header)] = 8; /* An echo request, if it is of ICMP. */
}

/** What an endpoint or the fabric sends: to everything that the site has routes for, and its gateway. */
static struct rte_mbuf *
packet(enum site_port port)
{
	static const uint32_t to[] = {RTE_IPV4(10, 0, 0, 1), RTE_IPV4(10, 0, 0, 6),
			RTE_IPV4(10, 1, 0, 7), RTE_IPV4(10, 2, 0, 1), RTE_IPV4(10, 3, 0, 1),
			RTE_IPV4(10, 5, 0, 1), RTE_IPV4(192, 168, 0, 1)};
	const uint32_t own = RTE_IPV4(10, 0, 0, port == SITE_B ? 6 : 5);
	struct rte_ether_addr mac = {{2, 0, 0, 0, 0, 0xa + port}};
	struct rte_mbuf *m = rte_pktmbuf_alloc(hr_pool);
	struct rte_ipv6_hdr outer = {
			.vtc_flow = RTE_BE32(6u << 28),
			.payload_len = RTE_BE16(60),
			.proto = IPPROTO_IPIP,
			.hop_limits = 64,
	};
	uint8_t *frame;

	if (m == NULL)
		return NULL;
	m->port = ids[port];
	taken_in++;
	if (port == SITE_UP) {
		frame = (uint8_t *)rte_pktmbuf_append(m, HR_L2_LEN + sizeof(outer) + 60);
		hr_write_ether(frame, uplink_mac, remote_mac, RTE_ETHER_TYPE_IPV6);
		memcpy(&outer.src_addr, &remote, 16);
		memcpy(&outer.dst_addr, &underlay_a, 16);
		memcpy(frame + HR_L2_LEN, &outer, sizeof(outer));
		write_ip4(frame + HR_L2_LEN + sizeof(outer), RTE_IPV4(10, 1, 0, 7), own,
				IPPROTO_UDP);
		return m;
	}
	/* Another machine is behind b at times. */
	if (port == SITE_B)
		mac.addr_bytes[4] = taken_in / 1024 % 2;
	frame = (uint8_t *)rte_pktmbuf_append(m, HR_L2_LEN + 60);
	if (port == SITE_B && taken_in % 8 == 0) {
		hr_write_arp(frame, RTE_ARP_OP_REQUEST, hr_mac_broadcast, mac,
				rte_cpu_to_be_32(own), gateway_mac,
				RTE_BE32(RTE_IPV4(10, 0, 0, 1)));
		return m;
	}
	hr_write_ether(frame, gateway_mac, mac, RTE_ETHER_TYPE_IPV4);
	write_ip4(frame + HR_L2_LEN, own, to[taken_in / BURST % RTE_DIM(to)], IPPROTO_ICMP);
	return m;
}

static uint16_t
receive(void *port, struct rte_mbuf **pkts, uint16_t n)
{
	static unsigned turn;
	uint16_t found = 0;

	if (turn++ % 2 == 0)
		return 0;
	for (n = RTE_MIN(n, BURST); found < n; found++) {
		pkts[found] = packet((enum site_port)(uintptr_t)port);
		if (pkts[found] == NULL)
			break;
	}
	return found;
}

static uint16_t
send_away(void *port, struct rte_mbuf **pkts, uint16_t n)
{
	RTE_SET_USED(port);
	rte_pktmbuf_free_bulk(pkts, n);
	atomic_fetch_add_explicit(&packets_sent, n, memory_order_relaxed);
	return n;
}

static void *
work(void *arg)
{
	struct hr_worker *worker = arg;

	rte_rcu_qsbr_thread_online(hr_qsbr, worker->index);
	while (!atomic_load_explicit(&stopping, memory_order_relaxed)) {
		worker->received = 0;
		worker->now = rte_rdtsc();
		hr_walk(worker->graph);
		rte_rcu_qsbr_quiescent(hr_qsbr, worker->index);
		atomic_fetch_add_explicit(&walks, 1, memory_order_relaxed);
	}
	rte_rcu_qsbr_thread_offline(hr_qsbr, worker->index);
	return NULL;
}

/* The control thread */

/** The same on every machine. */
static unsigned
rnd(unsigned below)
{
	static uint64_t state = 1;

	state = state * 6364136223846793005 + 1442695040888963407;
	return (state >> 33) % below;
}

/** One object as it may be. */
static void
change(void)
{
	switch (rnd(8)) {
	case 0:
		site_put("interface", "t/a",
				rnd(2) ? SITE_INTERFACE("a", "t/blue", "5", "6400:0:a", "1460",
							 SITE_MAC("02:00:00:00:00:0a"))
				       : SITE_INTERFACE("a", "t/blue", "5", "6400:0:a", "1300",
							 ""));
		break;
	case 1:
		site_put("interface", "t/b",
				rnd(3) ? SITE_INTERFACE("b", "t/blue", "6", "6400:0:b", "1280", "")
				       : NULL);
		break;
	case 2:
		site_put("routes", "blue", rnd(4) ? SITE_BLUE : NULL);
		break;
	case 3:
		site_put("routes", "blue",
				SITE_ROUTES("t/blue", "6400", "b", "a", SITE_REMOTE, ""));
		break;
	case 4:
		site_put("uplink", "up",
				rnd(4) == 0              ? NULL
						: rnd(2) ? SITE_UPLINK("1500")
							 : SITE_UPLINK("1400"));
		break;
	case 5:
		site_put("settings", "engine",
				rnd(2) ? SITE_SETTINGS
				       : "{'idle':'poll','burst':32,'icmpPerSecond':10}");
		break;
	case 6:
		site_put("interface", "t/c", NULL);
		site_put("port", "c", NULL);
		break;
	default:
		site_put("port", "c",
				"{'devargs':'net_null2','rxQueues':1,'mtu':1500,"
				"'mac':'02:68:72:00:00:01'}");
		site_put("interface", "t/c",
				SITE_INTERFACE("c", "t/green", "5", "c800:0:c", "1460", ""));
	}
}

/** What the control loop does, and what telemetry asks. */
static void
tick(uint64_t now_ms)
{
	struct hr_port_counters sum;

	hr_events_poll(now_ms);
	hr_neigh_tick(now_ms);
	hr_ports_tick(now_ms);
	hr_rcu_reclaim();
	for (uint16_t id = 0; id < SITE_PORTS; id++)
		hr_port_id_counters(id, &sum);
}

static uint64_t now_ms = 1000;
static unsigned commits, accepted;

/** Commit under traffic. */
static void
churn(void)
{
	pthread_t thread;

	for (unsigned port = 0; port < SITE_PORTS; port++)
		if (port != SITE_C) {
			ids[port] = site_id(port);
			site_stand_in(port, receive, send_away);
		}
	atomic_store(&stopping, false);
	CHECK(pthread_create(&thread, NULL, work, hr_workers[0]) == 0);
	for (unsigned i = 0; i < COMMITS; i++) {
		const unsigned before = atomic_load(&walks);

		/* Those that do not fit each other are refused. */
		for (unsigned n = 1 + rnd(3); n > 0; n--)
			change();
		accepted += site_commit();
		commits++;
		tick(now_ms += rnd(3) == 0 ? 1000 : 10);
		/* Each state sees traffic. */
		while (atomic_load(&walks) - before < 2 * SITE_PORTS)
			tick(now_ms);
	}
	atomic_store(&stopping, true);
	CHECK(pthread_join(thread, NULL) == 0);
}

/** No worker walks: have all done that was put off, and nothing be under way. */
static void
settle(void)
{
	void *frame;

	for (unsigned i = 0; i < 4; i++) {
		tick(now_ms += 1000);
		hr_rcu_barrier();
		while (rte_ring_sc_dequeue(hr_workers[0]->inject, &frame) == 0)
			rte_pktmbuf_free(frame);
	}
}

/** Items in no order, each with how often it is there. */
static json_t *
bag(const json_t *items)
{
	json_t *counts = json_object(), *item;
	size_t i;

	json_array_foreach(items, i, item) {
		char *text = json_dumps(item, JSON_SORT_KEYS);

		json_object_set_new(counts, text,
				json_integer(1 +
						json_integer_value(json_object_get(counts, text))));
		free(text);
	}
	return counts;
}

static json_t *
listed(const char *name)
{
	struct hr_errors errors = {0};
	size_t next = 0, i;
	json_t *items = hr_list(name, NULL, 0, HR_LIST_LIMIT_MAX, &next, &errors), *item, *counts;

	CHECK(items != NULL && next == 0);
	json_array_foreach(items, i, item) {
		const json_t *hops = json_object_get(item, "nextHops");

		/* How much a table has room for follows from what was there before. */
		json_object_del(item, "bytes");
		if (hops != NULL)
			json_object_set_new(item, "nextHops", bag(hops));
	}
	counts = bag(items);
	json_decref(items);
	return counts;
}

static json_t *
picture(void)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:I}", "digests", hr_store_digests(), "network",
			listed("network"), "routes", listed("routes"), "route", listed("route"),
			"adjacencies", (json_int_t)hr_adj_count());
}

/** Empty the engine, and have it start anew with the objects that it had. */
static void
start_anew(void)
{
	static char objects[65536];
	static size_t first;
	json_t *was, *is;
	size_t n, bytes;

	settle();
	was = picture();
	hr_txn_clear();
	settle();
	CHECK(hr_adj_count() == HR_ADJ_LOCAL + 1);
	CHECK(hr_blocks.used == 0 && hr_guards4.used == 0 && hr_guards6.used == 0);
	CHECK(rte_mempool_avail_count(hr_pool) == BUFFERS);

	/* Of the test nothing is to be there either. */
	n = json_dumpb(site_objects, objects, sizeof(objects), 0);
	CHECK(n <= sizeof(objects));
	json_decref(site_objects);
	site_objects = NULL;
	bytes = mallinfo2().uordblks;
	first = first != 0 ? first : bytes;
	CHECK(bytes <= first + SLACK + (size_t)commits * SLACK_COMMIT);
	site_changes = json_loadb(objects, n, 0, NULL);
	CHECK(site_changes != NULL && site_commit());
	settle();
	is = picture();
	CHECK(json_equal(was, is));
	json_decref(was);
	json_decref(is);
}

int
main(void)
{
	const char *seconds = getenv("HEADRACE_TEST_CHURN_SECONDS");
	const time_t end = time(NULL) + (seconds != NULL ? atoi(seconds) : 0);
	unsigned times = 0;

	CHECK(rte_mempool_register_ops(&locked_ops) >= 0);
	site_start("race", BUFFERS, "locked");
	do {
		churn();
		start_anew();
	} while (++times < 2 || time(NULL) < end);
	printf("%u commits, %u of them accepted, %u frames sent\n", commits, accepted,
			atomic_load(&packets_sent));
	CHECK(accepted > 0 && accepted < commits && atomic_load(&packets_sent) > commits);
	rte_mempool_free(hr_pool);
	site_end();
	return 0;
}
