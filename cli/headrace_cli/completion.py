# SPDX-License-Identifier: Apache-2.0
"""Completion in shells: argcomplete asks the parsers; it comes with the extra `completion`."""

import argparse
import io
import os
import shlex
import sys
from collections.abc import Sequence

#: argcomplete's: set where a shell asks, beside what stands on the line and where the cursor is.
_ASKED, _LINE, _POINT, _SEPARATOR = "_ARGCOMPLETE", "COMP_LINE", "COMP_POINT", "_ARGCOMPLETE_IFS"
#: cobra's ShellCompDirectiveNoFileComp, as kubectl reads it: names of files are no candidates.
_NO_FILES = ":4"


def asked() -> list[str] | None:
    """The words before the cursor after the program's name; None: no shell asks."""
    if _ASKED not in os.environ:
        return None
    line = os.environ.get(_LINE, "")[: int(os.environ.get(_POINT) or 0)]
    try:
        return shlex.split(line)[1:]
    except ValueError:
        # An open quote.
        return line.split()[1:]


def answer(parser: argparse.ArgumentParser) -> None:
    """Tell the shell that asks, and exit."""
    try:
        import argcomplete
    except ImportError:
        sys.exit("headrace: completion needs argcomplete: pip install argcomplete")
    argcomplete.autocomplete(parser)


def kubectl(arguments: Sequence[str] | None = None) -> int:
    """`kubectl_complete-headrace`: candidates for `kubectl headrace WORDS...`, a line each."""
    from headrace_cli.main import parser_of

    words = list(sys.argv[1:] if arguments is None else arguments)
    line = shlex.join(["headrace", *words[:-1]]) + " " + (words[-1] if words else "")
    os.environ |= {_ASKED: "1", _LINE: line, _POINT: str(len(line)), _SEPARATOR: "\n"}
    try:
        import argcomplete
    except ImportError:
        print(_NO_FILES)
        return 0
    found = io.StringIO()
    ends: list[int] = []
    parser = parser_of("kubectl headrace", words, plugin=True)
    argcomplete.autocomplete(parser, exit_method=ends.append, output_stream=found)
    print("".join(f"{each.strip()}\n" for each in found.getvalue().split("\n") if each), end="")
    print(_NO_FILES)
    return 0


if __name__ == "__main__":
    sys.exit(kubectl())
