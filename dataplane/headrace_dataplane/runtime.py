# SPDX-License-Identifier: Apache-2.0
"""Where one node's processes meet."""

import contextlib
import fcntl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from headrace_dataplane.protocol import EngineError


@dataclass(frozen=True)
class RuntimeDirectory:
    """Sockets, locks and the engine's DPDK files."""

    path: Path

    @property
    def socket(self) -> Path:
        """The engine's control socket."""
        return self.path / "engine.sock"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only agent of this directory. Raises EngineError when there is another."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "agent.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise EngineError(
                    f"another agent runs with {self.path}: stop it, or give this one another "
                    "--runtime-dir"
                ) from None
            yield
