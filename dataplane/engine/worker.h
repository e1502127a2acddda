/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Workers: one rte_graph each, walked for ever on a core of its own.
 *
 * One walk takes in one burst of one port, so everything that follows from where packets came
 * from (Interface, network, source filter) is known per burst and kept in hr_worker.in, not per
 * packet. No lock, no allocation, no shared write; the only system call is the sleep of the
 * adaptive idle policy.
 */
#ifndef HR_WORKER_H
#define HR_WORKER_H

#include <pthread.h>

#include <rte_graph.h>
#include <rte_graph_worker.h>
#include <rte_ring.h>

#include "buffers.h"
#include "latency.h"
#include "rcu.h"
#include "types.h"

struct hr_vrf;

/** A source filter entry: addr & mask of one of the Interface's addresses or prefixes. */
struct hr_source4 {
	rte_be32_t addr, mask;
};
struct hr_source6 {
	struct hr_ip6 addr, mask;
};

enum hr_role {
	HR_ROLE_NONE = 0, /**< The port belongs to nothing yet: packets drop as NO_INTERFACE. */
	HR_ROLE_INTERFACE,
	HR_ROLE_UPLINK,
};

/**
 * What workers must know of a port. Immutable while it is published in hr_port_ctx[], and for a
 * grace period after; replaced by pointer swap.
 */
struct hr_port_ctx {
	uint16_t port;
	uint8_t role; /**< enum hr_role */
	bool source_check;
	uint16_t mtu;              /**< L3 MTU, bytes. */
	struct rte_ether_addr mac; /**< Ours on this port: the gateway's or the uplink's. */

	/* HR_ROLE_INTERFACE */
	struct rte_ether_addr source_mac; /**< Frames must come from it; zero: from any. */
	const struct hr_vrf *vrf;
	uint32_t adj; /**< To the endpoint; its rewrite holds the learned MAC address. */
	uint16_t n_source4, n_source6;
	struct hr_source4 source4[HR_MAX_ADDRESSES + HR_MAX_PREFIXES];
	struct hr_source6 source6[HR_MAX_ADDRESSES + HR_MAX_PREFIXES];
	/** Addresses this port answers for: gateways on an Interface, own ones on an uplink. */
	uint16_t n_own;
	/** HR_ROLE_UPLINK: bits of own[0]'s second half in which it stands for every address. */
	uint64_t own_free;
	struct hr_addr own[HR_MAX_GATEWAYS + 16];
};

/** By DPDK port id; never NULL. Read with hr_read(). */
extern const struct hr_port_ctx *hr_port_ctx[HR_MAX_PORTS];

/**
 * By DPDK port id: another with each device that the id is given to. No worker is in a walk with a
 * packet of the one before by then, so what a ring still has of that one is known by it.
 */
extern uint32_t hr_port_generation[HR_MAX_PORTS];

static inline uint32_t
hr_port_generation_now(uint16_t port)
{
	return __atomic_load_n(&hr_port_generation[port], __ATOMIC_RELAXED);
}

/** Receive queues of one worker, published by pointer swap. */
struct hr_rxqs {
	uint16_t n;
	struct {
		uint16_t port, queue;
		uint16_t least_burst; /**< Its driver is to be asked for so many packets. */
	} q[HR_MAX_PORTS * 16];
};

/** How a worker sends on a port; HR_TXQ_NONE where it has no queue there. */
#define HR_TXQ_NONE UINT16_MAX

/** Packets that may wait to enter a graph other than from a port. */
#define HR_INJECT_RING 1024
/** Most buffers that a worker has: those, a burst and what it answers, and its cache of the pool. */
#define HR_WORKER_BUFFERS (HR_INJECT_RING + 2 * HR_BURST + HR_BUFFERS_CACHED)

/** Read a counter that another thread writes. */
#define hr_count(counter) __atomic_load_n(&(counter), __ATOMIC_RELAXED)

