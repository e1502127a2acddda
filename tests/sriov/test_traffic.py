# SPDX-License-Identifier: Apache-2.0
"""A dataplane on VFs of a real NIC, in a pod without privileges, and what nodes do to VFs.

vm2 and vm3 are behind VFs of node-b, vm1 is behind node-a: see fabric.py, dataplane.yaml.
"""

import json
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace_cli.errors import CommandError
from headrace_cli.main import plugin
from tests.cluster.chart import NAMESPACE
from tests.cluster.sandbox import until
from tests.cluster.site import Site
from tests.e2e.conftest import VM1, VM2, VM3, echoes
from tests.sriov import policies
from tests.sriov.doctor import WRONG, not_passed
from tests.sriov.fabric import plug
from tests.sriov.machine import DEVICES, SECONDS, Machine
from tests.sriov.policies import vfs

MANIFEST = Path(__file__).with_name("dataplane.yaml")
FUNCTIONS = 4
"""Of the dataplane pod."""
IPC_LOCK = 1 << 14
# Of what every container has.
DEVICES_OF_ALL = {"full", "null", "random", "tty", "urandom", "zero"}
GATEWAY = "10.0.0.1"
ECHOES = 2_000
"""Of each of four floods."""


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


def flood(site: Site, *pairs: tuple[str, str]) -> int:
    """Have each (sender, address) exchange ECHOES, many at a time; how many packets got lost."""
    machines = {sender: site.machines[sender] for sender, _ in pairs}
    words = ("ping", "-q", "-n", "-f", "-l64", "-W5", f"-c{ECHOES}")
    before = {name: echoes(machine) for name, machine in machines.items()}
    floods = [site.cluster.sandbox.spawn(machines[name], *words, to) for name, to in pairs]
    for each in floods:
        each.wait()
    after = {name: echoes(machine) for name, machine in machines.items()}

    def grown(counter: str) -> int:
        return sum(after[name][counter] - before[name][counter] for name in machines)

    assert grown("OutEchos") == ECHOES * len(pairs)
    return grown("OutEchos") - grown("InEchoReps")


def dropped(site: Site, machine: Machine) -> int:
    """How many packets the machine's engine has dropped."""
    return sum(json.loads(site.exec(machine, "headrace", "drops", "-o", "json")).values())


def test_the_node_takes_no_tenants_gateway_for_its_router(machine: Machine) -> None:
    """Gateways announce themselves on the wire, and the PF hears it."""
    assert machine.run("ip", "-6", "route", "show", "default") == ""


def test_floods_are_accounted_for(site: Site, machine: Machine) -> None:
    """Each passes two VFs of the NIC; vm1's the overlay and another engine, too."""
    before, wire = dropped(site, machine), machine.wire.counters()
    lost = flood(
        site,
        *(("blue/vm1", address) for address in VM2),
        *(("blue/vm2", address) for address in VM3),
    )
    counted = dropped(site, machine) - before + machine.wire.counters().lost - wire.lost
    assert lost == counted


def test_a_vf_is_taken_away_and_comes_back(site: Site, machine: Machine) -> None:
    """The engine gives it back, the node agent binds it, the engine has it again; all alone."""
    address = device(site, machine, "blue/vm2")
    with site.lossless(("blue/vm1", "blue/vm3", VM3[0])):
        machine.run("bash", "-euc", f"echo {address} >{DEVICES}/{address}/driver/unbind")
        until(
            lambda: losses(site, machine) == {"blue/vm2": 1, "blue/vm3": 0},
            "the engine has lost it",
            SECONDS,
        )
        reaches(site, "blue/vm1", VM2[0])
    assert {vf.driver for vf in vfs(machine)} == {"vfio-pci"}
    site.ready()


def test_all_vfs_are_deleted_and_come_back(site: Site, machine: Machine) -> None:
    machine.run("bash", "-euc", f"echo 0 >{machine.pf().path}/sriov_numvfs")
    all_reach(site)
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
    (node,) = json.loads(capsys.readouterr().out)["nodes"]
    assert not_passed(node["checks"]) == WRONG


def test_uninstalled_the_nic_is_as_it_was(site: Site, machine: Machine) -> None:
    for path in (MANIFEST, policies.MANIFEST):
        site.cluster.kubectl("delete", "-f", path)
    site.cluster.helm("uninstall", "headrace", "-n", NAMESPACE, "--wait")
    until(lambda: not vfs(machine), "the VFs are gone", SECONDS)
    site.gone()
