/* SPDX-License-Identifier: Apache-2.0 */
#include "telemetry.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mempool.h>
#include <rte_telemetry.h>
#include <rte_version.h>

#include "buffers.h"
#include "control/server.h"
#include "control/store.h"
#include "gap.h"
#include "port/device.h"
#include "port/port.h"
#include "stall.h"
#include "table/adj.h"
#include "walk.h"
#include "worker.h"

/* The older names were deprecated in 23.07 and are gone. */
#if RTE_VERSION < RTE_VERSION_NUM(23, 3, 0, 0)
#define rte_tel_data_add_dict_uint rte_tel_data_add_dict_u64
#define rte_tel_data_add_array_uint rte_tel_data_add_array_u64
#define RTE_TEL_UINT_VAL RTE_TEL_U64_VAL
#endif

#define PREFIX "/headrace/"

static pthread_mutex_t control = PTHREAD_MUTEX_INITIALIZER;

void
hr_control_lock(void)
{
	pthread_mutex_lock(&control);
}

void
hr_control_unlock(void)
{
	pthread_mutex_unlock(&control);
}

/** The worker that a command's parameter names, NULL when there is none. */
static const struct hr_worker *
parse_worker(const char *params)
{
	char *end;
	unsigned long index;

	if (params == NULL || *params < '0' || *params > '9')
		return NULL;
	index = strtoul(params, &end, 10);
	return *end == '\0' && index < hr_n_workers ? hr_workers[index] : NULL;
}

static void
add_kind(struct rte_tel_data *data, const struct hr_kind *kind)
{
	char name[RTE_TEL_MAX_STRING_LEN];

	snprintf(name, sizeof(name), "objects_%s", kind->name);
	rte_tel_data_add_dict_uint(data, name, hr_store_count(kind));
	for (const struct hr_figure *figure = kind->figures; figure->name != NULL; figure++)
		rte_tel_data_add_dict_uint(data, figure->name, figure->value());
}

static int
info(const char *cmd, const char *params, struct rte_tel_data *data)
{
	RTE_SET_USED(cmd);
	RTE_SET_USED(params);
	rte_tel_data_start_dict(data);
	rte_tel_data_add_dict_string(data, "version", HR_VERSION);
	rte_tel_data_add_dict_uint(data, "started", hr_started());
	rte_tel_data_add_dict_uint(data, "workers", hr_n_workers);
	hr_control_lock();
	rte_tel_data_add_dict_uint(data, "generation", (uint64_t)hr_store_generation());
	rte_tel_data_add_dict_uint(data, "adjacencies", hr_adj_count());
	for (unsigned i = 0; i < hr_n_kinds; i++)
		add_kind(data, hr_kinds[i]);
	hr_control_unlock();
	return 0;
}

static int
workers(const char *cmd, const char *params, struct rte_tel_data *data)
{
	RTE_SET_USED(cmd);
	RTE_SET_USED(params);
	rte_tel_data_start_array(data, RTE_TEL_UINT_VAL);
	for (unsigned i = 0; i < hr_n_workers; i++)
		rte_tel_data_add_array_uint(data, i);
	return 0;
}

/** Takes no lock: the control thread may be waiting for one of them. */
static int
stalled(const char *cmd, const char *params, struct rte_tel_data *data)
{
	RTE_SET_USED(cmd);
	RTE_SET_USED(params);
	rte_tel_data_start_array(data, RTE_TEL_UINT_VAL);
	for (unsigned i = 0; i < hr_n_workers; i++)
		if (hr_stalled(i))
			rte_tel_data_add_array_uint(data, i);
	return 0;
}

static int
add_latency(struct rte_tel_data *data, const struct hr_latency *latency)
{
	struct rte_tel_data *bounds = rte_tel_data_alloc(), *packets = rte_tel_data_alloc();

	if (bounds == NULL || packets == NULL) {
		rte_tel_data_free(bounds);
		rte_tel_data_free(packets);
		return -ENOMEM;
	}
	rte_tel_data_start_array(bounds, RTE_TEL_UINT_VAL);
	rte_tel_data_start_array(packets, RTE_TEL_UINT_VAL);
	for (unsigned i = 0; i < HR_LATENCY_BUCKETS; i++) {
		if (i < HR_LATENCY_BUCKETS - 1)
			rte_tel_data_add_array_uint(bounds, hr_latency_bound_ns(i));
		rte_tel_data_add_array_uint(packets, hr_count(latency->packets[i]));
	}
	rte_tel_data_add_dict_container(data, "latency_bounds_ns", bounds, 0);
	rte_tel_data_add_dict_container(data, "latency_packets", packets, 0);
	return rte_tel_data_add_dict_uint(data, "latency_ns", hr_count(latency->ns));
}

