/* SPDX-License-Identifier: Apache-2.0 */
#include "open.h"

#include <errno.h>
#include <stdio.h>

#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <rte_mbuf.h>

#include "../buffers.h"
#include "../worker.h"
#include "event.h"
#include "netdev.h"
#include "probe.h"
#include "setup.h"

/** hr_device_open(). @param mac to set, NULL for none */
static int
open_with(struct hr_device *device, const struct hr_port_spec *spec,
		const struct rte_ether_addr *mac, uint16_t mtu, struct hr_why *why)
{
	char name[RTE_ETH_NAME_MAX_LEN];
	struct rte_eth_dev_info info;
	const char *step;
	int error;

	*device = (struct hr_device){.id = HR_PORT_NO_ID};
	error = hr_device_probe(device, spec, hr_device_name(spec->devargs, name), why);
	if (error != 0)
		return error;
	step = "ask";
	error = rte_eth_dev_info_get(device->id, &info);
	if (error != 0)
		goto fail;
	device->handle = info.device;
	hr_device_events_start(device->id, rte_dev_name(device->handle));
	device->virtual = strcmp(rte_bus_name(rte_dev_bus(info.device)), "vdev") == 0;
	device->kernel = device->virtual ? info.if_index : 0;
	snprintf(device->driver, sizeof(device->driver), "%s", info.driver_name);
	device->client = strcmp(device->driver, "net_virtio_user") == 0 ||
			(strcmp(device->driver, "net_memif") == 0 &&
					strstr(spec->devargs, "role=server") == NULL &&
					strstr(spec->devargs, "role=master") == NULL);
	error = hr_device_setup(device, spec, mac, mtu, &info, &step, why);
	if (error != 0)
		goto fail;
	return 0;

fail:
	if (error == -EAGAIN)
		hr_why(why, NULL, "nobody listens at the socket of %s yet", name);
	else if (error != -EDQUOT)
		hr_why(why, NULL, "cannot %s device %s: %s%s", step, name, rte_strerror(-error),
				error == -ENOMEM ? " (more memory: --memory)" : "");
	hr_device_close(device);
	return error;
}

/**
 * Whether the device has this address, where its driver does not say: a VF that is opened anew is
 * told by its physical function, which knows.
 *
 * @return 0, or -errno as of hr_device_open()
 */
static int
prove_mac(struct hr_device *device, const struct hr_port_spec *spec, uint16_t mtu,
		struct hr_why *why)
{
	struct rte_ether_addr mac;
	int error;

	hr_device_close(device);
	error = open_with(device, spec, NULL, mtu, why);
	if (error != 0 ||
			(rte_eth_macaddr_get(device->id, &mac) == 0 &&
					rte_is_same_ether_addr(&mac, &spec->mac)))
		return error;
	hr_device_refused(device, HR_REFUSED_MAC,
			"the physical function keeps another for this VF: set it there, or trust "
			"the VF");
	return 0;
}

int
hr_device_open(struct hr_device *device, const struct hr_port_spec *spec, uint16_t mtu,
		struct hr_why *why)
{
	const int error = open_with(device, spec, spec->has_mac ? &spec->mac : NULL, mtu, why);

	if (error == 0 && device->mac_set && hr_driver(device->driver)->mac_unsaid)
		return prove_mac(device, spec, mtu, why);
	return error;
}

void
hr_device_close(struct hr_device *device)
{
	const uint16_t id = device->id;
	struct rte_mbuf *m;

	if (id == HR_PORT_NO_ID)
		return;
	hr_device_events_stop(device->id);
	/* The kernel's device outlives ours and must be as it was. */
	if (device->netdev != 0) {
		rte_eth_promiscuous_disable(device->id);
		if (device->mtu > device->netdev_mtu)
			hr_netdev_set_mtu(device->netdev, device->netdev_mtu);
	}
	rte_eth_dev_stop(device->id);
	rte_eth_dev_close(device->id);
	if (device->handle != NULL && rte_dev_remove(device->handle) != 0)
		RTE_LOG(WARNING, USER1, "port id %u: device not removed\n", device->id);
	while (device->tx_ring != NULL && rte_ring_dequeue(device->tx_ring, (void **)&m) == 0)
		hr_control_drop(id, m, HR_DROP_PORT_DOWN);
	rte_ring_free(device->tx_ring);
	hr_buffers_release(device->buffers);
	*device = (struct hr_device){.id = HR_PORT_NO_ID};
}
