/* SPDX-License-Identifier: Apache-2.0 */
#include "kind.h"

#include <string.h>

#include <rte_debug.h>

struct hr_kind *hr_kinds[HR_KINDS_MAX];
unsigned hr_n_kinds;

void
hr_kind_register(struct hr_kind *kind)
{
	unsigned at = hr_n_kinds++;

	RTE_VERIFY(at < HR_KINDS_MAX);
	for (; at > 0 && hr_kinds[at - 1]->order > kind->order; at--) {
		hr_kinds[at] = hr_kinds[at - 1];
		hr_kinds[at]->index = at;
	}
	hr_kinds[at] = kind;
	kind->index = at;
}

struct hr_kind *
hr_kind_find(const char *name)
{
	for (unsigned i = 0; i < hr_n_kinds; i++) {
		if (strcmp(hr_kinds[i]->name, name) == 0)
			return hr_kinds[i];
	}
	return NULL;
}

bool
hr_kind_is_referenced(const struct hr_kind *kind)
{
	for (unsigned i = kind->index + 1; i < hr_n_kinds; i++) {
		for (const struct hr_reference *reference = hr_kinds[i]->references;
				reference->field != NULL; reference++) {
			if (reference->kind == kind)
				return true;
		}
	}
	return false;
}

json_t *
hr_kinds_describe(void)
{
	json_t *kinds = json_array();

	for (unsigned i = 0; i < hr_n_kinds; i++) {
		json_t *references = json_object();

		for (const struct hr_reference *reference = hr_kinds[i]->references;
				reference->field != NULL; reference++)
			json_object_set_new(references, reference->field,
					json_string(reference->kind->name));
		json_array_append_new(kinds,
				json_pack("{s:s, s:o}", "name", hr_kinds[i]->name, "references",
						references));
	}
	return kinds;
}

json_t *
hr_kinds_features(void)
{
	json_t *features = json_array();

	for (unsigned i = 0; i < hr_n_kinds; i++) {
		for (const char *const *feature = hr_kinds[i]->features; *feature != NULL;
				feature++)
			json_array_append_new(features, json_string(*feature));
	}
	return features;
}
