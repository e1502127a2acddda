/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CNI plugin: hands what the container runtime asks to the node agent (headrace-node), and
 * the agent's answer back. It knows nothing itself but its versions, so it seldom changes.
 *
 * A message, both ways, is its length in decimal, a newline, and so many bytes. The request is
 * the CNI_* variables ("NAME=VALUE", each ended by a NUL), another NUL, and standard input; with
 * it goes the pod's network namespace, opened, so that the agent need not see the path. The answer
 * is the exit status in decimal, a newline, and standard output.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_PATH "/run/headrace/node/cni.sock"
#define VERSION "1.1.0"
/* The agent answers sooner; one that does not is stuck. */
#define TIMEOUT_SECONDS 180

enum { MAX_BYTES = 1 << 20 };

/* Error codes of the CNI specification. */
enum {
	INVALID_ENVIRONMENT = 4,
	IO_FAILURE = 5,
	DECODING_FAILURE = 6,
	TRY_AGAIN_LATER = 11,
	NOT_AVAILABLE = 50,
};

extern char **environ;

struct buffer {
	char bytes[2 * MAX_BYTES];
	size_t length;
};

static struct buffer request, answer;

/* `message` is ours or the kernel's: nothing in it needs escaping. */
static void __attribute__((noreturn, format(printf, 2, 3))) fail(int code, const char *message, ...)
{
	va_list args;

	printf("{\"cniVersion\": \"" VERSION "\", \"code\": %d, \"msg\": \"", code);
	va_start(args, message);
	vprintf(message, args);
	va_end(args);
	puts("\"}");
	exit(1);
}

static void
append(struct buffer *buffer, const char *bytes, size_t length)
{
	if (length > MAX_BYTES / 2 - buffer->length)
		fail(INVALID_ENVIRONMENT, "the CNI_ variables are too long");
	memcpy(buffer->bytes + buffer->length, bytes, length);
	buffer->length += length;
}

/* Reads until the end, or until the buffer has `most` bytes more. */
static ssize_t
read_some(int file, struct buffer *buffer, size_t most)
{
	size_t before = buffer->length;

	while (buffer->length - before < most) {
		ssize_t got = read(file, buffer->bytes + buffer->length,
				most - (buffer->length - before));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -1;
		if (got == 0)
			break;
		buffer->length += got;
	}
	return buffer->length - before;
}

static void
make_request(void)
{
	ssize_t got;

	for (char **variable = environ; *variable != NULL; variable++) {
		if (strncmp(*variable, "CNI_", 4) == 0)
			append(&request, *variable, strlen(*variable) + 1);
	}
	append(&request, "", 1);
	got = read_some(STDIN_FILENO, &request, MAX_BYTES + 1);
	if (got < 0)
		fail(IO_FAILURE, "standard input: %s", strerror(errno));
	if (got > MAX_BYTES)
		fail(DECODING_FAILURE, "standard input has more than 1 MiB");
}

/* Sends the length with the file, unless it is -1, beside its first byte; then the bytes. */
static bool
send_request(int peer, int file)
{
	char text[24];
	struct iovec part = {.iov_base = text};
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
	size_t sent = 0;

	part.iov_len = snprintf(text, sizeof(text), "%zu\n", request.length);
	if (file >= 0) {
		control.header.cmsg_len = CMSG_LEN(sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(&control.header), &file, sizeof(int));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control.bytes);
	}
	/* A few bytes: a fresh socket takes them at once. */
	if (sendmsg(peer, &message, MSG_NOSIGNAL) != (ssize_t)part.iov_len)
		return false;
	while (sent < request.length) {
		ssize_t done = send(peer, request.bytes + sent, request.length - sent,
				MSG_NOSIGNAL);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return false;
		sent += done;
	}
	return true;
}

/* Returns what is behind the number and newline that the text starts with, NULL without them. */
static char *
take_number(char *text, unsigned long *number)
{
	char *end;

	*number = strtoul(text, &end, 10);
	return end != text && *end == '\n' ? end + 1 : NULL;
}

/* Asks the agent; returns why there is no answer, NULL when it is printed and `status` is set. */
static const char *
ask(int file, unsigned long *status)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SOCKET_PATH};
	struct timeval timeout = {.tv_sec = TIMEOUT_SECONDS};
	int peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unsigned long length;
	char *body, *output;

	if (peer < 0 || connect(peer, (struct sockaddr *)&address, sizeof(address)) < 0)
		return strerror(errno);
	setsockopt(peer, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(peer, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	if (!send_request(peer, file) || read_some(peer, &answer, sizeof(answer.bytes) - 1) < 0)
		return strerror(errno);
	answer.bytes[answer.length] = '\0';
	body = take_number(answer.bytes, &length);
	if (body == NULL || length != answer.length - (body - answer.bytes))
		return "it ended before it had answered";
	output = take_number(body, status);
	if (output == NULL || *status > 255)
		return "its answer is not understood: bring agent and plugin to one release";
	fwrite(output, 1, answer.bytes + answer.length - output, stdout);
	return NULL;
}

int
main(void)
{
	static const char *const commands[] = {"ADD", "CHECK", "DEL", "GC", "STATUS"};
	const char *command = getenv("CNI_COMMAND");
	const char *namespace = getenv("CNI_NETNS");
	bool known = false;
	unsigned long status = 1;
	const char *trouble;
	int file = -1;

	if (command == NULL)
		command = "";
	if (strcmp(command, "VERSION") == 0) {
		puts("{\"cniVersion\": \"" VERSION "\", \"supportedVersions\": "
		     "[\"0.3.0\", \"0.3.1\", \"0.4.0\", \"1.0.0\", \"1.1.0\"]}");
		return 0;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		known = known || strcmp(command, commands[i]) == 0;
	if (!known)
		fail(INVALID_ENVIRONMENT,
				"CNI_COMMAND must be ADD, CHECK, DEL, GC, STATUS or VERSION");
	make_request();
	if (namespace != NULL && *namespace != '\0')
		file = open(namespace, O_RDONLY | O_CLOEXEC);
	/* A pod that goes may have lost its namespace already. */
	if (file < 0 && (strcmp(command, "ADD") == 0 || strcmp(command, "CHECK") == 0))
		fail(INVALID_ENVIRONMENT, "CNI_NETNS cannot be opened: %s",
				namespace == NULL || *namespace == '\0' ? "it is empty"
									: strerror(errno));
	trouble = ask(file, &status);
	if (trouble == NULL)
		return status;
	/* What a pod has goes with its network namespace: its end need not wait for the agent. */
	if (strcmp(command, "DEL") == 0)
		return 0;
	fail(strcmp(command, "STATUS") == 0 ? NOT_AVAILABLE : TRY_AGAIN_LATER,
			"no answer of Headrace's node agent at " SOCKET_PATH
			": %s; is the pod headrace-node of this node running?",
			trouble);
}
