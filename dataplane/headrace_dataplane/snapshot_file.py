# SPDX-License-Identifier: Apache-2.0
"""The last good configuration on disk, for a start without the API server."""

import json
import logging
import os
from pathlib import Path

from headrace_dataplane.reading import read_config, read_slice
from headrace_dataplane.source import Snapshot

log = logging.getLogger(__name__)


class SnapshotFile:
    """One snapshot in one file: a line with its generation, the DataplaneConfig, each slice.

    A line each, because a thread that writes 100,000 routes at once stops all others meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Snapshot | None:
        """Return what was saved, None when there is nothing of use (it says why)."""
        try:
            with self.path.open() as file:
                head = json.loads(file.readline())
                config, problems = read_config(json.loads(file.readline()))
                read = [read_slice(json.loads(line)) for line in file]
            if len(read) != head["slices"]:
                raise ValueError(f"{len(read)} of {head['slices']} Slices")
            slices = tuple(part for part, _ in read)
            problems += tuple(problem for _, found in read for problem in found)
            return Snapshot(int(head["generation"]), config, slices, problems)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            first = str(error).splitlines()[0]
            log.warning("%s cannot be used and is left aside: %s", self.path, first)
            return None

    def save(self, snapshot: Snapshot) -> None:
        """Replace the file; on the disk when this returns. Raises OSError."""
        new = self.path.with_suffix(".new")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # It may hold secrets of attachments.
        with open(new, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            head = {"generation": snapshot.generation, "slices": len(snapshot.slices)}
            file.write(json.dumps(head) + "\n")
            for item in (snapshot.config, *snapshot.slices):
                file.write(item.model_dump_json(by_alias=True, exclude_none=True) + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