static int
worker(const char *cmd, const char *params, struct rte_tel_data *data)
{
	static const char *const fill[] = {
			"burst_1", "burst_2_7", "burst_8_31", "burst_32_63", "burst_64"};
	const struct hr_worker *w = parse_worker(params);

	RTE_SET_USED(cmd);
	if (w == NULL)
		return -EINVAL;
	rte_tel_data_start_dict(data);
	rte_tel_data_add_dict_uint(data, "lcore", w->lcore);
	rte_tel_data_add_dict_int(data, "cpu", w->cpu);
	rte_tel_data_add_dict_uint(data, "tsc_hz", rte_get_tsc_hz());
	rte_tel_data_add_dict_uint(data, "busy_cycles", hr_count(w->busy_cycles));
	rte_tel_data_add_dict_uint(data, "idle_cycles", hr_count(w->idle_cycles));
	rte_tel_data_add_dict_uint(data, "sleep_cycles", hr_count(w->sleep_cycles));
	rte_tel_data_add_dict_uint(data, "longest_gap_cycles", hr_gap_longest(w->index));
	rte_tel_data_add_dict_uint(data, "stalled", hr_stalled(w->index));
	rte_tel_data_add_dict_uint(data, "walks", hr_count(w->walks));
	rte_tel_data_add_dict_uint(data, "bursts", hr_count(w->bursts));
	rte_tel_data_add_dict_uint(data, "packets", hr_count(w->packets));
	for (unsigned i = 0; i < RTE_DIM(fill); i++)
		rte_tel_data_add_dict_uint(data, fill[i], hr_count(w->fill[i]));
	return add_latency(data, &w->latency);
}

/** A node's name as telemetry takes names: "headrace-icmp-error" is "icmp_error". */
static void
node_name(const char *name, char out[RTE_NODE_NAMESIZE])
{
	if (strncmp(name, "headrace-", 9) == 0)
		name += 9;
	snprintf(out, RTE_NODE_NAMESIZE, "%s", name);
	for (; *out != '\0'; out++) {
		if (*out == '-')
			*out = '_';
	}
}

/** One walk in HR_WALK_SAMPLE is measured: the figures are estimates of all. */
static int
nodes(const char *cmd, const char *params, struct rte_tel_data *data)
{
	const struct hr_worker *w = parse_worker(params);
	const struct rte_node *node;
	rte_graph_off_t offset;
	rte_node_t count;

	RTE_SET_USED(cmd);
	if (w == NULL)
		return -EINVAL;
	rte_tel_data_start_dict(data);
	rte_graph_foreach_node(count, offset, w->graph, node)
	{
		struct rte_tel_data *stats = rte_tel_data_alloc();
		char name[RTE_NODE_NAMESIZE];

		if (stats == NULL)
			return -ENOMEM;
		node_name(node->name, name);
		rte_tel_data_start_dict(stats);
		rte_tel_data_add_dict_uint(stats, "calls",
				hr_count(node->total_calls) * HR_WALK_SAMPLE);
		rte_tel_data_add_dict_uint(stats, "objs",
				hr_count(node->total_objs) * HR_WALK_SAMPLE);
		rte_tel_data_add_dict_uint(stats, "cycles",
				hr_count(node->total_cycles) * HR_WALK_SAMPLE);
		rte_tel_data_add_dict_container(data, name, stats, 0);
	}
	return 0;
}

/** The kind that a command is about: "/headrace/interface", "/headrace/interfaces". */
static const struct hr_kind *
kind_of(const char *cmd)
{
	const char *name = cmd + strlen(PREFIX);

	for (unsigned i = 0; i < hr_n_kinds; i++) {
		if (strcmp(name, hr_kinds[i]->name) == 0 || strcmp(name, hr_kinds[i]->plural) == 0)
			return hr_kinds[i];
	}
	return NULL;
}

static int
keys(const char *cmd, const char *params, struct rte_tel_data *data)
{
	const struct hr_kind *kind = kind_of(cmd);

	RTE_SET_USED(params);
	rte_tel_data_start_array(data, RTE_TEL_STRING_VAL);
	hr_control_lock();
	for (size_t i = 0; i < hr_store_count(kind); i++)
		rte_tel_data_add_array_string(data, hr_store_at(kind, i)->key);
	hr_control_unlock();
	return 0;
}

static void
add_drops(struct rte_tel_data *data, const uint64_t drops[HR_DROP_COUNT])
{
	for (unsigned reason = 0; reason < HR_DROP_COUNT; reason++)
		rte_tel_data_add_dict_uint(data, hr_drop_names[reason], drops[reason]);
}

