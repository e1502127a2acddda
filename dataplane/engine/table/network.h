/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Networks: a VRF (vrf.h), its gateway addresses, and what no network routes. Control thread.
 */
#ifndef HR_NETWORK_H
#define HR_NETWORK_H

#include <stdint.h>

/** Bytes of all networks' FIBs. */
uint64_t hr_network_fib_bytes(void);

#endif
