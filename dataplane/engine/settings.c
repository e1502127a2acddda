/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * settings/"engine": what concerns all workers.
 */
#include "kinds/settings.h"
#include "control/store.h"
#include "table/locals.h"
#include "table/neigh_queue.h"
#include "table/path.h"
#include "table/underlay.h"
#include "table/uplink.h"
#include "worker.h"

void
hr_settings_apply(struct hr_object *object, void *old_spec, void *prepared)
{
	const struct hr_settings_spec *spec = object->spec;

	RTE_SET_USED(old_spec);
	RTE_SET_USED(prepared);
	__atomic_store_n(&hr_worker_settings.burst, spec->burst, __ATOMIC_RELAXED);
	__atomic_store_n(&hr_worker_settings.adaptive, spec->adaptive, __ATOMIC_RELAXED);
	__atomic_store_n(&hr_worker_settings.icmp_per_second, spec->icmp_per_second,
			__ATOMIC_RELAXED);
	hr_underlay = (struct hr_underlay){
			.n_prefixes = spec->n_underlay_prefixes,
			.source_check = spec->underlay_source_check,
	};
	memcpy(hr_underlay.prefixes, spec->underlay_prefixes, sizeof(hr_underlay.prefixes));
	hr_neigh_waiting_max = spec->waiting_max != 0 ? spec->waiting_max : HR_NEIGH_WAITING_MAX;
	hr_uplinks_publish();
	hr_path_refresh_all();
	hr_locals_rebuild(NULL);
}

/** The last settings stay in force: workers need some. */
void
hr_settings_remove(struct hr_object *object)
{
	RTE_SET_USED(object);
}
