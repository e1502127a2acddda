# SPDX-License-Identifier: Apache-2.0
"""Logs for machines: one JSON object a line, on stderr."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(level: Literal["Debug", "Info", "Warning", "Error"]) -> None:
    """Log what is at least this grave."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Their lines for every login and every event say nothing that a metric does not.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    # It warns that it leaves the signals alone, which is why it runs where it does.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
