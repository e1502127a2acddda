/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Adjacencies: all that is needed to send a packet its way, in one cache line.
 *
 * A FIB maps an address to an adjacency index. The control thread computes adjacencies, workers
 * only read them. Two things change in place: the destination MAC address (one aligned 8-byte
 * store) and `op` (one byte); all else is fixed from hr_adj_alloc() until a grace period after
 * hr_adj_free().
 */
#ifndef HR_ADJ_H
#define HR_ADJ_H

#include "../packet/vxlan.h"
#include "../types.h"

enum hr_op {
	HR_OP_NO_ROUTE = 0, /**< Index 0, what a lookup yields when nothing matches. */
	HR_OP_ETH,          /**< Rewrite the Ethernet header, send. */
	HR_OP_ENCAP,        /**< Prepend Ethernet and IPv6, send. */
	/* Below: what leaves the burst one by one. */
	HR_OP_VXLAN,       /**< As HR_OP_ENCAP, with what hr_vxlans has in between. */
	HR_OP_RESOLVE,     /**< The neighbour's MAC address is not known yet: packets wait. */
	HR_OP_CROWDED,     /**< The same, and too many wait: few more are looked at. */
	HR_OP_UNREACHABLE, /**< The neighbour does not answer, or has no device: packets drop. */
	HR_OP_DOWN,    /**< The uplink's link is down, and none other leads there: packets drop. */
	HR_OP_ECMP,    /**< Choose a member by flow hash. */
	HR_OP_NETWORK, /**< Look up again in another network. */
	HR_OP_BLACKHOLE,
	HR_OP_MARTIAN,
	HR_OP_LOCAL,   /**< For the gateway itself, multicast included. */
	HR_OP_FOREIGN, /**< To an Interface of another network: no way there. */
};

#define HR_ADJ_MAX (1u << 22) /**< Indexes fit 22 bits of a FIB entry. */
#define HR_ADJ_NO_ROUTE 0u
#define HR_ADJ_BLACKHOLE 1u
#define HR_ADJ_MARTIAN 2u
#define HR_ADJ_LOCAL 3u

#define HR_ECMP_BUCKETS 4096 /**< Buckets of one weighted group; a power of two. */

/** The members of an ECMP adjacency, each in a share of the buckets that follows its weight. */
struct hr_ecmp {
	uint32_t adj[HR_MAX_NEXT_HOPS];  /**< Never ECMP themselves. */
	uint8_t bucket[HR_ECMP_BUCKETS]; /**< Whose: index into adj[]. */
};

/** The member that a flow goes to. */
static inline uint32_t
hr_ecmp_choose(const struct hr_ecmp *ecmp, uint32_t flow_hash)
{
	return ecmp->adj[ecmp->bucket[flow_hash % HR_ECMP_BUCKETS]];
}

struct hr_vrf;

struct hr_adj {
	union {
		struct {
			/**
			 * Ethernet header (14 bytes), for HR_OP_ENCAP followed by the outer IPv6
			 * header (40). EtherType of HR_OP_ETH, and traffic class, flow label,
			 * payload length and next header of HR_OP_ENCAP are filled in per packet.
			 * See HR_ADJ_CLASS_MASK for what is in their place.
			 */
			uint8_t rewrite[54];
			uint16_t mtu; /**< Largest L3 packet before encapsulation, bytes. */
		};
		uint64_t dst_mac_word;      /**< Bytes 0..7: what an in-place MAC change stores. */
		const struct hr_ecmp *ecmp; /**< HR_OP_ECMP. */
		const struct hr_vrf *vrf;   /**< HR_OP_NETWORK. */
		uint32_t next_released;     /**< While it is free. */
	};
	uint16_t port;    /**< DPDK port out. */
	uint8_t op;       /**< enum hr_op, now. */
	uint8_t ready_op; /**< What op becomes when the neighbour is resolved. */
	uint32_t serial;  /**< Another with each use of this index: see hr_adj_mark(). */
} __rte_aligned(64);
static_assert(sizeof(struct hr_adj) == 64, "one cache line");

/** All adjacencies, by index. Reserved address space; memory follows use. */
extern struct hr_adj *hr_adjs;

/** Of adjacencies that are or become HR_OP_VXLAN, by the same index and as fixed. */
extern struct hr_vxlan *hr_vxlans;

/** Reserve the tables and fill the fixed entries. 0, or -errno. */
int hr_adj_init(void);
/** A zeroed adjacency's index; 0 when all are taken. Control thread. */
uint32_t hr_adj_alloc(void);
/** Free an adjacency after a grace period (and its ECMP group with it). Control thread. */
void hr_adj_free(uint32_t adj);
/** One more than the highest index ever used. */
uint32_t hr_adj_end(void);
/** Adjacencies in use, the fixed ones included. */
uint32_t hr_adj_count(void);

