/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What settings, links and next hops change of uplinks. Control thread.
 */
#ifndef HR_UPLINK_H
#define HR_UPLINK_H

#include <stdint.h>

/** Let workers know again which addresses are the node's own, on every uplink. */
void hr_uplinks_publish(void);

/**
 * Move the share of uplinks whose link or next hop was lost, and give it back. Called by the control
 * loop, as often as it likes, after hr_neigh_tick(): a link is looked at a hundred times a second.
 */
void hr_uplinks_tick(uint64_t now_ms);

#endif
