/* SPDX-License-Identifier: Apache-2.0 */
#include "open.h"

#include <errno.h>
#include <stdio.h>

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <rte_mbuf.h>

#include "probe.h"
#include "setup.h"

int
hr_device_open(struct hr_device *device, const struct hr_port_spec *spec, uint16_t mtu,
		char why[HR_DEVICE_WHY])
{
	char name[RTE_ETH_NAME_MAX_LEN];
	struct rte_eth_dev_info info;
	const char *step;
	int error;

	*device = (struct hr_device){.id = HR_PORT_NO_ID};
	error = hr_device_probe(device, spec, hr_device_name(spec->devargs, name), why);
	if (error != 0)
		return error;
	hr_device_forget(device->id);
	step = "ask";
	error = rte_eth_dev_info_get(device->id, &info);
	if (error != 0)
		goto fail;
	device->virtual = strcmp(rte_bus_name(rte_dev_bus(info.device)), "vdev") == 0;
	device->kernel = device->virtual ? info.if_index : 0;
	snprintf(device->driver, sizeof(device->driver), "%s", info.driver_name);
	device->client = strcmp(device->driver, "net_virtio_user") == 0 ||
			(strcmp(device->driver, "net_memif") == 0 &&
					strstr(spec->devargs, "role=server") == NULL &&
					strstr(spec->devargs, "role=master") == NULL);
	error = hr_device_setup(device, spec, mtu, &info, &step);
	if (error != 0)
		goto fail;
	return 0;

fail:
	if (error == -EAGAIN)
		snprintf(why, HR_DEVICE_WHY, "nobody listens at the socket of %s yet", name);
	else
		snprintf(why, HR_DEVICE_WHY, "cannot %s device %s: %s%s", step, name,
				rte_strerror(-error),
				error == -ENOMEM ? " (more memory for packet buffers: --memory)"
						 : "");
	hr_device_close(device);
	return error;
}

void
hr_device_close(struct hr_device *device)
{
	struct rte_eth_dev_info info = {0};
	struct rte_mbuf *m;

	if (device->id == HR_PORT_NO_ID)
		return;
	if (rte_eth_dev_info_get(device->id, &info) != 0)
		info.device = NULL;
	/* The kernel's device outlives ours and must be as it was. */
	if (device->netdev != 0)
		rte_eth_promiscuous_disable(device->id);
	rte_eth_dev_stop(device->id);
	rte_eth_dev_close(device->id);
	if (info.device != NULL && rte_dev_remove(info.device) != 0)
		RTE_LOG(WARNING, USER1, "port id %u: device not removed\n", device->id);
	while (device->tx_ring != NULL && rte_ring_dequeue(device->tx_ring, (void **)&m) == 0)
		rte_pktmbuf_free(m);
	rte_ring_free(device->tx_ring);
	*device = (struct hr_device){.id = HR_PORT_NO_ID};
}
