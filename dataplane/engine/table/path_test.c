/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What commits of uplinks do to adjacencies that packets leave by: nothing where their path stays as
 * it is, no wait where they can be changed in place, and else of few at a time. And what links and
 * next hops do that come and go, by a clock of the test's.
 *
 * Kinds and devices are the engine's own. The one worker is the test's.
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_mbuf.h>

#include "../control/server.h"
#include "../control/store.h"
#include "../control/txn.h"
#include "../kinds/network.h"
#include "../port/port.h"
#include "../rcu.h"
#include "../tests/check.h"
#include "../tests/main.h"
#include "../worker.h"
#include "adj.h"
#include "event.h"
#include "neigh.h"
#include "neigh_adj.h"
#include "neigh_state.h"
#include "neigh_table.h"
#include "neigh_timer.h"
#include "path.h"
#include "uplink.h"
#include "uplink_state.h"
#include "vrf.h"

#define PATHS 300
/** The most that may wait together. */
#define AT_ONCE 64
/** A commit that waits for a worker that does not walk takes longer. */
#define PATIENCE_S 30

/* Objects of a commit: ' stands for ". */
#define PUT(kind, key, hash, spec)                                                                 \
	"{'kind':'" kind "','key':'" key "','hash':'" hash "','spec':{" spec "}}"
#define DELETE(kind, key) "{'kind':'" kind "','key':'" key "','delete':true}"
#define PORT(key, devargs)                                                                         \
	PUT("port", key, devargs, "'devargs':'" devargs ",no-rx=1','rxQueues':1,'mtu':1500")
#define UPLINK(key, hash, spec) PUT("uplink", key, hash, "'port':'" key "'," spec)
#define NEIGHBOR(address, last) "{'address':'" address "','mac':'02:00:00:00:00:" last "'}"
#define SETTINGS(hash, spec)                                                                       \
	PUT("settings", "engine", hash, "'idle':'poll','icmpPerSecond':100," spec)

/** What all paths lead by. */
#define BY(mtu, address, gateway, neighbors)                                                       \
	"'mtu':" mtu ",'addresses':[" address "],'onLink':['fd00:1::/64'],'gateway':'" gateway     \
	"','neighbors':[" neighbors "]"
#define NODE "'fd00:1::1'"
#define GATEWAY "fd00:1::fe"
#define GATEWAYS NEIGHBOR("fd00:1::fe", "fe") "," NEIGHBOR("fd00:1::ff", "ff")
#define ELSEWHERE(mtu, prefix) "'mtu':" mtu ",'addresses':[" NODE "],'onLink':['" prefix "']"
#define USUAL BY("1500", NODE, GATEWAY, GATEWAYS)

/** Whether the worker walks once before each commit: what the one before replaced is free. */
static bool walks_between;

static void
put_all(const char *const *objects)
{
	static char text[65536];
	struct hr_errors errors = {0};
	json_t *array;
	size_t n = 0;

	for (size_t i = 0; objects[i] != NULL; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%c%s", i == 0 ? '[' : ',',
				objects[i]);
	CHECK(n + 1 < sizeof(text));
	text[n] = ']';
	text[n + 1] = '\0';
	for (char *c = text; *c != '\0'; c++)
		if (*c == '\'')
			*c = '"';
	array = json_loads(text, 0, NULL);
	CHECK(array != NULL);
	if (walks_between)
		rte_rcu_qsbr_quiescent(hr_qsbr, 0);
	if (hr_txn_commit(array, hr_store_generation() + 1, &errors) != 0) {
		json_dumpf(errors.list, stderr, 0);
		CHECK(!"it is refused");
	}
	json_decref(array);
}
#define put(...) put_all((const char *const[]){__VA_ARGS__, NULL})

static struct hr_ip6
ip6(const char *address)
{
	struct hr_ip6 parsed;

	CHECK(inet_pton(AF_INET6, address, parsed.b) == 1);
	return parsed;
}

/** The adjacency of path number i. */
static const struct hr_adj *
adj_of(unsigned i)
{
	char address[INET6_ADDRSTRLEN];
	struct hr_ip6 underlay;
	uint32_t adj;

	snprintf(address, sizeof(address), "fd00:2::%x", i + 1);
	underlay = ip6(address);
	adj = hr_path_underlay(&underlay, hr_network_vrf("t/n"));
	hr_path_put(adj); /* The route has it still. */
	return &hr_adjs[adj];
}

