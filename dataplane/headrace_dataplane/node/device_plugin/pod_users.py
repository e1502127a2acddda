# SPDX-License-Identifier: Apache-2.0
"""Which pods have VFs, remembered: the kubelet is asked now and then, who plans asks at once."""

import logging
from collections.abc import Mapping

from headrace_dataplane.node.device_plugin.pod_resources import KubeletError, PodResources

log = logging.getLogger(__name__)


class PodUsers:
    """Which pods have VFs of a device plugin, as the kubelet said last."""

    def __init__(self, kubelet: PodResources) -> None:
        self._kubelet = kubelet
        self._pods: Mapping[str, tuple[str, ...]] = {}
        self._trouble = ""

    async def ask(self) -> bool:
        """Ask the kubelet; while it does not answer (False), what it said before holds."""
        try:
            self._pods = await self._kubelet.users()
            self._trouble = ""
        except KubeletError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.warning("which pods have VFs is not known: %s", error)
        return not self._trouble

    def __call__(self, groups: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
        """Say who uses the VFs, given as PCI address and IOMMU group."""
        return {address: self._pods[address] for address in groups if address in self._pods}
