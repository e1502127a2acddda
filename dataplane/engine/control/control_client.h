/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * A client of the control socket, in the thread of the server. Included by one file of a program.
 */
#ifndef HR_CONTROL_CLIENT_H
#define HR_CONTROL_CLIENT_H

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <jansson.h>

#include "../tests/check.h"
#include "server.h"

#define PATIENCE_MS 30000

static char socket_path[64];

/* The client's side: same thread, so every wait runs the server. */

static int
client_open(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, socket_path, strlen(socket_path));
	CHECK(connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
	return fd;
}

/** Run the server until the client's socket is ready. */
static void
wait_for(int fd, short events)
{
	for (;;) {
		struct pollfd fds[] = {
				{.fd = fd, .events = events},
				{.fd = hr_server_epoll_fd(), .events = POLLIN},
		};

		CHECK(poll(fds, 2, PATIENCE_MS) > 0);
		if (fds[1].revents != 0)
			hr_server_poll();
		if (fds[0].revents != 0)
			return;
	}
}

/** Send it all; false when the server closed before that. */
static bool
send_all(int fd, const void *data, size_t length)
{
	const char *bytes = data;

	while (length > 0) {
		ssize_t n = send(fd, bytes, length, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			return false;
		if (n < 0) {
			wait_for(fd, POLLOUT);
			continue;
		}
		bytes += n;
		length -= (size_t)n;
	}
	return true;
}

/** Receive so many bytes; false when the connection ends first. */
static bool
receive_all(int fd, void *data, size_t length)
{
	char *bytes = data;

	while (length > 0) {
		ssize_t n = recv(fd, bytes, length, 0);

		if (n == 0 || (n < 0 && errno != EAGAIN))
			return false;
		if (n < 0) {
			wait_for(fd, POLLIN);
			continue;
		}
		bytes += n;
		length -= (size_t)n;
	}
	return true;
}

static bool
send_length(int fd, uint32_t length)
{
	uint8_t header[4] = {(uint8_t)(length >> 24), (uint8_t)(length >> 16),
			(uint8_t)(length >> 8), (uint8_t)length};

	return send_all(fd, header, sizeof(header));
}

static json_t *
receive_reply(int fd)
{
	uint8_t header[4];
	uint32_t length;
	json_t *reply;
	char *text;

	if (!receive_all(fd, header, sizeof(header)))
		return NULL;
	length = (uint32_t)header[0] << 24 | header[1] << 16 | header[2] << 8 | header[3];
	CHECK(length <= HR_MESSAGE_MAX);
	text = malloc(length);
	CHECK(receive_all(fd, text, length));
	reply = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);
	CHECK(json_is_object(reply));
	free(text);
	return reply;
}

static json_t *
call_text(int fd, const char *text)
{
	CHECK(send_length(fd, (uint32_t)strlen(text)));
	CHECK(send_all(fd, text, strlen(text)));
	return receive_reply(fd);
}

/* Requests in C: ' stands for ". */

static char text[65536];
static int control; /**< The connection most tests use. */

static char *
quote(char *json)
{
	for (char *c = json; *c != '\0'; c++) {
		if (*c == '\'')
			*c = '"';
	}
	return json;
}

static json_t *call(const char *format, ...) __attribute__((format(printf, 1, 2)));

static json_t *
call(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return call_text(control, quote(text));
}

static bool
is_ok(const json_t *reply)
{
	const json_t *ok = json_object_get(reply, "ok");

	CHECK(json_is_boolean(ok));
	CHECK(json_is_true(ok) == (json_object_get(reply, "errors") == NULL));
	return json_is_true(ok);
}

static void
expect_ok(json_t *reply)
{
	if (!is_ok(reply)) {
		json_dumpf(reply, stderr, 0);
		CHECK(!"the reply is an error");
	}
	json_decref(reply);
}

static const char *
error_field(const json_t *error, const char *name)
{
	const char *value = json_string_value(json_object_get(error, name));

	CHECK(value != NULL);
	return value;
}

static bool
has_error(const json_t *reply, const char *kind, const char *key, const char *field,
		const char *reason)
{
	const json_t *error;
	size_t i;

	json_array_foreach(json_object_get(reply, "errors"), i, error) {
		if (strcmp(error_field(error, "kind"), kind) == 0 &&
				strcmp(error_field(error, "key"), key) == 0 &&
				strcmp(error_field(error, "field"), field) == 0 &&
				strcmp(error_field(error, "reason"), reason) == 0 &&
				error_field(error, "message")[0] != '\0')
			return true;
	}
	return false;
}

static size_t
count_errors(const json_t *reply)
{
	return json_array_size(json_object_get(reply, "errors"));
}

static void
expect_refused_by(const char *file, int line, json_t *reply, const char *kind, const char *key,
		const char *field, const char *reason)
{
	if (is_ok(reply) || count_errors(reply) != 1 ||
			!has_error(reply, kind, key, field, reason)) {
		fprintf(stderr, "%s:%d: not the one error %s \"%s\" %s %s:\n", file, line, kind,
				key, field, reason);
		json_dumpf(reply, stderr, JSON_INDENT(1));
		abort();
	}
	json_decref(reply);
}

/** The reply is exactly this error. */
#define expect_refused(reply, kind, key, field, reason)                                            \
	expect_refused_by(__FILE__, __LINE__, reply, kind, key, field, reason)

#define PUT(kind, key, hash, spec)                                                                 \
	"{'kind':'" kind "','key':'" key "','hash':'" hash "','spec':{" spec "}}"
#define DELETE(kind, key) "{'kind':'" kind "','key':'" key "','delete':true}"

static json_t *
commit_all(int64_t generation, const char *const *objects)
{
	static char joined[32768];
	size_t n = 0;

	for (size_t i = 0; objects[i] != NULL; i++)
		n += (size_t)snprintf(joined + n, sizeof(joined) - n, "%s%s", i > 0 ? "," : "",
				objects[i]);
	CHECK(n < sizeof(joined));
	return call("{'op':'commit','generation':%lld,'objects':[%s]}", (long long)generation,
			joined);
}

/** Commit these objects. */
#define commit(generation, ...) commit_all(generation, (const char *const[]){__VA_ARGS__, NULL})

#endif
