/* SPDX-License-Identifier: Apache-2.0 */
/** @file Neighbours: what they ask, learn and forget, by a clock of the test's own. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_eal.h>

#include "../kinds/interface.h"
#include "../packet/arp.h"
#include "../packet/nd.h"
#include "../tests/check.h"
#include "adj.h"
#include "event.h"
#include "neigh.h"
#include "neigh_adj.h"
#include "neigh_event.h"
#include "neigh_queue.h"
#include "neigh_timer.h"

#define PORT 3

static const struct rte_ether_addr own_mac = {{2, 0, 0, 0, 0, 1}};
static const struct rte_ether_addr mac_a = {{2, 0, 0, 0, 0, 0xa}};
static const struct rte_ether_addr mac_b = {{2, 0, 0, 0, 0, 0xb}};
static const struct rte_ether_addr no_mac;
static const struct hr_ip6 link_local = {.b = {0xfe, 0x80, [15] = 0x77}};
static const struct hr_ip6 hop = {.b = {0xfd, [13] = 0x12, 0x34, 0x56}};

static struct hr_worker worker;
static struct hr_port_ctx ctx = {
		.port = PORT,
		.role = HR_ROLE_INTERFACE,
		.mtu = 1460,
};
/** The test's clock. Never zero, so that nothing passes for being zero. */
static uint64_t now_ms = 5000000;

static struct hr_addr
ip4(uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
	return (struct hr_addr){.family = 4,
			.ip4 = rte_cpu_to_be_32((uint32_t)a << 24 | b << 16 | c << 8 | d)};
}

static struct hr_addr
ip6(const struct hr_ip6 *addr)
{
	return (struct hr_addr){.family = 6, .ip6 = *addr};
}

static void
advance(uint64_t ms)
{
	const uint64_t end = now_ms + ms;

	for (; now_ms < end; now_ms += RTE_MIN(10u, end - now_ms))
		hr_neigh_tick(now_ms);
	hr_neigh_tick(now_ms);
}

/** Advance until a neighbour is in a state, for at most that long. */
static void
advance_to(const struct hr_neigh *neigh, enum hr_neigh_state state, uint64_t ms)
{
	for (const uint64_t end = now_ms + ms; now_ms < end;) {
		if (hr_neigh_state(neigh, NULL) == state)
			return;
		advance(10);
	}
	CHECK(hr_neigh_state(neigh, NULL) == state);
}

/** The next packet injected, or NULL. */
static struct rte_mbuf *
injected(void)
{
	void *m;

	return rte_ring_sc_dequeue(worker.inject, &m) == 0 ? m : NULL;
}

static unsigned
discard(void)
{
	struct rte_mbuf *m;
	unsigned n = 0;

	for (; (m = injected()) != NULL; n++)
		rte_pktmbuf_free(m);
	return n;
}

static uint32_t
new_adj(enum hr_op ready_op)
{
	const uint32_t adj = hr_adj_alloc();

	CHECK(adj != 0);
	hr_adjs[adj].ready_op = ready_op;
	hr_adjs[adj].port = PORT;
	return adj;
}

/** A packet that waits for an adjacency, as the resolve node posts it; `id` tells it apart. */
static void
packet_from(uint16_t port, uint32_t adj, uint16_t id)
{
	struct hr_event event = {.type = HR_EVENT_RESOLVE, .port = port, .share = port};

	event.packet = rte_pktmbuf_alloc(hr_pool);
	CHECK(event.packet != NULL);
	event.packet->port = port;
	event.packet->vlan_tci = id;
	hr_adj_mark(event.packet, adj);
	CHECK(hr_event_post(&worker, &event));
	hr_events_poll(now_ms);
}

static void
packet(uint32_t adj, uint16_t id)
{
	packet_from(PORT, adj, id);
}

static void
seen(struct hr_addr addr, struct rte_ether_addr mac, bool solicited, bool override)
{
	const struct hr_event event = {
			.type = HR_EVENT_SEEN,
			.port = PORT,
			.addr = addr,
			.mac = mac,
			.solicited = solicited,
			.override = override,
	};

	CHECK(hr_event_post(&worker, &event));
	hr_events_poll(now_ms);
}

/** Make so many next hops, each with an adjacency. */
static void
next_hops(struct hr_neigh **neighs, uint32_t *adjs, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct hr_ip6 address = hop;

		address.b[15] += i;
		adjs[i] = new_adj(HR_OP_ENCAP);
		neighs[i] = hr_neigh_next_hop(PORT, &address, &link_local, &own_mac, NULL);
		CHECK(neighs[i] != NULL);
		hr_neigh_bind(neighs[i], adjs[i]);
	}
}

static bool
leads_to(uint32_t adj, const struct rte_ether_addr *mac)
{
	return hr_adjs[adj].op == hr_adjs[adj].ready_op &&
			memcmp(hr_adjs[adj].rewrite, mac, RTE_ETHER_ADDR_LEN) == 0;
}

static uint64_t
dropped_from(uint16_t port, enum hr_drop reason)
{
	return hr_control_drops[port][reason];
}

static uint64_t
dropped(enum hr_drop reason)
{
	return dropped_from(PORT, reason);
}

