/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What leaves the fast path: the receive node, and the exceptional ones with one packet at a time.
 * What comes out, by which edge, or which drop is counted. The nodes are compiled in, as nothing in
 * the engine refers to them by a symbol.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_eal.h>

#include "../port/queues.h"
#include "../table/underlay.h"
#include "../tests/check.h"
#include "arp.c"
#include "icmp.c"
#include "local.c"
#include "nd.c"
#include "resolve.c"
#include "rx.c"

#define VM 3     /**< The port of an Interface. */
#define OTHER 4  /**< The port of another. */
#define UPLINK 5 /**< The port of an uplink. */

#define STAND_IN(id, node_name)                                                                    \
	static struct rte_node_register id##_stand_in = {                                          \
			.name = "headrace-" node_name,                                             \
			.process = stand_in_process,                                               \
			.init = hr_node_init,                                                      \
	};                                                                                         \
	RTE_NODE_REGISTER(id##_stand_in)

static uint16_t
stand_in_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb)
{
	RTE_SET_USED(graph);
	RTE_SET_USED(node);
	RTE_SET_USED(objs);
	return nb;
}

STAND_IN(ip4, "ip4");
STAND_IN(ip6, "ip6");
STAND_IN(decap, "decap");

static const char *const edges[] = HR_NODE_NEXT(HR_EDGE_COUNT);

static const struct rte_ether_addr gateway_mac = {{2, 0, 0, 0, 0, 1}};
static const struct rte_ether_addr vm_mac = {{2, 0, 0, 0, 0, 5}};
static const struct rte_ether_addr uplink_mac = {{2, 0, 0, 0, 0, 2}};

static const struct hr_ip6 vm6 = {.b = {0x20, 1, 0xd, 0xb8, [15] = 5}};
static const struct hr_ip6 gateway6 = {.b = {0x20, 1, 0xd, 0xb8, [15] = 1}};
static const struct hr_ip6 far6 = {.b = {0x20, 1, 0xd, 0xb8, [7] = 9, [15] = 9}};
static const struct hr_ip6 vm_link_local = {.b = {0xfe, 0x80, [15] = 5}};
static const struct hr_ip6 uplink6 = {.b = {0xfd, [7] = 1, [15] = 1}};
static const struct hr_ip6 source6 = {.b = {0xfd, [7] = 1, [10] = 7, [15] = 1}};
static const struct hr_ip6 other6 = {.b = {0xfd, [7] = 1, [11] = 7, [15] = 1}};
static const struct hr_ip6 underlay6 = {.b = {0xfd, [7] = 1, [15] = 2}};
static const struct hr_ip6 neighbour6 = {.b = {0xfd, [7] = 2, [15] = 1}};
#define VM4 RTE_BE32(RTE_IPV4(10, 1, 2, 5))
#define GATEWAY4 RTE_BE32(RTE_IPV4(10, 1, 2, 1))
#define FAR4 RTE_BE32(RTE_IPV4(10, 9, 9, 9))

static struct hr_worker worker;
/** Cycles between one packet and the next: enough to fill all buckets, unless a test says none. */
static uint64_t interval;
static struct hr_locals locals;
/** One other address is routed, in each family: PEER4 and peer6. */
static struct hr_vrf vrf;
#define PEER4 RTE_BE32(RTE_IPV4(10, 1, 2, 6))
static const struct hr_ip6 peer6 = {.b = {0x20, 1, 0xd, 0xb8, [15] = 6}};
static struct hr_port_ctx vm = {
		.port = VM,
		.role = HR_ROLE_INTERFACE,
		.vrf = &vrf,
		.source_check = true,
		.mtu = 1460,
		.n_source4 = 1,
		.source4 = {{VM4, UINT32_MAX}},
		.n_source6 = 1,
		.source6 = {{{.b = {0x20, 1, 0xd, 0xb8, [15] = 5}},
				{.q = {UINT64_MAX, UINT64_MAX}}}},
		.n_own = 3,
		.own = {{.family = 4, .ip4 = GATEWAY4},
				{.family = 6, .ip6 = {.b = {0xfe, 0x80, [15] = 1}}},
				{.family = 6, .ip6 = {.b = {0x20, 1, 0xd, 0xb8, [15] = 1}}}},
};
static struct hr_port_ctx uplink = {
		.port = UPLINK,
		.role = HR_ROLE_UPLINK,
		.mtu = 1500,
		.n_own = 1,
		.own = {{.family = 6, .ip6 = {.b = {0xfd, [7] = 1, [15] = 1}}}},
};

static struct rte_mbuf *
new_packet(const void *frame, uint16_t length)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(hr_pool);

	CHECK(m != NULL);
	memcpy(rte_pktmbuf_append(m, length), frame, length);
	m->port = worker.in->port;
	return m;
}

/** Route the peers' addresses elsewhere, and the endpoint's own back to it. */
static void
make_routes(void)
{
	const struct hr_addr peers[] = {{.family = 4, .ip4 = PEER4}, {.family = 6, .ip6 = peer6}};
	const struct hr_addr own = {.family = 4, .ip4 = VM4};
	const uint32_t adj = hr_adj_alloc();

	hr_adjs[adj].op = HR_OP_ENCAP;
	hr_adjs[adj].port = UPLINK;
	vrf.fib4 = hr_fib_create(4);
	vrf.fib6 = hr_fib_create(6);
	CHECK(vrf.fib4 != NULL && vrf.fib6 != NULL);
	CHECK(hr_fib_insert(vrf.fib4, &peers[0], 32, adj, 1, NULL) == 0);
	CHECK(hr_fib_insert(vrf.fib6, &peers[1], 128, adj, 1, NULL) == 0);
	CHECK(hr_fib_insert(vrf.fib4, &own, 32, vm.adj, 1, NULL) == 0);
}

/** Pass a packet to a node. @return what left by `edge`; nothing may leave by another */
static struct rte_mbuf *
pass(struct rte_mbuf *m, enum hr_edge to, enum hr_edge edge)
{
	struct rte_node *node = rte_graph_node_get_by_name("test", edges[to]);
	struct rte_mbuf *out = NULL;
	void *objs[] = {m};

	worker.now += interval;
	CHECK(node->process(rte_graph_lookup("test"), node, objs, 1) == 1);
	for (unsigned i = 0; i < HR_EDGE_COUNT; i++) {
		struct rte_node *next = rte_graph_node_get_by_name("test", edges[i]);

		CHECK(next->idx == 0 || (i == edge && next->idx == 1));
		if (next->idx == 1)
			out = next->objs[0];
		next->idx = 0;
	}
	return out;
}

/** Pass a packet that is to be dropped for this reason. */
static bool
drops(const void *frame, uint16_t length, enum hr_edge to, enum hr_drop reason)
{
	uint64_t *count = &worker.ports[worker.in->port].drops[reason], before = *count;

	return pass(new_packet(frame, length), to, HR_EDGE_TX) == NULL && *count == before + 1;
}

/** The one event posted, if any. */
static bool
event(struct hr_event *event)
{
	struct hr_event more;

	if (hr_events_take(event, 1) == 0)
		return false;
	CHECK(hr_events_take(&more, 1) == 0);
	return true;
}

static bool
nothing_learned(void)
{
	struct hr_event any;

	return !event(&any);
}

static bool
is_to(const struct rte_mbuf *m, const struct hr_port_ctx *in, const struct rte_ether_addr *dst)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);

	return m->port == in->port && rte_is_same_ether_addr(&eth->src_addr, &in->mac) &&
			rte_is_same_ether_addr(&eth->dst_addr, dst);
}

/* Receive */

#define RECEIVED_LEN 60

/** What the port's driver has, and of how many it must be asked for. */
static struct rte_mbuf *arriving[HR_BURST];
static uint16_t n_arriving, least_burst;

static uint16_t
receive_burst(void *queue, struct rte_mbuf **pkts, uint16_t n)
{
	const uint16_t found = n_arriving;

	RTE_SET_USED(queue);
	if (n < least_burst)
		return 0;
	CHECK(found <= n);
	memcpy(pkts, arriving, found * sizeof(*pkts));
	n_arriving = 0;
	return found;
}

/** Have the worker poll this port, and send on it. @return the driver's functions */
static struct rte_eth_fp_ops *
attach(const struct hr_port_ctx *in)
{
	static void *queue, *no_callback;
	static struct hr_rxqs rxqs = {.n = 1};
	struct rte_eth_fp_ops *driver = &rte_eth_fp_ops[in->port];

	driver->rx_pkt_burst = receive_burst;
	driver->rxq.data = driver->txq.data = &queue;
	driver->rxq.clbk = driver->txq.clbk = (void *)&no_callback;
	rxqs.q[0].port = in->port;
	rxqs.q[0].least_burst = least_burst;
	worker.rxqs = &rxqs;
	worker.in = in;
	return driver;
}

