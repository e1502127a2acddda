/* SPDX-License-Identifier: Apache-2.0 */
#include "rib.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "key.h"
#include "memory.h"

/* A slot: (length + 1) << VALUE_BITS | value, owner, key words. 0 is an empty slot. */
enum { SLOT_ROUTE, SLOT_OWNER, SLOT_KEY };
#define VALUE_BITS 22

#define MIN_SIZE_BITS 2

/** Prefixes come from tenants: a secret seed keeps anyone from choosing ones that collide. */
static uint64_t seed;

struct hr_rib *
hr_rib_create(uint8_t family)
{
	unsigned lengths = family == 4 ? 33 : 129;
	struct hr_rib *rib = calloc(1, sizeof(*rib) + lengths * sizeof(rib->by_length[0]));

	if (rib == NULL)
		return NULL;
	/* An early boot without entropy leaves it 0, which is only less secret. */
	if (seed == 0 && getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed))
		seed = 0;
	rib->slot_words = SLOT_KEY + (family == 4 ? 1 : 4);
	return rib;
}

static size_t
slots_bytes(const struct hr_rib *rib, uint8_t size_bits)
{
	return size_bits == 0 ? 0 : ((size_t)rib->slot_words * sizeof(uint32_t)) << size_bits;
}

void
hr_rib_destroy(struct hr_rib *rib)
{
	hr_array_free(rib->slots, slots_bytes(rib, rib->size_bits));
	free(rib);
}

size_t
hr_rib_bytes(const struct hr_rib *rib)
{
	unsigned lengths = rib->slot_words == SLOT_KEY + 1 ? 33 : 129;

	return sizeof(*rib) + lengths * sizeof(rib->by_length[0]) +
			slots_bytes(rib, rib->size_bits);
}

static uint64_t
mix(uint64_t x)
{
	x *= 0x9e3779b97f4a7c15;
	return x ^ x >> 32;
}

/** Home slot of a prefix; size_bits is not 0. */
static size_t
home(const struct hr_rib *rib, const uint32_t *key, uint8_t len, uint8_t size_bits)
{
	uint64_t h = mix(seed ^ key[0] ^ (uint64_t)len << 32);

	if (rib->slot_words > SLOT_KEY + 1) {
		h = mix(h ^ (key[1] | (uint64_t)key[2] << 32));
		h = mix(h ^ key[3]);
	}
	return mix(h) >> (64 - size_bits);
}

static uint32_t *
slot_at(const struct hr_rib *rib, size_t i)
{
	return rib->slots + i * rib->slot_words;
}

static uint8_t
slot_len(const uint32_t *slot)
{
	return (slot[SLOT_ROUTE] >> VALUE_BITS) - 1;
}

/** The slot that holds the prefix, or the empty one where it would go. There is one. */
static size_t
find(const struct hr_rib *rib, const struct hr_ip6 *key, uint8_t len)
{
	size_t mask = ((size_t)1 << rib->size_bits) - 1;
	size_t key_bytes = (rib->slot_words - SLOT_KEY) * sizeof(uint32_t);
	uint32_t words[4];

	memcpy(words, key, sizeof(words));
	for (size_t i = home(rib, words, len, rib->size_bits);; i = (i + 1) & mask) {
		const uint32_t *slot = slot_at(rib, i);

		if (slot[SLOT_ROUTE] == 0)
			return i;
		if (slot[SLOT_KEY] == words[0] && slot_len(slot) == len &&
				memcmp(slot + SLOT_KEY, words, key_bytes) == 0)
			return i;
	}
}

static void
read_slot(const struct hr_rib *rib, const uint32_t *slot, struct hr_route *route)
{
	*route = (struct hr_route){
			.len = slot_len(slot),
			.value = slot[SLOT_ROUTE] & ((1u << VALUE_BITS) - 1),
			.owner = slot[SLOT_OWNER],
	};
	memcpy(route->key.w, slot + SLOT_KEY, (rib->slot_words - SLOT_KEY) * sizeof(uint32_t));
}

bool
hr_rib_get(const struct hr_rib *rib, const struct hr_ip6 *key, uint8_t len, struct hr_route *route)
{
	if (rib->count == 0)
		return false;

	const uint32_t *slot = slot_at(rib, find(rib, key, len));

	if (slot[SLOT_ROUTE] == 0)
		return false;
	read_slot(rib, slot, route);
	return true;
}

