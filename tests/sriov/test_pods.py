# SPDX-License-Identifier: Apache-2.0
"""Endpoints on a node: pods with VFs of a real NIC, and the frames that must not arrive.

blue/a, blue/b and red/c have a VF each, alone in a VLAN with one of the engine's: see
endpoints.yaml. In each a DPDK program sends, or counts what comes.
"""

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace_api.node_state import FunctionState
from tests.cluster.images import Images
from tests.cluster.sandbox import until
from tests.cluster.site import Site
from tests.sriov import policies
from tests.sriov.machine import SECONDS, Machine
from tests.sriov.policies import NODE_AGENT, vfs

MANIFEST = Path(__file__).with_name("endpoints.yaml")
MACHINE = Path(__file__).with_name("endpoint_of_machine.yaml")
PODS = ("blue/a", "blue/b", "red/c")
VFS = 2 * len(PODS)
BROADCAST = "ff:ff:ff:ff:ff:ff"
FRAMES = 5_000
"""So many are sent, of which a lost one is no matter,"""
FEW = 100
"""and no more come of what is nobody's: the engine announces gateways, and asks for neighbours."""
# testpmd says what it has counted once a second; it is the pod's only program.
_START = """\
cpus=$(sed -n 's/^Cpus_allowed_list:\t//p' /proc/self/status)
nohup dpdk-testpmd --lcores="(0-1)@($cpus)" -m 32 --no-shconf --no-telemetry \
	-a "$PCIDEVICE_HEADRACE_DEV_IGB" -- --total-num-mbufs=2048 --stats-period=1 "$@" \
	</dev/null >/tmp/log 2>&1 &
echo $! >/tmp/pid"""
# Nobody in the pod waits for it: once it has ended it has no command line.
_STOP = """\
kill -INT "$(cat /tmp/pid)"
while tr -d '\\0' <"/proc/$(cat /tmp/pid)/cmdline" | grep -q .; do sleep 0.1; done"""


_MACHINE_LOG = "/tmp/machine.log"
_MACHINE = f"""\
exec dpdk-testpmd --lcores='(0-1)@(0-1)' -m 32 --in-memory --no-telemetry -a "$1" -- \\
	--forward-mode=icmpecho --total-num-mbufs=2048 --stats-period=1 </dev/null >{_MACHINE_LOG}"""


@dataclass(frozen=True)
class Port:
    """A VF, as the PF has it."""

    address: str
    mac: str
    vlan: int
    spoof_check: bool
    trust: bool


@pytest.fixture(scope="module", autouse=True)
def endpoints(site: Site, machine: Machine) -> Iterator[None]:
    """All three are behind the engine; afterwards there is none of it."""
    site.apply(policies.MANIFEST)
    policies.patch(site, vfs=VFS)
    policies.becomes(site, "True", "DevicesReady")
    site.apply(MANIFEST)
    yield
    for path in (MACHINE, MANIFEST):
        site.cluster.kubectl("delete", "-f", path, "--ignore-not-found", "--wait")
    # Nothing of it keeps a VF: the policy may have fewer.
    site.cluster.kubectl("apply", "-f", policies.MANIFEST)
    policies.becomes(site, "True", "DevicesReady")


def ports(machine: Machine) -> dict[str, Port]:
    """Return the VFs, by PCI address."""
    (link,) = json.loads(machine.run("ip", "-json", "link", "show", machine.pf().name))
    found = {}
    for vf, said in zip(vfs(machine), link["vfinfo_list"], strict=True):
        vlans = [each["vlan"] for each in said.get("vlan_list", ()) if each.get("vlan")]
        checked, trusted = bool(said.get("spoofchk")), said.get("trust") is True
        found[vf.address] = Port(vf.address, vf.mac, sum(vlans), checked, trusted)
    return found


def exec_in(site: Site, pod: str, script: str, *words: str) -> str:
    """Run a script in a pod."""
    namespace, _, name = pod.partition("/")
    return site.cluster.kubectl(
        *("exec", "-n", namespace, name, "--", "bash", "-euc", script, "bash", *words)
    )


def endpoint(site: Site, pod: str) -> str:
    """PCI address of a pod's VF, by the status of its Interface."""
    namespace, _, name = pod.partition("/")
    found = site.get("interface", name, "-n", namespace)
    return str(found["status"]["endpoint"]["pciAddress"])


@contextmanager
def running(site: Site, pod: str, *options: str) -> Iterator[None]:
    """Have the program run in a pod."""
    exec_in(site, pod, _START, *options)
    try:
        until(lambda: "RX-packets" in log(site, pod), f"the program of {pod} counts", SECONDS)
        yield
    finally:
        exec_in(site, pod, _STOP)


def log(site: Site, pod: str) -> str:
    """What the program of a pod has said."""
    return exec_in(site, pod, "cat /tmp/log")


def counted(site: Site, pod: str, what: str) -> int:
    """What the program of a pod has counted: RX or TX."""
    return last(log(site, pod), what)


def last(text: str, what: str) -> int:
    """The newest count in what a program has said; 0: none yet."""
    return int([0, *re.findall(rf"{what}-packets: ([0-9]+)", text)][-1])


