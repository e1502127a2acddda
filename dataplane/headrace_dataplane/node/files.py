# SPDX-License-Identifier: Apache-2.0
"""Files of the host that are never half written."""

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, content: bytes, mode: int) -> None:
    """Replace a file at once: nobody reads half of it. Raises OSError."""
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
