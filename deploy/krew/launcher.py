#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`kubectl headrace` as krew installs it: beside it is lib/, for each Python that it runs on."""

import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path


def main() -> int:
    """Run the plugin; status 1 where it was not packed for this Python."""
    library = Path(__file__).resolve().parent / "lib"
    compiled = library / "pydantic_core"
    if not any((compiled / ("_pydantic_core" + suffix)).exists() for suffix in EXTENSION_SUFFIXES):
        found = ".".join(map(str, sys.version_info[:2]))
        print("kubectl headrace: not packed for Python", found, "of", sys.platform, file=sys.stderr)
        print("Put Python 3.11 to 3.14 on the PATH as python3.", file=sys.stderr)
        return 1
    sys.path.insert(0, str(library))
    from headrace_cli.main import plugin

    return plugin()


if __name__ == "__main__":
    sys.exit(main())
