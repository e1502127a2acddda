# SPDX-License-Identifier: Apache-2.0
"""The plugin on its node: the program, and its place in the runtime's configuration.

Runtimes take the first configuration of a folder, and its owner writes it anew when it likes, also
while no agent runs. So the plugin's entry is added to the owner's file, and the whole is kept as a
file of our own that comes first: what the owner does to his alone lets no pod start without us.
"""

import asyncio
import json
import logging
import math
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import cast

from headrace_api import Json
from headrace_dataplane.logs import warn_once
from headrace_dataplane.node.files import write_whole
from headrace_dataplane.node.inotify import directory_events

log = logging.getLogger(__name__)

PLUGIN = "headrace-cni"
OWN = "00-headrace.conflist"
"""What the runtime takes: a copy of the first *.conflist of others, with the entry."""
_CONFIGS = (".conf", ".conflist", ".json")
# For what the kernel does not tell of.
_LOOK_SECONDS = 60.0
# Somebody else may put back what we change, as fast as we do: so many at once, then one in a while.
_BURST = 10
_PACE_SECONDS = 2.0
# How often others may take our file away until it is left to them.
_LOSSES = 3
# After that the cluster's own network is gone, and not just writing its file anew.
_GONE_SECONDS = 60.0


def install_plugin(source: Path, folder: Path) -> None:
    """Bring the plugin into the folder of the host's plugins. Raises OSError."""
    target = folder / source.name
    program = source.read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if target.read_bytes() == program and target.stat().st_mode & 0o111:
            return
    except FileNotFoundError:
        pass
    write_whole(target, program, 0o755)
    log.info("installed %s", target)


def chain(folder: Path, entry: Json, *, own: bool = True) -> int | None:
    """Have the entry at the end of the first *.conflist, and in no other.

    All else in the files stays. With `own` the first is copied to OWN. Return how many files were
    written, None: there is no *.conflist. Raises OSError.
    """
    found = sorted(
        path for path in folder.glob("*") if path.suffix in _CONFIGS and path.name != OWN
    )
    first = next((path for path in found if path.suffix == ".conflist"), None)
    if first is None:
        return None
    written, content = 0, None
    for path in found:
        if path.suffix == ".conflist":
            now, changed = _edit(path, entry if path == first else None)
            written += changed
            content = now if path == first else content
    if first != found[0]:
        warn_once(log, f"{found[0]} comes before {first}, and is no conflist: pods do not get here")
        own = False
    elif first.name < OWN:
        warn_once(log, f"{first} comes before {OWN}: while no agent runs it may lose its {PLUGIN}")
        own = False
    copy = folder / OWN
    if not own:
        copy.unlink(missing_ok=True)
    elif content is not None and (not copy.exists() or copy.read_bytes() != content):
        write_whole(copy, content, first.stat().st_mode & 0o777)
        log.info("copied %s to %s", first, copy)
        written += 1
    return written


def unchain(folder: Path) -> None:
    """Take the entry out of every *.conflist, and OWN away; all else stays. Raises OSError."""
    for path in sorted(folder.glob("*.conflist")):
        if path.name != OWN:
            _edit(path, None)
    (folder / OWN).unlink(missing_ok=True)


async def keep_chained(folder: Path, entry: Json) -> None:
    """Have the entry there until cancelled, whoever writes the files meanwhile."""
    changed = asyncio.Event()
    copy, there, losses = folder / OWN, False, 0
    writes: deque[float] = deque(maxlen=_BURST)
    gone = math.inf
    with directory_events(folder, changed.set):
        while True:
            changed.clear()
            losses += there and not copy.exists()
            if losses == _LOSSES:
                warn_once(
                    log,
                    f"somebody removes {copy} (Cilium: set cni.exclusive=false): pods that start "
                    "while the node agent is away may start without their networks",
                )
            try:
                written = await asyncio.to_thread(chain, folder, entry, own=losses < _LOSSES)
                now = time.monotonic()
                if written is None:
                    warn_once(
                        log, f"{folder} has no *.conflist yet: waiting for the cluster's network"
                    )
                    gone = min(gone, now + _GONE_SECONDS)
                    if now >= gone:
                        copy.unlink(missing_ok=True)
                else:
                    gone = math.inf
                    writes.extend([now] * bool(written))
                there = copy.exists()
            except OSError as error:
                warn_once(log, f"cannot add {PLUGIN} to {error.filename}: {error.strerror}")
            if len(writes) == _BURST and writes[-1] - writes[0] < _BURST * _PACE_SECONDS / 2:
                await asyncio.sleep(_PACE_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await changed.wait()


def _edit(path: Path, entry: Json | None) -> tuple[bytes | None, bool]:
    """Have the entry last among the plugins of one file, or none of ours.

    Return what is in the file, None where it is not understood or somebody writes it meanwhile;
    and whether it was written.
    """
    try:
        before = path.read_bytes()
        mode = path.stat().st_mode & 0o777
        config = json.loads(before)
        plugins = config["plugins"]
        others = [plugin for plugin in plugins if plugin["type"] != PLUGIN]
    except FileNotFoundError:
        return None, False
    except (ValueError, TypeError, KeyError) as error:
        warn_once(log, f"{path} is not understood, and left alone: {error!r}")
        return None, False
    desired = [*others, entry] if entry is not None else others
    if desired == plugins:
        return before, False
    config["plugins"] = desired
    text = (json.dumps(cast(Json, config), indent=2) + "\n").encode()
    # Somebody may have written in between: the next look sees to it.
    if path.read_bytes() != before:
        return None, False
    write_whole(path, text, mode)
    log.info("%s %s", "added the plugin to" if entry else "took the plugin out of", path)
    return text, True
