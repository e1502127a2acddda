# SPDX-License-Identifier: Apache-2.0
"""What an engine is told at its start, from a node's configuration: pure, no I/O."""

from dataclasses import dataclass

from headrace_api import DataplaneConfigSpec
from headrace_api.buffers import HOLDING, ORDINARY_MTU, buffers, largest_mtu, memory_mebibytes
from headrace_dataplane.protocol import EngineError
from headrace_dataplane.runtime import RuntimeDirectory


@dataclass(frozen=True)
class EngineOptions:
    """What an engine can only be told at its start; None lets it choose.

    `cpus` begin with the control thread's, unless it shares the first worker's. `max_mtu` is the
    largest L3 MTU of any port, in bytes: it sizes the packet buffers.
    """

    name: str
    cpus: tuple[int, ...]
    workers: int
    share_control: bool
    hugepages: bool = False
    memory_mib: int | None = None
    max_mtu: int | None = None

    @property
    def worker_cpus(self) -> tuple[int, ...]:
        """Those of the workers."""
        return self.cpus if self.share_control else self.cpus[1:]

    def arguments(self, runtime: RuntimeDirectory) -> list[str]:
        """Return the command line without the program."""
        arguments = [
            *("--socket", str(runtime.socket)),
            *("--name", self.name),
            *("--cpus", ",".join(map(str, self.cpus))),
            *("--workers", str(self.workers)),
            # A pod gets what it asked for; a machine without any still forwards.
            *("--hugepages", "auto" if self.hugepages else "off"),
            *("--runtime-dir", str(runtime.path)),
        ]
        if self.share_control:
            arguments.append("--share-control")
        if self.memory_mib is not None:
            arguments += ["--memory", str(self.memory_mib)]
        if self.max_mtu is not None:
            arguments += ["--max-mtu", str(self.max_mtu)]
        return arguments


def engine_options(spec: DataplaneConfigSpec, available: set[int]) -> EngineOptions:
    """Return the options of a node's engine; `available` are the CPUs to choose from.

    Raises EngineError when there are too few.
    """
    workers = spec.workers
    # By the uplinks alone: an Interface must not restart the engine of all the others.
    mtu = largest_mtu(uplink.mtu for uplink in spec.uplinks)
    uplinks = sum(uplink.attachment.type in HOLDING for uplink in spec.uplinks)
    memory = memory_mebibytes(buffers(workers.count, uplinks, 0), mtu)
    if spec.hugepages is not None:
        memory = spec.hugepages.at_least(memory).mebibytes
    return EngineOptions(
        name=engine_name(spec.node_name),
        cpus=choose_cpus(available, workers.count, workers.share_control_core),
        workers=workers.count,
        share_control=workers.share_control_core,
        hugepages=spec.hugepages is not None,
        memory_mib=memory,
        max_mtu=mtu if mtu != ORDINARY_MTU else None,
    )


def engine_name(node: str) -> str:
    """Return the name of a node's engine: the node's, cut, for it is in the path of a socket."""
    return node[:32]


def choose_cpus(available: set[int], workers: int, share_control: bool) -> tuple[int, ...]:
    """Choose the control CPU and one for each worker, lowest first.

    `share_control` lets the control thread run where the first worker does. Raises EngineError
    when there are too few.
    """
    needed = workers if share_control else workers + 1
    if len(available) < needed:
        have = ",".join(map(str, sorted(available)))
        raise EngineError(
            f"{workers} workers{'' if share_control else ' and the control thread'} need {needed} "
            f"CPUs, this process may use {len(available)} ({have}): lower workers.count"
            + ("" if share_control else ", or set workers.shareControlCore")
        )
    return tuple(sorted(available)[:needed])
