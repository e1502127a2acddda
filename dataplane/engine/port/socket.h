/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Unix sockets that devargs name: memif's, vhost-user's.
 */
#ifndef HR_PORT_SOCKET_H
#define HR_PORT_SOCKET_H

#include <stdbool.h>
#include <sys/un.h>

#include "device.h"

/** The Unix socket that devargs name by this key. @return whether they are of this driver */
bool hr_socket_of(const char *devargs, const char *driver, const char *key,
		struct sockaddr_un *address);

/** Whether nobody listens there. */
bool hr_socket_is_deserted(const struct sockaddr_un *address);

/** Whether a memif port of ours has this socket: ports with several ids share one. */
bool hr_socket_is_ours(const struct sockaddr_un *address);

/**
 * Make room for a socket of ours: remove what an engine that was killed left behind. No driver
 * binds over it; as they give up, vhost's removes whatever is there, and memif's forgets to release
 * its device.
 *
 * @return 0, or -EBUSY when what is there is somebody else's
 */
int hr_socket_clear(const struct sockaddr_un *address, struct hr_why *why);

#endif
