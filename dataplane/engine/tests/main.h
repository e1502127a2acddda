/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What main() has in the engine, for tests that have all kinds of objects. Included by one file,
 * after control/server.h.
 */
#ifndef HR_TESTS_MAIN_H
#define HR_TESTS_MAIN_H

#include <stdint.h>

#include <jansson.h>

json_t *
hr_hello(void)
{
	return json_object();
}

uint64_t
hr_started(void)
{
	return 0;
}

#endif