/** All packets leave by the uplink, from this address and to the gateway with this MAC address. */
static void
expect_ways(const char *source, uint8_t gateway, uint16_t mtu)
{
	const struct hr_ip6 from = ip6(source);

	for (unsigned i = 0; i < PATHS; i++) {
		const struct hr_adj *adj = adj_of(i);

		CHECK(adj->op == HR_OP_ENCAP && adj->ready_op == HR_OP_ENCAP);
		CHECK(adj->port == hr_port_id(hr_port_get("up")));
		CHECK(adj->rewrite[5] == gateway && adj->mtu == mtu - HR_UNDERLAY_OVERHEAD);
		CHECK(memcmp(adj->rewrite + 22, from.b, sizeof(from.b)) == 0);
		CHECK(adj->rewrite[52] == (i + 1) >> 8 && adj->rewrite[53] == ((i + 1) & 0xff));
	}
}

static void
expect_op(enum hr_op op)
{
	for (unsigned i = 0; i < PATHS; i++)
		CHECK(adj_of(i)->op == op);
}

/** Whether a store into any adjacency ends the test. */
static void
freeze(bool frozen)
{
	CHECK(mprotect(hr_adjs, HR_ADJ_MAX * sizeof(*hr_adjs),
			      frozen ? PROT_READ : PROT_READ | PROT_WRITE) == 0);
}

static void
put_routes(void)
{
	static char object[32768];
	size_t n = (size_t)snprintf(object, sizeof(object),
			"{'kind':'routes','key':'t','hash':'1','spec':{'network':'t/n','routes':[");

	for (unsigned i = 0; i < PATHS; i++)
		n += (size_t)snprintf(object + n, sizeof(object) - n,
				"%s['10.0.%u.%u/32','fd00:2::%x']", i == 0 ? "" : ",", i >> 8,
				i & 0xff, i + 1);
	n += (size_t)snprintf(object + n, sizeof(object) - n, "]}}");
	CHECK(n < sizeof(object));
	put(object);
}

static void
test_nothing_is_stored_where_paths_stay(void)
{
	freeze(true);
	put(UPLINK("up", "2", USUAL));
	put(UPLINK("up", "3", BY("1500", NODE, GATEWAY, GATEWAYS "," NEIGHBOR("fd00:1::5", "05"))));
	put(UPLINK("up", "4", BY("1500", NODE ",'fd00:1::2'", GATEWAY, GATEWAYS)));
	put(SETTINGS("2", "'burst':32"));
	/* Another uplink that is worse for them: comes, changes, loses its device, goes. */
	put(PORT("other", "net_null_b"), UPLINK("other", "1", ELSEWHERE("1500", "fd00:3::/64")));
	put(UPLINK("other", "2", ELSEWHERE("1400", "fd00:4::/64")));
	put(PORT("other", "net_null_c"));
	put(DELETE("uplink", "other"), DELETE("port", "other"));
	freeze(false);
	expect_ways("fd00:1::1", 0xfe, 1500);
}

static void
test_no_packet_waits_where_it_need_not(void)
{
	/* With a worker that does not walk in a commit: whoever waits for it does so for ever. */
	rte_rcu_qsbr_thread_online(hr_qsbr, 0);
	walks_between = true;
	alarm(PATIENCE_S);

	put(UPLINK("up", "5", BY("1400", NODE, GATEWAY, GATEWAYS)));
	expect_ways("fd00:1::1", 0xfe, 1400);
	put(UPLINK("up", "6", BY("1500", NODE, "fd00:1::ff", GATEWAYS)));
	expect_ways("fd00:1::1", 0xff, 1500);
	put(UPLINK("up", "7",
			BY("1500", NODE, GATEWAY,
					NEIGHBOR("fd00:1::fe", "aa") "," NEIGHBOR("fd00:1::ff",
							"ff"))));
	expect_ways("fd00:1::1", 0xaa, 1500);
	/* Nobody says any more which MAC address it has: it has the one that it had. */
	put(UPLINK("up", "8", BY("1500", NODE, GATEWAY, NEIGHBOR("fd00:1::ff", "ff"))));
	expect_ways("fd00:1::1", 0xaa, 1500);
	put(UPLINK("up", "9", USUAL));
	put(SETTINGS("3", "'burst':64,'underlayPrefixes':['fd00::/16']"));
	expect_ways("fd00:1::1", 0xfe, 1500); /* Their addresses have no VNI. */

	put(DELETE("uplink", "up"));
	expect_op(HR_OP_NO_ROUTE);
	put(UPLINK("up", "10", USUAL));
	expect_ways("fd00:1::1", 0xfe, 1500);

	alarm(0);
	walks_between = false;
	rte_rcu_qsbr_thread_offline(hr_qsbr, 0);
}

