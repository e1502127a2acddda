/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * The objects that the engine has, by kind and key. Control thread only.
 */
#ifndef HR_CONTROL_STORE_H
#define HR_CONTROL_STORE_H

#include "kind.h"

#define HR_HASH_MAX 64 /**< Longest hash, bytes. */

struct hr_object {
	void *spec;  /**< As the kind's parse() made it. */
	void *state; /**< Whatever the kind's apply() makes of it. */
	const struct hr_kind *kind;
	uint32_t index;             /**< Place among its kind: hr_store_at(kind, index). */
	char hash[HR_HASH_MAX + 1]; /**< Of the spec, as the client put it. */
	char key[];
};

/** An object, or NULL. It stays where it is until it is deleted, replaced specs or not. */
struct hr_object *hr_store_get(const struct hr_kind *kind, const char *key);

/** Objects of a kind. */
size_t hr_store_count(const struct hr_kind *kind);

/** For iteration: index is 0..count - 1. Deleting an object moves the last one to its place. */
struct hr_object *hr_store_at(const struct hr_kind *kind, size_t index);

/** Generation of the last commit; 0 before the first. */
int64_t hr_store_generation(void);

/** {"kind": {"key": "hash", ...}, ...}, every kind present; NULL when out of memory. */
json_t *hr_store_digests(void);

/* Below: for commits only. */

/** A zeroed object, not in the store. NULL when out of memory. */
struct hr_object *hr_object_create(const struct hr_kind *kind, const char *key);
/** Free an object that is not in the store, and its spec. */
void hr_object_free(struct hr_object *object);
/** Make room for so many more. 0, or -ENOMEM. */
int hr_store_reserve(const struct hr_kind *kind, size_t more);
/** Take in an object for which there is room, and none of its key. */
void hr_store_insert(struct hr_object *object);
/** Take an object out. */
void hr_store_remove(struct hr_object *object);
void hr_store_set_generation(int64_t generation);

#endif
