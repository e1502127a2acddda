/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HR_TESTS_CHECK_H
#define HR_TESTS_CHECK_H

#include <stdio.h>
#include <stdlib.h>

/** End the test unless something is so. */
#define CHECK(what)                                                                                \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #what);         \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#endif
