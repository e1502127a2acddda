// SPDX-License-Identifier: Apache-2.0
// The one program of the test image: pause container of every pod, and what tests run in pods.
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static void
end(int signal)
{
	(void)signal;
	_exit(0);
}

static int
fail(const char *what)
{
	perror(what);
	return 1;
}

static int
print_file(const char *path)
{
	FILE *file = fopen(path, "r");
	int byte;

	if (file == NULL)
		return fail(path);
	while ((byte = getc(file)) != EOF)
		putchar(byte);
	fclose(file);
	return 0;
}

/* Beyond the container's limit the kernel ends the process with SIGBUS at the first write. */
static int
use_hugepages(size_t mebibytes)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE;
	char *memory = mmap(NULL, mebibytes * MIB, PROT_READ | PROT_WRITE, flags, -1, 0);

	if (memory == MAP_FAILED)
		return fail("mmap");
	for (size_t offset = 0; offset < mebibytes * MIB; offset += 2 * MIB)
		memory[offset] = 1;
	printf("%zu MiB in hugepages\n", mebibytes);
	return 0;
}

static int
serve(unsigned short port, const char *text)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	char request[4096];

	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
			listen(listener, 16) < 0)
		return fail("listen");
	printf("serving on port %u\n", port);
	fflush(stdout);
	for (;;) {
		int client = accept(listener, NULL, NULL);

		if (client < 0 || read(client, request, sizeof(request)) < 0)
			continue;
		dprintf(client,
				"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n"
				"Content-Length: %zu\r\n\r\n%s",
				strlen(text), text);
		close(client);
	}
}

int
main(int argc, char **argv)
{
	signal(SIGINT, end);
	signal(SIGTERM, end);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_IGN);
	if (argc == 3 && strcmp(argv[1], "cat") == 0)
		return print_file(argv[2]);
	if (argc == 3 && strcmp(argv[1], "hugepages") == 0)
		return use_hugepages((size_t)atoi(argv[2]));
	if (argc == 4 && strcmp(argv[1], "serve") == 0)
		return serve((unsigned short)atoi(argv[2]), argv[3]);
	for (;;)
		pause();
}
