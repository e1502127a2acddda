/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Last words: where the engine was when it crashed, and where a thread of it stands now.
 *
 * They go to standard error, by what a signal handler may call. A crash ends the process by its
 * signal, as it would without.
 */
#ifndef HR_CRASH_H
#define HR_CRASH_H

#include <pthread.h>

/** Have every crash of this process leave a backtrace. Call it first, on the main thread. */
void hr_crash_init(void);
/** Let the calling thread, a worker, leave one when its stack is full, too. */
void hr_crash_thread(void);
/** Have a thread say where it stands; it does once it runs. */
void hr_crash_ask(pthread_t thread);

#endif
