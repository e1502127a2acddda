# SPDX-License-Identifier: Apache-2.0
"""A certificate to serve TLS with."""

import subprocess
from pathlib import Path


def certificate(folder: Path) -> None:
    """Write tls.key and tls.crt, signed by itself, for the name `metrics`."""
    new = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    words = ("-nodes", "-days", "2", "-subj", "/CN=metrics", "-addext")
    files = ("-keyout", folder / "tls.key", "-out", folder / "tls.crt")
    subprocess.run(
        [*new, *words, "subjectAltName=DNS:metrics", *files], check=True, capture_output=True
    )
