/* SPDX-License-Identifier: Apache-2.0 */
#include "reader.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void
hr_read_error(struct hr_reader *reader, const char *field, const char *reason, const char *format,
		...)
{
	char path[160], message[512];
	va_list args;

	snprintf(path, sizeof(path), "%s%s%s", reader->path, reader->path[0] && field[0] ? "." : "",
			field);
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	hr_error(reader->errors, path, reason, "%s", message);
}

void
hr_read_begin(struct hr_reader *reader, const json_t *object, const char *path,
		struct hr_errors *errors)
{
	*reader = (struct hr_reader){
			.object = object,
			.errors = errors,
			.errors_before = errors->count,
	};
	snprintf(reader->path, sizeof(reader->path), "%s", path);
	if (!json_is_object(object))
		hr_read_error(reader, "", HR_INVALID_FIELD, "must be an object");
}

static bool
is_known(const struct hr_reader *reader, const char *name)
{
	for (unsigned i = 0; i < reader->n_known; i++) {
		if (strcmp(reader->known[i], name) == 0)
			return true;
	}
	return false;
}

int
hr_read_end(struct hr_reader *reader)
{
	const char *name;
	json_t *value;

	/* The macro's iterator wants a pointer to non-const, and changes nothing. */
	json_object_foreach((json_t *)(uintptr_t)reader->object, name, value) {
		if (!is_known(reader, name))
			hr_read_error(reader, name, HR_UNKNOWN_FIELD, "unknown field");
	}
	return reader->errors->count == reader->errors_before ? 0 : -EINVAL;
}

bool
hr_read_has(struct hr_reader *reader, const char *name)
{
	if (!is_known(reader, name) && reader->n_known < HR_READER_FIELDS)
		reader->known[reader->n_known++] = name;
	return json_object_get(reader->object, name) != NULL;
}

const json_t *
hr_read_field(struct hr_reader *reader, const char *name)
{
	if (hr_read_has(reader, name))
		return json_object_get(reader->object, name);
	if (json_is_object(reader->object))
		hr_read_error(reader, name, HR_MISSING_FIELD, "required");
	return NULL;
}

bool
hr_read_bool(struct hr_reader *reader, const char *name)
{
	const json_t *value = hr_read_field(reader, name);

	if (value != NULL && !json_is_boolean(value))
		hr_read_error(reader, name, HR_INVALID_FIELD, "must be true or false");
	return json_is_true(value);
}

uint64_t
hr_read_uint(struct hr_reader *reader, const char *name, uint64_t min, uint64_t max)
{
	const json_t *value = hr_read_field(reader, name);
	json_int_t integer = json_integer_value(value);

	if (value == NULL)
		return 0;
	if (!json_is_integer(value) || integer < 0 || (uint64_t)integer < min ||
			(uint64_t)integer > max) {
		hr_read_error(reader, name, HR_INVALID_FIELD,
				"must be an integer from %llu to %llu", (unsigned long long)min,
				(unsigned long long)max);
		return 0;
	}
	return (uint64_t)integer;
}

const char *
hr_read_string(struct hr_reader *reader, const char *name, size_t max)
{
	const json_t *value = hr_read_field(reader, name);
	size_t length = json_string_length(value);
	const char *text = json_string_value(value);
	bool valid = text != NULL && length >= 1 && length <= max;

	if (value == NULL)
		return NULL;
	for (size_t i = 0; valid && i < length; i++)
		valid = (unsigned char)text[i] > ' ' && text[i] != 0x7f;
	if (!valid) {
		hr_read_error(reader, name, HR_INVALID_FIELD,
				"must be a string of 1 to %zu printable characters, no spaces",
				max);
		return NULL;
	}
	return text;
}

const json_t *
hr_read_array(struct hr_reader *reader, const char *name, size_t max)
{
	const json_t *value = hr_read_field(reader, name);

	if (value == NULL)
		return NULL;
	if (!json_is_array(value)) {
		hr_read_error(reader, name, HR_INVALID_FIELD, "must be an array");
		return NULL;
	}
	if (json_array_size(value) > max) {
		hr_read_error(reader, name, HR_LIMIT_EXCEEDED, "%zu elements; at most %zu",
				json_array_size(value), max);
		return NULL;
	}
	return value;
}
