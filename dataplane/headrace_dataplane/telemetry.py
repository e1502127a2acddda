# SPDX-License-Identifier: Apache-2.0
"""Client of DPDK's telemetry socket, version 2.

A Unix SOCK_SEQPACKET socket: the server greets with {"version", "pid", "max_output_len"}; every
request is "/command" or "/command,parameter", every reply {"/command": value}.
Source: DPDK guides, howto/telemetry.
"""

import json
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from headrace_dataplane.protocol import JSON, EngineError, JSONObject

_GREETING_BYTES = 1024


class TelemetryClient:
    """One connection, made by the constructor; not for use by several threads at once."""

    def __init__(self, path: Path, timeout: float = 2.0) -> None:
        """Connect; `timeout` is in seconds per reply. Raises EngineError."""
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
            greeting = json.loads(self._socket.recv(_GREETING_BYTES))
            self._max_output = int(greeting["max_output_len"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._socket.close()
            raise EngineError(f"{path}: {error}") from error

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self._socket.close()

    def get(self, command: str, parameter: str | int | None = None) -> JSON:
        """Return the value of one command, None when it has none. Raises EngineError."""
        request = command if parameter is None else f"{command},{parameter}"
        try:
            self._socket.send(request.encode())
            reply: JSON = json.loads(self._socket.recv(self._max_output))
        except (OSError, ValueError) as error:
            raise EngineError(f"{self.path}: {request}: {error}") from error
        return reply.get(command) if isinstance(reply, dict) else None

    def object(self, command: str, parameter: str | int | None = None) -> JSONObject:
        """Return a command's dictionary, empty when it gives none."""
        value = self.get(command, parameter)
        return value if isinstance(value, dict) else {}

    def names(self, command: str) -> list[str]:
        """Return a command's list as strings, empty when it gives none."""
        value = self.get(command)
        return [str(item) for item in value] if isinstance(value, list) else []