/** Add to a counter of this thread's own. */
static inline void
hr_count_add(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/** Each thread's own are never reset: what one device has counted is a difference. */
struct hr_port_counters {
	uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes;
	uint64_t drops[HR_DROP_COUNT];
} __rte_cache_aligned;

/** A packet on its way to one port. */
struct hr_tx_buffer {
	uint16_t n;
	uint64_t bytes;
	struct rte_mbuf *pkts[HR_BURST];
};

/** Token bucket of a worker; refilled from the TSC. */
struct hr_bucket {
	uint64_t tokens, last_tsc;
};

/** What an Interface or uplink has the engine say by ICMP: each within limits of its own. */
enum hr_icmp_use {
	HR_ICMP_ECHO,   /**< Replies to pings. */
	HR_ICMP_SENT,   /**< Errors to the endpoint, about what it sent. */
	HR_ICMP_COMING, /**< Errors to others, about what came for the endpoint by an uplink. */
	HR_ICMP_HEARD,  /**< Nothing: Packets Too Big that an uplink has it take note of. */
	HR_ICMP_USES
};

struct hr_worker {
	/* Of the walk under way. */
	const struct hr_port_ctx *in; /**< Where this walk's burst came from. */
	bool trusted;                 /**< The burst is the engine's own: no source check. */
	bool injected;                /**< The last walk took from `inject`: ports are next. */
	uint64_t now;                 /**< TSC at the start of the walk. */
	uint16_t received;            /**< Packets this walk took in. */
	/* Of the worker. */
	const struct hr_rxqs *rxqs; /**< Read with hr_read(). */
	uint16_t cursor;            /**< Next entry of rxqs to poll. */
	uint16_t index;             /**< 0..HR_MAX_WORKERS-1 */
	unsigned lcore;
	int cpu;
	pthread_t thread; /**< That walks; 0 before it does. Read with hr_count(). */
	struct rte_graph *graph;
	struct rte_ring *inject; /**< Packets from the control thread or to be routed again. */
	struct hr_bucket icmp[HR_MAX_PORTS][HR_ICMP_USES];
	struct hr_bucket events[HR_MAX_PORTS];  /**< Learning events. */
	struct hr_bucket crowded[HR_MAX_PORTS]; /**< Packets to neighbours with too many waiting. */
	uint32_t given[HR_MAX_PORTS];           /**< Packets given to the control thread. */
	uint16_t txq[HR_MAX_PORTS];
	struct hr_tx_buffer tx[HR_MAX_PORTS];
	/* Counters: written by this worker only. */
	uint64_t busy_cycles, idle_cycles, sleep_cycles, walks, bursts, packets;
	uint64_t gap;     /**< Longest since the control thread took it; see gap.h. */
	uint64_t fill[5]; /**< Bursts of 1, 2..7, 8..31, 32..63, 64 packets. */
	struct hr_latency latency;
	struct hr_port_counters ports[HR_MAX_PORTS];
} __rte_cache_aligned;

extern struct hr_worker *hr_workers[HR_MAX_WORKERS];
extern unsigned hr_n_workers;

/** Settings of all workers; single words, read at each walk with hr_count(). */
struct hr_worker_settings {
	uint16_t burst;           /**< 1..HR_BURST */
	bool adaptive;            /**< Sleep while nothing comes. */
	uint32_t icmp_per_second; /**< Per worker, port and use. */
};
extern struct hr_worker_settings hr_worker_settings;

/** Create hr_n_workers workers with a graph each, not yet running. 0, or -errno. */
int hr_workers_create(unsigned n);
/** Run all workers on their lcores. 0, or -errno. */
int hr_workers_start(void);
/** Stop all workers and wait for them. */
void hr_workers_stop(void);

/** The worker whose graph a node belongs to. */
static inline struct hr_worker *
hr_node_worker(const struct rte_node *node)
{
	struct hr_worker *worker;

	memcpy(&worker, node->ctx, sizeof(worker));
	return worker;
}

/** rte_node's init for every node of ours: stores the worker, allocates the stream. */
int hr_node_init(const struct rte_graph *graph, struct rte_node *node);

/** Count a drop under the port this walk's burst came from, and free the packet. */
static inline void
hr_drop(struct hr_worker *worker, struct rte_mbuf *m, enum hr_drop reason)
{
	hr_count_add(&worker->ports[worker->in->port].drops[reason], 1);
	rte_pktmbuf_free(m);
}

/**
 * Count a drop of the control thread's and free the packet.
 * @param port whose Interface or uplink it concerns
 */
void hr_control_drop(uint16_t port, struct rte_mbuf *m, enum hr_drop reason);
/** Drops counted by the control thread, by port and reason. */
extern uint64_t hr_control_drops[HR_MAX_PORTS][HR_DROP_COUNT];

/** Take one token of at most `burst`, refilled at `rate` a second. */
bool hr_bucket_take(struct hr_bucket *bucket, uint64_t now, uint64_t rate, uint64_t burst);

/** Most ICMP messages of one port and use at once. */
#define HR_ICMP_BURST 64u

/** One token for an ICMP reply or error that a port's Interface or uplink has this worker send. */
static inline bool
hr_icmp_take(struct hr_worker *worker, uint16_t port, enum hr_icmp_use use)
{
	const uint32_t rate = hr_count(hr_worker_settings.icmp_per_second);

	return hr_bucket_take(&worker->icmp[port][use], worker->now, rate,
			RTE_MIN(rate, HR_ICMP_BURST));
}

/* Packets that enter a graph other than from a port. */

enum hr_inject_mode {
	HR_INJECT_SEND,  /**< A complete frame: send it out of mbuf->port. */
	HR_INJECT_ROUTE, /**< An L3 packet behind an Ethernet header: route it as if it had come
			      from the Interface of mbuf->port, without source check. */
	HR_INJECT_ADJ,   /**< A packet that hr_adj_mark() marked and that waited: rewrite by that
			      adjacency, if it still is the same. */
};

/**
 * Give a packet to a worker's next walk; any thread. Counts nothing. What is sent or routed drops as
 * PORT_DOWN when its port id is another device's by then.
 * @return false when the ring is full, of HR_INJECT_ROUTE half full: the packet is still the
 * caller's
 */
bool hr_inject(struct hr_worker *worker, struct rte_mbuf *m, enum hr_inject_mode mode);

/**
 * Packet buffers that may wait for neighbours; as many may be on their way to the control thread. Set
 * where the pool is made.
 */
extern unsigned hr_pool_waiting;

#endif
