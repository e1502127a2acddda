/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_version.h>

static const char usage[] =
		"Usage: headrace-engine --socket PATH [OPTION]...\n"
		"Forwards packets as the objects sent to its control socket say.\n"
		"\n"
		"  --socket PATH        control socket to listen on\n"
		"  --name NAME          names the telemetry socket's folder (default: headrace)\n"
		"  --runtime-dir DIR    telemetry socket: DIR/dpdk/NAME/dpdk_telemetry.v2\n"
		"                       (default: /run)\n"
		"  --cpus LIST          CPUs to use, such as 1,4-6 (default: this process's cpuset);\n"
		"                       the first is the control thread's\n"
		"  --workers N          workers, one CPU each (default: every CPU but the first)\n"
		"  --share-control      the control thread shares the first worker's CPU\n"
		"  --hugepages MODE     auto (when enough are free), on, off (default: auto)\n"
		"  --memory MIB         DPDK's memory (default: 256)\n"
		"  --mbufs N            packet buffers (default: as many as the memory holds beside\n"
		"                       32 MiB, or an eighth, for all else)\n"
		"  --max-mtu BYTES      largest MTU of any port (default: 1960; 1280..9216)\n"
		"  --version, --help\n"
		"\n"
		"Example: headrace-engine --socket /run/headrace/a/engine.sock --cpus 0,1\n";

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("headrace-engine: ", stderr);
	vfprintf(stderr, format, args);
	fputs(" (--help explains)\n", stderr);
	va_end(args);
	exit(2);
}

static unsigned
number(const char *option, const char *text, unsigned long min, unsigned long max)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < min || value > max)
		fail("--%s %s: want a number from %lu to %lu", option, text, min, max);
	return value;
}

static void
add_cpu(struct hr_options *options, unsigned long cpu)
{
	if (options->n_cpus < RTE_DIM(options->cpus))
		options->cpus[options->n_cpus++] = (int)cpu;
}

static void
parse_cpus(struct hr_options *options, const char *text)
{
	const char *at = text;

	while (*at != '\0') {
		char *end;
		unsigned long first = strtoul(at, &end, 10), last = first;

		if (end == at || first >= CPU_SETSIZE)
			fail("--cpus %s: want CPUs such as 1,4-6", text);
		if (*end == '-') {
			at = end + 1;
			last = strtoul(at, &end, 10);
			if (end == at || last < first || last >= CPU_SETSIZE)
				fail("--cpus %s: want CPUs such as 1,4-6", text);
		}
		for (unsigned long cpu = first; cpu <= last; cpu++)
			add_cpu(options, cpu);
		if (*end != ',' && *end != '\0')
			fail("--cpus %s: want CPUs such as 1,4-6", text);
		at = *end == ',' ? end + 1 : end;
	}
}

static void
own_cpuset(struct hr_options *options)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		fail("sched_getaffinity: %s", strerror(errno));
	for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &set))
			add_cpu(options, cpu);
}

static enum hr_hugepages
hugepages_mode(const char *text)
{
	if (strcmp(text, "auto") == 0)
		return HR_HUGEPAGES_AUTO;
	if (strcmp(text, "on") == 0)
		return HR_HUGEPAGES_ON;
	if (strcmp(text, "off") == 0)
		return HR_HUGEPAGES_OFF;
	fail("--hugepages %s: want auto, on or off", text);
}

/** Settle how many workers there are, and which CPU is whose. */
static void
place(struct hr_options *options)
{
	if (options->n_cpus == 0)
		own_cpuset(options);
	if (options->share_control) {
		/* cpus[0] and cpus[1] become the same. */
		memmove(options->cpus + 1, options->cpus,
				sizeof(options->cpus) - sizeof(options->cpus[0]));
		options->n_cpus = RTE_MIN(options->n_cpus + 1, RTE_DIM(options->cpus));
	}
	if (options->n_cpus < 2)
		fail("one CPU is not enough for a control thread and a worker: give another, or "
		     "--share-control");
	if (options->workers == 0)
		options->workers = options->n_cpus - 1;
	if (options->workers > options->n_cpus - 1)
		fail("%u workers need %u CPUs, there are %u", options->workers,
				options->workers + !options->share_control,
				options->n_cpus - options->share_control);
}

void
hr_options_parse(int argc, char **argv, struct hr_options *options)
{
	enum {
		SOCKET = 256,
		NAME,
		RUNTIME,
		CPUS,
		WORKERS,
		SHARE,
		HUGE,
		MEMORY,
		MBUFS,
		MTU,
		VERSION,
		HELP
	};
	static const struct option known[] = {
			{"socket", required_argument, NULL, SOCKET},
			{"name", required_argument, NULL, NAME},
			{"runtime-dir", required_argument, NULL, RUNTIME},
			{"cpus", required_argument, NULL, CPUS},
			{"workers", required_argument, NULL, WORKERS},
			{"share-control", no_argument, NULL, SHARE},
			{"hugepages", required_argument, NULL, HUGE},
			{"memory", required_argument, NULL, MEMORY},
			{"mbufs", required_argument, NULL, MBUFS},
			{"max-mtu", required_argument, NULL, MTU},
			{"version", no_argument, NULL, VERSION},
			{"help", no_argument, NULL, HELP},
			{NULL, 0, NULL, 0},
	};
	int option;

	*options = (struct hr_options){
			.name = "headrace",
			.runtime_dir = "/run",
			.memory_mib = 256,
			.max_mtu = 1960,
	};
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case SOCKET:
			options->socket = optarg;
			break;
		case NAME:
			options->name = optarg;
			break;
		case RUNTIME:
			options->runtime_dir = optarg;
			break;
		case CPUS:
			parse_cpus(options, optarg);
			break;
		case WORKERS:
			options->workers = number("workers", optarg, 1, HR_MAX_WORKERS);
			break;
		case SHARE:
			options->share_control = true;
			break;
		case HUGE:
			options->hugepages = hugepages_mode(optarg);
			break;
		case MEMORY:
			options->memory_mib = number("memory", optarg, 64, 1u << 20);
			break;
		case MBUFS:
			options->mbufs = number("mbufs", optarg, 4096, 1u << 24);
			break;
		case MTU:
			options->max_mtu = number("max-mtu", optarg, 1280, 9216);
			break;
		case VERSION:
			printf("headrace-engine %s, %s\n", HR_VERSION, rte_version());
			exit(0);
		case HELP:
			fputs(usage, stdout);
			exit(0);
		default:
			fail("unknown or incomplete option");
		}
	}
	if (optind < argc)
		fail("unexpected argument %s", argv[optind]);
	if (options->socket == NULL)
		fail("--socket is missing");
	place(options);
}
