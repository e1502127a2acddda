# SPDX-License-Identifier: Apache-2.0
"""CPUManagerReady: pods can have CPUs that no other pod runs on."""

from collections.abc import Iterator
from dataclasses import replace

from headrace_api.node_facts import Kubelet, NodeFacts, cpu_list, cpu_set
from headrace_api.node_state import NodeCheck, Subject
from headrace_dataplane.node.checks.check import About, Wanted, kubelet_settings

_about = About(Subject.CPU_MANAGER)
_POLICY, _RESERVED, _SIBLINGS = "CPU Manager", "reserved CPUs", "whole cores"


def check(facts: NodeFacts, wanted: Wanted) -> Iterator[NodeCheck]:
    """Yield the checks."""
    agent = facts.kubelet
    if agent is None:
        for name in (_POLICY, _RESERVED, _SIBLINGS):
            yield _about.skipped(name, "no kubelet runs here")
        return
    yield _policy(agent, _suggestion(facts))
    if agent.cpu_manager_policy != "static":
        for name in (_RESERVED, _SIBLINGS):
            yield _about.skipped(name, "the CPU Manager gives out no CPUs")
        return
    yield _reserved(agent, _suggestion(facts))
    yield _whole_cores(facts, agent, wanted)


def _suggestion(facts: NodeFacts) -> str:
    """The CPUs to reserve: those not isolated, else the first core of each NUMA node."""
    cpus = facts.cpus.cpus if facts.cpus else ()
    isolated = cpu_set((facts.cpus.isolated if facts.cpus else None) or "")
    if isolated:
        return cpu_list({cpu.cpu for cpu in cpus} - isolated)
    seen: set[int] = set()
    found: set[int] = set()
    for cpu in cpus:
        if (cpu.numa_node or 0) not in seen:
            seen.add(cpu.numa_node or 0)
            found |= cpu_set(cpu.siblings or "") | {cpu.cpu}
    return cpu_list(found) or "0"


def _policy(agent: Kubelet, reserved: str) -> NodeCheck:
    if agent.cpu_manager_policy is None:
        return _about.unknown(_POLICY, "the kubelet's configuration")
    if agent.cpu_manager_policy == "static":
        return _about.passed(_POLICY, "static")
    return _about.failed(
        _POLICY,
        f"policy {agent.cpu_manager_policy}: workers would share their CPUs with every pod",
        kubelet_settings(
            f"cpuManagerPolicy: static, reservedSystemCPUs: {reserved}", "cpu_manager_state"
        ),
    )


def _reserved(agent: Kubelet, reserved: str) -> NodeCheck:
    if agent.reserved_cpus:
        return _about.passed(_RESERVED, agent.reserved_cpus)
    if not agent.config_readable:
        return _about.unknown(_RESERVED, "the kubelet's configuration")
    return _about.warned(
        _RESERVED,
        "reservedSystemCPUs is not set: the kubelet reserves some, and nobody else knows which",
        kubelet_settings(f"reservedSystemCPUs: {reserved}", "cpu_manager_state"),
    )


def _whole_cores(facts: NodeFacts, agent: Kubelet, wanted: Wanted) -> NodeCheck:
    cpus = facts.cpus.cpus if facts.cpus else ()
    whole = max((len(cpu_set(cpu.siblings or "")) for cpu in cpus), default=0)
    if whole == 0:
        return _about.unknown(_SIBLINGS, "/sys/devices/system/cpu/cpu0/topology")
    if whole == 1:
        return _about.passed(_SIBLINGS, "each core has one CPU")
    if not agent.full_pcpus_only:
        if not agent.config_readable:
            return _about.unknown(_SIBLINGS, "the kubelet's configuration")
        return _about.warned(
            _SIBLINGS,
            "a worker's sibling, on the same core, may be another pod's, and halves its speed",
            kubelet_settings(
                'cpuManagerPolicyOptions: {full-pcpus-only: "true"}', "cpu_manager_state"
            ),
        )
    for each in wanted.threads:
        if more := -each.cpus % whole:
            control = "" if each.share_control else " and the control thread"
            other = replace(each, share_control=not each.share_control)
            return _about.failed(
                _SIBLINGS,
                f"CPUs of workers{control}: {each.cpus}, no whole cores of {whole}: the kubelet "
                "refuses the pod (SMTAlignmentError)",
                f"in the Pipeline, workers.count: {each.workers + more}, or "
                f"{each.workers + -other.cpus % whole} with shareControlCore: "
                f"{str(other.share_control).lower()}",
            )
    return _about.passed(_SIBLINGS, "full-pcpus-only")
