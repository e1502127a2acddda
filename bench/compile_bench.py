# SPDX-License-Identifier: Apache-2.0
"""Compiler at scale: many Interfaces, from scratch and one change at a time.

Run: `python bench/compile_bench.py [--interfaces N] [--nodes N] [--networks N] [--changes N]`.
"""

import argparse
import json
import resource
import statistics
import sys
import time

from headrace_api import (
    Interface,
    Node,
    Object,
    Pipeline,
    UnderlayEndpoint,
    VirtualNetwork,
    canonical_json,
)
from headrace_compiler import Compiler

Manifest = dict[str, object]


def interface_manifest(number: int, nodes: int, networks: int, *prefixes: str) -> Manifest:
    """Interface number N: on node N mod nodes, in network N mod networks, addresses allocated."""
    return {
        "apiVersion": "headrace.dev/v1alpha1",
        "kind": "Interface",
        "metadata": {"name": f"vm{number}", "namespace": "bench"},
        "spec": {
            "networkRef": {"name": f"net{number % networks}"},
            "pipelineRef": {"name": "router"},
            "nodeName": f"node{number % nodes}",
            "prefixes": prefixes,
            "attachment": {"type": "Tap", "tap": {"deviceName": f"tap{number}"}},
        },
    }


def _network(number: int) -> VirtualNetwork:
    return VirtualNetwork.model_validate(
        {
            "kind": "VirtualNetwork",
            "metadata": {"name": f"net{number}", "namespace": "bench"},
            "spec": {
                "subnets": [
                    {"prefix": "10.0.0.0/16"},
                    {"prefix": f"2001:db8:{number:x}::/64"},
                ],
                "routes": [{"prefix": "0.0.0.0/0", "action": "Drop"}],
            },
        }
    )


def _pipeline() -> Pipeline:
    uplink = {"type": "SRIOV", "sriov": {"pciAddress": "0000:3b:00.1"}}
    return Pipeline.model_validate(
        {
            "kind": "Pipeline",
            "metadata": {"name": "router"},
            "spec": {
                "underlayPrefixes": ["fd00:1::/48"],
                "nodeSelector": {},
                "allowedNamespaces": {},
                "devices": [
                    {"name": "taps", "type": "Tap", "deviceNames": ["*"], "namespaceSelector": {}}
                ],
                "uplinks": [{"name": "uplink0", "mtu": 9000, "attachment": uplink}],
            },
        }
    )


def select_bench(selecting: int = 1000, changes: int = 50) -> dict[str, float]:
    """One network of `selecting` gets another label, and as many UnderlayEndpoints select by it.

    Half of these select it before, the others after. Returns `select_ms_median` and
    `select_ms_max`, CPU time until all of it is compiled again.
    """
    compiler = Compiler()
    for number in range(selecting):
        compiler.upsert(_network(number))
        compiler.upsert(
            UnderlayEndpoint.model_validate(
                {
                    "kind": "UnderlayEndpoint",
                    "metadata": {"name": f"gear{number}"},
                    "spec": {
                        "address": f"fd99::{number + 1:x}",
                        "namespaceSelector": {},
                        "networkSelector": {"matchLabels": {"tier": "ab"[number % 2]}},
                    },
                }
            )
        )
    compiler.upsert(_pipeline())
    compiler.flush()
    times = []
    for number in range(changes):
        found = _network(number % 2)
        labels = {"tier": "ab"[number // 2 % 2]}
        changed = found.metadata.model_copy(update={"labels": labels})
        before = time.process_time()
        compiler.upsert(found.model_copy(update={"metadata": changed}))
        result = compiler.flush()
        times.append((time.process_time() - before) * 1e3)
        if not result.problems["VirtualNetwork", found.key]:
            raise RuntimeError("more endpoints admit the network than it can have: it must say so")
    return {
        "selecting": selecting,
        "select_ms_median": round(statistics.median(times), 3),
        "select_ms_max": round(max(times), 3),
    }


def compile_bench(
    interfaces: int = 10_000, nodes: int = 500, networks: int = 200, changes: int = 200
) -> dict[str, float]:
    """Compile `interfaces` cold, then give `changes` of them one more routed prefix, one by one.

    Times are CPU time: the compiler has one thread, so that is what it takes on a core of its own.
    Returns `parse_seconds` (JSON types to models), `cold_seconds` (upserts and first flush),
    `change_ms_median`, `change_ms_p99`, `configs_per_change`, `slices_per_change`,
    `bytes_per_change` (canonical JSON to write), `scratch_bytes` (all of it) and `peak_mib`
    (resident memory of the process, its inputs and outputs included).
    """
    start = time.process_time()
    objects = [Node.model_validate({"metadata": {"name": f"node{i}"}}) for i in range(nodes)]
    parsed: list[Object] = [
        _pipeline(),
        *map(_network, range(networks)),
        *(
            Interface.model_validate(interface_manifest(i, nodes, networks))
            for i in range(interfaces)
        ),
    ]
    parsed_at = time.process_time()
    compiler = Compiler()
    for item in (*objects, *parsed):
        compiler.upsert(item)
    first = compiler.flush()
    cold_at = time.process_time()
    wrong = [problem for problems in first.problems.values() for problem in problems]
    if wrong or len(first.configs) != nodes:
        raise RuntimeError(f"the bench's own objects do not compile: {wrong[:3]}")
    written = sum(len(canonical_json(item or {})) for item in first.configs.values())
    written += sum(len(canonical_json(item or {})) for item in first.slices.values())

    times, configs, slices, size = [], 0, 0, 0
    stride = max(1, interfaces // changes)
    for number in range(0, interfaces, stride):
        manifest = interface_manifest(
            number, nodes, networks, f"192.0.{number >> 8}.{number & 255}/32"
        )
        before = time.process_time()
        compiler.upsert(Interface.model_validate(manifest))
        result = compiler.flush()
        times.append((time.process_time() - before) * 1e3)
        outputs = [*result.configs.values(), *result.slices.values()]
        configs += len(result.configs)
        slices += len(result.slices)
        size += sum(len(canonical_json(item or {})) for item in outputs)
    return {
        "interfaces": interfaces,
        "parse_seconds": round(parsed_at - start, 3),
        "cold_seconds": round(cold_at - parsed_at, 3),
        "change_ms_median": round(statistics.median(times), 3),
        "change_ms_p99": round(sorted(times)[int(len(times) * 0.99)], 3),
        "configs_per_change": round(configs / len(times), 3),
        "slices_per_change": round(slices / len(times), 3),
        "bytes_per_change": round(size / len(times)),
        "scratch_bytes": written,
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }


def main() -> int:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interfaces", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--changes", type=int, default=200)
    options = vars(parser.parse_args())
    print(json.dumps(compile_bench(**options) | select_bench(), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
