/* SPDX-License-Identifier: Apache-2.0 */
#include "server.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "list.h"
#include "reader.h"
#include "store.h"
#include "txn.h"

#define HEADER 4               /**< Bytes of a message's length. */
#define BUFFER_MIN 65536       /**< A buffer's first size; it grows as bytes really arrive. */
#define READ_MAX (1u << 20)    /**< Bytes read from one client in one poll. */
#define PARSE_FACTOR 32        /**< Memory that parsing may take, in lengths of a message. */
#define ALLOCATION_OVERHEAD 16 /**< What malloc() itself takes, about. */

/** One message, length and all. */
struct buffer {
	char *data;
	size_t length;
	size_t room;
};

struct client {
	int fd;       /**< -1: free. */
	bool is_last; /**< Close when the reply is written. */
	struct buffer in;
	struct buffer out;
	size_t written; /**< Bytes of out. */
};

static struct {
	int listen_fd;
	int epoll_fd;
	struct sockaddr_un address;
	struct client clients[HR_CLIENTS_MAX];
} server = {.listen_fd = -1, .epoll_fd = -1};

/** Memory that JSON may still allocate while a request is parsed. */
static size_t parse_budget = SIZE_MAX;

/**
 * Short JSON can need much memory ("[[],[],..." fifty times its length), so parsing has a budget.
 * Frees do not give back: what counts is what was asked for.
 */
static void *
budget_malloc(size_t size)
{
	if (size + ALLOCATION_OVERHEAD > parse_budget)
		return NULL;
	if (parse_budget != SIZE_MAX)
		parse_budget -= size + ALLOCATION_OVERHEAD;
	return malloc(size);
}

static void
buffer_free(struct buffer *buffer)
{
	free(buffer->data);
	*buffer = (struct buffer){0};
}

static int
buffer_reserve(struct buffer *buffer, size_t need)
{
	size_t room = buffer->room > 0 ? buffer->room : BUFFER_MIN;
	char *data;

	if (need <= buffer->room)
		return 0;
	while (room < need)
		room *= 2;
	data = realloc(buffer->data, room);
	if (data == NULL)
		return -ENOMEM;
	buffer->data = data;
	buffer->room = room;
	return 0;
}

/** json_dump_callback_t: append to a message. */
static int
buffer_append(const char *bytes, size_t size, void *arg)
{
	struct buffer *buffer = arg;

	if (buffer->length + size > HEADER + HR_MESSAGE_MAX ||
			buffer_reserve(buffer, buffer->length + size) != 0)
		return -1;
	memcpy(buffer->data + buffer->length, bytes, size);
	buffer->length += size;
	return 0;
}

/** Length of the message in a buffer that has at least HEADER bytes. */
static size_t
message_length(const struct buffer *buffer)
{
	const uint8_t *b = (const uint8_t *)buffer->data;

	return (size_t)b[0] << 24 | (size_t)b[1] << 16 | (size_t)b[2] << 8 | b[3];
}

static int
dump_message(struct buffer *buffer, const json_t *json)
{
	size_t length;

	buffer->length = 0;
	if (json == NULL || buffer_append("\0\0\0", HEADER, buffer) != 0 ||
			json_dump_callback(json, buffer_append, buffer, JSON_COMPACT) != 0)
		return -1;
	length = buffer->length - HEADER;
	for (unsigned i = 0; i < HEADER; i++)
		buffer->data[i] = (char)(length >> (24 - 8 * i));
	return 0;
}

static json_t *
error_reply(struct hr_errors *errors)
{
	return json_pack("{s:b, s:O}", "ok", false, "errors", errors->list);
}

/** A reply of one error that is about no object. */
static json_t *
refusal(const char *reason, const char *message)
{
	struct hr_errors errors = {0};
	json_t *reply;

	hr_error(&errors, "", reason, "%s", message);
	reply = error_reply(&errors);
	json_decref(errors.list);
	return reply;
}

static json_t *
serve_hello(struct hr_reader *request)
{
	json_t *reply;

	if (hr_read_end(request) != 0)
		return NULL;
	reply = hr_hello();
	json_object_set_new(reply, "protocol", json_integer(HR_PROTOCOL));
	json_object_set_new(reply, "generation", json_integer(hr_store_generation()));
	json_object_set_new(reply, "kinds", hr_kinds_describe());
	json_object_set_new(reply, "features", hr_kinds_features());
	return reply;
}

static json_t *
serve_digests(struct hr_reader *request)
{
	if (hr_read_end(request) != 0)
		return NULL;
	return json_pack("{s:I, s:o}", "generation", (json_int_t)hr_store_generation(), "digests",
			hr_store_digests());
}

static json_t *
serve_commit(struct hr_reader *request)
{
	int64_t generation = (int64_t)hr_read_uint(request, "generation", 0, INT64_MAX);
	const json_t *objects = hr_read_array(request, "objects", SIZE_MAX);

	if (hr_read_end(request) != 0 || hr_txn_commit(objects, generation, request->errors) != 0)
		return NULL;
	return json_pack("{s:I}", "generation", (json_int_t)generation);
}

