# SPDX-License-Identifier: Apache-2.0
"""A dataplane on VFs of a real NIC, in a pod without privileges, and what nodes do to VFs.

vm2 and vm3 are behind VFs of node-b, vm1 is behind node-a: see fabric.py, dataplane.yaml.
"""

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace_cli.errors import CommandError
from headrace_cli.main import plugin
from headrace_demo.lab import Namespace, command
from tests.cluster.chart import NAMESPACE
from tests.cluster.sandbox import until
from tests.cluster.site import ClusterPinger, Named, Site
from tests.e2e.conftest import VM1, VM2, VM3
from tests.sriov import policies
from tests.sriov.doctor import WRONG, not_passed
from tests.sriov.fabric import plug
from tests.sriov.machine import DEVICES, SECONDS, Machine
from tests.sriov.policies import vfs

MANIFEST = Path(__file__).with_name("dataplane.yaml")
FLOOD = Path(__file__).with_name("echoes.py")
FUNCTIONS = 4
"""Of the dataplane pod."""
IPC_LOCK = 1 << 14
# Of what every container has.
DEVICES_OF_ALL = {"full", "null", "random", "tty", "urandom", "zero"}
GATEWAY = "10.0.0.1"
ECHOES = 125_000
"""Of each of four floods: a million packets, with the answers."""
WINDOW = 64
"""So many echoes of a flood are under way: igbvf's VFs do not count what finds their ring full."""
OF_NEIGHBOURS = {"arp", "nd"}
"""Reasons of dropping that are about packets of no tenant's."""


@pytest.fixture(scope="module", autouse=True)
def dataplane(site: Site, machine: Machine) -> None:
    """node-b forwards for blue, with what is behind its VFs and behind node-a."""
    plug(site, machine)
    site.apply(policies.MANIFEST)
    site.apply(MANIFEST)


def reaches(site: Site, sender: str, address: str) -> None:
    """Wait until five echoes in a row are answered."""

    def answered() -> bool:
        try:
            site.machines[sender].command("ping", "-n", "-c5", "-i.2", "-w5", address)
        except CommandError:
            return False
        return True

    until(answered, f"{address} answers {sender}", SECONDS)


def all_reach(site: Site) -> None:
    """Wait until packets go from anywhere to anywhere."""
    for address in VM2:
        reaches(site, "blue/vm1", address)
        reaches(site, "blue/vm3", address)


def device(site: Site, machine: Machine, name: str) -> str:
    """PCI address of the VF that a machine has its gateway behind."""
    words = ("ip", "-json", "neighbor", "show", GATEWAY)
    (gateway,) = json.loads(site.machines[name].command(*words))
    (found,) = (vf.address for vf in vfs(machine) if vf.mac == gateway["lladdr"])
    return found


