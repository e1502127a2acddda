# SPDX-License-Identifier: Apache-2.0
"""What rests: VNIs and /64s that nobody gets yet, since some node may still use them.

Compiled objects remember what is given out; what was given out stands in the ConfigMap that owns
them, so that it rests on through a restart.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from pydantic import TypeAdapter, ValidationError

from headrace_api import Json
from headrace_api.raw import part, text
from headrace_compiler import Rest
from headrace_kube import CONFIG_MAPS, Kube, KubeError

from . import objects

#: Seconds between two looks.
PERIOD = 1.0
#: Most values that are remembered; beyond, the oldest are forgotten (a ConfigMap holds 1 MiB).
MOST = 8192
#: Where in the ConfigMap.
KEY = "resting"
_RESTS: TypeAdapter[tuple[Rest, ...]] = TypeAdapter(tuple[Rest, ...])

_log = logging.getLogger(__name__)


def read(config_map: Json) -> tuple[Rest, ...]:
    """What rests, as the ConfigMap has it; nothing where that cannot be read."""
    found = text(part(config_map, "data").get(KEY))
    try:
        return _RESTS.validate_json(found) if found else ()
    except ValidationError as error:
        _log.warning("what rests cannot be read: %s", str(error).splitlines()[0])
        return ()


class RestKeeper:
    """Writes what rests, whenever it is something else."""

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        name: str,
        resting: Callable[[], Sequence[Rest]],
        left: Callable[[], float],
    ) -> None:
        """`name` is that of the ConfigMap; `left`: seconds for which nobody else may write."""
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._resting = resting
        self._left = left
        self._written: Sequence[Rest] | None = None

    async def run(self) -> None:
        """Keep for ever."""
        while True:
            found = sorted(self._resting(), key=lambda rest: rest.since)[-MOST:]
            left = self._left()
            if found != self._written and left > 0:
                data: Json = {KEY: _RESTS.dump_json(tuple(found)).decode()}
                where = self._name, self._namespace
                try:
                    await self._kube.merge(
                        CONFIG_MAPS, *where, {"data": data}, objects.MANAGER, seconds=left
                    )
                    self._written = found
                except KubeError as error:
                    _log.warning("what rests cannot be written, trying again: %s", error)
            await asyncio.sleep(PERIOD)
