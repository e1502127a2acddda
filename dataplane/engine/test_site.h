/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * An engine with two tenants of the same addresses and an uplink, for tests that walk its graph: all
 * of it is real but what the ports receive and send. As tests/engine/site.py has it, so that frames
 * of one fit the other. Included by one file of a program that has the whole engine linked.
 *
 * Interfaces a and b are in blue, c and d in green. The engine knows the MAC addresses of a and c, and
 * of the endpoint behind the uplink that has 10.1.0.0/16 and 2001:db8:1::/48.
 */
#ifndef HR_TEST_SITE_H
#define HR_TEST_SITE_H

#include <stdio.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_mbuf.h>

#include "control/server.h"
#include "control/store.h"
#include "control/txn.h"
#include "port/port.h"
#include "rcu.h"
#include "table/adj.h"
#include "table/event.h"
#include "tests/check.h"
#include "tests/main.h"
#include "worker.h"

enum site_port { SITE_A, SITE_B, SITE_C, SITE_D, SITE_UP, SITE_PORTS };

static const char *const site_port_names[SITE_PORTS] = {"a", "b", "c", "d", "up"};

#define SITE_SETTINGS                                                                              \
	"{'idle':'poll','burst':64,'icmpPerSecond':1000,'underlayPrefixes':['fd00:1::/48'],"       \
	"'underlaySourceCheck':true}"
#define SITE_NETWORK(vni) "{'vni':" vni ",'gateways':['10.0.0.1','2001:db8::1']}"
#define SITE_REMOTE "fd00:1:0:2:0:6400:0:9"
#define SITE_REMOTE_GREEN "fd00:1:0:2:0:c800:0:a"
#define SITE_REMOTE_MAC "02:00:00:00:02:09"
#define SITE_UPLINK(mtu)                                                                           \
	"{'port':'up','mtu':" mtu ",'addresses':['fd00:1:0:1::1'],'onLink':['fd00:1::/48'],"       \
	"'neighbors':[{'address':'" SITE_REMOTE "','mac':'" SITE_REMOTE_MAC "'},"                  \
	"{'address':'" SITE_REMOTE_GREEN "','mac':'" SITE_REMOTE_MAC "'}]}"
/** @param host of 10.0.0.0/24 and of 2001:db8::/64 @param underlay the end of its underlay address */
#define SITE_INTERFACE(port, network, host, underlay, mtu, mac)                                    \
	"{'port':'" port "','network':'" network "','addresses':['10.0.0." host                    \
	"','2001:db8::" host "'],'prefixes':['10.9." host ".0/24'],"                               \
	"'gateways':['10.0.0.1','2001:db8::1','fe80::1'],'underlay':'fd00:1:0:1:0:" underlay       \
	"','formerUnderlayAddresses':[],'sourceCheck':true,'mtu':" mtu mac "}"
#define SITE_MAC(mac) ",'mac':'" mac "'"
/** @param vni first half of what stands for it in underlay addresses @param more routes */
#define SITE_ROUTES(network, vni, one, other, remote, more)                                        \
	"{'network':'" network "','routes':["                                                      \
	"['10.0.0.5/32','fd00:1:0:1:0:" vni ":0:" one "'],"                                        \
	"['10.0.0.6/32','fd00:1:0:1:0:" vni ":0:" other "'],"                                      \
	"['2001:db8::5/128','fd00:1:0:1:0:" vni ":0:" one "'],"                                    \
	"['2001:db8::6/128','fd00:1:0:1:0:" vni ":0:" other "'],"                                  \
	"['10.1.0.0/16','" remote "'],['2001:db8:1::/48','" remote "']" more "]}"
/** To a next hop that nobody answers for, to both by shares, to nowhere. */
#define SITE_ROUTES_MORE                                                                           \
	",['10.2.0.0/16','fd00:1:0:3:0:6400:0:1'],"                                                \
	"['2001:db8:2::/48','fd00:1:0:3:0:6400:0:1'],"                                             \
	"['10.3.0.0/16','" SITE_REMOTE "',['fd00:1:0:1:0:6400:0:b',3]],['10.4.0.0/16'],"           \
	"['10.5.0.0/16',{'network':'t/green','weight':1}]"
#define SITE_BLUE SITE_ROUTES("t/blue", "6400", "a", "b", SITE_REMOTE, SITE_ROUTES_MORE)
#define SITE_GREEN SITE_ROUTES("t/green", "c800", "c", "d", SITE_REMOTE_GREEN, "")

static json_t *site_changes;
static json_t *site_objects; /**< What there is: all that was put and not deleted. */

/** An object to be put by the next commit, with ' for "; with spec NULL to be deleted. */
static void
site_put(const char *kind, const char *key, const char *spec)
{
	static unsigned serial;
	char json[2048], hash[16];
	size_t n = 0;
	json_t *object;

	snprintf(hash, sizeof(hash), "%u", ++serial);
	for (; spec != NULL && spec[n] != '\0'; n++) {
		CHECK(n < sizeof(json));
		json[n] = spec[n] == '\'' ? '"' : spec[n];
	}
	object = spec == NULL ? json_pack("{s:s, s:s, s:b}", "kind", kind, "key", key, "delete", 1)
			      : json_pack("{s:s, s:s, s:s, s:o}", "kind", kind, "key", key, "hash",
						hash, "spec", json_loadb(json, n, 0, NULL));
	CHECK(object != NULL);
	if (site_changes == NULL)
		site_changes = json_array();
	json_array_append_new(site_changes, object);
}