/**
 * Let a frame arrive at a port, alone and amid good ones, which all leave by `edge`.
 *
 * @param reason that the frame drops for; HR_DROP_COUNT: it leaves with the others
 */
static bool
receives(const struct hr_port_ctx *in, const void *frame, const void *good, enum hr_edge edge,
		enum hr_drop reason)
{
	struct rte_node *node = rte_graph_node_get_by_name("test", "headrace-rx");
	struct rte_node *next = rte_graph_node_get_by_name("test", edges[edge]);
	const unsigned drops = reason != HR_DROP_COUNT;
	unsigned left;

	attach(in);
	for (unsigned n = 1; n <= 12; n++) {
		const uint64_t before = drops ? worker.ports[in->port].drops[reason] : 0;

		for (unsigned i = 0; i < n; i++)
			arriving[i] = new_packet(i == n / 2 ? frame : good, RECEIVED_LEN);
		n_arriving = n;
		CHECK(node->process(rte_graph_lookup("test"), node, NULL, 0) == n);
		left = next->idx;
		rte_pktmbuf_free_bulk((struct rte_mbuf **)next->objs, left);
		next->idx = 0;
		if (left != n - drops ||
				(drops && worker.ports[in->port].drops[reason] != before + 1))
			return false;
	}
	return true;
}

/** Of a driver that takes in nothing when it is asked for less, as vector drivers do. */
static void
test_least_burst(void)
{
	const uint16_t burst = hr_worker_settings.burst;
	uint8_t frame[RECEIVED_LEN] = {0};

	hr_write_ether(frame, gateway_mac, vm_mac, RTE_ETHER_TYPE_IPV4);
	hr_worker_settings.burst = 1;
	least_burst = 12;
	CHECK(receives(&vm, frame, frame, HR_EDGE_IP4, HR_DROP_COUNT));
	least_burst = 0;
	hr_worker_settings.burst = burst;
}

static void
test_receive(void)
{
	static const struct rte_ether_addr all_nodes_mac = {{0x33, 0x33, 0, 0, 0, 1}}, any = {{0}};
	const struct {
		const struct hr_port_ctx *in;
		struct rte_ether_addr source_mac, dst;
		uint16_t type;
		enum hr_edge edge;
	} cases[] = {
			{&vm, vm_mac, gateway_mac, RTE_ETHER_TYPE_IPV4, HR_EDGE_IP4},
			{&vm, vm_mac, gateway_mac, RTE_ETHER_TYPE_IPV6, HR_EDGE_IP6},
			{&vm, vm_mac, gateway_mac, RTE_ETHER_TYPE_ARP, HR_EDGE_ARP},
			{&vm, vm_mac, all_nodes_mac, RTE_ETHER_TYPE_IPV6, HR_EDGE_IP6},
			{&vm, vm_mac, hr_mac_broadcast, RTE_ETHER_TYPE_ARP, HR_EDGE_ARP},
			{&vm, any, gateway_mac, RTE_ETHER_TYPE_IPV4, HR_EDGE_IP4},
			{&vm, any, gateway_mac, RTE_ETHER_TYPE_IPV6, HR_EDGE_IP6},
			{&vm, any, hr_mac_broadcast, RTE_ETHER_TYPE_ARP, HR_EDGE_ARP},
			{&uplink, any, uplink_mac, RTE_ETHER_TYPE_IPV6, HR_EDGE_DECAP},
	};
	uint8_t good[RECEIVED_LEN], bad[RECEIVED_LEN];

	for (unsigned i = 0; i < RTE_DIM(cases); i++) {
		const bool checks = !rte_is_zero_ether_addr(&cases[i].source_mac);
		const bool unicast = rte_is_unicast_ether_addr(&cases[i].dst);

		vm.source_mac = cases[i].source_mac;
		/* The IP destination is a group's, too: a multicast MAC address takes no other. */
		memset(good, 0xff, sizeof(good));
		hr_write_ether(good, cases[i].dst, vm_mac, cases[i].type);
		for (unsigned byte = 0; byte < HR_L2_LEN; byte++) {
			const enum hr_drop reason = byte >= 12 ? HR_DROP_ETHERTYPE
					: byte >= 6 && checks  ? HR_DROP_SOURCE_MAC
					: byte < 6 && unicast  ? HR_DROP_NOT_FOR_US
							       : HR_DROP_COUNT;

			CHECK(receives(cases[i].in, good, good, cases[i].edge, HR_DROP_COUNT));
			memcpy(bad, good, sizeof(bad));
			bad[byte] ^= 0x40;
			CHECK(receives(cases[i].in, bad, good, cases[i].edge, reason));
		}
	}
	vm.source_mac = any;
}

/** Have the receive node take what was injected. @return what left by `edge` */
static struct rte_mbuf *
inject(enum hr_inject_mode mode, bool late, enum hr_edge edge)
{
	struct rte_node *node = rte_graph_node_get_by_name("test", "headrace-rx");
	struct rte_node *next = rte_graph_node_get_by_name("test", edges[edge]);
	const uint8_t frame[RECEIVED_LEN] = {[HR_L2_LEN] = 0x45};
	struct rte_mbuf *m;

	worker.in = &vm;
	worker.injected = false;
	m = new_packet(frame, sizeof(frame));
	CHECK(hr_inject(&worker, m, mode));
	hr_port_generation[VM] += late;
	CHECK(node->process(rte_graph_lookup("test"), node, NULL, 0) == 1);
	m = next->idx == 1 ? next->objs[0] : NULL;
	next->idx = 0;
	worker.trusted = false;
	return m;
}

/** What was injected for a device does not go to the next one of its port id, nor to its network. */
static void
test_injected(void)
{
	const uint64_t *drops = &worker.ports[VM].drops[HR_DROP_PORT_DOWN];
	struct rte_mbuf *m;

	m = inject(HR_INJECT_SEND, false, HR_EDGE_TX);
	CHECK(m != NULL);
	rte_pktmbuf_free(m);
	m = inject(HR_INJECT_ROUTE, false, HR_EDGE_IP4);
	CHECK(m != NULL && *drops == 0);
	rte_pktmbuf_free(m);
	CHECK(inject(HR_INJECT_SEND, true, HR_EDGE_TX) == NULL && *drops == 1);
	CHECK(inject(HR_INJECT_ROUTE, true, HR_EDGE_IP4) == NULL && *drops == 2);
	m = inject(HR_INJECT_ROUTE, false, HR_EDGE_IP4);
	CHECK(m != NULL);
	rte_pktmbuf_free(m);
	/* An adjacency that is free is none to leave by, before anyone has it again. */
	m = new_packet((uint8_t[RECEIVED_LEN]){0}, RECEIVED_LEN);
	hr_adj_mark(m, hr_adj_alloc());
	CHECK(hr_adj_mark_holds(m));
	hr_adj_free(m->hash.fdir.lo);
	CHECK(!hr_adj_mark_holds(m));
	hr_adj_mark(m, m->hash.fdir.lo);
	hr_rcu_barrier();
	CHECK(!hr_adj_mark_holds(m));
	rte_pktmbuf_free(m);
}

/* Transmit */

static uint16_t n_takes;

/** A driver that takes so many packets. */
static uint16_t
transmit(void *queue, struct rte_mbuf **pkts, uint16_t n)
{
	const uint16_t taken = RTE_MIN(n, n_takes);

	RTE_SET_USED(queue);
	rte_pktmbuf_free_bulk(pkts, taken);
	return taken;
}

/** What a worker hands over for want of a queue counts as sent once it is: no counter steps back. */
static void
test_handed_over(void)
{
	static void *queue, *no_callback;
	static struct hr_tx_shared shared = {.n = 1, .port = {UPLINK}};
	struct rte_node *node = rte_graph_node_get_by_name("test", "headrace-tx");
	struct hr_port_counters *counters = &worker.ports[UPLINK];
	struct rte_eth_fp_ops *driver = &rte_eth_fp_ops[UPLINK];
	const uint8_t frame[RECEIVED_LEN] = {0};
	void *pkts[5];

	hr_tx_ring[UPLINK] = rte_ring_create("tx", 4, SOCKET_ID_ANY, RING_F_SC_DEQ);
	CHECK(hr_tx_ring[UPLINK] != NULL);
	hr_tx_shared = &shared;
	driver->tx_pkt_burst = transmit;
	driver->txq.data = &queue;
	driver->txq.clbk = (void *)&no_callback;
	worker.in = &uplink;
	worker.txq[UPLINK] = HR_TXQ_NONE;
	for (unsigned i = 0; i < RTE_DIM(pkts); i++)
		pkts[i] = new_packet(frame, sizeof(frame));
	/* The ring has room for 3. */
	CHECK(node->process(rte_graph_lookup("test"), node, pkts, 5) == 5);
	CHECK(counters->tx_packets == 0 && counters->tx_bytes == 0);
	CHECK(counters->drops[HR_DROP_TX_FULL] == 2);
	n_takes = 2;
	hr_tx_drain(&worker);
	CHECK(counters->tx_packets == 2 && counters->tx_bytes == 2 * RECEIVED_LEN);
	CHECK(counters->drops[HR_DROP_TX_FULL] == 3);
	hr_tx_drain(&worker);
	CHECK(counters->tx_packets == 2 && counters->drops[HR_DROP_TX_FULL] == 3);
	rte_ring_free(hr_tx_ring[UPLINK]);
	hr_tx_ring[UPLINK] = NULL;
	worker.txq[UPLINK] = 0;
	shared.n = 0;
}

