/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * The nodes of a worker's graph and their edges.
 *
 *   rx ──► ip4 ─┐            hot: whole bursts move by pointer
 *      ├─► ip6 ─┼──► tx
 *      └─► decap┘
 *   exceptions, one by one: arp, nd, local, icmp-error, resolve
 *
 * Every node has the same next nodes but for itself: an edge is the same number everywhere.
 */
#ifndef HR_NODES_H
#define HR_NODES_H

#include "../packet/frame.h"
#include "../worker.h"

enum hr_edge {
	HR_EDGE_TX,    /**< A finished frame; mbuf->port is the port out. */
	HR_EDGE_IP4,   /**< From rx only: IPv4 from an Interface. */
	HR_EDGE_IP6,   /**< From rx only: IPv6 from an Interface. */
	HR_EDGE_DECAP, /**< From rx only: IPv6 from an uplink. */
	HR_EDGE_ARP,   /**< ARP frame from an Interface. */
	HR_EDGE_ND,    /**< ICMPv6 types 133..137 from an Interface or an uplink. */
	HR_EDGE_LOCAL, /**< Addressed to the gateway itself (or multicast): echo, ND, nothing. */
	HR_EDGE_ICMP_ERROR, /**< Undeliverable: hr_icmp_error_mark() says how. Counts the drop. */
	HR_EDGE_RESOLVE,    /**< Adjacency unresolved: hr_adj_mark(); goes to control thread. */
	HR_EDGE_COUNT
};

/** rte_graph knows no edge from a node to itself: that one leads to tx, and is never taken. */
#define HR_NODE_NEXT_NAME(self, edge, name) ((self) == (edge) ? "headrace-tx" : (name))

/** next_nodes of the node that HR_EDGE_* `self` leads to; HR_EDGE_COUNT for rx. */
#define HR_NODE_NEXT(self)                                                                         \
	{                                                                                          \
		[HR_EDGE_TX] = "headrace-tx",                                                      \
		[HR_EDGE_IP4] = HR_NODE_NEXT_NAME(self, HR_EDGE_IP4, "headrace-ip4"),              \
		[HR_EDGE_IP6] = HR_NODE_NEXT_NAME(self, HR_EDGE_IP6, "headrace-ip6"),              \
		[HR_EDGE_DECAP] = HR_NODE_NEXT_NAME(self, HR_EDGE_DECAP, "headrace-decap"),        \
		[HR_EDGE_ARP] = HR_NODE_NEXT_NAME(self, HR_EDGE_ARP, "headrace-arp"),              \
		[HR_EDGE_ND] = HR_NODE_NEXT_NAME(self, HR_EDGE_ND, "headrace-nd"),                 \
		[HR_EDGE_LOCAL] = HR_NODE_NEXT_NAME(self, HR_EDGE_LOCAL, "headrace-local"),        \
		[HR_EDGE_ICMP_ERROR] = HR_NODE_NEXT_NAME(self, HR_EDGE_ICMP_ERROR,                 \
				"headrace-icmp-error"),                                            \
		[HR_EDGE_RESOLVE] = HR_NODE_NEXT_NAME(self, HR_EDGE_RESOLVE, "headrace-resolve"),  \
	}

/*
 * All packets between nodes start at their Ethernet header (rte_pktmbuf_mtod), L3 header at
 * +14, also where the Ethernet header's content no longer matters.
 *
 * Marks travel in mbuf->hash.fdir, which is ours between nodes.
 */

/** For HR_EDGE_ICMP_ERROR: ICMP type and code in the packet's own family, and the drop counted. */
static inline void
hr_icmp_error_mark(struct rte_mbuf *m, uint8_t type, uint8_t code, uint16_t mtu,
		enum hr_drop reason)
{
	m->hash.fdir.lo = (uint32_t)type << 24 | (uint32_t)code << 16 | mtu;
	m->hash.fdir.hi = reason;
}

/**
 * Send finished frames, each in one buffer, out of a port; drop what it does not take.
 * @param bytes of all of them
 */
void hr_tx_send(struct hr_worker *worker, uint16_t port, struct rte_mbuf **pkts, uint16_t n,
		uint64_t bytes);

/** Worker 0: send what the other workers handed over for devices with too few queues. */
void hr_tx_drain(struct hr_worker *worker);

#endif
