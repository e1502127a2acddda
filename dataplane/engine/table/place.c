/* SPDX-License-Identifier: Apache-2.0 */
#include "place.h"

#include <rte_debug.h>

#include "path.h"

static struct hr_fib *
fib_of(const struct hr_vrf *vrf, const struct hr_prefix *prefix)
{
	return prefix->addr.family == 4 ? vrf->fib4 : vrf->fib6;
}

/** Replace a route that is there: that takes no memory. @return the adjacency it had */
static uint32_t
replace(struct hr_vrf *vrf, const struct hr_prefix *prefix, uint32_t owner, uint32_t adj)
{
	uint32_t before;
	const int error = hr_fib_insert(fib_of(vrf, prefix), &prefix->addr, prefix->len, adj, owner,
			&before);

	RTE_VERIFY(error == 0);
	return before;
}

int
hr_place_hold(struct hr_vrf *vrf, const struct hr_prefix *prefix, uint32_t owner, uint32_t own,
		uint32_t *former)
{
	struct hr_fib *fib = fib_of(vrf, prefix);
	uint32_t adj;
	int error;

	if (hr_fib_get(fib, &prefix->addr, prefix->len, &adj, former) == 0) {
		if (*former != own)
			replace(vrf, prefix, owner, adj);
		return 0;
	}
	*former = 0;
	adj = hr_fib_cover(fib, &prefix->addr, prefix->len);
	error = hr_fib_insert(fib, &prefix->addr, prefix->len, adj, owner, NULL);
	if (error == 0)
		hr_path_get(adj);
	return error;
}

void
hr_place_release(struct hr_vrf *vrf, const struct hr_prefix *prefix, uint32_t owner, uint32_t own,
		uint32_t former)
{
	uint32_t adj;

	if (former == 0)
		hr_place_delete(vrf, prefix, owner);
	else if (former != own &&
			hr_fib_get(fib_of(vrf, prefix), &prefix->addr, prefix->len, &adj, NULL) ==
					0)
		replace(vrf, prefix, former, adj);
}

void
hr_place_put(struct hr_vrf *vrf, const struct hr_prefix *prefix, uint32_t owner, uint32_t adj)
{
	hr_path_put(replace(vrf, prefix, owner, adj));
}

void
hr_place_delete(struct hr_vrf *vrf, const struct hr_prefix *prefix, uint32_t owner)
{
	uint32_t adj;

	if (hr_fib_delete(fib_of(vrf, prefix), &prefix->addr, prefix->len, owner, &adj) == 0)
		hr_path_put(adj);
}
