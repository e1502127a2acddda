# SPDX-License-Identifier: Apache-2.0
"""Files below a root: what is missing, unreadable or nonsense is None, never an error."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel

Model = TypeVar("Model", bound=BaseModel)

#: More than any file here has; /proc and /sys tell no sizes.
_MOST_BYTES = 1 << 24
#: Files of /proc/sys refuse to be read in much larger pieces.
_PIECE_BYTES = 1 << 16
_NUMBER = re.compile(r"-?[0-9]{1,19}|0x[0-9a-fA-F]{1,16}")


class Tree:
    """The files of a machine, or of a test."""

    def __init__(self, root: Path) -> None:
        """`root` has proc, sys, var and etc in it, or is one of these."""
        self._root = root
        self._at = ""
        self._denied: dict[str, None] = {}

    def below(self, path: str) -> "Tree":
        """Return the files of a folder; what may not be read of them is known here."""
        part = Tree(self._root / path)
        part._at, part._denied = f"{self._at}/{path}", self._denied
        return part

    @property
    def denied(self) -> tuple[str, ...]:
        """Files that were there and might not be read, in that order."""
        return tuple(self._denied)

    def text(self, path: str) -> str | None:
        """What a file has, without white space around it."""
        try:
            with (self._root / path).open("rb", buffering=0) as file:
                data = bytearray()
                while (piece := file.read(_PIECE_BYTES)) and len(data) < _MOST_BYTES:
                    data += piece
                return data.decode(errors="replace").strip()
        except PermissionError:
            self._denied[f"{self._at}/{path}"] = None
        except (OSError, ValueError):
            pass
        return None

    def number(self, path: str) -> int | None:
        """The number that a file has, such as 42 or 0x8086."""
        return number(self.text(path))

    def names(self, path: str) -> list[str] | None:
        """What a folder has, sorted."""
        try:
            return sorted(each.name for each in (self._root / path).iterdir())
        except PermissionError:
            self._denied[f"{self._at}/{path}"] = None
        except (OSError, ValueError):
            pass
        return None

    def target(self, path: str) -> str | None:
        """The last name of what a symbolic link leads to."""
        try:
            return (self._root / path).readlink().name
        except (OSError, ValueError):
            return None

    def has(self, path: str) -> bool:
        """Whether there is anything of this name."""
        try:
            return (self._root / path).exists()
        except (OSError, ValueError):
            return False


def number(text: str | None) -> int | None:
    """The number that a text is."""
    if text is None or _NUMBER.fullmatch(text) is None:
        return None
    return int(text, 0) if text.startswith("0x") else int(text)


def natural(value: int | None) -> int | None:
    """The number, None where the kernel says by -1 that there is none."""
    return value if value is None or value >= 0 else None


def fitting(model: type[Model], fields: Mapping[str, object]) -> Model | None:
    """A model of these fields, without those that it refuses; None where it cannot do without."""
    left = dict(fields)
    while True:
        try:
            return model.model_validate(left)
        except ValidationError as error:
            wrong = {str(each["loc"][0]) for each in error.errors() if each["loc"]}
            fewer = {k: v for k, v in left.items() if k not in wrong and to_camel(k) not in wrong}
            if len(fewer) == len(left):
                return None
            left = fewer
