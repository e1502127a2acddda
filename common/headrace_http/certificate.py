# SPDX-License-Identifier: Apache-2.0
"""A certificate in a folder, such as a mounted Secret of type kubernetes.io/tls."""

import ssl
from pathlib import Path


class Certificate:
    """`tls.crt` and `tls.key` of a folder, read again when they have changed."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError (ssl.SSLError is one) when there is no certificate with its key."""
        self._files = folder / "tls.crt", folder / "tls.key"
        self._read = self._stamp()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """What to serve TLS with; the certificate of before while a new one cannot be read."""
        try:
            stamp = self._stamp()
            if stamp != self._read:
                self._context, self._read = self._load(), stamp
        except OSError:
            pass
        return self._context

    def _stamp(self) -> tuple[tuple[int, int], ...]:
        return tuple((file.stat().st_mtime_ns, file.stat().st_ino) for file in self._files)

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*self._files)
        return context
