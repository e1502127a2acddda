/* SPDX-License-Identifier: Apache-2.0 */
#include "crash.h"

#include <errno.h>
#include <execinfo.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "types.h"

#define DEPTH 64
/** Of an alternate stack: a signal frame with all of a CPU's registers, and an unwinder's frames. */
#define STACK_BYTES (128 * 1024)
/** What hr_crash_ask() sends. */
#define ASKED SIGUSR2

static const struct {
	int number;
	const char *name;
} crashes[] = {
		{SIGSEGV, "SIGSEGV"},
		{SIGBUS, "SIGBUS"},
		{SIGILL, "SIGILL"},
		{SIGFPE, "SIGFPE"},
		{SIGABRT, "SIGABRT"},
};

static void
put(const char *text)
{
	ssize_t written = write(STDERR_FILENO, text, strlen(text));

	(void)written;
}

static void
put_address(const void *address)
{
	char text[2 + 2 * sizeof(address) + 1] = "0x";
	const uintptr_t value = (uintptr_t)address;

	for (unsigned i = 0; i < 2 * sizeof(address); i++)
		text[2 + i] = "0123456789abcdef"[value >> (8 * sizeof(address) - 4 * (i + 1)) &
				0xf];
	put(text);
}

static void
put_backtrace(void)
{
	void *frames[DEPTH];
	char name[16] = "";

	prctl(PR_GET_NAME, name);
	put(" in thread ");
	put(name);
	put(":\n");
	backtrace_symbols_fd(frames, backtrace(frames, DEPTH), STDERR_FILENO);
}

/** The signal's action is the default one again: it comes once more and ends the process. */
static void
on_crash(int number, siginfo_t *info, void *context)
{
	(void)context;
	put("headrace-engine: ");
	for (unsigned i = 0; i < RTE_DIM(crashes); i++)
		if (crashes[i].number == number)
			put(crashes[i].name);
	if (info->si_code > 0) {
		put(" at ");
		put_address(info->si_addr);
	}
	put_backtrace();
	/* What an instruction raised it raises again. */
	if (info->si_code <= 0)
		raise(number);
}

static void
on_asked(int number)
{
	const int error = errno;

	(void)number;
	put("headrace-engine: it stands");
	put_backtrace();
	errno = error;
}

void
hr_crash_thread(void)
{
	/* No memory until they are used. */
	static char stacks[1 + HR_MAX_WORKERS][STACK_BYTES];
	static atomic_uint next;
	const unsigned i = atomic_fetch_add(&next, 1);
	stack_t present;

	/* A sanitizer has one for each thread, and ends it. */
	if (i < RTE_DIM(stacks) && sigaltstack(NULL, &present) == 0 &&
			(present.ss_flags & SS_DISABLE) != 0)
		sigaltstack(&(const stack_t){.ss_sp = stacks[i], .ss_size = STACK_BYTES}, NULL);
}

void
hr_crash_init(void)
{
	struct sigaction crash = {
			.sa_sigaction = on_crash,
			.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND,
	};
	const struct sigaction asked = {.sa_handler = on_asked, .sa_flags = SA_RESTART};
	void *frame;

	/* Loads the unwinder, which is nothing for a signal handler. */
	(void)backtrace(&frame, 1);
	hr_crash_thread();
	for (unsigned i = 0; i < RTE_DIM(crashes); i++) {
		struct sigaction present;

		/* A sanitizer has more to say. */
		if (sigaction(crashes[i].number, NULL, &present) == 0 &&
				present.sa_handler == SIG_DFL)
			sigaction(crashes[i].number, &crash, NULL);
	}
	sigaction(ASKED, &asked, NULL);
}

void
hr_crash_ask(pthread_t thread)
{
	pthread_kill(thread, ASKED);
}
