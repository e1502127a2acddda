# SPDX-License-Identifier: Apache-2.0
"""`headrace demo`."""

import argparse
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from types import FrameType

from headrace_cli.errors import CommandError
from headrace_cli.output import print_json
from headrace_dataplane.engine import find_engine
from headrace_dataplane.http import DEFAULT_ADDRESS
from headrace_demo.lab import TOOLS, Lab, abandoned, remove
from headrace_demo.story import EXAMPLE, Story

_PREFIX = "hr-demo-"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.epilog = """examples:
  headrace demo
  headrace demo --keep          leave it running, to look around
  headrace demo --remove        remove what was kept, or left by a demo that was killed
  headrace demo -o json | jq .move

Needs root. Everything is in network namespaces of its own and is removed at the end, however that
comes."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--keep", action="store_true", help="leave everything running")
    which.add_argument("--remove", action="store_true", help="only remove what earlier demos left")
    parser.add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="default: text"
    )


def run(arguments: argparse.Namespace) -> int:
    """Tell the story; raises CommandError when a step fails."""
    if os.geteuid() != 0:
        raise CommandError("needs root, for network namespaces and devices: sudo headrace demo")
    begun = time.monotonic()
    with _ending_on_signals():
        for name in abandoned(_PREFIX):
            remove(name)
            print(f"removed {name}", file=sys.stderr)
        if arguments.remove:
            return 0
        _preflight()
        lab = Lab(f"{_PREFIX}{os.getpid()}")
        story = Story(lab, arguments.output == "text")
        kept = False
        failure = ""
        try:
            story.tell()
            kept = bool(arguments.keep)
        except CommandError as error:
            failure = str(error)
            print(story.logs, file=sys.stderr)
        finally:
            # A second Ctrl-C must not leave half of it behind.
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            lab.release() if kept else lab.close()
    seconds = round(time.monotonic() - begun, 1)
    if arguments.output == "json":
        print_json({"ok": not failure, "error": failure, "seconds": seconds, **story.results})
    elif not failure:
        print(_kept(lab) if kept else f"Everything is removed again. That took {seconds:.0f} s.")
    if failure:
        raise CommandError(failure)
    return 0


def _preflight() -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise CommandError(f"needs {', '.join(missing)}: install them, or run `make setup`")
    if not EXAMPLE.is_dir():
        raise CommandError("its manifests are part of the source: run this in a checkout")
    find_engine()


def _kept(lab: Lab) -> str:
    return f"""It goes on running. Look around:
  ip netns exec {lab.name}-blue-vm1 ping 10.0.0.3
  headrace interfaces --node {lab.name}-a
  headrace drops --node {lab.name}-b
  ip netns exec {lab.name}-a curl http://{DEFAULT_ADDRESS}/metrics
Edit {lab.manifests}, and it applies.
Remove it:
  headrace demo --remove"""


@contextlib.contextmanager
def _ending_on_signals() -> Iterator[None]:
    """Turn every signal that ends us into an exception, so that we clean up first."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