/* Frames in several buffers */

#define LARGE 4000 /* No buffer holds it. */

/** A frame in segments of so many bytes, and an empty one after them. */
static struct rte_mbuf *
new_chain(const uint8_t *frame, uint16_t length, uint16_t step)
{
	struct rte_mbuf *m = new_packet(frame, RTE_MIN(step, length));
	uint16_t at = m->data_len, n;

	do {
		n = RTE_MIN(step, length - at);
		CHECK(rte_pktmbuf_chain(m, new_packet(frame + at, n)) == 0);
		at += n;
	} while (n > 0);
	return m;
}

/** Whether it is this frame, in one segment; freed. */
static bool
is_whole(struct rte_mbuf *m, const uint8_t *frame, uint16_t length)
{
	const bool is = m->nb_segs == 1 && m->next == NULL && m->pkt_len == length &&
			m->data_len == length &&
			memcmp(rte_pktmbuf_mtod(m, void *), frame, length) == 0;

	rte_pktmbuf_free(m);
	return is;
}

/** An IPv4 frame whose bytes differ. */
static void
make_large(uint8_t frame[LARGE])
{
	for (unsigned i = 0; i < LARGE; i++)
		frame[i] = i * 7 + i / 256;
	hr_write_ether(frame, gateway_mac, vm_mac, RTE_ETHER_TYPE_IPV4);
}

/** All nodes find headers in one piece, wherever the other side cut the frame. */
static void
test_receive_in_pieces(void)
{
	struct rte_node *node = rte_graph_node_get_by_name("test", "headrace-rx");
	struct rte_node *next = rte_graph_node_get_by_name("test", edges[HR_EDGE_IP4]);
	uint8_t frame[LARGE];
	struct rte_mbuf *m;

	make_large(frame);
	attach(&vm);
	for (uint16_t step = 1; step <= RECEIVED_LEN; step++) {
		for (unsigned i = 0; i < 3; i++)
			arriving[i] = i == 1 ? new_chain(frame, RECEIVED_LEN, step)
					     : new_packet(frame, RECEIVED_LEN);
		n_arriving = 3;
		CHECK(node->process(rte_graph_lookup("test"), node, NULL, 0) == 3);
		CHECK(next->idx == 3);
		for (; next->idx > 0; next->idx--)
			CHECK(is_whole(next->objs[next->idx - 1], frame, RECEIVED_LEN));
	}
	/* One that no buffer holds goes on, to be told of the MTU, with its headers in one piece. */
	arriving[0] = new_chain(frame, LARGE, 20);
	n_arriving = 1;
	CHECK(node->process(rte_graph_lookup("test"), node, NULL, 0) == 1);
	CHECK(next->idx == 1);
	m = next->objs[0];
	next->idx = 0;
	CHECK(m->pkt_len == LARGE && rte_pktmbuf_tailroom(m) == 0);
	CHECK(memcmp(rte_pktmbuf_mtod(m, void *), frame, m->data_len) == 0);
	rte_pktmbuf_free(m);
}

/** What the driver was given. */
static struct rte_mbuf *sent[HR_BURST];
static uint16_t n_sent;

static uint16_t
send_burst_stand_in(void *queue, struct rte_mbuf **pkts, uint16_t n)
{
	RTE_SET_USED(queue);
	CHECK(n_sent + n <= HR_BURST);
	memcpy(sent + n_sent, pkts, n * sizeof(*pkts));
	n_sent += n;
	return n;
}

/** No driver is given a chain: many send its first segment alone, and lose the others. */
static void
test_send_in_pieces(void)
{
	struct rte_node *node = rte_graph_node_get_by_name("test", "headrace-tx");
	uint64_t *count = &worker.ports[VM].drops[HR_DROP_OVERSIZE];
	uint8_t frame[LARGE];
	void *objs[4];

	make_large(frame);
	attach(&uplink)->tx_pkt_burst = send_burst_stand_in;
	attach(&vm)->tx_pkt_burst = send_burst_stand_in;
	for (unsigned other = 0; other < 2; other++) {
		const uint64_t packets = worker.ports[VM].tx_packets;
		const uint64_t bytes = worker.ports[VM].tx_bytes;
		const uint64_t dropped = *count;

		objs[0] = new_packet(frame, 1000);
		objs[1] = new_chain(frame, 1000, 300);
		objs[2] = new_chain(frame, LARGE, 300);
		objs[3] = new_chain(frame, 1000, 1);
		/* All by one port, or one of them by another. */
		((struct rte_mbuf *)objs[0])->port = other ? UPLINK : VM;
		CHECK(node->process(rte_graph_lookup("test"), node, objs, 4) == 4);
		CHECK(n_sent == 3 && *count == dropped + 1);
		for (; n_sent > 0; n_sent--)
			CHECK(is_whole(sent[n_sent - 1], frame, 1000));
		CHECK(worker.ports[VM].tx_packets == packets + 3 - other);
		CHECK(worker.ports[VM].tx_bytes == bytes + 1000 * (3 - other));
	}
	/* Nor does one wait, with many buffers in place of one. */
	CHECK(pass(new_chain(frame, LARGE, 300), HR_EDGE_RESOLVE, HR_EDGE_TX) == NULL);
	CHECK(*count == 3 && nothing_learned());
}

/** What Ethernet padded may be in segments of its own. */
static void
test_trim_pieces(void)
{
	uint8_t frame[LARGE];

	make_large(frame);
	for (uint16_t step = 1; step <= RECEIVED_LEN; step++) {
		for (uint16_t length = HR_L2_LEN + 20; length <= RECEIVED_LEN; length++) {
			struct rte_mbuf *m = new_chain(frame, RECEIVED_LEN, step);

			hr_trim(m, length - HR_L2_LEN);
			CHECK(rte_mbuf_check(m, 1, &(const char *){NULL}) == 0);
			CHECK(m->pkt_len == length && hr_chain_gather(m));
			CHECK(is_whole(m, frame, length));
		}
	}
}

/* ARP */

