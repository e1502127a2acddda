# SPDX-License-Identifier: Apache-2.0
"""Following objects at the API server: list, watch, and list again whenever the place is lost."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable

from headrace_api import Json
from headrace_kube import Event, Kind, Kube, KubeError, Listing

log = logging.getLogger(__name__)

BACKOFF_SECONDS = (0.5, 10.0)
"""First and longest time until what failed is tried again; halved at random."""

_RELIST_SECONDS = 300.0
# A watch whose server has vanished without a word is noticed a little after this.
_WATCH_SECONDS = 60
_EARLY_SECONDS = 5.0


async def follow(
    kube: Kube,
    kind: Kind,
    namespace: str,
    labels: str = "",
    fields: str = "",
    connected: Callable[[bool], None] = lambda _: None,
) -> AsyncGenerator[Listing | Event, None]:
    """Yield a Listing, and the events since; without end, with another Listing now and then.

    A Listing replaces what was there before: no DELETED comes for what it lacks. Errors are logged
    and waited out. Bookmarks are not given out. `connected` is called with True for each Listing,
    with False for each error: a server that vanishes without a word is one after 70 s.
    """
    backoff = BACKOFF_SECONDS[0]
    trouble = ""
    loop = asyncio.get_running_loop()
    while True:
        try:
            listing = await kube.list(kind, namespace, labels, fields)
            if trouble:
                log.info("following %s again", kind.plural)
                trouble = ""
            connected(True)
            yield listing
            version = listing.resource_version
            # Jitter: what made one agent begin made them all.
            relist = loop.time() + random.uniform(0.8, 1.2) * _RELIST_SECONDS  # noqa: S311
            while loop.time() < relist:
                began = loop.time()
                async for event in kube.watch(
                    kind, version, namespace, labels, fields, seconds=_WATCH_SECONDS
                ):
                    backoff = BACKOFF_SECONDS[0]
                    version = _version(event)
                    if event.type != "BOOKMARK":
                        yield event
                if loop.time() - began < _WATCH_SECONDS - _EARLY_SECONDS:
                    # The server ends its watches when it ends, or when the kind itself changes.
                    await asyncio.sleep(jittered(BACKOFF_SECONDS[0]))
                    break
        except KubeError as error:
            if not error.expired:
                connected(False)
            if error.message != trouble and not error.expired:
                trouble = error.message
                log.warning("cannot follow %s: %s; trying again", kind.plural, trouble)
            await asyncio.sleep(jittered(backoff))
            backoff = min(2 * backoff, BACKOFF_SECONDS[1])


async def follow_one(
    kube: Kube,
    kind: Kind,
    namespace: str,
    name: str,
    connected: Callable[[bool], None] = lambda _: None,
) -> AsyncGenerator[Json | None, None]:
    """Yield the object of this name whenever it may have changed, None while there is none.

    Otherwise as `follow`.
    """
    fields = f"metadata.name={name}"
    async for seen in follow(kube, kind, namespace, fields=fields, connected=connected):
        if isinstance(seen, Listing):
            yield seen.items[0] if seen.items else None
        else:
            yield seen.object if seen.type != "DELETED" else None


def jittered(seconds: float) -> float:
    """Return between half and all of it, at random: so that not all agents come at once."""
    return seconds * random.uniform(0.5, 1)  # noqa: S311


def _version(event: Event) -> str:
    metadata = event.object["metadata"]
    return str(metadata["resourceVersion"]) if isinstance(metadata, dict) else ""
