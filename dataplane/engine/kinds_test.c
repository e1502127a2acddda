/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * A kind of object is one file: kinds/toy_kind.c beside the engine's own kinds, which do here what they
 * do in the engine. All of it through the control socket and the telemetry socket.
 */
#include <unistd.h>

#include <rte_eal.h>

#include "control/control_client.h"
#include "control/list.h"
#include "control/store.h"
#include "control/txn.h"
#include "control/values.h"
#include "rcu.h"
#include "table/adj.h"
#include "telemetry.h"
#include "tests/main.h"

/* box/NAME has one toy, and no other box has that: what it takes to refer to a new kind. */

struct box_spec {
	char toy[HR_NAME_MAX];
};

extern struct hr_kind toy_kind;
static unsigned boxes_applied;

static void *
box_parse(const json_t *json, struct hr_errors *errors)
{
	struct hr_reader reader;
	struct box_spec *spec = hr_spec_begin(&reader, json, sizeof(*spec), errors);

	if (spec == NULL)
		return NULL;
	hr_read_text(&reader, "toy", spec->toy, sizeof(spec->toy));
	return hr_spec_end(&reader, spec);
}

static const char *
box_toy(const void *spec, uint32_t i)
{
	return i == 0 ? ((const struct box_spec *)spec)->toy : NULL;
}

/** What a box has is there before it, and after it. */
static void
box_remove(struct hr_object *object)
{
	CHECK(hr_store_get(&toy_kind, box_toy(object->spec, 0)) != NULL);
}

static void
box_apply(struct hr_object *object, void *old_spec, void *prepared)
{
	CHECK(prepared == NULL);
	CHECK(hr_store_get(&toy_kind, box_toy(object->spec, 0)) != NULL);
	/* What it had until now goes after it has been told. */
	CHECK(old_spec == NULL || hr_store_get(&toy_kind, box_toy(old_spec, 0)) != NULL);
	boxes_applied++;
}

static struct hr_kind box_kind = {
		.name = "box",
		.plural = "boxes",
		.order = 70,
		.parse = box_parse,
		.free_spec = free,
		.references = {{.field = "toy",
				.kind = &toy_kind,
				.name = box_toy,
				.is_exclusive = true}},
		.apply = box_apply,
		.remove = box_remove,
};
HR_KIND_REGISTER(box_kind);

static char directory[] = "/tmp/headrace-test-kinds-XXXXXX";

#define NETWORK(key, hash, vni) PUT("network", key, hash, "'vni':" vni ",'gateways':[]")
#define TOY(key, hash, network, number)                                                            \
	PUT("toy", key, hash, "'network':'" network "','number':" number)
#define BOX(key, hash, toy) PUT("box", key, hash, "'toy':'" toy "'")

/** The reply to a telemetry command. It comes from a thread of DPDK's. */
static json_t *
ask_telemetry(const char *command)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	static char reply[65536];
	struct pollfd readable = {.fd = fd, .events = POLLIN};
	json_t *json, *answer;
	ssize_t n = 0;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/dpdk_telemetry.v2",
			rte_eal_get_runtime_dir());
	CHECK(connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
	/* A greeting comes first. */
	for (unsigned i = 0; i < 2; i++) {
		CHECK(poll(&readable, 1, PATIENCE_MS) == 1);
		n = recv(fd, reply, sizeof(reply), 0);
		CHECK(n > 0);
		if (i == 0)
			CHECK(send(fd, command, strlen(command), 0) > 0);
	}
	close(fd);
	json = json_loadb(reply, (size_t)n, 0, NULL);
	answer = json_incref(json_object_get(json, command));
	CHECK(answer != NULL);
	json_decref(json);
	return answer;
}

static void
expect_figures(json_int_t toys, json_int_t numbers, json_int_t boxes)
{
	json_t *info = ask_telemetry("/headrace/info");

	CHECK(json_integer_value(json_object_get(info, "objects_toy")) == toys);
	CHECK(json_integer_value(json_object_get(info, "toy_numbers")) == numbers);
	CHECK(json_integer_value(json_object_get(info, "objects_box")) == boxes);
	CHECK(json_is_integer(json_object_get(info, "fib_bytes")));
	json_decref(info);
}

