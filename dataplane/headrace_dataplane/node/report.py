# SPDX-License-Identifier: Apache-2.0
"""What is reported of a node: pure, no I/O."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from headrace_api import Condition, ConditionStatus, HugepageSize
from headrace_api.node_facts import NodeFacts
from headrace_api.node_state import (
    NODE_FUNCTIONS,
    FunctionState,
    NodeCheck,
    NodeDataplane,
    NodeStateSpec,
    NodeStateStatus,
    PolicyState,
    ResourceState,
    Subject,
    Verdict,
)
from headrace_dataplane.boot import boot_id
from headrace_dataplane.node.checks import Memory, Threads, Wanted, checks
from headrace_dataplane.node.checks.check import About
from headrace_dataplane.node.device_plugin.allocation import PluginDevice

#: What an uplink's packets have beside those of the machines in the networks.
_OVERLAY_BYTES = 40
#: The API's bounds.
_CHARACTERS = 32768
_MOST_CHECKS, _MOST_RESOURCES = 128, 64
#: What only a dataplane with VFs needs: it may do with kernel devices.
_OF_DEVICES = frozenset({Subject.IOMMU, Subject.DRIVERS, Subject.DEVICES})

Resources = Mapping[str, tuple[PluginDevice, ...]]


def node_state_status(
    generation: int,
    spec: NodeStateSpec,
    facts: NodeFacts,
    policies: tuple[PolicyState, ...],
    functions: tuple[FunctionState, ...],
    resources: Resources,
    faults: Sequence[str],
    time: datetime,
) -> NodeStateStatus:
    """Return what is found of a node of which this is wanted.

    `faults` are what keeps devices of resources from being given out.
    """
    found = checks(facts, wanted(spec.dataplanes, resources))
    found += tuple(_resources(resources, faults))
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ")
    subjects = [_subject(subject, found) for subject in Subject]
    verdicts = [("Ready", *_ready(spec, subjects, policies)), *subjects]
    return NodeStateStatus(
        observed_generation=generation,
        conditions=tuple(
            Condition(
                type=name,
                status=status,
                observed_generation=generation,
                last_transition_time=at,
                reason=reason,
                message=message[:_CHARACTERS],
            )
            for name, status, reason, message in verdicts
        ),
        policies=policies,
        functions=functions[:NODE_FUNCTIONS],
        boot_id=boot_id(),
        resources=tuple(
            ResourceState(
                name=name, devices=len(devices), healthy=sum(each.healthy for each in devices)
            )
            for name, devices in [*resources.items()][:_MOST_RESOURCES]
        ),
        nics=facts.nics,
        hugepages=facts.hugepages,
        cpus=facts.cpus,
        kubelet=facts.kubelet,
        iommu=facts.iommu,
        kernel=facts.kernel,
        memory_locks=facts.memory_locks,
        checks=found[:_MOST_CHECKS],
    )


def wanted(dataplanes: Sequence[NodeDataplane], resources: Resources) -> Wanted:
    """Return what these dataplanes want of the node together; without any, what one would."""
    if not dataplanes:
        return Wanted()
    pages: defaultdict[HugepageSize, int] = defaultdict(int)
    for each in dataplanes:
        if each.hugepages is not None:
            pages[each.hugepages.size] += each.hugepages.mebibytes
    names = {name for each in dataplanes for name in each.resource_names}
    return Wanted(
        threads=tuple(Threads(each.workers, each.share_control_core) for each in dataplanes),
        hugepages=tuple(Memory(mebibytes, size) for size, mebibytes in pages.items()),
        devices=tuple(
            device.address for name in sorted(names) for device in resources.get(name, ())
        ),
        pool=True,
        mtu=max(each.mtu for each in dataplanes) - _OVERLAY_BYTES,
    )


def _resources(resources: Resources, faults: Sequence[str]) -> Iterator[NodeCheck]:
    """Yield whether all devices of resources are given out, where there are some."""
    about = About(Subject.DEVICES)
    well = sum(each.healthy for devices in resources.values() for each in devices)
    every = sum(map(len, resources.values()))
    if faults:
        say = about.warned if well else about.failed
        yield say("resources", "; ".join(faults), "see to what is said of each device")
    elif every and not well:
        yield about.skipped("resources", "their devices are being made, or are not as wanted")
    elif resources:
        yield about.passed("resources", f"{well} of {every} devices are given out")


_Verdict = tuple[str, ConditionStatus, str, str]


def _subject(subject: Subject, found: Iterable[NodeCheck]) -> _Verdict:
    """Return type, status, reason and message of the condition that these checks are."""
    mine = [check for check in found if check.subject is subject]
    for verdict, status in (
        (Verdict.FAIL, ConditionStatus.FALSE),
        (Verdict.WARN, ConditionStatus.TRUE),
    ):
        bad = [check for check in mine if check.verdict is verdict]
        if bad:
            return subject, status, _reason(bad[0].name), "\n".join(map(_text, bad))
    if any(check.verdict is Verdict.PASS for check in mine):
        return subject, ConditionStatus.TRUE, "Suitable", "Nothing is to be done"
    texts = "; ".join(dict.fromkeys(_text(check) for check in mine))
    return subject, ConditionStatus.UNKNOWN, "NotChecked", texts


def _text(check: NodeCheck) -> str:
    remedy = f"\n  {check.remedy}" if check.remedy else ""
    return f"{check.name}: {check.message}{remedy}"


def _reason(name: str) -> str:
    """Return the CamelCase of a check's name: of several NUMA nodes it is one."""
    words = re.findall(r"[A-Za-z]+", name.replace("'", ""))
    return "".join(word[0].upper() + word[1:] for word in words)


def _ready(
    spec: NodeStateSpec, subjects: Iterable[_Verdict], policies: Iterable[PolicyState]
) -> tuple[ConditionStatus, str, str]:
    """Return status, reason and message of Ready: whether the node is right for what is wanted."""
    unready = [each for each in policies if not each.ready]
    if unready:
        texts = [f"DevicePolicy {each.name}: {each.reason}: {each.message}" for each in unready]
        # Of several the one that does not pass by itself would do better, and is not known here.
        return ConditionStatus.FALSE, unready[0].reason, "\n".join(texts)
    devices = any(each.resource_names for each in spec.dataplanes)
    for name, status, reason, message in subjects if spec.dataplanes else ():
        if status is ConditionStatus.FALSE and (devices or name not in _OF_DEVICES):
            return status, reason, f"{name}: {message}"
    if not spec.dataplanes and not spec.policies:
        return ConditionStatus.TRUE, "NothingWanted", "No Pipeline and no DevicePolicy selects it"
    return ConditionStatus.TRUE, "Suitable", "All that is wanted of the node is there"
