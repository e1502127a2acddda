# SPDX-License-Identifier: Apache-2.0
"""Namespaces of the kernel in which a cluster runs, and that end with their owner."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from headrace_cli.errors import CommandError
from headrace_demo import lab
from headrace_demo.lab import cable, command

_SCRIPT = Path(__file__).with_name("sandbox.sh")
_LAST_LINES = 15
_POLL_SECONDS = 0.01, 0.5


def until(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Poll a condition. Raises CommandError when it does not come true in time.

    The longer it takes the rarer: conditions run kubectl, and many at once would leave no CPU to
    what they wait for.
    """
    began = time.monotonic()
    shortest, longest = _POLL_SECONDS
    while not condition():
        waited = time.monotonic() - began
        if waited > seconds:
            raise CommandError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(min(max(waited / 10, shortest), longest))


@dataclass(frozen=True)
class Namespace(lab.Namespace):
    """A network namespace of a sandbox. Inside, relative paths do not work, and /run is another.

    `name` is its path, which `netns` of `ip` takes for a name; `pid` is a process in it, as the
    host numbers it.
    """

    pid: int

    @classmethod
    def of(cls, pid: int) -> "Namespace":
        """Return the namespace that a process is in."""
        return cls(f"/proc/{pid}/ns/net", pid)

    def words(self, *words: str) -> tuple[str, ...]:
        """Return the command that runs `words` inside, to end with the sandbox."""
        return ("nsenter", f"--target={self.pid}", "--net", "--mount", "--pid", "--", *words)

    def ip(self, line: str) -> None:
        """Run an `ip` command for this namespace's devices. Raises CommandError."""
        # With the host's /proc: that is where names of namespaces lead.
        command("nsenter", f"--target={self.pid}", "--net", "--", "ip", *line.split())

    def path(self, inside: str | Path) -> Path:
        """Return the path by which the host reaches an absolute path of the inside."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def has(self, device: str) -> bool:
        """Whether it has a device of this name."""
        with self.entered():
            return device in {name for _, name in socket.if_nameindex()}


class Daemon:
    """A program in a namespace that can be stopped and started again alone."""

    def __init__(
        self, namespace: Namespace, log: Path, *words: str | Path, pass_fds: tuple[int, ...] = ()
    ) -> None:
        """Start it; the log (a path of the host) is appended to."""
        self.log = log
        self._namespace = namespace
        self._words = tuple(map(str, words))
        self._pass_fds = pass_fds
        self._process = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                self._namespace.words(*self._words),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=self._pass_fds,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The host's number of the process."""
        return only_child(self._process.pid)

    def start(self) -> None:
        """Start it again, after `stop`."""
        self._process = self._spawn()

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal and wait for its end."""
        os.kill(self.pid, number)
        self._process.wait()

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def check(self) -> None:
        """Raise CommandError with the end of the log when it has ended."""
        if not self.ended:
            return
        lines = self.log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        status = self._process.returncode
        raise CommandError("\n".join([f"{self.log.name} ended with status {status}:", *lines]))

    def wait(self) -> None:
        """Wait for its end."""
        self._process.wait()


class Sandbox:
    """Network, mount and pid namespaces; nothing in them outlives this object or its process."""

    def __init__(self, hugepages: int) -> None:
        """Make it, with so many hugepages of 2 MiB on the machine at least."""
        self._processes: list[subprocess.Popen[str]] = []
        self._keeper = subprocess.Popen(
            [_SCRIPT, str(hugepages)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._keeper.stdout is not None
        if self._keeper.stdout.readline() != "ready\n":
            self.close()
            raise CommandError("the sandbox could not be made, see above")
        self.name = f"headrace-cluster-{self._keeper.pid}"
        """Prefix of the control groups that are removed with the sandbox."""
        # The script's child is `unshare`, whose child is the init of the pid namespace.
        self.root = Namespace.of(only_child(only_child(self._keeper.pid)))

    def close(self) -> None:
        """End and remove everything; returns when nothing is left."""
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.close()
        self._keeper.stdout.close()
        self._keeper.wait()
        for process in self._processes:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def namespace(self, *, mounts: bool = False) -> Namespace:
        """Make a network namespace, if wanted with mounts of its own."""
        unshare = ("unshare", "--net", *(("--mount",) if mounts else ()))
        ready = "ip link set lo up; echo ready; exec sleep infinity >/dev/null"
        process = self.spawn(self.root, *unshare, "bash", "-euc", ready, output=subprocess.PIPE)
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise CommandError("a namespace could not be made")
        return Namespace.of(only_child(process.pid))

    def spawn(
        self, namespace: lab.Namespace, *words: str, output: IO[str] | int = subprocess.DEVNULL
    ) -> subprocess.Popen[str]:
        """Start a program in a namespace; it ends with the sandbox."""
        process = lab.spawn(namespace, *words, output=output)
        self._processes.append(process)
        return process


def only_child(pid: int) -> int:
    """Return the child of a process that has one, or will have in a moment."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        found = children.read_text().split()
        if found:
            return int(found[0])
        time.sleep(0.001)
    raise CommandError(f"process {pid} started nothing")


__all__ = ["CommandError", "Daemon", "Namespace", "Sandbox", "cable", "until"]