static void
test_arp(void)
{
	uint8_t frame[60] = {0};
	struct rte_arp_hdr *arp = RTE_PTR_ADD(frame, HR_L2_LEN), *reply;
	const struct rte_ether_addr zero = {{0}}, group = {{1, 0, 0, 0, 0, 5}};
	struct hr_event e;
	struct rte_mbuf *m;

	worker.in = &vm;
	hr_write_arp(frame, RTE_ARP_OP_REQUEST, hr_mac_broadcast, vm_mac, VM4, zero, GATEWAY4);
	m = pass(new_packet(frame, sizeof(frame)), HR_EDGE_ARP, HR_EDGE_TX);
	CHECK(m != NULL && is_to(m, &vm, &vm_mac) && m->pkt_len == HR_ARP_FRAME_LEN);
	reply = rte_pktmbuf_mtod_offset(m, struct rte_arp_hdr *, HR_L2_LEN);
	CHECK(reply->arp_opcode == RTE_BE16(RTE_ARP_OP_REPLY));
	CHECK(reply->arp_data.arp_sip == GATEWAY4 && reply->arp_data.arp_tip == VM4);
	CHECK(rte_is_same_ether_addr(&reply->arp_data.arp_sha, &gateway_mac));
	CHECK(rte_is_same_ether_addr(&reply->arp_data.arp_tha, &vm_mac));
	rte_pktmbuf_free(m);
	CHECK(event(&e) && e.type == HR_EVENT_SEEN && e.port == VM && !e.solicited);
	CHECK(e.addr.family == 4 && e.addr.ip4 == VM4 && rte_is_same_ether_addr(&e.mac, &vm_mac));

	/* Known already: not news. */
	memcpy(hr_adjs[vm.adj].rewrite, &vm_mac, sizeof(vm_mac));
	hr_adjs[vm.adj].op = HR_OP_ETH;
	rte_pktmbuf_free(pass(new_packet(frame, sizeof(frame)), HR_EDGE_ARP, HR_EDGE_TX));
	CHECK(nothing_learned());
	hr_adjs[vm.adj].op = HR_OP_RESOLVE;

	/* RFC 1027: for what is routed elsewhere, not for what is nowhere or its own. */
	arp->arp_data.arp_tip = PEER4;
	m = pass(new_packet(frame, sizeof(frame)), HR_EDGE_ARP, HR_EDGE_TX);
	CHECK(m != NULL);
	reply = rte_pktmbuf_mtod_offset(m, struct rte_arp_hdr *, HR_L2_LEN);
	CHECK(reply->arp_data.arp_sip == PEER4);
	CHECK(rte_is_same_ether_addr(&reply->arp_data.arp_sha, &gateway_mac));
	rte_pktmbuf_free(m);
	CHECK(event(&e));
	arp->arp_data.arp_tip = FAR4;
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ARP, HR_DROP_ARP));
	CHECK(event(&e));
	/* RFC 5227: who only tests whether an address is free gets no answer for another's. */
	arp->arp_data.arp_sip = 0;
	arp->arp_data.arp_tip = PEER4;
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ARP, HR_DROP_ARP));
	arp->arp_data.arp_sip = VM4;
	arp->arp_data.arp_tip = GATEWAY4;

	/* RFC 5227: a probe is answered and teaches nothing. */
	arp->arp_data.arp_sip = 0;
	m = pass(new_packet(frame, sizeof(frame)), HR_EDGE_ARP, HR_EDGE_TX);
	CHECK(m != NULL && nothing_learned());
	rte_pktmbuf_free(m);

	/* An announcement and a reply are learned, not answered. */
	arp->arp_data.arp_sip = arp->arp_data.arp_tip = VM4;
	CHECK(pass(new_packet(frame, sizeof(frame)), HR_EDGE_ARP, HR_EDGE_TX) == NULL);
	CHECK(event(&e) && !e.solicited);
	hr_write_arp(frame, RTE_ARP_OP_REPLY, gateway_mac, vm_mac, VM4, gateway_mac, GATEWAY4);
	CHECK(pass(new_packet(frame, sizeof(frame)), HR_EDGE_ARP, HR_EDGE_TX) == NULL);
	CHECK(event(&e) && e.solicited);

	/* Not its address; the gateway's; not its MAC address; a group's; cut short. */
	arp->arp_data.arp_sip = FAR4;
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ARP, HR_DROP_ARP));
	arp->arp_data.arp_sip = GATEWAY4;
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ARP, HR_DROP_ARP));
	hr_write_arp(frame, RTE_ARP_OP_REQUEST, hr_mac_broadcast, group, VM4, zero, GATEWAY4);
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ARP, HR_DROP_ARP));
	hr_write_arp(frame, RTE_ARP_OP_REQUEST, hr_mac_broadcast, vm_mac, VM4, zero, GATEWAY4);
	arp->arp_data.arp_sha = uplink_mac;
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ARP, HR_DROP_ARP));
	arp->arp_data.arp_sha = vm_mac;
	CHECK(drops(frame, HR_ARP_FRAME_LEN - 1, HR_EDGE_ARP, HR_DROP_ARP));
	arp->arp_data.arp_tip = FAR4;
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ARP, HR_DROP_ARP) && event(&e));
	CHECK(nothing_learned());

	/* Without a source check others are answered, and still not learned. */
	vm.source_check = false;
	hr_write_arp(frame, RTE_ARP_OP_REQUEST, hr_mac_broadcast, vm_mac, FAR4, zero, GATEWAY4);
	m = pass(new_packet(frame, sizeof(frame)), HR_EDGE_ARP, HR_EDGE_TX);
	CHECK(m != NULL && nothing_learned());
	rte_pktmbuf_free(m);
	arp->arp_data.arp_sip = GATEWAY4;
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ARP, HR_DROP_ARP));
	vm.source_check = true;
}

/* Neighbour discovery */

/** Check an advertisement that answers; frees it. */
static bool
is_advertisement(struct rte_mbuf *m, const struct hr_port_ctx *in, const struct rte_ether_addr *mac,
		const struct hr_ip6 *dst, const struct hr_ip6 *target, rte_be32_t flags)
{
	const struct rte_ipv6_hdr *ip =
			rte_pktmbuf_mtod_offset(m, const struct rte_ipv6_hdr *, HR_L2_LEN);
	const struct hr_nd_neighbor *na = (const void *)(ip + 1);
	const bool is = is_to(m, in, mac) && m->pkt_len == HR_ND_FRAME_LEN &&
			ip->hop_limits == 255 && memcmp(&ip->src_addr, target, 16) == 0 &&
			memcmp(&ip->dst_addr, dst, 16) == 0 &&
			hr_icmp6_checksum(ip, na, HR_ND_LEN) == 0 &&
			na->icmp.type == ND_NEIGHBOR_ADVERT && na->flags == flags &&
			memcmp(&na->target, target, 16) == 0 && na->option.type == 2 &&
			rte_is_same_ether_addr(&na->option.mac, &in->mac);

	rte_pktmbuf_free(m);
	return is;
}

/** Make the checksum of a changed message right. */
static void
mend(uint8_t *frame)
{
	struct rte_ipv6_hdr *ip = RTE_PTR_ADD(frame, HR_L2_LEN);
	struct hr_icmp *icmp = (void *)(ip + 1);

	icmp->checksum = 0;
	icmp->checksum = hr_icmp6_checksum(ip, icmp, rte_be_to_cpu_16(ip->payload_len));
}

static void
test_nd_of_an_interface(void)
{
	const rte_be32_t flags = ND_NA_FLAG_ROUTER | ND_NA_FLAG_OVERRIDE;
	const struct rte_ether_addr all_nodes_mac = {{0x33, 0x33, 0, 0, 0, 1}};
	uint8_t frame[HR_ND_FRAME_LEN];
	struct rte_ipv6_hdr *ip = RTE_PTR_ADD(frame, HR_L2_LEN);
	struct hr_nd_neighbor *message = (void *)(ip + 1);
	const struct hr_nd_router *ra;
	struct hr_event e;
	struct rte_mbuf *m;

	worker.in = &vm;
	hr_write_solicitation(frame, NULL, vm_mac, vm6, gateway6);
	m = pass(new_packet(frame, sizeof(frame)), HR_EDGE_ND, HR_EDGE_TX);
	CHECK(is_advertisement(m, &vm, &vm_mac, &vm6, &gateway6, flags | ND_NA_FLAG_SOLICITED));
	CHECK(event(&e) && hr_ip6_equal(&e.addr.ip6, &vm6));
	CHECK(!e.solicited && e.override && rte_is_same_ether_addr(&e.mac, &vm_mac));
	hr_write_solicitation(frame, &gateway_mac, vm_mac, vm_link_local, hr_ip6_gateway);
	m = pass(new_packet(frame, sizeof(frame)), HR_EDGE_ND, HR_EDGE_TX);
	CHECK(is_advertisement(m, &vm, &vm_mac, &vm_link_local, &hr_ip6_gateway,
			flags | ND_NA_FLAG_SOLICITED));
	CHECK(nothing_learned());

	/* Wrong hop limit, checksum, code, length of an option, of the message, of the frame. */
	ip->hop_limits = 254;
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ND, HR_DROP_ND));
	ip->hop_limits = 255;
	message->icmp.checksum ^= 1;
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ND, HR_DROP_ND));
	message->icmp.code = 1;
	mend(frame);
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ND, HR_DROP_ND));
	message->icmp.code = 0;
	for (unsigned length = 0; length < 256; length++) {
		if (length == 1)
			continue;
		message->option.length = length;
		mend(frame);
		CHECK(drops(frame, sizeof(frame), HR_EDGE_ND, HR_DROP_ND));
	}
	message->option = (struct hr_nd_mac){.type = HR_ND_OPTION_MTU, .length = 2, vm_mac};
	mend(frame);
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ND, HR_DROP_ND));
	message->option.type = HR_ND_OPTION_MAC_SOURCE;
	message->option.length = 1;
	ip->payload_len = RTE_BE16(20);
	mend(frame);
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ND, HR_DROP_ND));
	ip->payload_len = RTE_BE16(HR_ND_LEN);
	mend(frame);
	CHECK(drops(frame, sizeof(frame) - 1, HR_EDGE_ND, HR_DROP_ND));
	message->option.mac.addr_bytes[0] |= 1;
	mend(frame);
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ND, HR_DROP_ND));

	/* Spoofers, and questions that are not ours to answer. */
	hr_write_solicitation(frame, NULL, vm_mac, far6, gateway6);
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ND, HR_DROP_ND));
	hr_write_solicitation(frame, NULL, vm_mac, hr_ip6_gateway, gateway6);
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ND, HR_DROP_ND));
	CHECK(nothing_learned());
	hr_write_solicitation(frame, NULL, vm_mac, vm6, far6);
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ND, HR_DROP_ND) && event(&e));

	/* RFC 4389: for what is routed elsewhere, but not to who only tests whether it is free. */
	hr_write_solicitation(frame, NULL, vm_mac, vm6, peer6);
	m = pass(new_packet(frame, sizeof(frame)), HR_EDGE_ND, HR_EDGE_TX);
	CHECK(m != NULL && is_to(m, &vm, &vm_mac) && event(&e));
	rte_pktmbuf_free(m);
	hr_write_solicitation(frame, NULL, vm_mac, hr_ip6_unspecified, peer6);
	ip->payload_len = RTE_BE16(24);
	mend(frame);
	CHECK(drops(frame, sizeof(frame) - 8, HR_EDGE_ND, HR_DROP_ND));

	/* Duplicate address detection: to everyone, and nothing learned. */
	hr_write_solicitation(frame, NULL, vm_mac, hr_ip6_unspecified, gateway6);
	ip->payload_len = RTE_BE16(24);
	mend(frame);
	m = pass(new_packet(frame, sizeof(frame) - 8), HR_EDGE_ND, HR_EDGE_TX);
	CHECK(is_advertisement(m, &vm, &all_nodes_mac, &hr_ip6_all_nodes, &gateway6, flags));
	CHECK(nothing_learned());

	/* Advertisements: of its own addresses only. */
	hr_write_advertisement(frame, gateway_mac, vm_mac, hr_ip6_gateway, vm6,
			ND_NA_FLAG_SOLICITED);
	CHECK(pass(new_packet(frame, sizeof(frame)), HR_EDGE_ND, HR_EDGE_TX) == NULL);
	CHECK(event(&e) && e.solicited && !e.override && hr_ip6_equal(&e.addr.ip6, &vm6));
	message->target = gateway6;
	mend(frame);
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ND, HR_DROP_ND) && nothing_learned());

	/* A router is answered for, and not listened to. */
	memset(message, 0, sizeof(*message));
	message->icmp.type = ND_ROUTER_SOLICIT;
	ip->payload_len = RTE_BE16(8);
	mend(frame);
	m = pass(new_packet(frame, HR_L2_LEN + 48), HR_EDGE_ND, HR_EDGE_TX);
	CHECK(m != NULL && is_to(m, &vm, &vm_mac) && m->pkt_len == HR_ND_FRAME_LEN);
	ra = rte_pktmbuf_mtod_offset(m, const struct hr_nd_router *, HR_L2_LEN + 40);
	CHECK(ra->icmp.type == ND_ROUTER_ADVERT && ra->mtu == RTE_BE32(1460));
	CHECK(hr_icmp6_checksum((const void *)((const uint8_t *)ra - 40), ra, HR_ND_LEN) == 0);
	rte_pktmbuf_free(m);
	hr_write_router(frame, all_nodes_mac, vm_mac, hr_ip6_all_nodes, 1500);
	memcpy(&ip->src_addr, &vm_link_local, 16);
	mend(frame);
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ND, HR_DROP_ND) && nothing_learned());
}

