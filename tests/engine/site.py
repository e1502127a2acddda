# SPDX-License-Identifier: Apache-2.0
"""The network that most tests run in: two tenants with the same addresses, and an uplink.

Node 1 (the engine) has Interfaces a and b in blue, c and d in green; c and d have the addresses of
a and b. Node 2, beyond the uplink, is the test. Outer sources are checked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Network

from headrace_dataplane.protocol import Change, Port, Put
from tests.engine.lab import Lab, put, settings
from tests.engine.wire import Wire

BLUE, GREEN = "t/blue", "t/green"
GATEWAYS = ["10.0.0.1", "2001:db8::1"]
LINK_LOCAL_GATEWAY = "fe80::1"
UPLINK_ADDRESS = "fd00:1:0:1::1"
ON_LINK = "fd00:1::/48"
MTU = 1460
UPLINK_MTU = 1500

VNI = {BLUE: 100, GREEN: 200}


def underlay(node: int, network: str, identity: int) -> str:
    """Return an underlay address: the node's /64, the network's VNI, 40 bits of identity."""
    host = VNI[network] << 40 | identity
    return str(IPv6Network(f"fd00:1:0:{node:x}::/64")[host])


SOURCE, SOURCE_GREEN = underlay(1, BLUE, 1), underlay(1, GREEN, 1)
"""Outer sources of what the engine sends to underlay addresses of the networks."""

REMOTE = underlay(2, BLUE, 9)
"""Underlay address of an endpoint on node 2: 10.1.0.0/16 and 2001:db8:1::/48 of blue."""
REMOTE_GREEN = underlay(2, GREEN, 0xA)
REMOTE_MAC = "02:00:00:00:02:09"


@dataclass(frozen=True)
class Endpoint:
    """An Interface of the site and what is behind it. Without `mac` the engine must learn it."""

    name: str
    network: str
    address4: str
    address6: str
    underlay: str
    hardware: str
    namespace: str = "t"
    mac: bool = True
    prefixes: tuple[str, ...] = ()
    former: tuple[str, ...] = ()
    source_check: bool = True
    mtu: int = MTU
    gateways: tuple[str, ...] = (*GATEWAYS, LINK_LOCAL_GATEWAY)
    extra: dict[str, object] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    def interface(self) -> Put:
        spec: dict[str, object] = {
            "port": self.name,
            "network": self.network,
            "addresses": [self.address4, self.address6],
            "prefixes": list(self.prefixes),
            "gateways": list(self.gateways),
            "underlay": self.underlay,
            "formerUnderlayAddresses": list(self.former),
            "sourceCheck": self.source_check,
            "mtu": self.mtu,
            **self.extra,
        }
        if self.mac:
            spec["mac"] = self.hardware
        return put("interface", self.key, **spec)

    def address(self, family: int) -> str:
        return self.address4 if family == 4 else self.address6

    def with_(self, **changes: object) -> "Endpoint":
        return replace(self, **changes)  # type: ignore[arg-type]


A = Endpoint("a", BLUE, "10.0.0.5", "2001:db8::5", underlay(1, BLUE, 0xA), "02:00:00:00:00:0a")
B = Endpoint("b", BLUE, "10.0.0.6", "2001:db8::6", underlay(1, BLUE, 0xB), "02:00:00:00:00:0b")
C = Endpoint("c", GREEN, "10.0.0.5", "2001:db8::5", underlay(1, GREEN, 0xC), "02:00:00:00:00:0c")
D = Endpoint("d", GREEN, "10.0.0.6", "2001:db8::6", underlay(1, GREEN, 0xD), "02:00:00:00:00:0d")

REMOTE4, REMOTE6 = "10.1.0.7", "2001:db8:1::7"


def remote(family: int) -> str:
    return REMOTE4 if family == 4 else REMOTE6


def tap(name: str, mtu: int = UPLINK_MTU, **spec: object) -> Put:
    return put("port", name, devargs=f"net_tap_{name},iface={name}", rxQueues=1, mtu=mtu, **spec)


def checking(check: bool = True, **spec: object) -> Put:
    """Return settings with the Pipeline's prefix, or prefixes."""
    return settings(**{"underlayPrefixes": [ON_LINK], "underlaySourceCheck": check, **spec})


def network(key: str, vni: int, **spec: object) -> Put:
    return put("network", key, vni=vni, gateways=GATEWAYS, **spec)


def uplink(port: str = "up", **spec: object) -> Put:
    defaults: dict[str, object] = {
        "port": port,
        "mtu": UPLINK_MTU,
        "addresses": [UPLINK_ADDRESS],
        "onLink": [ON_LINK],
    }
    return put("uplink", port, **{**defaults, **spec})


def routes(name: str, network: str, *routes: Sequence[object]) -> Put:
    return put("routes", name, network=network, routes=list(routes))


def host_routes(*endpoints: Endpoint) -> list[Sequence[object]]:
    """Routes to the endpoints' addresses and prefixes."""
    found: list[Sequence[object]] = []
    for endpoint in endpoints:
        found.append([f"{endpoint.address4}/32", endpoint.underlay])
        found.append([f"{endpoint.address6}/128", endpoint.underlay])
        found.extend([prefix, endpoint.underlay] for prefix in endpoint.prefixes)
    return found


def default_objects(*endpoints: Endpoint) -> list[Change]:
    """All but the ports."""
    return [
        checking(),
        network(BLUE, VNI[BLUE]),
        network(GREEN, VNI[GREEN]),
        uplink(),
        *(endpoint.interface() for endpoint in endpoints),
        routes(
            "blue",
            BLUE,
            *host_routes(*(e for e in endpoints if e.network == BLUE)),
            ["10.1.0.0/16", REMOTE],
            ["2001:db8:1::/48", REMOTE],
        ),
        routes(
            "green",
            GREEN,
            *host_routes(*(e for e in endpoints if e.network == GREEN)),
            ["10.1.0.0/16", REMOTE_GREEN],
            ["2001:db8:1::/48", REMOTE_GREEN],
        ),
    ]


class Site:
    """The objects are in the engine, the wires connected, node 2 answers for its addresses."""

    def __init__(self, lab: Lab, *endpoints: Endpoint) -> None:
        self.lab = lab
        self.endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        # What is on a port may send at once: its far end is there before.
        lab.commit(*(tap(endpoint.name) for endpoint in endpoints), tap("up"))
        for endpoint in endpoints:
            self.connect(endpoint)
        self.up = lab.connect("up", "up", REMOTE_MAC, ("uplink", "up"))
        self.up.hosts = {REMOTE: REMOTE_MAC, REMOTE_GREEN: REMOTE_MAC}
        lab.commit(*default_objects(*endpoints))

    def connect(self, endpoint: Endpoint) -> Wire:
        wire = self.lab.connect(
            endpoint.name, endpoint.name, endpoint.hardware, ("interface", endpoint.key)
        )
        wire.hosts = {
            endpoint.address4: endpoint.hardware,
            endpoint.address6: endpoint.hardware,
        }
        return wire

    @property
    def a(self) -> Wire:
        return self.lab.wires["a"]

    @property
    def b(self) -> Wire:
        return self.lab.wires["b"]

    @property
    def c(self) -> Wire:
        return self.lab.wires["c"]

    @property
    def d(self) -> Wire:
        return self.lab.wires["d"]

    @property
    def uplink_mac(self) -> str:
        """The engine's MAC address on the uplink."""
        return str(self.lab.item(Port, name="up").mac)