/** A list says exactly this. */
static void
expect_items(const char *kind, const char *filter, char *wanted)
{
	json_t *reply = call("{'op':'list','kind':'%s','filter':{%s}}", kind, filter);
	json_t *items = json_loads(quote(wanted), 0, NULL);

	CHECK(is_ok(reply) && items != NULL);
	CHECK(json_equal(json_object_get(reply, "items"), items));
	json_decref(items);
	json_decref(reply);
}
#define expect_list(kind, filter, ...) expect_items(kind, filter, (char[]){"[" __VA_ARGS__ "]"})

static bool
has_text(const json_t *array, const char *text)
{
	const json_t *item;
	size_t i;

	json_array_foreach(array, i, item) {
		if (strcmp(json_string_value(item), text) == 0)
			return true;
	}
	return false;
}

/** Kinds are registered so that the rest can rely on it. */
static void
test_registry(void)
{
	CHECK(hr_n_kinds == 8);
	for (unsigned i = 0; i < hr_n_kinds; i++) {
		const struct hr_kind *kind = hr_kinds[i];

		CHECK(kind->index == i && hr_kind_find(kind->name) == kind);
		CHECK(i == 0 || kind->order > hr_kinds[i - 1]->order);
		CHECK(kind->plural != NULL && kind->parse != NULL && kind->free_spec != NULL);
		CHECK(kind->apply != NULL && kind->remove != NULL);
		for (const struct hr_reference *reference = kind->references;
				reference->field != NULL; reference++)
			CHECK(reference->kind->order < kind->order && reference->name != NULL);
		for (const struct hr_list *list = kind->lists; list->name != NULL; list++)
			CHECK(hr_list_exists(list->name) && hr_kind_find(list->name) == NULL);
		CHECK(hr_list_exists(kind->name) == (kind->describe != NULL));
	}
	CHECK(hr_kind_find("moon") == NULL && !hr_list_exists("moon"));
	CHECK(hr_kind_is_referenced(&toy_kind) && !hr_kind_is_referenced(&box_kind));
}

static void
test_hello(void)
{
	json_t *reply = call("{'op':'hello'}"), *toy, *box;
	const json_t *kinds = json_object_get(reply, "kinds");
	const json_t *features = json_object_get(reply, "features");

	CHECK(is_ok(reply) && json_array_size(kinds) == 8);
	toy = json_pack("{s:s, s:{s:s}}", "name", "toy", "references", "network", "network");
	box = json_pack("{s:s, s:{s:s}}", "name", "box", "references", "toy", "toy");
	CHECK(json_equal(json_array_get(kinds, 6), toy));
	CHECK(json_equal(json_array_get(kinds, 7), box));
	CHECK(has_text(features, "Toys") && has_text(features, "UnderlaySourceCheck"));
	json_decref(toy);
	json_decref(box);
	json_decref(reply);
}

static void
test_accepted_listed_and_counted(void)
{
	json_t *reply, *wanted;

	expect_list("toy", "", "");
	expect_figures(0, 0, 0);
	/* Whatever their order in the commit. */
	expect_ok(commit(1, BOX("x", "1", "a"), TOY("a", "1", "t/n", "4"),
			TOY("b", "1", "t/n", "5"), NETWORK("t/n", "1", "100")));
	expect_list("toy", "",
			"{'name':'a','network':'t/n','number':4,'puts':1},"
			"{'name':'b','network':'t/n','number':5,'puts':1}");
	expect_list("toy", "'name':'b'", "{'name':'b','network':'t/n','number':5,'puts':1}");
	expect_refused(call("{'op':'list','kind':'toy','filter':{'nmae':'b'}}"), "", "",
			"filter.nmae", "UnknownField");
	expect_refused(call("{'op':'list','kind':'box'}"), "", "", "kind", "InvalidField");
	expect_figures(2, 9, 1);

	reply = call("{'op':'digests'}");
	wanted = json_pack("{s:s, s:s}", "a", "1", "b", "1");
	CHECK(json_equal(json_object_get(json_object_get(reply, "digests"), "toy"), wanted));
	json_decref(wanted);
	json_decref(reply);

	/* The hash that it has: it is left alone. */
	expect_ok(commit(2, TOY("a", "1", "t/n", "4"), TOY("b", "2", "t/n", "6")));
	expect_list("toy", "",
			"{'name':'a','network':'t/n','number':4,'puts':1},"
			"{'name':'b','network':'t/n','number':6,'puts':2}");
	expect_figures(2, 10, 1);
}

