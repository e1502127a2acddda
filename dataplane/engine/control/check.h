/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Whether the state after a transaction would be one: what objects name is there, what must be
 * unique is, and there is room for all.
 */
#ifndef HR_CONTROL_CHECK_H
#define HR_CONTROL_CHECK_H

#include <stddef.h>

#include "map.h"

struct hr_check;
struct hr_kind;
struct hr_txn;

/** Values of one sort, each for one object alone; by whom is known during a check only. */
struct hr_resource {
	const struct hr_kind *shared_by; /**< Whose objects have one in common; NULL: none. */
	struct hr_map owners;
	struct hr_resource *next; /**< Of those that the check has seen. */
};

/**
 * Claim a value for the object whose claim() this is; an error when another has it.
 *
 * @param field of the spec
 * @param value stays where it is for as long as the spec does
 * @param text the value, in messages
 */
void hr_claim(struct hr_check *check, struct hr_resource *resource, const char *field,
		const void *value, size_t length, const char *text);

/** Check a transaction that was read. 0; -EINVAL with errors added. */
int hr_check(struct hr_txn *txn);

#endif
