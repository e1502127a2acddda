# SPDX-License-Identifier: Apache-2.0
"""What a node reports of the functions that its pod was given: pure, no I/O."""

from collections.abc import Iterable, Iterator, Mapping

from headrace_api import ConditionStatus, DataplaneConfig, Problem
from headrace_dataplane.functions import Functions
from headrace_dataplane.node_status import DEVICES_READY, Verdict
from headrace_dataplane.preflight import DEVICE_NODE_CHANGED, Fault

_REASONS = (DEVICE_NODE_CHANGED, "DeviceNodeMissing", "DeviceGone", "DevicesMissing")
"""What is wrong with functions: what a new pod mends comes first."""


def device_problems(
    config: DataplaneConfig, devices: Mapping[str, str], faults: Mapping[str, Fault]
) -> Iterator[Problem]:
    """Yield what is wrong with ports whose functions have faults.

    `devices`: DPDK's name of a device -> the port; `faults`: PCI address -> why it does not open.
    """
    pipeline = config.spec.pipeline_name
    fields = {
        f"uplink/{uplink.name}": f"spec.uplinks[{index}].attachment"
        for index, uplink in enumerate(config.spec.uplinks)
    }
    for address, fault in faults.items():
        port = devices.get(address)
        if port in fields:
            yield Problem("Pipeline", "", pipeline, fields[port], *fault)
        elif port is not None:
            namespace, _, name = port.partition("/")
            yield Problem("Interface", namespace, name, "spec.attachment", *fault)


def devices_ready(functions: Functions, problems: Iterable[Problem]) -> Verdict | None:
    """Return the condition DevicesReady; None: the pod has no functions, and needs none."""
    found = [problem for problem in problems if problem.reason in _REASONS]
    if found:
        first = min(found, key=lambda problem: _REASONS.index(problem.reason))
        messages = dict.fromkeys(problem.message for problem in (first, *found))
        return Verdict(DEVICES_READY, ConditionStatus.FALSE, first.reason, "; ".join(messages))
    there = functions.addresses()
    if not there:
        return None
    message = f"This pod can open the functions that it has ({len(there)})"
    return Verdict(DEVICES_READY, ConditionStatus.TRUE, "DevicesReady", message)
