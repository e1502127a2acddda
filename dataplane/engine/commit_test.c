/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * A commit is all or nothing wherever memory ends: each is tried with its first request for memory
 * refused, then with its second, until it passes. What was refused leaves nothing behind; what passed
 * is as in an engine that was given all of it at once.
 *
 * The main thread is the control thread; the worker never runs.
 */
#include <stdio.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_mbuf.h>

#include "control/addr.h"
#include "control/list.h"
#include "control/server.h"
#include "control/store.h"
#include "control/txn.h"
#include "fib/fib_private.h"
#include "kinds/network.h"
#include "kinds/port.h"
#include "port/port.h"
#include "rcu.h"
#include "table/adj.h"
#include "table/locals.h"
#include "table/neigh_timer.h"
#include "table/path.h"
#include "table/vrf.h"
#include "tests/check.h"
#include "tests/main.h"
#include "tests/memory.h"
#include "worker.h"

/** JSON with ' for ", and for an underlay address $ and its last digit. */
static json_t *
text(const char *quoted)
{
	/* On other nodes, of VNI 1: on link, and behind the gateway. Those of this node's Interfaces. */
	static const char *const far = "fd00:0:0:9:0:100::", *const behind = "fd00:0:0:7:0:100::",
				 *const here = "fd00:0:0:1:0:100::";
	char json[4096];
	size_t n = 0;
	json_t *value;

	for (const char *c = quoted; *c != '\0'; c++) {
		CHECK(n + 64 < sizeof(json));
		if (*c == '$') {
			c++;
			n += (size_t)snprintf(json + n, sizeof(json) - n, "%s%c",
					*c >= 'a'                   ? here
							: *c >= 'A' ? behind
								    : far,
					*c >= 'A' && *c < 'a' ? *c + 'a' - 'A' : *c);
		} else {
			json[n++] = *c == '\'' ? '"' : *c;
		}
	}
	value = json_loadb(json, n, 0, NULL);
	CHECK(value != NULL);
	return value;
}

/** Add an object to be put, with a hash of its own; with spec NULL to be deleted. */
static void
add(json_t *objects, const char *kind, const char *key, const char *spec)
{
	static unsigned serial;
	char hash[16];

	snprintf(hash, sizeof(hash), "%u", ++serial);
	json_array_append_new(objects,
			spec == NULL ? json_pack("{s:s, s:s, s:b}", "kind", kind, "key", key,
						       "delete", 1)
				     : json_pack("{s:s, s:s, s:s, s:o}", "kind", kind, "key", key,
						       "hash", hash, "spec", text(spec)));
}

/* What can be seen of an engine, as one JSON object. */

static json_t *
hex(const uint8_t *bytes, size_t n)
{
	char digits[256];

	CHECK(2 * n < sizeof(digits));
	for (size_t i = 0; i < n; i++)
		snprintf(digits + 2 * i, 3, "%02x", bytes[i]);
	return json_string(digits);
}

/** Items in no order, each with how often it is there. */
static json_t *
bag(json_t *items)
{
	json_t *counts = json_object(), *item;
	size_t i;

	json_array_foreach(items, i, item) {
		char *key = json_dumps(item, JSON_SORT_KEYS);
		const json_int_t n = json_integer_value(json_object_get(counts, key));

		json_object_set_new(counts, key, json_integer(n + 1));
		free(key);
	}
	json_decref(items);
	return counts;
}

/** The port that has an id, or NULL: ids may be others in an engine that was just started. */
static const char *
port_of(uint16_t id)
{
	for (size_t i = 0; i < hr_store_count(&hr_port_kind); i++) {
		const struct hr_object *object = hr_store_at(&hr_port_kind, i);

		if (hr_port_id(object->state) == id)
			return object->key;
	}
	return NULL;
}

/** Where packets of an adjacency go. */
static json_t *
describe_adj(uint32_t index)
{
	const struct hr_adj *adj = &hr_adjs[index];
	json_t *json = json_pack("{s:i, s:o}", "op", adj->op, "hops", bag(hr_path_describe(index)));

	if (adj->op == HR_OP_ETH || adj->op == HR_OP_ENCAP || adj->op == HR_OP_VXLAN ||
			adj->op == HR_OP_RESOLVE) {
		json_object_set_new(json, "rewrite", hex(adj->rewrite, sizeof(adj->rewrite)));
		json_object_set_new(json, "mtu", json_integer(adj->mtu));
		json_object_set_new(json, "port", json_pack("s?", port_of(adj->port)));
		json_object_set_new(json, "then", json_integer(adj->ready_op));
	}
	return json;
}

