# SPDX-License-Identifier: Apache-2.0
from math import gcd

import pytest

from headrace_api import PipelineSpec
from headrace_api.buffers import (
    JUMBO_MTU,
    ORDINARY_MTU,
    buffer_bytes,
    buffers,
    largest_mtu,
    memory_mebibytes,
)
from headrace_api.pipeline import NodeClass

PIPELINE = {"underlayPrefixes": ["fd00:1::/48"]}


def spec(**given: object) -> PipelineSpec:
    return PipelineSpec.model_validate({**PIPELINE, "hugepages": {"size": "2Mi"}, **given})


def amount(pipeline: PipelineSpec, node_class: NodeClass | None = None) -> str | None:
    hugepages = pipeline.sized(node_class).hugepages
    assert hugepages is not None
    return hugepages.amount


def test_every_queue_and_worker_counts() -> None:
    one, more = buffers(1, 1, 0), buffers(16, 2, 0)
    assert one < 16_384
    assert more > 2 * 16 * 2 * 1024
    assert buffers(16, 2, 4) - more > 4 * 16 * 1024
    # No port has more receive queues than 16.
    assert buffers(17, 1, 0) - buffers(16, 1, 0) < buffers(16, 1, 0) - buffers(15, 1, 0)


@pytest.mark.parametrize("mtu", range(1280, 9217, 61))
def test_buffers_begin_in_all_cache_sets_and_on_all_channels(mtu: int) -> None:
    lines, rest = divmod(buffer_bytes(mtu), 64)
    assert (gcd(lines, 6), rest) == (1, 0)
    assert buffer_bytes(mtu) >= 64 + 128 + 128 + mtu + 58


def test_buffers_and_an_eighth_fit_into_the_memory() -> None:
    assert memory_mebibytes(1, ORDINARY_MTU) == 33
    for count in (20_000, 200_000, 2_000_000):
        memory = memory_mebibytes(count, ORDINARY_MTU) << 20
        taken = count * buffer_bytes(ORDINARY_MTU)
        assert 0.85 < taken / (memory - max(memory // 8, 32 << 20)) <= 1


def test_buffers_are_large_where_an_uplink_s_packets_are() -> None:
    assert largest_mtu([]) == largest_mtu([1500, 1960]) == ORDINARY_MTU
    assert largest_mtu([1500, 1961]) == JUMBO_MTU


def test_pods_ask_for_what_workers_uplinks_and_functions_need() -> None:
    vf = {"type": "SRIOV", "sriov": {"pciAddress": "0000:3b:01.0"}}
    uplink = {"name": "up0", "attachment": vf}
    small = spec(uplinks=[uplink])
    assert amount(small) == "70Mi"
    assert small.hugepages is not None
    assert small.hugepages.amount is None
    large = NodeClass.model_validate({"value": "large", "workers": {"count": 16}})
    needed = memory_mebibytes(buffers(16, 1, 0), ORDINARY_MTU)
    assert amount(small, large) == f"{needed + needed % 2}Mi"
    copied = {"type": "AFPacket", "afPacket": {"deviceName": "eth1"}}
    override = {"nodeName": "n", "attachment": vf}
    assert amount(spec(uplinks=[{**uplink, "attachment": copied}])) == "64Mi"
    assert (
        amount(spec(uplinks=[{**uplink, "attachment": copied, "nodeOverrides": [override]}]))
        == "70Mi"
    )
    pool = {"name": "vf", "type": "SRIOV", "resourceName": "headrace.dev/x", "count": 8}
    needed = memory_mebibytes(buffers(1, 1, 8), ORDINARY_MTU)
    assert amount(spec(uplinks=[uplink], devices=[pool])) == f"{needed + needed % 2}Mi"
    assert amount(spec(hugepages={"size": "1Gi"}, uplinks=[uplink])) == "1024Mi"
    assert amount(spec(hugepages={"size": "2Mi", "amount": "64Mi"}, uplinks=[uplink])) == "64Mi"
    assert PipelineSpec.model_validate(PIPELINE).sized(None).hugepages is None
