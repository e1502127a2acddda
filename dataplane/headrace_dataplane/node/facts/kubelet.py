# SPDX-License-Identifier: Apache-2.0
"""The kubelet: its policies, by its command line, its configuration, or what it keeps of both."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlsplit

import yaml

from headrace_api.node_facts import Kubelet, KubeletHugepages
from headrace_dataplane.node.facts.processes import options, started_at
from headrace_dataplane.node.facts.sockets import connected
from headrace_dataplane.node.tree import Tree, fitting, number

_ROOT = "/var/lib/kubelet"
#: Control groups of all pods: of the systemd driver and of cgroupfs, of version 2 and 1.
_POD_GROUPS = (
    "sys/fs/cgroup/kubepods.slice",
    "sys/fs/cgroup/kubepods",
    "sys/fs/cgroup/hugetlb/kubepods.slice",
    "sys/fs/cgroup/hugetlb/kubepods",
)
_GROUP_SIZES = {"2Mi": "2MB", "1Gi": "1GB"}
_ADDRESS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9a-fA-F]*:[0-9a-fA-F:.]*")
_PORTS = {"http": 80, "https": 443}
_MOST_API_SERVERS = 16
#: Version 1 says so that there is no limit: this, less what does not fill a page.
_NO_LIMIT = (1 << 63) - 1

Fields = Mapping[str, object]


def read(tree: Tree, processes: Mapping[str, str]) -> Kubelet | None:
    """Return what is known of the kubelet, None where there is none."""
    process = processes.get("kubelet")
    flags = options(tree, process) if process is not None else {}
    root = flags.get("root-dir", _ROOT).strip("/")
    started = started_at(tree, process) if process is not None else None
    machine, seen = tree, f"{process or 'proc/1'}/root"
    if tree.has(seen):
        # Its files as it sees them: who looks may be in a container.
        tree = tree.below(seen)
    if process is None and not tree.has(root):
        return None
    config = _config(tree, flags, root)
    state = _mapping(_json(tree.text(f"{root}/cpu_manager_state")))
    memory = _mapping(_json(tree.text(f"{root}/memory_manager_state")))
    given = config or {}
    policies = _mapping(given.get("cpuManagerPolicyOptions"))
    # Flags come before the configuration; what neither says has the kubelet's own default.
    known = config is not None or (process is not None and "config" not in flags)
    full = _pairs(flags.get("cpu-manager-policy-options")).get(
        "full-pcpus-only", policies.get("full-pcpus-only")
    )
    fields = {
        "running": process is not None,
        "started_at": started,
        "config_readable": known,
        "cpu_manager_policy": flags.get("cpu-manager-policy")
        or given.get("cpuManagerPolicy")
        or state.get("policyName")
        or ("none" if known else None),
        "full_pcpus_only": str(full).lower() == "true",
        "reserved_cpus": flags.get("reserved-cpus") or given.get("reservedSystemCPUs"),
        "topology_manager_policy": flags.get("topology-manager-policy")
        or given.get("topologyManagerPolicy")
        or ("none" if known else None),
        "memory_manager_policy": flags.get("memory-manager-policy")
        or given.get("memoryManagerPolicy")
        or memory.get("policyName")
        or ("None" if known else None),
        "hugepages": _hugepages(tree),
        "addresses": [a for a in flags.get("node-ip", "").split(",") if _ADDRESS.fullmatch(a)],
        "api_servers": _api_servers(machine, process, [*_servers(tree, flags)]),
    }
    return fitting(Kubelet, fields)


def _config(tree: Tree, flags: Mapping[str, str], root: str) -> Fields | None:
    """The configuration, with what drop-ins put in its place; None: it cannot be read."""
    text = tree.text(flags.get("config", f"{root}/config.yaml").lstrip("/"))
    if text is None:
        return None
    config = dict(_mapping(_yaml(text)))
    folder = flags.get("config-dir", "").strip("/")
    for name in (tree.names(folder) or ()) if folder else ():
        if name.endswith(".conf"):
            config |= _mapping(_yaml(tree.text(f"{folder}/{name}")))
    return config


def _hugepages(tree: Tree) -> list[KubeletHugepages] | None:
    for group in _POD_GROUPS:
        found = []
        for size, name in _GROUP_SIZES.items():
            text = tree.text(f"{group}/hugetlb.{name}.max")
            if text is None:
                text = tree.text(f"{group}/hugetlb.{name}.limit_in_bytes")
            limit = _NO_LIMIT // 2 if text == "max" else number(text)
            if limit is not None:
                limit = min(limit, _NO_LIMIT // 2)
                one = fitting(KubeletHugepages, {"size": size, "limit_bytes": limit})
                found += [one] if one is not None else []
        if found:
            return found
    return None


def _api_servers(tree: Tree, process: str | None, servers: Iterable[tuple[str, int]]) -> list[str]:
    """Addresses of API servers: of those given by name, the ones that the kubelet is connected to.

    Nobody is asked for the name: the answer may be another than the kubelet was given.
    """
    found = [host for host, _ in servers if _ADDRESS.fullmatch(host)]
    ports = {port for host, port in servers if not _ADDRESS.fullmatch(host)}
    if ports and process is not None:
        found += [address for address, port in connected(tree, process) if port in ports]
    return [*dict.fromkeys(found)][:_MOST_API_SERVERS]


def _servers(tree: Tree, flags: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Host and port of the API servers in the kubelet's kubeconfig."""
    path = flags.get("kubeconfig", "/etc/kubernetes/kubelet.conf").lstrip("/")
    clusters = _mapping(_yaml(tree.text(path))).get("clusters")
    for each in clusters if isinstance(clusters, list) else ():
        server = _mapping(_mapping(each).get("cluster")).get("server")
        try:
            url = urlsplit(str(server))
            host, port = url.hostname, url.port or _PORTS.get(url.scheme)
        except ValueError:
            continue
        if host and port:
            yield host, port


def _pairs(text: str | None) -> dict[str, str]:
    pairs = (part.partition("=") for part in (text or "").split(","))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _mapping(value: object) -> Fields:
    return {str(k): v for k, v in value.items()} if isinstance(value, dict) else {}


def _yaml(text: str | None) -> object:
    try:
        found: object = yaml.safe_load(text or "")
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return found


def _json(text: str | None) -> object:
    try:
        found: object = json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
    return found
