# SPDX-License-Identifier: Apache-2.0
"""Local mode: the compiler fed from a directory of manifests, with allocations in a file."""

import asyncio
import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace_api import (
    Interface,
    Json,
    LabelSelector,
    Node,
    ObjectMeta,
    Objects,
    Pipeline,
    Problem,
    digest,
)
from headrace_cli.errors import CommandError
from headrace_cli.manifests import ManifestReader, Manifests, Remembered
from headrace_compiler import REST, Allocations, Compilation
from headrace_compiler import compile as compile_objects
from headrace_dataplane.parts import Report
from headrace_dataplane.reading import read_config, read_slice
from headrace_dataplane.source import Snapshot

log = logging.getLogger(__name__)

POLL_SECONDS = 0.1
"""A look is one stat() a file."""
AGAIN_SECONDS = 60.0
"""Between two compilations while something rests: what is released must come free some day."""


class _Revision(BaseModel):
    """The generation of one node's configuration, and what it was."""

    model_config = ConfigDict(frozen=True)

    generation: int
    digest: str
    at: int = 0
    """When the node last compiled while something rested, in seconds since 1970."""


class LocalState(BaseModel):
    """What outlives the process: what was given out, to whom, and each node's generation."""

    model_config = ConfigDict(frozen=True)

    allocations: Allocations = Field(default_factory=Allocations)
    nodes: dict[str, _Revision] = Field(default_factory=dict)
    manifests: tuple[Remembered, ...] | None = None
    """What is in force; None in the state of an earlier release."""


class StateFile:
    """A LocalState in a file that processes of several nodes share.

    Written whole, synced and renamed, so that a crash leaves the old or the new one.
    """

    def __init__(self, path: Path) -> None:
        """`path` is the file (it exists, or ends in .json), or a directory for state.json."""
        self.path = path if path.is_file() or path.suffix == ".json" else path / "state.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep the other processes out. Raises CommandError."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.with_suffix(".lock").open("w")
        except OSError as error:
            raise CommandError(f"cannot keep state: {error.filename}: {error.strerror}") from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def load(self) -> LocalState:
        """Return the state, an empty one before the first save. Raises CommandError."""
        try:
            return LocalState.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return LocalState()
        except (OSError, ValidationError) as error:
            raise CommandError(
                f"{self.path} cannot be read, and without it everything would get new addresses: "
                f"restore it, or remove it to start anew ({str(error).splitlines()[0]})"
            ) from error

    def save(self, state: LocalState) -> None:
        """Replace the state; on the disk when this returns. Raises CommandError."""
        new = self.path.with_suffix(".new")
        try:
            with new.open("w") as file:
                file.write(state.model_dump_json(indent=1))
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.path)
            directory = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise CommandError(f"cannot keep state: {self.path}: {error.strerror}") from error


def localized(objects: Objects, *own: str) -> Objects:
    """Return the objects as local mode means them.

    With a Node for each node that they name and for `own`; where a Pipeline does not say which
    namespaces or nodes it means, it means all.
    """
    named = {*own}
    named |= {item.spec.node_name for item in objects.of(Interface) if item.spec.node_name}
    for pipeline in objects.of(Pipeline):
        for uplink in pipeline.spec.uplinks:
            named |= {override.node_name for override in uplink.node_overrides}
    named -= {node.key for node in objects.of(Node)}
    new = (Node(metadata=ObjectMeta(name=name)) for name in sorted(named))
    old = (_localized(item) if isinstance(item, Pipeline) else item for item in objects.items)
    return Objects((*old, *new))


def _localized(pipeline: Pipeline) -> Pipeline:
    everything = LabelSelector()
    devices = pipeline.spec.devices
    if devices is not None:
        devices = tuple(each.with_defaults(everything) for each in devices)
        pipeline = pipeline.with_spec(devices=devices)
    return pipeline.with_defaults(allowed_namespaces=everything, node_selector=everything)


