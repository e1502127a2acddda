/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * The engine's command line.
 */
#ifndef HR_OPTIONS_H
#define HR_OPTIONS_H

#include "types.h"

enum hr_hugepages {
	HR_HUGEPAGES_AUTO, /**< When enough are free. */
	HR_HUGEPAGES_ON,
	HR_HUGEPAGES_OFF,
};

struct hr_options {
	const char *socket; /**< Path of the control socket. */
	const char *name;   /**< Names the telemetry socket's folder. */
	const char *runtime_dir;
	unsigned n_cpus;
	int cpus[HR_MAX_WORKERS + 1]; /**< First the control thread's, then the workers'. */
	unsigned workers;
	bool share_control; /**< The control thread runs on the first worker's CPU. */
	enum hr_hugepages hugepages;
	unsigned memory_mib;
	unsigned mbufs;   /**< 0: as many as the memory holds. */
	unsigned max_mtu; /**< Largest L3 MTU of any port: sizes the buffers. */
};

/** Parse argv; prints usage or one line and exits on --help, --version or an error. */
void hr_options_parse(int argc, char **argv, struct hr_options *options);

#endif
