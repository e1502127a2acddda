/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * VRFs: the routing tables of a VirtualNetwork, as workers see them.
 */
#ifndef HR_VRF_H
#define HR_VRF_H

#include "../fib/fib.h"

struct hr_vrf {
	struct hr_fib *fib4, *fib6;
	uint32_t vni;
	uint32_t owner; /**< Owner number of its own routes (gateways, multicast) in the FIBs. */
};

#endif
