# SPDX-License-Identifier: Apache-2.0
"""The half of the test that runs inside a dataplane pod: its capture files."""

import argparse
import base64
import json
import re
import shutil
from pathlib import Path

from headrace_cli.connectivity.frames import capture, captured

DIRECTORY = "/tmp/headrace-connectivity-{run}"  # noqa: S108 - a volume of the pod's own
SUFFIX = ".pcap"


def directory(run: str) -> Path:
    """Return where the files of one run of the test are, in every dataplane pod."""
    return Path(DIRECTORY.format(run=run))


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("operation", choices=("put", "get", "remove"))
    parser.add_argument("id", type=_identifier, help="which run of the test")
    parser.add_argument("files", nargs="*", metavar="NAME=BASE64", help="what to put")
    parser.add_argument("--repeat", type=int, default=1, help="put every frame so many times")


def _identifier(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{1,16}", text):
        raise argparse.ArgumentTypeError("a hexadecimal number")
    return text


def run(arguments: argparse.Namespace) -> int:
    """Write the files given, print all as JSON, or remove the directory.

    Each is printed as name -> base64 of a capture, every frame of it once.
    """
    where = directory(arguments.id)
    if arguments.operation == "put":
        where.mkdir(parents=True, exist_ok=True)
        for text in arguments.files:
            name, _, content = text.partition("=")
            frames = captured(base64.b64decode(content)) * arguments.repeat
            (where / Path(name).name).write_bytes(capture(frames))
    elif arguments.operation == "get":
        print(json.dumps({path.name: _distinct(path) for path in where.glob(f"*{SUFFIX}")}))
    else:
        shutil.rmtree(where, ignore_errors=True)
    return 0


def _distinct(path: Path) -> str:
    frames = dict.fromkeys(captured(path.read_bytes()))
    return base64.b64encode(capture(frames)).decode()
