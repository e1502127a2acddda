/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * network/"NAMESPACE/NAME": a VRF, and who may send into it.
 */
#ifndef HR_KINDS_NETWORK_H
#define HR_KINDS_NETWORK_H

#include "../control/kind.h"
#include "../packet/vxlan.h"

#define HR_NETWORK_GATEWAYS_MAX 64 /**< Of one network: two for each of its 32 subnets. */

struct hr_vrf;

extern struct hr_kind hr_network_kind;

/** Of others: may send into the network. */
struct hr_underlay_endpoint {
	struct hr_ip6 address;
	struct hr_vxlan vxlan;
};

struct hr_network_spec {
	uint32_t vni; /**< 1..HR_VNI_MAX. */
	int8_t dscp;  /**< Of outer headers, 0..HR_DSCP_MAX; HR_DSCP_COPIED. */
	uint16_t n_gateways;
	struct hr_addr gateways[HR_NETWORK_GATEWAYS_MAX];
	uint16_t n_endpoints;
	struct hr_underlay_endpoint endpoints[HR_MAX_ENDPOINTS];
};

/** The endpoint of an address; NULL: it is none of the network's. */
const struct hr_underlay_endpoint *hr_network_endpoint(const struct hr_network_spec *spec,
		const struct hr_ip6 *address);

/* What it does: table/network.c. */

hr_prepare_fn hr_network_prepare;
hr_abort_fn hr_network_abort;
hr_apply_fn hr_network_apply;
hr_remove_fn hr_network_remove;
hr_describe_fn hr_network_describe;
/** The VRF of a network that there will be after a commit. */
struct hr_vrf *hr_network_vrf_after(const struct hr_txn *txn, const char *name);
/** Routes, and bytes of FIBs, of all networks. */
uint64_t hr_network_routes(void);
uint64_t hr_network_fib_bytes(void);

#endif
