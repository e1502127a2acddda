# SPDX-License-Identifier: Apache-2.0
"""A backup out of a cluster, and into one."""

import argparse
import asyncio
import os
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from headrace_api import Json
from headrace_api.raw import part, text
from headrace_cli.cluster import ask
from headrace_cli.errors import CommandError
from headrace_cli.saved import KINDS, WRITTEN, Backup, kept_by, owned, stateful_set
from headrace_kube import COMPILED, CONFIG_MAPS, NAMESPACES, NODES, Kind, Kube, KubeError
from headrace_operator import objects
from headrace_operator.election import DURATION, Election

_OWNER = "headrace-operator"
_STATEFUL_SETS = Kind("StatefulSet", "statefulsets", "apps/v1")
_AT_ONCE = 8
_NAMED = 5


@dataclass
class Done:
    """What a restoration did."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Kind -> "written" and "unchanged" -> how many."""
    warnings: list[str] = field(default_factory=list)

    def count(self, kind: Kind, written: bool) -> None:
        """Count one object."""
        own = self.counts.setdefault(kind.name, {"written": 0, "unchanged": 0})
        own["written" if written else "unchanged"] += 1

    def warn(self, line: str) -> None:
        """Say what may be unexpected."""
        self.warnings.append(line)
        print(f"warning: {line}", file=sys.stderr)


def read(arguments: argparse.Namespace) -> Backup:
    """Read what a cluster has. Raises CommandError."""

    async def work(kube: Kube) -> Backup:
        system = arguments.system_namespace
        found: list[Json] = []
        # What gives values out comes last: it may know more than was asked for, never less.
        for kind in WRITTEN:
            found += await _listed(kube, kind)
        for kind in COMPILED:
            found += await _listed(kube, kind, system)
        # What nobody gets yet.
        found.append(await _anchor(kube, system))
        spaces = {text(part(item, "metadata").get("namespace")) for item in found} - {"", system}
        named = [each for each in await _listed(kube, NAMESPACES) if objects.key(each) in spaces]
        return Backup.of_objects([*named, *found])

    return ask(arguments, work)


async def _listed(kube: Kube, kind: Kind, namespace: str = "") -> list[Json]:
    return (await kube.list(kind, namespace)).items


def write(arguments: argparse.Namespace, backup: Backup) -> Done:
    """Write what a backup has. Raises CommandError."""

    async def work(kube: Kube) -> Done:
        system = arguments.system_namespace
        anchor = await _anchor(kube, system)
        owner: Json = {
            "apiVersion": CONFIG_MAPS.api_version,
            "kind": CONFIG_MAPS.name,
            "name": _OWNER,
            "uid": objects.uid(anchor),
        }
        restoration = _Restoration(kube, backup, system, owner, arguments.overwrite)
        async with _lease(kube, system, owner):
            await restoration.run()
        return restoration.done

    return ask(arguments, work)


async def _anchor(kube: Kube, system: str) -> Json:
    """The ConfigMap that owns all that the operator makes. Raises CommandError."""
    try:
        found = await kube.get(CONFIG_MAPS, _OWNER, system)
    except KubeError as error:
        if error.absent:
            raise CommandError(
                f"Headrace is not installed in namespace {system} (no ConfigMap {_OWNER}): "
                f"helm install headrace helm/headrace -n {system} --create-namespace "
                "--set operator.replicas=0, or name the namespace with --system-namespace"
            ) from error
        raise
    return {"apiVersion": CONFIG_MAPS.api_version, "kind": CONFIG_MAPS.name, **found}


@asynccontextmanager
async def _lease(kube: Kube, system: str, owner: Json) -> AsyncIterator[None]:
    """Be the leader meanwhile: no operator writes."""
    identity = f"headrace-restore_{socket.gethostname()}_{os.getpid()}_{uuid.uuid4()}"
    failures: list[KubeError] = []
    election = Election(kube, system, identity, lambda _operation, error: failures.append(error))
    election.owners = (owner,)
    try:
        # As long as a Lease lasts whose holder has died.
        async with asyncio.timeout(DURATION + 5):
            await election.acquire()
    except TimeoutError:
        if failures and not election.holder:
            raise failures[-1] from None
        raise CommandError(
            f"the operator runs: {election.holder} leads, and would give out other values first; "
            f"kubectl -n {system} scale deployment headrace-operator --replicas=0, then again"
        ) from None
    renewing = asyncio.create_task(election.renew())
    working = asyncio.current_task()
    # An operator that leads must not be written against.
    renewing.add_done_callback(lambda task: task.cancelled() or (working and working.cancel()))
    try:
        yield
    except asyncio.CancelledError:
        if renewing.done() and not renewing.cancelled():
            raise CommandError(
                f"the Lease was lost half-way ({renewing.exception()}): what is written stays; "
                "see that no operator runs, then again"
            ) from None
        raise
    finally:
        renewing.cancel()
        await election.release()


