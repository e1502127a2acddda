/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * The states of a neighbour, and how long they last.
 */
#ifndef HR_NEIGH_TYPES_H
#define HR_NEIGH_TYPES_H

#define HR_NEIGH_TRIES 3            /**< RFC 4861 10: MAX_MULTICAST_SOLICIT, MAX_UNICAST_.. */
#define HR_NEIGH_RETRY_MS 1000      /**< RETRANS_TIMER */
#define HR_NEIGH_REACHABLE_MS 30000 /**< REACHABLE_TIME, then a neighbour is probed. */
#define HR_NEIGH_STALE_MS 5000      /**< DELAY_FIRST_PROBE_TIME */
#define HR_NEIGH_HOLD_MS 3000       /**< After no answer: packets drop, none is asked for. */
#define HR_NEIGH_WATCH_MS 3000      /**< In place of REACHABLE_TIME, where another uplink may do. */
#define HR_NEIGH_RETURN_MS 5000     /**< How long one that was lost has to answer. */
#define HR_NEIGH_ADVERTISE_MS 200000 /**< Between router advertisements, up to an eighth less. */

enum hr_neigh_state {
	HR_NEIGH_UNRESOLVED, /**< Unknown: the next packet asks. */
	HR_NEIGH_INCOMPLETE, /**< Asked, packets wait. */
	HR_NEIGH_FAILED,     /**< There was no answer: for a while packets drop. */
	HR_NEIGH_REACHABLE,
	HR_NEIGH_STALE,  /**< Used, and to be confirmed. */
	HR_NEIGH_PROBE,  /**< Used, and being asked. */
	HR_NEIGH_STATIC, /**< From the configuration. */
};

#endif
