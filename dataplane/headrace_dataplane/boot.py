# SPDX-License-Identifier: Apache-2.0
"""Which boot of the node this is: what was done to devices in an earlier one is undone."""

from functools import cache
from pathlib import Path


@cache
def boot_id() -> str:
    """Return a UUID of this boot (random(4)), alike in all containers. Raises OSError."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
