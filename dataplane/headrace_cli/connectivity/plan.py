# SPDX-License-Identifier: Apache-2.0
"""What the test makes and expects: pure.

Two networks with the same addresses. In each, on every node, a receiver, whose device is a file
that the engine writes to, and a sender, whose device is a file with one packet for every receiver
and family. A packet's payload says whose it is.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from headrace_api import API_VERSION, Json
from headrace_cli.connectivity.files import SUFFIX, directory
from headrace_cli.connectivity.frames import capture, udp

NETWORKS = ("one", "two")
FAMILIES = ("v4", "v6")
MOST_NODES = 2
REPEAT = 16
"""How often a sender sends each packet: not more than may wait for an unknown neighbour."""

# For documentation (RFC 5737, RFC 3849): nobody's own.
_PREFIX = {"v4": "192.0.2.0/24", "v6": "2001:db8::/64"}
_ADDRESS = {"v4": "192.0.2.{}", "v6": "2001:db8::{:x}"}
_FIRST_RECEIVER = 10
_FIRST_SENDER = 100


Role = tuple[str, str, bool]
"""Network, node, whether it receives."""


@dataclass(frozen=True)
class Endpoint:
    """An Interface of the test."""

    name: str
    network: str
    node: str
    host: int
    """Host part of its addresses: 2 to 254."""
    receives: bool

    @property
    def file(self) -> str:
        """Name of its capture file."""
        return self.name + SUFFIX

    @property
    def role(self) -> Role:
        """What it is for, in every attempt."""
        return self.network, self.node, self.receives

    @property
    def mac(self) -> str:
        """Its MAC address: locally administered."""
        return f"02:68:63:00:{NETWORKS.index(self.network):02x}:{self.host:02x}"

    def address(self, family: str) -> str:
        """Its address of the family."""
        return _ADDRESS[family].format(self.host)


@dataclass(frozen=True)
class Flow:
    """One packet that should arrive."""

    sender: Endpoint
    receiver: Endpoint
    family: str


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Result:
    """One check."""

    name: str
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """The test on these nodes; `run` is a hexadecimal number that no other run has."""

    run: str
    namespace: str
    pipeline: str
    nodes: tuple[str, ...]
    uplinks: bool
    """Whether the nodes can reach each other."""

    def _name(self, *words: object) -> str:
        return "-".join(map(str, ("connectivity", self.run, *words)))

    def networks(self) -> list[Json]:
        """Return the VirtualNetworks."""
        return [
            {
                "apiVersion": API_VERSION,
                "kind": "VirtualNetwork",
                "metadata": {"name": self._name(network), "namespace": self.namespace},
                "spec": {"subnets": [{"prefix": _PREFIX[family]} for family in FAMILIES]},
            }
            for network in NETWORKS
        ]

    def receivers(self) -> list[Endpoint]:
        """Return a receiver for each network and node."""
        return [
            Endpoint(self._name(network, "to", at), network, node, _FIRST_RECEIVER + at, True)
            for network in NETWORKS
            for at, node in enumerate(self.nodes)
        ]

    def senders(self, attempt: int) -> list[Endpoint]:
        """Return a sender for each network and node; those of each attempt (0 to 70) are others.

        A file is sent once, when its port comes up. What the engine reads before the port is the
        Interface's is lost: make those of one network after those of the other, for Interfaces
        that are new at once wait for one another; then attempt again what is lost even so.
        """
        return [
            Endpoint(
                self._name(network, "from", at, attempt),
                network,
                node,
                _FIRST_SENDER + MOST_NODES * attempt + at,
                False,
            )
            for network in NETWORKS
            for at, node in enumerate(self.nodes)
        ]

    def interface(self, endpoint: Endpoint) -> Json:
        """Return the Interface."""
        field = "transmitFile" if endpoint.receives else "receiveFile"
        return {
            "apiVersion": API_VERSION,
            "kind": "Interface",
            "metadata": {"name": endpoint.name, "namespace": self.namespace},
            "spec": {
                "networkRef": {"name": self._name(endpoint.network)},
                "pipelineName": self.pipeline,
                "nodeName": endpoint.node,
                "addresses": [endpoint.address(family) for family in FAMILIES],
                "macAddress": endpoint.mac,
                "attachment": {
                    "type": "Pcap",
                    "pcap": {field: str(directory(self.run) / endpoint.file)},
                },
            },
        }

    def flows(self, senders: Iterable[Endpoint]) -> Iterator[Flow]:
        """Yield what the senders send and should arrive."""
        for sender in senders:
            for receiver in self.receivers():
                reachable = self.uplinks or sender.node == receiver.node
                if sender.network == receiver.network and reachable:
                    for family in FAMILIES:
                        yield Flow(sender, receiver, family)

    def payload(self, flow: Flow) -> bytes:
        """Return what tells the packet from all others; the same in every attempt."""
        words = (self.run, flow.sender.network, flow.sender.node, flow.receiver.node, flow.family)
        return b"headrace connectivity " + " ".join(words).encode() + b";"

    def capture(self, sender: Endpoint) -> bytes:
        """Return the sender's capture file."""
        return capture(
            udp(
                sender.mac,
                sender.address(flow.family),
                flow.receiver.address(flow.family),
                self.payload(flow),
            )
            for flow in self.flows([sender])
        )

    def arrived(self, flow: Flow, received: Mapping[str, Sequence[bytes]]) -> bool:
        """Whether the packet is among the frames that receivers (by name) have received."""
        payload = self.payload(flow)
        return any(payload in frame for frame in received.get(flow.receiver.name, ()))

    def strays(self, received: Mapping[str, Sequence[bytes]]) -> list[str]:
        """Return what each receiver got from the other network, in words."""
        mark = b"headrace connectivity " + self.run.encode() + b" "
        found = []
        for receiver in self.receivers():
            own = mark + receiver.network.encode() + b" "
            frames = received.get(receiver.name, ())
            strange = sum(mark in frame and own not in frame for frame in frames)
            if strange:
                found.append(f"{strange} packets into network {receiver.network}")
        return found

    def checks(
        self, received: Mapping[str, Sequence[bytes]], broken: Mapping[Role, str]
    ) -> list[Result]:
        """Return the results by what receivers (by name) have received.

        `broken` says why Interfaces do not work.
        """
        results = []
        delivered = True
        for flow in self.flows(self.senders(0)):
            arrived = self.arrived(flow, received)
            delivered &= arrived
            if flow.sender.network != NETWORKS[0]:
                continue
            reason = "" if arrived else self._reason(flow, broken)
            outcome = Outcome.PASSED if arrived else Outcome.FAILED
            results.append(
                Result(_title(flow.sender.node, flow.receiver.node, flow.family), outcome, reason)
            )
        results += self._skipped()
        strays = self.strays(received)
        reason = ", ".join(strays)
        if not strays and not delivered:
            reason = "not known, as not every packet arrived where it should"
        outcome = Outcome.FAILED if reason else Outcome.PASSED
        return [*results, Result("isolation of networks with the same addresses", outcome, reason)]

    def _reason(self, flow: Flow, broken: Mapping[Role, str]) -> str:
        for endpoint in (flow.sender, flow.receiver):
            if endpoint.role in broken:
                return broken[endpoint.role]
        return "the packet did not arrive"

    def _skipped(self) -> list[Result]:
        if len(self.nodes) == 1:
            reason = f"{self.nodes[0]} is the only node of Pipeline {self.pipeline} that is tested"
            return [Result("across nodes", Outcome.SKIPPED, reason)]
        if not self.uplinks:
            reason = f"Pipeline {self.pipeline} has no uplink"
            return [Result("across nodes", Outcome.SKIPPED, reason)]
        return []


def _title(sender: str, receiver: str, family: str) -> str:
    where = f"within {sender}" if sender == receiver else f"{sender} to {receiver}"
    return f"{where}, IP{family}"