static json_t *
serve_list(struct hr_reader *request)
{
	const char *kind = hr_read_string(request, "kind", HR_NAME_MAX);
	const json_t *filter = NULL;
	size_t cursor = 0, limit = HR_LIST_LIMIT, next = 0;
	json_t *items;

	if (kind != NULL && !hr_list_exists(kind))
		hr_read_error(request, "kind", HR_INVALID_FIELD, "\"%.64s\" cannot be listed",
				kind);
	if (hr_read_has(request, "filter")) {
		filter = hr_read_field(request, "filter");
		if (!json_is_object(filter))
			hr_read_error(request, "filter", HR_INVALID_FIELD, "must be an object");
	}
	if (hr_read_has(request, "cursor"))
		cursor = hr_read_uint(request, "cursor", 0, INT64_MAX);
	if (hr_read_has(request, "limit"))
		limit = hr_read_uint(request, "limit", 1, HR_LIST_LIMIT_MAX);
	if (hr_read_end(request) != 0)
		return NULL;
	items = hr_list(kind, filter, cursor, limit, &next, request->errors);
	if (items == NULL)
		return NULL;
	return json_pack("{s:o, s:o}", "items", items, "next",
			next != 0 ? json_integer((json_int_t)next) : json_null());
}

/** Each reads its own fields and gives a reply, or NULL with errors added. */
static const struct {
	const char *name;
	json_t *(*serve)(struct hr_reader *request);
} operations[] = {
		{"hello", serve_hello},
		{"digests", serve_digests},
		{"commit", serve_commit},
		{"list", serve_list},
};

/** The reply to a request; NULL when out of memory. */
static json_t *
serve(const json_t *json)
{
	struct hr_errors errors = {0};
	json_t *reply = NULL;
	struct hr_reader request;
	const char *op;
	size_t i = 0, n = sizeof(operations) / sizeof(operations[0]);

	hr_read_begin(&request, json, "", &errors);
	op = hr_read_string(&request, "op", HR_NAME_MAX);
	if (op != NULL) {
		while (i < n && strcmp(operations[i].name, op) != 0)
			i++;
		if (i < n)
			reply = operations[i].serve(&request);
		else
			hr_read_error(&request, "op", HR_INVALID_FIELD,
					"must be hello, digests, commit or list");
	}
	if (reply == NULL && errors.count == 0)
		hr_error(&errors, "", HR_OUT_OF_MEMORY, "out of memory");
	if (reply != NULL)
		json_object_set_new(reply, "ok", json_true());
	else
		reply = error_reply(&errors);
	json_decref(errors.list);
	return reply;
}

static void
client_close(struct client *client)
{
	close(client->fd);
	buffer_free(&client->in);
	buffer_free(&client->out);
	*client = (struct client){.fd = -1};
}

/** Queue a reply. 0, or -1 when that is impossible. */
static int
client_reply(struct client *client, json_t *reply)
{
	int rc = dump_message(&client->out, reply);

	json_decref(reply);
	if (rc != 0) {
		reply = refusal(HR_TOO_LARGE, "the reply would be too large");
		rc = dump_message(&client->out, reply);
		json_decref(reply);
	}
	client->written = 0;
	return rc;
}

/** Serve the complete message in a client's buffer. */
static int
client_serve(struct client *client)
{
	size_t length = message_length(&client->in);
	json_error_t error;
	json_t *request;
	int rc;

	parse_budget = length * PARSE_FACTOR + BUFFER_MIN;
	request = json_loadb(client->in.data + HEADER, length, JSON_REJECT_DUPLICATES, &error);
	parse_budget = SIZE_MAX;
	buffer_free(&client->in);
	if (request == NULL) {
		client->is_last = true;
		/* The parser gives no text when it runs out of memory. */
		return client_reply(client,
				refusal(HR_INVALID_REQUEST,
						error.text[0] != '\0' ? error.text
								      : "takes too much memory"));
	}
	rc = client_reply(client, serve(request));
	json_decref(request);
	return rc;
}