/** Set the destination MAC address; workers see the old or the new one. */
static inline void
hr_adj_set_mac(struct hr_adj *adj, const struct rte_ether_addr *mac)
{
	uint64_t word = adj->dst_mac_word;

	memcpy(&word, mac->addr_bytes, RTE_ETHER_ADDR_LEN);
	__atomic_store_n(&adj->dst_mac_word, word, __ATOMIC_RELEASE);
}

/**
 * Its MTU and port on a worker: of one that packets wait for each may be the old or the new one, so a
 * decision and what is said of it come from one read.
 */
static inline uint16_t
hr_adj_mtu(const struct hr_adj *adj)
{
	return __atomic_load_n(&adj->mtu, __ATOMIC_RELAXED);
}

static inline uint16_t
hr_adj_port(const struct hr_adj *adj)
{
	return __atomic_load_n(&adj->port, __ATOMIC_RELAXED);
}

/** Whether it is encapsulated, by an uplink, once that can be. */
static inline bool
hr_adj_is_encap(const struct hr_adj *adj)
{
	return adj->ready_op == HR_OP_ENCAP || adj->ready_op == HR_OP_VXLAN;
}

/** Set one or the other. */
static inline void
hr_adj_set_mtu(struct hr_adj *adj, uint16_t mtu)
{
	__atomic_store_n(&adj->mtu, mtu, __ATOMIC_RELAXED);
}

static inline void
hr_adj_set_port(struct hr_adj *adj, uint16_t port)
{
	__atomic_store_n(&adj->port, port, __ATOMIC_RELAXED);
}

/** What happens to packets, on a worker: what else is read of the adjacency is at least as new. */
static inline uint8_t
hr_adj_op(const struct hr_adj *adj)
{
	return __atomic_load_n(&adj->op, __ATOMIC_ACQUIRE);
}

/**
 * Bytes of an HR_OP_ENCAP rewrite that every packet's flow label goes over: which bits of the inner
 * traffic class are those of the outer one, and what the rest of it is.
 */
#define HR_ADJ_CLASS_MASK 16
#define HR_ADJ_CLASS_BITS 17

/** The outer traffic class of a packet of this inner one. */
static inline uint8_t
hr_adj_class(const struct hr_adj *adj, uint8_t class)
{
	return (class & adj->rewrite[HR_ADJ_CLASS_MASK]) | adj->rewrite[HR_ADJ_CLASS_BITS];
}

/** Set both. A packet meanwhile may have none of the bits. */
static inline void
hr_adj_set_class(struct hr_adj *adj, uint8_t mask, uint8_t bits)
{
	if (adj->rewrite[HR_ADJ_CLASS_MASK] == mask && adj->rewrite[HR_ADJ_CLASS_BITS] == bits)
		return;
	__atomic_store_n(&adj->rewrite[HR_ADJ_CLASS_BITS], 0, __ATOMIC_RELEASE);
	__atomic_store_n(&adj->rewrite[HR_ADJ_CLASS_MASK], mask, __ATOMIC_RELEASE);
	__atomic_store_n(&adj->rewrite[HR_ADJ_CLASS_BITS], bits, __ATOMIC_RELEASE);
}

/** Set what happens to packets. Follows hr_adj_set_mac() when a neighbour becomes known. */
static inline void
hr_adj_set_op(struct hr_adj *adj, enum hr_op op)
{
	__atomic_store_n(&adj->op, (uint8_t)op, __ATOMIC_RELEASE);
}

/**
 * For HR_EDGE_RESOLVE: the adjacency the lookup gave. TTL is already less. The packet may wait
 * longer than the adjacency lives; its serial number tells, so that it never leaves by another.
 */
static inline void
hr_adj_mark(struct rte_mbuf *m, uint32_t adj)
{
	m->hash.fdir.lo = adj;
	m->hash.fdir.hi = __atomic_load_n(&hr_adjs[adj].serial, __ATOMIC_RELAXED) << 8;
}

/** Whether a packet's adjacency still is the one that hr_adj_mark() marked. */
static inline bool
hr_adj_mark_holds(const struct rte_mbuf *m)
{
	const uint32_t serial = __atomic_load_n(&hr_adjs[m->hash.fdir.lo].serial, __ATOMIC_ACQUIRE);

	return ((serial ^ (m->hash.fdir.hi >> 8)) & 0xffffff) == 0;
}

#endif
