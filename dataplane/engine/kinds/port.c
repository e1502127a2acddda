/* SPDX-License-Identifier: Apache-2.0 */
#include "port.h"

#include <stdlib.h>

#include "../control/values.h"

static void *
parse(const json_t *json, struct hr_errors *errors)
{
	struct hr_reader reader;
	struct hr_port_spec *spec = hr_spec_begin(&reader, json, sizeof(*spec), errors);

	if (spec == NULL)
		return NULL;
	hr_read_text(&reader, "devargs", spec->devargs, sizeof(spec->devargs));
	spec->rx_queues = (uint16_t)hr_read_uint(&reader, "rxQueues", 1, HR_MAX_WORKERS);
	spec->mtu = (uint16_t)hr_read_uint(&reader, "mtu", HR_MTU_MIN, HR_MTU_MAX);
	spec->has_mac = hr_read_optional(&reader, "mac", hr_parse_mac, &spec->mac);
	if (hr_read_has(&reader, "netdev"))
		hr_read_text(&reader, "netdev", spec->netdev, sizeof(spec->netdev));
	if (hr_read_has(&reader, "promiscuous"))
		spec->promiscuous = hr_read_bool(&reader, "promiscuous");
	return hr_spec_end(&reader, spec);
}

struct hr_kind hr_port_kind = {
		.name = "port",
		.plural = "ports",
		.order = 10,
		.parse = parse,
		.free_spec = free,
		.max = HR_MAX_PORTS,
		.prepare = hr_port_prepare,
		.abort = hr_port_abort,
		.apply = hr_port_apply,
		.applied = hr_port_applied,
		.remove = hr_port_remove,
		.describe = hr_port_describe,
};
HR_KIND_REGISTER(hr_port_kind);
