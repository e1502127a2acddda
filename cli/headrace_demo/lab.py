# SPDX-License-Identifier: Apache-2.0
"""Nodes and endpoints as network namespaces of one machine, that never outlive their lab.

Everything a lab makes can be found by its name: namespaces `NAME-...`, the processes in them, and
the folders `NAME` and `NAME-...` under RUNTIME_ROOT. So what a lab that was killed left behind is
removed by the next one.
"""

import contextlib
import fcntl
import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from pyroute2 import netns

from headrace_cli.errors import CommandError
from headrace_cli.target import RUNTIME_ROOT
from headrace_dataplane.http import DEFAULT_ADDRESS
from headrace_dataplane.protocol import EngineClient, EngineError, Interface, Uplink
from headrace_dataplane.runtime import RuntimeDirectory

HEADRACE = (sys.executable, "-m", "headrace_cli.main")
TOOLS = ("ip", "ethtool", "ping", "iperf3", "tcpdump")
MTU = 1460
"""Of endpoints: the underlay's 1500 less the outer header."""

_POLL_SECONDS = 0.01
_COMMAND_SECONDS = 60.0
_END_SECONDS = 15.0
_NAMESPACES = Path("/run/netns")


def until(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Poll a condition. Raises CommandError when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise CommandError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(_POLL_SECONDS)


def command(
    *words: str | Path,
    environment: Mapping[str, str] | None = None,
    stdin: str = "",
    seconds: float = _COMMAND_SECONDS,
) -> str:
    """Run a command and return its output. Raises CommandError, with what it said, if it fails."""
    line = " ".join(map(str, words))
    try:
        done = subprocess.run(
            words,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env=environment,
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"{line}: {error}") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        raise CommandError(f"{line}: status {done.returncode}: {'; '.join(said)}")
    return done.stdout


@dataclass(frozen=True)
class Namespace:
    """A network namespace: a node, or a machine of a tenant."""

    name: str

    def words(self, *words: str) -> tuple[str, ...]:
        """Return the command that runs `words` inside."""
        return ("ip", "netns", "exec", self.name, *words)

    def command(self, *words: str) -> str:
        """Run a command inside and return its output. Raises CommandError when it fails."""
        return command(*self.words(*words))

    def ip(self, line: str) -> None:
        """Run an `ip` command for this namespace's devices. Raises CommandError."""
        command("ip", "-n", self.name, *line.split())

    def listens(self, port: int) -> bool:
        """Whether a TCP server listens there on a port, for both families."""
        sockets = [line.split() for line in self.command("cat", "/proc/net/tcp6").splitlines()[1:]]
        return any(each[1].endswith(f":{port:04X}") and each[3] == "0A" for each in sockets)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Let sockets that are opened meanwhile belong to the namespace."""
        netns.pushns(self.name)
        try:
            yield
        finally:
            netns.popns()


class Node:
    """A namespace in which `headrace run` makes a directory of manifests forward."""

    def __init__(self, lab: "Lab", name: str, namespace: Namespace) -> None:
        """`name` is what nodeName in the manifests says."""
        self.name = name
        self.namespace = namespace
        self.runtime = RuntimeDirectory(RUNTIME_ROOT / namespace.name)
        self.log = lab.path / f"{name}.log"
        self.agent: subprocess.Popen[str] | None = None
        self._lab = lab

    @property
    def target(self) -> str:
        """What the commands' --node takes."""
        return self.namespace.name

    def start(self, cpus: set[int]) -> None:
        """Start `headrace run`; the caller waits for what it needs."""
        with self.log.open("a") as log:
            self.agent = self._lab.spawn(
                self.namespace,
                *(*HEADRACE, "run", "-f", str(self._lab.manifests), "--node", self.name),
                *("--state", str(self._lab.state), "--runtime-dir", str(self.runtime.path)),
                *("--cpus", ",".join(map(str, sorted(cpus)))),
                output=log,
            )

    def check(self) -> None:
        """Raise CommandError when `headrace run` has ended."""
        if self.agent is not None and self.agent.poll() is not None:
            raise CommandError(
                f"headrace run of {self.name} ended with status {self.agent.returncode}"
            )

    def up(self, *interfaces: str) -> bool:
        """Whether the engine has exactly these Interfaces ("namespace/name"), all devices up."""
        self.check()
        try:
            with EngineClient(self.runtime.socket) as client:
                states = {each.name: each.state for each in client.items(Interface)}
                uplinks = [each.state for each in client.items(Uplink)]
        except EngineError:
            return False
        return states == dict.fromkeys(interfaces, "up") and {*uplinks} <= {"up"}

    def engine_pid(self) -> int:
        """Return the engine's process, 0 while none answers."""
        try:
            with EngineClient(self.runtime.socket) as client:
                return client.hello().pid
        except EngineError:
            return 0

    def get(self, path: str) -> tuple[int, str]:
        """Fetch a path of the agent's HTTP server: status and text. Raises CommandError."""
        host, _, port = DEFAULT_ADDRESS.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=_COMMAND_SECONDS)
        try:
            with self.namespace.entered():
                connection.connect()
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        except OSError as error:
            raise CommandError(f"{self.name}: http://{DEFAULT_ADDRESS}{path}: {error}") from error
        finally:
            connection.close()


