/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * Addresses, prefixes and lists of them in specs: what kinds' parse functions have in common.
 */
#ifndef HR_CONTROL_VALUES_H
#define HR_CONTROL_VALUES_H

#include "../types.h"
#include "reader.h"

/** Parse a text into *value, padding zeroed. NULL, or what the text must be. */
typedef const char *hr_parse_fn(const char *text, void *value);

/** Into a struct hr_addr. */
hr_parse_fn hr_parse_host;
/** Into a struct hr_ip6: any host, and what can be an outer destination (never link-local). */
hr_parse_fn hr_parse_host6, hr_parse_underlay;
/** Into a struct hr_prefix. */
hr_parse_fn hr_parse_prefix, hr_parse_prefix6;
/** Into a struct rte_ether_addr. */
hr_parse_fn hr_parse_mac;

/** Parse a JSON string; an error names the field. */
bool hr_read_json(struct hr_reader *reader, const char *field, const json_t *json,
		hr_parse_fn *parse, void *value);
void hr_read_value(struct hr_reader *reader, const char *name, hr_parse_fn *parse, void *value);
/** As hr_read_value(), for an optional field: whether it is there. */
bool hr_read_optional(struct hr_reader *reader, const char *name, hr_parse_fn *parse, void *value);
/** Read an array of values of one size, all different. @return how many */
uint16_t hr_read_values(struct hr_reader *reader, const char *name, uint16_t max,
		hr_parse_fn *parse, void *values, size_t size);
/** As hr_read_values(), for an optional field: 0 when it is not there. */
uint16_t hr_read_optional_values(struct hr_reader *reader, const char *name, uint16_t max,
		hr_parse_fn *parse, void *values, size_t size);
/** Copy a string field of less than size bytes. */
void hr_read_text(struct hr_reader *reader, const char *name, char *text, size_t size);

/** Start reading into a new spec, zeroed, from calloc(). NULL when out of memory. */
void *hr_spec_begin(struct hr_reader *reader, const json_t *json, size_t size,
		struct hr_errors *errors);
/** Done reading: the spec, or NULL and it is freed. */
void *hr_spec_end(struct hr_reader *reader, void *spec);

#endif
