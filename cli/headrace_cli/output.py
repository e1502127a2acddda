# SPDX-License-Identifier: Apache-2.0
"""How commands print: aligned tables for people, JSON for programs."""

import argparse
import json
import sys
from collections.abc import Sequence

from headrace_dataplane.protocol import JSON


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add -o."""
    parser.add_argument(
        "-o", "--output", choices=("table", "json"), default="table", help="default: table"
    )


def print_json(value: JSON) -> None:
    """Print JSON, indented."""
    print(json.dumps(value, indent=2))


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return an aligned table; numbers to the right, None as a dash."""
    lines = [list(headers)]
    lines += (["-" if cell in (None, "") else str(cell) for cell in row] for row in rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [
        any(isinstance(row[index], int | float) for row in rows) for index in range(len(headers))
    ]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if at_right else cell.ljust(width)
            for cell, width, at_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]], nothing: str) -> None:
    """Print a table, or `nothing` on stderr when it has no rows."""
    if rows:
        print(table(headers, rows))
    else:
        print(nothing, file=sys.stderr)


def duration(seconds: float) -> str:
    """Return a time in its two largest units: 5s, 3m20s, 2h5m, 4d3h."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
        if len(parts) == 2:
            break
    return "".join(parts) or "0s"
