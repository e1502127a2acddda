# SPDX-License-Identifier: Apache-2.0
"""vhost-user: the engine as the back end of virtual machines, and as the front end of another.

The other side is a second engine, or a front end that leaves checksums to its device as virtual
machines do.
"""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.packet import Packet
from scapy.utils import PcapWriter

from headrace_api import Attachment
from headrace_dataplane.protocol import Delete, JSONObject, Port, Put, RefusedError
from headrace_dataplane.translate import device
from tests.engine import frames
from tests.engine.lab import Lab, put, settings
from tests.engine.process import Engine, Namespace, until
from tests.engine.site import (
    BLUE,
    GREEN,
    A,
    B,
    C,
    D,
    Endpoint,
    Site,
    host_routes,
    network,
    routes,
    tap,
)
from tests.engine.wire import Wire

FAMILIES = pytest.mark.parametrize("family", [4, 6])
COUNT = 100
HARDWARE = frames.GATEWAY_MAC
"""MAC address of endpoint B: a second engine sends with its gateway's."""


def port(attachment: JSONObject, queues: int = 1) -> Put:
    made = device("v", Attachment.model_validate(attachment), queues, 1500)
    return put("port", "v", devargs=made.devargs, rxQueues=queues, mtu=1500)


def back_end(path: Path, queues: int = 1) -> Put:
    return port({"type": "VhostUser", "vhostUser": {"socketPath": str(path)}}, queues)


def front_end(path: Path, queues: int = 1) -> Put:
    return port({"type": "VirtioUser", "virtioUser": {"socketPath": str(path)}}, queues)


def state(lab: Lab) -> str:
    return lab.item(Port, name="v").state


class Far:
    """A second engine: its front end is near's endpoint B, and B itself is its wire."""

    def __init__(self, binary: Path, namespace: Namespace, folder: Path, path: Path) -> None:
        self.engine = Engine(binary, folder, namespace)
        try:
            self.lab = Lab(self.engine, namespace)
            self.lab.commit(settings(), front_end(path), tap("far"), network(GREEN, 7))
            owner = ("interface", "t/far")
            self.wire = self.lab.connect("far", "far", D.hardware, owner)
            behind = C.with_(name="v", hardware=frames.GATEWAY_MAC, underlay="fd00:1:0:1::7")
            self.lab.commit(
                D.with_(name="far").interface(),
                behind.interface(),
                routes("hosts", GREEN, *host_routes(behind, D)),
            )
        except BaseException:
            self.engine.stop()
            raise


@contextlib.contextmanager
def far_side(binary: Path, namespace: Namespace, folder: Path, path: Path) -> Iterator[Far]:
    far = Far(binary, namespace, folder, path)
    try:
        yield far
        far.lab.disconnect("far")
    finally:
        if far.engine.alive:
            far.engine.stop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vhost.sock"


@pytest.fixture
def site(lab: Lab, path: Path) -> Iterator[Site]:
    """Endpoint B is behind the back end at `path`, A on a wire."""
    site = Site(lab, A)
    lab.commit(
        back_end(path),
        B.with_(extra={"port": "v"}, hardware=HARDWARE).interface(),
        routes("b", BLUE, *host_routes(B)),
    )
    yield site
    lab.disconnect("a")


def both_up(site: Site, far: Far) -> None:
    until(lambda: state(site.lab) == "up", "the back end is up")
    until(lambda: state(far.lab) == "up", "the front end is up")


def flow(site: Site, far: Far, family: int = 4) -> None:
    """Packets through both engines, each way, none lost and none changed."""

    def one_way(source: Wire, sender: Endpoint, lab: Lab, target: Wire, receiver: Endpoint) -> None:
        packets = [
            frames.udp(sender.address(family), receiver.address(family), sport=sport)
            for sport in range(1, COUNT + 1)
        ]
        for packet in packets:
            source.send(frames.frame(sender.hardware, packet))
        for packet in packets:
            got = lab.receive(target, frames.has(UDP))
            assert got.dst == receiver.hardware
            assert (got.payload.ttl if family == 4 else got.payload.hlim) == 62
            assert bytes(got[UDP]) == bytes(packet[UDP])

    one_way(site.a, A, far.lab, far.wire, D)
    one_way(far.wire, D, site.lab, site.a, A)


@FAMILIES
def test_between_two_engines(
    site: Site, binary: Path, namespace: Namespace, tmp_path: Path, path: Path, family: int
) -> None:
    assert state(site.lab) == "down"
    with far_side(binary, namespace, tmp_path, path) as far:
        both_up(site, far)
        assert site.lab.item(Port, name="v").driver == "net_vhost"
        assert far.lab.item(Port, name="v").driver == "net_virtio_user"
        flow(site, far, family)


