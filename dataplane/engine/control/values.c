/* SPDX-License-Identifier: Apache-2.0 */
#include "values.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "addr.h"

const char *
hr_parse_host(const char *text, void *value)
{
	if (hr_addr_parse(text, value) == 0 && hr_addr_is_host(value))
		return NULL;
	return "must be an IPv4 or IPv6 unicast address";
}

const char *
hr_parse_host6(const char *text, void *value)
{
	struct hr_addr addr;

	if (hr_addr_parse(text, &addr) == 0 && addr.family == 6 && hr_addr_is_host(&addr)) {
		*(struct hr_ip6 *)value = addr.ip6;
		return NULL;
	}
	return "must be an IPv6 unicast address";
}

const char *
hr_parse_underlay(const char *text, void *value)
{
	const struct hr_ip6 *ip6 = value;

	if (hr_parse_host6(text, value) == NULL &&
			!(ip6->b[0] == 0xfe && (ip6->b[1] & 0xc0) == 0x80))
		return NULL;
	return "must be an IPv6 unicast address that is not link-local";
}

const char *
hr_parse_prefix(const char *text, void *value)
{
	switch (hr_prefix_parse(text, value)) {
	case 0:
		return NULL;
	case -ERANGE:
		return "must be a prefix with no bits set after its length";
	default:
		return "must be an IPv4 or IPv6 prefix, as 10.0.0.0/8";
	}
}

const char *
hr_parse_prefix6(const char *text, void *value)
{
	const char *must = hr_parse_prefix(text, value);

	if (must == NULL && ((struct hr_prefix *)value)->addr.family != 6)
		must = "must be an IPv6 prefix";
	return must;
}

const char *
hr_parse_mac(const char *text, void *value)
{
	if (hr_mac_parse(text, value) == 0 && rte_is_valid_assigned_ether_addr(value))
		return NULL;
	return "must be a unicast MAC address, as 02:00:00:00:00:01";
}

bool
hr_read_json(struct hr_reader *reader, const char *field, const json_t *json, hr_parse_fn *parse,
		void *value)
{
	const char *text = json_string_value(json);
	const char *must = parse(text != NULL ? text : "", value);

	if (must == NULL)
		return true;
	if (text != NULL)
		hr_read_error(reader, field, HR_INVALID_FIELD, "%s, not \"%.64s\"", must, text);
	else
		hr_read_error(reader, field, HR_INVALID_FIELD, "%s, in a string", must);
	return false;
}

void
hr_read_value(struct hr_reader *reader, const char *name, hr_parse_fn *parse, void *value)
{
	const json_t *json = hr_read_field(reader, name);

	if (json != NULL)
		hr_read_json(reader, name, json, parse, value);
}

bool
hr_read_optional(struct hr_reader *reader, const char *name, hr_parse_fn *parse, void *value)
{
	bool has = hr_read_has(reader, name);

	if (has)
		hr_read_value(reader, name, parse, value);
	return has;
}

uint16_t
hr_read_values(struct hr_reader *reader, const char *name, uint16_t max, hr_parse_fn *parse,
		void *values, size_t size)
{
	const json_t *array = hr_read_array(reader, name, max);
	size_t n = json_array_size(array);
	char *value = values;

	for (size_t i = 0; i < n; i++, value += size) {
		char field[64];

		snprintf(field, sizeof(field), "%s[%zu]", name, i);
		if (!hr_read_json(reader, field, json_array_get(array, i), parse, value))
			continue;
		for (const char *other = values; other < value; other += size) {
			if (memcmp(other, value, size) == 0) {
				hr_read_error(reader, field, HR_DUPLICATE, "is there twice");
				break;
			}
		}
	}
	return (uint16_t)n;
}

uint16_t
hr_read_optional_values(struct hr_reader *reader, const char *name, uint16_t max,
		hr_parse_fn *parse, void *values, size_t size)
{
	return hr_read_has(reader, name) ? hr_read_values(reader, name, max, parse, values, size)
					 : 0;
}

void
hr_read_text(struct hr_reader *reader, const char *name, char *text, size_t size)
{
	const char *value = hr_read_string(reader, name, size - 1);

	if (value != NULL)
		memcpy(text, value, strlen(value) + 1);
}

void *
hr_spec_begin(struct hr_reader *reader, const json_t *json, size_t size, struct hr_errors *errors)
{
	void *spec = calloc(1, size);

	if (spec == NULL) {
		hr_error(errors, "", HR_OUT_OF_MEMORY, "out of memory");
		return NULL;
	}
	hr_read_begin(reader, json, "", errors);
	return spec;
}

void *
hr_spec_end(struct hr_reader *reader, void *spec)
{
	if (hr_read_end(reader) == 0)
		return spec;
	free(spec);
	return NULL;
}
