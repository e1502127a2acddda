/* SPDX-License-Identifier: Apache-2.0 */
#include "pci.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_memory.h>
#include <rte_pci.h>

#include "driver.h"

#define VFIO_DRIVER "vfio-pci"
#define LINK_NAME 64 /**< Room for the name of a driver or a group. */

const char *hr_pci_devices = "/sys/bus/pci/devices";
const char *hr_vfio = "/dev/vfio";

bool
hr_pci_is(const char *name)
{
	struct rte_pci_addr address;

	return rte_pci_addr_parse(name, &address) == 0;
}

/** The last part of where a link of a device's leads: its driver, its group. @return "": nowhere */
static const char *
link_of(const char *address, const char *link, char name[LINK_NAME])
{
	char path[PATH_MAX], target[PATH_MAX];
	const char *slash;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/%s/%s", hr_pci_devices, address, link);
	n = readlink(path, target, sizeof(target) - 1);
	target[n > 0 ? n : 0] = '\0';
	slash = strrchr(target, '/');
	snprintf(name, LINK_NAME, "%.*s", LINK_NAME - 1, slash != NULL ? slash + 1 : target);
	return name;
}

/** Whether the kernel charges us nothing for the memory that devices may reach. */
static bool
may_lock_all(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};

	return syscall(SYS_capget, &header, data) == 0 &&
			(data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK)) !=
			0;
}

/** vfio pins all of our memory, for the first device. 0, or -EPERM */
static int
check_memory_lock(const char *address, struct hr_why *why)
{
	const uint64_t needed = rte_eal_get_physmem_size();
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
			limit.rlim_cur >= needed || may_lock_all())
		return 0;
	hr_why(why, HR_MEMORY_LOCK_LIMIT,
			"PCI device %s must reach %llu MiB, and the engine may lock %llu MiB "
			"(RLIMIT_MEMLOCK): set LimitMEMLOCK=infinity for the container runtime, or "
			"give the container IPC_LOCK",
			address, (unsigned long long)(needed >> 20),
			(unsigned long long)limit.rlim_cur >> 20);
	return -EPERM;
}

/** Whether there is the device node of a group. @param prefix "" or "noiommu-" */
static bool
has_node(const char *prefix, const char *group)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s%s", hr_vfio, prefix, group);
	return access(path, F_OK) == 0;
}

int
hr_pci_check(const char *address, struct hr_why *why)
{
	char path[PATH_MAX], driver[LINK_NAME], group[LINK_NAME];

	snprintf(path, sizeof(path), "%s/%s", hr_pci_devices, address);
	if (access(path, F_OK) != 0) {
		hr_why(why, NULL, "no PCI device %s on this node", address);
		return -ENODEV;
	}
	if (strcmp(link_of(address, "driver", driver), VFIO_DRIVER) != 0)
		return 0;
	link_of(address, "iommu_group", group);
	if (!has_node("", "vfio")) {
		hr_why(why, NULL,
				"no %s/vfio: give the container the device nodes of PCI device %s",
				hr_vfio, address);
		return -ENODEV;
	}
	if (group[0] != '\0' && !has_node("", group) && !has_node("noiommu-", group)) {
		hr_why(why, HR_DEVICE_NODE_CHANGED,
				"PCI device %s is in IOMMU group %s and the container has no "
				"%s/%s: make the pod anew",
				address, group, hr_vfio, group);
		return -ENODEV;
	}
	return check_memory_lock(address, why);
}

/** Why the node of a device's group cannot be opened; 0 when it can, or there is none. */
static int
node_error(const char *group)
{
	char path[PATH_MAX];
	int fd, error;

	snprintf(path, sizeof(path), "%s/%s", hr_vfio, group);
	fd = open(path, O_RDWR | O_CLOEXEC);
	error = fd < 0 ? errno : 0;
	if (fd >= 0)
		close(fd);
	return error == ENOENT ? 0 : error;
}

void
hr_pci_explain(const char *address, struct hr_why *why)
{
	char driver[LINK_NAME], group[LINK_NAME];
	int error = 0;

	link_of(address, "driver", driver);
	link_of(address, "iommu_group", group);
	if (strcmp(driver, VFIO_DRIVER) == 0 && group[0] != '\0')
		error = node_error(group);
	if (hr_driver_shares(driver))
		hr_why(why, NULL,
				"no DPDK driver took PCI device %s, which it shares with %s: give the "
				"container /dev/infiniband and NET_RAW, load the modules of verbs, "
				"and see the engine's log",
				address, driver);
	else if (strcmp(driver, VFIO_DRIVER) != 0)
		hr_why(why, HR_DEVICE_NOT_BOUND,
				"no DPDK driver took PCI device %s, bound to %s: bind it to "
				"vfio-pci",
				address, driver[0] != '\0' ? driver : "no kernel driver");
	else if (error != 0)
		hr_why(why, NULL, "cannot open %s/%s of PCI device %s: %s%s", hr_vfio, group,
				address, strerror(error),
				error == EBUSY ? " (another process has it)"
						: error == EPERM
						? " (give the container this device node)"
						: "");
	else if (group[0] == '\0' || has_node("noiommu-", group))
		hr_why(why, NULL,
				"PCI device %s has no IOMMU, without which it cannot be used: "
				"enable it in the firmware, and intel_iommu=on or amd_iommu=on",
				address);
	else if (rte_eal_has_hugepages() == 0)
		hr_why(why, NULL,
				"PCI device %s cannot be used without hugepages: reserve them on "
				"the node",
				address);
	else
		hr_why(why, NULL,
				"no DPDK driver took PCI device %s, bound to vfio-pci: see the "
				"engine's log",
				address);
}
