/* SPDX-License-Identifier: Apache-2.0 */
#include "way.h"

#include "../kinds/interface.h"
#include "../kinds/network.h"
#include "../packet/frame.h"
#include "../packet/traffic_class.h"
#include "interface_state.h"
#include "neigh.h"
#include "neigh_adj.h"
#include "path_mtu.h"
#include "underlay.h"
#include "uplink_state.h"
#include "vrf.h"

/* Bytes of a rewrite: where ours begin, the end of the class, the outer source, and its VNI. */
#define OURS_AT RTE_ETHER_ADDR_LEN
#define CLASS_END (HR_ADJ_CLASS_BITS + 1)
#define SOURCE_AT (HR_L2_LEN + 8)
#define VNI_AT (SOURCE_AT + 8)
#define VNI_END (VNI_AT + 3)

/** To the endpoint of a local Interface. */
static void
find_local(const struct hr_interface *interface, struct hr_way *way)
{
	hr_interface_rewrite(interface, &way->adj);
	way->adj.op = HR_OP_UNREACHABLE; /* When its device is gone. */
	way->neigh = interface->neigh;
}

/** RFC 6040 4.1: ECN is copied always; RFC 2983: DSCP, or one for the network. */
static void
set_class(struct hr_adj *adj, int8_t dscp)
{
	if (dscp == HR_DSCP_COPIED)
		hr_adj_set_class(adj, UINT8_MAX, 0);
	else
		hr_adj_set_class(adj, HR_ECN_MASK, dscp << HR_DSCP_SHIFT);
}

/** Encapsulated, by an uplink, to the next hop that leads to the underlay address. */
static void
find_remote(const struct hr_ip6 *underlay, const struct hr_vrf *vrf, struct hr_way *way)
{
	struct hr_ip6 next_hop;
	const struct hr_uplink *uplink = hr_uplink_choose(underlay, &next_hop);
	const struct hr_underlay_endpoint *endpoint = hr_network_endpoint(vrf->spec, underlay);
	struct hr_adj *adj = &way->adj;
	struct hr_ip6 source;

	adj->op = HR_OP_NO_ROUTE;
	if (uplink == NULL)
		return;
	source = hr_underlay_source(&uplink->source, underlay, vrf->vni);
	memcpy(adj->rewrite + OURS_AT, uplink->mac.addr_bytes, RTE_ETHER_ADDR_LEN);
	adj->rewrite[12] = RTE_ETHER_TYPE_IPV6 >> 8;
	adj->rewrite[13] = RTE_ETHER_TYPE_IPV6 & 0xff;
	memcpy(adj->rewrite + SOURCE_AT, source.b, sizeof(source.b));
	memcpy(adj->rewrite + SOURCE_AT + sizeof(source.b), underlay->b, sizeof(underlay->b));
	set_class(adj, vrf->dscp);
	adj->mtu = RTE_MIN(uplink->mtu, hr_path_mtu(underlay)) - HR_UNDERLAY_OVERHEAD;
	adj->port = uplink->port_id;
	adj->ready_op = HR_OP_ENCAP;
	if (endpoint != NULL && endpoint->vxlan.vni != 0) {
		adj->ready_op = HR_OP_VXLAN;
		adj->mtu -= HR_VXLAN_LEN;
		way->vxlan = endpoint->vxlan;
	}
	way->neigh = hr_neigh_next_hop(uplink->port_id, &next_hop, &uplink->link_local,
			&uplink->mac, hr_uplink_fixed_mac(uplink, &next_hop));
	way->is_next_hop = way->neigh != NULL;
}

void
hr_way_find(const struct hr_ip6 *underlay, const struct hr_vrf *vrf, struct hr_way *way)
{
	const struct hr_interface *interface = hr_interface_by_underlay(underlay);

	*way = (struct hr_way){0};
	if (interface == NULL)
		find_remote(underlay, vrf, way);
	else if (hr_underlay.source_check &&
			hr_network_vrf(((const struct hr_interface_spec *)interface->object->spec)
							->network) != vrf)
		way->adj.op = HR_OP_FOREIGN;
	else
		find_local(interface, way);
}

bool
hr_way_is_from(uint32_t index, const struct hr_ip6 *source)
{
	const struct hr_adj *adj = &hr_adjs[index];

	return hr_adj_is_encap(adj) &&
			memcmp(adj->rewrite + SOURCE_AT, source->b, sizeof(source->b)) == 0;
}

static bool
same_bytes(const struct hr_adj *a, const struct hr_adj *b, unsigned from, unsigned to)
{
	return memcmp(a->rewrite + from, b->rewrite + from, to - from) == 0;
}

bool
hr_way_needs_rewrite(const struct hr_way *way, uint32_t index)
{
	const struct hr_adj *adj = &hr_adjs[index];

	return way->neigh != NULL &&
			(adj->port != way->adj.port || adj->ready_op != way->adj.ready_op ||
					!same_bytes(adj, &way->adj, OURS_AT, HR_ADJ_CLASS_MASK) ||
					!same_bytes(adj, &way->adj, CLASS_END, VNI_AT) ||
					!same_bytes(adj, &way->adj, VNI_END,
							sizeof(adj->rewrite)) ||
					memcmp(&hr_vxlans[index], &way->vxlan,
							sizeof(way->vxlan)) != 0);
}

void
hr_way_rewrite(const struct hr_way *way, uint32_t index)
{
	struct hr_adj *adj = &hr_adjs[index];

	memcpy(adj->rewrite + OURS_AT, way->adj.rewrite + OURS_AT, sizeof(adj->rewrite) - OURS_AT);
	hr_adj_set_mtu(adj, way->adj.mtu);
	hr_adj_set_port(adj, way->adj.port);
	adj->ready_op = way->adj.ready_op;
	hr_vxlans[index] = way->vxlan;
}

/**
 * Write the source's VNI: a packet meanwhile has the old one, the new one, or of the two some bytes
 * each, which only where sources are not checked yet has been good before.
 */
static void
take_vni(const struct hr_way *way, struct hr_adj *adj)
{
	if (same_bytes(adj, &way->adj, VNI_AT, VNI_END))
		return;
	for (unsigned i = VNI_AT; i < VNI_END; i++)
		__atomic_store_n(&adj->rewrite[i], way->adj.rewrite[i], __ATOMIC_RELAXED);
}

void
hr_way_take(const struct hr_way *way, uint32_t index)
{
	struct hr_adj *adj = &hr_adjs[index];

	if (way->neigh == NULL) {
		hr_neigh_unbind(index);
		if (adj->op != way->adj.op)
			hr_adj_set_op(adj, way->adj.op);
		return;
	}
	take_vni(way, adj);
	hr_adj_set_class(adj, way->adj.rewrite[HR_ADJ_CLASS_MASK],
			way->adj.rewrite[HR_ADJ_CLASS_BITS]);
	if (adj->mtu != way->adj.mtu)
		hr_adj_set_mtu(adj, way->adj.mtu);
	if (hr_neigh_of_adj(index) != way->neigh)
		hr_neigh_bind(way->neigh, index);
}
