/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What routers of the underlay say of paths that carry less than their uplink (RFC 8201). Control
 * thread.
 */
#ifndef HR_PATH_MTU_H
#define HR_PATH_MTU_H

#include "../types.h"

/** Most underlay addresses of which that is remembered. */
#define HR_PATH_MTUS_MAX 1024
/** How long: RFC 8201 4 says ten minutes. */
#define HR_PATH_MTU_MS (10 * 60 * 1000)

/**
 * Lower what an underlay address is sent.
 *
 * @param mtu of the underlay, bytes, outer header included; below 1280 it counts for nothing, below 1320
 * as that
 * @return whether it is less than before
 */
bool hr_path_mtu_lower(const struct hr_ip6 *underlay, uint16_t mtu, uint64_t now_ms);

/** The largest outer packet to an underlay address, bytes; UINT16_MAX where nothing was said. */
uint16_t hr_path_mtu(const struct hr_ip6 *underlay);

/** Forget what was said of an address that no path leads to any more. */
void hr_path_mtu_forget(const struct hr_ip6 *underlay);

/** Forget one address of which something was said too long ago. @return whether there is one */
bool hr_path_mtu_expire(uint64_t now_ms, struct hr_ip6 *underlay);

#endif
