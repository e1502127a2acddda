# SPDX-License-Identifier: Apache-2.0
"""What the machine is made of, as QEMU's options."""

PAGES = 256
"""Hugepages of 2 MiB on each NUMA node."""
CPUS = ((0, 1), (2, 3))
"""By NUMA node; the first is the system's."""
NIC_NUMA_NODE = 1
NIC = "pf"
"""QEMU's name of it."""
TOTAL_VFS = 7

# Where QEMU's root has what is not its own, see qemu.sh.
_CLUSTER, _BUILT = "/mnt", "/srv"
_MEMORY_MIB = 2560
"""Of each NUMA node."""
_MAC = "02:00:00:00:01:00"
_BUS = "bus=pcie.0"
"""Of all but the NIC."""
_TAP = "script=no,downscript=no"
_KERNEL = (
    "console=ttyS0 panic=-1 intel_iommu=on iommu=pt "
    # On a busy machine no timer ticks while the kernel looks whether it does, and it gives up; and
    # every other clock than the TSC takes QEMU itself to read. Nobody here attacks anybody.
    "no_timer_check tsc=reliable mitigations=off"
)


def options(name: str, wire: str) -> tuple[str, ...]:
    """Return QEMU's options for a machine; `name` and `wire` are TAP devices."""
    sockets, cores = len(CPUS), len(CPUS[0])
    return (
        *("-accel", "tcg,thread=multi", "-cpu", "max,la57=off"),
        *("-machine", "q35,kernel-irqchip=split,sata=off,smbus=off"),
        *("-smp", f"{sockets * cores},sockets={sockets},cores={cores},threads=1"),
        *("-m", f"{sockets * _MEMORY_MIB}M", *_numa()),
        *("-nodefaults", "-display", "none", "-no-reboot"),
        *("-kernel", f"{_BUILT}/vmlinuz", "-initrd", f"{_BUILT}/initrd", "-append", _KERNEL),
        *("-device", "intel-iommu,intremap=on,caching-mode=on", *_disks(name)),
        *("-serial", "stdio", "-device", f"virtio-serial-pci,{_BUS}"),
        *("-chardev", f"file,id=services,path={_CLUSTER}/log/{name}-services,append=on"),
        *("-device", "virtserialport,chardev=services"),
        *("-qmp", f"unix:{_CLUSTER}/{name}/monitor,server=on,wait=off"),
        *("-netdev", f"tap,id=net,ifname={name},{_TAP}"),
        *("-device", f"virtio-net-pci,{_BUS},netdev=net,romfile="),
        *("-device", f"pxb-pcie,id=pxb,bus_nr=128,numa_node={NIC_NUMA_NODE}"),
        *("-device", "pcie-root-port,id=root1,bus=pxb"),
        # Frames on the wire are whole: checksums and segments are the NIC's to make.
        *("-netdev", f"tap,id=wire,ifname={wire},{_TAP},vnet_hdr=off"),
        *("-device", f"igb,id={NIC},bus=root1,netdev=wire,mac={_MAC}"),
    )


def _numa() -> list[str]:
    words = []
    for node, cpus in enumerate(CPUS):
        memory = f"memory-backend-ram,id=memory{node},size={_MEMORY_MIB}M"
        words += ["-object", memory, "-numa", f"node,nodeid={node},memdev=memory{node}"]
        for core, _ in enumerate(cpus):
            words += ["-numa", f"cpu,node-id={node},socket-id={node},core-id={core}"]
    return words


def _disks(name: str) -> list[str]:
    """Their order is that of vda, vdb, vdc."""
    words = []
    for disk, form in (("root", "qcow2"), ("seed", "raw"), ("images", "qcow2")):
        file = f"file={_CLUSTER}/{name}/{disk}.disk,if=none,id={disk},format={form}"
        words += ["-drive", file, "-device", f"virtio-blk-pci,{_BUS},drive={disk}"]
    return words
