/* SPDX-License-Identifier: Apache-2.0 */
#include "group.h"

#include "../control/store.h"
#include "../kinds/port.h"
#include "../packet/ip6.h"
#include "../port/driver.h"
#include "../port/port.h"
#include "locals.h"

static bool changed;

struct groups {
	unsigned n; /**< May be more than there is room for. */
	struct rte_ether_addr mac[HR_GROUPS_MAX];
};

static void
add(struct groups *groups, const struct hr_ip6 *group)
{
	const struct rte_ether_addr mac = hr_ip6_multicast_mac(group);

	for (unsigned i = 0; i < RTE_MIN(groups->n, (unsigned)HR_GROUPS_MAX); i++)
		if (rte_is_same_ether_addr(&groups->mac[i], &mac))
			return;
	if (groups->n < HR_GROUPS_MAX)
		groups->mac[groups->n] = mac;
	groups->n++;
}

static void
add_solicited(struct groups *groups, const struct hr_ip6 *address)
{
	const struct hr_ip6 group = hr_ip6_solicited_node(address);

	add(groups, &group);
}

/** What a port in this role answers: as headrace-nd does (graph/nd.c). */
static void
list(struct groups *groups, const struct hr_port_ctx *ctx)
{
	groups->n = 0;
	if (ctx->role == HR_ROLE_NONE)
		return;
	add(groups, &hr_ip6_all_nodes);
	if (ctx->role == HR_ROLE_INTERFACE)
		add(groups, &hr_ip6_all_routers);
	for (uint16_t i = 0; i < ctx->n_own; i++)
		if (ctx->own[i].family == 6)
			add_solicited(groups, &ctx->own[i].ip6);
	if (ctx->role != HR_ROLE_UPLINK)
		return;
	for (unsigned i = 0; i < HR_LOCALS_SLOTS; i++)
		if (hr_locals->slot[i].adj != 0)
			add_solicited(groups, &hr_locals->slot[i].addr);
}

void
hr_groups_changed(void)
{
	changed = true;
}

void
hr_groups_poll(void)
{
	struct groups groups;

	if (!changed)
		return;
	changed = false;
	for (size_t i = 0; i < hr_store_count(&hr_port_kind); i++) {
		struct hr_port *port = hr_store_at(&hr_port_kind, i)->state;
		const uint16_t id = hr_port_id(port);

		if (id == HR_PORT_NO_ID)
			continue;
		list(&groups, hr_port_ctx[id]);
		/* An endpoint may ask for whatever we lead to: hr_proxies6(). */
		hr_port_join(port, groups.mac, groups.n,
				hr_port_ctx[id]->role == HR_ROLE_INTERFACE);
	}
}