static json_t *
list(const char *name)
{
	struct hr_errors errors = {0};
	size_t next = 0, i;
	json_t *items = hr_list(name, NULL, 0, HR_LIST_LIMIT_MAX, &next, &errors), *item;

	CHECK(items != NULL && next == 0);
	json_array_foreach(items, i, item) {
		json_t *hops = json_object_get(item, "nextHops");

		/* How much a table has room for follows from what was there before. */
		json_object_del(item, "bytes");
		if (hops != NULL)
			json_object_set_new(item, "nextHops", bag(json_incref(hops)));
	}
	return bag(items);
}

/** Addresses of and around all that the test routes. */
static const char *const probes[] = {"0.0.0.1", "8.8.8.8", "10.0.0.1", "10.0.0.2", "10.1.0.1",
		"10.1.2.3", "10.1.2.255", "10.1.3.0", "10.2.0.1", "10.2.0.7", "10.3.0.0",
		"10.200.1.1", "127.0.0.1", "172.16.0.1", "172.16.0.2", "192.168.7.7", "224.0.0.1",
		"::1", "2001:db8::1", "2001:db8::2", "2001:db8:1::1", "2001:db8:1::2",
		"2001:db8:1:2::3", "2001:db8:2::1", "2001:db8:ffff::", "2002::1", "fe80::1",
		"ff02::1"};

static json_t *
lookups(const struct hr_vrf *vrf)
{
	json_t *json = json_object();

	for (unsigned i = 0; i < RTE_DIM(probes); i++) {
		struct hr_addr addr;
		uint32_t adj;

		CHECK(hr_addr_parse(probes[i], &addr) == 0);
		if (addr.family == 4)
			hr_fib4_lookup(vrf->fib4, &addr.ip4, &adj, 1);
		else
			hr_fib6_lookup(vrf->fib6, &(const struct hr_ip6 *){&addr.ip6}, &adj, 1);
		json_object_set_new(json, probes[i], describe_adj(adj));
	}
	return json;
}

static json_t *
locals(void)
{
	json_t *json = json_object();
	char address[HR_ADDR_TEXT];

	for (unsigned i = 0; i < HR_LOCALS_SLOTS; i++) {
		const struct hr_local *local = &hr_locals->slot[i];

		if (local->adj != 0)
			json_object_set_new(json, hr_ip6_format(&local->addr, address),
					json_pack("{s:o, s:i}", "to", describe_adj(local->adj),
							"endpoints", local->n));
	}
	json_object_set_new(json, "mask", hex(hr_locals->source_mask.b, 16));
	return json;
}

/** The network whose VRF it is, or NULL. */
static const char *
network_of(const struct hr_vrf *vrf)
{
	for (size_t i = 0; i < hr_store_count(&hr_network_kind); i++) {
		const struct hr_object *object = hr_store_at(&hr_network_kind, i);

		if (object->state == vrf)
			return object->key;
	}
	return NULL;
}

/** By port; ids of which none has one belong to nothing. */
static json_t *
contexts(void)
{
	json_t *json = json_object();

	for (uint16_t id = 0; id < HR_MAX_PORTS; id++) {
		const struct hr_port_ctx *ctx = hr_port_ctx[id];
		const char *port = port_of(id);

		CHECK(ctx->port == id && (port != NULL || ctx->role == HR_ROLE_NONE));
		if (port == NULL)
			continue;
		json_object_set_new(json, port,
				json_pack("{s:i, s:i, s:o, s:b, s:s?, s:o, s:i, s:i, s:i, s:I}",
						"role", ctx->role, "mtu", ctx->mtu, "mac",
						hex(ctx->mac.addr_bytes, 6), "check",
						ctx->source_check, "network", network_of(ctx->vrf),
						"to", describe_adj(ctx->adj), "sources4",
						ctx->n_source4, "sources6", ctx->n_source6, "own",
						ctx->n_own, "free", (json_int_t)ctx->own_free));
	}
	return json;
}

