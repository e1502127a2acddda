# SPDX-License-Identifier: Apache-2.0
"""Headrace in a real cluster: what it gives its pods, forwards, shows, and survives."""

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.chart import CHART, NAMESPACE
from tests.cluster.cluster import Node
from tests.cluster.sandbox import until
from tests.cluster.site import EXAMPLE, OPERATOR, PODS, RED_ONLY, SECONDS, ClusterPinger, Site
from tests.e2e.conftest import VM1, VM2

AWAY_SECONDS = float(os.environ.get("HEADRACE_TEST_AWAY_SECONDS", "20"))
"""How long the API server is away: longer than the operator's Lease lasts. test_node_death.py has
it away for longer than the agents' Leases last, `make soak` for minutes."""


def engine(site: Site, node: Node) -> int:
    """The host's number of the engine's process."""
    (pid,) = site.processes(node, "headrace-engine")
    return pid


def engines(site: Site) -> list[int]:
    return [engine(site, node) for node in site.nodes]


def status(pid: int) -> dict[str, str]:
    """What /proc/PID/status says."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_pods_are_guaranteed_and_have_cores_of_their_own(site: Site) -> None:
    assert [pod["status"]["qosClass"] for pod in site.pods()] == ["Guaranteed"] * 2
    cpus = [status(pid)["Cpus_allowed_list"] for pid in engines(site)]
    assert [{int(cpu)} for cpu in cpus] == [node.cpus for node in site.nodes]
    assert len({*cpus}) == 2


def test_packets_are_in_hugepages(site: Site) -> None:
    for pid in engines(site):
        assert int(status(pid)["HugetlbPages"].split()[0]) >= 128 << 10


def test_pods_have_no_right_without_a_reason(site: Site) -> None:
    net_admin, net_raw = 1 << 12, 1 << 13
    for pid in engines(site):
        found = status(pid)
        assert int(found["CapEff"], 16) == int(found["CapBnd"], 16) == net_admin | net_raw
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    for node in site.nodes:
        with pytest.raises(Exception, match="Read-only file system"):
            site.exec(node, "touch", "/usr/x")


@pytest.mark.parametrize("address", VM2)
@pytest.mark.parametrize("tenant", ["blue", "red"])
def test_tenants_reach_their_own_across_nodes(site: Site, tenant: str, address: str) -> None:
    out = site.machines[f"{tenant}/vm1"].command(
        "ping", "-c", "5", "-i", "0.1", "-w", "30", address
    )
    assert "from " + address in out


def test_tenants_do_not_meet(site: Site) -> None:
    def counted() -> int:
        drops = json.loads(site.exec(site.nodes[0], "headrace", "drops", "-o", "json"))
        return int(drops.get("no_route", 0))

    before = counted()
    for address in RED_ONLY:
        site.machines["red/vm1"].command("ping", "-c", "1", "-w", "30", address)
        with pytest.raises(Exception, match="100% packet loss"):
            site.machines["blue/vm1"].command("ping", "-c", "2", "-W", "1", address)
    assert counted() >= before + 4


def test_conditions_are_true_statements(site: Site) -> None:
    (pipeline,) = site.get("pipelines")
    assert (pipeline["status"]["selectedNodes"], pipeline["status"]["readyNodes"]) == (2, 2)
    for item in site.get("headrace", "-A"):
        assert item["status"]["observedGeneration"] == item["metadata"]["generation"]
        (ready,) = (c for c in item["status"]["conditions"] if c["type"] == "Ready")
        assert ready["status"] == "True", item
        assert not [c for c in item["status"]["conditions"] if c["type"] == "Stalled"]


def test_what_is_programmed_is_in_the_engines(site: Site) -> None:
    prefix, hops = "198.51.100.0/24", [{"interfaceRef": {"name": "vm1"}}]

    def route(*routes: dict[str, Any]) -> None:
        """Change blue's routes, and wait until all engines have the change."""
        patch = json.dumps({"spec": {"routes": routes}})
        site.cluster.kubectl("patch", "vnet", "blue", "-n", "blue", "--type=merge", "-p", patch)
        site.cluster.kubectl(
            *("wait", "vnet/blue", "-n", "blue", "--for=condition=Programmed"),
            f"--timeout={SECONDS:.0f}s",
        )

    def found() -> list[bool]:
        words = ("headrace", "routes", "--network", "blue/blue", "--prefix", prefix, "-o", "json")
        return [bool(json.loads(site.exec(node, *words))) for node in site.nodes]

    route({"prefix": prefix, "nextHops": hops})
    assert found() == [True, True]
    status = site.get("vnet", "blue", "-n", "blue")["status"]
    assert (status["desiredNodes"], status["programmedNodes"]) == (2, 2)
    route()
    assert found() == [False, False]


def test_nothing_is_lost_when_the_operator_is_killed(site: Site) -> None:
    with site.lossless():
        for pod in site.pods(*OPERATOR):
            name = pod["metadata"]["name"]
            site.cluster.kubectl(
                *("delete", "pod", name, "-n", NAMESPACE, "--grace-period=0", "--force")
            )
        until(lambda: ready(site), "two operators are ready again", SECONDS)
        until(lambda: leads(site), "one of them leads", SECONDS)


def ready(site: Site) -> bool:
    found = site.get("deployment", "headrace-operator", "-n", NAMESPACE)
    return bool(found["status"].get("readyReplicas") == 2)


