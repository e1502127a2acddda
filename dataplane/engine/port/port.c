/* SPDX-License-Identifier: Apache-2.0 */
#include "port.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_errno.h>
#include <rte_log.h>

#include "../control/addr.h"
#include "../control/store.h"
#include "../control/txn.h"
#include "../kinds/port.h"
#include "../worker.h"
#include "device.h"
#include "event.h"
#include "multicast.h"
#include "open.h"
#include "queues.h"

/** Between two tries to open a device that is gone. */
#define RETRY_MS 1000
#define TICK_MS 200
/** How long a client (memif, vhost-user) may be unconnected before it connects anew. */
#define CLIENT_DOWN_MS 1000

#define PORT_FAILED "PortFailed"
#define LOG(level, port, format, ...)                                                              \
	RTE_LOG(level, USER1, "port %s: " format "\n", hr_port_name(port), ##__VA_ARGS__)

struct hr_port {
	const struct hr_object *object; /**< NULL until applied. */
	struct hr_device device;
	struct rte_ether_addr mac; /**< Ours. Survives the device where we chose it. */
	uint16_t mtu;              /**< Wanted. */
	enum hr_port_state state;
	uint64_t retry_ms; /**< GONE: when to try again. */
	uint64_t down_ms;  /**< DOWN: since when; 0: the next tick says. */
	struct hr_why why; /**< GONE: why. Else: why it will be at the next tick, or "". */
	uint64_t losses;   /**< How often its device went away by itself. */
	hr_port_changed changed;
	void *user;
};

const struct hr_port_ctx *hr_port_ctx[HR_MAX_PORTS];
uint32_t hr_port_generation[HR_MAX_PORTS];
/** Contexts of ports that belong to nothing: all but the number is zero. */
static struct hr_port_ctx no_role[HR_MAX_PORTS];
/** Those of the others. */
static struct {
	struct hr_twin twin;
	struct hr_port_ctx ctx[2];
} contexts[HR_MAX_PORTS];
/** What was counted under an id before it became that of its present device. */
static struct hr_port_counters former[HR_MAX_PORTS];

int
hr_ports_init(void)
{
	for (uint16_t id = 0; id < HR_MAX_PORTS; id++) {
		no_role[id].port = id;
		hr_port_ctx[id] = &no_role[id];
	}
	return hr_device_events_init();
}

void
hr_port_ctx_set(uint16_t id, const struct hr_port_ctx *ctx)
{
	struct hr_port_ctx *copy;

	if (ctx != NULL) {
		copy = &contexts[id].ctx[hr_twin_begin(&contexts[id].twin)];
		*copy = *ctx;
		hr_publish(hr_port_ctx[id], copy);
	} else if (hr_port_ctx[id] != &no_role[id]) {
		hr_publish(hr_port_ctx[id], &no_role[id]);
	} else {
		return;
	}
	hr_twin_end(&contexts[id].twin);
}

static const struct hr_port_spec *
port_spec(const struct hr_port *port)
{
	return port->object->spec;
}

struct hr_port *
hr_port_get(const char *name)
{
	const struct hr_object *object = hr_store_get(&hr_port_kind, name);

	return object != NULL ? object->state : NULL;
}

const char *
hr_port_name(const struct hr_port *port)
{
	return port->object->key;
}

uint16_t
hr_port_id(const struct hr_port *port)
{
	return port->state == HR_PORT_GONE ? HR_PORT_NO_ID : port->device.id;
}

const struct hr_device *
hr_port_device(const struct hr_port *port)
{
	return port->state == HR_PORT_GONE ? NULL : &port->device;
}

enum hr_port_state
hr_port_state(const struct hr_port *port)
{
	return port->state;
}

const char *
hr_port_state_name(enum hr_port_state state)
{
	static const char *const names[] = {
			[HR_PORT_UP] = "up",
			[HR_PORT_DOWN] = "down",
			[HR_PORT_GONE] = "gone",
	};

	return names[state];
}

void
hr_port_mac(const struct hr_port *port, struct rte_ether_addr *mac)
{
	*mac = port->mac;
}

bool
hr_port_is_virtual(const struct hr_port *port)
{
	return port->device.virtual;
}

uint64_t
hr_port_losses(const struct hr_port *port)
{
	return port->losses;
}

uint16_t
hr_port_mtu(const struct hr_port *port)
{
	return port->state == HR_PORT_GONE ? port->mtu : port->device.mtu;
}

void
hr_port_join(struct hr_port *port, const struct rte_ether_addr *groups, unsigned n, bool all)
{
	struct hr_device *device = &port->device;

	if (port->state == HR_PORT_GONE)
		return;
	if (device->n_groups == n && device->all == all &&
			memcmp(device->groups, groups,
					RTE_MIN(n, (unsigned)HR_GROUPS_MAX) * sizeof(*groups)) == 0)
		return;
	hr_device_join(device, groups, n, all);
}

void
hr_port_attach(struct hr_port *port, hr_port_changed changed, void *user)
{
	port->changed = changed;
	port->user = user;
}

void
hr_port_detach(struct hr_port *port)
{
	port->changed = NULL;
	port->user = NULL;
}

const void *
hr_port_user(const struct hr_port *port)
{
	return port->user;
}

void
hr_port_id_counters(uint16_t id, struct hr_port_counters *sum)
{
	memset(sum, 0, sizeof(*sum));
	for (unsigned worker = 0; worker < hr_n_workers; worker++) {
		const struct hr_port_counters *c = &hr_workers[worker]->ports[id];

		sum->rx_packets += hr_count(c->rx_packets);
		sum->rx_bytes += hr_count(c->rx_bytes);
		sum->tx_packets += hr_count(c->tx_packets);
		sum->tx_bytes += hr_count(c->tx_bytes);
		for (unsigned reason = 0; reason < HR_DROP_COUNT; reason++)
			sum->drops[reason] += hr_count(c->drops[reason]);
	}
	for (unsigned reason = 0; reason < HR_DROP_COUNT; reason++)
		sum->drops[reason] += hr_count(hr_control_drops[id][reason]);
}

void
hr_port_counters(const struct hr_port *port, struct hr_port_counters *sum)
{
	const uint16_t id = hr_port_id(port);

	if (id == HR_PORT_NO_ID) {
		memset(sum, 0, sizeof(*sum));
		return;
	}
	hr_port_id_counters(id, sum);
	sum->rx_packets -= former[id].rx_packets;
	sum->rx_bytes -= former[id].rx_bytes;
	sum->tx_packets -= former[id].tx_packets;
	sum->tx_bytes -= former[id].tx_bytes;
	for (unsigned reason = 0; reason < HR_DROP_COUNT; reason++)
		sum->drops[reason] -= former[id].drops[reason];
}

static void
tell(struct hr_port *port)
{
	if (port->changed != NULL)
		port->changed(port, port->user);
}

/** Close the device of a port that nobody but the workers can still be using. */
static void
close_device(struct hr_port *port)
{
	const uint16_t id = port->device.id;

	if (id == HR_PORT_NO_ID)
		return;
	hr_queues_detach(&port->device);
	hr_port_ctx_set(id, NULL);
	hr_rcu_barrier();
	hr_device_close(&port->device);
}

static void
lose_device(struct hr_port *port)
{
	LOG(NOTICE, port, "gone: %s", port->why.text);
	port->state = HR_PORT_GONE;
	port->retry_ms = 0;
	tell(port);
	close_device(port);
}

static void
update_link(struct hr_port *port, uint64_t now_ms)
{
	if (hr_device_link_up(&port->device)) {
		port->state = HR_PORT_UP;
		port->down_ms = 0;
		return;
	}
	port->state = HR_PORT_DOWN;
	if (port->down_ms == 0)
		port->down_ms = now_ms;
}

enum hr_port_state
hr_port_look(struct hr_port *port, uint64_t now_ms)
{
	if (port->state != HR_PORT_GONE)
		update_link(port, now_ms);
	return port->state;
}

/** The device is open: workers may have it. */
static void
use_device(struct hr_port *port)
{
	const struct hr_port_spec *spec = port_spec(port);

	if (spec->has_mac && port->device.refused[HR_REFUSED_MAC][0] == '\0')
		port->mac = spec->mac;
	else if (!port->device.virtual || port->device.netdev != 0)
		rte_eth_macaddr_get(port->device.id, &port->mac);
	else if (rte_is_zero_ether_addr(&port->mac))
		/* Not the device's own: the kernel at the other side of a tap device has that. */
		rte_eth_random_addr(port->mac.addr_bytes);
	hr_port_id_counters(port->device.id, &former[port->device.id]);
	__atomic_fetch_add(&hr_port_generation[port->device.id], 1, __ATOMIC_RELAXED);
	hr_queues_attach(&port->device);
	port->why.text[0] = '\0';
	port->down_ms = 0;
	update_link(port, 0);
	LOG(INFO, port, "is port id %u, %s, %u receive and %u transmit queues", port->device.id,
			port->device.driver, port->device.n_rx, port->device.n_tx);
	tell(port);
}

/** Open the device of an applied port that is gone. */
static void
regain_device(struct hr_port *port)
{
	const char *before = port->why.reason;

	if (hr_device_open(&port->device, port_spec(port), port->mtu, &port->why) == 0) {
		use_device(port);
		hr_queues_publish();
	} else if (port->why.reason == NULL) {
		port->why.reason = before; /* What it was lost by. */
	}
}

uint16_t
hr_port_set_mtu(struct hr_port *port, uint16_t mtu)
{
	port->mtu = mtu;
	if (port->state == HR_PORT_GONE)
		return mtu;
	if (port->device.mtu == mtu)
		return mtu;
	if (hr_device_set_mtu(&port->device, mtu) == -EBUSY) {
		hr_queues_detach(&port->device);
		hr_rcu_barrier();
		if (hr_device_restart_with_mtu(&port->device, mtu) != 0) {
			/* The caller may be the user: not now. */
			hr_why(&port->why, HR_DEVICE_GONE, "did not start with MTU %u", mtu);
			port->state = HR_PORT_DOWN;
			return mtu;
		}
		hr_device_rejoin(&port->device);
		hr_queues_attach(&port->device);
		hr_queues_publish();
	}
	return port->device.mtu;
}

static void
watch(struct hr_port *port, uint64_t now_ms)
{
	const struct hr_port_spec *spec = port_spec(port);

	if (port->state == HR_PORT_GONE) {
		if (now_ms < port->retry_ms)
			return;
		port->retry_ms = now_ms + RETRY_MS;
		regain_device(port);
		return;
	}
	if (port->why.text[0] == '\0' && !hr_device_lost(&port->device, spec->netdev, &port->why)) {
		update_link(port, now_ms);
		if (port->device.client && port->state == HR_PORT_DOWN &&
				now_ms - port->down_ms >= CLIENT_DOWN_MS)
			hr_why(&port->why, HR_DEVICE_GONE, "the other side does not answer");
	}
	if (port->why.text[0] == '\0')
		return;
	port->losses++;
	lose_device(port);
	/* The node is about to take it: it is not to find us at it again. */
	if (strcmp(port->why.reason, HR_DEVICE_REMOVED) == 0)
		port->retry_ms = now_ms + RETRY_MS;
}

void
hr_ports_tick(uint64_t now_ms)
{
	static uint64_t next_ms;

	/* The node waits until a device that it wants back is closed. */
	if (now_ms < next_ms && !hr_device_events_new())
		return;
	next_ms = now_ms + TICK_MS;
	for (size_t i = 0; i < hr_store_count(&hr_port_kind); i++)
		watch(hr_store_at(&hr_port_kind, i)->state, now_ms);
}

void
hr_ports_close(void)
{
	for (size_t i = 0; i < hr_store_count(&hr_port_kind); i++) {
		struct hr_port *port = hr_store_at(&hr_port_kind, i)->state;

		port->state = HR_PORT_GONE;
		close_device(port);
	}
	hr_device_events_close();
}

/** Whether two specs are about the same device. */
static bool
same_device(const struct hr_port_spec *a, const struct hr_port_spec *b)
{
	char name_a[RTE_ETH_NAME_MAX_LEN], name_b[RTE_ETH_NAME_MAX_LEN];

	return strcmp(hr_device_name(a->devargs, name_a), hr_device_name(b->devargs, name_b)) ==
			0 ||
			(a->netdev[0] != '\0' && strcmp(a->netdev, b->netdev) == 0);
}

/**
 * Look for another port that has the device that a spec asks for.
 *
 * @param leaving whether one has, but not after this transaction
 * @return 0; -EBUSY when one has and keeps it, with an error added
 */
static int
check_device(const struct hr_txn *txn, const char *key, const struct hr_port_spec *spec,
		bool *leaving, struct hr_errors *errors)
{
	*leaving = false;
	for (size_t i = 0; i < hr_store_count(&hr_port_kind); i++) {
		const struct hr_object *other = hr_store_at(&hr_port_kind, i);
		const struct hr_port_spec *then;

		if (strcmp(other->key, key) == 0 || !same_device(other->spec, spec))
			continue;
		then = hr_txn_spec(txn, &hr_port_kind, other->key);
		if (then != NULL && same_device(then, spec)) {
			hr_error(errors, "devargs", PORT_FAILED,
					"the device is in use by port \"%s\"", other->key);
			return -EBUSY;
		}
		*leaving = true;
	}
	return 0;
}

int
hr_port_prepare(struct hr_txn *txn, const char *key, const struct hr_object *old, void *new_spec,
		void **state, struct hr_errors *errors)
{
	const struct hr_port_spec *spec = new_spec;
	struct hr_port *port;
	bool leaving;
	int error = check_device(txn, key, spec, &leaving, errors);

	/* A device cannot be opened a second time beside itself: apply() replaces it. */
	if (error != 0 || old != NULL)
		return error;
	port = calloc(1, sizeof(*port));
	if (port == NULL) {
		hr_error(errors, "", HR_OUT_OF_MEMORY, "out of memory");
		return -ENOMEM;
	}
	port->mtu = spec->mtu;
	port->state = HR_PORT_GONE;
	port->device.id = HR_PORT_NO_ID;
	if (leaving)
		hr_why(&port->why, NULL, "waits for the device's former port");
	else
		error = hr_device_open(&port->device, spec, spec->mtu, &port->why);
	/* -ENOSPC: all ids are taken, so another port goes in this transaction. */
	if (error != 0 && error != -EAGAIN && error != -ENOSPC) {
		hr_error(errors, "devargs",
				port->why.reason != NULL ? port->why.reason : PORT_FAILED, "%s",
				port->why.text);
		free(port);
		return error;
	}
	if (port->why.reason == NULL)
		port->why.reason = HR_DEVICE_GONE;
	*state = port;
	return 0;
}

void
hr_port_abort(void *state)
{
	struct hr_port *port = state;

	if (port == NULL)
		return;
	hr_device_close(&port->device);
	free(port);
}

/** Whether only a device that is opened anew tells what became of a change. */
static bool
needs_proof(const struct hr_port *port, const struct hr_port_spec *old)
{
	const struct hr_port_spec *spec = port_spec(port);

	return spec->has_mac && (!old->has_mac || !rte_is_same_ether_addr(&old->mac, &spec->mac)) &&
			hr_driver(port->device.driver)->mac_unsaid;
}

/** Change what can be changed on a device in use. */
static void
change(struct hr_port *port, const struct hr_port_spec *old)
{
	const struct hr_port_spec *spec = port_spec(port);

	if (spec->mtu != old->mtu)
		hr_port_set_mtu(port, spec->mtu);
	if (spec->has_mac && hr_device_set_mac(&port->device, &spec->mac) == 0)
		port->mac = spec->mac;
	hr_device_set_promiscuous(&port->device, spec->promiscuous || port->device.virtual);
	/* By which it may have heard its groups. */
	hr_device_rejoin(&port->device);
}

void
hr_port_apply(struct hr_object *object, void *old_spec, void *prepared)
{
	const struct hr_port_spec *spec = object->spec, *old = old_spec;
	struct hr_port *port = old == NULL ? prepared : object->state;

	port->object = object;
	object->state = port;
	if (old == NULL) {
		if (port->device.id != HR_PORT_NO_ID)
			use_device(port);
		else
			LOG(NOTICE, port, "gone: %s", port->why.text);
		return;
	}
	if (port->state != HR_PORT_GONE && strcmp(spec->devargs, old->devargs) == 0 &&
			strcmp(spec->netdev, old->netdev) == 0 &&
			spec->rx_queues == old->rx_queues && !needs_proof(port, old)) {
		change(port, old);
		return;
	}
	port->mtu = spec->mtu;
	if (port->state != HR_PORT_GONE) {
		hr_why(&port->why, HR_DEVICE_GONE, "replaced by another device");
		lose_device(port);
	}
	regain_device(port);
}

void
hr_port_applied(void)
{
	hr_queues_publish();
}

void
hr_port_remove(struct hr_object *object)
{
	struct hr_port *port = object->state;

	close_device(port);
	free(port);
	object->state = NULL;
}

static json_t *
refusals(const struct hr_device *device)
{
	json_t *refused = json_object();

	for (unsigned what = 0; what < HR_REFUSED_COUNT; what++)
		if (device->refused[what][0] != '\0')
			json_object_set_new(refused, hr_refusal_name(what),
					json_string(device->refused[what]));
	return refused;
}

void
hr_port_describe_device(const struct hr_port *port, json_t *item)
{
	json_object_set_new(item, "refused", refusals(&port->device));
	if (port->state != HR_PORT_GONE)
		return;
	json_object_set_new(item, "reason", json_string(port->why.reason));
	json_object_set_new(item, "error", json_string(port->why.text));
}

json_t *
hr_port_describe(const struct hr_object *object)
{
	const struct hr_port *port = object->state;
	const struct hr_device *device = &port->device;
	char mac[HR_MAC_TEXT];
	json_t *queues = json_array(), *groups = json_array();
	json_t *item;

	for (uint16_t queue = 0; queue < device->n_rx; queue++)
		json_array_append_new(queues,
				json_pack("{s:i, s:i}", "queue", queue, "worker",
						hr_queues_worker(device->id, queue)));
	item = json_pack("{s:s, s:s, s:s, s:i, s:s, s:o, s:i, s:I, s:s}", "name",
			hr_port_name(port), "state", hr_port_state_name(port->state), "mac",
			hr_mac_format(&port->mac, mac), "mtu", hr_port_mtu(port), "driver",
			device->driver, "rxQueues", queues, "txQueues", device->n_tx, "losses",
			(json_int_t)port->losses, "multicast",
			hr_multicast_name(device->multicast));
	for (unsigned i = 0; i < RTE_MIN(device->n_groups, (unsigned)HR_GROUPS_MAX); i++)
		json_array_append_new(groups, json_string(hr_mac_format(&device->groups[i], mac)));
	json_object_set_new(item, "groups", groups);
	json_object_set_new(item, "burst",
			json_integer(RTE_MAX(hr_worker_settings.burst, device->least_burst)));
	hr_port_describe_device(port, item);
	return item;
}
