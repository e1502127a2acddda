/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * The control socket, from bytes to objects, with kinds that only write down what happens.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "../control/addr.h"
#include "../control/control_client.h"
#include "../control/map.h"
#include "control_stubs.h"

/** Run the server until it has nothing to do. */
static void
settle(void)
{
	struct pollfd fds = {.fd = hr_server_epoll_fd(), .events = POLLIN};

	while (poll(&fds, 1, 0) > 0)
		hr_server_poll();
}

static bool
is_closed(int fd)
{
	char byte;

	wait_for(fd, POLLIN);
	return recv(fd, &byte, 1, 0) <= 0;
}

static void
expect_log_by(const char *file, int line, const char *log)
{
	if (strcmp(stub_log, log) != 0) {
		fprintf(stderr, "%s:%d:\n is:     %s\n wanted: %s\n", file, line, stub_log, log);
		abort();
	}
	stub_log[0] = '\0';
	CHECK(stub_prepared == 0);
	stub_check_all();
}

/** The stubs were called exactly so since the last time. */
#define expect_log(log) expect_log_by(__FILE__, __LINE__, log)

#define PORT_SPEC "'devargs':'net_null0','rxQueues':1,'mtu':1500"
#define PORT(key, hash) PUT("port", key, hash, PORT_SPEC)
#define NETWORK(key, hash, vni) PUT("network", key, hash, "'vni':" vni ",'gateways':['10.0.0.1']")
#define INTERFACE_SPEC(port, network, underlay)                                                    \
	"'port':'" port "','network':'" network "','addresses':['10.0.0.5'],'prefixes':[],"        \
	"'gateways':['10.0.0.1','fe80::1'],'underlay':'" underlay "','sourceCheck':true,"          \
	"'mtu':1460"
#define INTERFACE(key, hash, port, network, underlay)                                              \
	PUT("interface", key, hash, INTERFACE_SPEC(port, network, underlay))
#define UPLINK_SPEC(port, address)                                                                 \
	"'port':'" port "','mtu':1500,'addresses':['" address "'],'onLink':['fd00::/48']"
#define UPLINK(key, hash, port, address) PUT("uplink", key, hash, UPLINK_SPEC(port, address))
#define ROUTES(key, hash, network, routes)                                                         \
	PUT("routes", key, hash, "'network':'" network "','routes':[" routes "]")

/** What most tests start from: everything once. Ports: p serves t/i, u serves up. */
static const char *const base[] = {
		PUT("settings", "engine", "1", "'idle':'adaptive','burst':64,'icmpPerSecond':1000"),
		PORT("p", "1"),
		PORT("u", "1"),
		NETWORK("t/n", "1", "100"),
		UPLINK("up", "1", "u", "fd00::1"),
		INTERFACE("t/i", "1", "p", "t/n", "fd00::2"),
		ROUTES("s", "1", "t/n", "['10.0.0.0/8','fd00::9']"),
		NULL,
};

static void
set_up(void)
{
	CHECK(hr_server_open(socket_path) == 0);
	control = client_open();
	stub_logs = false;
	expect_ok(commit_all(1, base));
	stub_logs = true;
}

static void
tear_down(void)
{
	stub_logs = false;
	stub_fail_key = NULL;
	stub_log[0] = '\0';
	close(control);
	hr_server_close();
	hr_txn_clear();
	hr_store_set_generation(0);
}

static void
test_addresses(void)
{
	static const char *const same[] = {"0.0.0.0", "10.1.2.3", "255.255.255.255", "::", "::1",
			"2001:db8::1", "2001:db8:0:1:1:1:1:1", "1:2:3:4:5:6:7:8", "fe80::1:0:0:1"};
	static const char *const bad[] = {"", "10.0.0", "10.0.0.01", "10.0.0.256", "10.0.0.1 ",
			" 10.0.0.1", "10.0.0.1/32", "+1.2.3.4", "0x0a.0.0.1", "1.2.3.4.5",
			":::", "fe80::1%eth0", "12345::", "1:2:3:4:5:6:7", "::g", "2001:db8::1::2"};
	static const char *const prefixes[] = {"0.0.0.0/0", "10.0.0.0/8", "10.0.0.1/32", "::/0",
			"2001:db8::/32", "2001:db8::1/128", "fe00::/7"};
	static const char *const bad_prefixes[] = {"10.0.0.0", "10.0.0.0/", "10.0.0.0/33",
			"10.0.0.0/08", "10.0.0.0/+8", "10.0.0.0/-1", "10.0.0.0/8 ", "::/129", "/8",
			"10.0.0.0/8/8", "10.0.0.0/4294967296", "::/0000",
			"1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111/8"};
	static const char *const bad_macs[] = {"", "02:00:00:00:00", "02:00:00:00:00:0",
			"02:00:00:00:00:001", "02-00-00-00-00-01", "02:00:00:00:00:0g",
			"02:00:00:00:00:01:"};
	static const char *const no_hosts[] = {"0.0.0.0", "127.0.0.1", "224.0.0.1", "240.0.0.1",
			"255.255.255.255", "::", "::1", "ff02::1", "::ffff:10.0.0.1"};
	struct rte_ether_addr mac;
	char buf[HR_PREFIX_TEXT];
	struct hr_addr addr, other;
	struct hr_prefix prefix;

	for (size_t i = 0; i < RTE_DIM(same); i++) {
		CHECK(hr_addr_parse(same[i], &addr) == 0);
		CHECK(strcmp(hr_addr_format(&addr, buf), same[i]) == 0);
	}
	for (size_t i = 0; i < RTE_DIM(bad); i++)
		CHECK(hr_addr_parse(bad[i], &addr) == -EINVAL);
	for (size_t i = 0; i < RTE_DIM(prefixes); i++) {
		CHECK(hr_prefix_parse(prefixes[i], &prefix) == 0);
		CHECK(strcmp(hr_prefix_format(&prefix, buf), prefixes[i]) == 0);
	}
	for (size_t i = 0; i < RTE_DIM(bad_prefixes); i++)
		CHECK(hr_prefix_parse(bad_prefixes[i], &prefix) == -EINVAL);
	for (size_t i = 0; i < RTE_DIM(no_hosts); i++)
		CHECK(hr_addr_parse(no_hosts[i], &addr) == 0 && !hr_addr_is_host(&addr));
	CHECK(hr_addr_parse("fe80::1", &addr) == 0 && hr_addr_is_host(&addr));

	CHECK(hr_addr_parse("2001:DB8:0:0:0:0:0:1", &addr) == 0);
	CHECK(strcmp(hr_addr_format(&addr, buf), "2001:db8::1") == 0);
	CHECK(hr_addr_parse("2001:db8::1", &other) == 0 && hr_addr_equal(&addr, &other));
	CHECK(hr_addr_parse("2001:db8::2", &other) == 0 && !hr_addr_equal(&addr, &other));
	CHECK(hr_addr_parse("10.0.0.1", &addr) == 0 && !hr_addr_equal(&addr, &other));
	CHECK(hr_addr_parse("10.0.0.1", &other) == 0 && hr_addr_equal(&addr, &other));
	CHECK(hr_addr_parse("10.0.0.2", &other) == 0 && !hr_addr_equal(&addr, &other));

	CHECK(hr_prefix_parse("10.255.255.255/9", &prefix) == -ERANGE);
	CHECK(strcmp(hr_prefix_format(&prefix, buf), "10.128.0.0/9") == 0);
	CHECK(hr_prefix_parse("2001:db8::1/127", &prefix) == -ERANGE);
	CHECK(strcmp(hr_prefix_format(&prefix, buf), "2001:db8::/127") == 0);

	CHECK(hr_mac_parse("02:aB:cD:eF:00:1f", &mac) == 0);
	CHECK(strcmp(hr_mac_format(&mac, buf), "02:ab:cd:ef:00:1f") == 0);
	for (size_t i = 0; i < RTE_DIM(bad_macs); i++)
		CHECK(hr_mac_parse(bad_macs[i], &mac) == -EINVAL);
}