static void
check_arp_request(struct rte_mbuf *m, const struct rte_ether_addr *dst, struct hr_addr source,
		struct hr_addr target)
{
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	const struct rte_arp_hdr *arp = (const void *)(eth + 1);

	CHECK((m->hash.fdir.hi & 0xff) == HR_INJECT_SEND && m->port == PORT);
	CHECK(m->pkt_len == HR_ARP_FRAME_LEN);
	CHECK(rte_is_same_ether_addr(&eth->dst_addr, dst));
	CHECK(rte_is_same_ether_addr(&eth->src_addr, &own_mac));
	CHECK(eth->ether_type == RTE_BE16(RTE_ETHER_TYPE_ARP));
	CHECK(arp->arp_opcode == RTE_BE16(RTE_ARP_OP_REQUEST));
	CHECK(rte_is_same_ether_addr(&arp->arp_data.arp_sha, &own_mac));
	CHECK(arp->arp_data.arp_sip == source.ip4 && arp->arp_data.arp_tip == target.ip4);
	rte_pktmbuf_free(m);
}

/** Check what all of neighbour discovery has in common; gives the message. */
static const void *
check_nd(const struct rte_mbuf *m, uint8_t type, const struct hr_ip6 *src, const struct hr_ip6 *dst)
{
	const struct rte_ipv6_hdr *ip =
			rte_pktmbuf_mtod_offset(m, const struct rte_ipv6_hdr *, HR_L2_LEN);
	const struct hr_icmp *icmp = (const void *)(ip + 1);

	CHECK((m->hash.fdir.hi & 0xff) == HR_INJECT_SEND && m->port == PORT);
	CHECK(m->pkt_len == HR_ND_FRAME_LEN && ip->payload_len == RTE_BE16(HR_ND_LEN));
	CHECK(ip->hop_limits == 255 && ip->proto == IPPROTO_ICMPV6);
	CHECK(memcmp(&ip->src_addr, src, 16) == 0 && memcmp(&ip->dst_addr, dst, 16) == 0);
	CHECK(icmp->type == type && icmp->code == 0);
	CHECK(hr_icmp6_checksum(ip, icmp, HR_ND_LEN) == 0);
	return icmp;
}

static void
check_solicitation(struct rte_mbuf *m, const struct rte_ether_addr *unicast,
		const struct hr_ip6 *src, const struct hr_ip6 *target)
{
	const struct hr_ip6 group = {.b = {0xff, 2, [11] = 1, 0xff, target->b[13], target->b[14],
						     target->b[15]}};
	const struct rte_ether_addr group_mac = {
			{0x33, 0x33, 0xff, target->b[13], target->b[14], target->b[15]}};
	const struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, const struct rte_ether_hdr *);
	const struct hr_nd_neighbor *ns =
			check_nd(m, ND_NEIGHBOR_SOLICIT, src, unicast != NULL ? target : &group);

	CHECK(rte_is_same_ether_addr(&eth->dst_addr, unicast != NULL ? unicast : &group_mac));
	CHECK(memcmp(&ns->target, target, 16) == 0);
	CHECK(ns->option.type == 1 && ns->option.length == 1);
	CHECK(rte_is_same_ether_addr(&ns->option.mac, &own_mac));
	rte_pktmbuf_free(m);
}

static struct hr_neigh *
endpoint(const struct rte_ether_addr *fixed, const struct rte_ether_addr *learned)
{
	const struct hr_addr target[] = {ip4(10, 1, 2, 5)};
	const struct hr_addr source[] = {ip4(10, 1, 2, 1)};
	struct hr_neigh *neigh = hr_neigh_endpoint(PORT, "ns/vm", target, 1, source, 1, &own_mac,
			fixed, learned);

	CHECK(neigh != NULL);
	return neigh;
}

/** Somebody who sends by a port. */
static struct hr_neigh *
sender(uint16_t port, const char *name)
{
	const struct hr_addr address = ip4(10, 1, 2, 5);
	struct hr_neigh *neigh =
			hr_neigh_endpoint(port, name, &address, 1, NULL, 0, &own_mac, &mac_a, NULL);

	CHECK(neigh != NULL);
	return neigh;
}

