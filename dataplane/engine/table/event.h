/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What workers tell the control thread: a bounded ring of small records, never waited for.
 */
#ifndef HR_EVENT_H
#define HR_EVENT_H

#include "../worker.h"

enum hr_event_type {
	HR_EVENT_SEEN,    /**< addr at mac was seen on port (ARP, NS, NA, RS). */
	HR_EVENT_TOO_BIG, /**< A router said that packets from source to addr exceed mtu. */
	HR_EVENT_RESOLVE, /**< packet waits for its adjacency's neighbour; the record owns it. */
};

struct hr_event {
	uint8_t type;
	bool solicited; /**< SEEN: an answer to a probe of ours, or an ARP reply. */
	bool override;  /**< SEEN: a new MAC address replaces the known one (RFC 4861 7.2.5). */
	uint8_t worker; /**< Who posted it. */
	uint16_t port;  /**< Where the packet, or what was seen, came from. */
	uint16_t share; /**< RESOLVE: the Interface, sender or receiver, whose share it is of. */
	uint32_t generation;       /**< Of the port. */
	struct rte_ether_addr mac; /**< SEEN: zero when the sender did not say. */
	struct hr_addr addr;
	struct hr_ip6 source;    /**< TOO_BIG */
	uint16_t mtu;            /**< TOO_BIG: bytes, outer header included. */
	struct rte_mbuf *packet; /**< As hr_adj_mark() marked it; its port is where it came from. */
};

/** Packets that wait for the control thread, at most. */
#define HR_EVENT_BUFFERS 6144

/** Create the ring. 0, or -errno. */
int hr_events_init(void);

/**
 * Post a record of a worker's.
 *
 * A flood towards what does not answer must not stop what does: packets leave the last quarter of
 * the ring to learning, and of none of its ports a worker has more there than there still is room
 * for. So one that floods has half of the room, two a third each, and there always is some left.
 *
 * @return false when there is no room, or no more for that port; a packet is still the caller's
 */
bool hr_event_post(struct hr_worker *worker, const struct hr_event *event);

/** Take up to n records. Control thread. */
unsigned hr_events_take(struct hr_event *events, unsigned n);

/*
 * Learning events of one port and worker, a second and at once. An Interface has one neighbour;
 * an uplink has thousands, each of which answers about twice a minute.
 */
#define HR_SEEN_RATE_INTERFACE 100
#define HR_SEEN_BURST_INTERFACE 20
#define HR_SEEN_RATE_UPLINK 20000
#define HR_SEEN_BURST_UPLINK 4000

/*
 * Packets of one port and worker to a neighbour that is HR_OP_CROWDED, a second and at once: who has
 * none waiting yet still gets its place, and a flood drops where it came in.
 */
#define HR_CROWDED_RATE 100
#define HR_CROWDED_BURST 16

/** Post HR_EVENT_SEEN about the port this walk's burst came from. @return false: too many */
static inline bool
hr_event_seen(struct hr_worker *worker, const struct hr_addr *addr,
		const struct rte_ether_addr *mac, bool solicited, bool override)
{
	const struct hr_port_ctx *in = worker->in;
	const bool uplink = in->role == HR_ROLE_UPLINK;
	const struct hr_event event = {
			.type = HR_EVENT_SEEN,
			.solicited = solicited,
			.override = override,
			.port = in->port,
			.generation = hr_port_generation_now(in->port),
			.mac = *mac,
			.addr = *addr,
	};

	return hr_bucket_take(&worker->events[in->port], worker->now,
			       uplink ? HR_SEEN_RATE_UPLINK : HR_SEEN_RATE_INTERFACE,
			       uplink ? HR_SEEN_BURST_UPLINK : HR_SEEN_BURST_INTERFACE) &&
			hr_event_post(worker, &event);
}

#endif
