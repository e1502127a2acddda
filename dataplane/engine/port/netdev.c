/* SPDX-License-Identifier: Apache-2.0 */
#include "netdev.h"

#include <errno.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/** @return 0, or -errno */
static int
ask(unsigned long what, struct ifreq *request)
{
	const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int result;

	if (fd < 0)
		return -errno;
	result = ioctl(fd, what, request) == 0 ? 0 : -errno;
	close(fd);
	return result;
}

int
hr_netdev_mtu(const char *name)
{
	struct ifreq request = {0};
	int error;

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	error = ask(SIOCGIFMTU, &request);
	return error == 0 ? request.ifr_mtu : error;
}

int
hr_netdev_set_mtu(unsigned index, uint16_t mtu)
{
	struct ifreq request = {.ifr_mtu = mtu};

	if (if_indextoname(index, request.ifr_name) == NULL)
		return -errno;
	return ask(SIOCSIFMTU, &request);
}

int
hr_netdev_flags(const char *name, int set)
{
	struct ifreq request = {0};
	int error;

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	error = ask(SIOCGIFFLAGS, &request);
	if (error == 0 && (request.ifr_flags | set) != request.ifr_flags) {
		request.ifr_flags |= set;
		error = ask(SIOCSIFFLAGS, &request);
	}
	return error == 0 ? (uint16_t)request.ifr_flags : error;
}
