# SPDX-License-Identifier: Apache-2.0
"""What tests of every folder share."""

import pytest
from hypothesis import HealthCheck, settings

from tests import seeds


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "sanitize: runs the engine that was built with sanitizers")
    seed = seeds.asked()
    settings.register_profile(
        "headrace",
        derandomize=seed is None,
        database=None,
        # How fast the machine is must not decide either.
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        print_blob=True,
    )
    settings.load_profile("headrace")
    if seed is not None:
        # Read by the plugin of Hypothesis, which is configured after this.
        config.option.hypothesis_seed = str(seed)


def pytest_report_header() -> str:
    seed = seeds.asked()
    return f"seed: {'as every day' if seed is None else f'{seeds.VARIABLE}={seed}'}"
