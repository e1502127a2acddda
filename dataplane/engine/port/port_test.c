/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Ports on real DPDK devices: each virtual driver attaches, passes packets both ways, is changed,
 * goes away, comes back, detaches. Needs no hugepages. Kernel devices live in a network namespace
 * of the test's own; without root those tests are left out.
 *
 * The main thread is control thread and both workers at once, which never run on their own.
 */
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_mbuf.h>

#include "../buffers.h"
#include "../control/list.h"
#include "../control/store.h"
#include "../control/txn.h"
#include "../rcu.h"
#include "../tests/check.h"
#include "../worker.h"
#include "pci.h"
#include "port.h"
#include "queues.h"

/** Wait for a condition with the control loop going, for at most 20 seconds. */
#define EVENTUALLY(condition)                                                                      \
	do {                                                                                       \
		const uint64_t give_up = now_ms() + 20000;                                         \
		bool holds;                                                                        \
		while (!(holds = (condition)) && now_ms() < give_up)                               \
			control_loop();                                                            \
		if (!holds) {                                                                      \
			fprintf(stderr, "%s:%d: never: %s\n", __FILE__, __LINE__, #condition);     \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#define WORKERS 2
#define MEMORY_MIB 64
#define FRAME 64

static char directory[] = "/tmp/headrace-test-port-XXXXXX";

static uint64_t
now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

/** Once round. In real time: a memif server of DPDK's dies of a client that hurries. */
static void
control_loop(void)
{
	poll(NULL, 0, 1);
	hr_ports_tick(now_ms());
	hr_rcu_reclaim();
}

/** Commit; on failure the message of the first error, else "". */
static const char *
commit(json_t *objects)
{
	static char message[512];
	struct hr_errors errors = {0};
	const int rc = hr_txn_commit(objects, hr_store_generation() + 1, &errors);

	message[0] = '\0';
	if (rc != 0) {
		const json_t *error = json_array_get(errors.list, 0);

		CHECK(errors.count > 0);
		snprintf(message, sizeof(message), "%s: %s",
				json_string_value(json_object_get(error, "reason")),
				json_string_value(json_object_get(error, "message")));
	} else {
		CHECK(errors.count == 0);
	}
	json_decref(errors.list);
	json_decref(objects);
	return message;
}

static json_t *
port_object(const char *key, json_t *spec)
{
	static unsigned serial;
	char hash[16];

	snprintf(hash, sizeof(hash), "%u", ++serial);
	return json_pack("{s:s, s:s, s:s, s:o}", "kind", "port", "key", key, "hash", hash, "spec",
			spec);
}

static json_t *
spec(const char *devargs, unsigned queues)
{
	return json_pack("{s:s, s:i, s:i}", "devargs", devargs, "rxQueues", (int)queues, "mtu",
			1500);
}

static const char *
put_spec(const char *key, json_t *port_spec)
{
	return commit(json_pack("[o]", port_object(key, port_spec)));
}

static const char *
put(const char *key, const char *devargs)
{
	return put_spec(key, spec(devargs, 1));
}

static json_t *
deleted(const char *key)
{
	return json_pack("{s:s, s:s, s:b}", "kind", "port", "key", key, "delete", 1);
}

static void delete (const char *key)
{
	CHECK(strcmp(commit(json_pack("[o]", deleted(key))), "") == 0);
	CHECK(hr_port_get(key) == NULL);
}

static uint16_t
id_of(const char *key)
{
	return hr_port_id(hr_port_get(key));
}

static enum hr_port_state
state_of(const char *key)
{
	return hr_port_state(hr_port_get(key));
}

/** A port's entry in the list; borrowed from *items. */
static json_t *
listed(const char *key, json_t **items)
{
	json_t *filter = json_pack("{s:s}", "name", key);
	struct hr_errors errors = {0};
	size_t next = 0;

	*items = hr_list("port", filter, 0, 10, &next, &errors);
	json_decref(filter);
	CHECK(*items != NULL && json_array_size(*items) == 1 && next == 0);
	return json_array_get(*items, 0);
}

/** Frame number `number`. */
static void
write_frame(uint8_t frame[FRAME], uint8_t number)
{
	static const uint8_t header[RTE_ETHER_HDR_LEN] = {
			0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x88, 0xb5};

	memcpy(frame, header, sizeof(header));
	memset(frame + sizeof(header), number, FRAME - sizeof(header));
}

static bool
is_frame(const uint8_t *frame, size_t length, uint8_t number)
{
	uint8_t expected[FRAME];

	write_frame(expected, number);
	return length == FRAME && memcmp(frame, expected, FRAME) == 0;
}

/** As a worker's transmit node. @return packets taken */
static uint16_t
send_as(unsigned worker, uint16_t id, uint8_t number)
{
	const uint16_t queue = hr_workers[worker]->txq[id];
	struct rte_mbuf *m = rte_pktmbuf_alloc(hr_pool);
	uint16_t n;

	CHECK(m != NULL);
	write_frame((uint8_t *)rte_pktmbuf_append(m, FRAME), number);
	if (queue != HR_TXQ_NONE) {
		n = rte_eth_tx_burst(id, queue, &m, 1);
	} else {
		CHECK(hr_tx_ring[id] != NULL);
		n = rte_ring_mp_enqueue(hr_tx_ring[id], m) == 0;
	}
	if (n == 0)
		rte_pktmbuf_free(m);
	return n;
}

/** As worker 0, for those without a queue. @return packets sent */
static unsigned
drain(uint16_t id)
{
	struct rte_mbuf *pkts[HR_BURST];
	const unsigned n = rte_ring_sc_dequeue_burst(hr_tx_ring[id], (void **)pkts, HR_BURST, NULL);

	CHECK(hr_workers[0]->txq[id] == 0);
	CHECK(rte_eth_tx_burst(id, 0, pkts, n) == n);
	return n;
}

/** As all workers: whether this frame is among what the port's queues have. */
static bool
receive(uint16_t id, uint8_t number)
{
	bool found = false;

	for (unsigned worker = 0; worker < WORKERS; worker++) {
		const struct hr_rxqs *rxqs = hr_workers[worker]->rxqs;

		for (uint16_t i = 0; i < rxqs->n; i++) {
			struct rte_mbuf *pkts[HR_BURST];
			uint16_t n;

			if (rxqs->q[i].port != id)
				continue;
			n = rte_eth_rx_burst(id, rxqs->q[i].queue, pkts, HR_BURST);
			for (uint16_t p = 0; p < n; p++) {
				CHECK(pkts[p]->port == id && pkts[p]->nb_segs == 1);
				found |= is_frame(rte_pktmbuf_mtod(pkts[p], uint8_t *),
						pkts[p]->data_len, number);
			}
			rte_pktmbuf_free_bulk(pkts, n);
		}
	}
	return found;
}

/** Receive queues of a port that workers poll. */
static unsigned
polled(uint16_t id)
{
	unsigned n = 0;

	for (unsigned worker = 0; worker < WORKERS; worker++) {
		for (uint16_t i = 0; i < hr_workers[worker]->rxqs->n; i++)
			n += hr_workers[worker]->rxqs->q[i].port == id;
	}
	return n;
}

/** Whether workers know nothing of a port id. */
static bool
unused(uint16_t id)
{
	bool shared = false;

	for (uint16_t i = 0; i < hr_tx_shared->n; i++)
		shared |= hr_tx_shared->port[i] == id;
	return polled(id) == 0 && !shared && hr_tx_ring[id] == NULL &&
			hr_workers[0]->txq[id] == HR_TXQ_NONE &&
			hr_workers[1]->txq[id] == HR_TXQ_NONE &&
			hr_port_ctx[id]->role == HR_ROLE_NONE && hr_port_ctx[id]->port == id;
}

/** What a port told its user. */
struct told {
	unsigned gone, back;
};

static void
on_change(struct hr_port *port, void *user)
{
	struct told *told = user;

	if (hr_port_id(port) == HR_PORT_NO_ID) {
		CHECK(hr_port_state(port) == HR_PORT_GONE);
		told->gone++;
	} else {
		/* It may be sent by; workers receive by it once its user has taken it up. */
		CHECK(hr_workers[0]->txq[hr_port_id(port)] != HR_TXQ_NONE);
		told->back++;
	}
}

/** What a driver says of how it receives; NULL: it does not. Stands in for DPDK's function. */
static const char *burst_mode;

int
rte_eth_rx_burst_mode_get(uint16_t id, uint16_t queue, struct rte_eth_burst_mode *mode)
{
	RTE_SET_USED(id);
	RTE_SET_USED(queue);
	if (burst_mode == NULL)
		return -ENOTSUP;
	*mode = (struct rte_eth_burst_mode){0};
	snprintf(mode->info, sizeof(mode->info), "%s", burst_mode);
	return 0;
}

/** Vector drivers take in nothing when they are asked for few packets. */
static void
test_burst(void)
{
	static const struct {
		const char *mode;
		uint16_t wanted, least, in_force;
	} cases[] = {
			{"Vector AVX2", 1, 8, 8},
			{"Vector AVX2", 64, 8, 64},
			{"Offload Vector Neon Scattered", 7, 8, 8},
			{"Scalar Bulk Alloc", 1, 1, 1},
			{NULL, 3, 8, 8},
	};
	const uint16_t before = hr_worker_settings.burst;

	for (unsigned i = 0; i < RTE_DIM(cases); i++) {
		json_t *items, *item;

		burst_mode = cases[i].mode;
		hr_worker_settings.burst = cases[i].wanted;
		CHECK(strcmp(put("null", "net_null0"), "") == 0);
		CHECK(hr_workers[0]->rxqs->q[0].least_burst == cases[i].least);
		item = listed("null", &items);
		CHECK(json_integer_value(json_object_get(item, "burst")) == cases[i].in_force);
		json_decref(items);
		delete ("null");
	}
	burst_mode = NULL;
	hr_worker_settings.burst = before;
}

static void
test_null(void)
{
	struct hr_port_ctx ctx = {.role = HR_ROLE_INTERFACE};
	struct hr_port_counters counters;
	struct rte_ether_addr mac;
	json_t *items, *item;
	uint32_t generation;
	uint16_t id;

	CHECK(strcmp(put_spec("null", spec("net_null0", 3)), "") == 0);
	id = id_of("null");
	CHECK(state_of("null") == HR_PORT_UP);
	hr_port_mac(hr_port_get("null"), &mac);
	CHECK(rte_is_valid_assigned_ether_addr(&mac));
	CHECK(polled(id) == 3);
	CHECK(hr_workers[0]->rxqs->n == 2 && hr_workers[1]->rxqs->n == 1);
	CHECK(hr_workers[0]->txq[id] == 0 && hr_workers[1]->txq[id] == 1);
	CHECK(send_as(0, id, 1) == 1 && send_as(1, id, 2) == 1);
	item = listed("null", &items);
	CHECK(strcmp(json_string_value(json_object_get(item, "driver")), "net_null") == 0);
	CHECK(json_array_size(json_object_get(item, "rxQueues")) == 3);
	CHECK(json_integer_value(json_object_get(item, "txQueues")) == WORKERS);
	CHECK(json_object_get(item, "error") == NULL);
	json_decref(items);

	/* A user's context goes with the device. What was counted stays counted, but not as its. */
	ctx.port = id;
	hr_port_ctx_set(id, &ctx);
	hr_workers[1]->ports[id].rx_packets = 7;
	hr_workers[1]->ports[id].drops[HR_DROP_ARP] = 1;
	hr_control_drops[id][HR_DROP_ARP] = 7;
	hr_port_counters(hr_port_get("null"), &counters);
	CHECK(counters.rx_packets == 7 && counters.drops[HR_DROP_ARP] == 8);
	delete ("null");
	CHECK(unused(id));
	CHECK(rte_eth_dev_count_avail() == 0);
	hr_workers[0]->ports[id].drops[HR_DROP_ARP]++; /* A packet that was still on its way. */
	generation = hr_port_generation[id];
	CHECK(strcmp(put("next", "net_null0"), "") == 0);
	CHECK(id_of("next") == id && hr_port_generation[id] != generation);
	hr_port_counters(hr_port_get("next"), &counters);
	CHECK(counters.rx_packets == 0 && counters.drops[HR_DROP_ARP] == 0);
	hr_workers[1]->ports[id].rx_packets++;
	hr_workers[1]->ports[id].drops[HR_DROP_ARP]++;
	hr_port_counters(hr_port_get("next"), &counters);
	CHECK(counters.rx_packets == 1 && counters.drops[HR_DROP_ARP] == 1);
	hr_port_id_counters(id, &counters);
	CHECK(counters.rx_packets == 8 && counters.drops[HR_DROP_ARP] == 10);
	delete ("next");
}

static void
test_change(void)
{
	struct told told = {0};
	struct rte_ether_addr mac, now;
	const struct hr_rxqs *before;
	uint16_t id;

	CHECK(strcmp(put("p", "net_null0,size=64"), "") == 0);
	id = id_of("p");
	hr_port_mac(hr_port_get("p"), &mac);
	hr_port_attach(hr_port_get("p"), on_change, &told);

	/* In place. */
	CHECK(strcmp(put_spec("p",
				     json_pack("{s:s, s:i, s:i, s:s}", "devargs",
						     "net_null0,size=64", "rxQueues", 1, "mtu",
						     1400, "mac", "02:00:00:00:00:99")),
			      "") == 0);
	CHECK(id_of("p") == id && told.gone == 0);
	CHECK(hr_port_set_mtu(hr_port_get("p"), 1300) == 1300);
	CHECK(hr_port_set_mtu(hr_port_get("p"), 9000) < 9000); /* Our buffers are smaller. */
	hr_port_mac(hr_port_get("p"), &now);
	CHECK(now.addr_bytes[5] == 0x99 && !rte_is_same_ether_addr(&now, &mac));

	/* Another device of the same name. */
	CHECK(strcmp(put("p", "net_null0,size=128"), "") == 0);
	CHECK(told.gone == 1 && told.back == 1);
	CHECK(state_of("p") == HR_PORT_UP && polled(id_of("p")) == 1);

	/* One that cannot be had: gone until it can. */
	CHECK(strcmp(put_spec("p",
				     json_pack("{s:s, s:i, s:i, s:s}", "devargs",
						     "net_af_packet0,iface=hr-none", "rxQueues", 1,
						     "mtu", 1500, "netdev", "hr-none")),
			      "") == 0);
	CHECK(told.gone == 2 && told.back == 1 && state_of("p") == HR_PORT_GONE);
	CHECK(rte_eth_dev_count_avail() == 0);
	CHECK(strcmp(put("p", "net_null0"), "") == 0);
	CHECK(told.back == 2 && state_of("p") == HR_PORT_UP);

	/*
	 * Workers hear of the ports of a commit at once, when all of it is applied: so they know
	 * whose a port is before they receive by it. Twice, and they had their first list again.
	 */
	before = hr_workers[0]->rxqs;
	CHECK(strcmp(commit(json_pack("[o, o]", port_object("r", spec("net_null1", WORKERS)),
				     port_object("s", spec("net_null2", WORKERS)))),
			      "") == 0);
	CHECK(hr_workers[0]->rxqs != before && polled(id_of("r")) == WORKERS);
	delete ("r");
	delete ("s");

	/* The device moves to another port in one transaction. */
	hr_port_detach(hr_port_get("p"));
	CHECK(strcmp(commit(json_pack("[o, o]", port_object("q", spec("net_null0", 1)),
				     deleted("p"))),
			      "") == 0);
	EVENTUALLY(state_of("q") == HR_PORT_UP);
	CHECK(polled(id_of("q")) == 1);
	delete ("q");
	CHECK(told.gone == 2);
}

/** Run a command that must succeed. */
static void
run(const char *command)
{
	const int rc = system(command);

	if (rc != 0)
		fprintf(stderr, "%s: exit status %d\n", command, rc);
	CHECK(rc == 0);
}

/* As a driver does: not among DPDK's installed headers. */
struct rte_eth_dev;
struct rte_eth_dev *rte_eth_dev_allocated(const char *name);
int rte_eth_dev_callback_process(struct rte_eth_dev *, enum rte_eth_event_type, void *);

static void
has_event(const char *name, enum rte_eth_event_type event)
{
	CHECK(rte_eth_dev_callback_process(rte_eth_dev_allocated(name), event, NULL) == 0);
}

/** A node that wants a device back, by what vfio tells DPDK, and one that was reset. */
static void
test_removal(void)
{
	struct told told = {0}, beside = {0};
	uint16_t id, bystander;
	json_t *items, *item;

	CHECK(strcmp(put("p", "net_null0"), "") == 0);
	CHECK(strcmp(put("beside", "net_null1"), "") == 0);
	id = id_of("p");
	bystander = id_of("beside");
	hr_port_attach(hr_port_get("p"), on_change, &told);
	hr_port_attach(hr_port_get("beside"), on_change, &beside);

	rte_dev_event_callback_process("net_null0", RTE_DEV_EVENT_ADD);
	rte_dev_event_callback_process("net_null2", RTE_DEV_EVENT_REMOVE);
	rte_dev_event_callback_process("net_null0", RTE_DEV_EVENT_REMOVE);
	EVENTUALLY(state_of("p") == HR_PORT_GONE);
	CHECK(told.gone == 1 && unused(id) && rte_eth_dev_count_avail() == 1);
	item = listed("p", &items);
	CHECK(strcmp(json_string_value(json_object_get(item, "reason")), "DeviceRemoved") == 0);
	CHECK(json_integer_value(json_object_get(item, "losses")) == 1);
	json_decref(items);
	EVENTUALLY(state_of("p") == HR_PORT_UP);
	CHECK(told.back == 1);
	item = listed("p", &items);
	CHECK(json_object_get(item, "reason") == NULL && json_object_get(item, "error") == NULL);
	json_decref(items);

	has_event("net_null0", RTE_ETH_EVENT_INTR_RESET);
	has_event("net_null0", RTE_ETH_EVENT_INTR_RESET);
	EVENTUALLY(told.gone == 2 && told.back == 2);
	has_event("net_null0", RTE_ETH_EVENT_INTR_RMV);
	EVENTUALLY(told.gone == 3 && told.back == 3);
	item = listed("p", &items);
	CHECK(json_integer_value(json_object_get(item, "losses")) == 3);
	json_decref(items);

	CHECK(beside.gone == 0 && id_of("beside") == bystander && polled(bystander) == 1);
	delete ("p");
	delete ("beside");
	/* Nobody listens any more. */
	rte_dev_event_callback_process("net_null0", RTE_DEV_EVENT_REMOVE);
}

/** Run a command with the folder of a tree in sysfs's place. */
static void
in_tree(const char *command)
{
	char line[512];

	snprintf(line, sizeof(line), "mkdir -p %s/pci && cd %s/pci && %s", directory, directory,
			command);
	run(line);
}

/** What is in a PCI device's way: the answer to a commit. */
static void
test_pci(void)
{
	char devices[96], vfio[96];

	snprintf(devices, sizeof(devices), "%s/pci/devices", directory);
	snprintf(vfio, sizeof(vfio), "%s/pci/vfio", directory);
	hr_pci_devices = devices;
	hr_vfio = vfio;
	in_tree("mkdir -p devices/0000:99:00.0 vfio drivers/vfio-pci drivers/igbvf groups/7 && "
		"ln -s ../../drivers/vfio-pci devices/0000:99:00.0/driver && "
		"ln -s ../../groups/7 devices/0000:99:00.0/iommu_group");
	CHECK(strstr(put("p", "0000:99:00.1"), "PortFailed: no PCI device 0000:99:00.1") != NULL);
	CHECK(strstr(put("p", "0000:99:00.0"), "/vfio/vfio: give the container") != NULL);
	in_tree("touch vfio/vfio vfio/8");
	CHECK(strstr(put("p", "0000:99:00.0"),
			      "DeviceNodeChanged: PCI device 0000:99:00.0 is in "
			      "IOMMU group 7") != NULL);
	/* From here on DPDK is asked, which sees no such device. */
	in_tree("touch vfio/7");
	CHECK(strstr(put("p", "0000:99:00.0"), "cannot be used without hugepages") != NULL);
	in_tree("mv vfio/7 vfio/noiommu-7");
	CHECK(strstr(put("p", "0000:99:00.0"), "has no IOMMU") != NULL);
	in_tree("ln -sfn ../../drivers/igbvf devices/0000:99:00.0/driver");
	CHECK(strstr(put("p", "0000:99:00.0"),
			      "DeviceNotBound: no DPDK driver took PCI device "
			      "0000:99:00.0, bound to igbvf") != NULL);
	in_tree("rm devices/0000:99:00.0/driver");
	CHECK(strstr(put("p", "0000:99:00.0"), "bound to no kernel driver") != NULL);
	in_tree("ln -s ../../drivers/mlx5_core devices/0000:99:00.0/driver");
	CHECK(strstr(put("p", "0000:99:00.0"), "which it shares with mlx5_core") != NULL);
	hr_pci_devices = "/sys/bus/pci/devices";
	hr_vfio = "/dev/vfio";
}

static void
test_refusals(void)
{
	char key[16], devargs[128];

	CHECK(strstr(put("p", "net_nosuch0"), "PortFailed: DPDK knows no device") != NULL);
	CHECK(strstr(put("p", "0000:99:00.0"), "PortFailed: no PCI device 0000:99:00.0") != NULL);
	CHECK(strstr(put_spec("p",
				     json_pack("{s:s, s:i, s:i, s:s}", "devargs",
						     "net_af_packet0,iface=hr-none", "rxQueues", 1,
						     "mtu", 1500, "netdev", "hr-none")),
			      "PortFailed: no kernel device hr-none") != NULL);
	CHECK(strstr(put("p", "net_pcap0,rx_pcap=/nonexistent"),
			      "PortFailed: the driver refused") != NULL);
	CHECK(hr_port_get("p") == NULL && rte_eth_dev_count_avail() == 0);
	/* A refused device is no obstacle to a good one of its name. */
	snprintf(devargs, sizeof(devargs), "net_pcap0,tx_pcap=%s/accepted", directory);
	CHECK(strcmp(put("p", devargs), "") == 0 && state_of("p") == HR_PORT_UP);
	delete ("p");

	CHECK(strcmp(put("p", "net_null0"), "") == 0);
	CHECK(strstr(put("q", "net_null0"), "in use by port \"p\"") != NULL);
	delete ("p");

	/* Nothing of a refused transaction stays. */
	CHECK(strstr(commit(json_pack("[o, o]", port_object("p", spec("net_null0", 1)),
				     port_object("q", spec("net_nosuch0", 1)))),
			      "PortFailed") != NULL);
	CHECK(hr_port_get("p") == NULL && rte_eth_dev_count_avail() == 0);

	for (unsigned i = 0; i < HR_MAX_PORTS; i++) {
		snprintf(key, sizeof(key), "p%u", i);
		snprintf(devargs, sizeof(devargs), "net_null%u", i);
		CHECK(strcmp(put(key, devargs), "") == 0);
	}
	CHECK(strstr(put("one-more", "net_null99"), "LimitExceeded") != NULL);
	/* Spread evenly. */
	CHECK(hr_workers[0]->rxqs->n == HR_MAX_PORTS / 2);
	CHECK(hr_workers[1]->rxqs->n == HR_MAX_PORTS / 2);
	/* One takes the place of another. */
	CHECK(strcmp(commit(json_pack("[o, o]", port_object("one-more", spec("net_null99", 1)),
				     deleted("p0"))),
			      "") == 0);
	EVENTUALLY(state_of("one-more") == HR_PORT_UP);
	hr_txn_clear();
	CHECK(rte_eth_dev_count_avail() == 0);
}

/** A port whose queues might take what others need is not taken, and says what to set. */
static void
test_buffers(void)
{
	/* Of a driver of which nothing is known: a receive queue, and one for each worker to send. */
	const unsigned each = 3 * 1024, fit = hr_buffers_count() / each;
	unsigned mib = 0;
	char name[32], devargs[32];
	const char *refusal;

	CHECK(hr_buffers_kept() == 0 && fit > 0 && fit < HR_MAX_PORTS);
	for (unsigned i = 0; i < fit; i++) {
		snprintf(name, sizeof(name), "p%u", i);
		snprintf(devargs, sizeof(devargs), "net_ring%u", i);
		CHECK(strcmp(put(name, devargs), "") == 0);
		CHECK(hr_buffers_kept() == (i + 1) * each);
	}
	snprintf(devargs, sizeof(devargs), "net_ring%u", fit);
	refusal = put("more", devargs);
	CHECK(strncmp(refusal, "PacketBufferLimit: ", 19) == 0);
	CHECK(strstr(refusal, "1 receive and 2 transmit queues may hold 3072 packet buffers") !=
			NULL);
	CHECK(sscanf(strstr(refusal, "give the engine "), "give the engine %u MiB", &mib) == 1);
	CHECK(mib > MEMORY_MIB && mib < MEMORY_MIB + 10);
	CHECK(strstr(refusal, "hugepages.amount of the Pipeline") != NULL);
	CHECK(hr_port_get("more") == NULL && hr_buffers_kept() == fit * each);
	/* What copies needs none, and what leaves makes room. */
	delete ("p0");
	CHECK(strcmp(put("null", "net_null0"), "") == 0 && hr_buffers_kept() == (fit - 1) * each);
	CHECK(strcmp(put("more", devargs), "") == 0);
	hr_txn_clear();
	CHECK(hr_buffers_kept() == 0);
}

static void
test_pcap(void)
{
	struct hr_port_counters before, after;
	char devargs[128];
	uint16_t id;

	snprintf(devargs, sizeof(devargs), "net_pcap0,tx_pcap=%s/frames", directory);
	CHECK(strcmp(put("out", devargs), "") == 0);
	id = id_of("out");
	/* One transmit queue for two workers: the second hands over to the first. */
	CHECK(hr_workers[0]->txq[id] == 0 && hr_workers[1]->txq[id] == HR_TXQ_NONE);
	CHECK(hr_tx_shared->n == 1 && hr_tx_shared->port[0] == id);
	CHECK(send_as(0, id, 1) == 1);
	CHECK(send_as(1, id, 2) == 1 && drain(id) == 1);
	CHECK(send_as(1, id, 3) == 1); /* Freed with the ring, and counted. */
	hr_port_id_counters(id, &before);
	delete ("out");
	hr_port_id_counters(id, &after);
	CHECK(after.drops[HR_DROP_PORT_DOWN] == before.drops[HR_DROP_PORT_DOWN] + 1);
	CHECK(unused(id));

	snprintf(devargs, sizeof(devargs), "net_pcap0,rx_pcap=%s/frames", directory);
	for (uint8_t number = 1; number <= 3; number++) {
		CHECK(strcmp(put("in", devargs), "") == 0);
		CHECK(receive(id_of("in"), number) == (number <= 2));
		delete ("in");
	}
}

static void
test_memif(void)
{
	char server[160], client[160];
	struct told told = {0};
	json_t *items;

	snprintf(server, sizeof(server),
			"net_memif0,role=server,socket-abstract=no,socket=%s/memif", directory);
	snprintf(client, sizeof(client),
			"net_memif1,role=client,socket-abstract=no,socket=%s/memif", directory);
	/* The server is not there yet: that is no mistake in the configuration. */
	CHECK(strcmp(put("client", client), "") == 0);
	CHECK(state_of("client") == HR_PORT_GONE);
	CHECK(json_object_get(listed("client", &items), "error") != NULL);
	json_decref(items);
	hr_port_attach(hr_port_get("client"), on_change, &told);

	for (unsigned round = 1; round <= 2; round++) {
		CHECK(strcmp(put("server", server), "") == 0);
		EVENTUALLY(state_of("client") == HR_PORT_UP && state_of("server") == HR_PORT_UP);
		CHECK(told.back >= round && told.gone == told.back - 1);
		CHECK(send_as(0, id_of("client"), 1) == 1);
		EVENTUALLY(receive(id_of("server"), 1));
		/* A client's polling is what gives the server buffers to fill. */
		CHECK(!receive(id_of("client"), 2));
		CHECK(send_as(0, id_of("server"), 2) == 1);
		EVENTUALLY(receive(id_of("client"), 2));
		delete ("server");
		EVENTUALLY(state_of("client") == HR_PORT_GONE);
		CHECK(told.gone == told.back);
	}
	hr_port_detach(hr_port_get("client"));
	delete ("client");
	CHECK(rte_eth_dev_count_avail() == 0);
}

/** A socket that sends and receives whole frames on a kernel device. */
static int
open_kernel(const char *netdev)
{
	const struct sockaddr_ll address = {
			.sll_family = AF_PACKET,
			.sll_protocol = RTE_BE16(0x88b5),
			.sll_ifindex = (int)if_nametoindex(netdev),
	};
	const int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, RTE_BE16(0x88b5));

	CHECK(fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
	return fd;
}

static void
kernel_send(int fd, uint8_t number)
{
	uint8_t frame[FRAME];

	write_frame(frame, number);
	CHECK(send(fd, frame, sizeof(frame), 0) == sizeof(frame));
}

static bool
kernel_receive(int fd, uint8_t number)
{
	uint8_t frame[2048];
	ssize_t n = recv(fd, frame, sizeof(frame), 0);

	return n >= 0 && is_frame(frame, (size_t)n, number);
}

/** Frames both ways between a port and a kernel device. */
static void
exchange(const char *key, const char *netdev)
{
	const int fd = open_kernel(netdev);

	kernel_send(fd, 1);
	EVENTUALLY(receive(id_of(key), 1));
	CHECK(send_as(0, id_of(key), 2) == 1);
	EVENTUALLY(kernel_receive(fd, 2));
	CHECK(send_as(1, id_of(key), 3) == 1);
	if (hr_workers[1]->txq[id_of(key)] == HR_TXQ_NONE)
		drain(id_of(key));
	EVENTUALLY(kernel_receive(fd, 3));
	close(fd);
}

static void
test_tap(void)
{
	struct told told = {0};
	struct rte_ether_addr mac, kernel_mac;
	int ready[2], done[2];
	char command[128], byte;
	uint64_t moved;
	pid_t child;

	CHECK(strcmp(put("tap", "net_tap0,iface=hr-tap0"), "") == 0);
	EVENTUALLY(state_of("tap") == HR_PORT_UP);
	hr_port_mac(hr_port_get("tap"), &mac);
	CHECK(rte_eth_macaddr_get(id_of("tap"), &kernel_mac) == 0);
	CHECK(!rte_is_same_ether_addr(&mac, &kernel_mac));
	hr_port_attach(hr_port_get("tap"), on_change, &told);
	exchange("tap", "hr-tap0");
	run("ip link set hr-tap0 down");
	EVENTUALLY(state_of("tap") == HR_PORT_DOWN);
	run("ip link set hr-tap0 up");
	EVENTUALLY(state_of("tap") == HR_PORT_UP);

	/* Moved to another network namespace, as into a pod: works on. */
	CHECK(pipe(ready) == 0 && pipe(done) == 0);
	child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		int fd;

		close(done[1]);
		if (unshare(CLONE_NEWNET) != 0 || write(ready[1], "", 1) != 1 ||
				read(done[0], &byte, 1) != 1 ||
				system("ip link set hr-tap0 up") != 0)
			_exit(1);
		fd = open_kernel("hr-tap0");
		kernel_send(fd, 9);
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		_exit(read(done[0], &byte, 1) != 0);
	}
	CHECK(read(ready[0], &byte, 1) == 1);
	snprintf(command, sizeof(command), "ip link set hr-tap0 netns %d", (int)child);
	run(command);
	CHECK(if_nametoindex("hr-tap0") == 0);
	CHECK(write(done[1], "", 1) == 1 && read(ready[0], &byte, 1) == 1);
	EVENTUALLY(receive(id_of("tap"), 9));
	moved = now_ms();
	EVENTUALLY(now_ms() > moved + 500); /* It has been looked at since. */
	CHECK(state_of("tap") == HR_PORT_UP && told.gone == 0);
	hr_port_detach(hr_port_get("tap"));
	delete ("tap");
	close(done[1]);
	CHECK(waitpid(child, &(int){0}, 0) == child);
	close(done[0]);
	close(ready[0]);
	close(ready[1]);
}

static void
test_af_packet(void)
{
	struct told told = {0};
	uint16_t bystander;

	CHECK(strcmp(put("bystander", "net_null0"), "") == 0);
	bystander = id_of("bystander");
	run("ip link add hr-v0 mtu 1350 type veth peer name hr-v1 && ip link set hr-v1 up");
	CHECK(strcmp(put_spec("veth",
				     json_pack("{s:s, s:i, s:i, s:s}", "devargs",
						     "net_af_packet0,iface=hr-v0", "rxQueues", 1,
						     "mtu", 1400, "netdev", "hr-v0")),
			      "") == 0);
	hr_port_attach(hr_port_get("veth"), on_change, &told);
	EVENTUALLY(state_of("veth") == HR_PORT_UP); /* The engine sets its side up. */
	run("ip link show hr-v0 | grep -q 'mtu 1400'");
	run("ip -d link show hr-v0 | grep -q 'promiscuity [1-9]'");
	exchange("veth", "hr-v1");
	/* Not below what it came with: who sends too much is told. */
	CHECK(hr_port_set_mtu(hr_port_get("veth"), 1300) == 1300);
	run("ip link show hr-v0 | grep -q 'mtu 1350'");
	CHECK(hr_port_set_mtu(hr_port_get("veth"), 1450) == 1450);
	run("ip link show hr-v0 | grep -q 'mtu 1450'");
	run("ip link set hr-v1 down");
	EVENTUALLY(state_of("veth") == HR_PORT_DOWN);
	run("ip link set hr-v1 up");
	EVENTUALLY(state_of("veth") == HR_PORT_UP);
	exchange("veth", "hr-v1");
	CHECK(told.gone == 0);

	for (unsigned round = 1; round <= 2; round++) {
		const uint16_t id = id_of("veth");

		run("ip link delete hr-v0");
		EVENTUALLY(state_of("veth") == HR_PORT_GONE);
		CHECK(told.gone == round && unused(id));
		CHECK(id_of("bystander") == bystander && polled(bystander) == 1);
		CHECK(send_as(0, bystander, 1) == 1);
		run("ip link add hr-v0 mtu 1350 type veth peer name hr-v1 && ip link set hr-v1 up");
		EVENTUALLY(state_of("veth") == HR_PORT_UP);
		CHECK(told.back == round);
		run("ip link show hr-v0 | grep -q 'mtu 1450'");
		exchange("veth", "hr-v1");
	}
	hr_port_detach(hr_port_get("veth"));
	delete ("veth");
	run("! ip link show hr-v0 | grep -q PROMISC");
	run("ip link show hr-v0 | grep -q 'mtu 1350'");
	delete ("bystander");
	run("ip link delete hr-v0");
}

static void
set_up(void)
{
	char prefix[32];
	char *argv[] = {"port_test", "--no-huge", "--no-shconf", "--no-pci", "-m", "128",
			"--lcores", "0", "--no-telemetry", "--log-level=error", "--file-prefix",
			prefix};

	snprintf(prefix, sizeof(prefix), "test-port-%d", (int)getpid());
	CHECK(rte_eal_init(RTE_DIM(argv), argv) >= 0);
	CHECK(mkdtemp(directory) != NULL);
	/* As many as fit: 32 MiB are for all else. */
	CHECK(hr_buffers_create(0, MEMORY_MIB, 1960) == 0);
	CHECK(hr_buffers_size() == 37 * RTE_CACHE_LINE_SIZE || RTE_CACHE_LINE_SIZE != 64);
	CHECK(hr_buffers_count() == (MEMORY_MIB - 32) * 1024 * 1024 / (hr_buffers_size() + 16));
	CHECK(hr_rcu_init(WORKERS) == 0 && hr_ports_init() == 0);
	for (uint16_t i = 0; i < WORKERS; i++) {
		static const struct hr_rxqs no_queues;
		struct hr_worker *worker = aligned_alloc(64, sizeof(*worker));

		CHECK(worker != NULL);
		memset(worker, 0, sizeof(*worker));
		worker->index = i;
		worker->rxqs = &no_queues;
		for (unsigned port = 0; port < HR_MAX_PORTS; port++)
			worker->txq[port] = HR_TXQ_NONE;
		hr_workers[i] = worker;
	}
	hr_n_workers = WORKERS;
}

int
main(void)
{
	const bool root = geteuid() == 0 && unshare(CLONE_NEWNET) == 0;
	char command[128];
	unsigned free_buffers;

	set_up();
	free_buffers = rte_mempool_avail_count(hr_pool);
	test_null();
	test_burst();
	test_change();
	test_removal();
	test_pci();
	test_refusals();
	test_buffers();
	test_pcap();
	test_memif();
	if (root && access("/dev/net/tun", R_OK | W_OK) == 0)
		test_tap();
	if (root)
		test_af_packet();
	else
		fprintf(stderr, "not root: kernel devices left out\n");
	hr_ports_close();
	hr_rcu_barrier();
	CHECK(rte_eth_dev_count_avail() == 0);
	CHECK(rte_mempool_avail_count(hr_pool) == free_buffers);
	snprintf(command, sizeof(command), "rm -r %s", directory);
	run(command);
	rte_eal_cleanup();
	return 0;
}
