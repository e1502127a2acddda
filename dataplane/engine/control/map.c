/* SPDX-License-Identifier: Apache-2.0 */
#include "map.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct hr_map_slot {
	const void *key; /**< NULL: empty. */
	size_t length;
	uint64_t hash;
	void *value;
};

/** FNV-1a, then mixed, for the low bits choose the slot. */
static uint64_t
hash_bytes(const void *key, size_t length)
{
	const uint8_t *bytes = key;
	uint64_t hash = 0xcbf29ce484222325;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3;
	return hash ^ hash >> 32;
}

/** The slot of a key, or the empty one where it would go. */
static struct hr_map_slot *
find(const struct hr_map *map, const void *key, size_t length, uint64_t hash)
{
	for (size_t i = hash & (map->size - 1);; i = (i + 1) & (map->size - 1)) {
		struct hr_map_slot *slot = &map->slots[i];

		if (slot->key == NULL ||
				(slot->hash == hash && slot->length == length &&
						memcmp(slot->key, key, length) == 0))
			return slot;
	}
}

int
hr_map_reserve(struct hr_map *map, size_t count)
{
	struct hr_map bigger = {.size = 16};

	if (count * 2 <= map->size)
		return 0;
	while (bigger.size < count * 2)
		bigger.size *= 2;
	bigger.slots = calloc(bigger.size, sizeof(*bigger.slots));
	if (bigger.slots == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < map->size; i++) {
		const struct hr_map_slot *slot = &map->slots[i];

		if (slot->key != NULL)
			*find(&bigger, slot->key, slot->length, slot->hash) = *slot;
	}
	bigger.count = map->count;
	free(map->slots);
	*map = bigger;
	return 0;
}

void
hr_map_put(struct hr_map *map, const void *key, size_t length, void *value)
{
	uint64_t hash = hash_bytes(key, length);

	*find(map, key, length, hash) = (struct hr_map_slot){
			.key = key,
			.length = length,
			.hash = hash,
			.value = value,
	};
	map->count++;
}

void *
hr_map_get(const struct hr_map *map, const void *key, size_t length)
{
	if (map->count == 0)
		return NULL;
	return find(map, key, length, hash_bytes(key, length))->value;
}

void
hr_map_remove(struct hr_map *map, const void *key, size_t length)
{
	size_t mask = map->size - 1, hole, i;

	if (map->count == 0)
		return;
	hole = (size_t)(find(map, key, length, hash_bytes(key, length)) - map->slots);
	if (map->slots[hole].key == NULL)
		return;
	/* Pull back every later entry of the run that a probe would no longer reach. */
	for (i = (hole + 1) & mask; map->slots[i].key != NULL; i = (i + 1) & mask) {
		if (((i - map->slots[i].hash) & mask) >= ((i - hole) & mask)) {
			map->slots[hole] = map->slots[i];
			hole = i;
		}
	}
	map->slots[hole] = (struct hr_map_slot){0};
	map->count--;
}

void
hr_map_free(struct hr_map *map)
{
	free(map->slots);
	*map = (struct hr_map){0};
}