def function_of(site: Site, machine: Machine, address: str) -> FunctionState | None:
    """What the node agent says of a VF that no Interface has."""
    found = policies.node_status(site, machine).functions
    return next((each for each in found if each.pci_address == address), None)


@contextmanager
def flood(site: Site, sender: str, mac: str) -> Iterator[Callable[[str], int]]:
    """Send from one pod, UDP from blue/b to blue/a; gives what has arrived at another since."""
    others = [pod for pod in PODS if pod != sender]
    first, second = (running(site, pod, "--forward-mode=icmpecho") for pod in others)
    words = (f"--eth-peer=0,{mac}", "--tx-ip=10.0.0.6,10.0.0.5")
    with first, second:
        # A VF goes on counting from program to program.
        before = {pod: counted(site, pod, "RX") for pod in others}
        with running(site, sender, "--forward-mode=txonly", *words):
            yield lambda pod: counted(site, pod, "RX") - before[pod]


def sends(site: Site, sender: str) -> None:
    """Wait until it has sent many more."""
    goal = counted(site, sender, "TX") + FRAMES
    until(lambda: counted(site, sender, "TX") >= goal, f"{sender} sends", SECONDS)


def test_each_pod_is_alone_with_a_function_of_the_engines(site: Site, machine: Machine) -> None:
    found = ports(machine)
    theirs = {pod: exec_in(site, pod, 'echo "$PCIDEVICE_HEADRACE_DEV_IGB"').strip() for pod in PODS}
    assert {pod: endpoint(site, pod) for pod in PODS} == theirs
    for address in theirs.values():
        port = found[address]
        assert 3000 <= port.vlan <= 3009
        (other,) = (each for each in found.values() if each.vlan == port.vlan and each != port)
        assert other.address not in theirs.values()
        assert (port.spoof_check, other.spoof_check, port.trust) == (True, True, False)
    assert len({found[address].vlan for address in theirs.values()}) == len(PODS)


def test_what_a_pod_sends_to_another_of_its_network_arrives_there_alone(
    site: Site, machine: Machine
) -> None:
    found = ports(machine)
    own = found[endpoint(site, "blue/b")]
    (engine,) = (each for each in found.values() if each.vlan == own.vlan and each != own)
    with flood(site, "blue/b", engine.mac) as arrived:
        until(lambda: arrived("blue/a") >= FRAMES, "blue/a gets them", SECONDS)
        assert arrived("red/c") < FEW


def test_what_a_pod_sends_to_all_arrives_at_no_other(site: Site) -> None:
    with flood(site, "blue/b", BROADCAST) as arrived:
        sends(site, "blue/b")
        assert max(map(arrived, ("blue/a", "red/c"))) < FEW
        # So it is while the node agent is away, and when it begins anew.
        site.cluster.kubectl("delete", "pod", *NODE_AGENT, "--grace-period=0", "--force")
        sends(site, "blue/b")
        assert max(map(arrived, ("blue/a", "red/c"))) < FEW
        site.ready()
        sends(site, "blue/b")
        assert max(map(arrived, ("blue/a", "red/c"))) < FEW


def test_a_pod_whose_interface_goes_stays_alone(site: Site, machine: Machine) -> None:
    address = endpoint(site, "red/c")
    vlan = ports(machine)[address].vlan
    with flood(site, "red/c", BROADCAST) as arrived:
        site.cluster.kubectl("delete", "interface", "c", "-n", "red", "--wait")

        def alone() -> bool:
            said = function_of(site, machine, address)
            there = [each.address for each in ports(machine).values() if each.vlan == vlan]
            return said is not None and said.interface is None and there == [address]

        until(alone, "it is nobody's, and alone in its VLAN", SECONDS)
        sends(site, "red/c")
        assert max(map(arrived, ("blue/a", "blue/b"))) < FEW
    # The pod ends: it is put back, and may be another's.
    site.cluster.kubectl("delete", "pod", "c", "-n", "red", "--wait")
    until(lambda: function_of(site, machine, address) is None, "it is put back", SECONDS)
    assert ports(machine)[address].vlan == 0


def test_a_machine_has_its_function_by_its_address(
    site: Site, machine: Machine, images: Images
) -> None:
    """A process of the node stands for it."""
    site.apply(MACHINE)
    address = endpoint(site, "blue/machine")
    own = ports(machine)[endpoint(site, "blue/b")]
    (engine,) = (each for each in ports(machine).values() if each.vlan == own.vlan and each != own)
    words = (f"--eth-peer=0,{engine.mac}", "--tx-ip=10.0.0.6,10.0.0.7")
    with ThreadPoolExecutor(1) as pool:
        program = pool.submit(
            machine.run_image, images.toolbox.name, "bash", "-euc", _MACHINE, "bash", address
        )
        try:
            with running(site, "blue/b", "--forward-mode=txonly", *words):
                until(
                    lambda: last(machine.run("cat", _MACHINE_LOG), "RX") >= FRAMES,
                    "the machine gets them",
                    SECONDS,
                )
        finally:
            machine.run("pkill", "-INT", "dpdk-testpmd")
            program.result()
