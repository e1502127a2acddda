/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * headrace-resolve: packets whose neighbour has no known MAC address, to the control thread. When
 * that is of no use it says so in the adjacency; what comes to it until that is read, it drops.
 */
#include "../table/adj.h"
#include "../table/event.h"
#include "nodes.h"

/** Whose a packet is: of the Interface that sent it, or of whom it is for if by an uplink. */
static uint16_t
owner(const struct hr_port_ctx *in, const struct hr_adj *adj)
{
	const uint16_t port = in->role == HR_ROLE_UPLINK ? hr_adj_port(adj) : in->port;

	return port < HR_MAX_PORTS ? port : in->port; /* its device is gone */
}

/** The way out is shut: what was to leave by an uplink counts under that. */
static void
drop(struct hr_worker *worker, struct rte_mbuf *m, const struct hr_adj *adj, enum hr_drop reason)
{
	const uint16_t out = hr_adj_port(adj);
	const uint16_t port = hr_adj_is_encap(adj) && out < HR_MAX_PORTS ? out : m->port;

	hr_count_add(&worker->ports[port].drops[reason], 1);
	rte_pktmbuf_free(m);
}

static void
resolve_one(struct hr_worker *worker, struct rte_mbuf *m)
{
	const struct hr_adj *adj = &hr_adjs[m->hash.fdir.lo];
	const uint8_t op = hr_adj_op(adj);
	const struct hr_event event = {
			.type = HR_EVENT_RESOLVE,
			.port = worker->in->port,
			.share = owner(worker->in, adj),
			.generation = hr_port_generation_now(worker->in->port),
			.packet = m,
	};

	/* Whom a drop counts under, also after it has waited. */
	m->port = worker->in->port;
	/* Too many buffers for one packet to have wait, and larger than any MTU. */
	if (m->nb_segs != 1)
		hr_drop(worker, m, HR_DROP_OVERSIZE);
	else if (op == HR_OP_UNREACHABLE)
		drop(worker, m, adj, HR_DROP_UNRESOLVED);
	else if (op == HR_OP_DOWN)
		drop(worker, m, adj, HR_DROP_PORT_DOWN);
	else if (op == HR_OP_CROWDED &&
			!hr_bucket_take(&worker->crowded[event.share], worker->now, HR_CROWDED_RATE,
					HR_CROWDED_BURST))
		hr_drop(worker, m, HR_DROP_RESOLVE_QUEUE);
	else if (!hr_event_post(worker, &event))
		hr_drop(worker, m, HR_DROP_CONTROL_FULL);
}

static uint16_t
resolve_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb)
{
	struct hr_worker *worker = hr_node_worker(node);

	RTE_SET_USED(graph);
	for (uint16_t i = 0; i < nb; i++)
		resolve_one(worker, objs[i]);
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
