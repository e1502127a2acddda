/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * A hash map from bytes to pointers: open addressing, linear probing, never more than half full.
 * Keys are not copied: they must live as long as their entry.
 */
#ifndef HR_CONTROL_MAP_H
#define HR_CONTROL_MAP_H

#include <stddef.h>
#include <stdint.h>

struct hr_map_slot;

/** Zero-initialised is empty. */
struct hr_map {
	struct hr_map_slot *slots;
	size_t size; /**< Slots: 0 or a power of two. */
	size_t count;
};

/** Make room for so many entries in all. 0, or -ENOMEM. */
int hr_map_reserve(struct hr_map *map, size_t count);
/** Add an entry. Room must be reserved, and the key not be there yet. */
void hr_map_put(struct hr_map *map, const void *key, size_t length, void *value);
/** The value of a key, or NULL. */
void *hr_map_get(const struct hr_map *map, const void *key, size_t length);
/** Remove a key if it is there. */
void hr_map_remove(struct hr_map *map, const void *key, size_t length);
/** Free the map itself; it is empty again. */
void hr_map_free(struct hr_map *map);

#endif
