/* SPDX-License-Identifier: Apache-2.0 */
#include "event.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_interrupts.h>

/** Devices that are open, by port id. No worker comes here. */
static struct {
	char name[RTE_DEV_NAME_MAX_LEN]; /**< "" while there is none. */
	enum hr_device_event heard;      /**< By DPDK's callback, which has perhaps not returned. */
	enum hr_device_event told;       /**< To the control thread. */
} devices[HR_MAX_PORTS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool any;

/** Wakes the interrupt thread, which then is in no other callback. */
static struct rte_intr_handle *after;
static unsigned awakenings;
static pthread_cond_t awoke = PTHREAD_COND_INITIALIZER;

/**
 * DPDK's callback has heard something. A device cannot be closed before that has returned, for its
 * interrupt cannot be given up ("active"), and the node would wait for ever: so the control thread
 * is told by the next callback of the same thread.
 */
static void
hear(uint16_t id, enum hr_device_event event)
{
	pthread_mutex_lock(&lock);
	devices[id].heard = RTE_MAX(devices[id].heard, event);
	pthread_mutex_unlock(&lock);
	eventfd_write(rte_intr_fd_get(after), 1);
}

static void
tell(void *arg)
{
	eventfd_t n;

	RTE_SET_USED(arg);
	eventfd_read(rte_intr_fd_get(after), &n);
	pthread_mutex_lock(&lock);
	for (uint16_t id = 0; id < HR_MAX_PORTS; id++)
		devices[id].told = devices[id].heard;
	awakenings++;
	pthread_cond_broadcast(&awoke);
	pthread_mutex_unlock(&lock);
	__atomic_store_n(&any, true, __ATOMIC_RELEASE);
}

static int
on_port_event(uint16_t id, enum rte_eth_event_type event, void *arg, void *ret)
{
	RTE_SET_USED(arg);
	RTE_SET_USED(ret);
	hear(id, event == RTE_ETH_EVENT_INTR_RESET ? HR_DEVICE_WAS_RESET : HR_DEVICE_IS_LEAVING);
	return 0;
}

/** Of vfio, which asks for the device, or of a bus. */
static void
on_device_event(const char *name, enum rte_dev_event_type event, void *arg)
{
	uint16_t id = 0;

	RTE_SET_USED(arg);
	if (event != RTE_DEV_EVENT_REMOVE)
		return;
	pthread_mutex_lock(&lock);
	while (id < HR_MAX_PORTS && strcmp(devices[id].name, name) != 0)
		id++;
	pthread_mutex_unlock(&lock);
	if (id < HR_MAX_PORTS)
		hear(id, HR_DEVICE_IS_LEAVING);
}

static int
create_after(void)
{
	const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return -errno;
	after = rte_intr_instance_alloc(RTE_INTR_INSTANCE_F_PRIVATE);
	if (after == NULL)
		return -ENOMEM;
	rte_intr_type_set(after, RTE_INTR_HANDLE_EXT);
	rte_intr_fd_set(after, fd);
	return rte_intr_callback_register(after, tell, NULL);
}

static void
wake(void)
{
	pthread_mutex_lock(&lock);
	const unsigned before = awakenings;

	eventfd_write(rte_intr_fd_get(after), 1);
	while (awakenings == before)
		pthread_cond_wait(&awoke, &lock);
	pthread_mutex_unlock(&lock);
}

int
hr_device_events_init(void)
{
	int error = create_after();

	if (error == 0)
		error = rte_eth_dev_callback_register(RTE_ETH_ALL, RTE_ETH_EVENT_INTR_RMV,
				on_port_event, NULL);
	if (error == 0)
		error = rte_eth_dev_callback_register(RTE_ETH_ALL, RTE_ETH_EVENT_INTR_RESET,
				on_port_event, NULL);
	/* Once for all: who gives up one device's callback takes the others' as well (DPDK 22.11). */
	return error != 0 ? error : rte_dev_event_callback_register(NULL, on_device_event, NULL);
}

void
hr_device_events_close(void)
{
	rte_dev_event_callback_unregister(NULL, on_device_event, NULL);
	rte_eth_dev_callback_unregister(RTE_ETH_ALL, RTE_ETH_EVENT_INTR_RESET, on_port_event, NULL);
	rte_eth_dev_callback_unregister(RTE_ETH_ALL, RTE_ETH_EVENT_INTR_RMV, on_port_event, NULL);
	/*
	 * Where callbacks came or went the interrupt thread looks at all that are left, of memif some
	 * for ever, in memory that rte_eal_cleanup takes away (DPDK 22.11). It does so before it is
	 * awake for the second time, and not again: so `after` stays.
	 */
	wake();
	wake();
}

void
hr_device_events_start(uint16_t id, const char *name)
{
	pthread_mutex_lock(&lock);
	snprintf(devices[id].name, sizeof(devices[id].name), "%s", name);
	devices[id].heard = devices[id].told = HR_DEVICE_NO_EVENT;
	pthread_mutex_unlock(&lock);
}

void
hr_device_events_stop(uint16_t id)
{
	pthread_mutex_lock(&lock);
	devices[id].name[0] = '\0';
	pthread_mutex_unlock(&lock);
}

enum hr_device_event
hr_device_event(uint16_t id)
{
	enum hr_device_event event;

	pthread_mutex_lock(&lock);
	event = devices[id].told;
	pthread_mutex_unlock(&lock);
	return event;
}

bool
hr_device_events_new(void)
{
	return __atomic_load_n(&any, __ATOMIC_RELAXED) &&
			__atomic_exchange_n(&any, false, __ATOMIC_ACQ_REL);
}
