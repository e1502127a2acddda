/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Strict reading of one JSON object: every field is asked for by name, what was not asked for is
 * refused. Each hr_read_*() adds an error and yields zero when the field is wrong or missing, so
 * a caller reads all fields and looks at hr_read_end() once.
 */
#ifndef HR_CONTROL_READER_H
#define HR_CONTROL_READER_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "errors.h"

#define HR_READER_FIELDS 16

struct hr_reader {
	const json_t *object;
	struct hr_errors *errors;
	size_t errors_before;
	char path[64]; /**< Of the object, in errors: "" or as "objects[3]". */
	unsigned n_known;
	const char *known[HR_READER_FIELDS];
};

/** Start on an object. @param path "" or its own, as "objects[3]" */
void hr_read_begin(struct hr_reader *reader, const json_t *object, const char *path,
		struct hr_errors *errors);
/** Refuse the fields not asked for. 0, or -EINVAL when there were errors since the start. */
int hr_read_end(struct hr_reader *reader);

/** Ask whether an optional field is there. */
bool hr_read_has(struct hr_reader *reader, const char *name);
/** A field of any type, NULL when missing. */
const json_t *hr_read_field(struct hr_reader *reader, const char *name);
bool hr_read_bool(struct hr_reader *reader, const char *name);
/** An integer of min..max. */
uint64_t hr_read_uint(struct hr_reader *reader, const char *name, uint64_t min, uint64_t max);
/** A string of 1..max bytes, all printable and none a space; NULL when wrong. */
const char *hr_read_string(struct hr_reader *reader, const char *name, size_t max);
/** An array of at most max elements; NULL when wrong. */
const json_t *hr_read_array(struct hr_reader *reader, const char *name, size_t max);

/** Add an error about a field (its name, or as "addresses[2]") of the object being read. */
void hr_read_error(struct hr_reader *reader, const char *field, const char *reason,
		const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