/** Against a plain array: what is in, and where removal leaves holes in a run of slots. */
static void
test_map(void)
{
	static uint32_t keys[500];
	bool in[RTE_DIM(keys)] = {false};
	struct hr_map map = {0};
	uint32_t random = 1;
	size_t count = 0;

	CHECK(hr_map_get(&map, "a", 1) == NULL);
	hr_map_remove(&map, "a", 1);
	for (unsigned step = 0; step < 20000; step++) {
		unsigned i;

		random = random * 1664525 + 1013904223;
		i = (random >> 8) % RTE_DIM(keys);
		keys[i] = i;
		if (in[i]) {
			hr_map_remove(&map, &keys[i], sizeof(keys[i]));
			count--;
		} else {
			CHECK(hr_map_reserve(&map, count + 1) == 0);
			hr_map_put(&map, &keys[i], sizeof(keys[i]), &keys[i]);
			count++;
		}
		in[i] = !in[i];
		CHECK(map.count == count);
		if (step % 100 == 0) {
			for (uint32_t key = 0; key < RTE_DIM(keys); key++)
				CHECK(hr_map_get(&map, &key, sizeof(key)) ==
						(in[key] ? (void *)&keys[key] : NULL));
		}
	}
	hr_map_free(&map);
}

static void
test_drop_names(void)
{
	CHECK(strcmp(hr_drop_names[HR_DROP_RUNT], "runt") == 0);
	CHECK(strcmp(hr_drop_names[HR_DROP_NO_MBUF], "no_mbuf") == 0);
	for (unsigned i = 0; i < HR_DROP_COUNT; i++) {
		CHECK(hr_drop_names[i] != NULL && hr_drop_texts[i] != NULL);
		for (unsigned j = 0; j < i; j++)
			CHECK(strcmp(hr_drop_names[i], hr_drop_names[j]) != 0);
	}
}

