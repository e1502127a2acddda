/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What a kind of objects is: all that the control socket, transactions, lists and telemetry know
 * of it. A file in kinds/ describes one and registers it; they know no kind but from here.
 */
#ifndef HR_CONTROL_KIND_H
#define HR_CONTROL_KIND_H

#include <rte_common.h>

#include "../types.h"
#include "errors.h"

#define HR_KINDS_MAX 32
#define HR_KIND_ITEMS 8 /**< Of each array of a kind; the first that is zero ends it. */

struct hr_check;
struct hr_kind;
struct hr_object;
struct hr_port;
struct hr_txn;

/** A field of a spec that names objects of another kind. */
struct hr_reference {
	const char *field;
	const struct hr_kind *kind; /**< Of a lower order. */
	/** The object that is named as number i, from 0; NULL when there are no more. */
	const char *(*name)(const void *spec, uint32_t i);
	/**
	 * Of all objects of all kinds only one may name it so, which is put again when what it
	 * names is replaced.
	 */
	bool is_exclusive;
};

/** A number in /headrace/info. */
struct hr_figure {
	const char *name;
	uint64_t (*value)(void);
};

/**
 * Do all that may fail, and nothing that anyone can see.
 *
 * @param old the object as it is; NULL when it is new
 * @param new_spec the spec to be; old->spec itself when the object is put again only because what
 * it names was replaced
 * @param state what apply() or abort() gets; NULL at first
 * @return 0; anything else (errors added) fails the commit, then abort() is not called for this
 * object
 */
typedef int hr_prepare_fn(struct hr_txn *txn, const char *key, const struct hr_object *old,
		void *new_spec, void **state, struct hr_errors *errors);
/** Undo prepare(). */
typedef void hr_abort_fn(void *state);
/**
 * Make it so. Cannot fail.
 *
 * @param object in the store, with its new spec; apply() owns object->state
 * @param old_spec the spec before, freed when the commit is done; NULL when the object is new;
 * object->spec itself when the object is put again as above
 * @param prepared what prepare() left; now apply()'s
 */
typedef void hr_apply_fn(struct hr_object *object, void *old_spec, void *prepared);
/** All objects of a commit that are put were applied. Cannot fail. */
typedef void hr_applied_fn(void);
/** Undo apply(): free object->state. Cannot fail. The store then frees object and spec. */
typedef void hr_remove_fn(struct hr_object *object);

/** An item of a list. */
typedef json_t *hr_describe_fn(const struct hr_object *object);
/** The port whose packets are the object's, or NULL. */
typedef const struct hr_port *hr_port_fn(const struct hr_object *object);

/**
 * One page of items.
 *
 * @param filter object of the request, NULL when there was none; its fields are strings, and among
 * those of struct hr_list
 * @param cursor 0 at first, then what *next was
 * @param limit most items, 1..HR_LIST_LIMIT_MAX
 * @param next where the next page starts; left at 0 when this is the last
 * @return a new array; NULL with errors added
 */
typedef json_t *hr_list_fn(const json_t *filter, size_t cursor, size_t limit, size_t *next,
		struct hr_errors *errors);

struct hr_list {
	const char *name;
	hr_list_fn *fn;
	const char *filters[HR_KIND_ITEMS]; /**< Fields that a filter may have. */
};

/**
 * A kind. All functions run on the control thread but those of telemetry, which hold its lock.
 *
 * A commit calls prepare() for every object put, by order of kinds, and when none failed:
 * 1. remove() for the objects deleted of kinds to which no kind refers, in reverse order;
 * 2. apply() for the objects put, in order;
 * 3. applied() of every kind, in order;
 * 4. remove() for the other objects deleted, in reverse order.
 * So an object that moves from a deleted port or network to another is never left without. In
 * return, step 2 sees names move: a network may take the VNI of one that goes in step 4, two
 * interfaces may swap ports or underlay addresses. Whoever keeps an index by such a value must
 * remove an entry only while it is still its own.
 */
struct hr_kind {
	const char *name;     /**< On the socket. */
	const char *plural;   /**< In messages and telemetry. */
	unsigned order;       /**< In a transaction: its own, after those of kinds it refers to. */
	const char *only_key; /**< NULL: any. */
	const char *features[HR_KIND_ITEMS]; /**< Of "hello": what the first release had not. */

	/** A new spec, or NULL with errors added. */
	void *(*parse)(const json_t *spec, struct hr_errors *errors);
	void (*free_spec)(void *spec);
	struct hr_reference references[HR_KIND_ITEMS];
	/** Claim what only one object may have, with hr_claim(). May be NULL. */
	void (*claim)(struct hr_check *check, const void *spec);
	size_t max;                       /**< Of all objects together; 0: no bound. */
	size_t (*size)(const void *spec); /**< What counts towards max; NULL: 1 for each. */

	hr_prepare_fn *prepare; /**< May be NULL. */
	hr_abort_fn *abort;     /**< May be NULL. */
	hr_apply_fn *apply;
	hr_applied_fn *applied; /**< May be NULL. */
	hr_remove_fn *remove;

	hr_describe_fn *describe;            /**< NULL: there is no list called as the kind. */
	struct hr_list lists[HR_KIND_ITEMS]; /**< Others. */
	/** Beside how many objects there are. */
	struct hr_figure figures[HR_KIND_ITEMS];
	hr_port_fn *port; /**< NULL: there is no /headrace/NAME,KEY, nor /headrace/PLURAL. */

	unsigned index; /**< hr_kinds[index] is this kind. By hr_kind_register(). */
};

/** All kinds, in order. */
extern struct hr_kind *hr_kinds[HR_KINDS_MAX];
extern unsigned hr_n_kinds;

/** Before main(), by HR_KIND_REGISTER(). */
void hr_kind_register(struct hr_kind *kind);
#define HR_KIND_REGISTER(kind)                                                                     \
	RTE_INIT(kind##_register)                                                                  \
	{                                                                                          \
		hr_kind_register(&(kind));                                                         \
	}                                                                                          \
	_Static_assert(sizeof(kind) == sizeof(struct hr_kind), "a kind")

/** A kind by its name, or NULL. */
struct hr_kind *hr_kind_find(const char *name);
/** Whether another kind refers to it. */
bool hr_kind_is_referenced(const struct hr_kind *kind);

/** For "hello": [{"name", "references": {field: kind}}, ...] of all kinds, in order. */
json_t *hr_kinds_describe(void);
/** For "hello": the features of all kinds. */
json_t *hr_kinds_features(void);

#endif
