# SPDX-License-Identifier: Apache-2.0
"""headrace-operator: one of its replicas leads and works, the others wait."""

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import uuid
from collections.abc import Coroutine, Iterator
from importlib.metadata import version
from pathlib import Path

from prometheus_client.core import Metric

from headrace_api import SYSTEM_NAMESPACE, Json
from headrace_http import Certificate
from headrace_kube import CONFIG_MAPS, FORMER, Kind, Kube, KubeError, Readers

from . import logs, objects
from .controller import Controller
from .election import RETRY, Election, LeaseLostError
from .events import Events
from .heartbeats import Heartbeats
from .kinds import INPUTS, OUTPUTS
from .metrics import Metrics, counters
from .render import Settings, SettingsError
from .replacement import Replacer
from .resting import RestKeeper
from .resting import read as read_resting
from .resync import Resync
from .server import Server
from .watch import Watch
from .writer import NotLeadingError, Writer

_log = logging.getLogger("headrace_operator.main")


def main(arguments: list[str] | None = None) -> None:
    """Run until SIGTERM (exit status 0), or until it may not or cannot go on (1)."""
    options = _parser().parse_args(arguments)
    if options.kubeconfig:
        # kopf and our own client both look there.
        os.environ["KUBECONFIG"] = options.kubeconfig
    try:
        settings = Settings.load(Path(options.config))
    except SettingsError as error:
        sys.exit(f"headrace-operator: {error}")
    certificate = None
    if options.metrics_certificate is not None:
        try:
            certificate = Certificate(options.metrics_certificate)
        except OSError as error:
            sys.exit(
                f"headrace-operator: --metrics-certificate {options.metrics_certificate}: "
                f"no tls.crt with its tls.key: {error}"
            )
    logs.configure(settings.log_level)
    sys.exit(asyncio.run(_run(options, settings, certificate)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="headrace-operator",
        description="Compiles VirtualNetworks, Interfaces and Pipelines, and runs the dataplanes.",
    )
    parser.add_argument(
        "--config",
        default="/etc/headrace/operator.yaml",
        help="settings (default: %(default)s)",
    )
    parser.add_argument(
        "--kubeconfig", help="kubeconfig (default: the pod's service account, or $KUBECONFIG)"
    )
    parser.add_argument(
        "--namespace",
        default=os.environ.get("POD_NAMESPACE", SYSTEM_NAMESPACE),
        help="Headrace's namespace (default: $POD_NAMESPACE, or %(default)s)",
    )
    parser.add_argument(
        "--listen",
        default=":8080",
        type=_address,
        metavar="[HOST]:PORT",
        help="address of /metrics, /healthz and /readyz (default: :8080)",
    )
    parser.add_argument(
        "--metrics-certificate",
        type=Path,
        metavar="DIRECTORY",
        help="serve by TLS, with tls.crt and tls.key of this directory, and /metrics only to whom "
        "the API server lets get it (default: in clear, to everybody)",
    )
    return parser


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit():
        raise argparse.ArgumentTypeError(f"{text}: write it as HOST:PORT or :PORT")
    return host.strip("[]"), int(port)


async def _run(
    options: argparse.Namespace, settings: Settings, certificate: Certificate | None
) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with await Kube.connect(options.kubeconfig) as kube:
            replica = _Replica(kube, options.namespace, settings, certificate)
            return await replica.run(stop, *options.listen)
    except KubeError as error:
        _log.error("%s", error)
        return 1


class _Replica:
    """One process: waits for the Lease, then works."""

    def __init__(
        self, kube: Kube, namespace: str, settings: Settings, certificate: Certificate | None
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._settings = settings
        self._metrics = Metrics(version("headrace"))
        instance = os.environ.get("POD_NAME") or socket.gethostname()
        identity = f"{instance}_{uuid.uuid4()}"
        self._election = Election(kube, namespace, identity, self._metrics.failed)
        self._watches: list[Watch] = []
        self._resync: Resync | None = None
        self._metrics.leader.set_function(lambda: self._election.leading)
        self._metrics.add(self._transitions)
        self._server = Server(
            self._metrics,
            self._unhealthy,
            lambda: self._election.holder,
            certificate,
            Readers(kube, "/metrics") if certificate is not None else None,
        )

    def _transitions(self) -> Iterator[Metric]:
        changes = counters(
            "lease_transitions", "How often the leader changed (spec.leaseTransitions).", ()
        )
        changes.add_metric((), self._election.transitions)
        yield changes

    async def run(self, stop: asyncio.Event, host: str, port: int) -> int:
        """Run until `stop` is set; returns the process's exit status."""
        try:
            port = await self._server.start(host, port)
        except OSError as error:
            _log.error("cannot listen on %s:%d: %s", host, port, error)
            return 1
        _log.info("listening on port %d as %s", port, self._election.identity)
        try:
            if not await _unless(stop, self._acquire()):
                return 0
            _log.info("leading")
            await _unless(stop, self._lead())
            _log.info("stopping")
        except ExceptionGroup as group:
            lost = group.subgroup((LeaseLostError, NotLeadingError))
            if lost:
                _log.error("not leading any more: %s", _words(lost))
                # At once: whatever is under way must not meet the next leader.
                logging.shutdown()
                os._exit(1)
            _log.error("the operator failed", exc_info=group)
            return 1
        finally:
            await self._election.release()
            for watch in self._watches:
                watch.stop()
            await self._server.stop()
        return 0

    async def _acquire(self) -> None:
        found = await self._owner()
        self._election.owners = (self._reference(found),)
        await self._election.acquire()

    async def _lead(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._election.renew())
            (owner,) = self._election.owners
            controller = Controller(self._namespace, self._settings, owner, self._metrics)
            former = await self._former()
            outputs = [kind for kind in OUTPUTS if kind.namespaced and kind not in FORMER]
            everywhere = [*INPUTS, *(kind for kind in OUTPUTS if not kind.namespaced)]
            kinds = dict.fromkeys(everywhere, "")
            kinds |= dict.fromkeys((*outputs, *former), self._namespace)
            resync = self._resync = Resync(
                self._kube,
                controller.cache,
                kinds,
                self._settings.resync_seconds,
                self._metrics,
                self._restart_watch,
            )

            def feed(kind: Kind, change: str | None, item: Json) -> None:
                self._metrics.events.labels(kind.name).inc()
                self._metrics.last_event.labels(kind.name).set_to_current_time()
                resync.observed(kind)
                if change is None:
                    resync.soon(kind)
                if change == "DELETED":
                    controller.cache.remove(kind, item)
                else:
                    controller.cache.put(kind, item)

            # What comes now stays: looking through it again and again costs a third of the start.
            gc.disable()
            await resync.first()
            # Read once nobody else writes it.
            await controller.load(read_resting(await self._owner()))
            gc.collect()
            gc.freeze()
            gc.enable()
            self._watches = [
                Watch(everywhere, None, feed),
                Watch(outputs, self._namespace, feed),
                *([Watch(former, self._namespace, feed)] if former else []),
            ]
            for watch in self._watches:
                watch.start()
            for kind in kinds:
                # What vanished between the list and the watch.
                resync.soon(kind)
            events = Events(self._kube, self._election.identity, self._metrics)
            writer = Writer(
                self._kube, controller, events, lambda: self._election.left, self._metrics
            )
            heartbeats = Heartbeats(
                self._kube,
                self._namespace,
                controller.liveness,
                controller.judge_nodes,
                self._metrics,
            )
            keeper = RestKeeper(
                self._kube,
                self._namespace,
                self._settings.owner,
                lambda: controller.resting,
                lambda: self._election.left,
            )
            replacer = Replacer(
                self._kube,
                self._namespace,
                controller.cache,
                controller.pipelines,
                lambda: self._election.left,
                self._metrics,
            )
            tasks = (controller.run, controller.release, resync.run, events.run, writer.run)
            for task in (*tasks, heartbeats.run, keeper.run, replacer.run):
                group.create_task(task())
            if former:
                group.create_task(self._end_copying(controller, resync))

    async def _owner(self) -> Json:
        """The ConfigMap with which everything goes."""
        while True:
            try:
                return await self._kube.get(CONFIG_MAPS, self._settings.owner, self._namespace)
            except KubeError as error:
                self._metrics.failed("get", error)
                if error.absent:
                    _log.error(
                        "ConfigMap %s/%s, which is to own all that is made, does not exist:"
                        " create it, or name another in the settings (owner)",
                        self._namespace,
                        self._settings.owner,
                    )
                else:
                    _log.warning("ConfigMap %s: %s", self._settings.owner, error)
                await asyncio.sleep(RETRY)

    async def _end_copying(self, controller: Controller, resync: Resync) -> None:
        """Wait until there are no copies for the release before, and follow them no more."""
        while controller.copies:
            await asyncio.sleep(RETRY)
        (watch,) = (each for each in self._watches if FORMER[0] in each.kinds)
        self._watches.remove(watch)
        await asyncio.to_thread(watch.stop)
        for kind in watch.kinds:
            resync.forget(kind)
        _log.info("nothing is copied for dataplanes of release 0.2 any more")

    async def _former(self) -> tuple[Kind, ...]:
        """The kinds of the release before, where it has left something."""
        return FORMER if [kind for kind in FORMER if await self._is_there(kind)] else ()

    async def _is_there(self, kind: Kind) -> bool:
        """Whether there is something of the kind, which the API server may not have."""
        try:
            async for page in self._kube.pages(kind, self._namespace):
                return bool(page.items)
        except KubeError as error:
            return not error.absent
        return False

    def _reference(self, owner: Json) -> Json:
        """The ownerReference to it."""
        return {
            "apiVersion": CONFIG_MAPS.api_version,
            "kind": CONFIG_MAPS.name,
            "name": self._settings.owner,
            "uid": objects.uid(owner),
            "controller": True,
        }

    def _restart_watch(self, kind: Kind) -> None:
        for watch in self._watches:
            if kind in watch.kinds:
                watch.restart()

    def _unhealthy(self) -> str:
        """What a restart would heal; empty: nothing."""
        if any(not watch.alive for watch in self._watches):
            return "a watch has ended"
        late = self._resync.late if self._resync else []
        return f"not listed for long: {', '.join(late)}" if late else ""


async def _unless(stop: asyncio.Event, work: Coroutine[None, None, None]) -> bool:
    """Do the work; False when `stop` was set before it ended."""
    doing = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((doing, stopping), return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            doing.result()
            return True
        return False
    finally:
        stopping.cancel()
        doing.cancel()
        await asyncio.wait((doing, stopping))


def _words(group: ExceptionGroup[Exception]) -> str:
    """The messages of all that is in the group."""
    words = {
        _words(error) if isinstance(error, ExceptionGroup) else str(error)
        for error in group.exceptions
    }
    return "; ".join(sorted(filter(None, words)))


if __name__ == "__main__":
    main()