static void
test_nd_of_an_uplink(void)
{
	uint8_t frame[HR_ND_FRAME_LEN];
	const rte_be32_t flags = ND_NA_FLAG_OVERRIDE | ND_NA_FLAG_SOLICITED;
	struct hr_event e;
	struct rte_mbuf *m;

	worker.in = &uplink;
	hr_write_solicitation(frame, NULL, vm_mac, neighbour6, uplink6);
	m = pass(new_packet(frame, sizeof(frame)), HR_EDGE_ND, HR_EDGE_TX);
	CHECK(is_advertisement(m, &uplink, &vm_mac, &neighbour6, &uplink6, flags));
	CHECK(event(&e) && e.port == UPLINK && hr_ip6_equal(&e.addr.ip6, &neighbour6));
	hr_write_solicitation(frame, NULL, vm_mac, neighbour6, underlay6);
	m = pass(new_packet(frame, sizeof(frame)), HR_EDGE_ND, HR_EDGE_TX);
	CHECK(is_advertisement(m, &uplink, &vm_mac, &neighbour6, &underlay6, flags));
	CHECK(event(&e));
	/* The node's own address with a VNI in it is ours where the Pipeline's prefix is known. */
	hr_write_solicitation(frame, NULL, vm_mac, neighbour6, source6);
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ND, HR_DROP_ND) && event(&e));
	uplink.own_free = HR_VNI_BITS;
	m = pass(new_packet(frame, sizeof(frame)), HR_EDGE_ND, HR_EDGE_TX);
	CHECK(is_advertisement(m, &uplink, &vm_mac, &neighbour6, &source6, flags));
	CHECK(event(&e));
	hr_write_advertisement(frame, uplink_mac, vm_mac, source6, source6, flags);
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ND, HR_DROP_ND) && nothing_learned());
	hr_write_solicitation(frame, NULL, vm_mac, neighbour6, other6);
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ND, HR_DROP_ND) && event(&e));
	uplink.own_free = 0;
	/* No one else may have our addresses. */
	hr_write_advertisement(frame, uplink_mac, vm_mac, uplink6, underlay6, flags);
	CHECK(drops(frame, sizeof(frame), HR_EDGE_ND, HR_DROP_ND) && nothing_learned());
}

/* Echo */

static uint16_t
make_ip4(uint8_t *frame, rte_be32_t src, rte_be32_t dst, uint8_t protocol, uint16_t payload)
{
	struct rte_ipv4_hdr *ip = RTE_PTR_ADD(frame, HR_L2_LEN);

	hr_write_ether(frame, gateway_mac, vm_mac, RTE_ETHER_TYPE_IPV4);
	*ip = (struct rte_ipv4_hdr){
			.version_ihl = RTE_IPV4_VHL_DEF,
			.total_length = rte_cpu_to_be_16(sizeof(*ip) + payload),
			.time_to_live = 9,
			.next_proto_id = protocol,
			.src_addr = src,
			.dst_addr = dst,
	};
	ip->hdr_checksum = rte_ipv4_cksum(ip);
	for (uint16_t i = 0; i < payload; i++)
		((uint8_t *)(ip + 1))[i] = i;
	return HR_L2_LEN + sizeof(*ip) + payload;
}

static uint16_t
make_ip6(uint8_t *frame, struct hr_ip6 src, struct hr_ip6 dst, uint8_t protocol, uint16_t payload)
{
	struct rte_ipv6_hdr *ip = RTE_PTR_ADD(frame, HR_L2_LEN);

	hr_write_ether(frame, gateway_mac, vm_mac, RTE_ETHER_TYPE_IPV6);
	hr_write_ip6(ip, src, dst, payload, 9);
	ip->proto = protocol;
	for (uint16_t i = 0; i < payload; i++)
		((uint8_t *)(ip + 1))[i] = i;
	return HR_L2_LEN + sizeof(*ip) + payload;
}

