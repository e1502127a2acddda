/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Fuzzing of commits: the input is JSON documents with newlines between, each the "objects" of
 * one commit. Whatever they are, the store stays whole, and a commit that fails changes nothing.
 */
#include "control_stubs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
commit(const char *text, size_t length)
{
	static int64_t generation;
	struct hr_errors errors = {0};
	json_t *objects = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);
	json_t *before, *after;

	if (objects == NULL)
		return;
	before = hr_store_digests();
	if (hr_txn_commit(objects, ++generation, &errors) == 0) {
		CHECK(errors.count == 0);
		CHECK(hr_store_generation() == generation);
	} else {
		CHECK(errors.count > 0 && json_array_size(errors.list) > 0);
		CHECK(hr_store_generation() != generation);
		after = hr_store_digests();
		CHECK(json_equal(before, after));
		json_decref(after);
	}
	CHECK(stub_prepared == 0);
	stub_check_all();
	json_decref(before);
	json_decref(errors.list);
	json_decref(objects);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data, *end = text + size;

	stub_kinds();
	stub_fail_key = "fail";
	while (text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		const char *stop = newline != NULL ? newline : end;

		commit(text, (size_t)(stop - text));
		text = stop + 1;
	}
	hr_txn_clear();
	for (unsigned i = 0; i < hr_n_kinds; i++)
		CHECK(hr_store_count(hr_kinds[i]) == 0);
	return 0;
}
