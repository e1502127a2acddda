# SPDX-License-Identifier: Apache-2.0
"""Functions of extended resources that a dataplane pod has for Interfaces: who has which.

They are alike: an Interface has a number among those of its resource on its node, from 0, and keeps
it for as long as there are so many. Which functions these are, the node's agent finds (see
CompiledInterface.function).
"""

from headrace_api import Device, PipelineSpec

from .accepted import Context
from .allocations import FunctionAllocation
from .claims import Owner, Space
from .core import Core, namespace_of
from .devices import pool_for
from .inputs import Namespaces
from .outcome import Fault


def function_space(pipeline: str, node: str, resource: str) -> Space:
    """Numbers of the functions that the Pipeline's pod on a node has of a resource."""
    return Space("function", f"{pipeline}/{node}/{resource}")


class Functions:
    """Gives them out."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._namespaces = core.part(Namespaces)
        # Where somebody waits.
        self._wanted: set[Space] = set()
        core.watch(Namespaces.name, self._reconsider)

    def _reconsider(self, _: str) -> None:
        """Other entries may serve whoever has one now: there may be room."""
        wanted, self._wanted = self._wanted, set()
        for space in sorted(wanted):
            self._core.wake(self._core.claims.reconsider(space))

    def take(self, owner: Owner, resource: str, context: Context) -> FunctionAllocation | Fault:
        """What an Interface that has none has from now on, or why it gets none.

        Its Pipeline has an entry that serves it.
        """
        pipeline, claims = context.pipeline, self._core.claims
        pool = pool_for(pipeline, resource, context.labels)
        if pool is None or pool.count is None:
            raise ValueError(f"{owner} has no entry of {resource}")
        space = function_space(context.served_by.key, context.node, resource)
        total = pipeline.pools()[resource]
        # Of the only entry all numbers are its own.
        is_full = pool.count < total and self._used(space, pipeline, resource, pool) >= pool.count
        number = None if is_full else claims.take_lowest(space, 0, total - 1, owner)
        if number is not None:
            return FunctionAllocation(resource, number)
        claims.wait(space, None, owner)
        self._wanted.add(space)
        message = (
            f"all {pool.count} functions of {resource} that Pipeline {context.served_by.key} has on"
            f" node {context.node} for namespace {namespace_of(owner.key)} are in use: delete an"
            f" Interface that has one, or have count of entry {pool.name} of the Pipeline's"
            " spec.devices raised"
        )
        return Fault("spec.attachment.sriov.resourceName", "DevicesExhausted", message)

    def _used(self, space: Space, pipeline: PipelineSpec, resource: str, pool: Device) -> int:
        """How many are in use of an entry."""
        return sum(
            pool_for(pipeline, resource, self._namespaces.labels_of(holder.key)) is pool
            for holder in self._core.claims.holders(space)
        )
