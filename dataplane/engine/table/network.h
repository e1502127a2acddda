/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Networks: a VRF, its gateway addresses, and what no network routes. Control thread.
 */
#ifndef HR_NETWORK_H
#define HR_NETWORK_H

#include "vrf.h"

/** The VRF of a network, NULL when there is none of this key. */
struct hr_vrf *hr_network_vrf(const char *name);

/** A number no other owner of routes has. */
uint32_t hr_route_owner(void);

#endif
