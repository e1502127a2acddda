# SPDX-License-Identifier: Apache-2.0
"""Files that are written from code: `python -m ...` writes them, `--check` compares."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path


def main(
    program: str,
    description: str | None,
    files: Callable[[], Mapping[str, str]],
    directory: Path,
    arguments: list[str] | None,
    *,
    only: str = "",
) -> int:
    """Write the files (name -> text) into a directory, or check them; returns the exit status.

    `only` is a pattern of names that nobody else writes there: others that match it are removed.
    """
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    parser.add_argument(
        "--directory", type=Path, default=directory, help="where the files are (%(default)s)"
    )
    options = parser.parse_args(arguments)
    wanted = files()
    found = {path.name for path in options.directory.glob(only)} if only else set()
    different = sorted(found - wanted.keys())
    for name in different:
        if not options.check:
            (options.directory / name).unlink()
    for name, text in wanted.items():
        path = options.directory / name
        if path.is_file() and path.read_text() == text:
            continue
        different.append(name)
        if not options.check:
            path.write_text(text)
    for name in different:
        print(f"{name}: {f'differs: run python -m {program}' if options.check else 'written'}")
    return 1 if options.check and different else 0
