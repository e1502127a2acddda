#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Init of a virtual machine with an igb NIC: the engine on its VFs.

The VM has QEMU's igb (an emulated Intel 82576 with 7 VFs), an IOMMU, vfio and the engine at
`ENGINE`. The engine takes VFs by vfio-pci, the kernel has one by igbvf and is their neighbour.
Prints "ok NAME" or "FAIL NAME: why" for each check, and ends in "RESULT fail=N SECONDS".
Standard library alone: nothing is installed in the VM for it.
"""

import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ENGINE = os.environ.get("ENGINE", "/src/build/engine/headrace-engine")
DEVICES = Path("/sys/bus/pci/devices")
SOCKET = "/run/engine.sock"
#: Everything is slow under emulation.
SECONDS = 30.0

failures = 0


def sh(command: str, check: bool = True) -> str:
    """Run a command; its output."""
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120)
    if check and done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def until(condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """Wait until a condition holds; what it returned then."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"never: {what}")
        time.sleep(0.05)
    return value


@contextlib.contextmanager
def check(name: str) -> Iterator[None]:
    """Print how a check went, and go on."""
    global failures
    start = time.monotonic()
    try:
        yield
    except Exception as error:
        failures += 1
        last = traceback.extract_tb(error.__traceback__)[1:] or traceback.extract_tb(
            error.__traceback__
        )
        print(f"FAIL {name}: {type(error).__name__} {error} (line {last[0].lineno})", flush=True)
    else:
        print(f"ok {name} ({time.monotonic() - start:.1f} s)", flush=True)


# The kernel's side.


def write(path: Path | str, text: str) -> None:
    """Write into sysfs."""
    Path(path).write_text(text)


def carrier(netdev: str) -> None:
    """Wait until a kernel device has a link."""

    def up() -> bool:
        try:
            return Path(f"/sys/class/net/{netdev}/carrier").read_text().strip() == "1"
        except OSError:
            return False

    until(up, f"carrier of {netdev}")


class Nic:
    """The physical function and its VFs."""

    def __init__(self) -> None:
        self.address = next(DEVICES.glob("*/sriov_totalvfs")).parent.name
        folder = DEVICES / self.address / "net"
        until(lambda: folder.is_dir() and any(folder.iterdir()), "the PF's kernel device")
        self.netdev = next(folder.iterdir()).name
        # Before there are VFs: each change resets them.
        sh(f"ip link set {self.netdev} mtu 9000 up")
        carrier(self.netdev)

    @property
    def number(self) -> int:
        return int((DEVICES / self.address / "sriov_numvfs").read_text())

    def make(self, number: int) -> list[str]:
        """Make so many VFs, each with a MAC address; their PCI addresses."""
        write(DEVICES / self.address / "sriov_numvfs", str(number))
        for vf in range(number):
            sh(f"ip link set {self.netdev} vf {vf} mac {mac(vf)}")
        # igb begins anew at this: it has no link for about 2 s.
        carrier(self.netdev)
        return [(DEVICES / self.address / f"virtfn{vf}").resolve().name for vf in range(number)]

    def remove(self, seconds: float) -> float:
        """Take all VFs away; how long the kernel took, in seconds. It waits for who has them."""
        start = time.monotonic()
        path = DEVICES / self.address / "sriov_numvfs"
        subprocess.run(["sh", "-c", f"echo 0 > {path}"], timeout=seconds, check=True)
        return time.monotonic() - start


def mac(vf: int) -> str:
    return f"02:00:00:00:00:{vf:02x}"


def bind(address: str, driver: str) -> None:
    """Have a kernel driver take a PCI device."""
    device = DEVICES / address
    write(device / "driver_override", driver)
    if (device / "driver").exists():
        write(device / "driver" / "unbind", address)
    write("/sys/bus/pci/drivers_probe", address)
    until(lambda: (device / "driver").resolve().name == driver, f"{address} is {driver}'s")


def group(address: str) -> str:
    return (DEVICES / address / "iommu_group").resolve().name


