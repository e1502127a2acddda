# SPDX-License-Identifier: Apache-2.0
"""A DevicePolicy: what it wants of which nodes' cards. Their NodeStates say so, see node_states."""

from dataclasses import dataclass

from headrace_api import DevicePolicy, Json, LabelSelector, NodePolicy, Object
from headrace_api.device_policy import DeviceIntent

from .claims import Owner
from .core import Entry, Kind
from .outcome import Fault


@dataclass(frozen=True, slots=True)
class Policy:
    """All of a DevicePolicy that the compiler reads."""

    node_selector: LabelSelector | None
    wanted: Json
    """What is said to the nodes that it selects: a NodePolicy."""


class DevicePolicies(Kind[Policy]):
    """DevicePolicies: they refer to nothing, and hold nothing."""

    name = "DevicePolicy"

    def read(self, item: Object) -> Entry[Policy]:
        """All of a DevicePolicy that matters."""
        if not isinstance(item, DevicePolicy):
            raise TypeError(f"{item.kind} is no DevicePolicy")
        spec, metadata = item.spec, item.metadata
        intent = {name: getattr(spec, name) for name in DeviceIntent.model_fields}
        wanted = NodePolicy(name=metadata.name, generation=metadata.generation, **intent)
        return Entry(metadata.creation_timestamp, Policy(spec.node_selector, wanted.to_dict()))

    def settle(self, owner: Owner, faults: tuple[Fault, ...]) -> None:
        """Nothing is wrong with it by itself: cards are known where they are."""
        if owner.key in self.entries:
            self.core.report(owner.subject, "", faults)
        else:
            self.core.forget(owner.subject)
