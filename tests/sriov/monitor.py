# SPDX-License-Identifier: Apache-2.0
"""QEMU's monitor, QMP: https://www.qemu.org/docs/master/interop/qmp-spec.html."""

import json
import socket
from pathlib import Path
from typing import Any

from headrace_cli.errors import CommandError

_SECONDS = 30.0


def ask(path: Path, name: str, /, **arguments: Any) -> Any:
    """Have QEMU execute a command and return what it returns. Raises CommandError."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_SECONDS)
        try:
            connection.connect(str(path))
            with connection.makefile("rw") as stream:
                stream.readline()
                _execute(stream, "qmp_capabilities", {})
                return _execute(stream, name, arguments)
        except OSError as error:
            raise CommandError(f"QEMU's monitor, {name}: {error}") from error


def _execute(stream: Any, name: str, arguments: dict[str, Any]) -> Any:
    print(json.dumps({"execute": name, "arguments": arguments}), file=stream, flush=True)
    for line in stream:
        answer = json.loads(line)
        if "return" in answer:
            return answer["return"]
        if "error" in answer:
            raise CommandError(f"QEMU's monitor, {name}: {answer['error']['desc']}")
    raise CommandError(f"QEMU's monitor, {name}: no answer")