static atomic_bool walking, online;

/** A worker that looks at all adjacencies in each walk. @return how many waited at once, at most */
static void *
walk(void *arg)
{
	uint64_t last = 0;
	uintptr_t most = 0;

	RTE_SET_USED(arg);
	rte_rcu_qsbr_thread_online(hr_qsbr, 0);
	atomic_store(&online, true);
	while (atomic_load(&walking)) {
		const uint64_t token = __atomic_load_n(&hr_qsbr->token, __ATOMIC_ACQUIRE);
		uintptr_t waiting = 0;

		/* Who waits for a walk waits for one that began after this. */
		if (token == last)
			continue;
		last = token;
		for (uint32_t adj = HR_ADJ_LOCAL + 1; adj < hr_adj_end(); adj++)
			waiting += __atomic_load_n(&hr_adjs[adj].op, __ATOMIC_ACQUIRE) ==
					HR_OP_RESOLVE;
		most = RTE_MAX(most, waiting);
		rte_rcu_qsbr_quiescent(hr_qsbr, 0);
	}
	rte_rcu_qsbr_thread_offline(hr_qsbr, 0);
	return (void *)most;
}

static void
test_few_wait_at_once(void)
{
	pthread_t worker;
	void *most;

	atomic_store(&walking, true);
	CHECK(pthread_create(&worker, NULL, walk, NULL) == 0);
	while (!atomic_load(&online))
		sched_yield();
	put(UPLINK("up", "11", BY("1500", "'fd00:1::2'", GATEWAY, GATEWAYS)));
	atomic_store(&walking, false);
	CHECK(pthread_join(worker, &most) == 0);
	CHECK((uintptr_t)most > 0 && (uintptr_t)most <= AT_ONCE);
	expect_ways("fd00:1::2", 0xfe, 1500);
}

static void
expect_ports(const uint16_t *ports, uint16_t but)
{
	for (unsigned i = 0; i < PATHS; i++)
		CHECK(ports[i] == but ? adj_of(i)->port != but : adj_of(i)->port == ports[i]);
}

/** Three lead there: where one comes or goes, what leaves by the others stays. */
static void
test_only_its_own_share_moves(void)
{
	uint16_t ports[PATHS], third;
	unsigned n = 0;

	put(PORT("second", "net_null_d"), PORT("third", "net_null_e"), UPLINK("second", "1", USUAL),
			UPLINK("third", "1", USUAL));
	third = hr_port_id(hr_port_get("third"));
	for (unsigned i = 0; i < PATHS; i++) {
		ports[i] = adj_of(i)->port;
		n += ports[i] == third;
	}
	CHECK(n > PATHS / 5 && n < PATHS / 2);
	put(DELETE("uplink", "third"));
	expect_ports(ports, third);
	put(UPLINK("third", "2", USUAL));
	expect_ports(ports, HR_PORT_NO_ID);
	put(DELETE("uplink", "third"), DELETE("port", "third"), DELETE("uplink", "second"),
			DELETE("port", "second"));
	expect_ways("fd00:1::2", 0xfe, 1500);
}

static uint64_t now_ms = 1000;

/** How many paths leave by a port. */
static unsigned
share_of(const char *port)
{
	const uint16_t id = hr_port_id(hr_port_get(port));
	unsigned n = 0;

	for (unsigned i = 0; i < PATHS; i++)
		n += adj_of(i)->port == id;
	return n;
}

/** What is asked of a port's next hop is answered there, or not. */
static struct {
	const char *port;
	bool silent;
	unsigned asked;
} peers[] = {{"up", false, 0}, {"second", false, 0}};

