/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What each kind of object must offer.
 */
#ifndef HR_CONTROL_KIND_H
#define HR_CONTROL_KIND_H

#include <jansson.h>

#include "errors.h"
#include "spec.h"

/** In dependency order: an object names only objects of kinds before its own. */
enum hr_kind {
	HR_KIND_SETTINGS,
	HR_KIND_PORT,
	HR_KIND_NETWORK,
	HR_KIND_UPLINK,
	HR_KIND_INTERFACE,
	HR_KIND_ROUTES,
	HR_KIND_COUNT,
};

struct hr_object;
struct hr_txn;

/**
 * A kind's operations. All run on the control thread.
 *
 * A commit calls prepare() for every object put, in dependency order, and when none failed:
 * 1. remove() for the routes, interfaces and uplinks deleted, in reverse dependency order;
 * 2. apply() for the objects put, in dependency order;
 * 3. remove() for the networks, ports and settings deleted, in reverse dependency order.
 * So an object that moves from a deleted port or network to another is never left without. In
 * return, step 2 sees names move: a network may take the VNI of one that goes in step 3, two
 * interfaces may swap ports or underlay addresses. Whoever keeps an index by such a value must
 * remove an entry only while it is still its own.
 */
struct hr_kind_ops {
	const char *name;
	/** A new spec, or NULL with errors added. One of the functions below. */
	void *(*parse)(const json_t *spec, struct hr_errors *errors);
	void (*free_spec)(void *spec);
	/**
	 * Do all that may fail, and nothing that anyone can see. May be NULL.
	 *
	 * @param old the object as it is; NULL when it is new
	 * @param new_spec the spec to be; old->spec itself when the object is put again only
	 * because the port it names was replaced
	 * @param state what apply() or abort() gets; NULL at first
	 * @return 0; anything else (errors added) fails the commit, then abort() is not called for
	 * this object
	 */
	int (*prepare)(struct hr_txn *txn, const char *key, const struct hr_object *old,
			void *new_spec, void **state, struct hr_errors *errors);
	/** Undo prepare(). May be NULL. */
	void (*abort)(void *state);
	/**
	 * Make it so. Cannot fail.
	 *
	 * @param object in the store, with its new spec; apply() owns object->state
	 * @param old_spec the spec before, freed when the commit is done; NULL when the object is
	 * new; object->spec itself when the object is put again because of its port
	 * @param prepared what prepare() left; now apply()'s
	 */
	void (*apply)(struct hr_object *object, void *old_spec, void *prepared);
	/** Undo apply(): free object->state. Cannot fail. The store then frees object and spec. */
	void (*remove)(struct hr_object *object);
};

extern const struct hr_kind_ops hr_settings_ops, hr_port_ops, hr_network_ops, hr_uplink_ops,
		hr_interface_ops, hr_routes_ops;

/** By enum hr_kind. */
extern const struct hr_kind_ops *const hr_kinds[HR_KIND_COUNT];

/** A kind by its name, or -1. */
int hr_kind_find(const char *name);

/* Parse functions give one heap block each, but for routes: free with hr_routes_free(). */
void *hr_settings_parse(const json_t *spec, struct hr_errors *errors);
void *hr_port_parse(const json_t *spec, struct hr_errors *errors);
void *hr_network_parse(const json_t *spec, struct hr_errors *errors);
void *hr_uplink_parse(const json_t *spec, struct hr_errors *errors);
void *hr_interface_parse(const json_t *spec, struct hr_errors *errors);
void *hr_routes_parse(const json_t *spec, struct hr_errors *errors);

/** Free the spec of any kind but routes. */
void hr_spec_free(void *spec);
void hr_routes_free(void *spec);

#endif
