/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What the engine would say of commits, without ports: reads lines of JSON, each the "objects" of
 * a commit into an empty engine, and answers each with a line: the errors, [] when there are none.
 */
#include "control_stubs.h"

int
main(void)
{
	char *line = NULL;
	size_t room = 0;

	stub_kinds();
	while (getline(&line, &room, stdin) > 0) {
		struct hr_errors errors = {0};
		json_t *objects = json_loads(line, JSON_REJECT_DUPLICATES, NULL);

		CHECK(objects != NULL);
		hr_txn_commit(objects, 1, &errors);
		stub_check_all();
		if (errors.list == NULL)
			errors.list = json_array();
		CHECK(json_dumpf(errors.list, stdout, JSON_COMPACT) == 0);
		putchar('\n');
		fflush(stdout);
		json_decref(errors.list);
		json_decref(objects);
		hr_txn_clear();
	}
	free(line);
	return 0;
}