class LocalSource:
    """The ConfigSource of local mode: follows the manifests, compiles, writes state first."""

    def __init__(self, reader: ManifestReader, node: str, state: StateFile) -> None:
        self._reader = reader
        self._node = node
        self._state = state
        self._last: Snapshot | None = None
        self._waits: bool | None = None
        """Whether a start needs every manifest; None: that has not been looked at yet."""
        self._manifests: Manifests | None = None
        """Read and not compiled yet."""
        self._again: tuple[Manifests, float] | None = None
        """What to compile again, and when: something rests."""
        self._compiled: Compilation | None = None
        self._failure = ""
        self._logged: frozenset[str] = frozenset()
        self._unready: frozenset[str] = frozenset()

    async def next(self) -> Snapshot:
        """Wait for manifests that compile to something else than before."""
        while True:
            found = await asyncio.to_thread(self._look)
            if found is not None and found != self._last:
                self._last = found
                return found
            await asyncio.sleep(POLL_SECONDS)

    async def report(self, report: Report) -> None:
        """Say which Interfaces are not ready, each time for as long as it is so."""
        unready = {
            f"{state.namespace}/{state.name}": f"{state.reason}: {state.message}"
            for state in report.status.interfaces
            if not state.ready and state.reason not in ("Pending", "EngineDown")
        }
        for name in sorted(unready.keys() - self._unready):
            log.warning("Interface %s is not ready: %s", name, unready[name])
        for name in sorted(self._unready - unready.keys()):
            log.info("Interface %s is ready or gone", name)
        self._unready = frozenset(unready)

    def _look(self) -> Snapshot | None:
        """Return what is read and compiled newly, if anything.

        Raises CommandError where a start cannot succeed; whatever else goes wrong is said, and
        the last good state goes on.
        """
        try:
            if self._waits is None:
                with self._state.locked():
                    state = self._state.load()
                self._reader.remember(state.manifests or ())
                self._waits = state.manifests is None
            self._manifests = self._reader.read() or self._manifests
            if self._manifests is None and self._again and self._again[1] < time.monotonic():
                self._manifests = self._again[0]
            return self._try(self._manifests) if self._manifests is not None else None
        except CommandError as error:
            if self._last is None:
                raise
            self._fails(f"{error}; trying again")
        except Exception as error:  # one object's fault must end no node
            self._fails(
                f"the manifests cannot be compiled: {type(error).__name__}: {error}; "
                "what was there before stays in force until they change"
            )
            self._manifests = self._again = None
        return None

    def _fails(self, message: str) -> None:
        line = " ".join(message.split())
        if line != self._failure:
            log.error("%s", line)
        self._failure = line

    def _try(self, manifests: Manifests) -> Snapshot | None:
        if self._last is None and self._waits and manifests.incomplete:
            # What the unreadable file holds would lose its addresses, here and on other nodes.
            self._say(manifests, ())
            log.warning("waiting until every manifest can be read")
            self._manifests = None
            return None
        found = self._compile(manifests)
        self._failure = ""
        self._manifests = None
        return found

    def _compile(self, manifests: Manifests) -> Snapshot | None:
        with self._state.locked():
            state = self._state.load()
            now = int(time.time())
            # Who has compiled since a value was released does not use it.
            free = min(now - REST, *(revision.at for revision in state.nodes.values()), now)
            compiled = compile_objects(
                localized(manifests.objects, self._node),
                state.allocations,
                now=now,
                free=free,
                before=self._compiled,
            )
            self._trace(compiled)
            new = state.model_copy(
                update={
                    "allocations": compiled.allocations,
                    "manifests": manifests.remembered(),
                }
            )
            resting = bool(compiled.allocations.resting)
            self._again = (manifests, time.monotonic() + AGAIN_SECONDS) if resting else None
            found = snapshot(compiled, self._node, self._last)
            if found is not None:
                self._say(manifests, (*compiled.problems, *found.problems))
                new, found = self._numbered(new, found, now if resting else None)
            if new != state:
                self._state.save(new)
        if found is None:
            self._say(manifests, compiled.problems)
            log.warning("no Pipeline selects node %s: nothing to do", self._node)
            return None
        interfaces = manifests.objects.of(Interface)
        elsewhere = {item.spec.node_name for item in interfaces if item.spec.node_name}
        if elsewhere and self._node not in elsewhere and self._last is None:
            names = ", ".join(sorted(elsewhere))
            log.warning("no Interface is on node %s; --node may be one of: %s", self._node, names)
        return found

    def _numbered(
        self, state: LocalState, found: Snapshot, at: int | None
    ) -> tuple[LocalState, Snapshot]:
        """Give the configuration its generation: the same for the same contents.

        `at` is the time where it matters that the node has compiled.
        """
        content = digest(
            {
                "config": found.config.spec.to_dict(),
                "slices": [part.spec.to_dict() for part in found.slices],
            }
        )
        before = state.nodes.get(self._node)
        generation = before.generation if before is not None else 0
        if before is None or before.digest != content:
            generation += 1
        if at is None:
            at = before.at if before is not None else 0
        revision = _Revision(generation=generation, digest=content, at=at)
        nodes = {**state.nodes, self._node: revision}
        metadata = found.config.metadata.model_copy(update={"generation": generation})
        config = found.config.model_copy(update={"metadata": metadata})
        numbered = replace(found, generation=generation, config=config)
        return state.model_copy(update={"nodes": nodes}), numbered

    def _trace(self, compiled: Compilation) -> None:
        """Say, once, what this release fails with."""
        told = self._compiled.traces.items() if self._compiled is not None else ()
        for (kind, key), trace in compiled.traces.items() - told:
            log.error("%s %s cannot be compiled and stays as it was:\n%s", kind, key, trace)
        self._compiled = compiled

    def _say(self, manifests: Manifests, problems: tuple[Problem, ...]) -> None:
        lines = frozenset(str(manifests.located(p)) for p in (*manifests.problems, *problems))
        for line in sorted(lines - self._logged):
            log.warning("%s", line)
        if self._logged and not lines:
            log.info("no problems are left in the manifests")
        self._logged = lines


def snapshot(compiled: Compilation, node: str, before: Snapshot | None = None) -> Snapshot | None:
    """Return a node's part of what was compiled, None when no Pipeline has the node.

    Its generation is 0. What the agent cannot read stays as it was `before`, or is left out.
    Raises CommandError when several have it: local mode runs one engine.
    """
    own = [item for item in compiled.configs.values() if _spec(item).get("nodeName") == node]
    if not own:
        return None
    if len(own) > 1:
        names = ", ".join(str(_spec(item).get("pipelineName")) for item in own)
        raise CommandError(f"several Pipelines select node {node} ({names}): leave one")
    config, problems = read_config(own[0], before.config if before is not None else None)
    had = {part.metadata.name: part for part in (before.slices if before is not None else ())}
    named = {name for network in config.spec.networks for name in network.route_slices}
    slices = []
    for name in sorted(named & compiled.slices.keys()):
        part, found = read_slice(compiled.slices[name], had.get(name))
        slices.append(part)
        problems += found
    return Snapshot(0, config, tuple(slices), problems)


def _spec(item: Json) -> Json:
    return cast(Json, item["spec"])
