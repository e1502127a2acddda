# SPDX-License-Identifier: Apache-2.0
"""Which release this is."""

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    """Return the version of this distribution, `unknown` when it is not installed."""
    try:
        return version("headrace")
    except PackageNotFoundError:
        return "unknown"
