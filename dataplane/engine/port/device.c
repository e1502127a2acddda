/* SPDX-License-Identifier: Apache-2.0 */
#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <rte_bus.h>
#include <rte_bus_vdev.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_log.h>
#include <rte_mbuf.h>

#include "../worker.h"
#include "queues.h"

#define RX_DESCRIPTORS 1024
#define TX_DESCRIPTORS 1024
#define TX_RING 1024 /**< Packets that workers without a transmit queue may have under way. */
/** What the MTU leaves out of a frame: Ethernet header and checksum, as rte_ethdev counts. */
#define FRAME_OVERHEAD (RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN)

/** Hardware that has told of its removal, by port id. */
static bool removed[HR_MAX_PORTS];

static int
on_removal(uint16_t id, enum rte_eth_event_type event, void *arg, void *ret)
{
	RTE_SET_USED(event);
	RTE_SET_USED(arg);
	RTE_SET_USED(ret);
	__atomic_store_n(&removed[id], true, __ATOMIC_RELEASE);
	return 0;
}

int
hr_device_init(void)
{
	return rte_eth_dev_callback_register(RTE_ETH_ALL, RTE_ETH_EVENT_INTR_RMV, on_removal, NULL);
}

const char *
hr_device_name(const char *devargs, char name[RTE_ETH_NAME_MAX_LEN])
{
	snprintf(name, RTE_ETH_NAME_MAX_LEN, "%.*s", (int)strcspn(devargs, ","), devargs);
	return name;
}

/** By the device's name: a driver may name its port otherwise. */
bool
hr_device_find(const char *name, uint16_t *id)
{
	struct rte_eth_dev_info info;
	uint16_t port;

	RTE_ETH_FOREACH_DEV(port) {
		if (rte_eth_dev_info_get(port, &info) == 0 && info.device != NULL &&
				strcmp(rte_dev_name(info.device), name) == 0) {
			*id = port;
			return true;
		}
	}
	return false;
}

/** Get or change a kernel device's flags. @return the flags, or -errno */
static int
kernel_flags(const char *name, int set)
{
	struct ifreq request = {0};
	const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int result;

	if (fd < 0)
		return -errno;
	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
	result = ioctl(fd, SIOCGIFFLAGS, &request);
	if (result == 0 && (request.ifr_flags | set) != request.ifr_flags) {
		request.ifr_flags |= set;
		result = ioctl(fd, SIOCSIFFLAGS, &request);
	}
	result = result == 0 ? (uint16_t)request.ifr_flags : -errno;
	close(fd);
	return result;
}

/** The Unix socket that devargs name by this key. @return whether they are of this driver */
static bool
socket_of(const char *devargs, const char *driver, const char *key, struct sockaddr_un *address)
{
	const char *value = strstr(devargs, key);

	if (strncmp(devargs, driver, strlen(driver)) != 0 || value == NULL)
		return false;
	value += strlen(key);
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(address->sun_path, sizeof(address->sun_path), "%.*s", (int)strcspn(value, ","),
			value);
	return true;
}

static bool
nobody_listens(const struct sockaddr_un *address)
{
	/* Of a type that nobody has here: it is told from none (EPROTOTYPE) and not connected to,
	 * which memif's driver does not survive. */
	const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool nobody;

	if (fd < 0)
		return false;
	nobody = connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0 &&
			(errno == ECONNREFUSED || errno == ENOENT);
	close(fd);
	return nobody;
}

/** Whether a memif port of ours has this socket: ports with several ids share one. */
static bool
is_ours(const struct sockaddr_un *address)
{
	struct rte_eth_dev_info info;
	struct sockaddr_un other;
	uint16_t id;

	RTE_ETH_FOREACH_DEV(id) {
		const struct rte_devargs *devargs;

		if (rte_eth_dev_info_get(id, &info) != 0 || info.device == NULL)
			continue;
		devargs = rte_dev_devargs(info.device);
		if (devargs != NULL && devargs->args != NULL &&
				socket_of(devargs->args, "", "socket=", &other) &&
				strcmp(other.sun_path, address->sun_path) == 0)
			return true;
	}
	return false;
}

