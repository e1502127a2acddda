# SPDX-License-Identifier: Apache-2.0
"""What tests of every folder share."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "sanitize: runs the engine that was built with sanitizers")