static void
test_a_new_endpoint_is_asked_for_and_told_its_router(void)
{
	const struct hr_ip6 global = {.b = {0x20, 1, 0xd, 0xb8, [15] = 5}};
	const struct hr_addr target[] = {ip4(10, 1, 2, 5), ip6(&global)};
	const struct hr_addr source[] = {
			ip4(10, 1, 2, 1), ip4(192, 168, 0, 1), ip6(&hr_ip6_gateway)};
	struct hr_neigh *neigh = hr_neigh_endpoint(PORT, "ns/vm", target, 2, source, 3, &own_mac,
			NULL, NULL);
	const struct hr_nd_router *router = NULL;
	struct rte_mbuf *m, *advertisement = NULL, *first = NULL, *second = NULL;

	CHECK(injected() == NULL);
	advance(0);
	while ((m = injected()) != NULL) {
		if (rte_pktmbuf_mtod(m, const uint8_t *)[HR_L2_LEN + 40] == ND_ROUTER_ADVERT)
			advertisement = m;
		else if (first == NULL)
			first = m;
		else
			second = m;
	}
	CHECK(first != NULL && second != NULL && advertisement != NULL);
	check_arp_request(first, &hr_mac_broadcast, source[0], target[0]);
	check_solicitation(second, NULL, &hr_ip6_gateway, &global);
	router = check_nd(advertisement, ND_ROUTER_ADVERT, &hr_ip6_gateway, &hr_ip6_all_nodes);
	CHECK(router->lifetime == RTE_BE16(1800) && router->hop_limit == 64 && router->flags == 0);
	CHECK(router->mtu_type == 5 && router->mtu_length == 1);
	CHECK(router->mtu == RTE_BE32(1460));
	CHECK(rte_is_same_ether_addr(&router->option.mac, &own_mac));
	rte_pktmbuf_free(advertisement);

	/* Silence: no answer, and nobody wants to send to it. */
	CHECK(hr_neigh_state(neigh, NULL) == HR_NEIGH_UNRESOLVED);
	advance(HR_NEIGH_ADVERTISE_MS / 2);
	CHECK(injected() == NULL);
	advance(HR_NEIGH_ADVERTISE_MS / 2);
	CHECK(discard() == 1);
	hr_neigh_put(neigh);
	advance(HR_NEIGH_ADVERTISE_MS);
	CHECK(injected() == NULL);
}

static void
test_packets_wait_in_order_until_the_endpoint_speaks(void)
{
	const uint32_t adj = new_adj(HR_OP_ETH), other = new_adj(HR_OP_ETH);
	struct hr_neigh *neigh = endpoint(NULL, NULL);
	struct rte_ether_addr mac;
	struct rte_mbuf *m;

	hr_neigh_bind(neigh, adj);
	hr_neigh_bind(neigh, other);
	CHECK(hr_adjs[adj].op == HR_OP_RESOLVE);
	advance(0);
	discard();
	packet(adj, 1);
	packet(other, 2);
	packet(adj, 3);
	CHECK(hr_neigh_state(neigh, &mac) == HR_NEIGH_INCOMPLETE && rte_is_zero_ether_addr(&mac));
	check_arp_request(injected(), &hr_mac_broadcast, ip4(10, 1, 2, 1), ip4(10, 1, 2, 5));
	CHECK(injected() == NULL);

	seen(ip4(10, 1, 2, 5), mac_a, true, true);
	CHECK(hr_neigh_state(neigh, &mac) == HR_NEIGH_REACHABLE);
	CHECK(rte_is_same_ether_addr(&mac, &mac_a));
	CHECK(leads_to(adj, &mac_a) && leads_to(other, &mac_a));
	for (uint16_t id = 1; id <= 3; id++) {
		m = injected();
		CHECK(m != NULL && m->vlan_tci == id && (m->hash.fdir.hi & 0xff) == HR_INJECT_ADJ);
		CHECK(m->hash.fdir.lo == (id == 2 ? other : adj));
		rte_pktmbuf_free(m);
	}
	/* One that was on its way meanwhile does not wait. */
	packet(adj, 4);
	CHECK(discard() == 1);

	hr_neigh_unbind(other);
	seen(ip4(10, 1, 2, 5), mac_b, false, true);
	CHECK(leads_to(adj, &mac_b) && leads_to(other, &mac_a));
	hr_neigh_put(neigh);
	CHECK(hr_adjs[adj].op == HR_OP_UNREACHABLE);
}

static void
test_no_answer_drops_what_waits_and_holds(void)
{
	const uint32_t adj = new_adj(HR_OP_ETH);
	const uint64_t before = dropped(HR_DROP_UNRESOLVED);
	struct hr_neigh *neigh = endpoint(NULL, NULL);

	hr_neigh_bind(neigh, adj);
	advance(0);
	discard();
	packet(adj, 1);
	advance(HR_NEIGH_TRIES * HR_NEIGH_RETRY_MS - 10);
	CHECK(discard() == HR_NEIGH_TRIES && dropped(HR_DROP_UNRESOLVED) == before);
	advance(10);
	CHECK(hr_neigh_state(neigh, NULL) == HR_NEIGH_FAILED);
	CHECK(dropped(HR_DROP_UNRESOLVED) == before + 1);
	/* Workers drop now, but for what was on its way. */
	CHECK(hr_adjs[adj].op == HR_OP_UNREACHABLE);
	packet(adj, 2);
	CHECK(dropped(HR_DROP_UNRESOLVED) == before + 2 && injected() == NULL);
	/* Nor does a packet have to come for them to try again. */
	advance(HR_NEIGH_HOLD_MS);
	CHECK(hr_adjs[adj].op == HR_OP_RESOLVE && injected() == NULL);
	packet(adj, 3);
	CHECK(dropped(HR_DROP_UNRESOLVED) == before + 2 && discard() == 1);
	hr_neigh_put(neigh);
	CHECK(dropped(HR_DROP_UNRESOLVED) == before + 3);
}