/**
 * Make room for a socket of ours: remove what an engine that was killed left behind. No driver
 * binds over it; as they give up, vhost's removes whatever is there, and memif's forgets to release
 * its device.
 *
 * @return 0, or -EBUSY when what is there is somebody else's
 */
static int
clear_socket(const struct sockaddr_un *address, char why[HR_DEVICE_WHY])
{
	struct stat status;

	if (lstat(address->sun_path, &status) != 0)
		return 0;
	if (S_ISSOCK(status.st_mode) && nobody_listens(address)) {
		unlink(address->sun_path);
		return 0;
	}
	snprintf(why, HR_DEVICE_WHY, "%s is %s", address->sun_path,
			S_ISSOCK(status.st_mode) ? "another program's socket" : "no socket");
	return -EBUSY;
}

/**
 * See that a path leads to a regular file, or to none yet, and no part of it is a symbolic link: who
 * may write in the directory must not have us write elsewhere.
 *
 * @return 0, or -errno
 */
static int
see_file(const char *path, char why[HR_DEVICE_WHY])
{
	const int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int folder = open(path[0] == '/' ? "/" : ".", flags);
	char name[NAME_MAX + 1] = "";
	int error = folder < 0 ? -errno : 0;
	struct stat status;

	while (folder >= 0) {
		size_t length;
		int next;

		path += strspn(path, "/");
		length = strcspn(path, "/");
		snprintf(name, sizeof(name), "%.*s", (int)length, path);
		path += length;
		if (*path == '\0')
			break;
		next = openat(folder, name, flags);
		error = next < 0 ? -errno : 0;
		close(folder);
		folder = next;
	}
	if (folder < 0) {
		snprintf(why, HR_DEVICE_WHY, "%.100s is no directory, or a symbolic link", name);
		return error;
	}
	error = fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : -errno;
	close(folder);
	if (error == 0 && !S_ISREG(status.st_mode))
		error = -EINVAL;
	if (error == 0 || error == -ENOENT)
		return 0;
	snprintf(why, HR_DEVICE_WHY, "%.100s is no regular file, or a symbolic link", name);
	return error;
}

/** See to the files that devargs name. @return 0, or -errno */
static int
see_files(const char *devargs, char why[HR_DEVICE_WHY])
{
	static const char *const keys[] = {",rx_pcap=", ",tx_pcap="};
	int error = 0;

	for (size_t i = 0; i < RTE_DIM(keys) && error == 0; i++) {
		const char *value = strstr(devargs, keys[i]);
		char path[PATH_MAX];

		if (value == NULL)
			continue;
		value += strlen(keys[i]);
		snprintf(path, sizeof(path), "%.*s", (int)strcspn(value, ","), value);
		error = see_file(path, why);
	}
	return error;
}

/** Why a PCI device could not be had, from what the kernel says of it. */
static void
explain_pci(const char *address, char why[HR_DEVICE_WHY])
{
	char path[PATH_MAX], driver[PATH_MAX];
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", address);
	if (access(path, F_OK) != 0) {
		snprintf(why, HR_DEVICE_WHY, "no PCI device %s on this node", address);
		return;
	}
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", address);
	n = readlink(path, driver, sizeof(driver) - 1);
	driver[n > 0 ? n : 0] = '\0';
	snprintf(why, HR_DEVICE_WHY,
			"no DPDK driver took PCI device %s, bound to %s: bind it to vfio-pci, give the "
			"container /dev/vfio, and see the engine's log",
			address, n > 0 ? strrchr(driver, '/') + 1 : "no kernel driver");
}

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

