/* SPDX-License-Identifier: Apache-2.0 */
#include <rte_graph_worker.h>

#include "walk.h"

void
hr_walk_measured(struct rte_graph *graph)
{
	rte_graph_walk(graph);
}
