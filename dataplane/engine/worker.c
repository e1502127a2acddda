/* SPDX-License-Identifier: Apache-2.0 */
#include "worker.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <time.h>

#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_mbuf.h>

#include "crash.h"
#include "memory.h"
#include "walk.h"

/** Empty walks before an adaptive worker starts to sleep: some ten microseconds. */
#define SPIN_WALKS 256
/** Shortest and longest sleep of the adaptive policy, nanoseconds. */
#define SLEEP_MIN_NS 1000
#define SLEEP_MAX_NS 1000000

struct hr_worker *hr_workers[HR_MAX_WORKERS];
unsigned hr_n_workers;
struct hr_worker_settings hr_worker_settings = {
		.burst = HR_BURST,
		.adaptive = true,
		.icmp_per_second = 1000,
};
uint64_t hr_control_drops[HR_MAX_PORTS][HR_DROP_COUNT];
unsigned hr_pool_waiting;

static atomic_bool stopping;
/** The worker whose graph is being created: rte_graph gives node inits no argument. */
static struct hr_worker *creating;

int
hr_node_init(const struct rte_graph *graph, struct rte_node *node)
{
	memcpy(node->ctx, &creating, sizeof(creating));
	/* Now rather than at the first packet: workers do not allocate. */
	__rte_node_stream_alloc((struct rte_graph *)(uintptr_t)graph, node);
	return 0;
}

bool
hr_bucket_take(struct hr_bucket *bucket, uint64_t now, uint64_t rate, uint64_t burst)
{
	const uint64_t hz = rte_get_tsc_hz();
	const uint64_t elapsed = now - bucket->last_tsc;

	if (elapsed >= hz) {
		bucket->tokens = RTE_MIN(burst, bucket->tokens + rate);
		bucket->last_tsc = now;
	} else if (elapsed * rate >= hz) {
		const uint64_t earned = elapsed * rate / hz;

		bucket->tokens = RTE_MIN(burst, bucket->tokens + earned);
		bucket->last_tsc += earned * hz / rate;
	}
	bucket->tokens = RTE_MIN(bucket->tokens, burst); /* the rate may have been lowered */
	if (bucket->tokens == 0)
		return false;
	bucket->tokens--;
	return true;
}

bool
hr_inject(struct hr_worker *worker, struct rte_mbuf *m, enum hr_inject_mode mode)
{
	/* What workers have to say leaves half to what the control thread asks and sends on. */
	if (mode == HR_INJECT_ROUTE &&
			rte_ring_count(worker->inject) >= rte_ring_get_capacity(worker->inject) / 2)
		return false;
	/* The low byte is the mode's; above it stands what hr_adj_mark() wrote, or whose port it is. */
	if (mode != HR_INJECT_ADJ)
		m->hash.fdir.hi = hr_port_generation_now(m->port) << 8;
	m->hash.fdir.hi = (m->hash.fdir.hi & ~0xffu) | mode;
	return rte_ring_mp_enqueue(worker->inject, m) == 0;
}

void
hr_control_drop(uint16_t port, struct rte_mbuf *m, enum hr_drop reason)
{
	hr_count_add(&hr_control_drops[port < HR_MAX_PORTS ? port : 0][reason], 1);
	rte_pktmbuf_free(m);
}

/** The worker was away from its queues for so many cycles. */
static inline void
note_gap(struct hr_worker *worker, uint64_t cycles)
{
	if (unlikely(cycles > hr_count(worker->gap)))
		__atomic_store_n(&worker->gap, cycles, __ATOMIC_RELAXED);
}

/** A walk that took in packets took so many cycles. */
static inline void
note_latency(struct hr_worker *worker, uint64_t cycles)
{
	const uint64_t hz = rte_get_tsc_hz();

	if (likely(worker->walks % HR_LATENCY_SAMPLE != 0) || worker->injected)
		return;
	/* Of what took longer than a second it is enough to know that. */
	hr_latency_note(&worker->latency, RTE_MIN(cycles, hz) * NS_PER_S / hz, worker->received);
}

/** One sleep of an idle worker. @return how long the next one may be, nanoseconds */
static long
idle_sleep(struct hr_worker *worker, long ns)
{
	const uint64_t asked = (uint64_t)ns * rte_get_tsc_hz() / NS_PER_S;
	const uint64_t before = rte_rdtsc();
	const struct timespec time = {.tv_nsec = ns};
	uint64_t slept;

	/* Asleep it holds nothing: no commit waits for it, and nobody's packets for the commit. */
	rte_rcu_qsbr_thread_offline(hr_qsbr, worker->index);
	nanosleep(&time, NULL);
	rte_rcu_qsbr_thread_online(hr_qsbr, worker->index);
	slept = rte_rdtsc() - before;
	hr_count_add(&worker->sleep_cycles, slept);
	if (slept > asked)
		note_gap(worker, slept - asked);
	return RTE_MIN(ns * 2, SLEEP_MAX_NS);
}

