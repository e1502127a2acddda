# SPDX-License-Identifier: Apache-2.0
"""Canonical JSON and its digest: two outputs are the same when their digests are."""

import hashlib
import json
from collections.abc import Mapping

from pydantic import JsonValue


def canonical_json(value: Mapping[str, JsonValue]) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(value: Mapping[str, JsonValue]) -> str:
    """SHA-256 of the canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