static void
test_echo(void)
{
	uint8_t frame[1600];
	struct rte_ipv4_hdr *ip4 = RTE_PTR_ADD(frame, HR_L2_LEN);
	struct rte_ipv6_hdr *ip6 = RTE_PTR_ADD(frame, HR_L2_LEN);
	struct hr_icmp *icmp = (void *)(ip4 + 1);
	struct hr_icmp *icmp6 = (void *)(ip6 + 1);
	uint16_t length;
	struct rte_mbuf *m;

	worker.in = &vm;
	for (unsigned payload = 8; payload < 1400; payload += 7) {
		const struct rte_ipv4_hdr *ip;
		const struct hr_icmp *answer;

		length = make_ip4(frame, VM4, GATEWAY4, IPPROTO_ICMP, payload);
		icmp->type = ICMP_ECHO;
		icmp->code = icmp->checksum = 0;
		icmp->checksum = (uint16_t)~rte_raw_cksum(icmp, payload);
		m = pass(new_packet(frame, length), HR_EDGE_LOCAL, HR_EDGE_TX);
		CHECK(m != NULL && is_to(m, &vm, &vm_mac) && m->pkt_len == length);
		ip = rte_pktmbuf_mtod_offset(m, const struct rte_ipv4_hdr *, HR_L2_LEN);
		answer = (const void *)(ip + 1);
		CHECK(ip->src_addr == GATEWAY4 && ip->dst_addr == VM4 && ip->time_to_live == 64);
		CHECK(rte_raw_cksum(ip, sizeof(*ip)) == 0xffff);
		CHECK(answer->type == ICMP_ECHOREPLY && rte_raw_cksum(answer, payload) == 0xffff);
		CHECK(memcmp(answer + 1, icmp + 1, payload - 4) == 0);
		rte_pktmbuf_free(m);

		length = make_ip6(frame, vm6, gateway6, IPPROTO_ICMPV6, payload);
		*icmp6 = (struct hr_icmp){.type = ICMP6_ECHO_REQUEST};
		mend(frame);
		m = pass(new_packet(frame, length), HR_EDGE_LOCAL, HR_EDGE_TX);
		CHECK(m != NULL && is_to(m, &vm, &vm_mac) && m->pkt_len == length);
		ip6 = rte_pktmbuf_mtod_offset(m, struct rte_ipv6_hdr *, HR_L2_LEN);
		CHECK(memcmp(&ip6->src_addr, &gateway6, 16) == 0);
		CHECK(memcmp(&ip6->dst_addr, &vm6, 16) == 0 && ip6->hop_limits == 64);
		CHECK(((const struct hr_icmp *)(ip6 + 1))->type == ICMP6_ECHO_REPLY);
		CHECK(hr_icmp6_checksum(ip6, ip6 + 1, payload) == 0);
		rte_pktmbuf_free(m);
		ip6 = RTE_PTR_ADD(frame, HR_L2_LEN);
	}
	/* What is not answered. */
	memcpy(&ip6->dst_addr, &hr_ip6_all_nodes, 16);
	CHECK(drops(frame, length, HR_EDGE_LOCAL, HR_DROP_MULTICAST));
	memcpy(&ip6->dst_addr, &far6, 16);
	CHECK(drops(frame, length, HR_EDGE_LOCAL, HR_DROP_LOCAL));
	length = make_ip6(frame, vm6, gateway6, IPPROTO_UDP, 100);
	CHECK(drops(frame, length, HR_EDGE_LOCAL, HR_DROP_LOCAL));
	length = make_ip4(frame, VM4, GATEWAY4, IPPROTO_TCP, 100);
	CHECK(drops(frame, length, HR_EDGE_LOCAL, HR_DROP_LOCAL));
	length = make_ip4(frame, VM4, RTE_BE32(0xe0000001), IPPROTO_ICMP, 100);
	CHECK(drops(frame, length, HR_EDGE_LOCAL, HR_DROP_MULTICAST));
	length = make_ip4(frame, VM4, GATEWAY4, IPPROTO_ICMP, 100);
	icmp->type = ICMP_ECHO;
	ip4->fragment_offset = RTE_BE16(RTE_IPV4_HDR_MF_FLAG);
	CHECK(drops(frame, length, HR_EDGE_LOCAL, HR_DROP_LOCAL));
	ip4->fragment_offset = 0;
	hr_worker_settings.icmp_per_second = 0;
	CHECK(drops(frame, length, HR_EDGE_LOCAL, HR_DROP_ICMP_RATE));
	hr_worker_settings.icmp_per_second = 1000;

	/* Neighbour discovery comes this way too; an uplink answers for its Interfaces. */
	hr_write_solicitation(frame, NULL, vm_mac, vm6, gateway6);
	m = pass(new_packet(frame, HR_ND_FRAME_LEN), HR_EDGE_LOCAL, HR_EDGE_ND);
	CHECK(m != NULL);
	rte_pktmbuf_free(m);
	worker.in = &uplink;
	length = make_ip6(frame, neighbour6, underlay6, IPPROTO_ICMPV6, 64);
	icmp6->type = ICMP6_ECHO_REQUEST;
	m = pass(new_packet(frame, length), HR_EDGE_LOCAL, HR_EDGE_TX);
	CHECK(m != NULL && is_to(m, &uplink, &vm_mac));
	rte_pktmbuf_free(m);
}

/* Errors */

/** Pass a packet that gets an error, or NULL; the packet itself counts under `reason`. */
static struct rte_mbuf *
fails(struct rte_mbuf *m, uint8_t type, uint8_t code, uint16_t mtu, enum hr_drop reason)
{
	uint64_t *count = &worker.ports[worker.in->port].drops[reason], before = *count;
	struct rte_mbuf *out;

	hr_icmp_error_mark(m, type, code, mtu, reason);
	out = pass(m, HR_EDGE_ICMP_ERROR, HR_EDGE_TX);
	CHECK(*count == before + 1);
	return out;
}

static void
test_errors_about_ip4(void)
{
	uint8_t frame[1600];
	struct rte_ipv4_hdr *ip = RTE_PTR_ADD(frame, HR_L2_LEN);
	const struct rte_ipv4_hdr *error;
	const struct hr_icmp *icmp;
	uint32_t next_mtu;
	uint16_t length;
	struct rte_mbuf *m;

	worker.in = &vm;
	length = make_ip4(frame, VM4, FAR4, IPPROTO_UDP, 1400);
	m = fails(new_packet(frame, length), ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, 1280,
			HR_DROP_MTU);
	CHECK(m != NULL && is_to(m, &vm, &vm_mac) && m->pkt_len == HR_L2_LEN + ERROR4_MAX);
	error = rte_pktmbuf_mtod_offset(m, const struct rte_ipv4_hdr *, HR_L2_LEN);
	icmp = (const void *)(error + 1);
	CHECK(rte_raw_cksum(error, sizeof(*error)) == 0xffff);
	CHECK(error->total_length == RTE_BE16(ERROR4_MAX) && error->next_proto_id == IPPROTO_ICMP);
	CHECK(error->src_addr == GATEWAY4 && error->dst_addr == VM4 && error->time_to_live == 64);
	memcpy(&next_mtu, icmp + 1, sizeof(next_mtu));
	CHECK(icmp->type == 3 && icmp->code == 4 && next_mtu == RTE_BE32(1280));
	CHECK(rte_raw_cksum(icmp, ERROR4_MAX - sizeof(*error)) == 0xffff);
	CHECK(memcmp((const uint8_t *)icmp + 8, ip, ERROR4_MAX - 28) == 0);
	rte_pktmbuf_free(m);

	length = make_ip4(frame, VM4, FAR4, IPPROTO_UDP, 8);
	m = fails(new_packet(frame, length), ICMP_TIME_EXCEEDED, 0, 0, HR_DROP_TTL);
	CHECK(m != NULL && m->pkt_len == length + 28u);
	rte_pktmbuf_free(m);

	/* In several segments. */
	m = new_packet(frame, HR_L2_LEN + 20);
	CHECK(rte_pktmbuf_chain(m, new_packet(frame + HR_L2_LEN + 20, 8)) == 0);
	m = fails(m, ICMP_TIME_EXCEEDED, 0, 0, HR_DROP_TTL);
	CHECK(m != NULL && m->pkt_len == length + 28u);
	CHECK(memcmp(rte_pktmbuf_mtod_offset(m, uint8_t *, HR_L2_LEN + 28), ip, 28) == 0);
	rte_pktmbuf_free(m);

	/* RFC 1812 4.3.2.7 */
	ip->fragment_offset = RTE_BE16(1);
	CHECK(fails(new_packet(frame, length), 11, 0, 0, HR_DROP_TTL) == NULL);
	length = make_ip4(frame, VM4, FAR4, IPPROTO_ICMP, 8);
	((uint8_t *)(ip + 1))[0] = ICMP_DEST_UNREACH;
	CHECK(fails(new_packet(frame, length), 11, 0, 0, HR_DROP_TTL) == NULL);
	((uint8_t *)(ip + 1))[0] = ICMP_ECHO;
	m = fails(new_packet(frame, length), 11, 0, 0, HR_DROP_TTL);
	CHECK(m != NULL);
	rte_pktmbuf_free(m);
	length = make_ip4(frame, 0, FAR4, IPPROTO_UDP, 8);
	CHECK(fails(new_packet(frame, length), 11, 0, 0, HR_DROP_TTL) == NULL);
	length = make_ip4(frame, RTE_BE32(0xe0000001), FAR4, IPPROTO_UDP, 8);
	CHECK(fails(new_packet(frame, length), 11, 0, 0, HR_DROP_TTL) == NULL);
	length = make_ip4(frame, VM4, RTE_BE32(0xe0000001), IPPROTO_UDP, 8);
	CHECK(fails(new_packet(frame, length), 11, 0, 0, HR_DROP_TTL) == NULL);
	length = make_ip4(frame, VM4, FAR4, IPPROTO_UDP, 8);
	frame[0] |= 1;
	CHECK(fails(new_packet(frame, length), 11, 0, 0, HR_DROP_TTL) == NULL);
	frame[0] &= ~1;

	/* Over the rate: dropped for the same reason. */
	hr_worker_settings.icmp_per_second = 0;
	CHECK(fails(new_packet(frame, length), 11, 0, 0, HR_DROP_TTL) == NULL);
	hr_worker_settings.icmp_per_second = 1000;
	worker.trusted = true;
	CHECK(fails(new_packet(frame, length), 11, 0, 0, HR_DROP_TTL) == NULL);
	worker.trusted = false;
}

