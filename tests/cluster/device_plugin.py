# SPDX-License-Identifier: Apache-2.0
"""A device plugin that gives out what a file says: python device_plugin.py FOLDER.

FOLDER/wanted/devices.json is {resource: [[PCI address, NUMA node, healthy], ...]}, and may be
replaced; FOLDER/root has dev and sys in it. FOLDER/problems.json is written: {resource: reason}.
"""

import asyncio
import json
import sys
from pathlib import Path

from headrace_dataplane import logs
from headrace_dataplane.node.device_plugin.allocation import PluginDevice
from headrace_dataplane.node.device_plugin.plugins import DevicePlugins
from headrace_dataplane.node.device_plugin.pod_resources import PodResources
from headrace_dataplane.node.inotify import directory_events


async def run(folder: Path) -> None:
    def write() -> None:
        reasons = {name: problem.reason for name, problem in plugins.problems.items()}
        (folder / "problems.json").write_text(json.dumps(reasons))

    def read() -> None:
        found = json.loads((folder / "wanted/devices.json").read_text())
        plugins.set({name: tuple(PluginDevice(*each) for each in found[name]) for name in found})

    plugins = DevicePlugins(root=folder / "root", pod_resources=PodResources(), changed=write)
    with directory_events(folder / "wanted", read):
        read()
        write()
        await plugins.run()


if __name__ == "__main__":
    logs.configure("text")
    asyncio.run(run(Path(sys.argv[1])))
