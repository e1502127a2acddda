# SPDX-License-Identifier: Apache-2.0
"""The entry point `headrace-node`: the command of the node agent's pod."""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

from headrace_api import Json
from headrace_api.device_policy import VfDriver, VfLinkState
from headrace_api.node_facts import NodeFacts
from headrace_dataplane import logs
from headrace_dataplane.follow import follow_one
from headrace_dataplane.node import facts
from headrace_dataplane.node.cards import Cards
from headrace_dataplane.node.changes import kernel_changes
from headrace_dataplane.node.cni import DEFAULT_TIMEOUT_SECONDS, POD_ANNOTATIONS
from headrace_dataplane.node.configs import Configs
from headrace_dataplane.node.device_plugin.health import Health
from headrace_dataplane.node.device_plugin.plugins import DevicePlugins
from headrace_dataplane.node.device_plugin.pod_resources import PodResources
from headrace_dataplane.node.device_plugin.pod_users import PodUsers
from headrace_dataplane.node.facts import node_addresses
from headrace_dataplane.node.install import PLUGIN, install_plugin, keep_chained, unchain
from headrace_dataplane.node.netlink import KernelNetlink
from headrace_dataplane.node.pods import Pods
from headrace_dataplane.node.server import serve
from headrace_dataplane.node.sriov.desired import VF
from headrace_dataplane.node.sriov.observed import FileSysfs
from headrace_dataplane.node.state import NodeStateAgent
from headrace_dataplane.node.traffic import NodeAddresses
from headrace_dataplane.node.users import VFIOHolders, together
from headrace_kube import DAEMON_SETS, Kube, KubeError

log = logging.getLogger(__name__)

# Of a release that goes, whose account may go first, but also of a pod that was deleted by force.
_NO_RIGHTS = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def main(words: Sequence[str] | None = None) -> int:
    """Run until told to end and return the exit status: 0, 2 when it cannot run as it is told."""
    arguments = _parser().parse_args(words)
    logs.configure(arguments.log_format)
    try:
        asyncio.run(_run(arguments))
    except (KubeError, OSError) as error:
        log.error("%s", error)
        return 2
    return 0


async def _run(arguments: argparse.Namespace) -> None:
    if arguments.bin_dir is not None:
        install_plugin(arguments.plugin, arguments.bin_dir)
    async with await Kube.connect(arguments.kubeconfig) as kube:
        daemon_set = _DaemonSet(kube, arguments.daemon_set)
        parts = _Parts(kube, arguments)
        life = asyncio.create_task(_live(kube, daemon_set, parts, arguments))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, life.cancel)
        try:
            await life
        except asyncio.CancelledError:
            removed = await daemon_set.is_removed()
            if removed and arguments.conf_dir is not None:
                unchain(arguments.conf_dir)
            if removed and arguments.put_back:
                await parts.state.put_back()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None


class _Machine:
    """This machine."""

    def __init__(self, addresses: tuple[str, ...]) -> None:
        """`addresses` are the node's."""
        self._known = NodeAddresses(frozenset(addresses))
        self._health = Health()
        self._pods = PodUsers(PodResources())
        self.sysfs = FileSysfs()
        self.netlink = KernelNetlink()
        self.users = together(self._pods, VFIOHolders(self.sysfs))

    async def ask_users(self) -> bool:
        return await self._pods.ask()

    def read(self) -> tuple[NodeFacts, NodeAddresses]:
        found = facts.read(netlink=self.netlink, users=self.users, known=self._known)
        # Kept: at the next look the kubelet may be away, or between two connections.
        self._known = node_addresses(found.kubelet, self._known)
        return found, self._known

    def fault(self, address: str, want: VF, *, used: bool) -> str:
        driver, forced = want.driver or VfDriver.VFIO, want.link_state is VfLinkState.ENABLE
        return self._health.fault(address, driver, used=used, forced=forced)


class _Parts:
    """What follows the node's NodeState, and what gives its VFs out."""

    def __init__(self, kube: Kube, arguments: argparse.Namespace) -> None:
        machine, file = _Machine(arguments.addresses), arguments.ready_file
        file.unlink(missing_ok=True)

        def ready() -> None:
            """Have the pod ready."""
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()

        cards = Cards(machine.sysfs, machine.netlink, machine.users, arguments.state_dir)
        self.plugins = DevicePlugins(pod_resources=PodResources(), changed=self.changed)
        self.state = NodeStateAgent(kube, arguments.node, cards, machine, self.plugins, ready)

    def changed(self) -> None:
        self.state.changed()

    async def run(self) -> None:
        with kernel_changes(self.state.changed):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.plugins.run())
                tasks.create_task(self.state.run())


