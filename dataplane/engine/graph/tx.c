/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * headrace-tx: sends finished frames out of mbuf->port.
 */
#include <assert.h>

#include "../packet/load.h"
#include "../port/queues.h"
#include "chain.h"
#include "nodes.h"

void
hr_tx_send(struct hr_worker *worker, uint16_t port, struct rte_mbuf **pkts, uint16_t n,
		uint64_t bytes)
{
	struct hr_port_counters *counters = &worker->ports[port];
	const uint16_t queue = hr_read(worker->txq[port]);
	uint16_t sent;

	if (likely(queue != HR_TXQ_NONE)) {
		sent = rte_eth_tx_burst(port, queue, pkts, n);
	} else {
		struct rte_ring *ring = hr_read(hr_tx_ring[port]);

		if (ring == NULL) {
			for (uint16_t i = 0; i < n; i++)
				hr_drop(worker, pkts[i], HR_DROP_PORT_DOWN);
			return;
		}
		sent = rte_ring_mp_enqueue_burst(ring, (void **)pkts, n, NULL);
		for (uint16_t i = sent; i < n; i++)
			hr_drop(worker, pkts[i], HR_DROP_TX_FULL);
		return; /* Whether the rest is sent worker 0 knows, and counts. */
	}
	for (uint16_t i = sent; i < n; i++) {
		bytes -= pkts[i]->pkt_len;
		hr_drop(worker, pkts[i], HR_DROP_TX_FULL);
	}
	hr_count_add(&counters->tx_packets, sent);
	hr_count_add(&counters->tx_bytes, bytes);
}

void
hr_tx_drain(struct hr_worker *worker)
{
	const struct hr_tx_shared *shared = hr_read(hr_tx_shared);

	for (uint16_t i = 0; i < shared->n; i++) {
		const uint16_t port = shared->port[i];
		struct rte_ring *ring = hr_read(hr_tx_ring[port]);
		struct hr_port_counters *counters = &worker->ports[port];
		struct rte_mbuf *pkts[HR_BURST];
		uint64_t bytes = 0;
		unsigned n, sent;

		if (ring == NULL)
			continue;
		n = rte_ring_sc_dequeue_burst(ring, (void **)pkts, HR_BURST, NULL);
		if (n == 0)
			continue;
		for (unsigned j = 0; j < n; j++)
			bytes += pkts[j]->pkt_len;
		sent = rte_eth_tx_burst(port, 0, pkts, n);
		for (unsigned j = sent; j < n; j++)
			bytes -= pkts[j]->pkt_len;
		rte_pktmbuf_free_bulk(pkts + sent, n - sent);
		worker->received = n; /* busy: no sleep now */
		hr_count_add(&counters->tx_packets, sent);
		hr_count_add(&counters->tx_bytes, bytes);
		hr_count_add(&counters->drops[HR_DROP_TX_FULL], n - sent);
	}
}

/** A frame's number of segments and port: they stand side by side, and are compared as one. */
static inline uint32_t
segments_and_port(const struct rte_mbuf *m)
{
	static_assert(offsetof(struct rte_mbuf, port) == offsetof(struct rte_mbuf, nb_segs) + 2,
			"one word has both");

	return hr_load32((const uint8_t *)m + offsetof(struct rte_mbuf, nb_segs));
}

static uint16_t
tx_process(struct rte_graph *graph, struct rte_node *node, void **objs, uint16_t nb)
{
	struct hr_worker *worker = hr_node_worker(node);
	struct rte_mbuf **pkts = (struct rte_mbuf **)objs;
	const uint16_t first[] = {1, pkts[0]->port};
	const uint32_t expected = hr_load32(first);
	uint16_t used[HR_MAX_PORTS];
	uint16_t n_used = 0;
	uint32_t other = 0;
	uint64_t bytes = 0;

	RTE_SET_USED(graph);
	for (uint16_t i = 0; i < nb; i++) {
		other |= segments_and_port(pkts[i]) ^ expected;
		bytes += pkts[i]->pkt_len;
	}
	if (likely(other == 0)) {
		hr_tx_send(worker, first[1], pkts, nb, bytes);
		return nb;
	}
	for (uint16_t i = 0; i < nb; i++) {
		struct hr_tx_buffer *buffer = &worker->tx[pkts[i]->port];

		/* Drivers send the first segment alone, and leak the others. */
		if (pkts[i]->nb_segs != 1 && !hr_chain_gather(pkts[i])) {
			hr_drop(worker, pkts[i], HR_DROP_OVERSIZE);
			continue;
		}
		if (buffer->n == 0) {
			used[n_used++] = pkts[i]->port;
			buffer->bytes = 0;
		}
		buffer->bytes += pkts[i]->pkt_len;
		buffer->pkts[buffer->n++] = pkts[i];
	}
	for (uint16_t i = 0; i < n_used; i++) {
		struct hr_tx_buffer *buffer = &worker->tx[used[i]];

		hr_tx_send(worker, used[i], buffer->pkts, buffer->n, buffer->bytes);
		buffer->n = 0;
	}
	return nb;
}

static struct rte_node_register tx_node = {
		.name = "headrace-tx",
		.process = tx_process,
		.init = hr_node_init,
};
RTE_NODE_REGISTER(tx_node);