class Lab:
    """Namespaces, veth pairs between them, and processes; `close` removes it all."""

    def __init__(self, name: str) -> None:
        """Make the lab's folder; `name` is the prefix of all that it makes."""
        self.name = name
        self.path = RUNTIME_ROOT / name
        self.manifests = self.path / "manifests"
        self.state = self.path / "state.json"
        self._processes: list[subprocess.Popen[str]] = []
        self.manifests.mkdir(parents=True)
        self._lock = (self.path / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def namespace(self, suffix: str) -> Namespace:
        """Make a network namespace."""
        made = Namespace(f"{self.name}-{suffix}")
        command("ip", "netns", "add", made.name)
        made.ip("link set lo up")
        return made

    def node(self, name: str) -> Node:
        """Make a node, whose kernel says nothing on its devices."""
        namespace = self.namespace(name.removeprefix("node-"))
        for group in ("all", "default"):
            namespace.command("sysctl", "-qw", f"net.ipv6.conf.{group}.disable_ipv6=1")
        return Node(self, name, namespace)

    def join(self, one: Node, other: Node, device: str = "uplink0") -> None:
        """Join two nodes by a cable, the underlay."""
        cable(one.namespace, device, other.namespace, device)

    def endpoint(self, name: str, addresses: tuple[str, ...], *nodes: Node) -> Namespace:
        """Make a machine ("tenant/name") with a cable to each of the nodes.

        The device is eth0 in the machine and "tenant-name" on the nodes. The machine has its
        addresses alone, and reaches everything through the gateway, as cloud machines do. With
        several nodes eth0 bridges the cables, which see nothing of one another.
        """
        label = name.replace("/", "-")
        namespace = self.namespace(label)
        namespace.command(
            *("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0"),
            "net.ipv6.conf.default.accept_ra=0",
        )
        if len(nodes) == 1:
            cable(namespace, "eth0", nodes[0].namespace, label, MTU)
        else:
            namespace.ip(f"link add eth0 mtu {MTU} type bridge stp_state 0 mcast_snooping 0")
            for number, node in enumerate(nodes):
                port = f"port{number}"
                cable(namespace, port, node.namespace, label, MTU)
                namespace.command("sysctl", "-qw", f"net.ipv6.conf.{port}.disable_ipv6=1")
                namespace.ip(f"link set {port} master eth0")
                namespace.ip(f"link set {port} type bridge_slave isolated on")
            namespace.command("ethtool", "-K", "eth0", "tx", "off")
            namespace.ip("link set eth0 up")
        for address in addresses:
            length = 128 if ":" in address else 32
            namespace.ip(f"address add {address}/{length} dev eth0")
        namespace.ip("route add default via 10.0.0.1 dev eth0 onlink")
        namespace.ip("-6 route add default via fe80::1 dev eth0")
        return namespace

    def spawn(
        self, namespace: Namespace, *words: str, output: IO[str] | int = subprocess.DEVNULL
    ) -> subprocess.Popen[str]:
        """Start a process in a namespace, see `spawn`; it ends with the lab."""
        process = spawn(namespace, *words, output=output)
        self._processes.append(process)
        return process

    def release(self) -> None:
        """Leave everything running; `remove` or a later lab ends it."""
        self._lock.close()

    def close(self) -> None:
        """End and remove everything."""
        remove(self.name)
        for process in self._processes:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._lock.close()


def spawn(
    namespace: Namespace, *words: str, output: IO[str] | int = subprocess.DEVNULL
) -> subprocess.Popen[str]:
    """Start a process in a namespace, out of the reach of the terminal's Ctrl-C."""
    return subprocess.Popen(
        namespace.words(*words),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def cable(one: Namespace, device: str, other: Namespace, peer: str, mtu: int = 1500) -> None:
    """Join two namespaces by a veth pair, as network cards see it: every frame is whole."""
    one.ip(f"link add {device} mtu {mtu} type veth peer name {peer} mtu {mtu} netns {other.name}")
    for namespace, end in ((one, device), (other, peer)):
        # A veth leaves checksums and segmentation to a NIC, and here is none.
        namespace.command("ethtool", "-K", end, "tx", "off", "tso", "off", "gso", "off")
        namespace.ip(f"link set {end} up")


def remove(name: str) -> None:
    """End the processes of a lab and remove its namespaces and folders; none there: no error."""
    namespaces = [path.name for path in sorted(_NAMESPACES.glob(f"{name}-*"))]
    _end(namespaces)
    for namespace in namespaces:
        command("ip", "netns", "delete", namespace)
    # Its own folder last: it is what an interrupted removal is found by.
    for folder in (*RUNTIME_ROOT.glob(f"{name}-*"), RUNTIME_ROOT / name):
        shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        RUNTIME_ROOT.rmdir()


def abandoned(prefix: str) -> list[str]:
    """Return the names of labs, "PREFIX<number>", that no running process owns."""
    found = (*_NAMESPACES.glob(f"{prefix}*"), *RUNTIME_ROOT.glob(f"{prefix}*"))
    matches = (re.match(re.escape(prefix) + r"\d+(?=-|$)", path.name) for path in found)
    names = {match.group() for match in matches if match is not None}
    return sorted(name for name in names if not _owned(name))


def _owned(name: str) -> bool:
    try:
        with (RUNTIME_ROOT / name / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _end(namespaces: list[str]) -> None:
    """End the processes in the namespaces: SIGTERM, and SIGKILL for those that do not obey."""
    asked: set[int] = set()
    begun = time.monotonic()
    while pids := _pids(namespaces):
        obstinate = time.monotonic() - begun > _END_SECONDS
        for pid in pids if obstinate else pids - asked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if obstinate else signal.SIGTERM)
        asked |= pids
        time.sleep(_POLL_SECONDS)


def _pids(namespaces: list[str]) -> set[int]:
    # A namespace whose making was interrupted may be a file without a namespace.
    found = (
        subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
        for name in namespaces
    )
    return {int(pid) for each in found for pid in each.stdout.split()} - {os.getpid()}


@dataclass(frozen=True)
class Pings:
    """What became of a series of pings; those still under way at its end do not count."""

    sent: int
    lost: int
    longest_gap: int
    """Most pings lost in a row."""


class Spawner(Protocol):
    """Who starts programs in namespaces: a Lab."""

    def spawn(
        self, namespace: Namespace, *words: str, output: int = ...
    ) -> "subprocess.Popen[str]":
        """Start a program in a namespace."""
        ...


class Pinger:
    """Pings without end, and counts."""

    def __init__(self, lab: Spawner, source: Namespace, address: str, interval: float) -> None:
        """`interval` is in seconds."""
        self.words = ("ping", "-n", "-i", f"{interval:g}", address)
        # Into a pipe it would say nothing for a long while.
        line_by_line = ("stdbuf", "-oL", *self.words)
        self._process = lab.spawn(source, *line_by_line, output=subprocess.PIPE)
        self._answered: set[int] = set()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            found = re.search(r"icmp_seq=(\d+) .*time=", line)
            if found:
                self._answered.add(int(found.group(1)))

    @property
    def answered(self) -> int:
        """How many have been answered so far."""
        return len(self._answered)

    def wait(self, more: int, seconds: float = 30.0) -> None:
        """Wait for that many more answers. Raises CommandError when they do not come."""
        wanted = self.answered + more
        until(lambda: self.answered >= wanted, f"{more} more answers to pings", seconds)

    def stop(self) -> Pings:
        """End the series."""
        self._interrupt()
        self._process.wait()
        self._reader.join()
        last = max(self._answered, default=0)
        gap = longest = 0
        for number in range(1, last + 1):
            gap = 0 if number in self._answered else gap + 1
            longest = max(longest, gap)
        return Pings(sent=last, lost=last - len(self._answered), longest_gap=longest)

    def _interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)