async def _live(
    kube: Kube, daemon_set: "_DaemonSet", parts: _Parts, arguments: argparse.Namespace
) -> None:
    # Both begin at once: a pod without VFs of ours waits for no card.
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(parts.run())
        configs = Configs(kube, arguments.namespace or kube.namespace, tasks)
        asks = arguments.pod_annotations == "APIServer"
        pods = Pods(kube, arguments.node, configs, ask_api_server=asks)
        tasks.create_task(serve(arguments.socket, pods.answer))
        if arguments.conf_dir is not None:
            entry: Json = {
                "type": PLUGIN,
                "timeoutSeconds": arguments.timeout_seconds,
                "capabilities": {POD_ANNOTATIONS: True},
            }
            tasks.create_task(keep_chained(arguments.conf_dir, entry))
        if arguments.conf_dir is not None or arguments.put_back:
            tasks.create_task(daemon_set.follow())


class _DaemonSet:
    """Whether this agent ends for good: not for an update, a restart, or with its node."""

    def __init__(self, kube: Kube, name: str) -> None:
        """An empty name: it never does."""
        self._kube = kube
        self._name = name
        self._removed = False

    async def follow(self) -> None:
        """See what becomes of it, until cancelled."""
        if not self._name:
            return
        kube = self._kube
        async for item in follow_one(kube, DAEMON_SETS, kube.namespace, self._name):
            self._removed = item is None or _is_going(item)

    async def is_removed(self) -> bool:
        """Ask once more, at the end; without the right to, what was seen last counts."""
        if not self._name:
            return False
        try:
            return _is_going(await self._kube.get(DAEMON_SETS, self._name, self._kube.namespace))
        except KubeError as error:
            return error.absent or (error.status in _NO_RIGHTS and self._removed)


def _is_going(item: Json) -> bool:
    metadata = item["metadata"]
    return isinstance(metadata, dict) and "deletionTimestamp" in metadata


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="headrace-node",
        description="Have this node's network cards as policies want them, and give its pods their "
        "devices, behind the CNI plugin.",
    )
    parser.add_argument("--node", required=True, help="name of this node")
    parser.add_argument(
        "--namespace", help="of the DataplaneConfigs; default: the pod's, or the kubeconfig's"
    )
    parser.add_argument(
        "--socket",
        type=Path,
        default=Path("/run/headrace/node/cni.sock"),
        help="where the plugin asks; default: /run/headrace/node/cni.sock",
    )
    parser.add_argument(
        "--plugin",
        type=Path,
        default=Path("/usr/lib/headrace/headrace-cni"),
        help="the program to install; default: /usr/lib/headrace/headrace-cni",
    )
    parser.add_argument("--bin-dir", type=Path, help="install it here; default: do not")
    parser.add_argument(
        "--conf-dir", type=Path, help="keep it in the first *.conflist here; default: do not"
    )
    parser.add_argument(
        "--timeout-seconds",
        type=int,
        default=DEFAULT_TIMEOUT_SECONDS,
        help="how long a pod of the *.conflist waits for its network, 1 to 120; default: 50",
    )
    parser.add_argument(
        "--pod-annotations",
        choices=("Runtime", "APIServer"),
        default="Runtime",
        help="who says them; APIServer is asked where the runtime does not; default: Runtime",
    )
    parser.add_argument(
        "--daemon-set",
        default="",
        help="of this agent: when it is gone at the end, the *.conflist is put back",
    )
    parser.add_argument(
        "--addresses",
        type=lambda text: tuple(filter(None, text.split(","))),
        default=(),
        help="of this node, with commas; default: those that its kubelet was told",
    )
    parser.add_argument(
        "--state-dir",
        type=Path,
        default=Path("/var/lib/headrace/node"),
        help="where is kept what cards were found as; default: /var/lib/headrace/node",
    )
    parser.add_argument(
        "--put-back",
        action="store_true",
        help="when the DaemonSet is gone at the end, have the cards as they were found",
    )
    parser.add_argument(
        "--ready-file",
        type=Path,
        default=Path("/run/headrace/node/ready"),
        help="made when pods may start; default: /run/headrace/node/ready",
    )
    parser.add_argument("--kubeconfig", help="default: as a pod, else $KUBECONFIG")
    parser.add_argument(
        "--log-format", choices=("json", "text"), default="json", help="default: json"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