/** Have what a commit leaves to the next tick of the control loop done. */
static void
settle(void)
{
	void *frame;

	hr_neigh_tick(1000000);
	hr_rcu_barrier();
	while (rte_ring_sc_dequeue(hr_workers[0]->inject, &frame) == 0)
		rte_pktmbuf_free(frame);
}

static json_t *
snapshot(void)
{
	static const char *const names[] = {
			"port", "network", "uplink", "interface", "routes", "route", "neighbor"};
	json_t *lists = json_object(), *networks = json_object();

	settle();
	for (unsigned i = 0; i < RTE_DIM(names); i++)
		json_object_set_new(lists, names[i], list(names[i]));
	for (size_t i = 0; i < hr_store_count(&hr_network_kind); i++) {
		const struct hr_object *object = hr_store_at(&hr_network_kind, i);

		json_object_set_new(networks, object->key, lookups(object->state));
	}
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:I, s:i}", "digests", hr_store_digests(),
			"lists", lists, "lookups", networks, "locals", locals(), "contexts",
			contexts(), "adjacencies", (json_int_t)hr_adj_count(), "burst",
			hr_worker_settings.burst);
}

/** Say where two differ, but for what only the second has. */
static void
tell_difference(const char *path, json_t *one, json_t *other)
{
	const char *name;
	json_t *part;

	if (json_equal(one, other))
		return;
	if (json_is_object(one) && json_is_object(other)) {
		json_object_foreach(one, name, part) {
			char inner[2048];

			snprintf(inner, sizeof(inner), "%.1000s/%.1000s", path, name);
			tell_difference(inner, part, json_object_get(other, name));
		}
		return;
	}
	fprintf(stderr, "%s ", path);
	json_dumpf(one, stderr, JSON_SORT_KEYS | JSON_ENCODE_ANY);
	fputc('\n', stderr);
}

static void
expect_equal(json_t *is, json_t *wanted, const char *what)
{
	if (!json_equal(is, wanted)) {
		fprintf(stderr, "%s\n", what);
		tell_difference("is:", is, wanted);
		tell_difference("wanted:", wanted, is);
		abort();
	}
	json_decref(is);
}

/** @return whether it was accepted */
static bool
commit(const json_t *objects)
{
	struct hr_errors errors = {0};
	const int rc = hr_txn_commit(objects, 1, &errors);

	CHECK((rc == 0) == (errors.count == 0));
	json_decref(errors.list);
	return rc == 0;
}

/** As in an engine that was just started and given all objects at once. */
static void
start_anew(const json_t *objects)
{
	hr_txn_clear();
	settle();
	CHECK(hr_adj_count() == HR_ADJ_LOCAL + 1);
	CHECK(commit(objects));
}

/** The objects that there are after a commit. */
static json_t *
after(const json_t *objects, const json_t *changes)
{
	json_t *all = json_array(), *object, *change;
	size_t i, j;

	json_array_foreach(objects, i, object) {
		bool stays = true;

		json_array_foreach(changes, j, change) {
			stays &= !json_equal(json_object_get(object, "kind"),
						 json_object_get(change, "kind")) ||
					!json_equal(json_object_get(object, "key"),
							json_object_get(change, "key"));
		}
		if (stays)
			json_array_append(all, object);
	}
	json_array_foreach(changes, j, change) {
		if (json_object_get(change, "delete") == NULL)
			json_array_append(all, change);
	}
	return all;
}

/**
 * Commit, from the state that `objects` made, without memory from the n-th request on or for that alone,
 * for every n until there is none.
 *
 * @return how many requests there are
 */
static unsigned
try_each(const json_t *objects, const json_t *changes, json_t *before, json_t *passed, bool stays)
{
	for (unsigned n = 1;; n++) {
		unsigned failed;
		bool accepted;

		memory_fail(n, stays);
		accepted = commit(changes);
		failed = memory_failed;
		memory_fail(0, false);
		CHECK(accepted || failed > 0);
		expect_equal(snapshot(), accepted ? passed : before,
				accepted ? "accepted" : "refused");
		if (failed == 0)
			return n - 1;
		/* It could do without that one. */
		if (accepted)
			start_anew(objects);
	}
}

