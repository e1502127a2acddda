/* SPDX-License-Identifier: Apache-2.0 */
#include "store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "map.h"

struct store {
	struct hr_map by_key;
	struct hr_object **objects;
	size_t count;
	size_t room;
};

/** By index of the kind. */
static struct store stores[HR_KINDS_MAX];

static int64_t generation;

struct hr_object *
hr_store_get(const struct hr_kind *kind, const char *key)
{
	return hr_map_get(&stores[kind->index].by_key, key, strlen(key));
}

size_t
hr_store_count(const struct hr_kind *kind)
{
	return stores[kind->index].count;
}

struct hr_object *
hr_store_at(const struct hr_kind *kind, size_t index)
{
	return stores[kind->index].objects[index];
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
digest(const struct hr_kind *kind)
{
	json_t *hashes = json_object();

	for (size_t i = 0; i < hr_store_count(kind); i++) {
		const struct hr_object *object = hr_store_at(kind, i);

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

	for (unsigned i = 0; i < hr_n_kinds; i++) {
		if (json_object_set_new(digests, hr_kinds[i]->name, digest(hr_kinds[i])) != 0) {
			json_decref(digests);
			return NULL;
		}
	}
	return digests;
}

struct hr_object *
hr_object_create(const struct hr_kind *kind, const char *key)
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
		object->kind->free_spec(object->spec);
	free(object);
}

int
hr_store_reserve(const struct hr_kind *kind, size_t more)
{
	struct store *store = &stores[kind->index];
	size_t need = store->count + more, room = store->room * 2;
	struct hr_object **bigger;

	if (need > store->room) {
		if (room < need)
			room = need;
		bigger = realloc(store->objects, room * sizeof(*bigger));
		if (bigger == NULL)
			return -ENOMEM;
		store->objects = bigger;
		store->room = room;
	}
	return hr_map_reserve(&store->by_key, need);
}

void
hr_store_insert(struct hr_object *object)
{
	struct store *store = &stores[object->kind->index];

	object->index = (uint32_t)store->count++;
	store->objects[object->index] = object;
	hr_map_put(&store->by_key, object->key, strlen(object->key), object);
}

void
hr_store_remove(struct hr_object *object)
{
	struct store *store = &stores[object->kind->index];
	struct hr_object *last = store->objects[--store->count];

	last->index = object->index;
	store->objects[object->index] = last;
	hr_map_remove(&store->by_key, object->key, strlen(object->key));
}
