/* SPDX-License-Identifier: Apache-2.0 */
#include "queues.h"

#include <assert.h>

#include "../rcu.h"
#include "../worker.h"

struct rte_ring *hr_tx_ring[HR_MAX_PORTS];
static struct hr_tx_shared shared[2];
static struct hr_twin shared_twin;
const struct hr_tx_shared *hr_tx_shared = &shared[0];

/** Where each receive queue is polled. */
static struct placement {
	uint16_t n;
	uint16_t least_burst;
	uint16_t worker[HR_PORT_QUEUES];
} placed[HR_MAX_PORTS];

static_assert(HR_MAX_PORTS * HR_PORT_QUEUES <= RTE_DIM(((struct hr_rxqs *)0)->q),
		"one worker can poll every queue");

static struct {
	struct hr_twin twin;
	struct hr_rxqs rxqs[2];
} polled[HR_MAX_WORKERS];

static void
publish_rxqs(uint16_t worker)
{
	struct hr_twin *twin = &polled[worker].twin;
	struct hr_rxqs *now = &polled[worker].rxqs[hr_twin_begin(twin)];

	now->n = 0;
	for (uint16_t port = 0; port < HR_MAX_PORTS; port++) {
		for (uint16_t queue = 0; queue < placed[port].n; queue++) {
			if (placed[port].worker[queue] != worker)
				continue;
			now->q[now->n].port = port;
			now->q[now->n].queue = queue;
			now->q[now->n].least_burst = placed[port].least_burst;
			now->n++;
		}
	}
	hr_publish(hr_workers[worker]->rxqs, now);
	hr_twin_end(twin);
}

/** Workers whose queues are others than they know. */
static bool due[HR_MAX_WORKERS];

static void
have_polled(const struct placement *port)
{
	for (uint16_t queue = 0; queue < port->n; queue++)
		due[port->worker[queue]] = true;
}

void
hr_queues_publish(void)
{
	for (uint16_t worker = 0; worker < hr_n_workers; worker++) {
		if (due[worker])
			publish_rxqs(worker);
		due[worker] = false;
	}
}

static void
publish_shared(void)
{
	struct hr_tx_shared *now = &shared[hr_twin_begin(&shared_twin)];

	now->n = 0;
	for (uint16_t port = 0; port < HR_MAX_PORTS; port++) {
		if (hr_tx_ring[port] != NULL)
			now->port[now->n++] = port;
	}
	hr_publish(hr_tx_shared, now);
	hr_twin_end(&shared_twin);
}

static uint16_t
least_loaded(void)
{
	unsigned load[HR_MAX_WORKERS] = {0};
	uint16_t best = 0;

	for (uint16_t port = 0; port < HR_MAX_PORTS; port++) {
		for (uint16_t queue = 0; queue < placed[port].n; queue++)
			load[placed[port].worker[queue]]++;
	}
	for (uint16_t worker = 1; worker < hr_n_workers; worker++) {
		if (load[worker] < load[best])
			best = worker;
	}
	return best;
}

void
hr_queues_attach(const struct hr_device *device)
{
	const uint16_t id = device->id;

	if (device->tx_ring != NULL) {
		hr_publish(hr_tx_ring[id], device->tx_ring);
		publish_shared();
	}
	for (uint16_t worker = 0; worker < hr_n_workers; worker++)
		hr_publish(hr_workers[worker]->txq[id],
				worker < device->n_tx ? worker : HR_TXQ_NONE);
	placed[id].least_burst = device->least_burst;
	for (placed[id].n = 0; placed[id].n < device->n_rx;) {
		const uint16_t worker = least_loaded();

		placed[id].worker[placed[id].n++] = worker;
	}
	have_polled(&placed[id]);
}

void
hr_queues_detach(const struct hr_device *device)
{
	const uint16_t id = device->id;
	const struct placement before = placed[id];

	placed[id].n = 0;
	have_polled(&before);
	hr_queues_publish();
	for (uint16_t worker = 0; worker < hr_n_workers; worker++)
		hr_publish(hr_workers[worker]->txq[id], (uint16_t)HR_TXQ_NONE);
	if (hr_tx_ring[id] != NULL) {
		hr_publish(hr_tx_ring[id], NULL);
		publish_shared();
	}
}

uint16_t
hr_queues_worker(uint16_t id, uint16_t queue)
{
	return placed[id].worker[queue];
}
