/* SPDX-License-Identifier: Apache-2.0 */
#include "setup.h"

#include <errno.h>
#include <stdio.h>

#include <rte_errno.h>

#include "../buffers.h"
#include "../memory.h"
#include "../worker.h"
#include "multicast.h"

#define RX_DESCRIPTORS 1024
#define TX_DESCRIPTORS 1024
#define TX_RING 1024 /**< Packets that workers without a transmit queue may have under way. */

/** What a device is set up with. */
struct attempt {
	uint16_t rx_queues;
	uint16_t mtu;
};

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
			.rxmode.mtu = hr_device_possible_mtu(info, mtu),
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
	hr_device_mtu_set(device, mtu, conf.rxmode.mtu);
	return rte_eth_dev_configure(device->id, device->n_rx, device->n_tx, &conf);
}

/**
 * Keep the packet buffers that may be in the device's queues, and in the ring before them. Those in a
 * transmit queue were sent long ago: drivers look only when it is nearly full.
 *
 * @return 0; -EDQUOT when so many are not left
 */
static int
keep_buffers(struct hr_device *device, uint16_t n_rx_desc, uint16_t n_tx_desc, struct hr_why *why)
{
	char remedy[HR_BUFFERS_REMEDY];
	unsigned n = device->n_tx < hr_n_workers ? TX_RING : 0;

	if (!hr_driver(device->driver)->copies)
		n += device->n_rx * n_rx_desc + device->n_tx * n_tx_desc;
	hr_buffers_release(device->buffers);
	device->buffers = 0;
	if (!hr_buffers_keep(n)) {
		hr_why(why, HR_PACKET_BUFFER_LIMIT,
				"its %u receive and %u transmit queues may hold %u packet buffers, and %u "
				"of %u are left: %s",
				device->n_rx, device->n_tx, n,
				hr_buffers_count() - hr_buffers_kept(), hr_buffers_count(),
				hr_buffers_remedy(n, remedy));
		return -EDQUOT;
	}
	device->buffers = n;
	return 0;
}

static int
setup_queues(struct hr_device *device, struct hr_why *why)
{
	/* A tap queue takes as many buffers as descriptors, and reads into the first alone. */
	uint16_t n_rx_desc = strcmp(device->driver, "net_tap") == 0 ? 1 : RX_DESCRIPTORS;
	uint16_t n_tx_desc = TX_DESCRIPTORS;
	const int socket = hr_memory_near(rte_eth_dev_socket_id(device->id));
	int error = rte_eth_dev_adjust_nb_rx_tx_desc(device->id, &n_rx_desc, &n_tx_desc);

	if (error == 0)
		error = keep_buffers(device, n_rx_desc, n_tx_desc, why);
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
	device->tx_ring = rte_ring_create(name, TX_RING,
			hr_memory_near(rte_eth_dev_socket_id(device->id)), RING_F_SC_DEQ);
	return device->tx_ring != NULL ? 0 : -rte_errno;
}

static int
attempt(struct hr_device *device, const struct rte_ether_addr *mac, const struct attempt *with,
		const struct rte_eth_dev_info *info, const char **step, struct hr_why *why)
{
	int error;

	count_queues(device, with->rx_queues, info);
	*step = "configure";
	error = configure(device, info, with->mtu);
	if (error != 0)
		return error;
	*step = "set up the queues of";
	error = setup_queues(device, why);
	if (error != 0)
		return error;
	if (mac != NULL)
		hr_device_set_mac(device, mac);
	*step = "start";
	return rte_eth_dev_start(device->id);
}

/**
 * Set up and start as is wanted, or with less: a physical function may not let its VF have the MTU
 * or the queues that the VF's driver offers.
 */
static int
attempt_all(struct hr_device *device, const struct rte_ether_addr *mac, uint16_t rx_queues,
		uint16_t mtu, const struct rte_eth_dev_info *info, const char **step,
		struct hr_why *why)
{
	const uint16_t less = RTE_MIN(mtu, RTE_ETHER_MTU);
	const struct attempt attempts[] = {
			{rx_queues, mtu},
			{rx_queues, less},
			{1, less},
	};
	const int first = attempt(device, mac, &attempts[0], info, step, why);
	const char *with = *step;

	if (first == 0 || device->virtual || first == -EDQUOT)
		return first;
	for (unsigned i = 1; i < RTE_DIM(attempts); i++) {
		if (memcmp(&attempts[i], &attempts[i - 1], sizeof(attempts[i])) == 0 ||
				attempt(device, mac, &attempts[i], info, &with, why) != 0)
			continue;
		if (attempts[i].mtu < mtu)
			hr_device_mtu_set(device, mtu, device->mtu);
		return 0;
	}
	return first;
}

int
hr_device_setup(struct hr_device *device, const struct hr_port_spec *spec,
		const struct rte_ether_addr *mac, uint16_t mtu, const struct rte_eth_dev_info *info,
		const char **step, struct hr_why *why)
{
	int error = attempt_all(device, mac, spec->rx_queues, mtu, info, step, why);

	/* A memif client connects as it starts; the driver says -1 when nobody listens. */
	if (error != 0 && device->client && strcmp(*step, "start") == 0)
		return -EAGAIN;
	if (error != 0)
		return error;
	if (device->n_rx < spec->rx_queues)
		hr_device_refused(device, HR_REFUSED_QUEUES,
				"%u of the %u wanted: the device has no more", device->n_rx,
				spec->rx_queues);
	hr_device_ask_burst(device);
	*step = "make a transmit ring for";
	error = create_tx_ring(device);
	if (error != 0)
		return error;
	/* Drivers of kernel devices pass the MTU on only when asked by itself. */
	if (device->virtual)
		hr_device_set_mtu(device, mtu);
	hr_device_set_promiscuous(device, spec->promiscuous || device->virtual);
	hr_device_join(device, NULL, 0, false);
	return 0;
}