/** Commit with room for only so many more elements in a pool of the FIB, until they are enough. */
static void
try_pool(struct hr_pool *pool, const json_t *objects, const json_t *changes, json_t *before,
		json_t *passed)
{
	const uint32_t capacity = pool->capacity;
	bool accepted = false;

	for (unsigned more = 0; !accepted; more++) {
		pool->capacity = pool->used + more;
		accepted = commit(changes);
		pool->capacity = capacity;
		expect_equal(snapshot(), accepted ? passed : before,
				accepted ? "accepted with a full pool" : "refused by a full pool");
	}
	start_anew(objects);
}

/** The commit that is tried next. */
static json_t *changes;
static const char *changes_name;

static void
begin(const char *name)
{
	changes_name = name;
	changes = json_array();
}

static void
put(const char *kind, const char *key, const char *spec)
{
	add(changes, kind, key, spec);
}

/** Try it in all ways, then have it. */
static void
step(json_t **objects)
{
	json_t *wanted = after(*objects, changes), *before, *passed;
	unsigned n;

	start_anew(*objects);
	before = snapshot();
	CHECK(commit(changes));
	passed = snapshot();
	start_anew(wanted);
	expect_equal(snapshot(), passed, "an engine that had it from the start");
	start_anew(*objects);
	expect_equal(snapshot(), before, "an engine that never had it");

	n = try_each(*objects, changes, before, passed, false);
	start_anew(*objects);
	(void)try_each(*objects, changes, before, passed, true);
	start_anew(*objects);
	try_pool(&hr_blocks, *objects, changes, before, passed);
	try_pool(&hr_guards4, *objects, changes, before, passed);
	try_pool(&hr_guards6, *objects, changes, before, passed);
	CHECK(n > 0);
	if (changes_name != NULL)
		printf("%s: %u requests for memory\n", changes_name, n);
	json_decref(before);
	json_decref(passed);
	json_decref(*objects);
	json_decref(changes);
	*objects = wanted;
}

#define PORT(n) "{'devargs':'net_null" n "','rxQueues':1,'mtu':1500,'mac':'02:00:00:00:01:0" n "'}"
#define SETTINGS(prefix, check)                                                                    \
	"{'idle':'poll','burst':32,'icmpPerSecond':10,'underlayPrefixes':['" prefix "'],"          \
	"'underlaySourceCheck':" check "}"
#define NETWORK(vni, gateways) "{'vni':" vni ",'gateways':[" gateways "]}"
#define UPLINK(port, gateway)                                                                      \
	"{'port':'" port                                                                           \
	"','mtu':1500,'addresses':['fd00:0:0:1::1'],'onLink':['fd00:0:0:9::/64'],"                 \
	"'gateway':'" gateway "','neighbors':[]}"
#define INTERFACE(port, network, underlay, former)                                                 \
	"{'port':'" port "','network':'" network "','addresses':['10.0.0.2','2001:db8::1'],"       \
	"'prefixes':[],'gateways':['10.0.0.1','fe80::1'],'underlay':'" underlay "',"               \
	"'formerUnderlayAddresses':[" former "],'sourceCheck':true,'mtu':1400}"
#define ROUTES(network, routes) "{'network':'" network "','routes':[" routes "]}"

/** Prefixes of every kind: one in the other, one beside the other, of both families. */
#define ROUTES_FIRST                                                                               \
	ROUTES("t/a",                                                                              \
			"['0.0.0.0/0','$1'], ['10.0.0.2/32','$a'], ['10.1.0.0/16','$2',['$C',3]]," \
			"['10.1.2.0/24'], ['10.2.0.0/24','$4'], ['2001:db8::1/128','$a'],"         \
			"['2001:db8:1::/48','$2'], ['2001:db8:1::1/128','$5']")
#define ROUTES_BESIDE ROUTES("t/a", "['172.16.0.1/32','$6'], ['172.16.0.2/32','$6']")
/** Some have gone to another slice or come from one, a cover has gone, others are within and around. */
#define ROUTES_MOVED                                                                               \
	ROUTES("t/a",                                                                              \
			"['10.0.0.2/32','$a'], ['10.1.2.3/32','$7'], ['172.16.0.1/32','$1'],"      \
			"['2001:db8:1:2::/64'], ['2001:db8:1::1/128','$2']")
