# SPDX-License-Identifier: Apache-2.0
"""Uplinks that are changed, lost and had again while packets leave by them."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import pytest
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.utils import PcapWriter

from headrace_dataplane.protocol import Port, Put
from tests.engine import frames
from tests.engine.lab import SECONDS, Lab, put
from tests.engine.process import Namespace, until
from tests.engine.site import (
    BLUE,
    ON_LINK,
    REMOTE,
    REMOTE_MAC,
    UPLINK_ADDRESS,
    VNI,
    A,
    Site,
    checking,
    network,
    remote,
    routes,
    tap,
    underlay,
    uplink,
)
from tests.engine.wire import Wire

PATHS = 20_000
"""As many that changing them all takes longer than the control thread has room for packets."""

COMMITS = 20
FLOWS = 64
GATEWAY = "fd00:1:0:1::fe"
NEIGHBOR = {"address": GATEWAY, "mac": REMOTE_MAC}
NEAR = "fd00:1:0:1::/64"
ELSEWHERE = "fd00:9::/64"
HARDWARE = "02:00:00:00:01:01"


def by_gateway(**spec: object) -> Put:
    defaults = {"onLink": [NEAR], "gateway": GATEWAY, "neighbors": [NEIGHBOR]}
    return uplink("up", **{**defaults, **spec})


def other(**spec: object) -> Put:
    """An uplink to which no path leads."""
    return put(
        "uplink", "other",
        **{"port": "other", "mtu": 1500, "addresses": [UPLINK_ADDRESS], "onLink": [ELSEWHERE],
           **spec},
    )  # fmt: skip


@pytest.fixture
def loaded(lab: Lab, tmp_path: Path) -> Lab:
    """a sends as much as a worker can encapsulate, and the uplink takes all of it."""
    file = tmp_path / "flows.pcap"
    with PcapWriter(str(file), linktype=1, sync=True) as writer:
        for sport in range(1024, 1024 + FLOWS):
            packet = frames.udp(A.address4, remote(4), sport=sport)
            writer.write(frames.frame(A.hardware, packet))
    first, many = ip_address("10.2.0.0"), IPv6Address("fd00:2::")
    lab.commit(
        put("port", "up", devargs="net_null_up,no-rx=1", rxQueues=1, mtu=1500),
        network(BLUE, 100),
        by_gateway(),
        routes("far", BLUE, *([f"{first + n}/32", str(many + n)] for n in range(PATHS))),
        routes("blue", BLUE, ["10.1.0.0/16", REMOTE]),
        put("port", "a", devargs=f"net_pcap_a,rx_pcap={file},infinite_rx=1", rxQueues=1, mtu=1500),
        A.interface(),
    )
    return lab


def drops(lab: Lab) -> Counter[str]:
    found = lab.engine.telemetry.object("/headrace/drops")
    return +Counter({reason: count for reason, count in found.items() if isinstance(count, int)})


@contextmanager
def nothing_dropped(lab: Lab) -> Iterator[Callable[[], None]]:
    """Of what goes out; gives what waits until more has gone."""

    def more() -> None:
        before = sent()
        until(lambda: sent() > before + FLOWS, "packets go out")

    def sent() -> int:
        count = lab.engine.telemetry.object("/headrace/uplink", "up")["tx_packets"]
        assert isinstance(count, int)
        return count

    more()
    before = drops(lab)
    yield more
    more()
    assert drops(lab) - before == {}


def test_a_commit_that_changes_no_path_costs_no_packet(loaded: Lab) -> None:
    with nothing_dropped(loaded) as more:
        for number in range(COMMITS):
            neighbor = {"address": f"fd00:1:0:1::{number + 1:x}:1", "mac": A.hardware}
            loaded.commit(by_gateway(neighbors=[NEIGHBOR, neighbor]))
            more()
            loaded.commit(by_gateway(addresses=[UPLINK_ADDRESS, f"fd00:1:0:1::{number + 100:x}"]))
            more()


def test_what_is_changed_in_place_costs_no_packet(loaded: Lab) -> None:
    """The MTU, and the next hop's MAC address: also when nobody gives it any more."""
    with nothing_dropped(loaded) as more:
        for number in range(COMMITS):
            neighbor = {**NEIGHBOR, "mac": f"02:00:00:00:02:{number:02x}"}
            loaded.commit(by_gateway(mtu=1400 + number, neighbors=[neighbor]))
            more()
        loaded.commit(by_gateway(neighbors=[]))
        more()
        loaded.commit(by_gateway())