static void
test_the_queue_drops_its_oldest(void)
{
	const uint32_t adj = new_adj(HR_OP_ETH);
	const uint64_t before = dropped(HR_DROP_RESOLVE_QUEUE);
	struct hr_neigh *neigh = endpoint(NULL, NULL);
	struct rte_mbuf *m;

	hr_neigh_bind(neigh, adj);
	advance(0);
	for (uint16_t id = 0; id < HR_NEIGH_QUEUE + 2; id++)
		packet(adj, id);
	CHECK(dropped(HR_DROP_RESOLVE_QUEUE) == before + 2);
	discard();
	seen(ip4(10, 1, 2, 5), mac_a, true, true);
	for (uint16_t id = 2; id < HR_NEIGH_QUEUE + 2; id++) {
		m = injected();
		CHECK(m != NULL && m->vlan_tci == id);
		rte_pktmbuf_free(m);
	}
	CHECK(injected() == NULL);
	hr_neigh_put(neigh);
}

/** Red has two Interfaces, and so may have two networks: it has no more wait than with one. */
static void
test_a_namespace_has_so_many_packets_wait_and_no_more(void)
{
	enum { RED = 10, RED_TOO, REDDER };
	struct hr_neigh *const senders[] = {
			sender(RED, "red/a"), sender(RED_TOO, "red/b"), sender(REDDER, "redder/a")};
	struct hr_neigh *neighs[HR_NEIGH_WAITING_MAX / HR_NEIGH_QUEUE + 1];
	const unsigned n = RTE_DIM(neighs);
	uint32_t adjs[RTE_DIM(neighs)];

	/* Red waits for more neighbours than it has room for. */
	next_hops(neighs, adjs, n);
	for (unsigned i = 0; i < n; i++)
		for (uint16_t id = 0; id < HR_NEIGH_QUEUE; id++)
			packet_from(id % 2 == 0 ? RED : RED_TOO, adjs[i], id);
	CHECK(dropped_from(RED, HR_DROP_RESOLVE_QUEUE) == HR_NEIGH_QUEUE / 2);
	CHECK(dropped_from(RED_TOO, HR_DROP_RESOLVE_QUEUE) == HR_NEIGH_QUEUE / 2);
	/* That is no reason for another's not to wait, for the same neighbour. */
	packet_from(REDDER, adjs[n - 1], 1);
	CHECK(dropped_from(REDDER, HR_DROP_RESOLVE_QUEUE) == 0);
	/* What no longer waits leaves room, up to a limit that has become lower meanwhile. */
	hr_neigh_put(neighs[0]);
	advance(0);
	packet_from(RED, adjs[n - 1], 2);
	CHECK(dropped_from(RED, HR_DROP_RESOLVE_QUEUE) == HR_NEIGH_QUEUE / 2);
	hr_neigh_waiting_max = 1;
	packet_from(RED, adjs[n - 1], 3);
	packet_from(REDDER, adjs[n - 1], 4);
	CHECK(dropped_from(RED, HR_DROP_RESOLVE_QUEUE) == HR_NEIGH_QUEUE / 2 + 1);
	CHECK(dropped_from(REDDER, HR_DROP_RESOLVE_QUEUE) == 1);
	hr_neigh_waiting_max = HR_NEIGH_WAITING_MAX;
	for (unsigned i = 0; i < RTE_DIM(senders); i++)
		hr_neigh_put(senders[i]);
	for (unsigned i = 1; i < n; i++)
		hr_neigh_put(neighs[i]);
	advance(0);
	discard();
}

/** Whatever each may have wait, together it is a share of the buffers, and each gets some. */
static void
test_all_namespaces_leave_buffers_to_receive_with(void)
{
	enum { FIRST = 10, NAMESPACES = 4, EACH = 4, SHARE = 256 };
	struct hr_neigh *senders[NAMESPACES], *neighs[NAMESPACES * EACH];
	const unsigned free_buffers = rte_mempool_avail_count(hr_pool);
	uint32_t adjs[NAMESPACES * EACH];
	char name[] = "a/vm";
	unsigned left;

	hr_neigh_waiting_max = 65536;
	hr_pool_waiting = SHARE;
	next_hops(neighs, adjs, RTE_DIM(neighs));
	for (unsigned i = 0; i < NAMESPACES; i++, name[0]++) {
		const uint16_t port = FIRST + i;
		const uint64_t before = dropped_from(port, HR_DROP_RESOLVE_QUEUE);

		senders[i] = sender(port, name);
		for (uint16_t id = 0; id < EACH * HR_NEIGH_QUEUE; id++)
			packet_from(port, adjs[i * EACH + id / HR_NEIGH_QUEUE], id);
		/* Half of what the ones before it left. */
		CHECK(dropped_from(port, HR_DROP_RESOLVE_QUEUE) ==
				before + EACH * HR_NEIGH_QUEUE - (SHARE >> (i + 1)));
		/* All are asked for, also those that nothing may wait for. */
		CHECK(discard() == EACH);
	}
	CHECK(rte_mempool_avail_count(hr_pool) >= free_buffers - SHARE);
	/* What no longer waits leaves room to all. */
	for (unsigned i = 0; i < EACH; i++)
		hr_neigh_put(neighs[i]);
	advance(0);
	CHECK(rte_mempool_avail_count(hr_pool) >= free_buffers - SHARE / 2);
	left = rte_mempool_avail_count(hr_pool);
	packet_from(FIRST + NAMESPACES - 1, adjs[RTE_DIM(adjs) - 1], 0);
	CHECK(rte_mempool_avail_count(hr_pool) == left - 1);
	hr_neigh_waiting_max = HR_NEIGH_WAITING_MAX;
	hr_pool_waiting = UINT32_MAX;
	for (unsigned i = EACH; i < RTE_DIM(neighs); i++)
		hr_neigh_put(neighs[i]);
	for (unsigned i = 0; i < NAMESPACES; i++)
		hr_neigh_put(senders[i]);
	advance(0);
	discard();
}