/** Since 25.11 DPDK counts no queues, and before only the first. */
static int
add_queues(struct rte_tel_data *data, const struct hr_device *device,
		const struct rte_eth_stats *stats)
{
#if RTE_VERSION < RTE_VERSION_NUM(25, 11, 0, 0)
	const unsigned most = RTE_ETHDEV_QUEUE_STAT_CNTRS;
	struct rte_tel_data *rx = rte_tel_data_alloc(), *tx = rte_tel_data_alloc();

	if (rx == NULL || tx == NULL) {
		rte_tel_data_free(rx);
		rte_tel_data_free(tx);
		return -ENOMEM;
	}
	rte_tel_data_start_array(rx, RTE_TEL_UINT_VAL);
	for (unsigned i = 0; i < RTE_MIN(device->n_rx, most); i++)
		rte_tel_data_add_array_uint(rx, stats->q_ipackets[i]);
	rte_tel_data_start_array(tx, RTE_TEL_UINT_VAL);
	for (unsigned i = 0; i < RTE_MIN(device->n_tx, most); i++)
		rte_tel_data_add_array_uint(tx, stats->q_opackets[i]);
	rte_tel_data_add_dict_container(data, "rx_queue_packets", rx, 0);
	rte_tel_data_add_dict_container(data, "tx_queue_packets", tx, 0);
#else
	RTE_SET_USED(data);
	RTE_SET_USED(device);
	RTE_SET_USED(stats);
#endif
	return 0;
}

/**
 * What the device has counted since it was opened; nothing while it is gone. DPDK's own
 * /ethdev/stats knows no lock, and reads devices that are being closed.
 */
static int
add_device(struct rte_tel_data *data, const struct hr_device *device)
{
	struct rte_eth_stats stats;

	rte_tel_data_start_dict(data);
	if (device == NULL || rte_eth_stats_get(device->id, &stats) != 0)
		return 0;
	rte_tel_data_add_dict_uint(data, "rx_packets", stats.ipackets);
	rte_tel_data_add_dict_uint(data, "rx_bytes", stats.ibytes);
	rte_tel_data_add_dict_uint(data, "rx_missed", stats.imissed);
	rte_tel_data_add_dict_uint(data, "rx_no_buffer", stats.rx_nombuf);
	rte_tel_data_add_dict_uint(data, "rx_errors", stats.ierrors);
	rte_tel_data_add_dict_uint(data, "tx_packets", stats.opackets);
	rte_tel_data_add_dict_uint(data, "tx_bytes", stats.obytes);
	rte_tel_data_add_dict_uint(data, "tx_errors", stats.oerrors);
	return add_queues(data, device, &stats);
}

/** Counters of a port; all zero while it or its device is gone. */
static int
add_counters(struct rte_tel_data *data, const struct hr_port *port)
{
	struct hr_port_counters sum = {0};
	struct rte_tel_data *device = rte_tel_data_alloc(), *drops = rte_tel_data_alloc();

	if (device == NULL || drops == NULL ||
			add_device(device, port != NULL ? hr_port_device(port) : NULL) != 0) {
		rte_tel_data_free(device);
		rte_tel_data_free(drops);
		return -ENOMEM;
	}
	if (port != NULL)
		hr_port_counters(port, &sum);
	rte_tel_data_start_dict(data);
	rte_tel_data_add_dict_uint(data, "rx_packets", sum.rx_packets);
	rte_tel_data_add_dict_uint(data, "rx_bytes", sum.rx_bytes);
	rte_tel_data_add_dict_uint(data, "tx_packets", sum.tx_packets);
	rte_tel_data_add_dict_uint(data, "tx_bytes", sum.tx_bytes);
	rte_tel_data_add_dict_uint(data, "device_losses", port != NULL ? hr_port_losses(port) : 0);
	rte_tel_data_start_dict(drops);
	add_drops(drops, sum.drops);
	rte_tel_data_add_dict_container(data, "drops", drops, 0);
	return rte_tel_data_add_dict_container(data, "device", device, 0);
}

static int
counters(const char *cmd, const char *params, struct rte_tel_data *data)
{
	const struct hr_kind *kind = kind_of(cmd);
	const struct hr_object *object;
	int error = -ENOENT;

	hr_control_lock();
	object = params != NULL ? hr_store_get(kind, params) : NULL;
	if (object != NULL)
		error = add_counters(data, kind->port(object));
	hr_control_unlock();
	return error;
}

