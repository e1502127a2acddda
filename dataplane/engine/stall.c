/* SPDX-License-Identifier: Apache-2.0 */
#include "stall.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

#include <rte_cycles.h>
#include <rte_log.h>

#include "crash.h"
#include "worker.h"

static struct {
	uint64_t walks;
	unsigned looks; /**< Without another walk; stays at HR_STALL_LOOKS. */
} seen[HR_MAX_WORKERS];

static pthread_t looker;
static sem_t ended;

bool
hr_stalled(unsigned worker)
{
	return hr_count(seen[worker].looks) == HR_STALL_LOOKS;
}

static void
report(const struct hr_worker *worker)
{
	RTE_LOG(CRIT, USER1, "worker %u on CPU %d has not walked for %u ms\n", worker->index,
			worker->cpu, HR_STALL_LOOKS * HR_STALL_LOOK_MS);
	if (hr_count(worker->thread) != 0)
		hr_crash_ask(worker->thread);
}

void
hr_stalls_look(void)
{
	for (unsigned i = 0; i < hr_n_workers; i++) {
		const uint64_t walks = hr_count(hr_workers[i]->walks);
		const unsigned looks = seen[i].looks;

		if (walks == seen[i].walks && looks == HR_STALL_LOOKS)
			continue;
		__atomic_store_n(&seen[i].looks, walks == seen[i].walks ? looks + 1 : 0,
				__ATOMIC_RELAXED);
		if (hr_stalled(i))
			report(hr_workers[i]);
		else if (looks == HR_STALL_LOOKS)
			RTE_LOG(NOTICE, USER1, "worker %u walks again\n", i);
		seen[i].walks = walks;
	}
}

static void *
look(void *arg)
{
	struct timespec next;

	RTE_SET_USED(arg);
	do {
		hr_stalls_look();
		clock_gettime(CLOCK_MONOTONIC, &next);
		next.tv_nsec += HR_STALL_LOOK_MS * 1000000L;
		if (next.tv_nsec >= NS_PER_S) {
			next.tv_sec++;
			next.tv_nsec -= NS_PER_S;
		}
	} while (sem_clockwait(&ended, CLOCK_MONOTONIC, &next) != 0);
	return NULL;
}

int
hr_stalls_start(void)
{
	int error;

	sem_init(&ended, 0, 0);
	error = pthread_create(&looker, NULL, look, NULL);
	if (error == 0)
		pthread_setname_np(looker, "stalls");
	return -error;
}

void
hr_stalls_stop(void)
{
	sem_post(&ended);
	pthread_join(looker, NULL);
}
