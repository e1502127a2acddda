/* SPDX-License-Identifier: Apache-2.0 */
#include "settings.h"

#include <stdlib.h>

#include "../control/values.h"

/** What nodes get a /64 each of. */
static const char *
parse_node_pool(const char *text, void *value)
{
	const struct hr_prefix *prefix = value;
	const char *must = hr_parse_prefix6(text, value);

	if (must == NULL && (prefix->len < 1 || prefix->len > 64))
		must = "must be an IPv6 prefix of 1 to 64 bits";
	return must;
}

static void *
parse(const json_t *json, struct hr_errors *errors)
{
	struct hr_reader reader;
	struct hr_settings_spec *spec = hr_spec_begin(&reader, json, sizeof(*spec), errors);
	const char *idle;

	if (spec == NULL)
		return NULL;
	idle = hr_read_string(&reader, "idle", 16);
	if (idle != NULL) {
		spec->adaptive = strcmp(idle, "adaptive") == 0;
		if (!spec->adaptive && strcmp(idle, "poll") != 0)
			hr_read_error(&reader, "idle", HR_INVALID_FIELD,
					"must be \"poll\" or \"adaptive\"");
	}
	spec->burst = (uint16_t)hr_read_uint(&reader, "burst", 1, HR_BURST);
	spec->icmp_per_second = (uint32_t)hr_read_uint(&reader, "icmpPerSecond", 0, UINT32_MAX);
	spec->n_underlay_prefixes = hr_read_optional_values(&reader, "underlayPrefixes",
			HR_UNDERLAY_PREFIXES_MAX, parse_node_pool, spec->underlay_prefixes,
			sizeof(spec->underlay_prefixes[0]));
	if (hr_read_has(&reader, "underlaySourceCheck"))
		spec->underlay_source_check = hr_read_bool(&reader, "underlaySourceCheck");
	if (spec->underlay_source_check && spec->n_underlay_prefixes == 0)
		hr_read_error(&reader, "underlaySourceCheck", HR_INVALID_FIELD,
				"needs underlayPrefixes: give them too");
	if (hr_read_has(&reader, "waitingPacketsPerNamespace"))
		spec->waiting_max = (uint32_t)hr_read_uint(&reader, "waitingPacketsPerNamespace", 1,
				HR_WAITING_PACKETS_MAX);
	return hr_spec_end(&reader, spec);
}

struct hr_kind hr_settings_kind = {
		.name = "settings",
		.plural = "settings",
		.order = 0,
		.only_key = "engine",
		.features = {"UnderlaySourceCheck", "WaitingPacketsPerNamespace",
				"SeveralUnderlayPrefixes"},
		.parse = parse,
		.free_spec = free,
		.apply = hr_settings_apply,
		.remove = hr_settings_remove,
};
HR_KIND_REGISTER(hr_settings_kind);
