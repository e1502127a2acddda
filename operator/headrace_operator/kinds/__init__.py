# SPDX-License-Identifier: Apache-2.0
"""The kinds of objects that the operator reads or writes: what each of them has of its own.

A new kind of which all is told once it is compiled needs nothing here. Another is a class derived
from Input or Output, and its entry in HANDLERS.
"""

from typing import Any

from headrace_kube import WRITTEN, Kind
from headrace_operator.work import Work
from headrace_operator.workqueue import Place

from .cluster import Namespaces, Nodes, Pods
from .devices import DevicePolicies, NodeStates
from .handler import Handler, Input, Output
from .interfaces import WITHOUT_POD, Interfaces
from .networks import UnderlayEndpoints, VirtualNetworks
from .outputs import DaemonSets, DataplaneConfigs, FormerConfigs, FormerSlices, Slices
from .pipelines import Pipelines
from .state import State

__all__ = ["HANDLERS", "INPUTS", "MADE", "OUTPUTS", "WITHOUT_POD", "Input", "State", "place"]

HANDLERS: dict[Kind, type[Handler]] = {
    each.kind: each
    for each in (
        Namespaces,
        Nodes,
        Pods,
        DevicePolicies,
        Pipelines,
        UnderlayEndpoints,
        VirtualNetworks,
        Interfaces,
        DataplaneConfigs,
        Slices,
        NodeStates,
        FormerConfigs,
        FormerSlices,
        DaemonSets,
    )
}


def _of_its_own(kind: Kind) -> type[Input[Any]]:
    return type(kind.name, (Input,), {"kind": kind})


HANDLERS |= {kind: _of_its_own(kind) for kind in WRITTEN if kind not in HANDLERS}
#: What the compiler reads, of all namespaces.
INPUTS = tuple(kind for kind, each in HANDLERS.items() if issubclass(each, Input))
#: What is written here, whole, in the operator's namespace if it is in any.
OUTPUTS = tuple(kind for kind, each in HANDLERS.items() if issubclass(each, Output))
#: Of what there are objects that the operator has made.
MADE = (*OUTPUTS, *(kind for kind, each in HANDLERS.items() if each.shared))


def place(work: Work) -> Place:
    """Each kind has workers of its own; its tenants take turns, or whose objects it is about."""
    pool = f"{work.kind.name}{'/status' if work.status else ''}"
    return Place(pool, HANDLERS[work.kind].group(work.key))
