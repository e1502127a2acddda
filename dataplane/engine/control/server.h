/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * The control socket: requests and replies as JSON, each after its length (4 bytes, big-endian).
 *
 * One thread calls all of this; nothing blocks. A client has one message in the engine at a time,
 * in or out, so it can hold HR_MESSAGE_MAX bytes and no more; one that does not read its reply is
 * not read from. JSON that does not parse ends the connection after an error reply, a request
 * that makes no sense does not.
 */
#ifndef HR_CONTROL_SERVER_H
#define HR_CONTROL_SERVER_H

#include <stdint.h>

#include <jansson.h>

#define HR_PROTOCOL 2
#define HR_MESSAGE_MAX (16u << 20) /**< Bytes of JSON in one message. */
#define HR_CLIENTS_MAX 16

/**
 * Listen at a path, mode 0600. A socket there that no one listens at is replaced.
 *
 * @return 0; -EADDRINUSE when someone listens there or it is no socket; -ENAMETOOLONG; -errno
 */
int hr_server_open(const char *path);
/** Descriptor that is readable when hr_server_poll() has something to do. */
int hr_server_epoll_fd(void);
/** Accept, read, serve at most one request of each client, write. */
void hr_server_poll(void);
/** Close all connections and remove the socket. */
void hr_server_close(void);

/** What "hello" says of the process, but for the objects and their kinds: a new object. By main. */
json_t *hr_hello(void);
/** When the engine started, seconds since 1970. By main. */
uint64_t hr_started(void);

#endif
