/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * A kind of object that the engine does not have: what it takes to add one.
 *
 * toy/NAME: a number in a network, which no other toy may have.
 */
#include <stdio.h>
#include <stdlib.h>

#include "../control/check.h"
#include "../control/store.h"
#include "../control/values.h"
#include "network.h"

struct toy_spec {
	char network[HR_NAME_MAX];
	uint32_t number; /**< 1..9. */
};

extern struct hr_kind toy_kind;

static void *
parse(const json_t *json, struct hr_errors *errors)
{
	struct hr_reader reader;
	struct toy_spec *spec = hr_spec_begin(&reader, json, sizeof(*spec), errors);

	if (spec == NULL)
		return NULL;
	hr_read_text(&reader, "network", spec->network, sizeof(spec->network));
	spec->number = (uint32_t)hr_read_uint(&reader, "number", 1, 9);
	return hr_spec_end(&reader, spec);
}

static const char *
network_name(const void *spec, uint32_t i)
{
	return i == 0 ? ((const struct toy_spec *)spec)->network : NULL;
}

static void
claim(struct hr_check *check, const void *spec)
{
	static struct hr_resource numbers;
	const struct toy_spec *toy = spec;
	char text[16];

	snprintf(text, sizeof(text), "%u", toy->number);
	hr_claim(check, &numbers, "number", &toy->number, sizeof(toy->number), text);
}

/** Its state is how often it was put. */
static int
prepare(struct hr_txn *txn, const char *key, const struct hr_object *old, void *new_spec,
		void **state, struct hr_errors *errors)
{
	RTE_SET_USED(txn);
	RTE_SET_USED(key);
	RTE_SET_USED(new_spec);
	if (old != NULL)
		return 0;
	*state = calloc(1, sizeof(unsigned));
	if (*state != NULL)
		return 0;
	hr_error(errors, "", HR_OUT_OF_MEMORY, "no memory for the toy");
	return -1;
}

static void
apply(struct hr_object *object, void *old_spec, void *prepared)
{
	if (old_spec == NULL)
		object->state = prepared;
	++*(unsigned *)object->state;
}

static void
remove_toy(struct hr_object *object)
{
	free(object->state);
}

static json_t *
describe(const struct hr_object *object)
{
	const struct toy_spec *spec = object->spec;

	return json_pack("{s:s, s:s, s:i, s:i}", "name", object->key, "network", spec->network,
			"number", (int)spec->number, "puts", (int)*(const unsigned *)object->state);
}

static uint64_t
sum_of_numbers(void)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < hr_store_count(&toy_kind); i++)
		sum += ((const struct toy_spec *)hr_store_at(&toy_kind, i)->spec)->number;
	return sum;
}

struct hr_kind toy_kind = {
		.name = "toy",
		.plural = "toys",
		.order = 60,
		.features = {"Toys"},
		.parse = parse,
		.free_spec = free,
		.references = {{.field = "network",
				.kind = &hr_network_kind,
				.name = network_name}},
		.claim = claim,
		.max = 3,
		.prepare = prepare,
		.abort = free,
		.apply = apply,
		.remove = remove_toy,
		.describe = describe,
		.figures = {{"toy_numbers", sum_of_numbers}},
};
HR_KIND_REGISTER(toy_kind);