static void
answer(struct rte_mbuf *question)
{
	struct hr_event event = {
			.type = HR_EVENT_SEEN,
			.solicited = true,
			.port = question->port,
			.mac = {{2, 0, 0, 0, 0, 0xfe}},
			.addr = {.family = 6, .ip6 = ip6(GATEWAY)},
	};

	for (unsigned i = 0; i < RTE_DIM(peers); i++) {
		struct hr_neigh *neigh = hr_neigh_find_next_hop(question->port, &event.addr.ip6);

		if (question->port != hr_port_id(hr_port_get(peers[i].port)))
			continue;
		peers[i].asked++;
		if (!peers[i].silent && neigh != NULL)
			hr_neigh_next_hop_seen(neigh, &event);
	}
	rte_pktmbuf_free(question);
}

/** The control loop, for a time. */
static void
advance(uint64_t ms)
{
	for (const uint64_t end = now_ms + ms; now_ms < end; now_ms += 10) {
		void *m;

		hr_neigh_tick(now_ms);
		hr_uplinks_tick(now_ms);
		while (rte_ring_sc_dequeue(hr_workers[0]->inject, &m) == 0)
			answer(m);
	}
}

#define ASKED BY("1500", NODE, GATEWAY, "")

static void
put_two(const char *weight)
{
	char first[512], second[512];

	snprintf(first, sizeof(first), UPLINK("up", "%s", ASKED ",'weight':%s"), weight, weight);
	snprintf(second, sizeof(second), UPLINK("second", "%s", ASKED ",'weight':1"), weight);
	put(first, second);
}

static void
test_shares_go_by_weight(void)
{
	unsigned before;

	put(PORT("second", "net_null_d"), UPLINK("second", "0", USUAL));
	put_two("1");
	before = share_of("up");
	CHECK(before > PATHS * 2 / 5 && before < PATHS * 3 / 5);
	put_two("3");
	CHECK(share_of("up") > PATHS * 2 / 3 && share_of("up") < PATHS * 5 / 6);
	put_two("1");
	CHECK(share_of("up") == before);
}

static void
set_link(const char *port, bool up)
{
	const uint16_t id = hr_port_id(hr_port_get(port));

	CHECK((up ? rte_eth_dev_start(id) : rte_eth_dev_stop(id)) == 0);
}

/** Its share goes at once, and comes back when link and next hop have been well for a while. */
static void
test_a_link_that_goes_down(void)
{
	const unsigned share = share_of("second");

	advance(100);
	CHECK(share > 0 && share_of("second") == share);
	set_link("second", false);
	advance(HR_UPLINK_LOOK_MS);
	CHECK(share_of("second") == 0 && share_of("up") == PATHS);
	/* It flaps. */
	for (unsigned i = 0; i < 5; i++) {
		set_link("second", true);
		advance(HR_UPLINK_HOLD_MS / 2);
		CHECK(share_of("second") == 0);
		set_link("second", false);
		advance(HR_UPLINK_LOOK_MS);
	}
	set_link("second", true);
	advance(HR_UPLINK_HOLD_MS - 100);
	CHECK(share_of("second") == 0);
	advance(HR_NEIGH_WATCH_MS + 200);
	CHECK(share_of("second") == share);
}

/** Where next hops are given the link alone tells. */
static void
test_a_link_whose_next_hop_is_given(void)
{
	unsigned share;

	put(UPLINK("up", "30", USUAL), UPLINK("second", "30", USUAL));
	share = share_of("second");
	CHECK(share > 0);
	set_link("second", false);
	advance(HR_UPLINK_LOOK_MS);
	CHECK(share_of("second") == 0);
	set_link("second", true);
	advance(HR_UPLINK_HOLD_MS - HR_UPLINK_LOOK_MS);
	CHECK(share_of("second") == 0);
	advance(3 * HR_UPLINK_LOOK_MS);
	CHECK(share_of("second") == share);
	put_two("1");
}

/** Nothing better is left: packets drop, and that counts; what is up again is used at once. */
static void
test_all_links_are_down(void)
{
	const unsigned share = share_of("second");

	set_link("second", false);
	set_link("up", false);
	advance(2 * HR_UPLINK_LOOK_MS);
	CHECK(share_of("second") == share);
	expect_op(HR_OP_DOWN);
	set_link("up", true);
	advance(HR_UPLINK_LOOK_MS);
	CHECK(share_of("up") == PATHS);
	set_link("second", true);
	advance(HR_UPLINK_HOLD_MS + HR_NEIGH_WATCH_MS + 200);
	CHECK(share_of("second") == share);
}

