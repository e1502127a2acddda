/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * What a process says when it crashes, and how it ends then: each crash in a child.
 */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crash.h"
#include "tests/check.h"

static volatile int sink;

__attribute__((noinline)) static void
store_nowhere(void)
{
	volatile int *nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*nowhere = 1;
}

__attribute__((noinline)) static int
too_deep(int depth)
{
	volatile char frame[4096];

	frame[0] = (char)depth;
	return sink != 0 ? 0 : too_deep(depth + 1) + frame[0];
}

static void
dive(void)
{
	sink = too_deep(0);
}

static void *
dive_in_thread(void *arg)
{
	(void)arg;
	hr_crash_thread();
	dive();
	return NULL;
}

static void
dive_beside(void)
{
	pthread_t thread;

	CHECK(pthread_create(&thread, NULL, dive_in_thread, NULL) == 0);
	pthread_join(thread, NULL);
}

/** Run in a child until it ends. @return its status, and what it said in `said` */
static int
end_of(void (*crash)(void), char *said, size_t size)
{
	const struct rlimit no_core = {0};
	int pipes[2], status;
	size_t n = 0;
	ssize_t more;
	pid_t child;

	CHECK(pipe(pipes) == 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		setrlimit(RLIMIT_CORE, &no_core);
		dup2(pipes[1], STDERR_FILENO);
		hr_crash_init();
		crash();
		_exit(0);
	}
	close(pipes[1]);
	while ((more = read(pipes[0], said + n, size - 1 - n)) > 0)
		n += (size_t)more;
	said[n] = '\0';
	close(pipes[0]);
	CHECK(waitpid(child, &status, 0) == child);
	return status;
}

/** Lines of a backtrace: each ends with an address. */
static unsigned
frames_in(const char *said)
{
	unsigned n = 0;

	for (; (said = strstr(said, "[0x")) != NULL; said++)
		n++;
	return n;
}

static void
expect(void (*crash)(void), int signal, const char *first)
{
	static char said[65536];
	const int status = end_of(crash, said, sizeof(said));

	if (!WIFSIGNALED(status) || WTERMSIG(status) != signal || frames_in(said) < 3 ||
			strncmp(said, first, strlen(first)) != 0) {
		fprintf(stderr, "status %#x, said:\n%s", status, said);
		CHECK(!"it ends by its signal, with a backtrace");
	}
}

static void
stay(void)
{
	hr_crash_ask(pthread_self());
}

int
main(void)
{
	struct sigaction sanitizer;
	char said[8192];

	prctl(PR_SET_NAME, "crash_test"); /* An emulator has its own. */
	expect(abort, SIGABRT, "headrace-engine: SIGABRT in thread crash_test:\n");
	/* One says more, and ends the process itself. */
	CHECK(sigaction(SIGSEGV, NULL, &sanitizer) == 0);
	if (sanitizer.sa_handler == SIG_DFL) {
		expect(store_nowhere, SIGSEGV, "headrace-engine: SIGSEGV at 0x");
		expect(dive, SIGSEGV, "headrace-engine: SIGSEGV at 0x");
		expect(dive_beside, SIGSEGV, "headrace-engine: SIGSEGV at 0x");
	}
	CHECK(end_of(stay, said, sizeof(said)) == 0);
	CHECK(strstr(said, "it stands in thread crash_test:\n") != NULL && frames_in(said) >= 3);
	return 0;
}
