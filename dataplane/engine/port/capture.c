/* SPDX-License-Identifier: Apache-2.0 */
#include "capture.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/**
 * See that a path leads to a regular file, or to none yet, and no part of it is a symbolic link: who
 * may write in the directory must not have us write elsewhere.
 *
 * @return 0, or -errno
 */
static int
see_file(const char *path, struct hr_why *why)
{
	const int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int folder = open(path[0] == '/' ? "/" : ".", flags);
	char name[NAME_MAX + 1] = "";
	int error = folder < 0 ? -errno : 0;
	struct stat status;

	while (folder >= 0) {
		size_t length;
		int next;

		path += strspn(path, "/");
		length = strcspn(path, "/");
		snprintf(name, sizeof(name), "%.*s", (int)length, path);
		path += length;
		if (*path == '\0')
			break;
		next = openat(folder, name, flags);
		error = next < 0 ? -errno : 0;
		close(folder);
		folder = next;
	}
	if (folder < 0) {
		hr_why(why, NULL, "%.100s is no directory, or a symbolic link", name);
		return error;
	}
	error = fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : -errno;
	close(folder);
	if (error == 0 && !S_ISREG(status.st_mode))
		error = -EINVAL;
	if (error == 0 || error == -ENOENT)
		return 0;
	hr_why(why, NULL, "%.100s is no regular file, or a symbolic link", name);
	return error;
}

int
hr_capture_see_files(const char *devargs, struct hr_why *why)
{
	static const char *const keys[] = {",rx_pcap=", ",tx_pcap="};
	int error = 0;

	for (size_t i = 0; i < RTE_DIM(keys) && error == 0; i++) {
		const char *value = strstr(devargs, keys[i]);
		char path[PATH_MAX];

		if (value == NULL)
			continue;
		value += strlen(keys[i]);
		snprintf(path, sizeof(path), "%.*s", (int)strcspn(value, ","), value);
		error = see_file(path, why);
	}
	return error;
}