/** Who floods a neighbour that all wait for displaces itself. */
static void
test_who_has_most_of_a_full_queue_gives_way(void)
{
	enum { RED = 20, BLUE };
	struct hr_neigh *const red = sender(RED, "red/a"), *const blue = sender(BLUE, "blue/a");
	struct hr_neigh *neigh;
	struct rte_mbuf *m;
	uint32_t adj;

	next_hops(&neigh, &adj, 1);
	packet_from(RED, adj, 0);
	packet_from(BLUE, adj, 1000);
	for (uint16_t id = 1; id < 2 * HR_NEIGH_QUEUE; id++)
		packet_from(RED, adj, id);
	packet_from(BLUE, adj, 1001);
	CHECK(dropped_from(BLUE, HR_DROP_RESOLVE_QUEUE) == 0);
	CHECK(dropped_from(RED, HR_DROP_RESOLVE_QUEUE) == HR_NEIGH_QUEUE + 2);
	discard();
	seen(ip6(&hop), mac_b, true, true);
	m = injected();
	CHECK(m != NULL && m->port == BLUE && m->vlan_tci == 1000);
	rte_pktmbuf_free(m);
	for (uint16_t id = HR_NEIGH_QUEUE + 2; id < 2 * HR_NEIGH_QUEUE; id++) {
		m = injected();
		CHECK(m != NULL && m->port == RED && m->vlan_tci == id);
		rte_pktmbuf_free(m);
	}
	m = injected();
	CHECK(m != NULL && m->port == BLUE && m->vlan_tci == 1001);
	rte_pktmbuf_free(m);
	CHECK(injected() == NULL);
	hr_neigh_put(neigh);
	hr_neigh_put(red);
	hr_neigh_put(blue);
	advance(0);
}

static void
test_a_packet_of_another_use_of_its_adjacency_is_dropped(void)
{
	const uint32_t adj = new_adj(HR_OP_ETH);
	const uint64_t before = dropped(HR_DROP_UNRESOLVED);
	struct hr_neigh *neigh = endpoint(&mac_a, NULL);
	struct hr_event event = {.type = HR_EVENT_RESOLVE, .port = PORT};

	hr_neigh_bind(neigh, adj);
	event.packet = rte_pktmbuf_alloc(hr_pool);
	event.packet->port = PORT;
	hr_adj_mark(event.packet, adj);
	hr_adjs[adj].serial++;
	CHECK(hr_event_post(&worker, &event));
	hr_events_poll(now_ms);
	CHECK(dropped(HR_DROP_UNRESOLVED) == before + 1 && injected() == NULL);
	hr_neigh_put(neigh);
}

static void
test_an_endpoint_is_probed_where_it_was_seen(void)
{
	const uint32_t adj = new_adj(HR_OP_ETH);
	struct hr_neigh *neigh = endpoint(NULL, NULL);

	hr_neigh_bind(neigh, adj);
	advance(0);
	discard();
	seen(ip4(10, 1, 2, 7), mac_a, true, true);
	advance_to(neigh, HR_NEIGH_PROBE, HR_NEIGH_REACHABLE_MS);
	CHECK(leads_to(adj, &mac_a));
	check_arp_request(injected(), &mac_a, ip4(10, 1, 2, 1), ip4(10, 1, 2, 7));
	seen(ip4(10, 1, 2, 7), mac_a, true, true);
	CHECK(hr_neigh_state(neigh, NULL) == HR_NEIGH_REACHABLE && injected() == NULL);

	advance_to(neigh, HR_NEIGH_PROBE, HR_NEIGH_REACHABLE_MS);
	advance_to(neigh, HR_NEIGH_UNRESOLVED, HR_NEIGH_TRIES * HR_NEIGH_RETRY_MS);
	CHECK(discard() == HR_NEIGH_TRIES);
	CHECK(hr_adjs[adj].op == HR_OP_RESOLVE);
	/* It was there a moment ago: the next packet asks again, without a pause. */
	packet(adj, 1);
	CHECK(hr_neigh_state(neigh, NULL) == HR_NEIGH_INCOMPLETE && discard() == 1);
	hr_neigh_put(neigh);
}

