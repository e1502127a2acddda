/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Whose an address is, for the exceptional nodes: ours, the endpoint's, or one that we lead to.
 */
#ifndef HR_ADDRESS_H
#define HR_ADDRESS_H

#include "../fib/fib.h"
#include "../packet/ip6.h"
#include "../table/adj.h"
#include "../table/vrf.h"
#include "../worker.h"

/** Whether the port answers for this IPv4 address. */
static inline bool
hr_owns4(const struct hr_port_ctx *in, rte_be32_t addr)
{
	for (uint16_t i = 0; i < in->n_own; i++)
		if (in->own[i].family == 4 && in->own[i].ip4 == addr)
			return true;
	return false;
}

/** Whether the port answers for this IPv6 address. */
static inline bool
hr_owns6(const struct hr_port_ctx *in, const struct hr_ip6 *addr)
{
	uint64_t compared = ~in->own_free; /* of the first one alone */

	for (uint16_t i = 0; i < in->n_own; i++, compared = UINT64_MAX)
		if (in->own[i].family == 6 && in->own[i].ip6.q[0] == addr->q[0] &&
				((in->own[i].ip6.q[1] ^ addr->q[1]) & compared) == 0)
			return true;
	return false;
}

/** Whether a lookup led elsewhere than to the gateway, nowhere, or back out of the port. */
static inline bool
hr_leads_away(const struct hr_port_ctx *in, uint32_t adj)
{
	switch (hr_adj_op(&hr_adjs[adj])) {
	case HR_OP_ETH:
	case HR_OP_ENCAP:
	case HR_OP_VXLAN:
	case HR_OP_RESOLVE:
	case HR_OP_CROWDED:
	case HR_OP_UNREACHABLE:
	case HR_OP_DOWN:
		return hr_adjs[adj].port != in->port;
	case HR_OP_ECMP:
	case HR_OP_NETWORK:
		return true;
	default:
		return false;
	}
}

/**
 * Whether an address that an endpoint asks for on its link is reached through us: it then gets
 * the gateway's MAC address (RFC 1027), so that endpoints may be given the subnet's prefix length.
 */
static inline bool
hr_proxies4(const struct hr_port_ctx *in, rte_be32_t addr)
{
	uint32_t adj;

	hr_fib4_lookup(in->vrf->fib4, &addr, &adj, 1);
	return hr_leads_away(in, adj);
}

/** The same by neighbour discovery (RFC 4389). */
static inline bool
hr_proxies6(const struct hr_port_ctx *in, const struct hr_ip6 *addr)
{
	uint32_t adj;

	if (in->role != HR_ROLE_INTERFACE)
		return false;
	hr_fib6_lookup(in->vrf->fib6, &addr, &adj, 1);
	return hr_leads_away(in, adj);
}

/** Whether an Interface's endpoint may call itself this. */
static inline bool
hr_source4_has(const struct hr_port_ctx *in, rte_be32_t addr)
{
	for (uint16_t i = 0; i < in->n_source4; i++)
		if ((addr & in->source4[i].mask) == in->source4[i].addr)
			return true;
	return false;
}

/** Whether an Interface's endpoint may call itself this; any link-local address but ours. */
static inline bool
hr_source6_has(const struct hr_port_ctx *in, const struct hr_ip6 *addr)
{
	if (hr_owns6(in, addr))
		return false;
	if (hr_ip6_is_link_local(addr))
		return true;
	for (uint16_t i = 0; i < in->n_source6; i++) {
		const struct hr_source6 *source = &in->source6[i];

		if ((addr->q[0] & source->mask.q[0]) == source->addr.q[0] &&
				(addr->q[1] & source->mask.q[1]) == source->addr.q[1])
			return true;
	}
	return false;
}

#endif