static bool
site_is_same(const json_t *one, const json_t *other)
{
	return json_equal(json_object_get(one, "kind"), json_object_get(other, "kind")) &&
			json_equal(json_object_get(one, "key"), json_object_get(other, "key"));
}

/** Changes were accepted. */
static void
site_keep(void)
{
	json_t *change;
	size_t i;

	if (site_objects == NULL)
		site_objects = json_array();
	json_array_foreach(site_changes, i, change) {
		for (size_t n = json_array_size(site_objects); n > 0; n--)
			if (site_is_same(json_array_get(site_objects, n - 1), change))
				json_array_remove(site_objects, n - 1);
		if (json_object_get(change, "delete") == NULL)
			json_array_append(site_objects, change);
	}
}

/** @return whether it was accepted; if not, nothing is to have changed */
static bool
site_commit(void)
{
	json_t *before = hr_store_digests(), *after;
	struct hr_errors errors = {0};
	const int rc = hr_txn_commit(site_changes, hr_store_generation() + 1, &errors);

	CHECK((rc == 0) == (errors.count == 0));
	after = hr_store_digests();
	CHECK(rc == 0 || json_equal(before, after));
	if (rc == 0)
		site_keep();
	json_decref(before);
	json_decref(after);
	json_decref(errors.list);
	json_decref(site_changes);
	site_changes = NULL;
	return rc == 0;
}

static uint16_t
site_id(enum site_port port)
{
	return hr_port_id(hr_port_get(site_port_names[port]));
}

/** Start DPDK and one worker, which does not run, and commit the objects. @param ops of the pool */
static void
site_start(const char *name, unsigned buffers, const char *ops)
{
	char prefix[32];
	char *argv[] = {"test", "--no-huge", "--no-shconf", "--no-pci", "-m", "64", "--lcores",
			"0,1@0", "--no-telemetry", "--log-level=error", "--file-prefix", prefix};

	snprintf(prefix, sizeof(prefix), "test-%s-%d", name, (int)getpid());
	CHECK(rte_eal_init(RTE_DIM(argv), argv) >= 0);
	hr_pool = rte_pktmbuf_pool_create_by_ops("packets", buffers, 0, 0,
			RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY, ops);
	CHECK(hr_pool != NULL);
	CHECK(hr_rcu_init(1) == 0 && hr_adj_init() == 0 && hr_events_init() == 0);
	CHECK(hr_ports_init() == 0 && hr_workers_create(1) == 0);
	hr_pool_waiting = buffers / 2;

	site_put("settings", "engine", SITE_SETTINGS);
	for (unsigned i = 0; i < SITE_PORTS; i++) {
		char spec[256];

		snprintf(spec, sizeof(spec),
				"{'devargs':'net_null%u','rxQueues':1,'mtu':1500,"
				"'mac':'02:68:72:00:00:%02x'}",
				i, i == SITE_UP ? 2 : 1);
		site_put("port", site_port_names[i], spec);
	}
	site_put("network", "t/blue", SITE_NETWORK("100"));
	site_put("network", "t/green", SITE_NETWORK("200"));
	site_put("uplink", "up", SITE_UPLINK("1500"));
	site_put("interface", "t/a",
			SITE_INTERFACE("a", "t/blue", "5", "6400:0:a", "1460",
					SITE_MAC("02:00:00:00:00:0a")));
	site_put("interface", "t/b", SITE_INTERFACE("b", "t/blue", "6", "6400:0:b", "1280", ""));
	site_put("interface", "t/c",
			SITE_INTERFACE("c", "t/green", "5", "c800:0:c", "1460",
					SITE_MAC("02:00:00:00:00:0c")));
	site_put("interface", "t/d", SITE_INTERFACE("d", "t/green", "6", "c800:0:d", "1460", ""));
	site_put("routes", "blue", SITE_BLUE);
	site_put("routes", "green", SITE_GREEN);
	CHECK(site_commit());
}

/** Give all back. */
static void
site_end(void)
{
	json_decref(site_objects);
	hr_txn_clear();
	hr_rcu_barrier();
	hr_ports_close();
	rte_eal_cleanup();
}

typedef uint16_t site_burst(void *port, struct rte_mbuf **pkts, uint16_t n);

/** Have functions of the test's receive and send on a port: each is given its number. */
static void
site_stand_in(enum site_port port, site_burst *receive, site_burst *send)
{
	static void *queue[SITE_PORTS], *no_callback;
	struct rte_eth_fp_ops *driver = &rte_eth_fp_ops[site_id(port)];

	queue[port] = (void *)(uintptr_t)port;
	driver->rx_pkt_burst = receive;
	driver->tx_pkt_burst = send;
	driver->rxq.data = driver->txq.data = &queue[port];
	driver->rxq.clbk = driver->txq.clbk = (void *)&no_callback;
}

#endif
