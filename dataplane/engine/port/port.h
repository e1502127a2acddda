/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * DPDK ports: probed from devargs, queues spread over workers, watched, removed. Control thread.
 *
 * A port object exists for as long as the configuration says so; the device behind it may come
 * and go. Whoever uses a port (an Interface, an uplink) holds the object and is told.
 */
#ifndef HR_PORT_H
#define HR_PORT_H

#include <jansson.h>

#include "../types.h"

struct hr_device;
struct hr_port_ctx;
struct hr_port_counters;

enum hr_port_state {
	HR_PORT_UP,
	HR_PORT_DOWN, /**< Device there, link down. */
	HR_PORT_GONE, /**< The device vanished; probed again until it is back. */
};

struct hr_port;

/** The port object of this key, NULL when there is none. */
struct hr_port *hr_port_get(const char *name);
const char *hr_port_name(const struct hr_port *port);
/** DPDK port id; HR_PORT_NO_ID while the device is gone. */
uint16_t hr_port_id(const struct hr_port *port);
/** Its device; NULL while that is gone. */
const struct hr_device *hr_port_device(const struct hr_port *port);
enum hr_port_state hr_port_state(const struct hr_port *port);
/** The same, when the link has been looked at just now. */
enum hr_port_state hr_port_look(struct hr_port *port, uint64_t now_ms);
const char *hr_port_state_name(enum hr_port_state state);
/**
 * Our MAC address on it: the configured one; else that of the hardware, or of the kernel device that
 * it reads, and for other virtual devices one chosen at random (their own is the other side's), which
 * stays the same when a device comes back.
 */
void hr_port_mac(const struct hr_port *port, struct rte_ether_addr *mac);
/** Whether its device takes any unicast address for its own, as hardware may not. */
bool hr_port_is_virtual(const struct hr_port *port);
/**
 * Set the L3 MTU, bytes. A device may not go as far, nor our packet buffers.
 * @return the MTU in force
 */
uint16_t hr_port_set_mtu(struct hr_port *port, uint16_t mtu);

/** The L3 MTU in force, bytes; while the device is gone, the wanted one. */
uint16_t hr_port_mtu(const struct hr_port *port);
/**
 * Receive these multicast groups on it, and no others that it can do without. A device that is back
 * knows none: tell it again. Returns at once when it knows them.
 *
 * @param n how many there are; beyond HR_GROUPS_MAX they are not looked at
 * @param all whether groups that are not among them are wanted too, where they can be had
 */
void hr_port_join(struct hr_port *port, const struct rte_ether_addr *groups, unsigned n, bool all);
/** How often its device went away while the port was there. */
uint64_t hr_port_losses(const struct hr_port *port);
/** Add to what is told of who uses it: "refused", and "reason" and "error" while it is gone. */
void hr_port_describe_device(const struct hr_port *port, json_t *item);

/** What all threads have counted under the port's device; zero while that is gone. */
void hr_port_counters(const struct hr_port *port, struct hr_port_counters *sum);
/** What all threads have ever counted under a port id, whichever devices had it. */
void hr_port_id_counters(uint16_t id, struct hr_port_counters *sum);

/**
 * Who to tell when the device behind a port goes (id is HR_PORT_NO_ID, workers no longer poll
 * it, nothing may be sent to it) or is back under a perhaps different id. One user at a time.
 */
typedef void (*hr_port_changed)(struct hr_port *port, void *user);
void hr_port_attach(struct hr_port *port, hr_port_changed changed, void *user);
void hr_port_detach(struct hr_port *port);
/** Whom hr_port_attach() named last, NULL after hr_port_detach(). */
const void *hr_port_user(const struct hr_port *port);

/** Before workers are created: contexts of no role, the watch for hardware removal. 0, or -errno. */
int hr_ports_init(void);
/**
 * Watch devices and links; try again what is gone. Called by the control loop, as often as it
 * likes: acts five times a second.
 */
void hr_ports_tick(uint64_t now_ms);
/** Stop and close every port. After the workers have stopped. */
void hr_ports_close(void);

/**
 * What workers know of a port from now on.
 *
 * @param ctx copied; NULL: the port belongs to nothing, its packets drop as NO_INTERFACE
 */
void hr_port_ctx_set(uint16_t port, const struct hr_port_ctx *ctx);

#endif
