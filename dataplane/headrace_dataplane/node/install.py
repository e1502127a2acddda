# SPDX-License-Identifier: Apache-2.0
"""The plugin on its node: the program, and its place in the runtime's configuration.

Runtimes take the first configuration of a folder, and its owner writes it anew when it likes: so
the plugin's entry is put back, and only that is ever changed.
"""

import asyncio
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import cast

from headrace_api import Json

log = logging.getLogger(__name__)

PLUGIN = "headrace-cni"
_CONFIGS = (".conf", ".conflist", ".json")
_LOOK_SECONDS = 2.0


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
    _write(target, program, 0o755)
    log.info("installed %s", target)


def chain(folder: Path, entry: Json) -> bool:
    """Have the entry at the end of the first *.conflist, and in no other; False without one.

    All else in the files stays. Raises OSError.
    """
    found = sorted(path for path in folder.glob("*") if path.suffix in _CONFIGS)
    first = next((path for path in found if path.suffix == ".conflist"), None)
    for path in found:
        if path.suffix == ".conflist":
            _edit(path, entry if path == first else None)
    if first is not None and first != found[0]:
        _say_once(f"{found[0]} comes before {first}, and is no conflist: pods do not get here")
    return first is not None


def unchain(folder: Path) -> None:
    """Take the entry out of every *.conflist; all else stays. Raises OSError."""
    for path in sorted(folder.glob("*.conflist")):
        _edit(path, None)


async def keep_chained(folder: Path, entry: Json) -> None:
    """Have the entry there until cancelled, whoever writes the files meanwhile."""
    while True:
        try:
            if not await asyncio.to_thread(chain, folder, entry):
                _say_once(f"{folder} has no *.conflist yet: waiting for the cluster's own network")
        except OSError as error:
            _say_once(f"cannot add {PLUGIN} to {error.filename}: {error.strerror}")
        await asyncio.sleep(_LOOK_SECONDS)


def _edit(path: Path, entry: Json | None) -> None:
    """Have the entry last among the plugins of one file, or none of ours."""
    try:
        before = path.read_bytes()
        mode = path.stat().st_mode & 0o777
        config = json.loads(before)
        plugins = config["plugins"]
        others = [plugin for plugin in plugins if plugin["type"] != PLUGIN]
    except FileNotFoundError:
        return
    except (ValueError, TypeError, KeyError) as error:
        _say_once(f"{path} is not understood, and left alone: {error!r}")
        return
    wanted = [*others, entry] if entry is not None else others
    if wanted == plugins:
        return
    config["plugins"] = wanted
    text = json.dumps(cast(Json, config), indent=2) + "\n"
    # Somebody may have written in between: the next look sees to it.
    if path.read_bytes() == before:
        _write(path, text.encode(), mode)
        log.info("%s %s", "added the plugin to" if entry else "took the plugin out of", path)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replace a file at once: nobody reads half of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".headrace-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


_said: set[str] = set()


def _say_once(message: str) -> None:
    if message not in _said:
        _said.add(message)
        log.warning("%s", message)
