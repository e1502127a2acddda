/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * main() of a fuzzer that does not fuzz: runs the files of a folder, once each.
 */
#include <dirent.h>
#include <stdint.h>
#include <string.h>

#include "check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __attribute__((weak)) LLVMFuzzerInitialize(int *argc, char ***argv);

static void
run(const char *path)
{
	FILE *file = fopen(path, "re");
	uint8_t *data;
	size_t size;

	CHECK(file != NULL && fseek(file, 0, SEEK_END) == 0);
	size = (size_t)ftell(file);
	rewind(file);
	data = malloc(size); /* As large as it is: what reads further is seen. */
	CHECK(data != NULL && fread(data, 1, size, file) == size);
	fclose(file);
	fprintf(stderr, "%s\n", path);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
}

int
main(int argc, char **argv)
{
	const struct dirent *entry;
	unsigned n = 0;
	DIR *folder;

	CHECK(argc == 2);
	folder = opendir(argv[1]);
	CHECK(folder != NULL);
	if (LLVMFuzzerInitialize != NULL)
		CHECK(LLVMFuzzerInitialize(&argc, &argv) == 0);
	while ((entry = readdir(folder)) != NULL) {
		char path[4096];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
		run(path);
		n++;
	}
	closedir(folder);
	CHECK(n > 0);
	return 0;
}
