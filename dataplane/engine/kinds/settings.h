/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * settings/"engine": what concerns all workers.
 */
#ifndef HR_KINDS_SETTINGS_H
#define HR_KINDS_SETTINGS_H

#include "../control/kind.h"

#define HR_WAITING_PACKETS_MAX 65536

extern struct hr_kind hr_settings_kind;

struct hr_settings_spec {
	bool adaptive;            /**< "idle": a worker without packets sleeps; else it polls. */
	uint16_t burst;           /**< 1..HR_BURST packets. */
	uint32_t icmp_per_second; /**< ICMP messages made by the engine, each second; 0: none. */
	uint16_t n_underlay_prefixes;
	/** The Pipeline's: IPv6, 1..64 bits. */
	struct hr_prefix underlay_prefixes[HR_UNDERLAY_PREFIXES_MAX];
	bool underlay_source_check; /**< Only with a prefix. */
	uint32_t waiting_max;       /**< Packets of a namespace; 0: HR_NEIGH_WAITING_MAX. */
};

/* What it does: settings.c. */

hr_apply_fn hr_settings_apply;
hr_remove_fn hr_settings_remove;

#endif
