/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * The engine: starts DPDK and the workers, then runs the control loop until told to end.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_version.h>

#include "buffers.h"
#include "control/server.h"
#include "crash.h"
#include "gap.h"
#include "options.h"
#include "port/port.h"
#include "rcu.h"
#include "stall.h"
#include "table/adj.h"
#include "table/event.h"
#include "table/group.h"
#include "table/neigh_event.h"
#include "table/neigh_queue.h"
#include "table/neigh_timer.h"
#include "table/path.h"
#include "table/uplink.h"
#include "telemetry.h"
#include "worker.h"

/** In the environment of an engine that was there before and found its hugepages taken. */
#define HUGEPAGES_TAKEN "HEADRACE_HUGEPAGES_TAKEN"

/** How long the control loop may be away from the workers' events, milliseconds. */
#define TICK_MS 1

static volatile sig_atomic_t ending;
static struct hr_options options;
static char telemetry_path[512];
static time_t started;

static void
on_signal(int signal)
{
	(void)signal;
	ending = 1;
}

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("headrace-engine: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static uint64_t
now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

/** NUMA node of a CPU; 0 where the kernel knows none. */
static unsigned
numa_node_of(int cpu)
{
	char path[64];

	for (unsigned node = 0; node < RTE_MAX_NUMA_NODES; node++) {
		snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/cpu%d", node, cpu);
		if (access(path, F_OK) == 0)
			return node;
	}
	return 0;
}

/** MiB of free hugepages on a NUMA node, of all sizes. */
static uint64_t
free_hugepages_mib(unsigned node)
{
	char folder[64];
	uint64_t mib = 0, kib, pages;
	const struct dirent *entry;
	DIR *sizes;

	snprintf(folder, sizeof(folder), "/sys/devices/system/node/node%u/hugepages", node);
	if (access(folder, F_OK) != 0)
		snprintf(folder, sizeof(folder), "/sys/kernel/mm/hugepages");
	sizes = opendir(folder);
	if (sizes == NULL)
		return 0;
	while ((entry = readdir(sizes)) != NULL) {
		char path[sizeof(folder) + sizeof(entry->d_name) + 32];
		FILE *file;

		if (sscanf(entry->d_name, "hugepages-%" SCNu64 "kB", &kib) != 1)
			continue;
		snprintf(path, sizeof(path), "%s/%s/free_hugepages", folder, entry->d_name);
		file = fopen(path, "re");
		if (file == NULL)
			continue;
		if (fscanf(file, "%" SCNu64, &pages) == 1)
			mib += pages * kib / 1024;
		fclose(file);
	}
	closedir(sizes);
	return mib;
}

/** Whether to use hugepages; says so when they were hoped for and are not there. */
static bool
choose_hugepages(unsigned node)
{
	uint64_t free_mib;

	if (options.hugepages != HR_HUGEPAGES_AUTO)
		return options.hugepages == HR_HUGEPAGES_ON;
	if (getenv(HUGEPAGES_TAKEN) != NULL)
		return false;
	free_mib = free_hugepages_mib(node);
	if (free_mib >= options.memory_mib)
		return true;
	fprintf(stderr,
			"headrace-engine: %u MiB of hugepages wanted, %" PRIu64
			" MiB free on NUMA node %u: using ordinary pages\n",
			options.memory_mib, free_mib, node);
	return false;
}

/**
 * Be started again, with ordinary pages: between the look at free hugepages and the last of them
 * another engine may take some, and DPDK starts once in a process. The command line stays, for the
 * agent knows its engine by it.
 */
static void __attribute__((noreturn)) start_without_hugepages(char **argv)
{
	fprintf(stderr,
			"headrace-engine: the hugepages were taken meanwhile: using ordinary "
			"pages\n");
	if (setenv(HUGEPAGES_TAKEN, "1", 1) != 0)
		die("setenv: %s", strerror(errno));
	/* What DPDK has got of them is files. */
	close_range(STDERR_FILENO + 1, UINT_MAX, 0);
	execv("/proc/self/exe", argv);
	die("/proc/self/exe: %s", strerror(errno));
}

/** Write what --socket-mem takes: all memory on one NUMA node. */
static void
put_memory(unsigned node, char *text, size_t size)
{
	size_t at = 0;

	/* With -m DPDK goes by the numbers of lcores, as if they were those of CPUs. */
	for (; node > 0; node--)
		at += (size_t)snprintf(text + at, size - at, "0,");
	snprintf(text + at, size - at, "%u", options.memory_mib);
}

static void
start_eal(char **own_argv)
{
	const unsigned node = numa_node_of(options.cpus[1]); /* The first worker's. */
	const bool huge = choose_hugepages(node);
	char lcores[16 * (HR_MAX_WORKERS + 1)] = "", memory[2 * RTE_MAX_NUMA_NODES + 16];
	const char *argv[24] = {"headrace-engine", "--lcores", lcores, "--iova-mode=va",
			"--file-prefix", options.name, huge ? "--socket-mem" : "-m", memory,
			"--log-level=notice",
			/* No PCI device but those that ports name. */
			"-a", "0000:00:00.0"};
	int argc = 11;
	size_t at = 0;

	for (unsigned i = 0; i <= options.workers; i++)
		at += (size_t)snprintf(lcores + at, sizeof(lcores) - at, "%s%u@%d", i ? "," : "", i,
				options.cpus[i]);
	if (huge)
		put_memory(node, memory, sizeof(memory));
	else
		snprintf(memory, sizeof(memory), "%u", options.memory_mib);
	/* Either way nothing is left on a file system. DPDK refuses --in-memory with --no-huge. */
	if (huge) {
		argv[argc++] = "--in-memory";
		/* vhost-user shares memory as files, of which its messages take eight. */
		argv[argc++] = "--single-file-segments";
	} else {
		argv[argc++] = "--no-huge";
		argv[argc++] = "--no-shconf";
	}
	/* Where DPDK looks for a place for its sockets. */
	if (setenv("RUNTIME_DIRECTORY", options.runtime_dir, 1) != 0)
		die("setenv: %s", strerror(errno));
	if (rte_eal_init(argc, (char **)(uintptr_t)argv) < 0) {
		if (huge && options.hugepages == HR_HUGEPAGES_AUTO)
			start_without_hugepages(own_argv);
		die("DPDK does not start: %s", rte_strerror(rte_errno));
	}
	snprintf(telemetry_path, sizeof(telemetry_path), "%s/dpdk_telemetry.v2",
			rte_eal_get_runtime_dir());
	fprintf(stderr, "headrace-engine: %s, %u worker%s, %u MiB of %s\n", rte_version(),
			options.workers, options.workers == 1 ? "" : "s", options.memory_mib,
			huge ? "hugepages" : "ordinary pages");
}

/** Packet buffers: those first that the engine itself may come to hold, whatever its ports. */
static void
create_buffers(void)
{
	const unsigned own = options.workers * HR_WORKER_BUFFERS + HR_BUFFERS_CACHED +
			HR_EVENT_BUFFERS + HR_NEIGH_BUFFERS;
	char remedy[HR_BUFFERS_REMEDY];

	if (hr_buffers_create(options.mbufs, options.memory_mib, options.max_mtu) != 0)
		die("%u packet buffers of %u bytes do not fit into %u MiB: %s", hr_buffers_count(),
				hr_buffers_size(), options.memory_mib,
				hr_buffers_remedy(RTE_MAX(own, options.mbufs), remedy));
	if (!hr_buffers_keep(own))
		die("%u workers may hold %u packet buffers, and there are %u of %u bytes: %s",
				options.workers, own, hr_buffers_count(), hr_buffers_size(),
				hr_buffers_remedy(own, remedy));
	hr_pool_waiting = HR_NEIGH_BUFFERS;
	fprintf(stderr, "headrace-engine: %u packet buffers of %u bytes, %u of them for ports\n",
			hr_buffers_count(), hr_buffers_size(), hr_buffers_count() - own);
}

static void
create(void)
{
	int error;

	create_buffers();
	error = hr_rcu_init(options.workers);
	error = error != 0 ? error : hr_adj_init();
	error = error != 0 ? error : hr_events_init();
	error = error != 0 ? error : hr_ports_init();
	error = error != 0 ? error : hr_workers_create(options.workers);
	error = error != 0 ? error : hr_telemetry_init();
	if (error != 0)
		die("cannot set up: %s", strerror(-error));
	error = hr_server_open(options.socket);
	if (error != 0)
		die("cannot listen on %s: %s", options.socket, strerror(-error));
	error = hr_workers_start();
	error = error != 0 ? error : hr_stalls_start();
	if (error != 0)
		die("cannot start workers: %s", strerror(-error));
}

static void
control_loop(void)
{
	const int fd = hr_server_epoll_fd();

	while (!ending) {
		struct epoll_event event;
		uint64_t now;

		epoll_wait(fd, &event, 1, TICK_MS);
		now = now_ms();
		hr_control_lock();
		hr_server_poll();
		hr_events_poll(now);
		hr_neigh_tick(now);
		hr_paths_tick(now);
		hr_ports_tick(now);
		hr_uplinks_tick(now);
		hr_groups_poll();
		hr_gaps_tick(now);
		hr_rcu_reclaim();
		hr_control_unlock();
	}
}

json_t *
hr_hello(void)
{
	json_t *workers = json_array();

	for (unsigned i = 0; i < hr_n_workers; i++)
		json_array_append_new(workers,
				json_pack("{s:i, s:i, s:i}", "worker", (int)i, "lcore",
						(int)hr_workers[i]->lcore, "cpu",
						hr_workers[i]->cpu));
	return json_pack("{s:s, s:s, s:i, s:s, s:o, s:I}", "version", HR_VERSION, "dpdk",
			rte_version(), "pid", (int)getpid(), "telemetry", telemetry_path, "workers",
			workers, "started", (json_int_t)started);
}

uint64_t
hr_started(void)
{
	return (uint64_t)started;
}

int
main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};

	hr_crash_init();
	hr_options_parse(argc, argv, &options);
	started = time(NULL);
	start_eal(argv);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	create();
	fprintf(stderr, "headrace-engine: ready on %s\n", options.socket);
	control_loop();
	hr_server_close();
	hr_stalls_stop();
	hr_workers_stop();
	hr_ports_close();
	unlink(options.socket);
	rte_eal_cleanup();
	return 0;
}
