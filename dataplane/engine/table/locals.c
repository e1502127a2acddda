/* SPDX-License-Identifier: Apache-2.0 */
#include "locals.h"

#include "../control/addr.h"
#include "../control/store.h"
#include "../kinds/interface.h"
#include "../kinds/network.h"
#include "interface_state.h"
#include "underlay.h"

static struct hr_locals tables[2];
static struct hr_twin twin;
const struct hr_locals *hr_locals = &tables[0];

bool
hr_locals_admit(const struct hr_locals *locals, const struct hr_ip6 *src, const struct hr_ip6 *dst)
{
	const struct hr_local *local = hr_locals_find(locals, dst);

	if (((src->q[1] ^ dst->q[1]) & HR_VNI_BITS) == 0)
		for (uint16_t i = 0; i < locals->n_prefixes; i++)
			if (hr_prefix_has6(&locals->prefixes[i], src))
				return true;
	for (uint16_t i = 0; i < local->n; i++)
		if (memcmp(&locals->endpoints[local->first + i], src, sizeof(*src)) == 0)
			return true;
	return false;
}

bool
hr_locals_admit_vxlan(const struct hr_locals *locals, const struct hr_ip6 *src,
		const struct hr_ip6 *dst, uint32_t vni)
{
	const struct hr_local *local = hr_locals_find(locals, dst);

	for (uint16_t i = local->first; i < local->first + local->n; i++)
		if (memcmp(&locals->endpoints[i], src, sizeof(*src)) == 0)
			return locals->vni[i] != 0 && locals->vni[i] == vni;
	return false;
}

static const struct hr_network_spec *
network_of(const struct hr_interface *interface)
{
	const struct hr_interface_spec *spec = interface->object->spec;

	return hr_store_get(&hr_network_kind, spec->network)->spec;
}

static void
insert(struct hr_locals *locals, struct hr_local local)
{
	unsigned i = hr_locals_slot(&local.addr);

	while (locals->slot[i].adj != 0)
		i = (i + 1) % HR_LOCALS_SLOTS;
	locals->slot[i] = local;
}

/** @return how many endpoints there are now */
static uint16_t
insert_all(struct hr_locals *locals, const struct hr_interface *interface, uint16_t n_endpoints)
{
	const struct hr_network_spec *network = network_of(interface);

	for (uint16_t i = 0; i < network->n_endpoints; i++) {
		locals->endpoints[n_endpoints + i] = network->endpoints[i].address;
		locals->vni[n_endpoints + i] = network->endpoints[i].vxlan.vni;
	}
	for (uint16_t i = 0; i < interface->n_underlay; i++)
		insert(locals,
				(struct hr_local){
						.addr = interface->underlay[i],
						.adj = interface->adj,
						.first = n_endpoints,
						.n = network->n_endpoints,
				});
	return n_endpoints + network->n_endpoints;
}

/** The Interfaces to have in the table. @return how many */
static unsigned
present(const struct hr_object *except, const struct hr_interface *interfaces[HR_MAX_PORTS])
{
	unsigned n = 0;

	for (size_t i = 0; i < hr_store_count(&hr_interface_kind); i++) {
		const struct hr_object *object = hr_store_at(&hr_interface_kind, i);

		if (object != except && object->state != NULL)
			interfaces[n++] = object->state;
	}
	return n;
}

void
hr_locals_rebuild(const struct hr_object *except)
{
	const struct hr_interface *interfaces[HR_MAX_PORTS];
	const unsigned n = present(except, interfaces);
	struct hr_locals *locals = &tables[hr_twin_begin(&twin)];
	uint16_t n_endpoints = 0;

	memset(locals, 0, sizeof(*locals));
	locals->source_mask = hr_underlay_source_mask();
	locals->n_prefixes = hr_underlay.n_prefixes;
	memcpy(locals->prefixes, hr_underlay.prefixes, sizeof(locals->prefixes));
	for (unsigned i = 0; i < n; i++)
		n_endpoints = insert_all(locals, interfaces[i], n_endpoints);
	hr_publish(hr_locals, locals);
	hr_twin_end(&twin);
}