def test_another_uplink_that_bounces_costs_no_packet(loaded: Lab, namespace: Namespace) -> None:
    lab = loaded

    def becomes(state: str) -> None:
        until(lambda: lab.item(Port, name="other").state == state, f"its port is {state}")
        more()

    namespace.veth("o-engine", "o-test")
    with nothing_dropped(lab) as more:
        devargs = "net_af_packet_other,iface=o-engine"
        port = put("port", "other", devargs=devargs, rxQueues=1, mtu=1500, netdev="o-engine")
        lab.commit(port, other())
        for mtu in (1400, 1500):
            becomes("up")
            namespace.ip("link set o-test down")
            becomes("down")
            namespace.ip("link set o-test up")
            becomes("up")
            lab.commit(other(mtu=mtu))
            namespace.ip("link del o-engine")
            becomes("gone")
            namespace.veth("o-engine", "o-test")
        becomes("up")
    lab.clear()
    namespace.ip("link del o-engine")


def test_no_packet_is_lost_when_paths_change(site: Site) -> None:
    """They get another outer source, and lead by the other uplink and back."""
    lab = site.lab
    lab.commit(tap("other"))
    wire = lab.connect("other", "other", REMOTE_MAC, ("uplink", "other"))
    given: dict[str, object] = {"neighbors": [{"address": REMOTE, "mac": REMOTE_MAC}]}
    sport = iter(range(1024, 65536))
    for number in range(COMMITS):
        for changes in (
            [uplink("up", addresses=[f"fd00:1:0:1::{2 + number % 2}"], **given)],
            [other(onLink=[ON_LINK], **given)],
            [uplink("up", onLink=[ELSEWHERE], **given)],
            [uplink("up", **given), other(**given)],
        ):
            for _ in range(10):
                packet = frames.udp(A.address4, remote(4), sport=next(sport))
                site.a.send(frames.frame(A.hardware, packet))
            lab.commit(*changes)
    lab.settle()
    both = [UDP in Ether(each) for w in (site.up, wire) for each in w.inbox]
    assert sum(both) == 4 * 10 * COMMITS
    assert any(UDP in Ether(each) for each in wire.inbox)


def test_a_switch_that_knows_the_nics_own_mac_address_alone(lab: Lab, namespace: Namespace) -> None:
    """As of VMware and clouds: other sources do not get in, what is for others does not come."""
    namespace.ip("link add switch type bridge stp_state 0 mcast_snooping 0")
    namespace.ip("link set switch up")
    namespace.veth("nic", "to-nic")
    namespace.veth("far", "to-far")
    for device, mac in (("nic", HARDWARE), ("far", REMOTE_MAC)):
        namespace.ip(f"link set {device} address {mac}")
        namespace.ip(f"link set to-{device} master switch")
        namespace.bridge(f"link set dev to-{device} learning off flood off locked on")
        namespace.bridge(f"fdb add {mac} dev to-{device} master static")
    devargs = "net_af_packet_nic,iface=nic,qdisc_bypass=1"
    port = put("port", "nic", devargs=devargs, rxQueues=1, mtu=1500, netdev="nic")
    lab.commit(port, tap("a"))
    near = lab.connect("a", "a", A.hardware, ("interface", A.key))
    far = lab.connect("nic", "far", REMOTE_MAC, ("uplink", "nic"))
    far.hosts = {REMOTE: REMOTE_MAC}
    lab.commit(
        checking(), network(BLUE, VNI[BLUE]), uplink("nic"), A.interface(),
        routes("blue", BLUE, [f"{A.address4}/32", A.underlay], ["10.1.0.0/16", REMOTE]),
    )  # fmt: skip
    near.send(frames.frame(A.hardware, frames.udp(A.address4, remote(4))))
    sent = lab.receive(far, lambda frame: UDP in frame)
    assert sent.src == HARDWARE
    answer = IPv6(src=REMOTE, dst=A.underlay, nh=4) / frames.udp(remote(4), A.address4)
    far.send(Ether(src=REMOTE_MAC, dst=sent.src) / answer)
    lab.receive(near, lambda frame: UDP in frame)
    lab.settle()
    lab.clear()
    for device in ("nic", "far", "switch"):
        namespace.ip(f"link del {device}")


