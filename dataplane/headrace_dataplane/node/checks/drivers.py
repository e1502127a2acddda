# SPDX-License-Identifier: Apache-2.0
"""DriversReady: devices have the driver that DPDK needs, and it is there."""

from collections.abc import Iterator

from headrace_api.node_facts import NodeFacts
from headrace_api.node_state import NodeCheck, Subject
from headrace_dataplane.node.checks.check import About, Wanted
from headrace_dataplane.node.checks.iommu import needs_vfio
from headrace_dataplane.node.checks.placement import Device, chosen, functions, no_device
from headrace_dataplane.node.drivers import USERSPACE, VFIO, bifurcated, may_do_without_iommu

_about = About(Subject.DRIVERS)


def check(facts: NodeFacts, wanted: Wanted) -> Iterator[NodeCheck]:
    """Yield the checks."""
    yield _vfio(facts, wanted)
    yield _verbs(facts, wanted)
    yield _driver(facts, wanted)
    yield _groups(facts, wanted)


def bind(address: str, driver: str) -> str:
    """The remedy of a wrong driver."""
    return (
        f"driverctl set-override {address} {driver}   # stays after a reboot\n"
        f"  or, until then: {_rebind(address, driver)}"
    )


def _rebind(address: str, driver: str) -> str:
    folder = f"/sys/bus/pci/devices/{address}"
    return (
        f"echo {driver} > {folder}/driver_override; echo {address} > {folder}/driver/unbind; "
        f"echo {address} > /sys/bus/pci/drivers_probe"
    )


def _vfio(facts: NodeFacts, wanted: Wanted) -> NodeCheck:
    if not needs_vfio(facts, wanted):
        return _about.skipped(VFIO, "no device here goes to DPDK by vfio")
    if facts.kernel.pci_drivers is None:
        return _about.unknown(VFIO, "/sys/bus/pci/drivers")
    if VFIO in facts.kernel.pci_drivers:
        return _about.passed(VFIO, "loaded")
    return _about.failed(
        VFIO,
        "not loaded",
        f"modprobe {VFIO}; echo {VFIO} > /etc/modules-load.d/{VFIO}.conf",
    )


def _verbs(facts: NodeFacts, wanted: Wanted) -> NodeCheck:
    """Whether devices that stay with their kernel driver can lend queues."""
    shared = [each for device in chosen(facts, wanted) if (each := bifurcated(device.function))]
    if not shared:
        return _about.skipped("verbs", "no device here stays with its kernel driver")
    if facts.kernel.modules is None:
        return _about.unknown("verbs", "/sys/module")
    needed = dict.fromkeys(module for each in shared for module in each.modules)
    missing = [module for module in needed if module not in facts.kernel.modules]
    if not missing:
        return _about.passed("verbs", f"{', '.join(needed)}: loaded")
    lines = "\\n".join(missing)
    return _about.failed(
        "verbs",
        f"not loaded: {', '.join(missing)}",
        f"modprobe -a {' '.join(missing)}; printf '{lines}\\n' > /etc/modules-load.d/verbs.conf",
    )


def _driver(facts: NodeFacts, wanted: Wanted) -> NodeCheck:
    devices = chosen(facts, wanted)
    if not wanted.devices:
        # One that shares itself is useless there, whoever it was meant for.
        devices += tuple(
            each
            for each in functions(facts)
            if each.function.driver in USERSPACE
            if each not in devices
        )
    if not devices:
        return _about.skipped("driver", no_device(wanted))
    checks = [found for device in devices if (found := _wrong_driver(device))]
    if checks:
        return checks[0]
    names = dict.fromkeys(each.function.driver for each in devices)
    return _about.passed("driver", f"{', '.join(names)} ({_count(len(devices))})")


def _count(devices: int) -> str:
    return "1 device" if devices == 1 else f"{devices} devices"


def _wrong_driver(device: Device) -> NodeCheck | None:
    driver = device.function.driver
    has = f"{device.names} has driver {driver}" if driver else f"{device.names} has no driver"
    if shared := bifurcated(device.function):
        if driver == shared.driver:
            return None
        return _about.failed(
            "driver",
            f"{has}: this kind stays with the kernel's {shared.driver}, which DPDK works beside",
            f"driverctl unset-override {device.address}\n"
            f"  or, until then: {_rebind(device.address, shared.driver)}"
            if driver
            else f"modprobe {shared.driver}",
        )
    if driver == VFIO or (driver in USERSPACE and may_do_without_iommu(device.function)):
        return None
    if driver in USERSPACE:
        return _about.warned(
            "driver",
            f"{has}, by which it may write to all memory",
            bind(device.address, VFIO),
        )
    return _about.failed("driver", f"{has}: DPDK needs {VFIO}", bind(device.address, VFIO))


def _groups(facts: NodeFacts, wanted: Wanted) -> NodeCheck:
    name = "IOMMU groups"
    if not facts.iommu.groups:
        return _about.skipped(name, "there is no IOMMU")
    devices = [each for each in chosen(facts, wanted) if bifurcated(each.function) is None]
    if not devices:
        return _about.skipped(name, "no device here goes to DPDK by vfio")
    for device in devices:
        if device.function.iommu_group is None:
            return _about.failed(
                name,
                f"{device.names} is in none: no IOMMU translates for it",
                "enable the IOMMU for its slot in the firmware's settings",
            )
        for peer in device.function.group_peers:
            if not peer.bridge and peer.driver and peer.driver not in (VFIO, "pci-stub"):
                return _about.failed(
                    name,
                    f"{device.names} shares group {device.function.iommu_group} with "
                    f"{peer.pci_address}, which has driver {peer.driver}: vfio gives out whole "
                    "groups",
                    bind(peer.pci_address, VFIO)
                    + "\n  or put the card into another slot, behind a port with ACS",
                )
    return _about.passed(name, f"nobody else is in them ({_count(len(devices))})")
