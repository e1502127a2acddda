/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * PCI devices as the node has them: whether DPDK can take one, and what is in the way.
 */
#ifndef HR_PORT_PCI_H
#define HR_PORT_PCI_H

#include <stdbool.h>

#include "why.h"

/* Where the kernel shows them; a test has its own. */
extern const char *hr_pci_devices; /**< "/sys/bus/pci/devices" */
extern const char *hr_vfio;        /**< "/dev/vfio" */

/** Whether a device's name is a PCI address: "0000:3b:02.1". */
bool hr_pci_is(const char *name);

/**
 * Look for what DPDK would trip over.
 *
 * @param why what is in the way, and what to do, when something is
 * @return 0; -ENODEV when it is not on the node, or nothing may be had of it; -EPERM when the
 * device may not reach our memory
 */
int hr_pci_check(const char *address, struct hr_why *why);

/** Say why DPDK did not take a device in whose way hr_pci_check() found nothing. */
void hr_pci_explain(const char *address, struct hr_why *why);

#endif
