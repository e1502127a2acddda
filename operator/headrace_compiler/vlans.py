# SPDX-License-Identifier: Apache-2.0
"""VLANs of Pipelines: each is one VirtualNetwork's for as long as an Interface of it is in it.

So what is behind the functions of two networks never meets, whichever nodes they are on. That no
node uses one any more for who had it before, the operator sees to: it has a function put into a
VLAN only then (headrace_operator/functions.py).
"""

from collections import defaultdict

from headrace_api import PipelineSpec

from .allocations import InterfaceAllocation
from .claims import Owner, Space
from .core import Core, namespace_of
from .outcome import Fault

_FIELD = "spec.attachment.sriov.vlan"


def vlan_space(pipeline: str) -> Space:
    """VLANs of a Pipeline."""
    return Space("vlan", pipeline)


class Vlans:
    """Gives them to networks, and grants to Interfaces."""

    def __init__(self, core: Core) -> None:
        self._core = core
        # Those of whose network it is.
        self._users: defaultdict[tuple[Space, int], set[Owner]] = defaultdict(set)
        self._last_grant = 0

    def install(self, owner: Owner, record: InterfaceAllocation) -> bool:
        """Take what a record of an earlier run says; False when another network has the VLAN."""
        self._last_grant = max(self._last_grant, record.grant or 0)
        return record.vlan is None or self._take(
            owner, record.pipeline, record.vlan, record.network
        )

    def holds(self, owner: Owner, record: InterfaceAllocation) -> bool:
        """Whether the VLAN of a record is the Interface's."""
        return record.vlan is None or (
            owner in self._users.get((vlan_space(record.pipeline), record.vlan), ())
        )

    def fault(self, owner: Owner, pipeline: str, vlan: int, network: str) -> Fault | None:
        """Why the Interface cannot be in the VLAN; None: it can."""
        holder = self._core.claims.holder(vlan_space(pipeline), vlan)
        if holder is None or holder.key == network:
            return None
        # Other tenants' names are none of its business.
        same = namespace_of(holder.key) == namespace_of(owner.key)
        whose = f"network {holder.key}" if same else "a network of another namespace"
        message = (
            f"VLAN {vlan} of Pipeline {pipeline} is that of {whose}: name another, or have the"
            " Interfaces go that are in it"
        )
        return Fault(_FIELD, "VLANConflict", message)

    def take(self, owner: Owner, pipeline: str, vlan: int, network: str) -> None:
        """Have the Interface in the VLAN."""
        if not self._take(owner, pipeline, vlan, network):
            raise ValueError(f"VLAN {vlan} of {pipeline} is not free for {owner}")

    def _take(self, owner: Owner, pipeline: str, vlan: int, network: str) -> bool:
        space, of = vlan_space(pipeline), Owner("VirtualNetwork", network)
        taken = self._core.claims.take(space, vlan, of)
        if taken:
            self._users[space, vlan].add(owner)
        return taken

    def wait(self, owner: Owner, pipeline: str, vlan: int) -> None:
        """Have the Interface looked at when the VLAN is free, or another network's."""
        self._core.claims.wait(vlan_space(pipeline), vlan, owner)

    def release(self, owner: Owner, record: InterfaceAllocation) -> set[Owner]:
        """Let go of the VLAN of a record; returns who waited for it."""
        if record.vlan is None:
            return set()
        key = vlan_space(record.pipeline), record.vlan
        users = self._users[key]
        users.discard(owner)
        if users:
            return set()
        del self._users[key]
        return self._core.claims.release(*key, Owner("VirtualNetwork", record.network))

    def grant(self, pipeline: PipelineSpec, resource: str) -> int | None:
        """A new grant of a function of the resource; None: it needs none.

        Each is another than all before, whoever had them: so no word of the node agent's about an
        earlier one is taken for one about this.
        """
        if not pipeline.in_vlans(resource):
            return None
        self._last_grant = max(self._last_grant + 1, self._core.now)
        return self._last_grant
