# SPDX-License-Identifier: Apache-2.0
"""Hugepages: how many there are of which size, on which NUMA node."""

import re
from collections.abc import Iterator

from headrace_api.node_facts import HugepagePool
from headrace_dataplane.node.tree import Tree, fitting

#: The kernel's name of each size that the dataplane uses.
SIZES = {"2Mi": "hugepages-2048kB", "1Gi": "hugepages-1048576kB"}
_NODES = "sys/devices/system/node"
_ALL = "sys/kernel/mm/hugepages"


def read(tree: Tree) -> tuple[HugepagePool, ...] | None:
    """Return the pools, also those with no page; None where the kernel has none at all."""
    nodes = [n for n in tree.names(_NODES) or () if re.fullmatch(r"node[0-9]{1,4}", n)]
    pools = [
        pool for node in nodes for pool in _pools(tree, f"{_NODES}/{node}/hugepages", int(node[4:]))
    ]
    return tuple(pools or _pools(tree, _ALL, None)) or None


def _pools(tree: Tree, folder: str, node: int | None) -> Iterator[HugepagePool]:
    for size, name in SIZES.items():
        pool = fitting(
            HugepagePool,
            {
                "size": size,
                "numa_node": node,
                "total": tree.number(f"{folder}/{name}/nr_hugepages"),
                "free": tree.number(f"{folder}/{name}/free_hugepages"),
            },
        )
        if pool is not None:
            yield pool