def kernel_vf(address: str) -> str:
    """Give a VF to the kernel, with addresses in the network blue; its device."""
    sh("modprobe igbvf")
    bind(address, "igbvf")
    folder = DEVICES / address / "net"
    until(lambda: folder.is_dir() and any(folder.iterdir()), "the VF's kernel device")
    time.sleep(0.5)  # udev renames it.
    name = next(folder.iterdir()).name
    sh(f"ip link set {name} up; ip addr add 10.0.0.2/24 dev {name}")
    for own in ("fd00:10::2/64", "fd00:2::1/64"):
        sh(f"ip -6 addr add {own} dev {name} nodad")
    carrier(name)
    return name


def ping(address: str, count: int = 5, options: str = "") -> int:
    """Echo replies."""
    out = sh(f"ping -n -c{count} -i.2 -W2 {options} {address}", check=False)
    found = re.search(r"(\d+) received", out)
    return int(found[1]) if found else 0


# The engine's side.


def telemetry(command: str) -> Any:
    path = next(Path("/run").rglob("dpdk_telemetry.v2"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(SECONDS)
        connection.connect(str(path))
        connection.recv(1024)
        connection.send(command.encode())
        return json.loads(connection.recv(1 << 20))[command.partition(",")[0]]


class Engine:
    """A running engine."""

    def __init__(self, *options: str, within: str = "", memory: int = 256) -> None:
        """`within` is what the shell does first, and with which program."""
        self.log = Path("/run/engine.log")
        for left in (SOCKET, self.log):
            Path(left).unlink(missing_ok=True)
        command = f"{ENGINE} --socket {SOCKET} --name a --cpus 0,1 --workers 1 "
        command += f"--runtime-dir /run --memory {memory} {' '.join(options)}"
        self.process = subprocess.Popen(
            ["sh", "-c", f"{within or 'exec'} {command} >{self.log} 2>&1"]
        )
        self.generation = 0
        try:
            until(lambda: "ready on" in self.says(), "the engine is ready")
        except AssertionError:
            print(self.says())
            raise

    def says(self) -> str:
        """Its log."""
        return self.log.read_text() if self.log.exists() else ""

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(request).encode()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SECONDS)
            connection.connect(SOCKET)
            connection.sendall(struct.pack(">I", len(body)) + body)
            (length,) = struct.unpack(">I", connection.recv(4, socket.MSG_WAITALL))
            return json.loads(connection.recv(length, socket.MSG_WAITALL))

    def commit(self, *objects: dict[str, Any]) -> list[dict[str, Any]]:
        """Commit; what was refused."""
        self.generation += 1
        reply = self.ask({"op": "commit", "generation": self.generation, "objects": objects})
        return reply.get("errors", [])

    def put(self, *objects: dict[str, Any]) -> None:
        errors = self.commit(*objects)
        assert not errors, errors

    def list(self, kind: str) -> dict[str, dict[str, Any]]:
        items = self.ask({"op": "list", "kind": kind, "filter": {}, "limit": 100, "cursor": 0})
        return {item.get("name", str(n)): item for n, item in enumerate(items["items"])}

    def port(self, name: str) -> dict[str, Any]:
        return self.list("port")[name]

    def becomes(self, name: str, state: str, reason: str | None = None) -> dict[str, Any]:
        """Wait until a port is in a state, for a reason where one is given; the port then."""

        def there() -> dict[str, Any] | None:
            item = self.port(name)
            wanted = item["state"] == state and reason in (None, item.get("reason"))
            return item if wanted else None

        found: dict[str, Any] = until(there, f"{name} is {state} ({reason or 'whyever'})")
        return found

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


serial = 0


def put(kind: str, key: str, **spec: Any) -> dict[str, Any]:
    global serial
    serial += 1
    return {"kind": kind, "key": key, "hash": str(serial), "spec": spec}


def delete(kind: str, key: str) -> dict[str, Any]:
    return {"kind": kind, "key": key, "delete": True}


def port(key: str, address: str, **spec: Any) -> dict[str, Any]:
    return put("port", key, **{"devargs": address, "rxQueues": 1, "mtu": 1500, **spec})


def interface(key: str, number: int, own: list[str], **spec: Any) -> dict[str, Any]:
    return put("interface", key, **{
        "port": key, "network": "t/blue", "addresses": own, "prefixes": [],
        "gateways": ["10.0.0.1", "fd00:10::1", "fe80::1"], "underlay": f"fd00:1::{number}",
        "sourceCheck": True, "mtu": 1500, **spec,
    })  # fmt: skip


SETTINGS = put("settings", "engine", idle="adaptive", burst=64, icmpPerSecond=1000)
BLUE = put("network", "t/blue", vni=1, gateways=["10.0.0.1", "fd00:10::1"])


def drops() -> dict[str, int]:
    return {reason: n for reason, n in telemetry("/headrace/drops").items() if n}


# Checks.


def multicast(nic: Nic, vfs: list[str], kernel: str) -> None:
    """Neighbour discovery on VFs, without trust and with it; groups follow addresses."""
    engine = Engine()
    with check("open two VFs"):
        engine.put(
            SETTINGS, port("t/a", vfs[0]), port("up", vfs[1]), BLUE,
            interface("t/a", 2, ["10.0.0.2", "fd00:10::2"]),
            put("uplink", "up", port="up", mtu=1500, addresses=["fd00:2::2"],
                onLink=["fd00:2::/64"]),
        )  # fmt: skip
        engine.becomes("t/a", "up")
        engine.becomes("up", "up")
        for name in ("t/a", "up"):
            item = engine.port(name)
            print(
                name,
                {
                    k: item.get(k)
                    for k in (
                        "mac",
                        "mtu",
                        "driver",
                        "multicast",
                        "refused",
                        "txQueues",
                        "rxQueues",
                    )
                },
            )
    with check("multicast by groups"):
        assert {engine.port(name)["multicast"] for name in ("t/a", "up")} == {"groups"}
        assert engine.port("t/a")["mac"] == mac(0)
    for trust in ("off", "on"):
        with check(f"trust {trust}"):
            for vf in (0, 1):
                sh(f"ip link set {nic.netdev} vf {vf} trust {trust}")
            sh(f"ip -6 neigh flush dev {kernel}; ip neigh flush dev {kernel}")
            assert ping("10.0.0.1") == 5, "IPv4 to the gateway"
            assert ping("fd00:10::1") == 5, "IPv6 to the gateway"
            assert ping("fd00:2::2") == 5, "IPv6 to the underlay address"
    with check("a router solicitation is answered"):
        settings = f"net.ipv6.conf.{kernel}"
        sh(f"sysctl -qw {settings}.accept_ra=2 {settings}.keep_addr_on_down=1")
        sh(f"ip link set {kernel} down; ip link set {kernel} up")
        carrier(kernel)
        until(lambda: "default via fe80::1" in sh("ip -6 route"), "a default route")
    with check("groups follow addresses"):
        assert ping("fd00:2::77:1", 2) == 0
        engine.put(put("uplink", "up", port="up", mtu=1500, addresses=["fd00:2::2", "fd00:2::77:1"],
                       onLink=["fd00:2::/64"]))  # fmt: skip
        sh(f"ip -6 neigh flush dev {kernel}")
        assert ping("fd00:2::77:1") == 5
        engine.put(put("uplink", "up", port="up", mtu=1500, addresses=["fd00:2::2"],
                       onLink=["fd00:2::/64"]))  # fmt: skip
        sh(f"ip -6 neigh flush dev {kernel}")
        assert ping("fd00:2::77:1", 2) == 0
    with check("an MTU changes, and groups stay"):
        engine.put(port("up", vfs[1], mtu=1400))
        assert engine.port("up")["mtu"] == 1400, engine.port("up")
        sh(f"ip -6 neigh flush dev {kernel}")
        engine.becomes("up", "up")
        until(lambda: ping("fd00:2::2", 1), "the underlay address answers")
    for vf in (0, 1):
        sh(f"ip link set {nic.netdev} vf {vf} trust off")
    wishes: dict[str, tuple[dict[str, Any], set[str]]] = {
        "promiscuous": ({"promiscuous": True}, {"promiscuous"}),
        "a MAC address that the PF has not given": ({"mac": "02:00:00:00:00:99"}, {"mac"}),
        "4 queues": ({"rxQueues": 4}, {"rxQueues"}),
        "a large MTU": ({"mtu": 9216}, {"mtu"}),
        "nothing": ({}, set()),
    }
    for name, (wish, refused) in wishes.items():
        with check(f"asked for {name}"):
            engine.put(port("up", vfs[1], **wish))
            item = engine.becomes("up", "up")
            print({k: item[k] for k in ("mac", "mtu", "multicast", "rxQueues", "refused")})
            assert set(item["refused"]) == refused, item
            sh(f"ip -6 neigh flush dev {kernel}")
            until(lambda: ping("fd00:2::2", 1), "the underlay address answers")
            if "mac" in wish:
                assert item["mac"] == mac(1), item
    print("drops:", drops())
    engine.stop()
    engine = Engine("--max-mtu 9216")
    with check("an MTU of 9216"):
        engine.put(SETTINGS, port("up", vfs[1], mtu=9216),
                   put("uplink", "up", port="up", mtu=9216, addresses=["fd00:2::2"],
                       onLink=["fd00:2::/64"]))  # fmt: skip
        item = engine.becomes("up", "up")
        print({k: item[k] for k in ("mtu", "refused")})
        until(lambda: ping("fd00:2::2", 1), "the underlay address answers")
        sh(f"ip link set {kernel} mtu 9000")
        carrier(kernel)
        assert ping("fd00:2::2", 3, "-s 8000") == 3
        sh(f"ip link set {kernel} mtu 1500")
        carrier(kernel)
    engine.stop()


def decided(item: dict[str, Any]) -> str:
    """State of a port, once the engine has looked at its bound device."""
    waits = item["state"] == "gone" and item["reason"] in ("DeviceRemoved", "DeviceNotBound")
    return "" if waits else str(item["state"])


def removal(nic: Nic, vfs: list[str], kernel: str) -> None:
    """VFs that the node takes away under traffic, and that come back."""
    engine = Engine()
    engine.put(
        SETTINGS, port("t/a", vfs[0]), port("t/b", vfs[1]), port("t/c", vfs[3]), BLUE,
        interface("t/a", 2, ["10.0.0.2", "fd00:10::2"]),
        interface("t/b", 3, ["10.0.0.9"]),
        put("port", "t/pair", devargs="net_tap_pair,iface=pair", rxQueues=1, mtu=1500),
        put("network", "t/other", vni=2, gateways=["10.9.0.1"]),
        interface("t/pair", 4, ["10.9.0.2"], network="t/other", gateways=["10.9.0.1"]),
    )  # fmt: skip
    engine.becomes("t/a", "up")
    sh("ip addr add 10.9.0.2/24 dev pair; ip link set pair up")
    until(lambda: ping("10.9.0.1", 1), "the tap's gateway answers")
    beside = subprocess.Popen(
        ["ping", "-n", "-i.1", "-c150", "-W2", "10.9.0.1"], stdout=subprocess.PIPE, text=True
    )
    through = subprocess.Popen(
        ["ping", "-n", "-i.1", "-c150", "-W2", "10.0.0.1"], stdout=subprocess.DEVNULL
    )
    groups = [group(address) for address in vfs]
    with check("a VF is given back when it is taken from its driver"):
        start = time.monotonic()
        write(DEVICES / vfs[3] / "driver" / "unbind", vfs[3])
        took = time.monotonic() - start
        print(f"unbind took {took:.3f} s")
        assert took < 5
        item = engine.becomes("t/c", "gone")
        assert item["reason"] == "DeviceRemoved", item
        assert engine.port("t/a")["state"] == "up"
    with check("a VF that is bound again is taken up"):
        bind(vfs[3], "vfio-pci")
        engine.becomes("t/c", "up")
        assert engine.port("t/c")["losses"] == 1
    with check("all VFs are given back"):
        took = nic.remove(20)
        print(f"sriov_numvfs took {took:.3f} s")
        assert took < 10, took
        assert nic.number == 0
        for name in ("t/a", "t/b", "t/c"):
            item = engine.port(name)
            assert (item["state"], item["reason"]) == ("gone", "DeviceRemoved"), item
        item = engine.list("interface")["t/a"]
        assert (item["state"], item["reason"]) == ("gone", "DeviceRemoved"), item
        time.sleep(3)  # Looked for in vain.
        item = engine.port("t/a")
        print("t/a:", item["reason"], item["error"])
        assert item["reason"] == "DeviceRemoved", item
    through.kill()
    through.wait()
    with check("VFs come back"):
        again = nic.make(4)
        assert again == vfs
        print("groups", groups, "now", [group(address) for address in again])
        for address in (vfs[0], vfs[1], vfs[3]):
            bind(address, "vfio-pci")
        kernel_vf(vfs[2])
        for name in ("t/a", "t/b", "t/c"):
            engine.becomes(name, "up")
        until(lambda: ping("10.0.0.1", 1), "the gateway answers again")
        assert ping("fd00:10::1") == 5
    with check("another port lost nothing"):
        report = beside.communicate()[0]
        print(report.splitlines()[-2])
        assert " 0% packet loss" in report, report
    with check("a device node that the container has not"):
        bind(vfs[3], "igbvf")
        engine.becomes("t/c", "gone")
        item = engine.becomes("t/c", "gone", "DeviceNotBound")
        print(item["error"])
        # The engine's mount namespace is the VM's: what a container lacks is taken away here. vfio
        # gives out the node as it takes the device, and the engine looks once a second.
        for _ in range(20):
            bind(vfs[3], "vfio-pci")
            (Path("/dev/vfio") / group(vfs[3])).unlink()
            if until(lambda: decided(engine.port("t/c")), "it was looked at") == "gone":
                break
            write(DEVICES / vfs[3] / "driver" / "unbind", vfs[3])
            engine.becomes("t/c", "gone")
        item = engine.becomes("t/c", "gone", "DeviceNodeChanged")
        print(item["error"])
        assert f"/dev/vfio/{group(vfs[3])}" in item["error"], item
    with check("a device node that is there again"):
        write(DEVICES / vfs[3] / "driver" / "unbind", vfs[3])
        bind(vfs[3], "vfio-pci")
        engine.becomes("t/c", "up")
        engine.put(delete("port", "t/c"))
    print("drops:", drops())
    engine.stop()


def limits(nic: Nic, vfs: list[str], kernel: str) -> None:
    """What keeps a device from reaching the engine's memory is said."""
    drop = "setpriv --bounding-set=-ipc_lock --inh-caps=-ipc_lock"
    engine = Engine(within=f"ulimit -l 65536; exec {drop}")
    with check("too little memory may be locked"):
        errors = engine.commit(SETTINGS, port("t/a", vfs[0]))
        print(errors)
        assert [error["reason"] for error in errors] == ["MemoryLockLimit"], errors
    engine.stop()
    engine = Engine("--hugepages off", memory=256)
    with check("without hugepages it works, or is refused"):
        blue = (BLUE, interface("t/a", 2, ["10.0.0.2"]))
        errors = engine.commit(SETTINGS, port("t/a", vfs[0]), *blue)
        print(errors)
        if not errors:
            engine.becomes("t/a", "up")
            assert ping("10.0.0.1", 3) == 3
    engine.stop()


def nodes(nic: Nic, vfs: list[str], kernel: str) -> None:
    """A container that has the device nodes of some devices only."""
    node = Path("/dev/vfio") / group(vfs[3])
    # As good as not there: the engine's mount namespace is the VM's.
    aside = node.rename("/dev/aside")
    engine = Engine()
    with check("the engine starts with some device nodes, and uses their devices"):
        engine.put(SETTINGS, port("t/a", vfs[0]), port("t/b", vfs[1]))
        engine.becomes("t/a", "up")
        engine.becomes("t/b", "up")
        errors = engine.commit(port("t/c", vfs[3]))
        print(errors)
        assert [error["reason"] for error in errors] == ["DeviceNodeChanged"], errors
        aside.rename(node)
        engine.put(port("t/c", vfs[3]))
        engine.becomes("t/c", "up")
    engine.stop()


def virtio(nic: Nic, vfs: list[str], kernel: str) -> None:
    """A virtio device by vfio, where the VM has two of them on one wire: the engine, the kernel."""
    found = sorted(
        device.name
        for device in DEVICES.iterdir()
        if (device / "vendor").read_text().strip() == "0x1af4"
        if (device / "class").read_text().startswith("0x0200")
    )
    if len(found) < 2:
        print("virtio: left out, the VM has no two devices")
        return
    ours, theirs = found[:2]
    peer = next((DEVICES / theirs).glob("virtio*/net/*")).name
    bind(ours, "vfio-pci")
    engine = Engine()
    with check("virtio"):
        engine.put(SETTINGS, port("up", ours, mac="02:00:00:00:00:77", promiscuous=True),
                   put("uplink", "up", port="up", mtu=1500, addresses=["fd00:3::2"],
                       onLink=["fd00:3::/64"]))  # fmt: skip
        item = engine.becomes("up", "up")
        print({k: item[k] for k in ("driver", "mac", "mtu", "multicast", "rxQueues", "refused")})
        sh(f"ip link set {peer} up; ip -6 addr add fd00:3::1/64 dev {peer} nodad")
        until(lambda: ping("fd00:3::2", 1), "the underlay address answers")
        assert ping("fd00:3::2") == 5
    with check("virtio is given back"):
        start = time.monotonic()
        write(DEVICES / ours / "driver" / "unbind", ours)
        assert time.monotonic() - start < 5
        engine.becomes("up", "gone")
        bind(ours, "vfio-pci")
        engine.becomes("up", "up")
        until(lambda: ping("fd00:3::2", 1), "the underlay address answers")
    engine.stop()


def main() -> None:
    sh("mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev", check=False)
    sh("mkdir -p /dev/hugepages; mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /tmp")
    sh("mount -t hugetlbfs nodev /dev/hugepages; sysctl -qw vm.nr_hugepages=256")
    sh("modprobe -a igb vfio-pci tun; ip link set lo up; mkdir -p /dev/pts", check=False)
    nic = Nic()
    vfs = nic.make(4)
    for address in (vfs[0], vfs[1], vfs[3]):
        bind(address, "vfio-pci")
    kernel = kernel_vf(vfs[2])
    print("vfs", {address: group(address) for address in vfs}, "kernel", kernel, flush=True)
    wanted = sys.argv[1:] or ["multicast", "removal", "limits", "nodes", "virtio"]
    for name in wanted:
        try:
            globals()[name](nic, vfs, kernel)
        except Exception:
            global failures
            failures += 1
            traceback.print_exc()
            print(Path("/run/engine.log").read_text()[-3000:])
    print(Path("/run/engine.log").read_text()[-2500:])
    print(sh("dmesg | grep -iE 'igb|vfio' | tail -12", check=False))
    with check("the IOMMU refused nothing"):
        assert not (said := sh("dmesg | grep -iE 'dmar.*fault|spoof'", check=False)), said


if __name__ == "__main__":
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    try:
        main()
    except Exception:
        failures += 1
        traceback.print_exc()
    uptime = Path("/proc/uptime").read_text().split()[0]
    print(f"RESULT fail={failures} {uptime}", flush=True)
    if os.getpid() == 1:
        sh("sync; poweroff -f", check=False)