static void
test_configured_and_inherited_mac_addresses(void)
{
	const uint32_t adj = new_adj(HR_OP_ETH);
	struct hr_neigh *fixed = endpoint(&mac_a, NULL), *heir;

	hr_neigh_bind(fixed, adj);
	CHECK(hr_neigh_state(fixed, NULL) == HR_NEIGH_STATIC && leads_to(adj, &mac_a));
	seen(ip4(10, 1, 2, 5), mac_b, true, true);
	advance(2 * HR_NEIGH_REACHABLE_MS);
	CHECK(leads_to(adj, &mac_a) && injected() == NULL);

	/* A replaced Interface: the new endpoint is there before the old one goes. */
	heir = endpoint(NULL, &mac_a);
	hr_neigh_bind(heir, adj);
	hr_neigh_put(fixed);
	CHECK(hr_neigh_state(heir, NULL) == HR_NEIGH_STALE && leads_to(adj, &mac_a));
	advance(0);
	check_arp_request(injected(), &mac_a, ip4(10, 1, 2, 1), ip4(10, 1, 2, 5));
	seen(ip4(10, 1, 2, 5), mac_b, false, true);
	CHECK(hr_neigh_state(heir, NULL) == HR_NEIGH_REACHABLE && leads_to(adj, &mac_b));
	hr_neigh_put(heir);
}

static void
test_next_hops_follow_rfc4861(void)
{
	/* From REACHABLE at mac_a: what an advertisement makes of it (RFC 4861 7.2.5). */
	static const struct {
		const struct rte_ether_addr *mac;
		bool solicited, override;
		enum hr_neigh_state state;
		const struct rte_ether_addr *then;
	} rules[] = {
			{&mac_a, true, false, HR_NEIGH_REACHABLE, &mac_a},
			{&mac_a, false, true, HR_NEIGH_REACHABLE, &mac_a},
			{&mac_b, true, false, HR_NEIGH_STALE, &mac_a},
			{&mac_b, false, false, HR_NEIGH_STALE, &mac_a},
			{&mac_b, true, true, HR_NEIGH_REACHABLE, &mac_b},
			{&mac_b, false, true, HR_NEIGH_STALE, &mac_b},
			{&no_mac, true, false, HR_NEIGH_REACHABLE, &mac_a},
			{&no_mac, false, true, HR_NEIGH_REACHABLE, &mac_a},
	};
	const uint32_t adj = new_adj(HR_OP_ENCAP);

	for (unsigned i = 0; i < RTE_DIM(rules); i++) {
		struct hr_neigh *neigh = hr_neigh_next_hop(PORT, &hop, &link_local, &own_mac, NULL);

		hr_neigh_bind(neigh, adj);
		packet(adj, 1);
		check_solicitation(injected(), NULL, &link_local, &hop);
		seen(ip6(&hop), no_mac, true, true);
		CHECK(hr_neigh_state(neigh, NULL) == HR_NEIGH_INCOMPLETE);
		seen(ip6(&hop), mac_a, true, false);
		CHECK(hr_neigh_state(neigh, NULL) == HR_NEIGH_REACHABLE && discard() == 1);

		seen(ip6(&hop), *rules[i].mac, rules[i].solicited, rules[i].override);
		CHECK(hr_neigh_state(neigh, NULL) == rules[i].state);
		CHECK(leads_to(adj, rules[i].then));
		hr_neigh_put(neigh);
		advance(0);
		CHECK(hr_adjs[adj].op == HR_OP_UNREACHABLE);
	}
}

static void
test_a_solicitation_is_enough_to_answer_but_not_to_trust(void)
{
	const uint32_t adj = new_adj(HR_OP_ENCAP);
	struct hr_neigh *neigh = hr_neigh_next_hop(PORT, &hop, &link_local, &own_mac, NULL);

	hr_neigh_bind(neigh, adj);
	packet(adj, 1);
	discard();
	seen(ip6(&hop), mac_a, false, true);
	CHECK(hr_neigh_state(neigh, NULL) == HR_NEIGH_STALE && leads_to(adj, &mac_a));
	CHECK(discard() == 1);
	advance(HR_NEIGH_STALE_MS);
	CHECK(hr_neigh_state(neigh, NULL) == HR_NEIGH_PROBE);
	check_solicitation(injected(), &mac_a, &link_local, &hop);
	hr_neigh_put(neigh);
	advance(0);
	seen(ip6(&hop), mac_b, true, true); /* a stranger now */
}

static void
test_a_next_hop_outlives_a_change_that_still_leads_there(void)
{
	const uint32_t adj = new_adj(HR_OP_ENCAP);
	struct hr_neigh *neigh = hr_neigh_next_hop(PORT, &hop, &link_local, &own_mac, NULL), *again;

	CHECK(hr_neigh_next_hop(PORT, &hop, &link_local, &own_mac, NULL) == neigh);
	hr_neigh_put(neigh);
	hr_neigh_bind(neigh, adj);
	seen(ip6(&hop), mac_a, true, true);
	hr_neigh_unbind(adj);
	hr_neigh_put(neigh);
	again = hr_neigh_next_hop(PORT, &hop, &link_local, &own_mac, NULL);
	hr_neigh_bind(again, adj);
	CHECK(leads_to(adj, &mac_a));
	advance(0);
	CHECK(leads_to(adj, &mac_a));
	hr_neigh_put(again);

	/* The port is another device's now. */
	again = hr_neigh_next_hop(PORT, &hop, &link_local, &mac_b, NULL);
	CHECK(hr_neigh_state(again, NULL) == HR_NEIGH_UNRESOLVED);
	CHECK(hr_adjs[adj].op == HR_OP_RESOLVE);
	hr_neigh_put(again);
	advance(0);
}

static double
microseconds(uint64_t since)
{
	return 1e6 * (double)(rte_rdtsc() - since) / (double)rte_get_tsc_hz();
}