bool
hr_rib_cover(const struct hr_rib *rib, const struct hr_ip6 *key, uint8_t len,
		struct hr_route *route)
{
	while (len-- > 0) {
		if (rib->by_length[len] == 0)
			continue;

		struct hr_ip6 prefix = hr_key_prefix(key, len);

		if (hr_rib_get(rib, &prefix, len, route))
			return true;
	}
	return false;
}

static int
resize(struct hr_rib *rib, uint8_t size_bits)
{
	struct hr_rib old = *rib;
	uint32_t *slots = hr_array_alloc(slots_bytes(rib, size_bits));

	if (slots == NULL)
		return -ENOMEM;
	rib->slots = slots;
	rib->size_bits = size_bits;

	size_t mask = ((size_t)1 << size_bits) - 1;

	for (size_t i = 0; old.size_bits != 0 && i < (size_t)1 << old.size_bits; i++) {
		const uint32_t *from = slot_at(&old, i);

		if (from[SLOT_ROUTE] == 0)
			continue;

		size_t to = home(rib, from + SLOT_KEY, slot_len(from), size_bits);

		while (slot_at(rib, to)[SLOT_ROUTE] != 0)
			to = (to + 1) & mask;
		memcpy(slot_at(rib, to), from, rib->slot_words * sizeof(uint32_t));
	}
	hr_array_free(old.slots, slots_bytes(&old, old.size_bits));
	return 0;
}

int
hr_rib_put(struct hr_rib *rib, const struct hr_route *route)
{
	uint64_t room = rib->size_bits == 0 ? 0 : 3 * ((uint64_t)1 << rib->size_bits) / 4;
	uint32_t *slot = rib->count == 0 ? NULL : slot_at(rib, find(rib, &route->key, route->len));

	if (slot == NULL || slot[SLOT_ROUTE] == 0) {
		if (rib->count >= room) {
			uint8_t size_bits =
					rib->size_bits == 0 ? MIN_SIZE_BITS : rib->size_bits + 1;
			int rc = resize(rib, size_bits);

			if (rc != 0)
				return rc;
		}
		slot = slot_at(rib, find(rib, &route->key, route->len));
		rib->count++;
		rib->by_length[route->len]++;
	}
	slot[SLOT_ROUTE] = (route->len + 1u) << VALUE_BITS | route->value;
	slot[SLOT_OWNER] = route->owner;
	memcpy(slot + SLOT_KEY, route->key.w, (rib->slot_words - SLOT_KEY) * sizeof(uint32_t));
	return 0;
}

void
hr_rib_remove(struct hr_rib *rib, const struct hr_ip6 *key, uint8_t len)
{
	size_t mask = ((size_t)1 << rib->size_bits) - 1;
	size_t hole = find(rib, key, len);

	/* Close the hole: move up whatever probing would no longer reach. */
	for (size_t i = (hole + 1) & mask; slot_at(rib, i)[SLOT_ROUTE] != 0; i = (i + 1) & mask) {
		const uint32_t *slot = slot_at(rib, i);
		size_t from = home(rib, slot + SLOT_KEY, slot_len(slot), rib->size_bits);

		if (((i - from) & mask) >= ((i - hole) & mask)) {
			memcpy(slot_at(rib, hole), slot, rib->slot_words * sizeof(uint32_t));
			hole = i;
		}
	}
	slot_at(rib, hole)[SLOT_ROUTE] = 0;
	rib->count--;
	rib->by_length[len]--;

	if (rib->count == 0) {
		hr_array_free(rib->slots, slots_bytes(rib, rib->size_bits));
		rib->slots = NULL;
		rib->size_bits = 0;
	} else if (rib->size_bits > MIN_SIZE_BITS && rib->count < mask / 8) {
		/* Without the memory to shrink, it stays as it is. */
		(void)resize(rib, rib->size_bits - 1);
	}
}

bool
hr_rib_next(const struct hr_rib *rib, size_t *at, struct hr_route *route)
{
	if (rib->size_bits == 0)
		return false;
	for (size_t i = *at; i < (size_t)1 << rib->size_bits; i++) {
		if (slot_at(rib, i)[SLOT_ROUTE] != 0) {
			read_slot(rib, slot_at(rib, i), route);
			*at = i + 1;
			return true;
		}
	}
	return false;
}
