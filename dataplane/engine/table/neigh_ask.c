/* SPDX-License-Identifier: Apache-2.0 */
#include "neigh_ask.h"

#include "../packet/arp.h"
#include "../packet/nd.h"
#include "../worker.h"
#include "neigh_private.h"
#include "neigh_table.h"

static struct rte_mbuf *
new_frame(uint16_t port, uint16_t length)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(hr_pool);

	if (m == NULL || !hr_resize(m, length)) {
		rte_pktmbuf_free(m);
		return NULL;
	}
	m->port = port;
	return m;
}

/** Send a frame of ours. One that is lost is as good as lost on the wire. */
static void
send_frame(struct rte_mbuf *m)
{
	if (!hr_inject(hr_workers[0], m, HR_INJECT_SEND))
		rte_pktmbuf_free(m);
}

/** Our IPv4 address that shares most leading bits with the target; 0 when we have none. */
static rte_be32_t
source_like(const struct hr_neigh *neigh, rte_be32_t target)
{
	uint32_t best_difference = UINT32_MAX;
	rte_be32_t best = 0;

	for (unsigned i = 0; i < neigh->n_source; i++) {
		const struct hr_addr *source = &neigh->source[i];
		const uint32_t difference = rte_be_to_cpu_32(source->ip4 ^ target);

		if (source->family == 4 && difference <= best_difference) {
			best_difference = difference;
			best = source->ip4;
		}
	}
	return best;
}

static void
ask_arp(const struct hr_neigh *neigh, rte_be32_t target, bool unicast)
{
	const rte_be32_t source = source_like(neigh, target);
	struct rte_mbuf *m;

	if (source == 0)
		return;
	m = new_frame(neigh->port, HR_ARP_FRAME_LEN);
	if (m == NULL)
		return;
	hr_write_arp(rte_pktmbuf_mtod(m, void *), RTE_ARP_OP_REQUEST,
			unicast ? neigh->mac : hr_mac_broadcast, neigh->own_mac, source,
			(struct rte_ether_addr){{0}}, target);
	send_frame(m);
}

const struct hr_ip6 *
hr_neigh_source6(const struct hr_neigh *neigh)
{
	if (!neigh->endpoint)
		return &neigh->source[0].ip6;
	for (unsigned i = 0; i < neigh->n_source; i++)
		if (neigh->source[i].family == 6 &&
				hr_ip6_equal(&neigh->source[i].ip6, &hr_ip6_gateway))
			return &hr_ip6_gateway;
	return NULL;
}

static void
ask_nd(const struct hr_neigh *neigh, const struct hr_ip6 *target, bool unicast)
{
	const struct hr_ip6 *source = hr_neigh_source6(neigh);
	struct rte_mbuf *m;

	if (source == NULL)
		return;
	m = new_frame(neigh->port, HR_ND_FRAME_LEN);
	if (m == NULL)
		return;
	hr_write_solicitation(rte_pktmbuf_mtod(m, void *), unicast ? &neigh->mac : NULL,
			neigh->own_mac, *source, *target);
	send_frame(m);
}

static void
ask_for(const struct hr_neigh *neigh, const struct hr_addr *target, bool unicast)
{
	if (target->family == 4)
		ask_arp(neigh, target->ip4, unicast);
	else
		ask_nd(neigh, &target->ip6, unicast);
}

void
hr_neigh_ask(struct hr_neigh *neigh, bool unicast)
{
	neigh->tries++;
	if (!neigh->endpoint && hr_neigh_is_down(neigh->port))
		return;
	if (unicast && neigh->seen.family != 0) {
		ask_for(neigh, &neigh->seen, true);
		return;
	}
	for (unsigned i = 0; i < neigh->n_target; i++)
		ask_for(neigh, &neigh->target[i], unicast);
}

void
hr_neigh_advertise(struct hr_neigh *neigh)
{
	const struct hr_port_ctx *ctx = hr_port_ctx[neigh->port];
	struct rte_mbuf *m;

	hr_neigh_timer_start(&neigh->another,
			HR_NEIGH_ADVERTISE_MS - hr_neigh_spread(neigh, HR_NEIGH_ADVERTISE_MS / 8));
	if (ctx == NULL || ctx->role != HR_ROLE_INTERFACE)
		return;
	m = new_frame(neigh->port, HR_ND_FRAME_LEN);
	if (m == NULL)
		return;
	hr_write_router(rte_pktmbuf_mtod(m, void *), hr_ip6_multicast_mac(&hr_ip6_all_nodes),
			neigh->own_mac, hr_ip6_all_nodes, ctx->mtu);
	send_frame(m);
}