static void
test_ten_thousand_next_hops(void)
{
	enum { COUNT = 10000, TICKS = 61000 };
	static struct hr_neigh *neigh[COUNT];
	static uint32_t adj[COUNT];
	struct hr_ip6 target = hop;
	uint64_t start;
	unsigned asked = 0;

	start = rte_rdtsc();
	for (unsigned i = 0; i < COUNT; i++) {
		target.b[6] = i >> 8;
		target.b[7] = i;
		neigh[i] = hr_neigh_next_hop(PORT, &target, &link_local, &own_mac, NULL);
		adj[i] = new_adj(HR_OP_ENCAP);
		hr_neigh_bind(neigh[i], adj[i]);
		packet(adj[i], 1);
		CHECK(discard() == 1);
		seen(ip6(&target), mac_a, true, true);
		CHECK(discard() == 1);
	}
	printf("%.2f us to resolve one\n", microseconds(start) / COUNT);
	start = rte_rdtsc();
	/* Everyone answers its probes, so everyone stays, for as long as anyone looks. */
	for (unsigned i = 0; i < TICKS; i++) {
		hr_neigh_tick(++now_ms);
		for (struct rte_mbuf *m; (m = injected()) != NULL; asked++) {
			const struct hr_nd_neighbor *ns = (const void *)rte_pktmbuf_mtod_offset(m,
					const uint8_t *, HR_L2_LEN + 40);

			target = ns->target;
			rte_pktmbuf_free(m);
			seen(ip6(&target), no_mac, true, false);
		}
	}
	printf("%.2f us of a tick of 1 ms\n", microseconds(start) / TICKS);
	CHECK(asked >= 2 * COUNT && asked <= 3 * COUNT);
	for (unsigned i = 0; i < COUNT; i++) {
		CHECK(leads_to(adj[i], &mac_a));
		hr_neigh_put(neigh[i]);
	}
	advance(0);
	for (unsigned i = 0; i < COUNT; i++)
		CHECK(hr_adjs[adj[i]].op == HR_OP_UNREACHABLE);
}

/** Give the control thread packets while there is room. @return how many */
static unsigned
flood(struct hr_worker *from, uint16_t port)
{
	const struct hr_event event = {.type = HR_EVENT_RESOLVE, .share = port};
	unsigned n = 0;

	while (hr_event_post(from, &event))
		n++;
	return n;
}

static void
test_a_flood_leaves_room_for_others_and_for_learning(void)
{
	static struct hr_worker another = {.index = 1};
	struct hr_event event;
	unsigned packets = 0, taken = 0, n;

	for (unsigned i = 0; i < 3; i++) {
		packets += n = flood(&worker, PORT);
		CHECK(n > 1000);
		/* Another floods too, and records go as they came. */
		for (unsigned j = 0; j < 20000; j++) {
			taken += hr_events_take(&event, 1);
			packets += flood(&worker, PORT);
			packets += flood(&worker, PORT + 1);
		}
		/* Who comes now finds room, by another port or at another worker. */
		packets += n = flood(&worker, PORT + 2);
		CHECK(n > 500);
		packets += n = flood(&another, PORT);
		CHECK(n > 250);
		while (hr_events_take(&event, 1) == 1)
			taken++;
		CHECK(taken == packets);
	}
	for (uint16_t port = 0; port < HR_MAX_PORTS; port++) {
		packets += flood(&worker, port);
		packets += flood(&another, port);
	}
	event = (struct hr_event){.type = HR_EVENT_SEEN};
	CHECK(hr_event_post(&worker, &event));
	while (hr_events_take(&event, 1) == 1)
		taken++;
	CHECK(taken == packets + 1 && event.type == HR_EVENT_SEEN);
}

/** Until there is an answer, or for too long none. */
static void
test_a_packet_too_many_has_workers_hold_back(void)
{
	const uint32_t adj = new_adj(HR_OP_ETH), late = new_adj(HR_OP_ETH);
	struct hr_neigh *neigh = endpoint(NULL, NULL);

	hr_neigh_bind(neigh, adj);
	for (unsigned round = 0; round < 2; round++) {
		for (uint16_t id = 0; id < HR_NEIGH_QUEUE; id++)
			packet(adj, id);
		CHECK(hr_adjs[adj].op == HR_OP_RESOLVE);
		packet(adj, HR_NEIGH_QUEUE);
		CHECK(hr_adjs[adj].op == HR_OP_CROWDED);
		hr_neigh_bind(neigh, late);
		CHECK(hr_adjs[late].op == HR_OP_CROWDED);
		if (round == 0) {
			advance(HR_NEIGH_TRIES * HR_NEIGH_RETRY_MS);
			CHECK(hr_adjs[adj].op == HR_OP_UNREACHABLE);
			advance(HR_NEIGH_HOLD_MS);
			CHECK(hr_adjs[adj].op == HR_OP_RESOLVE);
		} else {
			seen(ip4(10, 1, 2, 5), mac_a, true, true);
			CHECK(leads_to(adj, &mac_a));
		}
		CHECK(hr_adjs[late].op == hr_adjs[adj].op);
		discard();
	}
	/* When it is gone once more, packets wait for it as ever. */
	advance_to(neigh, HR_NEIGH_UNRESOLVED, 2 * HR_NEIGH_REACHABLE_MS);
	CHECK(hr_adjs[adj].op == HR_OP_RESOLVE);
	discard();
	hr_neigh_put(neigh);
}

