/* SPDX-License-Identifier: Apache-2.0 */
#include "netdev.h"

#include <errno.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

int
hr_netdev_flags(const char *name, int set)
{
	struct ifreq request = {0};
	const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int result;

	if (fd < 0)
		return -errno;
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	result = ioctl(fd, SIOCGIFFLAGS, &request);
	if (result == 0 && (request.ifr_flags | set) != request.ifr_flags) {
		request.ifr_flags |= set;
		result = ioctl(fd, SIOCSIFFLAGS, &request);
	}
	result = result == 0 ? (uint16_t)request.ifr_flags : -errno;
	close(fd);
	return result;
}