static int
run(void *arg)
{
	struct hr_worker *worker = arg;
	struct rte_graph *graph = worker->graph;
	uint64_t last = rte_rdtsc(), now;
	long sleep_ns = SLEEP_MIN_NS;
	unsigned empty = 0;

	hr_crash_thread();
	__atomic_store_n(&worker->thread, pthread_self(), __ATOMIC_RELAXED);
	/* Else a sleep of a microsecond takes fifty more. */
	prctl(PR_SET_TIMERSLACK, 1UL);
	rte_rcu_qsbr_thread_online(hr_qsbr, worker->index);
	while (!atomic_load_explicit(&stopping, memory_order_relaxed)) {
		worker->received = 0;
		worker->now = last;
		hr_count_add(&worker->walks, 1);
		if (worker->walks % HR_WALK_SAMPLE == 1)
			hr_walk_measured(graph);
		else
			hr_walk(graph);
		rte_rcu_qsbr_quiescent(hr_qsbr, worker->index);
		now = rte_rdtsc();
		note_gap(worker, now - last);
		if (worker->received > 0) {
			hr_count_add(&worker->busy_cycles, now - last);
			note_latency(worker, now - last);
			empty = 0;
			sleep_ns = SLEEP_MIN_NS;
		} else {
			hr_count_add(&worker->idle_cycles, now - last);
			if (++empty >= SPIN_WALKS && hr_count(hr_worker_settings.adaptive)) {
				sleep_ns = idle_sleep(worker, sleep_ns);
				now = rte_rdtsc();
			}
		}
		last = now;
	}
	rte_rcu_qsbr_thread_offline(hr_qsbr, worker->index);
	return 0;
}

static int
create_graph(struct hr_worker *worker)
{
	static const char *patterns[] = {"headrace-*"};
	const struct rte_graph_param param = {
			.socket_id = hr_memory_near((int)rte_lcore_to_socket_id(worker->lcore)),
			.nb_node_patterns = RTE_DIM(patterns),
			.node_patterns = patterns,
	};
	char name[RTE_GRAPH_NAMESIZE];
	rte_graph_t id;

	snprintf(name, sizeof(name), "worker-%u", worker->index);
	creating = worker;
	id = rte_graph_create(name, (struct rte_graph_param *)(uintptr_t)&param);
	creating = NULL;
	if (id == RTE_GRAPH_ID_INVALID)
		return -rte_errno;
	worker->graph = rte_graph_lookup(name);
	return worker->graph == NULL ? -ENOENT : 0;
}

/** The CPU an lcore runs on: not its id when --lcores says so. */
static int
cpu_of(unsigned lcore)
{
	const rte_cpuset_t cpus = rte_lcore_cpuset(lcore);

	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &cpus))
			return cpu;
	return -1;
}

int
hr_workers_create(unsigned n)
{
	static const struct hr_rxqs no_queues;
	unsigned lcore = rte_get_next_lcore(-1, 1, 0);

	for (unsigned i = 0; i < n; i++, lcore = rte_get_next_lcore(lcore, 1, 0)) {
		const int socket = lcore < RTE_MAX_LCORE
				? hr_memory_near((int)rte_lcore_to_socket_id(lcore))
				: SOCKET_ID_ANY;
		struct hr_worker *worker =
				rte_zmalloc_socket("worker", sizeof(*worker), 64, socket);
		char name[RTE_RING_NAMESIZE];
		int error;

		if (lcore >= RTE_MAX_LCORE || worker == NULL)
			return -ENOMEM;
		snprintf(name, sizeof(name), "inject-%u", i);
		worker->index = i;
		worker->lcore = lcore;
		worker->cpu = cpu_of(lcore);
		worker->rxqs = &no_queues;
		worker->in = hr_port_ctx[0];
		for (unsigned port = 0; port < HR_MAX_PORTS; port++)
			worker->txq[port] = HR_TXQ_NONE;
		worker->inject = rte_ring_create(name, HR_INJECT_RING, socket, RING_F_SC_DEQ);
		if (worker->inject == NULL)
			return -rte_errno;
		error = create_graph(worker);
		if (error != 0)
			return error;
		rte_rcu_qsbr_thread_register(hr_qsbr, i);
		hr_workers[i] = worker;
	}
	hr_n_workers = n;
	return 0;
}

int
hr_workers_start(void)
{
	for (unsigned i = 0; i < hr_n_workers; i++) {
		int error = rte_eal_remote_launch(run, hr_workers[i], hr_workers[i]->lcore);

		if (error != 0)
			return error;
	}
	return 0;
}

void
hr_workers_stop(void)
{
	atomic_store(&stopping, true);
	rte_eal_mp_wait_lcore();
}