UNDERLAYS = [underlay(2, BLUE, identity) for identity in range(0x100, 0x100 + FLOWS)]


class Two:
    """Uplinks one and two, to which all of UNDERLAYS are neighbours; 10.2.0.N is at the N-th."""

    def __init__(self, lab: Lab, namespace: Namespace) -> None:
        self.lab, self.namespace = lab, namespace
        lab.commit(tap("a"))
        self.a = lab.connect("a", "a", A.hardware, ("interface", A.key))
        self.wires = {name: self._wire(name) for name in ("one", "two")}
        lab.commit(
            checking(), network(BLUE, VNI[BLUE]), *map(uplink, self.wires), A.interface(),
            routes("blue", BLUE, [f"{A.address4}/32", A.underlay],
                   *([f"10.2.0.{n}/32", each] for n, each in enumerate(UNDERLAYS))),
        )  # fmt: skip

    def _wire(self, name: str) -> Wire:
        self.namespace.veth(f"{name}-nic", f"{name}-far")
        devargs = f"net_af_packet_{name},iface={name}-nic,qdisc_bypass=1"
        port = put("port", name, devargs=devargs, rxQueues=1, mtu=1500, netdev=f"{name}-nic")
        self.lab.commit(port)
        wire = self.lab.connect(name, f"{name}-far", REMOTE_MAC, ("uplink", name))
        wire.hosts = dict.fromkeys(UNDERLAYS, REMOTE_MAC)
        return wire

    def link(self, name: str, state: str) -> None:
        self.namespace.ip(f"link set {name}-far {state}")
        until(lambda: self.lab.item(Port, name=name).state == state, f"{name} is {state}")
        self.lab.rebase()  # What it asked before it knew was lost.

    def send(self) -> None:
        """Send a packet to each of UNDERLAYS."""
        for n in range(FLOWS):
            self.a.send(frames.frame(A.hardware, frames.udp(A.address4, f"10.2.0.{n}")))

    def arrived(self) -> dict[str, set[str]]:
        """Return where the packets that were sent have come out since this was last asked."""
        found: dict[str, set[str]] = {}
        for name, wire in self.wires.items():
            frames_ = [Ether(data) for data in wire.inbox]
            found[name] = {each[IPv6].dst for each in frames_ if UDP in each}
            wire.inbox.clear()
        return found

    def spread(self) -> dict[str, set[str]]:
        """Send, and return where all has come out."""
        self.send()
        self.lab.settle()
        return self.arrived()


@pytest.fixture
def two(lab: Lab, namespace: Namespace) -> Iterator[Two]:
    two = Two(lab, namespace)
    yield two
    lab.clear()
    for name in two.wires:
        namespace.ip(f"link del {name}-nic")


def test_a_link_that_goes_down_has_its_share_sent_by_the_other(two: Two) -> None:
    before = two.spread()
    assert before["one"] | before["two"] == set(UNDERLAYS)
    assert before["one"] and before["two"]
    two.link("two", "down")
    assert two.spread() == {"one": set(UNDERLAYS), "two": set()}
    # None is left: each drops its own share, and says so.
    two.link("one", "down")
    for name, wire in two.wires.items():
        wire.drops["port_down"] += len(before[name])
    assert two.spread() == {"one": set(), "two": set()}
    # No time to lose.
    two.link("one", "up")
    assert two.spread() == {"one": set(UNDERLAYS), "two": set()}


def test_shares_of_uplinks_go_by_weight(two: Two) -> None:
    before = two.spread()
    two.lab.commit(uplink("two", weight=8))
    after = two.spread()
    assert after["one"] < before["one"]
    assert len(after["one"]) < len(before["one"]) / 2


def test_next_hops_that_do_not_answer_are_sent_to_by_the_other(two: Two) -> None:
    """What waits for them meanwhile drops, and counts under the uplink that was to take it."""
    before = two.spread()
    lost = sorted(before["two"])[0]
    del two.wires["two"].hosts[lost]

    def moved() -> bool:
        two.send()
        two.lab.taken(two.a)
        return lost in two.arrived()["one"]

    until(moved, "what goes to it leaves by one", SECONDS)
    two.lab.rebase()
    assert two.spread() == {"one": before["one"] | {lost}, "two": before["two"] - {lost}}
