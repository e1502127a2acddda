/* SPDX-License-Identifier: Apache-2.0 */
#include "socket.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_devargs.h>

bool
hr_socket_of(const char *devargs, const char *driver, const char *key, struct sockaddr_un *address)
{
	const char *value = strstr(devargs, key);

	if (strncmp(devargs, driver, strlen(driver)) != 0 || value == NULL)
		return false;
	value += strlen(key);
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(address->sun_path, sizeof(address->sun_path), "%.*s", (int)strcspn(value, ","),
			value);
	return true;
}

bool
hr_socket_is_deserted(const struct sockaddr_un *address)
{
	/* Of a type that nobody has here: it is told from none (EPROTOTYPE) and not connected to,
	 * which memif's driver does not survive. */
	const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool nobody;

	if (fd < 0)
		return false;
	nobody = connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0 &&
			(errno == ECONNREFUSED || errno == ENOENT);
	close(fd);
	return nobody;
}

bool
hr_socket_is_ours(const struct sockaddr_un *address)
{
	struct rte_eth_dev_info info;
	struct sockaddr_un other;
	uint16_t id;

	RTE_ETH_FOREACH_DEV(id) {
		const struct rte_devargs *devargs;

		if (rte_eth_dev_info_get(id, &info) != 0 || info.device == NULL)
			continue;
		devargs = rte_dev_devargs(info.device);
		if (devargs != NULL && devargs->args != NULL &&
				hr_socket_of(devargs->args, "", "socket=", &other) &&
				strcmp(other.sun_path, address->sun_path) == 0)
			return true;
	}
	return false;
}

int
hr_socket_clear(const struct sockaddr_un *address, struct hr_why *why)
{
	struct stat status;

	if (lstat(address->sun_path, &status) != 0)
		return 0;
	if (S_ISSOCK(status.st_mode) && hr_socket_is_deserted(address)) {
		unlink(address->sun_path);
		return 0;
	}
	hr_why(why, NULL, "%s is %s", address->sun_path,
			S_ISSOCK(status.st_mode) ? "another program's socket" : "no socket");
	return -EBUSY;
}
