# SPDX-License-Identifier: Apache-2.0
"""What a node reports of itself: pure, no I/O."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from headrace_api import (
    AGENT_FEATURES,
    FEATURES,
    CompiledInterface,
    Condition,
    ConditionStatus,
    DataplaneConfig,
    DataplaneConfigStatus,
    InterfaceState,
    NetworkState,
    Problem,
    WorkerState,
)
from headrace_dataplane.grants import VLAN_NOT_SET
from headrace_dataplane.protocol import Hello, Interface, Refusal
from headrace_dataplane.translate import kernel_device

DEVICES_READY = "DevicesReady"
"""Condition: whether the pod has the PCI functions that it needs, and their device nodes."""
NUMA_ALIGNED = "NUMAAligned"
"""Condition: whether workers and memory are where the functions are."""

_NOBODY: Mapping[str, str] = MappingProxyType({})
# Of an Interface: 1024 of them must fit into one object.
_MESSAGE_CHARACTERS = 256
# The API's bound.
_CONDITION_CHARACTERS = 32768


class Verdict(NamedTuple):
    """A condition, but for its times."""

    type: str
    status: ConditionStatus
    reason: str
    message: str


def node_status(
    config: DataplaneConfig,
    problems: tuple[Problem, ...],
    refused: tuple[Refusal, ...],
    states: Mapping[str, Interface],
    engine: Hello | str,
    before: DataplaneConfigStatus | None,
    networks: tuple[NetworkState, ...] = (),
    absent: frozenset[str] = frozenset(),
    more: Sequence[Verdict] = (),
    waiting: Mapping[str, str] = _NOBODY,
    *,
    time: datetime,
) -> DataplaneConfigStatus:
    """Return the status of a node at a time; conditions that `before` has alike keep theirs.

    `engine` is the running one, or why there is none; `states` has its Interfaces by
    "namespace/name", `networks` what it has of each; `absent` names kernel devices that this node
    does not have; `more` are conditions besides Ready; `waiting`: Interface -> why the engine does
    not open its function.
    """
    hello = engine if isinstance(engine, Hello) else None
    down = "" if isinstance(engine, Hello) else _down(engine)
    interfaces = (
        *_interface_states(config, problems, refused, states, down, absent, waiting),
        *_unread_interfaces(config, problems),
    )
    generation = config.metadata.generation
    verdict = _verdict(down, tuple(_faults(config, problems, refused)), interfaces, networks)
    return DataplaneConfigStatus(
        observed_generation=generation,
        conditions=(
            ready_condition(*verdict, generation, time, before),
            *(_condition(each, generation, time, before) for each in more),
        ),
        engine_version=hello.version if hello is not None else None,
        dpdk_version=hello.dpdk_version if hello is not None else None,
        workers=tuple(
            WorkerState(worker=worker.worker, lcore=worker.lcore, cpu=worker.cpu)
            for worker in (hello.workers if hello is not None else ())
        ),
        interfaces=interfaces,
        networks=networks,
        # An engine that does not run will be of the agent's own release.
        features=tuple(
            f for f in FEATURES if hello is None or f in (*hello.features, *AGENT_FEATURES)
        ),
    )


def ready_condition(
    status: ConditionStatus,
    reason: str,
    message: str,
    generation: int | None,
    time: datetime,
    before: DataplaneConfigStatus | None = None,
) -> Condition:
    """Return the condition Ready of a node, as of the time at which its status became this one.

    `time` is now, in UTC. A message that is longer than the API's bound is cut.
    """
    return _condition(Verdict("Ready", status, reason, message), generation, time, before)


def _condition(
    verdict: Verdict,
    generation: int | None,
    time: datetime,
    before: DataplaneConfigStatus | None,
) -> Condition:
    known = before.conditions if before is not None else ()
    old = next((each for each in known if each.type == verdict.type), None)
    return Condition(
        type=verdict.type,
        status=verdict.status,
        observed_generation=generation,
        last_transition_time=(
            old.last_transition_time
            if old is not None and old.status == verdict.status
            else time.strftime("%Y-%m-%dT%H:%M:%SZ")
        ),
        reason=verdict.reason,
        message=verdict.message[:_CONDITION_CHARACTERS],
    )


def _down(problem: str) -> str:
    return f"The engine does not run: {problem}" if problem else "The engine starts"


def _interface_states(
    config: DataplaneConfig,
    problems: Iterable[Problem],
    refused: Iterable[Refusal],
    states: Mapping[str, Interface],
    down: str,
    absent: frozenset[str],
    waiting: Mapping[str, str],
) -> Iterator[InterfaceState]:
    """Yield those of the configuration; `down` is why no engine runs, empty when one does."""
    refusals = {(r.kind, r.key): (r.reason or "Refused", r.message) for r in refused}
    unattached = _unattached(problems)
    for interface in config.spec.interfaces:
        key = _key(interface)
        state = states.get(key)
        device = kernel_device(key, interface.attachment)
        missing = device in absent and not down and (state is None or state.state != "up")
        bad = (
            unattached.get((interface.namespace, interface.name))
            or (("DeviceGone", f"There is no device {device}") if missing else None)
            or refusals.get(("port", key))
            or refusals.get(("interface", key))
        )
        if bad is None and down:
            bad = "EngineDown", down
        elif bad is None and state is None and key in waiting:
            bad = VLAN_NOT_SET, waiting[key]
        elif bad is None and state is None:
            bad = "Pending", "The engine does not have it yet"
        elif bad is None and state is not None and state.state != "up":
            bad = _without_device(state)
        yield InterfaceState(
            namespace=interface.namespace,
            name=interface.name,
            ready=bad is None,
            reason=bad[0] if bad else "Forwarding",
            message=(bad[1] if bad else _forwards(state))[:_MESSAGE_CHARACTERS],
            mac_address=state.mac if state is not None else None,
        )


def _without_device(state: Interface) -> tuple[str, str]:
    """Reason and message of an Interface whose device is not up; an older engine says neither."""
    if state.state == "gone":
        return state.reason or "DeviceGone", state.error or "Its device is gone"
    return "LinkDown", f"Its device is {state.state}"


def _forwards(state: Interface | None) -> str:
    """Message of an Interface that forwards, if not with all that it was to have."""
    refused = state.refused if state is not None else {}
    return "; ".join(
        ("The engine forwards for it", *(f"{what}: {why}" for what, why in refused.items()))
    )


def _unread_interfaces(
    config: DataplaneConfig, problems: Iterable[Problem]
) -> Iterator[InterfaceState]:
    """Yield those that were left out of the configuration, as they could not be read."""
    present = {(interface.namespace, interface.name) for interface in config.spec.interfaces}
    for (namespace, name), (reason, message) in _unattached(problems).items():
        if namespace and name and (namespace, name) not in present:
            yield InterfaceState(
                namespace=namespace,
                name=name,
                ready=False,
                reason=reason,
                message=message[:_MESSAGE_CHARACTERS],
            )


def _unattached(problems: Iterable[Problem]) -> dict[tuple[str, str], tuple[str, str]]:
    return {(p.namespace, p.name): (p.reason, p.message) for p in problems if p.kind == "Interface"}


def _faults(
    config: DataplaneConfig, problems: Iterable[Problem], refused: Iterable[Refusal]
) -> Iterator[str]:
    """Yield what is wrong with the node itself.

    One tenant's network is that network's matter (NetworkState), an Interface is its own.
    """
    yield from (str(p) for p in problems if p.kind not in ("Interface", "VirtualNetwork"))
    own = {_key(interface) for interface in config.spec.interfaces}
    for refusal in refused:
        if refusal.kind in ("interface", "port"):
            if refusal.key not in own:
                yield str(refusal)
        elif refusal.kind not in ("network", "routes"):
            yield str(refusal)


def _verdict(
    down: str,
    faults: Sequence[str],
    interfaces: Sequence[InterfaceState],
    networks: Sequence[NetworkState],
) -> tuple[ConditionStatus, str, str]:
    """Status, reason and message of the condition Ready."""
    unready = sum(not state.ready for state in interfaces)
    incomplete = sum(bool(network.reason) for network in networks)
    if down:
        return ConditionStatus.FALSE, "EngineDown", down
    if faults:
        return ConditionStatus.FALSE, "Refused", "; ".join(faults)
    if unready:
        return (
            ConditionStatus.TRUE,
            "InterfacesNotReady",
            f"{unready} of {len(interfaces)} Interfaces are not ready",
        )
    if incomplete:
        return (
            ConditionStatus.TRUE,
            "NetworksIncomplete",
            f"{incomplete} of {len(networks)} networks lack something",
        )
    return ConditionStatus.TRUE, "Forwarding", "The engine has the whole configuration"


def _key(interface: CompiledInterface) -> str:
    return f"{interface.namespace}/{interface.name}"
