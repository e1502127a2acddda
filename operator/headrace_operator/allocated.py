# SPDX-License-Identifier: Apache-2.0
"""What the compiler has given out, as of the last compilation: VNIs, nodes' /64s, addresses."""

from collections.abc import Iterable, Mapping

from headrace_compiler import Allocations, Changes, InterfaceAllocation, NodeAllocation
from headrace_compiler.core import put
from headrace_kube import INTERFACES, PIPELINES, VIRTUAL_NETWORKS

from .work import Work, config_of


class Allocated:
    """What is given out, and by which DataplaneConfig. Not thread-safe."""

    def __init__(self, namespace: str) -> None:
        """`namespace` is that of the outputs."""
        self._namespace = namespace
        self.vnis: dict[str, int] = {}
        """Network -> VNI."""
        self.nodes: dict[str, dict[str, NodeAllocation]] = {}
        """Pipeline -> node -> what it has there."""
        self.interfaces: dict[str, InterfaceAllocation] = {}
        # Underlay address -> the DataplaneConfig that gives it out, and the Interface that has it.
        self._holders: dict[str, tuple[Work, str]] = {}

    def load(self, found: Allocations) -> None:
        """Take everything that a first compilation has given out."""
        self.vnis = {key: record.vni for key, record in found.networks.items()}
        self.nodes = found.nodes
        self._put_interfaces(found.interfaces)

    def take(self, changes: Changes) -> set[Work]:
        """Take what a compilation changed; returns the objects that it is about."""
        for key, vni in changes.vnis.items():
            put(self.vnis, key, vni)
        for (pipeline, node), record in changes.nodes.items():
            # Of a Pipeline that went and came again meanwhile only what is another is told.
            held = self.nodes.setdefault(pipeline, {})
            put(held, node, record)
            if not held:
                del self.nodes[pipeline]
        self._put_interfaces(changes.interfaces)
        return {
            *(Work(VIRTUAL_NETWORKS, key) for key in changes.vnis),
            *(Work(PIPELINES, pipeline) for pipeline, _ in changes.nodes),
            *(Work(INTERFACES, key) for key in changes.interfaces),
        }

    def holders(self, addresses: Iterable[str]) -> Iterable[tuple[Work, str]]:
        """The DataplaneConfigs that give out these underlay addresses, and to which Interfaces."""
        return (self._holders[address] for address in addresses if address in self._holders)

    def _put_interfaces(self, records: Mapping[str, InterfaceAllocation | None]) -> None:
        for key in records:
            before = self.interfaces.pop(key, None)
            if before and before.underlay_address:
                self._holders.pop(before.underlay_address, None)
        # Only now: what one gave back another may have.
        for key, record in records.items():
            put(self.interfaces, key, record)
            if record and record.underlay_address and record.node:
                config = config_of(self._namespace, (record.pipeline, record.node))
                self._holders[record.underlay_address] = config, key
