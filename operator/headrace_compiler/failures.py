# SPDX-License-Identifier: Apache-2.0
"""What an exception that nobody expected stopped: it stays as it was, and is tried again."""

import traceback
from collections.abc import Iterable
from typing import NamedTuple

from .claims import Owner
from .outcome import Fault, Subject, unexpected


class _Failure(NamedTuple):
    fault: Fault
    trace: str


class Failures:
    """Owners with which this flush failed, and those with which the one before did."""

    def __init__(self) -> None:
        self._found: dict[Owner, _Failure] = {}
        self._before: dict[Owner, _Failure] = {}

    def __contains__(self, owner: Owner) -> bool:
        """Whether this flush failed with it."""
        return owner in self._found

    def turn(self) -> Iterable[Owner]:
        """Begin a flush; returns those with which the last one failed."""
        self._before, self._found = self._found, {}
        return self._before

    def add(self, owner: Owner, error: Exception) -> tuple[Fault]:
        """Note that this flush failed with the owner, and how."""
        trace = "".join(traceback.format_exception(error))
        return (self._found.setdefault(owner, _Failure(unexpected(error), trace)).fault,)

    def faults(self, owner: Owner) -> tuple[Fault, ...]:
        """How this flush failed with the owner, if it did."""
        found = self._found.get(owner)
        return (found.fault,) if found else ()

    def owners(self) -> frozenset[Owner]:
        """All with which this flush failed."""
        return frozenset(self._found)

    def traces(self) -> dict[Subject, str]:
        """Object -> traceback of all with which this flush failed."""
        return {owner.subject: found.trace for owner, found in sorted(self._found.items())}

    def news(self) -> dict[Subject, str]:
        """The same, without what the last flush failed with alike."""
        new = self._found.items() - self._before.items()
        return {owner.subject: found.trace for owner, found in sorted(new)}
