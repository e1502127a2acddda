# SPDX-License-Identifier: Apache-2.0
"""Who was in the engine, kept on disk: after a reboot they come first again."""

import logging
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from headrace_dataplane.sync import ObjectID

log = logging.getLogger(__name__)

_IDS: TypeAdapter[tuple[ObjectID, ...]] = TypeAdapter(tuple[ObjectID, ...])


class PrecedenceFile:
    """Objects that engines have had, in the order in which they came.

    Where it is lost, age decides: so it is never waited for, and never a reason not to run.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> tuple[ObjectID, ...]:
        """Return what was saved, nothing when that cannot be read (it says why)."""
        try:
            return _IDS.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return ()
        except (OSError, ValidationError) as error:
            first = str(error).splitlines()[0]
            log.warning("%s cannot be used and is left aside: %s", self._path, first)
            return ()

    def save(self, ids: tuple[ObjectID, ...]) -> None:
        """Replace the file. Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_bytes(_IDS.dump_json(ids))
        new.replace(self._path)