#define ROUTES_TAKEN                                                                               \
	ROUTES("t/a",                                                                              \
			"['10.0.0.3/32','$1'], ['10.1.0.0/16','$8'], ['10.1.2.0/24','$2'],"        \
			"['10.2.0.7/32'], ['2001:db8::1/128','$a']")
/** From network to network. */
#define ROUTES_OTHER                                                                               \
	ROUTES("t/b",                                                                              \
			"['0.0.0.0/0',{'network':'t/a','weight':1}], ['10.0.0.2/32','$b'],"        \
			"['2001:db8:2::/48','$2','$1']")
#define ROUTES_BACK                                                                                \
	ROUTES("t/a",                                                                              \
			"['172.16.0.0/12','$1'], ['10.0.0.2/32','$a'],"                            \
			"['10.3.0.0/24',{'network':'t/b','weight':1},['$9',2]]")

static void
test_all(void)
{
	/* Settings that are deleted stay in force: there are some from the start. */
	json_t *objects = json_array();

	add(objects, "settings", "engine", SETTINGS("fd00::/40", "false"));
	begin("ports and settings");
	put("port", "p0", PORT("0"));
	put("port", "p1", PORT("1"));
	put("settings", "engine", SETTINGS("fd00::/48", "true"));
	step(&objects);
	begin("a network");
	put("network", "t/a", NETWORK("1", "'10.0.0.1','2001:db8::2'"));
	step(&objects);
	begin("an uplink");
	put("uplink", "u", UPLINK("p0", "fd00:0:0:9::1"));
	step(&objects);
	begin("an interface");
	put("interface", "t/i", INTERFACE("p1", "t/a", "$a", ""));
	step(&objects);
	begin("routes");
	put("routes", "s1", ROUTES_FIRST);
	put("routes", "s2", ROUTES_BESIDE);
	step(&objects);
	begin("routes that move");
	put("routes", "s1", ROUTES_MOVED);
	put("routes", "s2", NULL);
	put("routes", "s3", ROUTES_TAKEN);
	step(&objects);
	begin("all at once");
	put("settings", "engine", SETTINGS("fd00::/56", "false"));
	put("port", "p1", PORT("1"));
	put("port", "p2", PORT("2"));
	put("network", "t/a", NETWORK("3", "'10.0.0.1','10.2.0.1'"));
	put("network", "t/b", NETWORK("2", "'192.168.7.7'"));
	put("uplink", "u", UPLINK("p0", "fd00:0:0:9::2"));
	put("interface", "t/i", INTERFACE("p1", "t/a", "$8", "'$a'"));
	put("interface", "t/j", INTERFACE("p2", "t/b", "$b", ""));
	put("routes", "s1", ROUTES_OTHER);
	put("routes", "s4", ROUTES_BACK);
	step(&objects);
	begin("another interface there, an uplink the less");
	put("interface", "t/i", NULL);
	put("interface", "t/j", INTERFACE("p1", "t/b", "$b", "'$a'"));
	put("uplink", "u", NULL);
	put("port", "p0", NULL);
	put("port", "p2", NULL);
	put("routes", "s4", NULL);
	step(&objects);
	begin("the end");
	put("settings", "engine", NULL);
	put("port", "p1", NULL);
	put("network", "t/a", NULL);
	put("network", "t/b", NULL);
	put("interface", "t/j", NULL);
	put("routes", "s1", NULL);
	put("routes", "s3", NULL);
	step(&objects);
	CHECK(json_array_size(objects) == 0);
	json_decref(objects);
}

/** The same on every machine. */
static unsigned
rnd(unsigned below)
{
	static uint64_t state = 1;

	state = state * 6364136223846793005 + 1442695040888963407;
	return (state >> 33) % below;
}

