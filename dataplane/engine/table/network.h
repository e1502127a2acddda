/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Networks: a VRF, its gateway addresses, and what no network routes. Control thread.
 */
#ifndef HR_NETWORK_H
#define HR_NETWORK_H

#include "../control/kind.h"
#include "vrf.h"

/** The VRF of a network, NULL when there is none of this key. */
struct hr_vrf *hr_network_vrf(const char *name);

/** A number no other owner of routes has. */
uint32_t hr_route_owner(void);

/* For kinds/network.c. */

hr_prepare_fn hr_network_prepare;
hr_abort_fn hr_network_abort;
hr_apply_fn hr_network_apply;
hr_remove_fn hr_network_remove;

#endif
