/* SPDX-License-Identifier: Apache-2.0 */
#include "why.h"

#include <stdarg.h>
#include <stdio.h>

void
hr_why(struct hr_why *why, const char *reason, const char *format, ...)
{
	va_list args;

	why->reason = reason;
	va_start(args, format);
	vsnprintf(why->text, sizeof(why->text), format, args);
	va_end(args);
}
