/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * A transaction as it is read: one change for each object that it names. For control/ alone.
 */
#ifndef HR_CONTROL_CHANGES_H
#define HR_CONTROL_CHANGES_H

#include "map.h"
#include "store.h"

enum hr_action {
	HR_KEEP, /**< Put with the hash it has. */
	HR_PUT,
	HR_DELETE,
};

struct hr_change {
	const struct hr_kind *kind;
	enum hr_action action;
	const char *key;
	const char *hash;         /**< Of the new spec; NULL: put again as it is. */
	struct hr_object *object; /**< Its own until applied, when is_new. NULL: deletes nothing. */
	bool is_new;
	bool is_prepared;
	bool is_reported; /**< As still in use. */
	void *spec;       /**< Spec after the commit. */
	void *garbage;    /**< Spec to free in the end: the new one, once applied the old one. */
	void *prepared;
};

struct hr_txn {
	struct hr_errors *errors;
	struct hr_change *changes;
	size_t n_changes;
	struct hr_map by_key[HR_KINDS_MAX]; /**< Of changes, by index of the kind. */
};

/** Read a commit's objects: parses specs, looks for nothing else. 0; -EINVAL with errors added. */
int hr_changes_read(struct hr_txn *txn, const json_t *objects);
/** Put again what has the only use of an object that is replaced. There is room. */
void hr_changes_add_dependants(struct hr_txn *txn);
/** The change of an object, or NULL. */
struct hr_change *hr_changes_find(const struct hr_txn *txn, const struct hr_kind *kind,
		const char *key);
/** Free what is left: specs that are not in the store, objects neither. */
void hr_changes_free(struct hr_txn *txn);

/** Add that error. @return -EINVAL */
int hr_changes_out_of_memory(struct hr_txn *txn);

#endif
