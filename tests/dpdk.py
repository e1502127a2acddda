# SPDX-License-Identifier: Apache-2.0
"""Builds and tests the engine with the DPDK and the compiler of other Debian releases.

Each release's root is made once, in $HEADRACE_CACHE/dpdk-NAME (default: ~/.cache/headrace): remove
it to have it made anew. Programs see its /usr in place of this machine's, and all else as it is:
the engine is built here, in build/dpdk/NAME, and the packet tests run one that is linked there.
arm64 is compiled across and runs its unit tests in QEMU's user mode.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

REPOSITORY = Path(__file__).parents[1]
CROSS_FILE = REPOSITORY / "tests/arm64.ini"
CACHE = Path(os.environ.get("HEADRACE_CACHE") or Path.home() / ".cache/headrace")
BUILDS = REPOSITORY / "build/dpdk"
TOOLS = ("apt-config", "ip", "mmdebstrap", "unshare")

LIBRARIES = ("libc6-dev", "libdpdk-dev", "libjansson-dev", "libpcap-dev")
PROGRAMS = ("iproute2", "meson", "ninja-build", "pkg-config")
# What is written lies outside /usr. The mount program's own /usr goes last.
ENTER = """
root=$1; shift
for path in /etc/alternatives /etc/ld.so.cache /usr; do mount --bind "$root$path" "$path"; done
exec "$@"
"""


@dataclass(frozen=True)
class Target:
    """A Debian release, and the architecture that its compiler is for."""

    suite: str
    cross: bool = False

    def packages(self) -> list[str]:
        if self.cross:
            libraries = [f"{name}:arm64" for name in LIBRARIES]
            return [*libraries, *PROGRAMS, "gcc-aarch64-linux-gnu", "qemu-user"]
        return [*LIBRARIES, *PROGRAMS, "gcc"]


TARGETS = {
    "bookworm": Target("bookworm"),
    "trixie": Target("trixie"),
    "sid": Target("sid"),
    "arm64": Target("trixie", cross=True),
}


@dataclass
class Counts:
    """How many tests there were, by outcome."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        others = {"failed": self.failed, "skipped": self.skipped}
        return ", ".join([str(self.passed), *(f"{n} {name}" for name, n in others.items() if n)])


@dataclass
class Result:
    """What came of a target; a part that was not reached has None."""

    name: str
    dpdk: str = "-"
    compiler: str = "-"
    unit: Counts | None = None
    packets: Counts | None = None
    seconds: float = 0.0
    errors: list[str] = field(default_factory=list)

    @property
    def row(self) -> list[str]:
        counts = ["-" if counts is None else str(counts) for counts in (self.unit, self.packets)]
        return [self.name, self.dpdk, self.compiler, *counts, f"{self.seconds:.0f}"]


NOT_EMULATED = {"port_test": "QEMU's user mode knows no PACKET_VERSION, so no AF_PACKET device"}
"""Unit tests that do not run in QEMU, and why."""

HEADINGS = ["release", "DPDK", "GCC", "C tests passed", "packet tests passed", "seconds"]


