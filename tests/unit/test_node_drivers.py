# SPDX-License-Identifier: Apache-2.0
"""DPDK's drivers: one table, in Python what they need, in C what they do not say."""

import re
from pathlib import Path

from headrace_dataplane.node.drivers import (
    BIFURCATED_DRIVERS,
    DRIVERS,
    MANA,
    MLX4,
    MLX5,
    VFIO,
    reference,
)

REPOSITORY = Path(__file__).parents[2]


def test_the_page_has_the_table() -> None:
    page = (REPOSITORY / "docs/sriov.md").read_text()
    assert page.endswith(reference()), "python -m headrace_dataplane.node.drivers"


def test_the_engine_knows_the_same_drivers() -> None:
    source = (REPOSITORY / "dataplane/engine/port/driver.c").read_text()
    # Those of cards: the others copy packets.
    pattern = r'\{\.name = "(\w+)"(?:, \.kernel = "(\w+)")?(?![^}]*\.copies)'
    entries = re.findall(pattern, source)
    assert [name for name, _ in entries] == [each.name for each in DRIVERS]
    shared = {name: kernel for name, kernel in entries if kernel}
    assert shared == {d.name: d.kernel for d in DRIVERS if d.kernel in BIFURCATED_DRIVERS}
    assert set(shared.values()) == {MLX5.driver, MLX4.driver, MANA.driver}


def test_who_shares_a_device_has_verbs_and_others_have_vfio() -> None:
    for each in DRIVERS:
        assert "IPC_LOCK" in each.capabilities
        if each.kernel in BIFURCATED_DRIVERS:
            assert each.nodes == ("/dev/infiniband/uverbsN",)
            assert "NET_RAW" in each.capabilities
        else:
            assert each.kernel.startswith(VFIO)
            assert each.nodes == ("/dev/vfio/vfio", "/dev/vfio/GROUP")


def test_only_what_the_tests_have_is_marked_as_tried() -> None:
    assert {each.name for each in DRIVERS if each.tried} == {"net_e1000_igb_vf", "net_virtio"}