static void
test_the_list(void)
{
	const struct hr_addr target[] = {ip4(10, 1, 2, 5), ip4(10, 1, 2, 6)};
	struct hr_neigh *vm = hr_neigh_endpoint(PORT, "ns/vm", target, 2, target, 0, &own_mac,
			&mac_a, NULL);
	struct hr_neigh *next_hop = hr_neigh_next_hop(PORT, &hop, &link_local, &own_mac, NULL);
	json_t *filter = json_pack("{s:s}", "address", "10.1.2.6"), *items;
	size_t next;

	items = hr_list_neighbor(NULL, 0, 2, &next, NULL);
	CHECK(json_array_size(items) == 2 && next == 2);
	json_decref(items);
	items = hr_list_neighbor(NULL, next, 2, &next, NULL);
	CHECK(json_array_size(items) == 1 && next == 0);
	CHECK(json_is_null(json_object_get(json_array_get(items, 0), "interface")));
	CHECK(json_is_null(json_object_get(json_array_get(items, 0), "mac")));
	json_decref(items);
	items = hr_list_neighbor(filter, 0, 10, &next, NULL);
	CHECK(json_array_size(items) == 1 && next == 0);
	CHECK(strcmp(json_string_value(json_object_get(json_array_get(items, 0), "mac")),
			      "02:00:00:00:00:0a") == 0);
	CHECK(strcmp(json_string_value(json_object_get(json_array_get(items, 0), "state")),
			      "static") == 0);
	json_decref(items);
	json_decref(filter);
	hr_neigh_put(vm);
	hr_neigh_put(next_hop);
	advance(0);
}

/** What a ring still has of a device is nothing to the next one of its port id. */
static void
test_port_given_to_another(void)
{
	struct hr_neigh *vm = endpoint(NULL, NULL);
	const uint64_t drops = dropped(HR_DROP_PORT_DOWN);
	const struct hr_event said = {
			.type = HR_EVENT_SEEN,
			.port = PORT,
			.generation = hr_port_generation[PORT],
			.addr = ip4(10, 1, 2, 5),
			.mac = mac_a,
	};
	const uint32_t adj = new_adj(HR_OP_ETH);

	hr_neigh_bind(vm, adj);
	CHECK(hr_event_post(&worker, &said));
	hr_port_generation[PORT]++;
	packet(adj, 1); /* Of the generation before: packets say none. */
	CHECK(hr_neigh_state(vm, NULL) == HR_NEIGH_UNRESOLVED);
	CHECK(dropped(HR_DROP_PORT_DOWN) == drops + 1);
	hr_port_generation[PORT] = 0;
	seen(ip4(10, 1, 2, 5), mac_a, false, true);
	CHECK(leads_to(adj, &mac_a));
	hr_neigh_unbind(adj);
	hr_neigh_put(vm);
	discard();
}

int
main(void)
{
	char prefix[32];
	char *argv[] = {"neigh_test", "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry",
			"-m", "64", "--lcores", "0", "--log-level=error", "--file-prefix", prefix};
	unsigned free_buffers;

	snprintf(prefix, sizeof(prefix), "test-neigh-%d", (int)getpid());
	CHECK(rte_eal_init(RTE_DIM(argv), argv) >= 0);
	hr_pool = rte_pktmbuf_pool_create("test", 1023, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
			SOCKET_ID_ANY);
	worker.inject = rte_ring_create("inject", 1024, SOCKET_ID_ANY, RING_F_SC_DEQ);
	CHECK(hr_pool != NULL && worker.inject != NULL);
	CHECK(hr_adj_init() == 0 && hr_events_init() == 0);
	hr_workers[0] = &worker;
	hr_n_workers = 1;
	hr_port_ctx[PORT] = &ctx;
	hr_pool_waiting = UINT32_MAX;
	free_buffers = rte_mempool_avail_count(hr_pool);

	test_a_new_endpoint_is_asked_for_and_told_its_router();
	test_packets_wait_in_order_until_the_endpoint_speaks();
	test_no_answer_drops_what_waits_and_holds();
	test_the_queue_drops_its_oldest();
	test_a_namespace_has_so_many_packets_wait_and_no_more();
	test_all_namespaces_leave_buffers_to_receive_with();
	test_who_has_most_of_a_full_queue_gives_way();
	test_a_packet_of_another_use_of_its_adjacency_is_dropped();
	test_an_endpoint_is_probed_where_it_was_seen();
	test_configured_and_inherited_mac_addresses();
	test_next_hops_follow_rfc4861();
	test_a_solicitation_is_enough_to_answer_but_not_to_trust();
	test_a_next_hop_outlives_a_change_that_still_leads_there();
	test_ten_thousand_next_hops();
	test_a_flood_leaves_room_for_others_and_for_learning();
	test_a_packet_too_many_has_workers_hold_back();
	test_port_given_to_another();
	test_the_list();

	CHECK(rte_mempool_avail_count(hr_pool) == free_buffers);
	return 0;
}