static int
probe(struct hr_device *device, const struct hr_port_spec *spec, const char *name,
		char why[HR_DEVICE_WHY])
{
	struct rte_devargs devargs = {0};
	struct sockaddr_un address;
	int error;

	if (rte_eth_dev_count_avail() >= HR_MAX_PORTS) {
		snprintf(why, HR_DEVICE_WHY,
				"all %d ports that this DPDK is built for are in use "
				"(RTE_MAX_ETHPORTS)",
				HR_MAX_PORTS);
		return -ENOSPC;
	}
	if (hr_device_find(name, &device->id)) {
		snprintf(why, HR_DEVICE_WHY, "device %s is in use already", name);
		device->id = HR_PORT_NO_ID;
		return -EBUSY;
	}
	if (spec->netdev[0] != '\0') {
		device->netdev = if_nametoindex(spec->netdev);
		if (device->netdev == 0) {
			snprintf(why, HR_DEVICE_WHY,
					"no kernel device %s in the engine's network "
					"namespace",
					spec->netdev);
			return -ENODEV;
		}
		/* First: a socket bound to a device that is down fails its first transmission. */
		kernel_flags(spec->netdev, IFF_UP);
	}
	error = rte_devargs_parse(&devargs, spec->devargs);
	rte_devargs_reset(&devargs);
	if (error != 0) {
		snprintf(why, HR_DEVICE_WHY, "DPDK knows no device like \"%.100s\"", name);
		return -ENODEV;
	}
	if (socket_of(spec->devargs, "net_vhost", ",iface=", &address) ||
			(socket_of(spec->devargs, "net_memif", ",socket=", &address) &&
					strstr(spec->devargs, "role=server") != NULL &&
					!is_ours(&address))) {
		error = clear_socket(&address, why);
		if (error != 0)
			return error;
	}
	error = strncmp(name, "net_pcap", 8) == 0 ? see_files(spec->devargs, why) : 0;
	if (error != 0)
		return error;
	error = probe_device(spec->devargs, name);
	if (error == 0 && hr_device_find(name, &device->id))
		return 0;
	device->id = HR_PORT_NO_ID;
	/* A virtio front end connects as it is probed; the driver says -1 for anything. */
	if (socket_of(spec->devargs, "net_virtio_user", ",path=", &address) &&
			nobody_listens(&address)) {
		snprintf(why, HR_DEVICE_WHY, "nobody listens at the socket %s yet",
				address.sun_path);
		return -EAGAIN;
	}
	if (strncmp(name, "net_", 4) != 0)
		explain_pci(name, why);
	else if (strncmp(name, "net_tap", 7) == 0 && access("/dev/net/tun", R_OK | W_OK) != 0)
		snprintf(why, HR_DEVICE_WHY, "cannot open /dev/net/tun: %s", strerror(errno));
	else if (error == 0 || error == -1) /* Drivers say -1 for anything. */
		snprintf(why, HR_DEVICE_WHY, "the driver refused device %s: see the engine's log",
				name);
	else
		snprintf(why, HR_DEVICE_WHY, "cannot probe device %s: %s", name,
				rte_strerror(-error));
	return error < 0 ? error : -ENODEV;
}

/** The largest MTU whose frames fit one buffer of ours. */
static uint16_t
buffer_mtu(void)
{
	const uint16_t room = rte_pktmbuf_data_room_size(hr_pool) - RTE_PKTMBUF_HEADROOM;

	return room - FRAME_OVERHEAD;
}

/** The largest MTU that rte_ethdev lets a device have. */
static uint16_t
device_mtu(const struct rte_eth_dev_info *info)
{
	uint32_t overhead = FRAME_OVERHEAD;

	if (info->max_mtu != UINT16_MAX && info->max_rx_pktlen > info->max_mtu)
		overhead = info->max_rx_pktlen - info->max_mtu;
	return RTE_MIN((uint32_t)info->max_mtu, info->max_rx_pktlen - overhead);
}

