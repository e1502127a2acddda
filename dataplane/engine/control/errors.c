/* SPDX-License-Identifier: Apache-2.0 */
#include "errors.h"

#include <stdarg.h>
#include <stdio.h>

/** A JSON string of text that may hold anything: cut UTF-8 sequences, a device's own bytes. */
static json_t *
safe_string(char *text)
{
	json_t *string = json_string(text);

	if (string != NULL)
		return string;
	for (char *c = text; *c != '\0'; c++) {
		if ((unsigned char)*c >= 0x80)
			*c = '?';
	}
	return json_string(text);
}

void
hr_error(struct hr_errors *errors, const char *field, const char *reason, const char *format, ...)
{
	char message[512], path[160];
	va_list args;

	if (errors->list == NULL)
		errors->list = json_array();
	if (errors->count++ >= HR_ERRORS_MAX)
		return;
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	snprintf(path, sizeof(path), "%s", field);
	json_array_append_new(errors->list,
			json_pack("{s:s, s:s, s:o, s:s, s:o}", "kind",
					errors->kind != NULL ? errors->kind : "", "key",
					errors->key != NULL ? errors->key : "", "field",
					safe_string(path), "reason", reason, "message",
					safe_string(message)));
}
