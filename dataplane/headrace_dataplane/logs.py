# SPDX-License-Identifier: Apache-2.0
"""How the agents of pods log: one JSON object a line, or text for people."""

import json
import logging
from datetime import UTC, datetime
from typing import Literal, TypeAlias

Format: TypeAlias = Literal["json", "text"]


class _JSONFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def configure(form: Format) -> None:
    """Log to standard error from INFO on."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        _JSONFormatter() if form == "json" else logging.Formatter("%(levelname).1s %(message)s")
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler])


_warned: set[str] = set()


def warn_once(log: logging.Logger, message: str) -> None:
    """Log a warning that this process has not logged before."""
    if message not in _warned:
        _warned.add(message)
        log.warning("%s", message)
