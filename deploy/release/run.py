# SPDX-License-Identifier: Apache-2.0
"""Other programs."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from headrace_cli.errors import CommandError


def run(
    *command: str,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdin: str = "",
) -> str:
    """Run a program and return what it prints on stdout.

    `environment` is added to ours. Raises CommandError with what it said, where it fails or is not
    there.
    """
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise CommandError(f"no {command[0]} here: install it") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise CommandError(f"{' '.join(command)}: status {done.returncode}: {said}")
    return done.stdout