/** Routes in and around each other come, go, and move between slices and networks. */
static void
test_random_routes(void)
{
	static const char *const prefixes[] = {"0.0.0.0/0", "10.0.0.0/8", "10.0.0.2/32",
			"10.1.0.0/16", "10.1.2.0/24", "10.1.2.0/25", "10.1.2.3/32", "10.1.3.0/32",
			"10.2.0.0/15", "172.16.0.0/12", "172.16.0.1/32", "::/0", "2001:db8::/32",
			"2001:db8:1::/48", "2001:db8:1::1/128", "2001:db8:1:2::/64"};
	enum { SLICES = 4, COMMITS = 24 };
	struct {
		unsigned slice, hop; /* 0: in none, a blackhole */
	} routes[RTE_DIM(prefixes)] = {0};
	json_t *objects = json_array();

	add(objects, "settings", "engine", SETTINGS("fd00::/48", "true"));
	add(objects, "port", "p0", PORT("0"));
	add(objects, "uplink", "u", UPLINK("p0", "fd00:0:0:9::1"));
	add(objects, "network", "t/a", NETWORK("1", ""));
	add(objects, "network", "t/b", NETWORK("2", ""));
	for (unsigned n = 0; n < COMMITS; n++) {
		bool changed[SLICES + 1] = {false};

		begin(NULL);
		for (unsigned change = 1 + rnd(6); change > 0; change--) {
			const unsigned i = rnd(RTE_DIM(routes));

			changed[routes[i].slice] = true;
			routes[i].slice = rnd(SLICES + 1);
			routes[i].hop = rnd(8);
			changed[routes[i].slice] = true;
		}
		for (unsigned slice = 1 + rnd(SLICES), m = 0; m < SLICES;
				m++, slice = slice % SLICES + 1) {
			char spec[2048], key[8];
			size_t at;

			if (!changed[slice])
				continue;
			at = (size_t)snprintf(spec, sizeof(spec), "{'network':'%s','routes':[",
					slice % 2 == 0 ? "t/a" : "t/b");
			for (unsigned i = 0; i < RTE_DIM(routes); i++)
				if (routes[i].slice == slice && routes[i].hop == 0)
					at += (size_t)snprintf(spec + at, sizeof(spec) - at,
							"['%s'],", prefixes[i]);
				else if (routes[i].slice == slice)
					at += (size_t)snprintf(spec + at, sizeof(spec) - at,
							"['%s','$%u'],", prefixes[i],
							routes[i].hop);
			snprintf(key, sizeof(key), "s%u", slice);
			if (spec[at - 1] == '[') {
				put("routes", key, NULL);
				continue;
			}
			snprintf(spec + at - 1, sizeof(spec) - at + 1, "]}");
			put("routes", key, spec);
		}
		if (json_array_size(changes) > 0)
			step(&objects);
		else
			json_decref(changes);
	}
	json_decref(objects);
}

static void
set_up(void)
{
	char prefix[32];
	char *argv[] = {"commit_test", "--no-huge", "--no-shconf", "--no-pci", "-m", "64",
			"--lcores", "0", "--no-telemetry", "--log-level=error", "--file-prefix",
			prefix};
	static const struct hr_rxqs no_queues;
	struct hr_worker *worker = aligned_alloc(64, sizeof(*worker));

	snprintf(prefix, sizeof(prefix), "test-commit-%d", (int)getpid());
	CHECK(rte_eal_init(RTE_DIM(argv), argv) >= 0);
	memory_init();
	hr_pool = rte_pktmbuf_pool_create("packets", 4095, 0, 0, 2048 + RTE_PKTMBUF_HEADROOM,
			SOCKET_ID_ANY);
	CHECK(hr_pool != NULL && worker != NULL);
	CHECK(hr_rcu_init(1) == 0 && hr_adj_init() == 0 && hr_ports_init() == 0);
	memset(worker, 0, sizeof(*worker));
	worker->rxqs = &no_queues;
	for (unsigned port = 0; port < HR_MAX_PORTS; port++)
		worker->txq[port] = HR_TXQ_NONE;
	worker->inject = rte_ring_create("inject", 1024, SOCKET_ID_ANY, RING_F_SC_DEQ);
	CHECK(worker->inject != NULL);
	hr_workers[0] = worker;
	hr_n_workers = 1;
	/* So that tables are built anew among the test's few routes. */
	hr_fib_root16_routes = 10;
	hr_fib_root24_routes = UINT32_MAX;
}

int
main(void)
{
	set_up();
	test_all();
	test_random_routes();
	hr_txn_clear();
	settle();
	CHECK(hr_blocks.used == 0 && hr_guards4.used == 0 && hr_guards6.used == 0);
	hr_ports_close();
	rte_eal_cleanup();
	return 0;
}