/** How many queues, given what was asked for, what the device has, and its driver's ways. */
static void
count_queues(struct hr_device *device, uint16_t wanted, const struct rte_eth_dev_info *info)
{
	const bool af_packet = strcmp(device->driver, "net_af_packet") == 0;
	/* The kernel spreads packets over all sockets of AF_PACKET: none may be left unread. */
	const uint16_t rx = af_packet ? info->max_rx_queues : wanted;

	device->n_rx = RTE_MIN(RTE_MIN(rx, info->max_rx_queues), HR_PORT_QUEUES);
	device->n_tx = RTE_MIN(hr_n_workers, info->max_tx_queues);
	if (strcmp(device->driver, "net_tap") == 0) {
		/* A queue of a tap device is one file descriptor, both ways. */
		const uint16_t n = RTE_MAX(device->n_rx, device->n_tx);

		device->n_rx = device->n_tx =
				RTE_MIN(RTE_MIN(n, info->max_rx_queues), HR_PORT_QUEUES);
	} else if (strcmp(device->driver, "net_memif") == 0 ||
			strcmp(device->driver, "net_vhost") == 0 ||
			strcmp(device->driver, "net_virtio_user") == 0) {
		/* A ring that the peer does not have swallows packets. */
		device->n_tx = RTE_MIN(device->n_tx, device->n_rx);
	}
}

static int
configure(struct hr_device *device, const struct rte_eth_dev_info *info, uint16_t mtu)
{
	const uint64_t rss = info->flow_type_rss_offloads &
			(RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP);
	struct rte_eth_conf conf = {
			.rxmode.mtu = RTE_MIN(mtu, RTE_MIN(device_mtu(info), buffer_mtu())),
			.txmode.offloads =
					info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE,
			.intr_conf.rmv = (*info->dev_flags & RTE_ETH_DEV_INTR_RMV) != 0,
	};

	if (!device->virtual) {
		/* A vdev that offers this computes it in software, and more than we need. */
		conf.rxmode.offloads = info->rx_offload_capa & RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
		if (device->n_rx > 1 && rss != 0) {
			conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
			conf.rx_adv_conf.rss_conf.rss_hf = rss;
		}
	}
	device->mtu = conf.rxmode.mtu;
	return rte_eth_dev_configure(device->id, device->n_rx, device->n_tx, &conf);
}

static int
setup_queues(const struct hr_device *device)
{
	/* A tap queue takes as many buffers as descriptors, and reads into the first alone. */
	uint16_t n_rx_desc = strcmp(device->driver, "net_tap") == 0 ? 1 : RX_DESCRIPTORS;
	uint16_t n_tx_desc = TX_DESCRIPTORS;
	const int socket = rte_eth_dev_socket_id(device->id);
	int error = rte_eth_dev_adjust_nb_rx_tx_desc(device->id, &n_rx_desc, &n_tx_desc);

	for (uint16_t queue = 0; queue < device->n_rx && error == 0; queue++)
		error = rte_eth_rx_queue_setup(device->id, queue, n_rx_desc, (unsigned)socket, NULL,
				hr_pool);
	for (uint16_t queue = 0; queue < device->n_tx && error == 0; queue++)
		error = rte_eth_tx_queue_setup(device->id, queue, n_tx_desc, (unsigned)socket,
				NULL);
	return error;
}

static int
create_tx_ring(struct hr_device *device)
{
	char name[RTE_RING_NAMESIZE];

	if (device->n_tx >= hr_n_workers)
		return 0;
	snprintf(name, sizeof(name), "tx-%u", device->id);
	device->tx_ring = rte_ring_create(name, TX_RING, rte_eth_dev_socket_id(device->id),
			RING_F_SC_DEQ);
	return device->tx_ring != NULL ? 0 : -rte_errno;
}

static int
start(struct hr_device *device, const struct hr_port_spec *spec, uint16_t mtu, const char **step)
{
	int error;

	*step = "set the MAC address of";
	error = spec->has_mac ? hr_device_set_mac(device, &spec->mac) : 0;
	if (error != 0)
		return error;
	*step = "start";
	error = rte_eth_dev_start(device->id);
	/* A memif client connects as it starts; the driver says -1 when nobody listens. */
	if (error != 0 && device->client)
		return -EAGAIN;
	if (error != 0)
		return error;
	/* Drivers of kernel devices pass the MTU on only when asked by itself. */
	if (device->virtual)
		hr_device_set_mtu(device, mtu);
	hr_device_set_promiscuous(device, spec->promiscuous || device->virtual);
	/* Neighbour discovery is multicast. */
	rte_eth_allmulticast_enable(device->id);
	return 0;
}

