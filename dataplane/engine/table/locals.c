/* SPDX-License-Identifier: Apache-2.0 */
#include "locals.h"

#include <stdlib.h>

#include "interface.h"

static const struct hr_locals nothing;
const struct hr_locals *hr_locals = &nothing;

static void
insert(struct hr_locals *locals, const struct hr_ip6 *addr, uint32_t adj)
{
	unsigned i = hr_locals_slot(addr);

	while (locals->slot[i].adj != 0)
		i = (i + 1) % HR_LOCALS_SLOTS;
	locals->slot[i].addr = *addr;
	locals->slot[i].adj = adj;
}

void
hr_locals_rebuild(const struct hr_object *except)
{
	struct hr_locals *locals = calloc(1, sizeof(*locals));
	const struct hr_locals *old = hr_locals;

	if (locals == NULL)
		return; /* The table as it was: what is gone has no adjacency to leave by. */
	for (size_t i = 0; i < hr_store_count(HR_KIND_INTERFACE); i++) {
		const struct hr_object *object = hr_store_at(HR_KIND_INTERFACE, i);
		const struct hr_interface *interface = object->state;

		if (object != except && interface != NULL)
			insert(locals, &interface->underlay, interface->adj);
	}
	hr_publish(hr_locals, locals);
	if (old != &nothing)
		hr_defer(free, (void *)(uintptr_t)old);
}
