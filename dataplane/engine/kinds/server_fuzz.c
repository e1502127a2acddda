/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Fuzzing of the control socket: the input is what a client writes, a line for each message, which is
 * sent with its length before it; a line that begins with '!' is sent as it is. Whatever that is, each
 * reply is JSON that says whether it was "ok", and the next client is served.
 */
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "control_stubs.h"

#define REPLY_MAX (HR_MESSAGE_MAX + 4)

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char path[64];
static uint8_t reply[REPLY_MAX];

static int
connected(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	return fd;
}

/**
 * Read one reply, if the engine has any to give.
 * @return false: none, or the connection has ended
 */
static bool
replied(int fd)
{
	size_t have = 0, want = 4;

	while (have < want) {
		ssize_t n;

		hr_server_poll();
		n = recv(fd, reply + have, want - have, MSG_DONTWAIT);
		if (n <= 0 && have == 0)
			return false;
		if (n < 0)
			continue;
		CHECK(n > 0);
		have += (size_t)n;
		if (have == 4)
			want = 4 +
					((size_t)reply[0] << 24 | reply[1] << 16 | reply[2] << 8 |
							reply[3]);
		CHECK(want <= sizeof(reply));
	}
	return true;
}

static void
check_reply(void)
{
	const size_t length = (size_t)reply[0] << 24 | reply[1] << 16 | reply[2] << 8 | reply[3];
	json_t *json = json_loadb((char *)reply + 4, length, JSON_REJECT_DUPLICATES, NULL);
	const json_t *ok = json_object_get(json, "ok");

	CHECK(json_is_boolean(ok));
	CHECK(json_is_true(ok) || json_array_size(json_object_get(json, "errors")) > 0);
	json_decref(json);
}

/** @return false: the engine has hung up */
static bool
write_all(int fd, const void *bytes, size_t size)
{
	const char *at = bytes;

	while (size > 0) {
		const ssize_t n = send(fd, at, size, MSG_NOSIGNAL | MSG_DONTWAIT);

		hr_server_poll();
		if (n < 0 && errno == EAGAIN) {
			if (replied(fd))
				check_reply();
			continue;
		}
		if (n < 0)
			return false;
		at += n;
		size -= (size_t)n;
	}
	return true;
}

static bool
write_message(int fd, const char *text, size_t length)
{
	const uint8_t header[] = {(uint8_t)(length >> 24), (uint8_t)(length >> 16),
			(uint8_t)(length >> 8), (uint8_t)length};

	return write_all(fd, header, sizeof(header)) && write_all(fd, text, length);
}

/** Another client is served, whatever the first has begun. */
static void
check_alive(void)
{
	static const char hello[] = "{\"op\":\"hello\"}";
	const int fd = connected();

	CHECK(write_message(fd, hello, sizeof(hello) - 1));
	CHECK(replied(fd));
	check_reply();
	close(fd);
	hr_server_poll();
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	stub_kinds();
	stub_fail_key = "fail";
	snprintf(path, sizeof(path), "/tmp/headrace-fuzz-%d.sock", (int)getpid());
	CHECK(hr_server_open(path) == 0);
	CHECK(atexit(hr_server_close) == 0);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data, *end = text + size;
	const int fd = connected();
	bool open = true;

	while (open && text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		const char *stop = newline != NULL ? newline : end;

		if (*text == '!')
			open = write_all(fd, text + 1, (size_t)(stop - text) - 1);
		else
			open = write_message(fd, text, (size_t)(stop - text));
		while (replied(fd))
			check_reply();
		text = stop + 1;
	}
	check_alive();
	close(fd);
	hr_server_poll();
	CHECK(stub_prepared == 0);
	stub_check_all();
	hr_txn_clear();
	return 0;
}