int
hr_device_open(struct hr_device *device, const struct hr_port_spec *spec, uint16_t mtu,
		char why[HR_DEVICE_WHY])
{
	char name[RTE_ETH_NAME_MAX_LEN];
	struct rte_eth_dev_info info;
	const char *step;
	int error;

	*device = (struct hr_device){.id = HR_PORT_NO_ID};
	error = probe(device, spec, hr_device_name(spec->devargs, name), why);
	if (error != 0)
		return error;
	__atomic_store_n(&removed[device->id], false, __ATOMIC_RELEASE);
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
	count_queues(device, spec->rx_queues, &info);
	step = "configure";
	error = configure(device, &info, mtu);
	if (error != 0)
		goto fail;
	step = "set up the queues of";
	error = setup_queues(device);
	if (error != 0)
		goto fail;
	step = "make a transmit ring for";
	error = create_tx_ring(device);
	if (error != 0)
		goto fail;
	error = start(device, spec, mtu, &step);
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

int
hr_device_set_mtu(struct hr_device *device, uint16_t mtu)
{
	struct rte_eth_dev_info info;
	uint16_t possible;
	int error = rte_eth_dev_info_get(device->id, &info);

	if (error != 0)
		return error;
	possible = RTE_MIN(mtu, RTE_MIN(device_mtu(&info), buffer_mtu()));
	error = rte_eth_dev_set_mtu(device->id, possible);
	if (error == -ENOTSUP) { /* It does not care; only our buffers do. */
		device->mtu = RTE_MIN(mtu, buffer_mtu());
		return 0;
	}
	if (error == 0)
		device->mtu = possible;
	return error;
}

int
hr_device_restart_with_mtu(struct hr_device *device, uint16_t mtu)
{
	int error = rte_eth_dev_stop(device->id);

	if (error != 0)
		return error;
	error = hr_device_set_mtu(device, mtu);
	if (error != 0)
		RTE_LOG(WARNING, USER1, "port id %u: MTU %u refused: %s\n", device->id, mtu,
				rte_strerror(-error));
	return rte_eth_dev_start(device->id);
}

int
hr_device_set_mac(const struct hr_device *device, const struct rte_ether_addr *mac)
{
	return device->virtual ? 0
			       : rte_eth_dev_default_mac_addr_set(device->id,
						 (struct rte_ether_addr *)(uintptr_t)mac);
}

void
hr_device_set_promiscuous(const struct hr_device *device, bool on)
{
	if (on)
		rte_eth_promiscuous_enable(device->id);
	else
		rte_eth_promiscuous_disable(device->id);
}

bool
hr_device_link_up(const struct hr_device *device)
{
	char name[IF_NAMESIZE];
	struct rte_eth_link link;
	int flags;

	if (device->kernel == 0)
		return rte_eth_link_get_nowait(device->id, &link) == 0 &&
				link.link_status == RTE_ETH_LINK_UP;
	/*
	 * The drivers of kernel devices do not look (AF_PACKET), or complain at each look once
	 * the device was moved to another network namespace (tap), where it works on unseen.
	 */
	if (if_indextoname(device->kernel, name) == NULL)
		return true;
	flags = kernel_flags(name, 0);
	return flags < 0 || (flags & (IFF_UP | IFF_RUNNING)) == (IFF_UP | IFF_RUNNING);
}

bool
hr_device_vanished(const struct hr_device *device, const char *netdev)
{
	return __atomic_load_n(&removed[device->id], __ATOMIC_ACQUIRE) ||
			(device->netdev != 0 && if_nametoindex(netdev) != device->netdev);
}