/** Read no further than the end of a message. 0; -1 when the client is to be closed. */
static int
client_read(struct client *client)
{
	struct buffer *in = &client->in;
	size_t budget = READ_MAX;

	while (budget > 0) {
		size_t end = in->length < HEADER ? HEADER : HEADER + message_length(in);
		size_t want;
		ssize_t n;

		if (end > HEADER + HR_MESSAGE_MAX) {
			client->is_last = true;
			return client_reply(client, refusal(HR_TOO_LARGE, "message over 16 MiB"));
		}
		if (in->length == end)
			return client_serve(client);
		if (in->length == in->room && buffer_reserve(in, in->length + 1) != 0)
			return -1;
		want = in->room < end ? in->room - in->length : end - in->length;
		n = recv(client->fd, in->data + in->length, want < budget ? want : budget, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
		if (n == 0)
			return -1;
		in->length += (size_t)n;
		budget -= (size_t)n;
	}
	return 0;
}

/** Write what is queued. 0; -1 when the client is to be closed. */
static int
client_write(struct client *client)
{
	struct buffer *out = &client->out;

	while (client->written < out->length) {
		ssize_t n = send(client->fd, out->data + client->written,
				out->length - client->written, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
		client->written += (size_t)n;
	}
	buffer_free(out);
	client->written = 0;
	return client->is_last ? -1 : 0;
}

static int
client_poll(struct client *client)
{
	struct epoll_event event = {.data.ptr = client};

	if (client->out.length == 0 && client_read(client) != 0)
		return -1;
	if (client->out.length > 0 && client_write(client) != 0)
		return -1;
	event.events = client->out.length > 0 ? EPOLLOUT : EPOLLIN;
	return epoll_ctl(server.epoll_fd, EPOLL_CTL_MOD, client->fd, &event);
}

/** Tell a client that there is no room for it: once, and if it can be written at once. */
static void
refuse(int fd)
{
	json_t *reply = refusal(HR_TOO_MANY_CLIENTS, "too many clients");
	struct client client = {.fd = fd, .is_last = true};

	if (client_reply(&client, reply) == 0)
		client_write(&client);
	client_close(&client);
}

static void
accept_clients(void)
{
	for (unsigned i = 0; i < HR_CLIENTS_MAX; i++) {
		int fd = accept4(server.listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct client *client = server.clients;
		struct epoll_event event = {.events = EPOLLIN};

		if (fd < 0)
			return;
		while (client < server.clients + HR_CLIENTS_MAX && client->fd >= 0)
			client++;
		if (client == server.clients + HR_CLIENTS_MAX) {
			refuse(fd);
			continue;
		}
		client->fd = fd;
		event.data.ptr = client;
		if (epoll_ctl(server.epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
			client_close(client);
	}
}

/** Remove a socket that no one listens at any more. 0; -EADDRINUSE. */
static int
remove_stale(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct stat stat;
	int rc = -EADDRINUSE;

	if (fd < 0)
		return -errno;
	if (lstat(server.address.sun_path, &stat) == 0 && S_ISSOCK(stat.st_mode) &&
			connect(fd, (const struct sockaddr *)&server.address,
					sizeof(server.address)) != 0 &&
			errno == ECONNREFUSED)
		rc = unlink(server.address.sun_path) == 0 ? 0 : -errno;
	close(fd);
	return rc;
}

/** bind(), with the socket's file never open to others. */
static int
bind_private(void)
{
	if (fchmod(server.listen_fd, 0600) != 0 ||
			bind(server.listen_fd, (const struct sockaddr *)&server.address,
					sizeof(server.address)) != 0)
		return -errno;
	return 0;
}

int
hr_server_open(const char *path)
{
	struct epoll_event event = {.events = EPOLLIN};
	int rc;

	if (strlen(path) >= sizeof(server.address.sun_path))
		return -ENAMETOOLONG;
	json_set_alloc_funcs(budget_malloc, free);
	server.address = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(server.address.sun_path, path, strlen(path) + 1);
	for (unsigned i = 0; i < HR_CLIENTS_MAX; i++)
		server.clients[i] = (struct client){.fd = -1};
	server.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	server.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	rc = server.listen_fd < 0 || server.epoll_fd < 0 ? -errno : bind_private();
	if (rc == -EADDRINUSE) {
		rc = remove_stale();
		if (rc == 0)
			rc = bind_private();
	}
	if (rc != 0) {
		/* The path is someone else's: hr_server_close() must not remove it. */
		server.address.sun_path[0] = '\0';
	} else if (listen(server.listen_fd, HR_CLIENTS_MAX) != 0 ||
			epoll_ctl(server.epoll_fd, EPOLL_CTL_ADD, server.listen_fd, &event) != 0) {
		rc = -errno;
	}
	if (rc != 0)
		hr_server_close();
	return rc;
}

int
hr_server_epoll_fd(void)
{
	return server.epoll_fd;
}

void
hr_server_poll(void)
{
	struct epoll_event events[HR_CLIENTS_MAX + 1];
	int n = epoll_wait(server.epoll_fd, events, HR_CLIENTS_MAX + 1, 0);

	for (int i = 0; i < n; i++) {
		struct client *client = events[i].data.ptr;

		if (client == NULL)
			accept_clients();
		else if (client_poll(client) != 0)
			client_close(client);
	}
}

void
hr_server_close(void)
{
	for (unsigned i = 0; i < HR_CLIENTS_MAX; i++) {
		if (server.clients[i].fd >= 0)
			client_close(&server.clients[i]);
	}
	if (server.listen_fd >= 0)
		close(server.listen_fd);
	if (server.epoll_fd >= 0)
		close(server.epoll_fd);
	if (server.address.sun_path[0] != '\0')
		unlink(server.address.sun_path);
	server.listen_fd = server.epoll_fd = -1;
	server.address.sun_path[0] = '\0';
}