def test_queues(site: Site, binary: Path, namespace: Namespace, tmp_path: Path, path: Path) -> None:
    """Both devices are replaced by others with two queue pairs."""
    with far_side(binary, namespace, tmp_path, path) as far:
        site.lab.commit(back_end(path, queues=2))
        far.lab.commit(front_end(path, queues=2))
        both_up(site, far)
        for lab in (site.lab, far.lab):
            assert len(lab.item(Port, name="v").rx_queues) == 2
        flow(site, far)


def test_the_back_end_goes_and_comes_back(
    site: Site, binary: Path, namespace: Namespace, tmp_path: Path, path: Path
) -> None:
    """The socket goes with the port; the front end asks on until there is one again."""
    with far_side(binary, namespace, tmp_path, path) as far:
        both_up(site, far)
        interface = B.with_(extra={"port": "v"}, hardware=frames.GATEWAY_MAC).interface()
        site.lab.commit(Delete("interface", "t/b"), Delete("port", "v"))
        assert not path.exists()
        until(lambda: state(far.lab) == "gone", "the front end misses its back end")
        site.lab.commit(back_end(path), interface)
        both_up(site, far)
        flow(site, far)


def test_a_front_end_dies_and_another_comes(
    site: Site, binary: Path, namespace: Namespace, tmp_path: Path, path: Path
) -> None:
    with far_side(binary, namespace, tmp_path, path) as far:
        both_up(site, far)
        flow(site, far)
        far.engine.kill()
    until(lambda: state(site.lab) == "down", "the back end misses its front end")
    with far_side(binary, namespace, tmp_path, path) as far:
        both_up(site, far)
        flow(site, far)


def test_the_front_end_may_be_first(lab: Lab, path: Path) -> None:
    """It is no error that nobody listens yet."""
    lab.commit(front_end(path))
    item = lab.item(Port, name="v")
    assert item.state == "gone"
    assert item.error is not None
    assert str(path) in item.error


def test_what_an_engine_left_behind(lab: Lab, path: Path) -> None:
    """A socket at which nobody listens is replaced; another file, or a listener, is not."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(RefusedError):
            lab.commit(back_end(path))
    assert path.is_socket()
    lab.commit(back_end(path))
    assert state(lab) == "down"
    lab.commit(Delete("port", "v"))
    path.write_text("dear to somebody")
    with pytest.raises(RefusedError):
        lab.commit(back_end(path))
    assert path.read_text() == "dear to somebody"


TESTPMD = "dpdk-testpmd"


@contextlib.contextmanager
def guest(path: Path, namespace: Namespace, folder: Path, wanted: list[Packet]) -> Iterator[None]:
    """A front end that sends packets whose UDP checksums are left to its device."""
    received = folder / "guest.pcap"
    with PcapWriter(str(received), linktype=1, sync=True) as writer:
        for packet in wanted:
            writer.write(frames.frame(HARDWARE, packet))
    log = folder / "testpmd.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *("ip", "netns", "exec", namespace.name, TESTPMD),
                *("--no-huge", "--no-shconf", "-m", "128", "--no-pci", "--iova-mode=va"),
                *("--no-telemetry", "--lcores", "0@0,1@0", "--file-prefix", f"guest-{folder.name}"),
                *("--vdev", f"net_virtio_user0,path={path},queues=1,mac={HARDWARE}"),
                *("--vdev", f"net_pcap0,rx_pcap={received},tx_pcap={folder / 'unused.pcap'}"),
                *("--", "--interactive", "--no-flush-rx", "--total-num-mbufs=4096"),
                f"--eth-peer=0,{frames.GATEWAY_MAC}",
            ],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            text=True,
        )
    assert process.stdin is not None
    try:
        for command in ("port stop 0", "csum set udp hw 0", "port start 0", "set fwd csum"):
            process.stdin.write(command + "\n")
        process.stdin.write("start\n")
        process.stdin.flush()
        yield
        process.stdin.write("quit\n")
        process.stdin.close()
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
        process.stdin.close()


@pytest.mark.skipif(shutil.which(TESTPMD) is None, reason=f"needs {TESTPMD} (dpdk-dev)")
def test_a_guest_s_packets(site: Site, namespace: Namespace, tmp_path: Path, path: Path) -> None:
    """Checksums left to the virtual NIC are computed; what no packet buffer holds is dropped."""
    large = frames.udp(B.address4, A.address4, b"x" * 4000)
    wanted = [frames.udp(B.address4, A.address4, b"x" * 100, sport=n) for n in range(1, 21)]
    broken = [IP(bytes(packet)) for packet in wanted]
    for packet in broken:
        packet[UDP].chksum = 0x1234
    with guest(path, namespace, tmp_path, [large, *broken]):
        for packet in wanted:
            got = site.lab.receive(site.a, frames.has(UDP))
            assert bytes(got[UDP]) == bytes(packet[UDP])
