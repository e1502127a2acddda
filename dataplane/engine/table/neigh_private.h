/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * A neighbour, for the files of neighbours alone.
 */
#ifndef HR_NEIGH_PRIVATE_H
#define HR_NEIGH_PRIVATE_H

#include <sys/queue.h>

#include <rte_jhash.h>

#include "../types.h"
#include "neigh_timer.h"
#include "neigh_types.h"

struct hr_neigh {
	TAILQ_ENTRY(hr_neigh) all;
	LIST_ENTRY(hr_neigh) same_hash; /**< Next hops. */
	TAILQ_ENTRY(hr_neigh) unused;   /**< Next hops that nothing refers to. */
	uint16_t port;
	bool endpoint;
	enum hr_neigh_state state;
	uint8_t tries;
	uint8_t unusable_op; /**< Of its adjacencies, while it is not usable. */
	bool lost;           /**< A next hop that did not answer, or not for long enough since. */
	uint64_t answers_ms; /**< LOST: since when it answers again; 0: it does not. */
	unsigned refs;
	struct rte_ether_addr own_mac;
	struct rte_ether_addr mac;      /**< Zero when not known. */
	uint32_t adj;                   /**< First bound adjacency; 0: none. */
	uint64_t confirmed_ms;          /**< When `mac` was last heard of, or the start. */
	struct hr_addr seen;            /**< The address that was last heard of; family 0: none. */
	struct hr_neigh_timer timer;    /**< Of the state. */
	struct hr_neigh_timer another;  /**< Endpoint: router advertisements; next hop: its end. */
	struct hr_neigh_waiting *queue; /**< HR_NEIGH_QUEUE packets; NULL unless INCOMPLETE. */
	uint16_t queued, oldest;
	unsigned n_source, n_target;
	struct hr_addr *source; /**< Behind the targets. */
	char *name;             /**< Behind those; NULL for a next hop. */
	struct hr_addr target[];
};

static inline bool
hr_neigh_is_usable(const struct hr_neigh *neigh)
{
	return neigh->state >= HR_NEIGH_REACHABLE;
}

/** Spread what was started together: a share of `ms` that is always the same for a neighbour. */
static inline uint64_t
hr_neigh_spread(const struct hr_neigh *neigh, uint64_t ms)
{
	return rte_jhash(neigh->target, sizeof(neigh->target[0]) * (neigh->n_target > 0),
			       neigh->port) %
			ms;
}

#endif
