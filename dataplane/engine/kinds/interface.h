/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * interface/"NAMESPACE/NAME": an endpoint behind one port.
 */
#ifndef HR_KINDS_INTERFACE_H
#define HR_KINDS_INTERFACE_H

#include "../control/kind.h"

extern struct hr_kind hr_interface_kind;

struct hr_interface_spec {
	char port[HR_NAME_MAX];
	char network[HR_NAME_MAX];
	uint16_t n_addresses;
	struct hr_addr addresses[HR_MAX_ADDRESSES];
	uint16_t n_prefixes;
	struct hr_prefix prefixes[HR_MAX_PREFIXES];
	uint16_t n_gateways;
	struct hr_addr gateways[HR_MAX_GATEWAYS];
	bool has_mac;
	struct rte_ether_addr mac; /**< The endpoint's; learned when !has_mac. */
	struct hr_ip6 underlay;    /**< Never link-local. */
	uint16_t n_former;
	struct hr_ip6 former[HR_MAX_FORMER]; /**< Underlay addresses that still lead here. */
	bool source_check;
	uint16_t mtu; /**< L3, HR_MTU_MIN..HR_MTU_MAX. */
};

/* What it does: table/interface.c, table/neigh_list.c. */

hr_prepare_fn hr_interface_prepare;
hr_abort_fn hr_interface_abort;
hr_apply_fn hr_interface_apply;
hr_remove_fn hr_interface_remove;
hr_describe_fn hr_interface_describe;
hr_port_fn hr_interface_port;
hr_list_fn hr_list_neighbor;

#endif
