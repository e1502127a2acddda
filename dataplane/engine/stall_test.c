/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Workers that stop walking, look by look. Workers are the test's, and one of them is its thread.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <rte_log.h>

#include "crash.h"
#include "stall.h"
#include "tests/check.h"
#include "worker.h"

static struct hr_worker workers[2];
static int words[2]; /**< A pipe: all that is logged, and what is said of a crash. */

static void
walk(unsigned worker)
{
	workers[worker].walks++;
}

/** What has been said since the last call. */
static const char *
said(void)
{
	static char text[65536];
	const ssize_t n = read(words[0], text, sizeof(text) - 1);

	text[n < 0 ? 0 : n] = '\0';
	return text;
}

int
main(void)
{
	const int own = dup(STDERR_FILENO);
	FILE *log;

	prctl(PR_SET_NAME, "stall_test"); /* An emulator has its own. */
	CHECK(pipe2(words, O_NONBLOCK) == 0);
	log = fdopen(words[1], "w");
	setlinebuf(log);
	rte_openlog_stream(log);
	stderr = fdopen(own, "w");
	CHECK(dup2(words[1], STDERR_FILENO) >= 0);
	hr_crash_init();
	for (unsigned i = 0; i < RTE_DIM(workers); i++) {
		workers[i] = (struct hr_worker){.index = (uint16_t)i, .cpu = 7};
		hr_workers[i] = &workers[i];
	}
	workers[1].thread = pthread_self();
	hr_n_workers = RTE_DIM(workers);

	/* One walk between two looks is enough. */
	for (unsigned look = 0; look < 3 * HR_STALL_LOOKS; look++) {
		walk(0);
		walk(1);
		hr_stalls_look();
		CHECK(!hr_stalled(0) && !hr_stalled(1));
	}
	CHECK(strcmp(said(), "") == 0);

	for (unsigned look = 1; look <= 3 * HR_STALL_LOOKS; look++) {
		walk(0);
		hr_stalls_look();
		CHECK(!hr_stalled(0) && hr_stalled(1) == (look >= HR_STALL_LOOKS));
		/* Once. */
		if (look == HR_STALL_LOOKS) {
			const char *text = said();

			CHECK(strstr(text, "worker 1 on CPU 7 has not walked for 500 ms") != NULL);
			CHECK(strstr(text, "it stands in thread stall_test:") != NULL);
		} else {
			CHECK(strcmp(said(), "") == 0);
		}
	}

	walk(1);
	hr_stalls_look();
	CHECK(!hr_stalled(1) && strstr(said(), "worker 1 walks again") != NULL);
	/* From the start. */
	for (unsigned look = 1; look < HR_STALL_LOOKS; look++) {
		hr_stalls_look();
		CHECK(!hr_stalled(1));
	}
	fclose(log);
	return 0;
}
