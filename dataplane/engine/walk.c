/* SPDX-License-Identifier: Apache-2.0 */
#include <rte_config.h>

#undef RTE_LIBRTE_GRAPH_STATS /* Decides what rte_graph_walk() is inlined as. */
#include <rte_graph_worker.h>

#include "walk.h"

void
hr_walk(struct rte_graph *graph)
{
	rte_graph_walk(graph);
}