static void
test_errors_about_ip6(void)
{
	uint8_t frame[1600];
	struct rte_ipv6_hdr *ip = RTE_PTR_ADD(frame, HR_L2_LEN);
	uint8_t *payload = (uint8_t *)(ip + 1);
	const struct rte_ipv6_hdr *error;
	const struct hr_icmp *icmp;
	uint16_t length;
	uint32_t mtu;
	struct rte_mbuf *m;
	void *ring = NULL;

	worker.in = &vm;
	length = make_ip6(frame, vm6, far6, IPPROTO_UDP, 1400);
	m = fails(new_packet(frame, length), ICMP6_PACKET_TOO_BIG, 0, 1300, HR_DROP_MTU);
	CHECK(m != NULL && is_to(m, &vm, &vm_mac) && m->pkt_len == HR_L2_LEN + ERROR6_MAX);
	error = rte_pktmbuf_mtod_offset(m, const struct rte_ipv6_hdr *, HR_L2_LEN);
	icmp = (const void *)(error + 1);
	CHECK(memcmp(&error->src_addr, &gateway6, 16) == 0);
	CHECK(memcmp(&error->dst_addr, &vm6, 16) == 0);
	CHECK(icmp->type == ICMP6_PACKET_TOO_BIG && icmp->code == 0);
	memcpy(&mtu, icmp + 1, sizeof(mtu));
	CHECK(mtu == RTE_BE32(1300));
	CHECK(hr_icmp6_checksum(error, icmp, ERROR6_MAX - 40) == 0);
	CHECK(memcmp((const uint8_t *)icmp + 8, ip, ERROR6_MAX - 48) == 0);
	rte_pktmbuf_free(m);

	/* RFC 4443 2.4 e */
	length = make_ip6(frame, vm6, far6, IPPROTO_ICMPV6, 64);
	payload[0] = ICMP6_DST_UNREACH;
	CHECK(fails(new_packet(frame, length), 3, 0, 0, HR_DROP_TTL) == NULL);
	payload[0] = ICMP6_ECHO_REQUEST;
	m = fails(new_packet(frame, length), 3, 0, 0, HR_DROP_TTL);
	CHECK(m != NULL);
	rte_pktmbuf_free(m);
	/* The same behind a hop-by-hop header; cut off; in a fragment that is not the first. */
	ip->proto = IPPROTO_HOPOPTS;
	payload[0] = IPPROTO_ICMPV6;
	payload[1] = 1;
	payload[16] = ICMP6_TIME_EXCEEDED;
	CHECK(fails(new_packet(frame, length), 3, 0, 0, HR_DROP_TTL) == NULL);
	payload[16] = ICMP6_ECHO_REPLY;
	m = fails(new_packet(frame, length), 3, 0, 0, HR_DROP_TTL);
	CHECK(m != NULL);
	rte_pktmbuf_free(m);
	payload[1] = 200;
	CHECK(fails(new_packet(frame, length), 3, 0, 0, HR_DROP_TTL) == NULL);
	ip->proto = IPPROTO_FRAGMENT;
	payload[0] = IPPROTO_UDP;
	payload[2] = 1;
	CHECK(fails(new_packet(frame, length), 3, 0, 0, HR_DROP_TTL) == NULL);
	length = make_ip6(frame, hr_ip6_unspecified, far6, IPPROTO_UDP, 64);
	CHECK(fails(new_packet(frame, length), 3, 0, 0, HR_DROP_TTL) == NULL);
	length = make_ip6(frame, vm6, hr_ip6_all_nodes, IPPROTO_UDP, 64);
	CHECK(fails(new_packet(frame, length), 3, 0, 0, HR_DROP_TTL) == NULL);
	m = fails(new_packet(frame, length), ICMP6_PACKET_TOO_BIG, 0, 1300, HR_DROP_MTU);
	CHECK(m != NULL);
	rte_pktmbuf_free(m);

	/* Decapsulated: the error is routed in the network of the Interface it was for. */
	worker.in = &uplink;
	length = make_ip6(frame, far6, vm6, IPPROTO_UDP, 1400);
	m = new_packet(frame, length);
	m->port = VM;
	CHECK(fails(m, ICMP6_PACKET_TOO_BIG, 0, 1300, HR_DROP_MTU) == NULL);
	CHECK(rte_ring_sc_dequeue(worker.inject, &ring) == 0);
	m = ring;
	CHECK((m->hash.fdir.hi & 0xff) == HR_INJECT_ROUTE && m->port == VM);
	error = rte_pktmbuf_mtod_offset(m, const struct rte_ipv6_hdr *, HR_L2_LEN);
	CHECK(memcmp(&error->dst_addr, &far6, 16) == 0);
	rte_pktmbuf_free(m);
}

/* Limits */

/** Ping the gateway once. @return whether it answers */
static bool
pings(const struct hr_port_ctx *from)
{
	uint8_t frame[100];
	const uint16_t length = make_ip4(frame, VM4, GATEWAY4, IPPROTO_ICMP, 50);
	struct rte_mbuf *m;

	worker.in = from;
	frame[HR_L2_LEN + 20] = ICMP_ECHO;
	m = pass(new_packet(frame, length), HR_EDGE_LOCAL, HR_EDGE_TX);
	rte_pktmbuf_free(m);
	return m != NULL;
}

/** Send a packet that is too big for its way out. @return whether the sender is told */
static bool
is_told(const struct hr_port_ctx *from)
{
	uint8_t frame[100];
	const uint16_t length = make_ip4(frame, VM4, FAR4, IPPROTO_UDP, 50);
	struct rte_mbuf *m;

	worker.in = from;
	m = fails(new_packet(frame, length), ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, 60, HR_DROP_MTU);
	rte_pktmbuf_free(m);
	return m != NULL;
}

/** Have a packet come by the uplink that is too big. @return whether the sender is told */
static bool
is_told_beyond(const struct hr_port_ctx *to)
{
	uint8_t frame[100];
	const uint16_t length = make_ip4(frame, FAR4, VM4, IPPROTO_UDP, 50);
	struct rte_mbuf *m;
	void *error;

	worker.in = &uplink;
	m = new_packet(frame, length);
	m->port = to->port;
	CHECK(fails(m, ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, 60, HR_DROP_MTU) == NULL);
	if (rte_ring_sc_dequeue(worker.inject, &error) != 0)
		return false;
	rte_pktmbuf_free(error);
	return true;
}

/** Whatever is used up at one Interface: nothing else there falls silent, and nothing elsewhere. */
static void
test_icmp_limits(void)
{
	bool (*const uses[])(const struct hr_port_ctx *) = {pings, is_told, is_told_beyond};
	const uint64_t usual = interval;
	struct hr_port_ctx other = vm;

	other.port = OTHER;
	hr_port_ctx[OTHER] = &other;
	for (unsigned used = 0; used < RTE_DIM(uses); used++) {
		worker.now += usual;
		interval = 0;
		while (uses[used](&vm))
			;
		for (unsigned i = 0; i < RTE_DIM(uses); i++)
			CHECK(uses[i](&other) && (i == used || uses[i](&vm)));
		interval = usual;
	}
	hr_port_ctx[OTHER] = &uplink;
}

/** Errors on their way to be routed leave room for what the control thread asks and sends on. */
static void
test_errors_leave_room_for_the_control_thread(void)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(hr_pool);
	void *taken;

	CHECK(m != NULL);
	m->port = VM;
	while (hr_inject(&worker, m, HR_INJECT_ROUTE))
		;
	CHECK(hr_inject(&worker, m, HR_INJECT_SEND) && hr_inject(&worker, m, HR_INJECT_ADJ));
	while (rte_ring_sc_dequeue(worker.inject, &taken) == 0)
		;
	rte_pktmbuf_free(m);
}

/** Frames bent at random: whatever they are, each leaves by some edge or counts as a drop. */
static void
test_bent_frames(void)
{
	static const enum hr_edge to[] = {
			HR_EDGE_ARP, HR_EDGE_ND, HR_EDGE_LOCAL, HR_EDGE_ICMP_ERROR};
	uint8_t frame[200];
	struct hr_event e;
	void *ring;

	srandom(1);
	for (unsigned i = 0; i < 200000; i++) {
		const enum hr_edge node = to[random() % RTE_DIM(to)];
		unsigned length, left = 0;
		struct rte_node *next;
		struct rte_mbuf *m;
		void *objs[1];

		worker.in = random() % 2 ? &vm : &uplink;
		memset(frame, 0, sizeof(frame));
		switch (random() % 4) {
		case 0:
			hr_write_arp(frame, 1 + random() % 2, gateway_mac, vm_mac, VM4, vm_mac,
					GATEWAY4);
			length = 60;
			break;
		case 1:
			hr_write_solicitation(frame, NULL, vm_mac, vm6, gateway6);
			length = HR_ND_FRAME_LEN;
			break;
		case 2:
			length = make_ip4(frame, VM4, GATEWAY4, IPPROTO_ICMP, random() % 64);
			break;
		default:
			length = make_ip6(frame, vm6, gateway6, random() % 2 ? 58 : 0,
					random() % 64);
		}
		for (unsigned n = random() % 4; n > 0; n--)
			frame[12 + random() % (length - 12)] = random();
		if (node == HR_EDGE_ND && frame[18] == 0 && frame[19] < 100)
			mend(frame);
		/* Upstream nodes have looked at the fixed IP header. */
		length = RTE_MAX(length - random() % 8, HR_L2_LEN + 40u);
		m = new_packet(frame, length);
		m->port = VM;
		if (node == HR_EDGE_ICMP_ERROR)
			hr_icmp_error_mark(m, 3, 0, 1280, HR_DROP_TTL);
		objs[0] = m;
		next = rte_graph_node_get_by_name("test", edges[node]);
		worker.now += rte_get_tsc_hz() / 500;
		next->process(rte_graph_lookup("test"), next, objs, 1);
		for (unsigned j = 0; j < HR_EDGE_COUNT; j++) {
			next = rte_graph_node_get_by_name("test", edges[j]);
			for (; next->idx > 0; left++)
				rte_pktmbuf_free(next->objs[--next->idx]);
		}
		CHECK(left <= 1);
		while (rte_ring_sc_dequeue(worker.inject, &ring) == 0)
			rte_pktmbuf_free(ring);
		while (hr_events_take(&e, 1) == 1)
			CHECK(e.type == HR_EVENT_SEEN);
	}
}

