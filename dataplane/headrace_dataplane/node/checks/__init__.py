# SPDX-License-Identifier: Apache-2.0
"""Whether a machine is right for DPDK: facts in, checks out; pure, one module a subject."""

from headrace_api.node_facts import NodeFacts
from headrace_api.node_state import NodeCheck
from headrace_dataplane.node.checks import (
    cpu_manager,
    devices,
    drivers,
    hugepages,
    iommu,
    topology,
    uplink,
)
from headrace_dataplane.node.checks.check import Memory, Threads, Wanted

__all__ = ["Memory", "Threads", "Wanted", "checks"]

_MODULES = (hugepages, iommu, cpu_manager, topology, drivers, devices, uplink)


def checks(facts: NodeFacts, wanted: Wanted) -> tuple[NodeCheck, ...]:
    """Return all checks, those of a subject together."""
    return tuple(check for module in _MODULES for check in module.check(facts, wanted))
