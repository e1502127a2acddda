/* SPDX-License-Identifier: Apache-2.0 */
#include "probe.h"

#include <errno.h>
#include <net/if.h>
#include <unistd.h>

#include <rte_bus_vdev.h>
#include <rte_dev.h>
#include <rte_devargs.h>
#include <rte_errno.h>

#include "capture.h"
#include "netdev.h"
#include "pci.h"
#include "socket.h"

/**
 * Create a virtual device, or take up a hardware one. rte_dev_probe() is not for the former: since
 * DPDK 25.11 it refuses more than 127 characters, which two file names are soon.
 */
static int
probe_device(const char *devargs, const char *name)
{
	const char *arguments = strchr(devargs, ',');

	if (strncmp(name, "net_", 4) == 0)
		return rte_vdev_init(name, arguments == NULL ? NULL : arguments + 1);
	return rte_dev_probe(devargs);
}

int
hr_device_probe(struct hr_device *device, const struct hr_port_spec *spec, const char *name,
		struct hr_why *why)
{
	struct rte_devargs devargs = {0};
	struct sockaddr_un address;
	int error, mtu;

	if (rte_eth_dev_count_avail() >= HR_MAX_PORTS) {
		hr_why(why, NULL,
				"all %d ports that this DPDK is built for are in use "
				"(RTE_MAX_ETHPORTS)",
				HR_MAX_PORTS);
		return -ENOSPC;
	}
	if (hr_device_find(name, &device->id)) {
		hr_why(why, NULL, "device %s is in use already", name);
		device->id = HR_PORT_NO_ID;
		return -EBUSY;
	}
	if (spec->netdev[0] != '\0') {
		device->netdev = if_nametoindex(spec->netdev);
		if (device->netdev == 0) {
			hr_why(why, NULL,
					"no kernel device %s in the engine's network "
					"namespace",
					spec->netdev);
			return -ENODEV;
		}
		mtu = hr_netdev_mtu(spec->netdev);
		device->netdev_mtu = mtu > 0 ? RTE_MIN(mtu, UINT16_MAX) : 0;
		/* First: a socket bound to a device that is down fails its first transmission. */
		hr_netdev_flags(spec->netdev, IFF_UP);
	}
	error = hr_pci_is(name) ? hr_pci_check(name, why) : 0;
	if (error != 0)
		return error;
	error = rte_devargs_parse(&devargs, spec->devargs);
	rte_devargs_reset(&devargs);
	if (error != 0) {
		hr_why(why, NULL, "DPDK knows no device like \"%.100s\"", name);
		return -ENODEV;
	}
	if (hr_socket_of(spec->devargs, "net_vhost", ",iface=", &address) ||
			(hr_socket_of(spec->devargs, "net_memif", ",socket=", &address) &&
					strstr(spec->devargs, "role=server") != NULL &&
					!hr_socket_is_ours(&address))) {
		error = hr_socket_clear(&address, why);
		if (error != 0)
			return error;
	}
	error = strncmp(name, "net_pcap", 8) == 0 ? hr_capture_see_files(spec->devargs, why) : 0;
	if (error != 0)
		return error;
	error = probe_device(spec->devargs, name);
	if (error == 0 && hr_device_find(name, &device->id))
		return 0;
	device->id = HR_PORT_NO_ID;
	/* A virtio front end connects as it is probed; the driver says -1 for anything. */
	if (hr_socket_of(spec->devargs, "net_virtio_user", ",path=", &address) &&
			hr_socket_is_deserted(&address)) {
		hr_why(why, NULL, "nobody listens at the socket %s yet", address.sun_path);
		return -EAGAIN;
	}
	if (hr_pci_is(name))
		hr_pci_explain(name, why);
	else if (strncmp(name, "net_tap", 7) == 0 && access("/dev/net/tun", R_OK | W_OK) != 0)
		hr_why(why, NULL, "cannot open /dev/net/tun: %s", strerror(errno));
	else if (error == 0 || error == -1) /* Drivers say -1 for anything. */
		hr_why(why, NULL, "the driver refused device %s: see the engine's log", name);
	else
		hr_why(why, NULL, "cannot probe device %s: %s", name, rte_strerror(-error));
	return error < 0 ? error : -ENODEV;
}
