# SPDX-License-Identifier: Apache-2.0
"""More Interfaces than an engine has ports for: who forwards keeps it, over a reboot too."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from headrace_dataplane.protocol import EngineClient, EngineError, Interface
from headrace_demo.lab import HEADRACE, until
from tests.e2e.conftest import MANY_SECONDS

BASE = """
apiVersion: headrace.dev/v1alpha1
kind: Pipeline
metadata: {name: router}
spec:
  underlayPrefixes: ["fd00:1::/48"]
  workers: {shareControlCore: true}
  devices: [{name: nothing, type: Discard}]
---
apiVersion: headrace.dev/v1alpha1
kind: VirtualNetwork
metadata: {name: blue}
spec: {subnets: [{prefix: 10.0.0.0/24}]}
"""
INTERFACE = """
---
apiVersion: headrace.dev/v1alpha1
kind: Interface
metadata: {name: %s}
spec:
  networkRef: {name: blue}
  pipelineRef: {name: router}
  nodeName: here
  attachment: {type: Discard}
"""
# DPDK is mostly built for 32 ports. Without anything else the names decide: late ones come first.
FIRST, LATE = (
    [f"vm{number}" for number in range(50, 74)],
    [f"vm{number}" for number in range(10, 26)],
)


class Run:
    """`headrace run` without a network of its own: there are no devices."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = folder / "run" / "engine.sock"

    def write(self, names: list[str]) -> None:
        new = self._folder / "new"
        new.write_text(BASE + "".join(INTERFACE % name for name in names))
        (self._folder / "manifests").mkdir(exist_ok=True)
        new.rename(self._folder / "manifests" / "all.yaml")

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        cpu = min(os.sched_getaffinity(0))
        words = (
            *(*HEADRACE, "run", "-f", str(self._folder / "manifests"), "--node", "here"),
            *("--state", str(self._folder / "state"), "--runtime-dir", str(self._folder / "run")),
            *("--cpus", str(cpu), "--metrics-address", ""),
        )
        with (self._folder / "log").open("a") as log:
            process = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            yield
            process.terminate()
            assert process.wait(MANY_SECONDS) == 0
        finally:
            process.kill()
            process.wait()

    def forwarding(self, generation: int) -> set[str]:
        """The Interfaces in the engine once it has the generation, none before."""
        try:
            with EngineClient(self._socket) as client:
                if client.hello().generation < generation:
                    return set()
                return {each.name.partition("/")[2] for each in client.items(Interface)}
        except EngineError:
            return set()


def test_the_one_too_many_is_the_last_that_came_after_a_reboot_too(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write(FIRST)
    with run.running():
        until(lambda: run.forwarding(1) == {*FIRST}, "all forward", MANY_SECONDS)
        run.write(LATE + FIRST)
        until(lambda: bool(run.forwarding(2)), "it has the late ones", MANY_SECONDS)
        before = run.forwarding(2)
        assert {*FIRST} < before < {*FIRST, *LATE}
    assert not run.forwarding(0)
    with run.running():
        until(lambda: bool(run.forwarding(2)), "it runs again", MANY_SECONDS)
        assert run.forwarding(2) == before
