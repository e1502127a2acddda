/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * headrace-resolve: packets whose neighbour has no known MAC address, to the control thread.
 */
#include "../table/event.h"
#include "nodes.h"

static uint16_t
resolve_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb)
{
	struct hr_worker *worker = hr_node_worker(node);

	RTE_SET_USED(graph);
	for (uint16_t i = 0; i < nb; i++) {
		struct rte_mbuf *m = objs[i];
		const struct hr_event event = {
				.type = HR_EVENT_RESOLVE,
				.port = worker->in->port,
				.packet = m,
		};

		/* Whom a drop counts under, also after it has waited. */
		m->port = worker->in->port;
		/* Too many buffers for one packet to have wait, and larger than any MTU. */
		if (m->nb_segs != 1)
			hr_drop(worker, m, HR_DROP_OVERSIZE);
		else if (!hr_event_post(&event))
			hr_drop(worker, m, HR_DROP_CONTROL_FULL);
	}
	return nb;
}

static struct rte_node_register resolve_node = {
		.name = "headrace-resolve",
		.process = resolve_process,
		.init = hr_node_init,
		.nb_edges = HR_EDGE_COUNT,
		.next_nodes = HR_NODE_NEXT(HR_EDGE_RESOLVE),
};
RTE_NODE_REGISTER(resolve_node);
