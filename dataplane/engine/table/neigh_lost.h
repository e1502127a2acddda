/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Next hops that are lost: they did not answer, or their link was down, and they have not answered for
 * HR_NEIGH_RETURN_MS since. Only where there is another uplink that may do for theirs.
 */
#ifndef HR_NEIGH_LOST_H
#define HR_NEIGH_LOST_H

#include "../types.h"

struct hr_neigh;

/**
 * A next hop that is lost, NULL when it is not, or is not known. It is asked for as long as it is
 * referred to.
 *
 * @param answers whether it has begun to answer; as it was when NULL is returned
 */
struct hr_neigh *hr_neigh_lost(uint16_t port, const struct hr_ip6 *target, bool *answers);
/** Whether any next hop was lost, answers, or is back since this was last asked. */
bool hr_neigh_lost_changed(void);

/* For the files of neighbours alone. */

/** Whether several uplinks are there: hr_neigh_watch(). */
extern bool hr_neigh_watching;

/** Whether another uplink may do for this neighbour's. */
bool hr_neigh_is_watched(const struct hr_neigh *neigh);
/** It did not answer, or its link is down. One that is not watched is not lost. */
void hr_neigh_lose(struct hr_neigh *neigh);
/** It answered. */
void hr_neigh_answers(struct hr_neigh *neigh);
/** Nothing is known of it any more. */
void hr_neigh_not_lost(struct hr_neigh *neigh);

#endif
