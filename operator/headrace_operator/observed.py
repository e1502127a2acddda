# SPDX-License-Identifier: Apache-2.0
"""Observed inputs: what of the cluster the compiler reads, what changed of it, what is invalid."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Set

from headrace_api import Json, Object, Pipeline, Problem
from headrace_compiler import Changes, Compiler, Rest, Subject
from headrace_compiler import start as start_compiler
from headrace_kube import (
    INTERFACES,
    NODE_STATES,
    PIPELINES,
    PODS,
    VIRTUAL_NETWORKS,
    Kind,
)

from .cache import Cache
from .former import Former
from .liveness import PipelineNode
from .render import load_allocations
from .work import Work

#: Seconds without a change before a compilation, and most seconds that changes put it off.
QUIET = 0.05
CAP = 1.0

#: The model of an object as the operator means it, or what is wrong with it.
Read = Callable[[Json], Object | tuple[Problem, ...]]


class Observed:
    """The compiler, and what it has been given. Not thread-safe."""

    def __init__(self, namespace: str, sockets: str) -> None:
        """`namespace` is that of the outputs, `sockets` where Interfaces have their directories."""
        self._namespace = namespace
        self._sockets = sockets
        self.compiler = Compiler(namespace=namespace)
        self.invalid: dict[Subject, tuple[Problem, ...]] = {}
        """What cannot be read, and why."""
        self.pipelines: dict[str, Pipeline] = {}
        """As they could be read last."""
        self.touched: set[Work] = set()
        """What the next compilation is to look at."""
        self._dirty = asyncio.Event()
        self._last_change = 0.0

    # Changes

    def touch(self, work: Work) -> None:
        """Have the object looked at by the next compilation."""
        self.touched.add(work)
        self.compile_soon()

    def put(self, work: Work, found: Object | tuple[Problem, ...] | None) -> None:
        """Have an object compiled as it is now: its model, what is wrong with it, or it is gone.

        What is invalid stays as it was compiled: a mistake must not take a dataplane down.
        """
        self.touch(work)
        self.invalid.pop(work.subject, None)
        if found is None:
            self.compiler.delete(*work.subject)
        elif isinstance(found, tuple):
            self.invalid[work.subject] = found
        else:
            self.compiler.upsert(found)

    # Compilations

    def compile_soon(self) -> None:
        """Have a compilation once nothing has changed for a moment."""
        self._last_change = time.monotonic()
        self._dirty.set()

    async def wait(self) -> None:
        """Return when a compilation is due, and nothing changes, or has for too long."""
        await self._dirty.wait()
        latest = time.monotonic() + CAP
        while (left := min(self._last_change + QUIET, latest) - time.monotonic()) > 0:
            await asyncio.sleep(left)
        self._dirty.clear()

    def start(
        self,
        cache: Cache,
        former: Former,
        reads: Mapping[Kind, Read],
        withdrawn: Set[PipelineNode],
        resting: Iterable[Rest],
    ) -> tuple[Changes, list[tuple[Kind, Object]]]:
        """Compile everything for the first time; returns what there is now, and the models.

        What was given out is read back from the objects, so nothing moves. `reads` are those of the
        inputs. With 10,000 objects this takes longer than the Lease can wait: call it in a thread,
        while nothing changes.
        """

        def held(kind: Kind) -> list[Json]:
            return [item for _, item in cache.all(kind)]

        configs, slices = former.compiled()
        models: list[tuple[Kind, Object]] = []
        invalid: dict[Subject, tuple[Problem, ...]] = {}
        for kind, read in reads.items():
            for key, item in cache.all(kind):
                found = read(item)
                if isinstance(found, tuple):
                    invalid[kind.name, key] = found
                else:
                    models.append((kind, found))
        allocations = load_allocations(
            held(VIRTUAL_NETWORKS),
            held(INTERFACES),
            held(PIPELINES),
            configs,
            slices,
            held(PODS),
            resting,
        )

        def made(failing: Set[Subject]) -> Compiler:
            compiler = Compiler(allocations, self._namespace, self._sockets)
            compiler.set_unreachable(withdrawn)
            for name, key in (*invalid, *failing):
                compiler.hold(name, key)
            for _, model in models:
                if (model.kind, model.key) not in failing:
                    compiler.upsert(model)
            return compiler

        states = held(NODE_STATES)
        first = start_compiler(made, configs, slices, int(time.time()), states)
        self.compiler, self.invalid = first.compiler, {**invalid, **first.held}
        return first.changes, models