static void
have_asked(void)
{
	for (unsigned i = 0; i < PATHS; i++) {
		struct hr_neigh *neigh = hr_neigh_of_adj((uint32_t)(adj_of(i) - hr_adjs));

		CHECK(neigh != NULL);
		if (hr_neigh_state(neigh, NULL) == HR_NEIGH_UNRESOLVED)
			hr_neigh_enter(neigh, HR_NEIGH_INCOMPLETE);
	}
	advance(100);
	expect_op(HR_OP_ENCAP);
}

static void
test_a_next_hop_that_does_not_answer(void)
{
	const unsigned share = share_of("second");

	have_asked();
	peers[1].silent = true;
	advance(HR_NEIGH_WATCH_MS + HR_NEIGH_TRIES * HR_NEIGH_RETRY_MS + 200);
	CHECK(share_of("second") == 0);
	/* It is asked all the same, and one answer is not enough. */
	peers[1].asked = 0;
	advance(20000);
	CHECK(peers[1].asked >= 6 && share_of("second") == 0);
	peers[1].silent = false;
	advance(HR_NEIGH_HOLD_MS + HR_NEIGH_RETRY_MS);
	CHECK(share_of("second") == 0);
	peers[1].silent = true;
	advance(20000);
	CHECK(share_of("second") == 0);
	peers[1].silent = false;
	advance(HR_NEIGH_HOLD_MS + HR_NEIGH_RETRY_MS + HR_NEIGH_RETURN_MS + HR_NEIGH_WATCH_MS);
	CHECK(share_of("second") == share);
	expect_op(HR_OP_ENCAP); /* And no packet has to wait for it. */
	/* Where neither answers each has its own share. */
	peers[0].silent = peers[1].silent = true;
	advance(60000);
	CHECK(share_of("second") == share);
	peers[0].silent = peers[1].silent = false;
	advance(HR_NEIGH_HOLD_MS + HR_NEIGH_RETRY_MS + 200);
	CHECK(share_of("second") == share);
	put(DELETE("uplink", "second"), DELETE("port", "second"), UPLINK("up", "20", USUAL));
}

int
main(void)
{
	static const struct hr_rxqs no_queues;
	static struct hr_worker worker = {.rxqs = &no_queues};
	char prefix[32];
	char *argv[] = {"path_test", "--no-huge", "--no-shconf", "--no-pci", "-m", "64", "--lcores",
			"0", "--no-telemetry", "--log-level=error", "--file-prefix", prefix};

	snprintf(prefix, sizeof(prefix), "test-path-%d", (int)getpid());
	CHECK(rte_eal_init(RTE_DIM(argv), argv) >= 0);
	hr_pool = rte_pktmbuf_pool_create("packets", 4095, 32, 0, 2048 + RTE_PKTMBUF_HEADROOM,
			SOCKET_ID_ANY);
	CHECK(hr_pool != NULL);
	CHECK(hr_rcu_init(1) == 0 && hr_adj_init() == 0 && hr_ports_init() == 0);
	CHECK(rte_rcu_qsbr_thread_register(hr_qsbr, 0) == 0);
	worker.inject = rte_ring_create("inject", 1024, SOCKET_ID_ANY, RING_F_SC_DEQ);
	CHECK(worker.inject != NULL);
	hr_workers[0] = &worker;
	hr_n_workers = 1;

	put(SETTINGS("1", "'burst':64"), PORT("up", "net_null_a"), UPLINK("up", "1", USUAL),
			PUT("network", "t/n", "1", "'vni':100,'gateways':[]"));
	put_routes();
	expect_ways("fd00:1::1", 0xfe, 1500);
	test_nothing_is_stored_where_paths_stay();
	test_no_packet_waits_where_it_need_not();
	test_few_wait_at_once();
	test_only_its_own_share_moves();
	test_shares_go_by_weight();
	test_a_link_that_goes_down();
	test_a_link_whose_next_hop_is_given();
	test_all_links_are_down();
	test_a_next_hop_that_does_not_answer();

	put(DELETE("routes", "t"), DELETE("network", "t/n"), DELETE("uplink", "up"),
			DELETE("port", "up"));
	hr_ports_close();
	hr_rcu_barrier();
	rte_eal_cleanup();
	return 0;
}
