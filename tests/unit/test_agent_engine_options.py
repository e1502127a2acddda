# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace_api.buffers import buffers, memory_mebibytes
from headrace_dataplane.engine_options import EngineOptions, choose_cpus, engine_options
from headrace_dataplane.protocol import EngineError
from headrace_dataplane.runtime import RuntimeDirectory
from tests.unit.test_agent_process import config
from tests.unit.test_agent_translate import CONFIG

OPTIONS = EngineOptions(name="n", cpus=(0,), workers=1, share_control=True)


def options(available: set[int], **spec: Any) -> EngineOptions:
    return engine_options(config(1, **spec).spec, available)


def test_they_follow_from_the_configuration() -> None:
    found = options({4, 5, 6, 7})
    memory = memory_mebibytes(buffers(2, 1, 0), 1960)
    assert found == EngineOptions(
        "node-a", cpus=(4, 5, 6), workers=2, share_control=False, memory_mib=memory
    )
    assert found.worker_cpus == (5, 6)
    shared = options({4, 5}, workers={"count": 2, "shareControlCore": True})
    assert (shared.cpus, shared.worker_cpus, shared.share_control) == ((4, 5), (4, 5), True)


def test_the_name_fits_into_the_path_of_a_socket() -> None:
    assert options({1, 2, 3}, nodeName="n" * 200).name == "n" * 32


def test_large_packets_of_uplinks_need_larger_buffers_and_those_of_interfaces_do_not() -> None:
    (uplink,), (vm1, _) = CONFIG["spec"]["uplinks"], CONFIG["spec"]["interfaces"]
    jumbo = options({1, 2, 3}, uplinks=[{**uplink, "mtu": 9000}])
    assert (jumbo.max_mtu, jumbo.hugepages) == (9216, False)
    assert jumbo.memory_mib == memory_mebibytes(buffers(2, 1, 0), 9216) > 512
    assert options({1, 2, 3}, interfaces=[{**vm1, "mtu": 8000}]) == options({1, 2, 3})


def test_memory_is_what_hugepages_are_asked_for() -> None:
    found = options({1, 2, 3}, hugepages={"size": "2Mi", "amount": "256Mi"})
    assert (found.hugepages, found.memory_mib, found.max_mtu) == (True, 256, None)


def test_memory_grows_with_workers_and_with_uplinks_that_hold_buffers() -> None:
    """A default for one worker starved the uplinks of sixteen."""
    (uplink,) = CONFIG["spec"]["uplinks"]
    cpus = set(range(17))
    assert uplink["attachment"]["type"] == "SRIOV"
    other = {"type": "SRIOV", "sriov": {"pciAddress": "0000:3b:02.2"}}
    two = [uplink, {**uplink, "name": "uplink1", "attachment": other}]
    many = options(cpus, workers={"count": 16}, uplinks=two)
    assert many.memory_mib == memory_mebibytes(buffers(16, 2, 0), 1960) > 256
    attachment = {"type": "AFPacket", "afPacket": {"deviceName": "eth1"}}
    copying = [{**uplink, "attachment": attachment}]
    few = options(cpus, workers={"count": 16}, uplinks=copying).memory_mib
    assert few == memory_mebibytes(buffers(16, 0, 0), 1960) < 256
    pages = options(cpus, workers={"count": 16}, uplinks=two, hugepages={"size": "2Mi"})
    assert pages.memory_mib == many.memory_mib


def test_cpus() -> None:
    assert choose_cpus({7, 3, 5}, 1, False) == (3, 5)
    assert choose_cpus({3}, 1, True) == (3,)
    with pytest.raises(EngineError, match="need 3 CPUs, this process may use 2"):
        choose_cpus({0, 1}, 2, False)


def test_arguments_are_those_of_the_engine() -> None:
    options = replace(OPTIONS, hugepages=True, memory_mib=512, max_mtu=9216)
    assert options.arguments(RuntimeDirectory(Path("/run/h"))) == [
        *("--socket", "/run/h/engine.sock", "--name", "n", "--cpus", "0", "--workers", "1"),
        *("--hugepages", "auto", "--runtime-dir", "/run/h", "--share-control"),
        *("--memory", "512", "--max-mtu", "9216"),
    ]