def table(results: Iterable[Result]) -> str:
    rows = [HEADINGS, *(result.row for result in results)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def unit_counts(log: str) -> Counts:
    """Count Meson's log of tests, testlog.json: an object a line."""
    results = [json.loads(line)["result"] for line in log.splitlines()]
    passed, skipped = results.count("OK"), results.count("SKIP")
    return Counts(passed, len(results) - passed - skipped, skipped)


def packet_counts(report: str) -> Counts:
    """Count pytest's report in JUnit's format."""
    suites = ElementTree.fromstring(report).iter("testsuite")  # noqa: S314 -- pytest wrote it.
    total = Counts()
    for suite in suites:
        failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
        skipped = int(suite.attrib["skipped"])
        total.failed += failed
        total.skipped += skipped
        total.passed += int(suite.attrib["tests"]) - failed - skipped
    return total


def say(text: str) -> None:
    print(f"\033[1m==> {text}\033[0m", flush=True)


class Run:
    """One target, from its root to its packet tests."""

    def __init__(self, name: str, pytest_workers: int) -> None:
        self.target = TARGETS[name]
        self.result = Result(name)
        self._root = CACHE / f"dpdk-{name}"
        self._folder = BUILDS / name
        self._build = self._folder / "engine"
        self._workers = pytest_workers

    def all(self) -> Result:
        began = time.monotonic()
        try:
            self._make_root()
            self._compile()
            self._unit()
            if not self.target.cross:
                self._packets()
        except subprocess.CalledProcessError as error:
            self.result.errors.append(f"{error.cmd[-1]} ended with {error.returncode}")
        self.result.seconds = time.monotonic() - began
        return self.result

    def _say(self, text: str) -> None:
        say(f"{self.result.name}: {text}")

    def _make_root(self) -> None:
        if self._root.is_dir():
            return
        self._say(f"making {self._root}, once: some minutes")
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="partial.") as work:
            # How this machine reaches Debian's archive.
            settings = subprocess.run(
                ["apt-config", "dump", "--format", '%F "%v";%n', "Acquire"],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            names = ("Acquire::http", "Acquire::Retries")
            apt = Path(work, "apt.conf")
            apt.write_text(
                "".join(f"{line}\n" for line in settings.splitlines() if line.startswith(names))
            )
            command = ["mmdebstrap", "--quiet", "--variant=minbase"]
            command += ["--include=" + ",".join(self.target.packages()), f"--aptopt={apt}"]
            command += ['--aptopt=Acquire::Check-Valid-Until "false"']
            if self.target.cross:
                command.append("--architectures=amd64,arm64")
            subprocess.run([*command, self.target.suite, f"{work}/root"], check=True)
            Path(work, "root").rename(self._root)

    def _entered(self, *options: str) -> list[str]:
        """Return the beginning of a command that sees the /usr of the release."""
        enter = ["sh", "-euc", ENTER, "sh", str(self._root)]
        return ["unshare", "--mount", *options, *enter]

    def _inside(self, *command: str) -> None:
        subprocess.run([*self._entered("--net"), *command], check=True, cwd=REPOSITORY)

    def _output(self, *command: str) -> str:
        return subprocess.run(
            [*self._entered(), *command], check=True, capture_output=True, text=True
        ).stdout.strip()

    def _compile(self) -> None:
        architecture = "aarch64" if self.target.cross else "x86_64"
        compiler = f"{architecture}-linux-gnu-gcc"
        libraries = f"/usr/lib/{architecture}-linux-gnu/pkgconfig"
        self.result.dpdk = self._output(
            "env", f"PKG_CONFIG_PATH={libraries}", "pkg-config", "--modversion", "libdpdk"
        )
        self.result.compiler = self._output(compiler, "-dumpfullversion")
        self._say(f"DPDK {self.result.dpdk}, GCC {self.result.compiler}")
        # From the beginning: of headers that changed with the root, ninja would not know.
        shutil.rmtree(self._folder, ignore_errors=True)
        for source, build in (("engine", self._build), ("cni", self._folder / "cni")):
            options = [f"--cross-file={CROSS_FILE}"] if self.target.cross else []
            self._inside("meson", "setup", *options, str(build), f"dataplane/{source}")
            self._inside("ninja", "--quiet", "-C", str(build))

    def _unit(self) -> None:
        self._say("unit tests")
        command = ["meson", "test", "-C", str(self._build), "--no-rebuild", "--print-errorlogs"]
        if self.target.cross:
            command += ["--timeout-multiplier=10", *self._emulated()]
        try:
            self._inside(*command)
        except subprocess.CalledProcessError:
            self.result.errors.append("unit tests failed")
        self.result.unit = unit_counts((self._build / "meson-logs/testlog.json").read_text())

    def _emulated(self) -> list[str]:
        for name, why in NOT_EMULATED.items():
            self._say(f"without {name}: {why}")
        tests = json.loads(self._output("meson", "introspect", "--tests", str(self._build)))
        return [each["name"] for each in tests if each["name"] not in NOT_EMULATED]

    def _packets(self) -> None:
        self._say("packet tests")
        engine = self._folder / "headrace-engine"
        command = [*self._entered(), str(self._build / "headrace-engine")]
        engine.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        engine.chmod(0o755)
        report = self._folder / "pytest.xml"
        pytest = [sys.executable, "-m", "pytest", f"--numprocesses={self._workers}"]
        pytest += [f"--junitxml={report}", "tests/engine"]
        environment = {**os.environ, "HEADRACE_ENGINE": str(engine)}
        status = subprocess.run(pytest, check=False, cwd=REPOSITORY, env=environment).returncode
        if status:
            self.result.errors.append(f"packet tests ended with {status}")
        if report.exists():
            self.result.packets = packet_counts(report.read_text())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", default=list(TARGETS), help="default: all of them")
    parser.add_argument("--pytest-workers", type=int, default=2, metavar="N")
    given = parser.parse_args()
    if unknown := [name for name in given.targets if name not in TARGETS]:
        parser.error(f"no such target: {', '.join(unknown)} (there are {', '.join(TARGETS)})")
    if os.geteuid() != 0:
        print("needs root, for mounts and network namespaces: sudo make test-dpdk", file=sys.stderr)
        return 1
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        print(f"missing: {', '.join(missing)}. Run: make setup-cluster", file=sys.stderr)
        return 1
    results = [Run(name, given.pytest_workers).all() for name in given.targets]
    say("summary")
    print(table(results))
    for result in results:
        for error in result.errors:
            print(f"{result.name}: {error}", file=sys.stderr)
    return int(any(result.errors for result in results))


if __name__ == "__main__":
    sys.exit(main())
