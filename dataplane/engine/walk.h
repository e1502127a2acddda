/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Two ways to walk a graph. rte_graph's statistics read the TSC twice at every node visited: 6 %
 * of a routed packet. So only one walk in HR_WALK_SAMPLE is measured; node counters are of those.
 */
#ifndef HR_WALK_H
#define HR_WALK_H

#include <rte_graph.h>

/** Of so many walks one is measured. */
#define HR_WALK_SAMPLE 16

/** Walk, without node statistics. */
void hr_walk(struct rte_graph *graph);
/** Walk, with rte_graph's node statistics. */
void hr_walk_measured(struct rte_graph *graph);

#endif
