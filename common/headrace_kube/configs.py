# SPDX-License-Identifier: Apache-2.0
"""DataplaneConfigs with what is in their Slices."""

import asyncio

from headrace_api import CONFIG_LABEL, Json, assembled
from headrace_api.raw import object_name

from .client import Kube
from .kinds import DATAPLANE_CONFIGS, SLICES


async def whole_configs(kube: Kube, namespace: str) -> list[Json]:
    """All DataplaneConfigs of the namespace, each with its Slices' entries. Raises KubeError."""
    configs, slices = await asyncio.gather(
        kube.list(DATAPLANE_CONFIGS, namespace), kube.list(SLICES, namespace, CONFIG_LABEL)
    )
    names = {object_name(item): item for item in slices.items}
    return [assembled(item, names) for item in configs.items]
