# SPDX-License-Identifier: Apache-2.0
"""What is in the queue: an output that may differ from what is desired, or a status.

It says no more: what is desired is looked up when a worker has it, and compared with what is there.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from headrace_api import config_name
from headrace_compiler import Subject
from headrace_kube import DATAPLANE_CONFIGS, Kind

from .workqueue import WorkQueue


class Work(NamedTuple):
    """An output, or the status of an input."""

    kind: Kind
    key: str
    status: bool = False

    def __str__(self) -> str:
        """For people: `Interface default/vm1 (status)`."""
        return f"{self.kind.name} {self.key}{' (status)' if self.status else ''}"

    @property
    def object(self) -> "Work":
        """The object itself, if this is its status."""
        return self._replace(status=False)

    @property
    def subject(self) -> Subject:
        """The object as the compiler names it."""
        return self.kind.name, self.key


Queue: TypeAlias = WorkQueue[Work]


def config_of(namespace: str, place: Sequence[str]) -> Work:
    """The DataplaneConfig, in the operator's namespace, of a (Pipeline, node)."""
    pipeline, node = place
    return Work(DATAPLANE_CONFIGS, f"{namespace}/{config_name(pipeline, node)}")
