# SPDX-License-Identifier: Apache-2.0
"""`headrace version`."""

import argparse
import contextlib

from headrace_cli.errors import CommandError
from headrace_cli.output import add_output, print_json
from headrace_cli.target import add_engine, connect
from headrace_dataplane.protocol import EngineAbsentError
from headrace_dataplane.version import package_version


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    if not parser.get_default("plugin"):
        add_engine(parser)
    add_output(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the version of this program, and of the engine when one answers."""
    hello = None
    if arguments.output != "json":
        print(f"headrace {package_version()}")
    if not arguments.plugin:
        with contextlib.suppress(EngineAbsentError, CommandError), connect(arguments) as client:
            hello = client.hello()
    dpdk = hello.dpdk_version if hello is not None else None
    if arguments.output == "json":
        engine = hello.version if hello is not None else None
        print_json({"headrace": package_version(), "engine": engine, "dpdk": dpdk})
    elif not arguments.plugin:
        print(f"engine {hello.version} with DPDK {dpdk}" if hello else "engine not running")
    return 0