static void
test_socket_file(void)
{
	struct stat stat_buf;
	char path[200];
	int fd;

	CHECK(stat(socket_path, &stat_buf) == 0);
	CHECK(S_ISSOCK(stat_buf.st_mode) && (stat_buf.st_mode & 0777) == 0600);

	/* Someone listens: not to be replaced. */
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	close(control);
	hr_server_close();
	CHECK(access(socket_path, F_OK) != 0);
	memcpy(address.sun_path, socket_path, strlen(socket_path));
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
	CHECK(listen(fd, 1) == 0);
	CHECK(hr_server_open(socket_path) == -EADDRINUSE);
	CHECK(access(socket_path, F_OK) == 0);

	/* No one listens any more. */
	close(fd);
	CHECK(hr_server_open(socket_path) == 0);
	hr_server_close();

	/* No socket at all. */
	fd = open(socket_path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	close(fd);
	CHECK(hr_server_open(socket_path) == -EADDRINUSE);
	CHECK(access(socket_path, F_OK) == 0);
	CHECK(unlink(socket_path) == 0);

	memset(path, 'a', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	CHECK(hr_server_open(path) == -ENAMETOOLONG);
	CHECK(hr_server_open("/nonexistent/socket") == -ENOENT);
	CHECK(hr_server_open(socket_path) == 0);
	control = client_open();
}

static void
test_hello_and_digests(void)
{
	char kinds[] = "[{'name':'settings','references':{}},{'name':'port','references':{}},"
		       "{'name':'network','references':{}},"
		       "{'name':'uplink','references':{'port':'port'}},"
		       "{'name':'interface','references':{'port':'port','network':'network'}},"
		       "{'name':'routes','references':{'network':'network','routes':'network'}}]";
	json_t *reply = call("{'op':'hello'}"), *wanted;

	CHECK(is_ok(reply));
	wanted = json_pack("{s:b, s:i, s:i, s:s}", "ok", 1, "protocol", HR_PROTOCOL, "generation",
			1, "version", "0.0.0");
	json_object_set_new(wanted, "kinds", json_loads(quote(kinds), 0, NULL));
	json_object_set_new(wanted, "features",
			json_pack("[s, s, s, s]", "UnderlaySourceCheck",
					"WaitingPacketsPerNamespace", "SeveralUnderlayPrefixes",
					"DSCPOfNetworks"));
	CHECK(json_equal(reply, wanted));
	json_decref(wanted);
	json_decref(reply);

	reply = call("{'op':'digests'}");
	wanted = json_pack("{s:b, s:i, s:{s:{s:s}, s:{s:s, s:s}, s:{s:s}, s:{s:s}, s:{s:s}, "
			   "s:{s:s}}}",
			"ok", 1, "generation", 1, "digests", "settings", "engine", "1", "port", "p",
			"1", "u", "1", "network", "t/n", "1", "uplink", "up", "1", "interface",
			"t/i", "1", "routes", "s", "1");
	CHECK(json_equal(reply, wanted));
	json_decref(wanted);
	json_decref(reply);
	expect_log("");
}

static void
test_list(void)
{
	static const char *const kinds[] = {
			"port", "network", "uplink", "interface", "routes", "route", "neighbor"};
	json_t *reply;

	for (size_t i = 0; i < RTE_DIM(kinds); i++) {
		reply = call("{'op':'list','kind':'%s'}", kinds[i]);
		CHECK(is_ok(reply));
		CHECK(json_array_size(json_object_get(reply, "items")) == 25);
		CHECK(json_is_null(json_object_get(reply, "next")));
		json_decref(reply);
	}
	reply = call("{'op':'list','kind':'route','cursor':10,'limit':10,'filter':{}}");
	CHECK(is_ok(reply));
	CHECK(json_array_size(json_object_get(reply, "items")) == 10);
	CHECK(json_integer_value(json_object_get(reply, "next")) == 20);
	json_decref(reply);

	expect_refused(call("{'op':'list','kind':'moon'}"), "", "", "kind", "InvalidField");
	expect_refused(call("{'op':'list'}"), "", "", "kind", "MissingField");
	expect_refused(call("{'op':'list','kind':'port','limit':0}"), "", "", "limit",
			"InvalidField");
	expect_refused(call("{'op':'list','kind':'port','cursor':-1}"), "", "", "cursor",
			"InvalidField");
	expect_refused(call("{'op':'list','kind':'port','filter':[]}"), "", "", "filter",
			"InvalidField");
	expect_refused(call("{'op':'list','kind':'port','filter':{'nonsense':'1'}}"), "", "",
			"filter.nonsense", "UnknownField");
	expect_refused(call("{'op':'list','kind':'port','filter':{'name':1}}"), "", "",
			"filter.name", "InvalidField");
	expect_refused(call("{'op':'list','kind':'route','filter':{'name':'a'}}"), "", "",
			"filter.name", "UnknownField");
	expect_ok(call("{'op':'list','kind':'route','filter':{'slice':'a','network':'b'}}"));
	expect_refused(call("{'op':'list','kind':'port','filter':{'huge':'1'}}"), "", "", "",
			"TooLarge");
	expect_ok(call("{'op':'hello'}"));
}

static void
test_requests_refused(void)
{
	expect_refused(call("{'op':'dance'}"), "", "", "op", "InvalidField");
	expect_refused(call("{}"), "", "", "op", "MissingField");
	expect_refused(call("{'op':7}"), "", "", "op", "InvalidField");
	expect_refused(call("[]"), "", "", "", "InvalidField");
	expect_refused(call("{'op':'hello','more':1}"), "", "", "more", "UnknownField");
	expect_refused(call("{'op':'digests','more':1}"), "", "", "more", "UnknownField");
	expect_refused(call("{'op':'commit','generation':2}"), "", "", "objects", "MissingField");
	expect_refused(call("{'op':'commit','objects':[]}"), "", "", "generation", "MissingField");
	expect_refused(call("{'op':'commit','generation':2,'objects':{}}"), "", "", "objects",
			"InvalidField");
	expect_refused(call("{'op':'commit','generation':-1,'objects':[]}"), "", "", "generation",
			"InvalidField");
	expect_refused(commit(2, "7"), "", "", "objects[0]", "InvalidField");
	expect_refused(commit(2, "{'key':'a','delete':true}"), "", "", "objects[0].kind",
			"MissingField");
	expect_refused(commit(2, DELETE("moon", "a")), "", "", "objects[0].kind", "InvalidField");
	expect_refused(commit(2, DELETE("port", "")), "", "", "objects[0].key", "InvalidField");
	expect_refused(commit(2, DELETE("port", "a b")), "", "", "objects[0].key", "InvalidField");
	expect_refused(commit(2, "{'kind':'port','key':'a','delete':false}"), "port", "a", "delete",
			"InvalidField");
	expect_refused(commit(2, "{'kind':'port','key':'a','delete':true,'hash':'1'}"), "port", "a",
			"hash", "UnknownField");
	expect_refused(commit(2, "{'kind':'port','key':'a','hash':'1'}"), "port", "a", "spec",
			"MissingField");
	expect_refused(commit(2, "{'kind':'port','key':'a','spec':{}}"), "port", "a", "hash",
			"MissingField");
	expect_refused(commit(2, "{'kind':'port','key':'a','hash':'1','spec':7}"), "port", "a", "",
			"InvalidField");
	expect_refused(commit(2,
				       PORT("a",
						       "1234567890123456789012345"
						       "6789012345678901234567890"
						       "123456789012345")),
			"port", "a", "hash", "InvalidField");
	expect_refused(commit(2, DELETE("port", "a"), PORT("a", "1")), "port", "a", "",
			"Duplicate");
	expect_refused(commit(2,
				       PUT("settings", "motor", "1",
						       "'idle':'poll','burst':1,"
						       "'icmpPerSecond':0")),
			"settings", "motor", "key", "InvalidField");
	expect_log("");
	CHECK(hr_store_generation() == 1);
}

/** A spec, and the one error it gives. */
struct spec_case {
	const char *kind, *spec, *field, *reason;
};

#define SETTINGS_OK "'idle':'poll','burst':32,'icmpPerSecond':0"
#define I_WITH(replaced) "'port':'p','network':'t/n'," replaced
#define I_REST "'underlay':'fd00::2','sourceCheck':true,'mtu':1460"
#define LISTS "'addresses':[],'prefixes':[],'gateways':[],"
#define R_WITH(routes) "'network':'t/n','routes':[" routes "]"

static const struct spec_case spec_cases[] = {
		{"settings", "'idle':'lazy','burst':64,'icmpPerSecond':0", "idle", "InvalidField"},
		{"settings", "'idle':'poll','burst':65,'icmpPerSecond':0", "burst", "InvalidField"},
		{"settings", "'idle':'poll','burst':0,'icmpPerSecond':0", "burst", "InvalidField"},
		{"settings", "'idle':'poll','burst':1.0,'icmpPerSecond':0", "burst",
				"InvalidField"},
		{"settings", "'idle':'poll','burst':64,'icmpPerSecond':4294967296", "icmpPerSecond",
				"InvalidField"},
		{"settings", "'idle':'poll','burst':64", "icmpPerSecond", "MissingField"},
		{"settings", SETTINGS_OK ",'color':1", "color", "UnknownField"},
		{"settings", SETTINGS_OK ",'waitingPacketsPerNamespace':0",
				"waitingPacketsPerNamespace", "InvalidField"},
		{"settings", SETTINGS_OK ",'waitingPacketsPerNamespace':65537",
				"waitingPacketsPerNamespace", "InvalidField"},
		{"settings", SETTINGS_OK ",'underlayPrefixes':['fd00::/65']", "underlayPrefixes[0]",
				"InvalidField"},
		{"settings", SETTINGS_OK ",'underlayPrefixes':['fd00::/48','::/0']",
				"underlayPrefixes[1]", "InvalidField"},
		{"settings", SETTINGS_OK ",'underlayPrefixes':['10.0.0.0/8']",
				"underlayPrefixes[0]", "InvalidField"},
		{"settings", SETTINGS_OK ",'underlayPrefixes':['fd00::/48','fd00::/48']",
				"underlayPrefixes[1]", "Duplicate"},
		{"settings",
				SETTINGS_OK
				",'underlayPrefixes':['1::/16','2::/16','3::/16','4::/16',"
				"'5::/16','6::/16','7::/16','8::/16','9::/16']",
				"underlayPrefixes", "LimitExceeded"},
		{"settings", SETTINGS_OK ",'underlaySourceCheck':true", "underlaySourceCheck",
				"InvalidField"},
		{"settings",
				SETTINGS_OK
				",'underlayPrefixes':['fd00::/48'],'underlaySourceCheck':1",
				"underlaySourceCheck", "InvalidField"},
		{"port", "'devargs':'','rxQueues':1,'mtu':1500", "devargs", "InvalidField"},
		{"port", "'devargs':'a','rxQueues':65,'mtu':1500", "rxQueues", "InvalidField"},
		{"port", "'devargs':'a','rxQueues':1,'mtu':1279", "mtu", "InvalidField"},
		{"port", "'devargs':'a','rxQueues':1,'mtu':9217", "mtu", "InvalidField"},
		{"port", PORT_SPEC ",'mac':'01:00:00:00:00:01'", "mac", "InvalidField"},
		{"port", PORT_SPEC ",'mac':'00:00:00:00:00:00'", "mac", "InvalidField"},
		{"port", PORT_SPEC ",'mac':null", "mac", "InvalidField"},
		{"port", PORT_SPEC ",'netdev':'sixteen-bytes-xx'", "netdev", "InvalidField"},
		{"port", PORT_SPEC ",'promiscuous':1", "promiscuous", "InvalidField"},
		{"network", "'vni':0,'gateways':[]", "vni", "InvalidField"},
		{"network", "'vni':16777216,'gateways':[]", "vni", "InvalidField"},
		{"network", "'vni':7", "gateways", "MissingField"},
		{"network", "'vni':7,'gateways':'10.0.0.1'", "gateways", "InvalidField"},
		{"network", "'vni':7,'gateways':[],'dscp':64", "dscp", "InvalidField"},
		{"network", "'vni':7,'gateways':[],'dscp':-1", "dscp", "InvalidField"},
		{"network", "'vni':7,'gateways':[],'dscp':null", "dscp", "InvalidField"},
		{"network", "'vni':7,'gateways':['10.0.0.1','10.0.0.256']", "gateways[1]",
				"InvalidField"},
		{"network", "'vni':7,'gateways':['10.0.0.1','::1','10.0.0.2']", "gateways[1]",
				"InvalidField"},
		{"network", "'vni':7,'gateways':['fd00::1','10.0.0.1','fd00:0::1']", "gateways[2]",
				"Duplicate"},
		{"network", "'vni':7,'gateways':[],'endpoints':['10.0.0.1']", "endpoints[0]",
				"InvalidField"},
		{"network",
				"'vni':7,'gateways':[],'endpoints':['fd01::1'],'vxlanEndpoints':"
				"[{'address':'fd01::1','vni':9,'mac':'02:00:00:00:00:09'}]",
				"vxlanEndpoints[0].address", "Duplicate"},
		{"network",
				"'vni':7,'gateways':[],'vxlanEndpoints':"
				"[{'address':'fd01::1','vni':0,'mac':'02:00:00:00:00:09'}]",
				"vxlanEndpoints[0].vni", "InvalidField"},
		{"network", "'vni':7,'gateways':[],'endpoints':['fd01::1','fd01:0::1']",
				"endpoints[1]", "Duplicate"},
		{"uplink", "'port':'u','mtu':1319,'addresses':['fd00::1'],'onLink':[]", "mtu",
				"InvalidField"},
		{"uplink", "'port':'u','mtu':1500,'addresses':[],'onLink':[]", "addresses",
				"InvalidField"},
		{"uplink", "'port':'u','mtu':1500,'addresses':['10.0.0.1'],'onLink':[]",
				"addresses[0]", "InvalidField"},
		{"uplink", "'port':'u','mtu':1500,'addresses':['fe80::1'],'onLink':[]",
				"addresses[0]", "InvalidField"},
		{"uplink", "'port':'u','mtu':1500,'addresses':['fd00::1'],'onLink':['10.0.0.0/8']",
				"onLink[0]", "InvalidField"},
		{"uplink", UPLINK_SPEC("u", "fd00::1") ",'weight':0", "weight", "InvalidField"},
		{"uplink", UPLINK_SPEC("u", "fd00::1") ",'gateway':'ff02::1'", "gateway",
				"InvalidField"},
		{"interface", I_WITH("'addresses':[7],'prefixes':[],'gateways':[]," I_REST),
				"addresses[0]", "InvalidField"},
		{"inte"
		 "rface",
				I_WITH("'addresses':[],'prefixes':['10.0.0.1/8'],"
				       "'gateways':[]," I_REST),
				"prefixes[0]", "InvalidField"},
		{"interface", I_WITH("'addresses':[],'prefixes':[],'gateways':['']," I_REST),
				"gateways[0]", "InvalidField"},
		{"interface", I_WITH(LISTS "'underlay':'fe80::2','sourceCheck':true,'mtu':1460"),
				"underlay", "InvalidField"},
		{"interface", I_WITH(LISTS "'underlay':'fd00::2','sourceCheck':'yes','mtu':1460"),
				"sourceCheck", "InvalidField"},
		{"interface", I_WITH(LISTS "'underlay':'fd00::2','sourceCheck':true"), "mtu",
				"MissingField"},
		{"interface", I_WITH(LISTS I_REST ",'mac':'02:00:00:00:00'"), "mac",
				"InvalidField"},
		{"interface", I_WITH(LISTS I_REST ",'formerUnderlayAddresses':['fe80::1']"),
				"formerUnderlayAddresses[0]", "InvalidField"},
		{"interface",
				I_WITH(LISTS I_REST ",'formerUnderlayAddresses':"
						    "['fd00::a','fd00::b','fd00::c','fd00::d',"
						    "'fd00::e']"),
				"formerUnderlayAddresses", "LimitExceeded"},
		{"routes", R_WITH("7"), "routes[0]", "InvalidField"},
		{"routes", R_WITH("['10.0.0.0/8'],[]"), "routes[1]", "InvalidField"},
		{"routes", R_WITH("['10.0.0.1/8']"), "routes[0][0]", "InvalidField"},
		{"routes", R_WITH("['10.0.0.1']"), "routes[0][0]", "InvalidField"},
		{"routes", R_WITH("['10.0.0.0/8','10.0.0.1']"), "routes[0][1]", "InvalidField"},
		{"routes", R_WITH("['10.0.0.0/8',['fd00::1',0]]"), "routes[0][1]", "InvalidField"},
		{"routes", R_WITH("['10.0.0.0/8',['fd00::1',65536]]"), "routes[0][1]",
				"InvalidField"},
		{"routes", R_WITH("['10.0.0.0/8',['fd00::1']]"), "routes[0][1]", "InvalidField"},
		{"routes", R_WITH("['10.0.0.0/8',['fe80::1',1]]"), "routes[0][1]", "InvalidField"},
		{"routes", R_WITH("['10.0.0.0/8','fd00::1',{'network':'t/n','weight':0}]"),
				"routes[0][2].weight", "InvalidField"},
		{"routes", R_WITH("['10.0.0.0/8',{'network':'t/n','weight':1,'via':1}]"),
				"routes[0][1].via", "UnknownField"},
		{"routes", R_WITH("['::/0'],['0.0.0.0/0'],['::/0']"), "routes", "Duplicate"},
		{"routes",
				R_WITH("['10.0.0.0/8','fd00::1','fd00::1','fd00::1',"
				       "'fd00::1','fd00::1',"
				       "'fd00::1','fd00::1','fd00::1','fd00::1','fd00::1',"
				       "'fd00::1','fd00::1',"
				       "'fd00::1','fd00::1','fd00::1','fd00::1','fd00::1']"),
				"routes[0]", "InvalidField"},
};

static void
test_specs_refused(void)
{
	for (size_t i = 0; i < RTE_DIM(spec_cases); i++) {
		const struct spec_case *c = &spec_cases[i];
		const char *key = strcmp(c->kind, "settings") == 0 ? "engine" : "new";

		expect_refused(call("{'op':'commit','generation':2,'objects':[{'kind':'%s',"
				    "'key':'%s','hash':'2','spec':{%s}}]}",
					       c->kind, key, c->spec),
				c->kind, key, c->field, c->reason);
	}
	expect_log("");
	CHECK(hr_store_generation() == 1);
}

/** Lists one longer than they may be. */
static void
test_long_lists_refused(void)
{
	char list[4096] = "";
	size_t n = 0;

	for (unsigned i = 0; i < HR_MAX_ADDRESSES + 1; i++)
		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s'10.0.1.%u'", i > 0 ? "," : "",
				i);
	expect_refused(call("{'op':'commit','generation':2,'objects':[{'kind':'interface',"
			    "'key':'new','hash':'1','spec':{'port':'p','network':'t/n',"
			    "'addresses':[%s],'prefixes':[],'gateways':[]," I_REST "}}]}",
				       list),
			"interface", "new", "addresses", "LimitExceeded");
	expect_log("");
}

/** Names of next-hop networks are kept once each, and so many at most. */
static void
test_next_hop_networks(void)
{
	json_t *routes = json_array();
	json_t *spec = json_pack("{s:s, s:o}", "network", "t/n", "routes", routes);
	struct hr_errors errors = {0};
	struct hr_routes_spec *parsed;

	/* Two routes through each network. */
	for (unsigned i = 0; i < 2 * HR_MAX_NETWORKS; i++) {
		char prefix[HR_PREFIX_TEXT], network[32];

		snprintf(prefix, sizeof(prefix), "10.%u.%u.0/24", i / 256, i % 256);
		snprintf(network, sizeof(network), "t/%u", i % HR_MAX_NETWORKS);
		json_array_append_new(routes,
				json_pack("[s, {s:s, s:i}]", prefix, "network", network, "weight",
						1));
	}
	parsed = hr_routes_kind.parse(spec, &errors);
	CHECK(parsed != NULL && errors.count == 0);
	CHECK(parsed->n_routes == 2 * HR_MAX_NETWORKS && parsed->n_networks == HR_MAX_NETWORKS);
	for (unsigned i = 0; i < 2 * HR_MAX_NETWORKS; i++) {
		const struct hr_next_hop *hop = &parsed->next_hops[parsed->routes[i].first];
		char network[32];

		snprintf(network, sizeof(network), "t/%u", i % HR_MAX_NETWORKS);
		CHECK(strcmp(parsed->networks[hop->network], network) == 0);
	}
	hr_routes_kind.free_spec(parsed);

	json_array_append_new(routes,
			json_pack("[s, {s:s, s:i}]", "::/0", "network", "t/more", "weight", 1));
	CHECK(hr_routes_kind.parse(spec, &errors) == NULL && errors.count == 1);
	CHECK(strcmp(error_field(json_array_get(errors.list, 0), "reason"), "LimitExceeded") == 0);
	json_decref(errors.list);
	json_decref(spec);
}

/** Every field of every kind arrives. */
static void
test_specs_parsed(void)
{
	const struct hr_settings_spec *settings;
	const struct hr_port_spec *port;
	const struct hr_network_spec *network;
	const struct hr_uplink_spec *uplink;
	const struct hr_interface_spec *interface;
	const struct hr_routes_spec *routes;
	const struct hr_next_hop *hop;
	struct hr_prefix prefix;
	char buf[HR_PREFIX_TEXT];

	expect_ok(commit(2,
			PUT("settings", "engine", "2",
					"'idle':'poll','burst':8,'icmpPerSecond':9,"
					"'underlayPrefixes':['fd00::/48','fd08::/32'],"
					"'underlaySourceCheck':true,"
					"'waitingPacketsPerNamespace':65536"),
			PUT("port", "p", "2",
					"'devargs':'0000:3b:02.1','rxQueues':4,'mtu':9216,"
					"'mac':'02:00:00:00:00:01','netdev':'tap-1',"
					"'promiscuous':true"),
			PUT("network", "t/n", "2",
					"'vni':16777215,'gateways':['10.0.0.1','fd01::1'],"
					"'endpoints':['fd09::1','fd09::2'],'dscp':63,"
					"'vxlanEndpoints':[{'address':'fd09::3','vni':9,"
					"'mac':'02:00:00:00:00:09'}]"),
			PUT("uplink", "up", "2",
					"'port':'u','mtu':1320,'addresses':['fd00::1','fd00::7'],"
					"'onLink':['fd00::/48','::/0'],'gateway':'fe80::9'"),
			PUT("interface", "t/i", "2",
					"'port':'p','network':'t/n','addresses':"
					"['10.0.0.5','fd01::5'],'prefixes':['10.50.0.0/24',"
					"'fd02::/64'],"
					"'gateways':['10.0.0.1','fe80::1'],"
					"'mac':'02:00:00:00:00:05',"
					"'underlay':'fd00::2','sourceCheck':false,'mtu':1280,"
					"'formerUnderlayAddresses':['fd00::3','fd00::4']"),
			ROUTES("s", "2", "t/n",
					"['fd02::/64'],['10.1.0.0/16',['fd00::6',3],"
					"{'network':'t/n','weight':2},'fd00::5'],"
					"['10.0.0.0/8','fd00::5'],['10.0.0.0/7']")));

	settings = hr_store_get(&hr_settings_kind, "engine")->spec;
	CHECK(!settings->adaptive && settings->burst == 8 && settings->icmp_per_second == 9);
	CHECK(settings->n_underlay_prefixes == 2 && settings->underlay_source_check);
	CHECK(settings->waiting_max == 65536);
	CHECK(strcmp(hr_prefix_format(&settings->underlay_prefixes[0], buf), "fd00::/48") == 0);
	CHECK(strcmp(hr_prefix_format(&settings->underlay_prefixes[1], buf), "fd08::/32") == 0);

	port = hr_store_get(&hr_port_kind, "p")->spec;
	CHECK(strcmp(port->devargs, "0000:3b:02.1") == 0 && strcmp(port->netdev, "tap-1") == 0);
	CHECK(port->rx_queues == 4 && port->mtu == 9216 && port->promiscuous && port->has_mac);
	CHECK(strcmp(hr_mac_format(&port->mac, buf), "02:00:00:00:00:01") == 0);
	port = hr_store_get(&hr_port_kind, "u")->spec;
	CHECK(!port->has_mac && !port->promiscuous && port->netdev[0] == '\0');

	network = hr_store_get(&hr_network_kind, "t/n")->spec;
	CHECK(network->vni == HR_VNI_MAX && network->n_gateways == 2);
	CHECK(strcmp(hr_addr_format(&network->gateways[1], buf), "fd01::1") == 0);
	CHECK(network->n_endpoints == 3 && network->dscp == 63);
	CHECK(strcmp(hr_ip6_format(&network->endpoints[1].address, buf), "fd09::2") == 0);
	CHECK(network->endpoints[1].vxlan.vni == 0 && network->endpoints[2].vxlan.vni == 9);

	uplink = hr_store_get(&hr_uplink_kind, "up")->spec;
	CHECK(strcmp(uplink->port, "u") == 0 && uplink->mtu == 1320);
	CHECK(uplink->n_addresses == 2 && uplink->n_on_link == 2 && uplink->has_gateway);
	CHECK(strcmp(hr_ip6_format(&uplink->addresses[1], buf), "fd00::7") == 0);
	CHECK(strcmp(hr_prefix_format(&uplink->on_link[0], buf), "fd00::/48") == 0);
	CHECK(strcmp(hr_ip6_format(&uplink->gateway, buf), "fe80::9") == 0);

	interface = hr_store_get(&hr_interface_kind, "t/i")->spec;
	CHECK(strcmp(interface->port, "p") == 0 && strcmp(interface->network, "t/n") == 0);
	CHECK(interface->n_addresses == 2 && interface->n_prefixes == 2);
	CHECK(interface->n_gateways == 2 && interface->mtu == 1280 && !interface->source_check);
	CHECK(strcmp(hr_addr_format(&interface->addresses[0], buf), "10.0.0.5") == 0);
	CHECK(strcmp(hr_prefix_format(&interface->prefixes[1], buf), "fd02::/64") == 0);
	CHECK(strcmp(hr_addr_format(&interface->gateways[1], buf), "fe80::1") == 0);
	CHECK(strcmp(hr_ip6_format(&interface->underlay, buf), "fd00::2") == 0);
	CHECK(interface->n_former == 2);
	CHECK(strcmp(hr_ip6_format(&interface->former[1], buf), "fd00::4") == 0);
	CHECK(interface->has_mac);
	CHECK(strcmp(hr_mac_format(&interface->mac, buf), "02:00:00:00:00:05") == 0);

	routes = hr_store_get(&hr_routes_kind, "s")->spec;
	CHECK(strcmp(routes->network, "t/n") == 0);
	CHECK(routes->n_routes == 4 && routes->n_next_hops == 4 && routes->n_networks == 1);
	prefix = hr_route_prefix(&routes->routes[0]);
	CHECK(strcmp(hr_prefix_format(&prefix, buf), "10.0.0.0/7") == 0);
	CHECK(routes->routes[0].n == 0);
	prefix = hr_route_prefix(&routes->routes[1]);
	CHECK(strcmp(hr_prefix_format(&prefix, buf), "10.0.0.0/8") == 0);
	CHECK(routes->routes[1].n == 1);
	prefix = hr_route_prefix(&routes->routes[2]);
	CHECK(strcmp(hr_prefix_format(&prefix, buf), "10.1.0.0/16") == 0);
	CHECK(routes->routes[2].n == 3);
	hop = &routes->next_hops[routes->routes[2].first];
	CHECK(hop[0].type == HR_NH_UNDERLAY && hop[0].weight == 3);
	CHECK(strcmp(hr_ip6_format(&hop[0].underlay, buf), "fd00::6") == 0);
	CHECK(hop[1].type == HR_NH_NETWORK && hop[1].weight == 2 && hop[1].network == 0);
	CHECK(strcmp(routes->networks[0], "t/n") == 0);
	CHECK(hop[2].type == HR_NH_UNDERLAY && hop[2].weight == 1);
	prefix = hr_route_prefix(&routes->routes[3]);
	CHECK(strcmp(hr_prefix_format(&prefix, buf), "fd02::/64") == 0);
	CHECK(sizeof(struct hr_route_spec) == 24 && sizeof(struct hr_next_hop) == 20);
}

static void
test_references(void)
{
	json_t *reply;

	expect_refused(commit(2, INTERFACE("t/j", "1", "q", "t/n", "fd00::3")), "interface", "t/j",
			"port", "UnknownReference");
	expect_refused(commit(2, PORT("q", "1"), INTERFACE("t/j", "1", "q", "t/m", "fd00::3")),
			"interface", "t/j", "network", "UnknownReference");
	expect_refused(commit(2, UPLINK("up2", "1", "q", "fd00::3")), "uplink", "up2", "port",
			"UnknownReference");
	expect_refused(commit(2, ROUTES("s2", "1", "t/m", "")), "routes", "s2", "network",
			"UnknownReference");
	expect_refused(commit(2, ROUTES("s2", "1", "t/n", "['::/0',{'network':'t/m','weight':1}]")),
			"routes", "s2", "routes", "UnknownReference");

	/* Deleted, but named by what stays: said once, of what would go. */
	expect_refused(commit(2, DELETE("port", "p")), "port", "p", "", "InUse");
	expect_refused(commit(2, DELETE("port", "u")), "port", "u", "", "InUse");
	expect_refused(commit(2, DELETE("network", "t/n")), "network", "t/n", "", "InUse");
	/* Unchanged counts as staying. */
	expect_refused(commit(2, DELETE("port", "p"), INTERFACE("t/i", "1", "p", "t/n", "fd00::2")),
			"port", "p", "", "InUse");
	/* Named by what changes: said of that. */
	expect_refused(commit(2, DELETE("port", "p"), INTERFACE("t/i", "2", "p", "t/n", "fd00::2")),
			"interface", "t/i", "port", "UnknownReference");

	/* All of them at once. */
	reply = commit(2, INTERFACE("t/j", "1", "q", "t/m", "fd00::3"),
			UPLINK("up2", "1", "q2", "fd00::4"), DELETE("network", "t/n"));
	CHECK(count_errors(reply) == 4);
	CHECK(has_error(reply, "interface", "t/j", "port", "UnknownReference"));
	CHECK(has_error(reply, "interface", "t/j", "network", "UnknownReference"));
	CHECK(has_error(reply, "uplink", "up2", "port", "UnknownReference"));
	CHECK(has_error(reply, "network", "t/n", "", "InUse"));
	json_decref(reply);
	expect_log("");
	CHECK(hr_store_generation() == 1);
}

static void
test_conflicts(void)
{
	expect_refused(commit(2, NETWORK("t/m", "1", "100")), "network", "t/m", "vni", "Conflict");
	expect_refused(commit(2, INTERFACE("t/j", "1", "p", "t/n", "fd00::3")), "interface", "t/j",
			"port", "Conflict");
	expect_refused(commit(2, INTERFACE("t/j", "1", "u", "t/n", "fd00::3")), "interface", "t/j",
			"port", "Conflict");
	expect_refused(commit(2, UPLINK("up2", "1", "p", "fd00::3")), "uplink", "up2", "port",
			"Conflict");
	expect_refused(commit(2, PORT("q", "1"), INTERFACE("t/j", "1", "q", "t/n", "fd00::2")),
			"interface", "t/j", "underlay", "Conflict");
	expect_refused(commit(2, PORT("q", "1"), INTERFACE("t/j", "1", "q", "t/n", "fd00::1")),
			"interface", "t/j", "underlay", "Conflict");
	expect_refused(commit(2, PORT("q", "1"),
				       PUT("interface", "t/j", "1",
						       INTERFACE_SPEC("q", "t/n",
								       "fd00::3") ",'formerUnderlayAddresses':['fd00::2']")),
			"interface", "t/j", "formerUnderlayAddresses[0]", "Conflict");
	expect_refused(commit(2, PORT("q", "1"), UPLINK("up2", "1", "q", "fd00::2")), "uplink",
			"up2", "addresses[0]", "Conflict");
	expect_refused(commit(2, NETWORK("t/m", "1", "7"), NETWORK("t/o", "1", "7")), "network",
			"t/o", "vni", "Conflict");
	expect_log("");

	/* What is given up in the same transaction is free. */
	expect_ok(commit(2, PORT("q", "1"), INTERFACE("t/j", "1", "p", "t/n", "fd00::2"),
			INTERFACE("t/i", "2", "q", "t/n", "fd00::3")));
	expect_ok(commit(3, NETWORK("t/m", "1", "100"), NETWORK("t/n", "2", "101")));
}

static void
test_limits(void)
{
	json_t *objects = json_array(), *routes = json_array(), *spec;
	struct hr_errors errors = {0};
	char key[32];
	size_t n_slices = HR_MAX_ROUTES / 62500;

	/* The base has two ports. */
	for (unsigned i = 0; i < HR_MAX_PORTS - 1; i++) {
		snprintf(key, sizeof(key), "extra%u", i);
		json_array_append_new(objects,
				json_pack("{s:s, s:s, s:s, s:{s:s, s:i, s:i}}", "kind", "port",
						"key", key, "hash", "1", "spec", "devargs", "a",
						"rxQueues", 1, "mtu", 1500));
	}
	CHECK(hr_txn_commit(objects, 2, &errors) != 0 && errors.count == 1);
	CHECK(strcmp(error_field(json_array_get(errors.list, 0), "reason"), "LimitExceeded") == 0);
	CHECK(strcmp(error_field(json_array_get(errors.list, 0), "key"), key) == 0);
	json_decref(errors.list);
	errors = (struct hr_errors){0};
	json_array_remove(objects, 0);
	CHECK(hr_txn_commit(objects, 2, &errors) == 0);
	json_decref(objects);

	/* The base has one route. The slices share one spec. */
	for (unsigned i = 0; i < 62500; i++) {
		snprintf(text, sizeof(text), "10.%u.%u.0/24", i / 256, i % 256);
		json_array_append_new(routes, json_pack("[s]", text));
	}
	spec = json_pack("{s:s, s:o}", "network", "t/n", "routes", routes);
	objects = json_array();
	for (size_t i = 0; i < n_slices; i++) {
		snprintf(key, sizeof(key), "slice%zu", i);
		json_array_append_new(objects,
				json_pack("{s:s, s:s, s:s, s:O}", "kind", "routes", "key", key,
						"hash", "1", "spec", spec));
	}
	CHECK(hr_txn_commit(objects, 3, &errors) != 0 && errors.count == 1);
	CHECK(strcmp(error_field(json_array_get(errors.list, 0), "reason"), "LimitExceeded") == 0);
	CHECK(strcmp(error_field(json_array_get(errors.list, 0), "key"), key) == 0);
	json_decref(errors.list);
	json_decref(objects);

	/* Routes of one object. */
	for (unsigned i = 0; i < HR_SLICE_ROUTES_MAX + 1 - 62500; i++) {
		snprintf(text, sizeof(text), "11.%u.%u.0/24", i / 256, i % 256);
		json_array_append_new(routes, json_pack("[s]", text));
	}
	errors = (struct hr_errors){0};
	CHECK(hr_routes_kind.parse(spec, &errors) == NULL && errors.count == 1);
	CHECK(strcmp(error_field(json_array_get(errors.list, 0), "field"), "routes") == 0);
	json_decref(errors.list);
	json_decref(spec);
	CHECK(hr_store_generation() == 2 && hr_store_count(&hr_routes_kind) == 1);
}

static void
test_many_errors(void)
{
	struct hr_errors errors = {0};
	json_t *objects = json_array();

	for (unsigned i = 0; i < 3 * HR_ERRORS_MAX; i++)
		json_array_append_new(objects, json_integer(7));
	CHECK(hr_txn_commit(objects, 2, &errors) != 0);
	CHECK(errors.count == 3 * HR_ERRORS_MAX);
	CHECK(json_array_size(errors.list) == HR_ERRORS_MAX);
	json_decref(errors.list);
	json_decref(objects);
}

static void
test_order(void)
{
	expect_ok(commit(2, ROUTES("s2", "1", "t/m", "['::/0',{'network':'t/n','weight':1}]"),
			INTERFACE("t/j", "1", "q", "t/m", "fd00::3"), NETWORK("t/m", "1", "7"),
			PORT("q", "1")));
	expect_log("prepare port/q, prepare network/t/m, prepare interface/t/j, prepare routes/s2, "
		   "create port/q, create network/t/m, create interface/t/j, create routes/s2");

	/* Replaced, unchanged and absent. */
	expect_ok(commit(3, NETWORK("t/m", "2", "8"), PORT("q", "1"), DELETE("port", "none")));
	expect_log("prepare network/t/m, replace network/t/m");

	/* What moves off a port or network that goes has left before it goes. */
	expect_ok(commit(4, DELETE("port", "q"), DELETE("network", "t/m"), DELETE("routes", "s2"),
			PORT("r", "1"), INTERFACE("t/j", "2", "r", "t/n", "fd00::3")));
	expect_log("prepare port/r, prepare interface/t/j, remove routes/s2, create port/r, "
		   "replace interface/t/j, remove network/t/m, remove port/q");

	expect_ok(commit(5, DELETE("port", "r"), DELETE("interface", "t/j")));
	expect_log("remove interface/t/j, remove port/r");
	CHECK(hr_store_generation() == 5);

	hr_txn_clear();
	expect_log("remove routes/s, remove interface/t/i, remove uplink/up, remove network/t/n, "
		   "remove port/u, remove port/p, remove settings/engine");
}

static void
test_port_replaced(void)
{
	const struct hr_interface_spec *interface = hr_store_get(&hr_interface_kind, "t/i")->spec;

	expect_ok(commit(2, PORT("p", "2")));
	expect_log("prepare port/p, prepare interface/t/i, replace port/p, reapply interface/t/i");
	CHECK(hr_store_get(&hr_interface_kind, "t/i")->spec == interface);

	expect_ok(commit(3, PORT("u", "2"), UPLINK("up", "1", "u", "fd00::1")));
	expect_log("prepare port/u, prepare uplink/up, replace port/u, reapply uplink/up");
	CHECK(strcmp(hr_store_get(&hr_uplink_kind, "up")->hash, "1") == 0);

	/* Put or deleted anyway. */
	expect_ok(commit(4, PORT("p", "3"), INTERFACE("t/i", "2", "p", "t/n", "fd00::2")));
	expect_log("prepare port/p, prepare interface/t/i, replace port/p, replace interface/t/i");
	expect_ok(commit(5, PORT("p", "4"), DELETE("interface", "t/i")));
	expect_log("prepare port/p, remove interface/t/i, replace port/p");

	/* A failure leaves the dependant's spec alone. */
	stub_fail_key = "up";
	expect_refused(commit(6, PORT("u", "3")), "uplink", "up", "devargs", "PortFailed");
	expect_log("prepare port/u, prepare uplink/up, abort port/u");
}

static void
test_atomicity(void)
{
	json_t *before = call("{'op':'digests'}"), *after, *reply;

	stub_fail_key = "c";
	expect_refused(commit(2, PORT("a", "1"), PORT("p", "2"), PORT("c", "1"), PORT("d", "1"),
				       NETWORK("t/m", "1", "7"), DELETE("routes", "s")),
			"port", "c", "devargs", "PortFailed");
	expect_log("prepare port/a, prepare port/p, prepare port/c, prepare port/d, "
		   "abort port/d, abort port/p, abort port/a");

	/* A later kind fails: earlier kinds are aborted last. */
	stub_fail_key = "t/n";
	expect_refused(commit(2, NETWORK("t/n", "2", "7"), PORT("a", "1"), PORT("b", "1")),
			"network", "t/n", "devargs", "PortFailed");
	expect_log("prepare port/a, prepare port/b, prepare network/t/n, abort port/b, "
		   "abort port/a");

	/* No reason given: two objects, each named. */
	stub_fail_key = "silent";
	reply = commit(2, PORT("a", "1"), PORT("b", "1"));
	CHECK(count_errors(reply) == 2 && has_error(reply, "port", "a", "", "PrepareFailed") &&
			has_error(reply, "port", "b", "", "PrepareFailed"));
	json_decref(reply);
	expect_log("prepare port/a, prepare port/b");

	after = call("{'op':'digests'}");
	CHECK(json_equal(before, after));
	json_decref(before);
	json_decref(after);
}

/** One byte at a time, and two requests at once. */
static void
test_framing(void)
{
	static const char hello[] = "\0\0\0\016{\"op\":\"hello\"}";
	char both[2 * (sizeof(hello) - 1)];

	for (size_t i = 0; i < sizeof(hello) - 1; i++) {
		CHECK(send_all(control, hello + i, 1));
		settle();
	}
	expect_ok(receive_reply(control));

	memcpy(both, hello, sizeof(hello) - 1);
	memcpy(both + sizeof(hello) - 1, hello, sizeof(hello) - 1);
	CHECK(send_all(control, both, sizeof(both)));
	expect_ok(receive_reply(control));
	expect_ok(receive_reply(control));

	/* No more to send, but to be answered. */
	CHECK(send_all(control, both, sizeof(both)));
	CHECK(shutdown(control, SHUT_WR) == 0);
	expect_ok(receive_reply(control));
	expect_ok(receive_reply(control));
	CHECK(is_closed(control));
}

static void
test_bad_messages(void)
{
	static const char *const bad[] = {"", "{", "{\"op\":\"hello\"} ,", "\xff",
			"{\"op\":\"hello\",\"op\":\"hello\"}", "{\"op\":\"a\\u0000b\"}"};
	char *brackets = malloc(3 * 1000000 + 1);
	json_t *reply;
	int fd;

	for (size_t i = 0; i < RTE_DIM(bad); i++) {
		fd = client_open();
		expect_refused(call_text(fd, bad[i]), "", "", "", "InvalidRequest");
		CHECK(is_closed(fd));
		close(fd);
	}

	/* Too long: refused at the length, whatever follows. */
	fd = client_open();
	CHECK(send_length(fd, HR_MESSAGE_MAX + 1));
	expect_refused(receive_reply(fd), "", "", "", "TooLarge");
	CHECK(is_closed(fd));
	close(fd);

	/* Long, but within bounds. */
	fd = client_open();
	CHECK(send_length(fd, HR_MESSAGE_MAX));
	for (size_t sent = 0; sent < HR_MESSAGE_MAX; sent += sizeof(text)) {
		memset(text, ' ', sizeof(text));
		if (sent == 0)
			memcpy(text, "{\"op\":\"hello\"}", 14);
		CHECK(send_all(fd, text, sizeof(text)));
	}
	expect_ok(receive_reply(fd));

	/* Short, but huge once parsed. */
	brackets[0] = '[';
	for (size_t i = 0; i < 1000000; i++)
		memcpy(brackets + 1 + 3 * i, "[],", 3);
	brackets[3 * 1000000] = ']';
	CHECK(send_length(fd, 3 * 1000000 + 1));
	CHECK(send_all(fd, brackets, 3 * 1000000 + 1));
	reply = receive_reply(fd);
	expect_refused(reply, "", "", "", "InvalidRequest");
	CHECK(is_closed(fd));
	close(fd);
	free(brackets);

	/* Gone in the middle of a message. */
	fd = client_open();
	CHECK(send_length(fd, 100) && send_all(fd, "{", 1));
	close(fd);
	settle();
	expect_ok(call("{'op':'hello'}"));
}

/** Clients that send half a message, or read nothing, keep no one else waiting. */
static void
test_slow_clients(void)
{
	int half = client_open(), deaf = client_open();
	static const char list[] = "{\"op\":\"digests\"}";
	unsigned answered = 0;
	json_t *reply;

	CHECK(send_length(half, 1000) && send_all(half, "{", 1));
	/* Requests until no more go in: replies are not read, so requests are not either. */
	for (unsigned i = 0; i < 100000; i++) {
		char message[4 + sizeof(list) - 1] = {0, 0, 0, sizeof(list) - 1};

		memcpy(message + 4, list, sizeof(list) - 1);
		if (send(deaf, message, sizeof(message), MSG_NOSIGNAL) < (ssize_t)sizeof(message))
			break;
		settle();
		answered++;
	}
	CHECK(answered > 0 && answered < 100000);
	expect_ok(call("{'op':'hello'}"));
	for (; answered > 0; answered--) {
		reply = receive_reply(deaf);
		CHECK(is_ok(reply));
		json_decref(reply);
	}
	close(half);
	close(deaf);
}

static void
test_too_many_clients(void)
{
	int fds[HR_CLIENTS_MAX], extra;

	for (unsigned i = 0; i < HR_CLIENTS_MAX - 1; i++) {
		fds[i] = client_open();
		expect_ok(call_text(fds[i], "{\"op\":\"hello\"}"));
	}
	extra = client_open();
	expect_refused(receive_reply(extra), "", "", "", "TooManyClients");
	CHECK(is_closed(extra));
	close(extra);
	expect_ok(call("{'op':'hello'}"));
	close(fds[0]);
	settle();
	fds[0] = client_open();
	expect_ok(call_text(fds[0], "{\"op\":\"hello\"}"));
	for (unsigned i = 0; i < HR_CLIENTS_MAX - 1; i++)
		close(fds[i]);
}

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/** 100,000 routes in 391 slices in one commit, then one object more. Times are printed only. */
static void
test_many_routes(void)
{
	size_t room = HR_MESSAGE_MAX, n = 0;
	char *message = malloc(room);
	unsigned n_routes = 0;
	double start;

	stub_logs = false;
	n += (size_t)snprintf(message, room, "{'op':'commit','generation':2,'objects':[");
	for (unsigned slice = 0; slice < 391; slice++) {
		n += (size_t)snprintf(message + n, room - n,
				"%s{'kind':'routes','key':'slice%u','hash':'0123456789abcdef',"
				"'spec':{'network':'t/n','routes':[",
				slice > 0 ? "," : "", slice);
		for (unsigned i = 0; i < 256 && n_routes < 100000; i++, n_routes++)
			n += (size_t)snprintf(message + n, room - n,
					"%s['2001:db8:%x:%x::/64','fd00:1:0:%x::%x']",
					i > 0 ? "," : "", n_routes >> 16, n_routes & 0xffff,
					n_routes % 500, n_routes % 61 + 2);
		n += (size_t)snprintf(message + n, room - n, "]}}");
	}
	n += (size_t)snprintf(message + n, room - n, "]}");
	CHECK(n < room);
	quote(message);

	start = seconds();
	expect_ok(call_text(control, message));
	printf("100,000 routes (%.1f MB) in one commit: %.0f ms\n", (double)n / 1e6,
			(seconds() - start) * 1e3);
	CHECK(hr_store_count(&hr_routes_kind) == 392 && hr_store_generation() == 2);

	start = seconds();
	expect_ok(commit(3, ROUTES("one", "1", "t/n", "['::/0']")));
	printf("one object more: %.2f ms\n", (seconds() - start) * 1e3);

	start = seconds();
	expect_ok(call_text(control, message));
	printf("all again, unchanged: %.0f ms\n", (seconds() - start) * 1e3);
	free(message);
	stub_check_all();
}

int
main(void)
{
	static void (*const tests[])(void) = {
			test_socket_file,
			test_hello_and_digests,
			test_list,
			test_requests_refused,
			test_specs_refused,
			test_long_lists_refused,
			test_next_hop_networks,
			test_specs_parsed,
			test_references,
			test_conflicts,
			test_limits,
			test_many_errors,
			test_order,
			test_port_replaced,
			test_atomicity,
			test_framing,
			test_bad_messages,
			test_slow_clients,
			test_too_many_clients,
			test_many_routes,
	};

	snprintf(socket_path, sizeof(socket_path), "/tmp/headrace-test-control-%d", (int)getpid());
	stub_kinds();
	test_addresses();
	test_map();
	test_drop_names();
	for (size_t i = 0; i < RTE_DIM(tests); i++) {
		set_up();
		tests[i]();
		tear_down();
	}
	CHECK(access(socket_path, F_OK) != 0);
	return 0;
}