/** Those of devices that are gone too: no total ever falls. */
static int
drops(const char *cmd, const char *params, struct rte_tel_data *data)
{
	const struct hr_worker *w = parse_worker(params);
	uint64_t sum[HR_DROP_COUNT] = {0};

	RTE_SET_USED(cmd);
	if (params != NULL && w == NULL)
		return -EINVAL;
	for (uint16_t id = 0; id < HR_MAX_PORTS; id++) {
		struct hr_port_counters all;

		if (w == NULL)
			hr_port_id_counters(id, &all);
		for (unsigned reason = 0; reason < HR_DROP_COUNT; reason++)
			sum[reason] += w == NULL ? all.drops[reason]
						 : hr_count(w->ports[id].drops[reason]);
	}
	rte_tel_data_start_dict(data);
	add_drops(data, sum);
	return 0;
}

static int
drop_reasons(const char *cmd, const char *params, struct rte_tel_data *data)
{
	RTE_SET_USED(cmd);
	RTE_SET_USED(params);
	rte_tel_data_start_dict(data);
	for (unsigned reason = 0; reason < HR_DROP_COUNT; reason++)
		rte_tel_data_add_dict_string(data, hr_drop_names[reason], hr_drop_texts[reason]);
	return 0;
}

/** DPDK 22.11's own /mempool/info does not say how many are in use. */
static int
mempool(const char *cmd, const char *params, struct rte_tel_data *data)
{
	const struct rte_mempool *pool;

	RTE_SET_USED(cmd);
	if (params == NULL)
		return -EINVAL;
	/* Pools come and go with ports. */
	hr_control_lock();
	pool = rte_mempool_lookup(params);
	if (pool != NULL) {
		rte_tel_data_start_dict(data);
		rte_tel_data_add_dict_uint(data, "size", pool->size);
		rte_tel_data_add_dict_uint(data, "in_use", rte_mempool_in_use_count(pool));
		if (pool == hr_pool) {
			rte_tel_data_add_dict_uint(data, "kept", hr_buffers_kept());
			rte_tel_data_add_dict_uint(data, "bytes", hr_buffers_size());
		}
	}
	hr_control_unlock();
	return pool != NULL ? 0 : -ENOENT;
}

#if RTE_VERSION >= RTE_VERSION_NUM(23, 3, 0, 0)
/** For DPDK's own /eal/lcore/usage. */
static int
lcore_usage(unsigned lcore, struct rte_lcore_usage *usage)
{
	for (unsigned i = 0; i < hr_n_workers; i++) {
		const struct hr_worker *w = hr_workers[i];

		if (w->lcore != lcore)
			continue;
		usage->busy_cycles = hr_count(w->busy_cycles);
		usage->total_cycles = usage->busy_cycles + hr_count(w->idle_cycles) +
				hr_count(w->sleep_cycles);
		return 0;
	}
	return -ENOENT;
}
#endif

/** The commands of a kind whose objects have counters. */
static int
register_kind(const struct hr_kind *kind)
{
	char name[RTE_TEL_MAX_STRING_LEN], help[RTE_TEL_MAX_STRING_LEN];
	int error;

	snprintf(name, sizeof(name), PREFIX "%s", kind->plural);
	snprintf(help, sizeof(help), "Names of %s. No parameters", kind->plural);
	error = rte_telemetry_register_cmd(name, keys, help);
	if (error != 0)
		return error;
	snprintf(name, sizeof(name), PREFIX "%s", kind->name);
	return rte_telemetry_register_cmd(name, counters, "Counters. Parameters: string name");
}

int
hr_telemetry_init(void)
{
	static const struct {
		const char *name;
		telemetry_cb fn;
		const char *help;
	} commands[] = {
			{PREFIX "info", info,
					"Engine, configuration and table sizes. No parameters"},
			{PREFIX "workers", workers, "Numbers of the workers. No parameters"},
			{PREFIX "worker", worker, "Load and bursts. Parameters: int worker"},
			{PREFIX "stalled", stalled,
					"Numbers of workers that do not walk. No parameters"},
			{PREFIX "nodes", nodes, "Graph node statistics. Parameters: int worker"},
			{PREFIX "drops", drops,
					"Packets dropped by reason. Parameters: int worker, or "
					"none for all"},
			{PREFIX "drop_reasons", drop_reasons,
					"What each reason means. No parameters"},
			{PREFIX "mempool", mempool,
					"Size, elements in use, and of packet buffers those kept for "
					"who may come to hold them. Parameters: string name"},
	};

	for (unsigned i = 0; i < RTE_DIM(commands); i++) {
		int error = rte_telemetry_register_cmd(commands[i].name, commands[i].fn,
				commands[i].help);

		if (error != 0)
			return error;
	}
	for (unsigned i = 0; i < hr_n_kinds; i++) {
		int error = hr_kinds[i]->port != NULL ? register_kind(hr_kinds[i]) : 0;

		if (error != 0)
			return error;
	}
#if RTE_VERSION >= RTE_VERSION_NUM(23, 3, 0, 0)
	rte_lcore_register_usage_cb(lcore_usage);
#endif
	return 0;
}