/**
 * Have a packet wait for its adjacency's neighbour.
 *
 * @param reason that it drops for if it does not; HR_DROP_COUNT: it does
 * @return whether it was given to the control thread
 */
static bool
waits(const struct hr_port_ctx *in, uint32_t adj, enum hr_drop reason)
{
	uint8_t frame[100];
	const uint16_t length = make_ip4(frame, VM4, FAR4, IPPROTO_UDP, 50);
	const unsigned before = rte_mempool_avail_count(hr_pool);
	uint64_t drops[HR_DROP_COUNT];
	struct rte_mbuf *m;

	memcpy(drops, worker.ports[in->port].drops, sizeof(drops));
	worker.in = in;
	m = new_packet(frame, length);
	hr_adj_mark(m, adj);
	CHECK(pass(m, HR_EDGE_RESOLVE, HR_EDGE_TX) == NULL);
	if (memcmp(drops, worker.ports[in->port].drops, sizeof(drops)) == 0)
		return true;
	CHECK(reason != HR_DROP_COUNT);
	CHECK(worker.ports[in->port].drops[reason] == drops[reason] + 1);
	CHECK(rte_mempool_avail_count(hr_pool) == before);
	return false;
}

static void
test_resolve(void)
{
	uint8_t frame[100];
	const uint16_t length = make_ip4(frame, VM4, FAR4, IPPROTO_UDP, 50);
	const uint32_t other = hr_adj_alloc();
	struct rte_mbuf *m;
	struct hr_event e;

	hr_adjs[other] = (struct hr_adj){.op = HR_OP_RESOLVE, .port = OTHER};

	worker.in = &uplink;
	m = new_packet(frame, length);
	m->port = VM;
	hr_adj_mark(m, vm.adj);
	CHECK(pass(m, HR_EDGE_RESOLVE, HR_EDGE_TX) == NULL);
	CHECK(event(&e) && e.type == HR_EVENT_RESOLVE && e.packet == m);
	CHECK(m->port == UPLINK && m->hash.fdir.lo == vm.adj);
	/* Of the ring it takes the receiver's share alone. */
	CHECK(e.port == UPLINK && e.share == VM);
	rte_pktmbuf_free(m);
	e = (struct hr_event){.type = HR_EVENT_RESOLVE, .share = VM};
	while (hr_event_post(&worker, &e))
		;
	CHECK(!waits(&uplink, vm.adj, HR_DROP_CONTROL_FULL));
	CHECK(!waits(&vm, vm.adj, HR_DROP_CONTROL_FULL));
	CHECK(waits(&uplink, other, HR_DROP_COUNT));
	while (hr_events_take(&e, 1) == 1)
		rte_pktmbuf_free(e.packet);
}

/** What the control thread has no use for, the worker drops. */
static void
test_resolve_in_vain(void)
{
	const uint64_t usual = interval;
	struct hr_port_ctx other = vm;
	unsigned n = 0;

	other.port = OTHER;
	hr_adjs[vm.adj].op = HR_OP_UNREACHABLE;
	CHECK(!waits(&vm, vm.adj, HR_DROP_UNRESOLVED));
	CHECK(!waits(&uplink, vm.adj, HR_DROP_UNRESOLVED));
	/* Too many wait for it. Who floods keeps nobody else from getting a place. */
	hr_adjs[vm.adj].op = HR_OP_CROWDED;
	worker.now += usual;
	interval = 0;
	while (waits(&vm, vm.adj, HR_DROP_RESOLVE_QUEUE))
		n++;
	CHECK(n == HR_CROWDED_BURST);
	CHECK(waits(&other, vm.adj, HR_DROP_COUNT));
	interval = usual;
	CHECK(waits(&vm, vm.adj, HR_DROP_COUNT));
	hr_adjs[vm.adj].op = HR_OP_RESOLVE;
	for (struct hr_event e; hr_events_take(&e, 1) == 1;)
		rte_pktmbuf_free(e.packet);
}

/** It has waited, and by now a commit has its adjacency wait once more. */
static void
test_waits_again(void)
{
	struct rte_node *rx = rte_graph_node_get_by_name("test", "headrace-rx");
	struct rte_node *resolve = rte_graph_node_get_by_name("test", "headrace-resolve");
	uint8_t frame[100];
	struct rte_mbuf *m = new_packet(frame, make_ip4(frame, VM4, FAR4, IPPROTO_UDP, 50));

	m->port = UPLINK;
	hr_adj_mark(m, vm.adj);
	CHECK(hr_inject(&worker, m, HR_INJECT_ADJ));
	CHECK(rx->process(rte_graph_lookup("test"), rx, NULL, 0) == 1);
	CHECK(resolve->idx == 1 && resolve->objs[0] == m && hr_adj_mark_holds(m));
	CHECK(worker.in == &uplink);
	resolve->idx = 0;
	rte_pktmbuf_free(m);
}

int
main(void)
{
	char prefix[32];
	char *argv[] = {"exceptions_test", "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry",
			"-m", "64", "--lcores", "0", "--log-level=error", "--file-prefix", prefix};
	const char *patterns[] = {"headrace-*"};
	struct rte_graph_param param = {
			.socket_id = SOCKET_ID_ANY,
			.nb_node_patterns = 1,
			.node_patterns = patterns,
	};
	struct hr_worker *self = &worker;
	unsigned free_buffers;

	snprintf(prefix, sizeof(prefix), "test-exceptions-%d", (int)getpid());
	CHECK(rte_eal_init(RTE_DIM(argv), argv) >= 0);
	hr_pool = rte_pktmbuf_pool_create("test", 2047, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
			SOCKET_ID_ANY);
	worker.inject = rte_ring_create("inject", 64, SOCKET_ID_ANY, RING_F_SC_DEQ);
	CHECK(hr_pool != NULL && worker.inject != NULL);
	CHECK(hr_rcu_init(1) == 0 && hr_adj_init() == 0 && hr_events_init() == 0);
	CHECK(rte_graph_create("test", &param) != RTE_GRAPH_ID_INVALID);
	memcpy(rte_graph_node_get_by_name("test", "headrace-rx")->ctx, &self, sizeof(self));
	for (unsigned i = 0; i < HR_EDGE_COUNT; i++)
		memcpy(rte_graph_node_get_by_name("test", edges[i])->ctx, &self, sizeof(self));
	vm.mac = gateway_mac;
	vm.adj = hr_adj_alloc();
	hr_adjs[vm.adj].op = HR_OP_RESOLVE;
	hr_adjs[vm.adj].port = VM;
	make_routes();
	uplink.mac = uplink_mac;
	locals.slot[hr_locals_slot(&underlay6)].addr = underlay6;
	locals.slot[hr_locals_slot(&underlay6)].adj = vm.adj;
	hr_locals = &locals;
	for (unsigned i = 0; i < HR_MAX_PORTS; i++)
		hr_port_ctx[i] = &uplink;
	hr_port_ctx[VM] = &vm;
	hr_pool_waiting = UINT32_MAX;
	free_buffers = rte_mempool_avail_count(hr_pool);
	interval = rte_get_tsc_hz();

	test_receive();
	test_least_burst();
	test_injected();
	test_handed_over();
	test_receive_in_pieces();
	test_send_in_pieces();
	test_trim_pieces();
	test_arp();
	test_nd_of_an_interface();
	test_nd_of_an_uplink();
	test_echo();
	test_errors_about_ip4();
	test_errors_about_ip6();
	test_icmp_limits();
	test_errors_leave_room_for_the_control_thread();
	test_resolve();
	test_resolve_in_vain();
	test_waits_again();
	test_bent_frames();

	CHECK(rte_mempool_avail_count(hr_pool) == free_buffers);
	return 0;
}
