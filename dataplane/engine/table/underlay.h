/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What underlay addresses say. Control thread.
 *
 * Inside the Pipeline's prefixes the second half of an address begins with the VNI of the network
 * that its packets belong to; the rest is an Interface's identity, or the node's own.
 */
#ifndef HR_UNDERLAY_H
#define HR_UNDERLAY_H

#include "../types.h"

/** Where the VNI is in the second half of an address, as a word in memory. */
#define HR_VNI_BITS RTE_BE64(0xffffff0000000000)

/** As settings/"engine" has it. */
struct hr_underlay {
	uint16_t n_prefixes;
	/** Of the Pipeline: each of its nodes' /64s is in one of them. */
	struct hr_prefix prefixes[HR_UNDERLAY_PREFIXES_MAX];
	bool source_check; /**< Whether outer sources are checked; never without a prefix. */
};
extern struct hr_underlay hr_underlay;

/** Whether an address is of this Pipeline: its VNI is known from it. */
bool hr_underlay_has(const struct hr_ip6 *address);

/**
 * The outer source of packets to `destination`, for the network `vni` in which that was found:
 * the node's own address, with the VNI in it when the destination has one. So a packet whose
 * destination is another network's does not pass for one of that network.
 */
struct hr_ip6 hr_underlay_source(const struct hr_ip6 *own, const struct hr_ip6 *destination,
		uint32_t vni);

/**
 * Bits in which outer source and destination mostly agree: a packet in which they do has its source
 * in the prefix and in the network of its destination. None when sources are not checked.
 */
struct hr_ip6 hr_underlay_source_mask(void);

#endif