def losses(site: Site, machine: Machine) -> dict[str, float]:
    """How often the engine's Interfaces have lost their device: {"blue/vm2": 1.0}."""
    pod = site.pod(machine)
    port = site.get("pipeline", "router")["status"]["metricsPort"]
    text = site.cluster.get(f"http://{pod['status']['podIP']}:{port}/metrics")[1]
    return {
        sample.labels["interface"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "headrace_interface_device_losses_total"
    }


def test_the_pod_has_its_functions_and_no_more(site: Site, machine: Machine) -> None:
    pod = site.pod(machine)
    assert pod["status"]["qosClass"] == "Guaranteed"
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod["spec"].keys()
    status = dict(
        line.split(":\t", 1)
        for line in site.exec(machine, "cat", "/proc/1/status").splitlines()
        if ":\t" in line
    )
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == IPC_LOCK
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert {*status["Uid"].split()} == {"0"}
    devices = site.exec(machine, "find", "/dev", "-type", "c", "-o", "-type", "b").split()
    own = {each.removeprefix("/dev/") for each in devices if not each.startswith("/dev/pts/")}
    groups = {f"vfio/{vf.group}" for vf in vfs(machine)}
    assert len(own & groups) == FUNCTIONS
    assert own - groups == DEVICES_OF_ALL | {"vfio/vfio"}
    cards = site.exec(machine, "cat", "/proc/net/dev").splitlines()[2:]
    assert {line.split(":")[0].strip() for line in cards} == {"lo", "eth0"}


def test_policy_says_which_pod_is_in_the_way(site: Site, machine: Machine) -> None:
    policies.patch(site, vfs=policies.VFS + 1)
    said = policies.becomes(site, "False", "VFsInUse")["message"]
    assert f"{NAMESPACE}/{site.pod(machine)['metadata']['name']}" in said
    assert len(vfs(machine)) == policies.VFS
    site.apply(policies.MANIFEST)


@pytest.mark.parametrize("address", ["10.0.0.1", "fd00:10::1", "fe80::1%eth0", *VM1, *VM3])
def test_what_is_behind_a_vf_reaches(site: Site, address: str) -> None:
    reaches(site, "blue/vm2", address)


def flood(machine: Namespace, address: str) -> int:
    """Exchange ECHOES with an address, WINDOW at a time; how many got lost, either way."""
    words = machine.words(sys.executable, str(FLOOD), address, str(ECHOES), str(WINDOW))
    return ECHOES - int(command(*words, seconds=SECONDS))


def dropped(site: Site, nodes: Sequence[Named]) -> int:
    """How many packets of tenants the nodes' engines have dropped."""
    return sum(
        count
        for node in nodes
        for reason, count in json.loads(site.exec(node, "headrace", "drops", "-o", "json")).items()
        if reason not in OF_NEIGHBOURS
    )


def test_the_node_takes_no_tenants_gateway_for_its_router(machine: Machine) -> None:
    """Gateways announce themselves on the wire, and the PF hears it."""
    assert machine.run("ip", "-6", "route", "show", "default") == ""


def test_a_million_packets_are_accounted_for(site: Site, machine: Machine) -> None:
    """Echoes and answers each pass two VFs of the NIC; vm1's the overlay and an engine more."""
    pairs = [
        *(("blue/vm1", address) for address in VM2),
        *(("blue/vm2", address) for address in VM3),
    ]
    nodes: list[Named] = [machine, *site.nodes]
    before, wire = dropped(site, nodes), machine.wire.counters()
    with ThreadPoolExecutor(len(pairs)) as pool:
        floods = [pool.submit(flood, site.machines[name], address) for name, address in pairs]
    lost = sum(each.result() for each in floods)
    assert lost == dropped(site, nodes) - before + machine.wire.counters().lost - wire.lost


def test_a_vf_is_taken_away_and_comes_back(site: Site, machine: Machine) -> None:
    """The engine gives it back, the node agent binds it, the engine has it again; all alone."""
    address, before = device(site, machine, "blue/vm2"), losses(site, machine)
    with site.lossless(("blue/vm3", "blue/vm1", VM1[0])):
        machine.run("bash", "-euc", f"echo {address} >{DEVICES}/{address}/driver/unbind")
        until(
            lambda: losses(site, machine) == before | {"blue/vm2": before["blue/vm2"] + 1},
            "the engine has lost it",
            SECONDS,
        )
        reaches(site, "blue/vm1", VM2[0])
    assert {vf.driver for vf in vfs(machine)} == {"vfio-pci"}
    site.ready()


def test_all_vfs_are_deleted_and_come_back(site: Site, machine: Machine) -> None:
    """Under traffic."""
    pinger = ClusterPinger(site, "blue/vm1", VM2[0])
    try:
        pinger.wait(100)
        machine.run("bash", "-euc", f"echo 0 >{machine.pf().path}/sriov_numvfs")
        all_reach(site)
        pinger.wait(100)
    finally:
        pinger.stop()
    assert len(vfs(machine)) == policies.VFS
    site.ready()


def test_the_wire_is_pulled_out_and_plugged_in(site: Site, machine: Machine) -> None:
    machine.pf_link(up=False)
    try:
        for name in ("vm2", "vm3"):
            site.cluster.wait(
                *("--for=condition=Ready=False", "interface", name, "-n", "blue"), seconds=SECONDS
            )
    finally:
        machine.pf_link(up=True)
    all_reach(site)
    site.ready()


def test_a_node_comes_back_without_a_hand(site: Site, machine: Machine) -> None:
    machine.reboot()
    machine.ready()
    all_reach(site)
    assert len(vfs(machine)) == policies.VFS
    site.ready()


def test_doctor_finds_the_node_right_for_its_dataplane(
    site: Site, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["doctor", "--kubeconfig", str(site.cluster.kubeconfig), "-o", "json", machine.name]
    assert plugin(words) == 0
    conditions = site.get("pipeline", "router")["status"]["conditions"]
    (aligned,) = (each for each in conditions if each["type"] == "NUMAAligned")
    assert (aligned["status"], aligned["reason"]) == ("True", "Aligned"), aligned
    (node,) = json.loads(capsys.readouterr().out)["nodes"]
    assert not_passed(node["checks"]) == WRONG


def test_uninstalled_the_nic_is_as_it_was(site: Site, machine: Machine) -> None:
    for path in (MANIFEST, policies.MANIFEST):
        site.cluster.kubectl("delete", "-f", path)
    site.cluster.helm("uninstall", "headrace", "-n", NAMESPACE, "--wait")
    count = f"{machine.pf().path}/sriov_numvfs"
    until(lambda: machine.run("cat", count) == "0\n", "the VFs are gone", SECONDS)
    site.gone()
