# SPDX-License-Identifier: Apache-2.0
"""A metrics port for each Pipeline: dataplanes in the host's network must not share one."""

from collections.abc import Iterable

from headrace_api import Json
from headrace_api.raw import items, mapping, number, part, text

#: How many ports there are, from the first.
COUNT = 100


class Ports:
    """Who has which port, lowest first; who has one keeps it."""

    def __init__(self, first: int) -> None:
        self._range = range(first, first + COUNT)
        self._held: dict[str, int] = {}

    def get(self, pipeline: str) -> int | None:
        """The Pipeline's port, if it has one."""
        return self._held.get(pipeline)

    def take(self, pipeline: str, wanted: int = 0) -> int | None:
        """The Pipeline's port: the one it has, or the one wanted, or the lowest free one.

        None when none is free.
        """
        taken = set(self._held.values())
        if pipeline not in self._held:
            for port in (wanted, *self._range):
                if port in self._range and port not in taken:
                    self._held[pipeline] = port
                    break
        return self._held.get(pipeline)

    def release(self, pipeline: str) -> None:
        """Give the port back."""
        self._held.pop(pipeline, None)


def port_in_use(daemon_sets: Iterable[Json]) -> int:
    """The metrics port that DaemonSets of a Pipeline have; 0: none."""
    for daemon_set in daemon_sets:
        pod = part(daemon_set, "spec", "template", "spec")
        for container in items(pod.get("containers")):
            for port in items(mapping(container).get("ports")):
                if text(mapping(port).get("name")) == "metrics":
                    return number(mapping(port).get("containerPort"))
    return 0