static void
test_refused(void)
{
	expect_refused(commit(3, TOY("c", "1", "t/n", "10")), "toy", "c", "number", "InvalidField");
	expect_refused(commit(3, PUT("toy", "c", "1", "'network':'t/n'")), "toy", "c", "number",
			"MissingField");
	expect_refused(commit(3, PUT("toy", "c", "1", "'network':'t/n','number':1,'color':1")),
			"toy", "c", "color", "UnknownField");
	expect_refused(commit(3, TOY("c", "1", "t/n", "4")), "toy", "c", "number", "Conflict");
	expect_refused(commit(3, TOY("c", "1", "t/n", "1"), TOY("d", "1", "t/n", "2")), "toy", "d",
			"", "LimitExceeded");
	expect_refused(commit(3, BOX("y", "1", "a")), "box", "y", "toy", "Conflict");
	CHECK(hr_store_generation() == 2);
	expect_figures(2, 10, 1);
}

static void
test_referenced(void)
{
	unsigned before = boxes_applied;

	expect_refused(commit(3, TOY("c", "1", "t/m", "1")), "toy", "c", "network",
			"UnknownReference");
	expect_refused(commit(3, BOX("y", "1", "c")), "box", "y", "toy", "UnknownReference");
	expect_refused(commit(3, DELETE("toy", "a")), "toy", "a", "", "InUse");
	expect_refused(commit(3, DELETE("network", "t/n")), "network", "t/n", "", "InUse");

	/* The box is put again when its toy is another. */
	CHECK(boxes_applied == before);
	expect_ok(commit(3, TOY("b", "3", "t/n", "5")));
	CHECK(boxes_applied == before);
	expect_ok(commit(4, TOY("a", "2", "t/n", "3")));
	CHECK(boxes_applied == before + 1);

	/* It moves from one that goes, and that from its network. */
	expect_ok(commit(5, DELETE("toy", "a"), BOX("x", "2", "b"), TOY("b", "4", "t/m", "3"),
			NETWORK("t/m", "1", "100"), DELETE("network", "t/n")));
	CHECK(boxes_applied == before + 2);
	expect_list("toy", "", "{'name':'b','network':'t/m','number':3,'puts':4}");
	expect_figures(1, 3, 1);

	expect_ok(commit(6, DELETE("network", "t/m"), DELETE("toy", "b"), DELETE("box", "x")));
	expect_list("toy", "", "");
	expect_figures(0, 0, 0);
}

int
main(void)
{
	char prefix[32], command[64];
	char *argv[] = {"kinds_test", "--no-huge", "--no-shconf", "--no-pci", "-m", "64",
			"--lcores", "0", "--log-level=error", "--file-prefix", prefix};

	CHECK(mkdtemp(directory) != NULL && setenv("RUNTIME_DIRECTORY", directory, 1) == 0);
	snprintf(prefix, sizeof(prefix), "test-kinds-%d", (int)getpid());
	snprintf(socket_path, sizeof(socket_path), "%s/socket", directory);
	CHECK(rte_eal_init(RTE_DIM(argv), argv) >= 0);
	CHECK(hr_rcu_init(1) == 0 && hr_adj_init() == 0 && hr_telemetry_init() == 0);
	CHECK(hr_server_open(socket_path) == 0);
	control = client_open();

	test_registry();
	test_hello();
	test_accepted_listed_and_counted();
	test_refused();
	test_referenced();

	close(control);
	hr_server_close();
	hr_rcu_barrier();
	rte_eal_cleanup();
	snprintf(command, sizeof(command), "rm -r %s", directory);
	CHECK(system(command) == 0);
	return 0;
}