def leads(site: Site) -> bool:
    return site.leader() in {pod["metadata"]["name"] for pod in site.pods(*OPERATOR)}


def test_nothing_is_lost_when_the_leader_changes(site: Site) -> None:
    until(lambda: leads(site), "an operator leads", SECONDS)
    before = site.leader()
    with site.lossless():
        site.cluster.kubectl("delete", "pod", before, "-n", NAMESPACE)
        until(lambda: leads(site) and site.leader() != before, "another leads", SECONDS)


def test_nothing_is_lost_when_agents_are_killed(site: Site) -> None:
    running = engines(site)
    with site.lossless():
        for node in site.nodes:
            supervisors, (agent,) = agents(site, node)
            os.kill(agent, signal.SIGKILL)
            until(partial(renewed, site, node, agent), "a new agent runs", SECONDS)
            assert agents(site, node)[0] == supervisors
        site.ready()
    assert engines(site) == running
    assert all(pod["status"]["containerStatuses"][0]["restartCount"] == 0 for pod in site.pods())


def agents(site: Site, node: Node) -> tuple[list[int], list[int]]:
    """The host's numbers of the supervisor, which is process 1 of its pod, and of the agent."""
    found: tuple[list[int], list[int]] = [], []
    for pid in site.processes(node, "headrace-agent"):
        with suppress(FileNotFoundError):
            found[status(pid)["NSpid"].split()[-1] != "1"].append(pid)
    return found


def renewed(site: Site, node: Node, before: int) -> bool:
    """Whether the supervisor has started another agent."""
    now = agents(site, node)[1]
    return len(now) == 1 and now != [before]


def test_nothing_is_lost_while_the_api_server_is_away(site: Site) -> None:
    running = engines(site)
    with site.lossless():
        site.cluster.stop_api_server()
        began = time.monotonic()
        until(lambda: time.monotonic() > began + AWAY_SECONDS, "time passes", 2 * AWAY_SECONDS)
        site.cluster.start_api_server()
        until(lambda: leads(site), "an operator leads again", SECONDS)
        add_address(site, "10.0.0.77")
    assert engines(site) == running


def add_address(site: Site, address: str) -> None:
    """Change blue/vm1, and wait until its engine has the change."""
    addresses = json.dumps({"spec": {"addresses": [*VM1, address]}})
    site.cluster.kubectl(
        *("patch", "interface", "vm1", "-n", "blue", "--type=merge", "-p", addresses)
    )
    until(
        lambda: address in site.exec(site.nodes[0], "headrace", "interfaces"),
        f"the engine has {address}",
        SECONDS,
    )
    site.ready()


def test_nothing_is_lost_when_the_chart_is_upgraded_and_rolled_back(
    site: Site, tmp_path: Path
) -> None:
    site.cluster.helm("package", CHART, "-d", tmp_path, "--version", "0.2.1", "--app-version", "1")
    running, pods = engines(site), {pod["metadata"]["uid"] for pod in site.pods()}
    with site.lossless():
        site.upgrade(tmp_path / "headrace-0.2.1.tgz", logLevel="Debug")
        until(lambda: leads(site), "a new operator leads", SECONDS)
        site.cluster.helm("rollback", "headrace", "-n", NAMESPACE, "--wait", "--timeout", "6m")
        until(lambda: leads(site), "an old one leads again", SECONDS)
        site.ready()
    assert (engines(site), {pod["metadata"]["uid"] for pod in site.pods()}) == (running, pods)


def test_a_deleted_pod_comes_back_with_the_same_addresses(
    site: Site, say: Callable[[str], None]
) -> None:
    def given() -> dict[str, Any]:
        return {
            item["metadata"]["namespace"] + "/" + item["metadata"]["name"]: (
                item["status"]["addresses"],
                item["status"]["underlayAddress"],
            )
            for item in site.get("interfaces", "-A")
        }

    node, before, old = site.nodes[1], given(), site.pod(site.nodes[1])["metadata"]["name"]
    pinger = ClusterPinger(site, "blue/vm1", VM2[0], 0.01)
    pinger.wait(50)
    site.cluster.kubectl("delete", "pod", old, "-n", NAMESPACE)
    pinger.wait(50, SECONDS)
    pings = pinger.stop()
    say(f"pod deleted: {pings.longest_gap * 10} ms without an answer")
    assert site.pod(node)["metadata"]["name"] != old
    site.ready()
    assert given() == before


def test_the_example_for_one_machine_applies_as_well(site: Site) -> None:
    site.cluster.kubectl("delete", "-f", EXAMPLE)
    until(lambda: not site.get("pods", *PODS), "the dataplane pods are gone", SECONDS)
    site.cluster.kubectl("apply", "-f", EXAMPLE.parent / "two-tenants")
    for kind in ("pipelines", "virtualnetworks"):
        site.cluster.kubectl(
            "wait", kind, "--all", "-A", "--for=condition=Ready", f"--timeout={SECONDS:.0f}s"
        )

    def reasons() -> set[str]:
        return {
            condition["reason"]
            for item in site.get("interfaces", "-A")
            for condition in item["status"]["conditions"]
            if condition["type"] == "Ready"
        }

    # Its machines are on a node called local, which this cluster does not have.
    until(lambda: reasons() == {"NodeNotFound"}, "every Interface says what is wrong", SECONDS)
