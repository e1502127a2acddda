# SPDX-License-Identifier: Apache-2.0
"""Which DataplaneConfigs are to be written again: kinds say so, `config.py` does it."""

from .claims import Owner
from .core import Core


class DirtyConfigs:
    """What changed of that which is in DataplaneConfigs."""

    def __init__(self, core: Core) -> None:
        self.owners: set[Owner] = set()
        """Pipelines on nodes."""
        self.networks: set[str] = set()
        """Networks: wherever they are present."""
