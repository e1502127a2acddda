# SPDX-License-Identifier: Apache-2.0
"""`headrace bench`: run bench/run.py of this checkout."""

import argparse
import subprocess
import sys
from pathlib import Path

from headrace_cli.errors import CommandError

_PROGRAM = Path(__file__).resolve().parents[2] / "bench/run.py"


def configure(parser: argparse.ArgumentParser) -> None:
    """Take all arguments for bench/run.py."""
    parser.epilog = "example:\n  headrace bench -- --help"
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="given on to bench/run.py")


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark and return its status."""
    if not _PROGRAM.is_file():
        raise CommandError("the benchmark is part of the source: run this in a checkout")
    words = [word for word in arguments.arguments if word != "--"]
    return subprocess.run([sys.executable, _PROGRAM, *words], check=False).returncode
