/* SPDX-License-Identifier: Apache-2.0 */
#include "store.h"

#include <errno.h>
#include <stdlib.h>

#include "map.h"

static struct {
	struct hr_map by_key;
	struct hr_object **objects;
	size_t count;
	size_t room;
} kinds[HR_KIND_COUNT];

static int64_t generation;

struct hr_object *
hr_store_get(enum hr_kind kind, const char *key)
{
	return hr_map_get(&kinds[kind].by_key, key, strlen(key));
}

size_t
hr_store_count(enum hr_kind kind)
{
	return kinds[kind].count;
}

struct hr_object *
hr_store_at(enum hr_kind kind, size_t index)
{
	return kinds[kind].objects[index];
}

int64_t
hr_store_generation(void)
{
	return generation;
}

void
hr_store_set_generation(int64_t new_generation)
{
	generation = new_generation;
}

/** {"key": "hash", ...}; NULL when out of memory. */
static json_t *
digest(int kind)
{
	json_t *hashes = json_object();

	for (size_t i = 0; i < kinds[kind].count; i++) {
		const struct hr_object *object = kinds[kind].objects[i];

		if (json_object_set_new(hashes, object->key, json_string(object->hash)) != 0) {
			json_decref(hashes);
			return NULL;
		}
	}
	return hashes;
}

json_t *
hr_store_digests(void)
{
	json_t *digests = json_object();

	for (int kind = 0; kind < HR_KIND_COUNT; kind++) {
		if (json_object_set_new(digests, hr_kinds[kind]->name, digest(kind)) != 0) {
			json_decref(digests);
			return NULL;
		}
	}
	return digests;
}

struct hr_object *
hr_object_create(enum hr_kind kind, const char *key)
{
	size_t length = strlen(key);
	struct hr_object *object = calloc(1, sizeof(*object) + length + 1);

	if (object == NULL)
		return NULL;
	object->kind = kind;
	memcpy(object->key, key, length);
	return object;
}

void
hr_object_free(struct hr_object *object)
{
	if (object == NULL)
		return;
	if (object->spec != NULL)
		hr_kinds[object->kind]->free_spec(object->spec);
	free(object);
}

int
hr_store_reserve(enum hr_kind kind, size_t more)
{
	size_t need = kinds[kind].count + more, room = kinds[kind].room * 2;
	struct hr_object **bigger;

	if (need > kinds[kind].room) {
		if (room < need)
			room = need;
		bigger = realloc(kinds[kind].objects, room * sizeof(*bigger));
		if (bigger == NULL)
			return -ENOMEM;
		kinds[kind].objects = bigger;
		kinds[kind].room = room;
	}
	return hr_map_reserve(&kinds[kind].by_key, need);
}

void
hr_store_insert(struct hr_object *object)
{
	object->index = (uint32_t)kinds[object->kind].count++;
	kinds[object->kind].objects[object->index] = object;
	hr_map_put(&kinds[object->kind].by_key, object->key, strlen(object->key), object);
}

void
hr_store_remove(struct hr_object *object)
{
	struct hr_object *last = kinds[object->kind].objects[--kinds[object->kind].count];

	last->index = object->index;
	kinds[object->kind].objects[object->index] = last;
	hr_map_remove(&kinds[object->kind].by_key, object->key, strlen(object->key));
}
