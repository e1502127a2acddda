/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What is wrong with a request: the "errors" of a reply.
 */
#ifndef HR_CONTROL_ERRORS_H
#define HR_CONTROL_ERRORS_H

#include <jansson.h>
#include <stddef.h>

#define HR_ERRORS_MAX 100 /**< Errors in one reply; later ones are counted only. */

/* Reasons: CamelCase, for programs. More may be named where they arise. */
#define HR_INVALID_REQUEST "InvalidRequest" /**< Not JSON, or not an object. */
#define HR_INVALID_FIELD "InvalidField"     /**< Wrong type, form or range. */
#define HR_MISSING_FIELD "MissingField"
#define HR_UNKNOWN_FIELD "UnknownField"
#define HR_UNKNOWN_REFERENCE "UnknownReference" /**< Names an object that is not there. */
#define HR_DUPLICATE "Duplicate"                /**< Twice in one list or transaction. */
#define HR_CONFLICT "Conflict"                  /**< Must be unique, and another has it. */
#define HR_IN_USE "InUse"                       /**< Deleted, but another object names it. */
#define HR_LIMIT_EXCEEDED "LimitExceeded"
#define HR_TOO_LARGE "TooLarge" /**< Message beyond HR_MESSAGE_MAX. */
#define HR_TOO_MANY_CLIENTS "TooManyClients"
#define HR_OUT_OF_MEMORY "OutOfMemory"
#define HR_PREPARE_FAILED "PrepareFailed" /**< A kind's prepare() gave no reason. */

/** Errors so far, and the object that the next one is about. */
struct hr_errors {
	json_t *list; /**< Array of {"kind","key","field","reason","message"}; NULL when none. */
	size_t count;
	const char *kind; /**< NULL: the request itself. */
	const char *key;
};

/** What the errors that follow are about. The strings must live as long as it does. */
static inline void
hr_errors_at(struct hr_errors *errors, const char *kind, const char *key)
{
	errors->kind = kind;
	errors->key = key;
}

/**
 * Add an error.
 *
 * @param field path in the object's spec, as "addresses[2]"; "" for the object itself
 * @param reason CamelCase
 */
void hr_error(struct hr_errors *errors, const char *field, const char *reason, const char *format,
		...) __attribute__((format(printf, 4, 5)));

#endif