class _Restoration:
    def __init__(
        self, kube: Kube, backup: Backup, system: str, owner: Json, overwrite: bool
    ) -> None:
        self.done = Done()
        self._kube = kube
        self._backup = backup
        self._system = system
        self._owner = owner
        self._overwrite = overwrite
        self._present: dict[tuple[str, str], Json] = {}

    async def run(self) -> None:
        for kind in (NAMESPACES, *WRITTEN, *COMPILED):
            if self._backup.of(kind):
                for item in await _listed(self._kube, kind):
                    self._present[kind.name, objects.key(item)] = item
        self._refuse_others()
        await self._look_at_nodes()
        await self._each("namespaces", self._backup.of(NAMESPACES), self._namespace)
        # First: an operator that starts too early finds the values, if not their users.
        await self._each("what rests", self._backup.of(CONFIG_MAPS), self._resting)
        await self._each("compiled objects", self._backup.of(*COMPILED), self._compiled)
        for kind in WRITTEN:
            await self._each(kind.plural, self._backup.of(kind), self._written)

    def _refuse_others(self) -> None:
        if self._overwrite:
            return
        other = [
            f"{item['kind']} {objects.key(item)}"
            for item in self._backup.of(*WRITTEN)
            if (there := self._there(item)) and there.get("spec") != item.get("spec")
        ]
        if other:
            more = f" and {len(other) - _NAMED} more" if len(other) > _NAMED else ""
            raise CommandError(
                f"the cluster has otherwise: {', '.join(other[:_NAMED])}{more}; delete them, or "
                "write over them with --overwrite"
            )

    async def _look_at_nodes(self) -> None:
        there = {objects.key(item) for item in await _listed(self._kube, NODES)}
        if missing := sorted(self._backup.nodes() - there):
            shown = ", ".join(missing[:_NAMED]) + (" ..." if len(missing) > _NAMED else "")
            self.done.warn(
                f"{len(missing)} nodes of the backup are not in the cluster ({shown}): what they "
                "had is given up when the operator starts; let them join first"
            )

    def _there(self, item: Json) -> Json | None:
        return self._present.get((str(item["kind"]), objects.key(item)))

    async def _each(
        self, what: str, found: Iterable[Json], do: Callable[[Json], Awaitable[bool]]
    ) -> None:
        """Write several at a time, telling how far it is. Raises KubeError, naming the object."""
        found = [*found]
        slots = asyncio.Semaphore(_AT_ONCE)
        finished = 0

        async def one(item: Json) -> None:
            nonlocal finished
            async with slots:
                try:
                    self.done.count(KINDS[str(item["kind"])], await do(item))
                except KubeError as error:
                    raise CommandError(
                        f"{item['kind']} {objects.key(item)}: {error.message}"
                    ) from error
            finished += 1
            if sys.stderr.isatty():
                end = "\n" if finished == len(found) else ""
                print(f"\r{what}: {finished} of {len(found)}", end=end, file=sys.stderr, flush=True)

        try:
            async with asyncio.TaskGroup() as group:
                for item in found:
                    group.create_task(one(item))
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None

    async def _namespace(self, item: Json) -> bool:
        if self._there(item):
            return False
        await self._kube.create(NAMESPACES, item)
        return True

    async def _resting(self, item: Json) -> bool:
        change: Json = {"data": part(item, "data")}
        there = await self._kube.get(CONFIG_MAPS, _OWNER, self._system)
        if objects.covers(part(there, "data"), change["data"]):
            return False
        await self._kube.merge(CONFIG_MAPS, _OWNER, self._system, change, objects.MANAGER)
        return True

    async def _compiled(self, item: Json) -> bool:
        wanted = owned(item, self._system, self._owner)
        there = self._there(wanted)
        if there and there.get("spec") == wanted.get("spec"):
            metadata = part(there, "metadata")
            if metadata.get("ownerReferences") == part(wanted, "metadata")["ownerReferences"]:
                return False
        await self._kube.apply(KINDS[str(item["kind"])], wanted, objects.MANAGER)
        return True

    async def _written(self, item: Json) -> bool:
        kind, status = KINDS[str(item["kind"])], part(item, "status")
        there = self._there(item)
        written = not there or there.get("spec") != item.get("spec")
        if written:
            wanted = {name: value for name, value in item.items() if name != "status"}
            if stateful_set(item):
                wanted = kept_by(wanted, await self._stateful_set(item))
            if there:
                metadata = {**part(wanted, "metadata")}
                metadata["resourceVersion"] = part(there, "metadata")["resourceVersion"]
                there = await self._kube.replace(kind, {**wanted, "metadata": metadata})
            else:
                there = await self._kube.create(kind, wanted)
        if status and not objects.covers(part(there, "status"), status):
            change: Json = {"metadata": {"uid": objects.uid(there)}, "status": status}
            namespace, name = objects.name_of(objects.key(item))
            await self._kube.merge(kind, name, namespace, change, objects.MANAGER, "status")
            written = True
        return written

    async def _stateful_set(self, interface: Json) -> Json | None:
        name = stateful_set(interface)
        namespace = text(part(interface, "metadata").get("namespace"))
        try:
            found = await self._kube.get(_STATEFUL_SETS, name, namespace)
        except KubeError as error:
            if not error.absent:
                raise
            self.done.warn(
                f"Interface {objects.key(interface)} was kept by StatefulSet {name}, which is not "
                "there: now nobody owns it, and it outlives its pod"
            )
            return None
        return {
            "apiVersion": _STATEFUL_SETS.api_version,
            "kind": _STATEFUL_SETS.name,
            "name": name,
            "uid": objects.uid(found),
        }
