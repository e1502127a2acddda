/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Paths: what routes lead to, as counted adjacencies. Control thread.
 *
 * An underlay address has one path for each network in which routes lead to it, which is its own
 * network's alone but for endpoints of other gear. When the address is a local Interface's the
 * path delivers there, else it encapsulates to it by an uplink; which of the two it is may change
 * while routes keep pointing to it. Where sources are checked, an Interface of another network is
 * none to deliver to.
 */
#ifndef HR_PATH_H
#define HR_PATH_H

#include <jansson.h>

#include "../types.h"

struct hr_vrf;

/** One member of a group. */
struct hr_path_member {
	uint32_t adj;
	uint32_t weight;
};

/**
 * The adjacency to an underlay address, for packets of a network; counted.
 * @return 0 when there is no memory, or are no more adjacencies
 */
uint32_t hr_path_underlay(const struct hr_ip6 *underlay, const struct hr_vrf *vrf);
/** The adjacency that looks up again in another network; counted. 0 as above. */
uint32_t hr_path_network(const struct hr_vrf *vrf);
/**
 * The adjacency that spreads flows over members by weight; counted. Takes over the callers'
 * counts of the members. One that is there twice has both weights. A single member is its own
 * group. 0 as above, members then put.
 */
uint32_t hr_path_group(const struct hr_path_member *members, unsigned n);
/** Count once more. Fixed adjacencies need no count. */
void hr_path_get(uint32_t adj);
/** Give one count back. Fixed adjacencies may be put any number of times. */
void hr_path_put(uint32_t adj);

/**
 * A router said that packets from an outer source to an underlay address exceed `mtu` (bytes, outer
 * header included). Nothing comes of it when no network's packets go so, or none is larger.
 */
void hr_path_too_big(const struct hr_ip6 *source, const struct hr_ip6 *underlay, uint16_t mtu,
		uint64_t now_ms);
/** Forget what was said too long ago. */
void hr_paths_tick(uint64_t now_ms);

/** Choose again between delivery and encapsulation for these addresses. */
void hr_path_refresh(const struct hr_ip6 *underlay, unsigned n);
/**
 * Choose again for every path: an uplink came, went or changed, or what outer sources follow from.
 * Paths that stay as they are are not touched; for another VNI in the source, or class, no packet waits.
 */
void hr_path_refresh_all(void);

/** The next hops of an adjacency, as in the `route` list; NULL for a blackhole. */
json_t *hr_path_describe(uint32_t adj);

#endif
