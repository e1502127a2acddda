/* SPDX-License-Identifier: Apache-2.0 */
#include "fib.h"

#include <errno.h>
#include <stdlib.h>

#include <rte_common.h>

#include "../rcu.h"
#include "fib_private.h"
#include "rib.h"

/*
 * A root of 16 bits then costs at most 64 bytes a route, one of 24 bits 1024; they save a lookup
 * one and two dependent loads.
 */
uint32_t hr_fib_root16_routes = 4096;
uint32_t hr_fib_root24_routes = 65536;

/** A root shrinks when the routes are this many times fewer than it takes to grow it. */
#define HYSTERESIS 4

static unsigned
root_bits_for(uint64_t routes)
{
	if (routes >= hr_fib_root24_routes)
		return 24;
	return routes >= hr_fib_root16_routes ? 16 : 0;
}

static struct hr_ip6
key_of(const struct hr_addr *addr)
{
	return addr->family == 4 ? (struct hr_ip6){.w = {addr->ip4}} : addr->ip6;
}

struct hr_fib *
hr_fib_create(uint8_t family)
{
	struct hr_fib *fib = calloc(1, sizeof(*fib));

	if (fib == NULL)
		return NULL;
	fib->family = family;
	fib->rib = hr_rib_create(family);
	if (hr_trie_init() == 0)
		fib->trie = hr_trie_create(family, 0, 0, &(struct hr_ip6){0});
	if (fib->rib == NULL || fib->trie == NULL) {
		hr_fib_destroy(fib);
		return NULL;
	}
	return fib;
}

void
hr_fib_destroy(struct hr_fib *fib)
{
	if (fib == NULL)
		return;
	if (fib->trie != NULL)
		hr_trie_destroy(fib->trie);
	if (fib->rib != NULL)
		hr_rib_destroy(fib->rib);
	free(fib);
}

/** Leading bytes that all routes share; a default route shares any. */
static unsigned
shared_bytes(const struct hr_rib *rib, struct hr_ip6 *key)
{
	struct hr_route route, longest = {.len = 0};
	unsigned bytes = sizeof(key->b) - HR_TRIE_ROOT_WORD;

	for (size_t at = 0; hr_rib_next(rib, &at, &route);) {
		if (route.len >= longest.len)
			longest = route;
	}
	for (size_t at = 0; hr_rib_next(rib, &at, &route);) {
		unsigned common = RTE_MIN(hr_key_common(&route.key, &longest.key), route.len);

		if (route.len > 0)
			bytes = RTE_MIN(bytes, common / 8);
	}
	*key = longest.key;
	return bytes;
}

static void
reclaim_trie(void *trie)
{
	hr_trie_destroy(trie);
}

/** Build the trie anew beside the one in use, and swap. 0, or -ENOMEM with nothing changed. */
static int
rebuild(struct hr_fib *fib, unsigned root_bits)
{
	struct hr_ip6 key = {0};
	unsigned skip = fib->family == 6 && root_bits != 0 ? shared_bytes(fib->rib, &key) : 0;
	struct hr_trie *trie = hr_trie_create(fib->family, root_bits, skip, &key), *old;
	struct hr_route route;

	if (trie == NULL)
		return -ENOMEM;
	for (size_t at = 0; hr_rib_next(fib->rib, &at, &route);) {
		if (hr_trie_insert(trie, &route.key, route.len, route.value) != 0) {
			hr_trie_destroy(trie);
			return -ENOMEM;
		}
	}
	old = fib->trie;
	hr_publish(fib->trie, trie);
	hr_defer(reclaim_trie, old);
	return 0;
}

int
hr_fib_insert(struct hr_fib *fib, const struct hr_addr *addr, uint8_t len, uint32_t value,
		uint32_t owner, uint32_t *old_value)
{
	struct hr_route old = {.value = 0};
	struct hr_route route = {.key = key_of(addr), .len = len, .value = value, .owner = owner};
	bool replaces = hr_rib_get(fib->rib, &route.key, len, &old);
	int rc = hr_rib_put(fib->rib, &route);

	if (rc != 0)
		return rc;
	if (replaces) {
		hr_trie_replace(fib->trie, &route.key, len, value);
	} else if (root_bits_for(fib->rib->count) > fib->trie->root_bits &&
			rebuild(fib, root_bits_for(fib->rib->count)) == 0) {
		/* The new one has it. */
	} else {
		if (hr_trie_fits(fib->trie, &route.key, len))
			rc = hr_trie_insert(fib->trie, &route.key, len, value);
		else
			rc = rebuild(fib, fib->trie->root_bits);
		if (rc != 0) {
			hr_rib_remove(fib->rib, &route.key, len);
			return rc;
		}
	}
	if (old_value != NULL)
		*old_value = old.value;
	return 0;
}

int
hr_fib_delete(struct hr_fib *fib, const struct hr_addr *addr, uint8_t len, uint32_t owner,
		uint32_t *value)
{
	struct hr_ip6 key = key_of(addr);
	struct hr_route route, cover = {.len = 0};

	if (!hr_rib_get(fib->rib, &key, len, &route) || route.owner != owner)
		return -ENOENT;
	hr_rib_remove(fib->rib, &key, len);
	/* Too little memory for a smaller root leaves the larger one in use. */
	if (root_bits_for((uint64_t)fib->rib->count * HYSTERESIS) >= fib->trie->root_bits ||
			rebuild(fib, root_bits_for((uint64_t)fib->rib->count * HYSTERESIS)) != 0) {
		hr_rib_cover(fib->rib, &key, len, &cover);
		hr_trie_delete(fib->trie, &key, len, cover.len, cover.value);
	}
	if (value != NULL)
		*value = route.value;
	return 0;
}

int
hr_fib_get(const struct hr_fib *fib, const struct hr_addr *addr, uint8_t len, uint32_t *value,
		uint32_t *owner)
{
	struct hr_ip6 key = key_of(addr);
	struct hr_route route;

	if (!hr_rib_get(fib->rib, &key, len, &route))
		return -ENOENT;
	if (value != NULL)
		*value = route.value;
	if (owner != NULL)
		*owner = route.owner;
	return 0;
}

uint32_t
hr_fib_cover(const struct hr_fib *fib, const struct hr_addr *addr, uint8_t len)
{
	struct hr_ip6 key = key_of(addr);
	struct hr_route cover;

	return hr_rib_cover(fib->rib, &key, len, &cover) ? cover.value : 0;
}

void
hr_fib_walk(const struct hr_fib *fib, hr_fib_visit visit, void *arg)
{
	struct hr_route route;

	for (size_t at = 0; hr_rib_next(fib->rib, &at, &route);) {
		struct hr_prefix prefix = {.addr.family = fib->family, .len = route.len};

		if (fib->family == 4)
			prefix.addr.ip4 = route.key.w[0];
		else
			prefix.addr.ip6 = route.key;
		if (visit(&prefix, route.value, route.owner, arg))
			return;
	}
}

uint32_t
hr_fib_count(const struct hr_fib *fib)
{
	return fib->rib->count;
}

size_t
hr_fib_bytes(const struct hr_fib *fib)
{
	return sizeof(*fib) + hr_trie_bytes(fib->trie) + hr_rib_bytes(fib->rib);
}
