# SPDX-License-Identifier: Apache-2.0
"""What is read of a node: all of it from a good one, and never an error from any other."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_api import HugepageSize
from headrace_api.node_facts import (
    Kubelet,
    LinkState,
    MemoryLock,
    NodeFacts,
    NodeTraffic,
    cpu_list,
    cpu_set,
)
from headrace_dataplane.node.checks import Memory, Threads, Wanted, checks
from headrace_dataplane.node.facts import node_addresses, read
from headrace_dataplane.node.facts.sockets import connected
from headrace_dataplane.node.reach import reach
from headrace_dataplane.node.traffic import NodeAddresses
from headrace_dataplane.node.tree import Tree
from tests.unit.node_tree import (
    CPU,
    INTEL,
    INTEL_VFS,
    KUBECONFIG,
    KUBELET_CONFIG,
    KUBELET_FLAGS,
    MELLANOX,
    OWN,
    PCI,
    PODS,
    SOCKETS,
    FakeNetwork,
    Files,
    connection,
    function,
    good_node,
    kubeconfig,
    kubelet_config,
    without,
    write,
    write_one,
)


def facts_of(root: Path, files: Files) -> NodeFacts:
    return read(write(root, files), FakeNetwork())


def test_cards_and_their_vfs(tmp_path: Path) -> None:
    own, intel, mellanox = facts_of(tmp_path, good_node()).nics or ()
    assert (own.pci_address, own.device_names, own.only_uplink) == (OWN, ("eno1",), True)
    assert own.node_traffic == tuple(NodeTraffic)
    assert (own.vfs_total, own.vfs, own.mtu, own.speed_mbits) == (None, (), 1500, 1000)
    assert (intel.pci_address, intel.vendor_id, intel.device_id) == (INTEL, "8086", "159b")
    assert (intel.driver, intel.firmware) == ("ice", "4.40 0x8001c967 1.3534.0")
    assert (intel.link, intel.vfs_total, intel.numa_node) == (LinkState.UP, 64, 0)
    assert intel.node_traffic == ()
    assert not intel.only_uplink
    assert [(v.index, v.pci_address, v.driver, v.iommu_group) for v in intel.vfs] == [
        (0, INTEL_VFS[0], "vfio-pci", 21),
        (1, INTEL_VFS[1], "vfio-pci", 22),
    ]
    assert (mellanox.pci_address, mellanox.numa_node) == (MELLANOX, 1)
    assert [vf.device_names for vf in mellanox.vfs] == [("ens2f0v0",), ("ens2f0v1",)]


def test_a_virtual_machines_devices(tmp_path: Path) -> None:
    """A VF that was passed through is a card; virtio's kernel device is one level below."""
    files = {
        **function("0000:00:03.0", ("1af4", "1041"), "virtio-pci", -1, 3),
        f"{PCI}/0000:00:03.0/virtio2/net/eth0/mtu": "1400",
        f"{PCI}/0000:00:03.0/virtio2/net/eth0/speed": "-1",
        **function("0000:00:04.0", ("8086", "1889"), "vfio-pci", -1, 4),
    }
    virtio, vf = facts_of(tmp_path, files).nics or ()
    assert (virtio.device_names, virtio.mtu, virtio.speed_mbits) == (("eth0",), 1400, None)
    assert (virtio.numa_node, virtio.link) == (None, None)
    assert (vf.driver, vf.vfs_total, vf.vfs) == ("vfio-pci", None, ())


def test_peers_of_an_iommu_group(tmp_path: Path) -> None:
    bridge = "0000:3a:00.0"
    files = {
        **good_node(),
        **function(bridge, ("8086", "347a"), "pcieport", 0, 21, kind="0x060400"),
    }
    _, intel, _ = facts_of(tmp_path, files).nics or ()
    (peer,) = intel.vfs[0].group_peers
    assert (peer.pci_address, peer.driver, peer.bridge) == (bridge, "pcieport", True)


def test_cpus_and_hugepages(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, good_node())
    assert facts.cpus is not None
    assert [cpu.cpu for cpu in facts.cpus.cpus] == [*range(16)]
    last = facts.cpus.cpus[15]
    assert (last.core, last.socket, last.numa_node) == (3, 1, 1)
    assert (last.siblings, last.governor) == ("7,15", "performance")
    assert (facts.cpus.vendor, facts.cpus.virtual) == ("GenuineIntel", False)
    assert facts.cpus.isolated == facts.cpus.nohz_full == "1-3,5-7,9-11,13-15"
    pools = {(p.size, p.numa_node): (p.total, p.free) for p in facts.hugepages or ()}
    assert pools == {
        (HugepageSize.SIZE_2MI, 0): (512, 512),
        (HugepageSize.SIZE_1GI, 0): (0, 0),
        (HugepageSize.SIZE_2MI, 1): (512, 512),
        (HugepageSize.SIZE_1GI, 1): (0, 0),
    }


def test_the_kubelet(tmp_path: Path) -> None:
    kubelet = facts_of(tmp_path, good_node()).kubelet
    assert kubelet is not None
    assert (kubelet.running, kubelet.config_readable) == (True, True)
    started = datetime.fromtimestamp(1750000000 + 10000 // os.sysconf("SC_CLK_TCK"), UTC)
    assert kubelet.started_at == started.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (kubelet.cpu_manager_policy, kubelet.full_pcpus_only) == ("static", True)
    assert kubelet.reserved_cpus == "0,4,8,12"
    assert kubelet.topology_manager_policy == "single-numa-node"
    assert kubelet.memory_manager_policy == "Static"
    assert (kubelet.addresses, kubelet.api_servers) == (("192.0.2.10",), ("192.0.2.1",))
    limits = {each.size: each.limit_bytes for each in kubelet.hugepages or ()}
    assert limits == {HugepageSize.SIZE_2MI: 1 << 31, HugepageSize.SIZE_1GI: 0}


def test_the_kubelets_flags_and_drop_ins_come_first(tmp_path: Path) -> None:
    flags = (*KUBELET_FLAGS, "--reserved-cpus=0-1", "--config-dir", "/etc/kubelet.d")
    files = {
        **good_node(),
        "proc/900/cmdline": "\0".join(flags),
        "etc/kubelet.d/10-policy.conf": "topologyManagerPolicy: none\n",
        "etc/kubelet.d/20-policy.conf": "topologyManagerPolicy: restricted\n",
        "etc/kubelet.d/30-policy.txt": "topologyManagerPolicy: best-effort\n",
    }
    kubelet = facts_of(tmp_path, files).kubelet
    assert kubelet is not None
    assert (kubelet.reserved_cpus, kubelet.topology_manager_policy) == ("0-1", "restricted")


def test_a_kubelet_whose_configuration_is_not_to_be_read(tmp_path: Path) -> None:
    """Its state says what the CPU manager does; nothing says what it does not have."""
    kubelet = facts_of(tmp_path, without(good_node(), KUBELET_CONFIG)).kubelet
    assert kubelet is not None
    assert not kubelet.config_readable
    assert (kubelet.cpu_manager_policy, kubelet.memory_manager_policy) == ("static", "Static")
    assert kubelet.topology_manager_policy is None
    assert kubelet.reserved_cpus is None


def test_an_empty_configuration_means_the_kubelets_defaults(tmp_path: Path) -> None:
    files = without(good_node(), "var/lib/kubelet") | {KUBELET_CONFIG: "kind: x\n"}
    kubelet = facts_of(tmp_path, files).kubelet
    assert kubelet is not None
    assert kubelet.config_readable
    assert (kubelet.cpu_manager_policy, kubelet.topology_manager_policy) == ("none", "none")


def test_a_kubelet_of_another_network_namespace_is_not_the_machines(tmp_path: Path) -> None:
    files = {
        **without(good_node(), "var/lib/kubelet"),
        "proc/self/ns/net": "-> net:[1]",
        "proc/900/ns/net": "-> net:[2]",
        "proc/700/ns/net": "-> net:[1]",
    }
    facts = facts_of(tmp_path, files)
    assert facts.kubelet is None
    assert facts.memory_locks[0].process == "containerd"


@pytest.mark.parametrize(
    ("servers", "expected"),
    [
        (["https://k8s.example.org:6443"], ("192.0.2.1", "2001:db8::1", "192.0.2.3")),
        (["https://k8s.example.org"], ("198.51.100.1",)),
        (["https://192.0.2.9:6443"], ("192.0.2.9",)),
        (["https://[2001:db8::9]:6443", "https://k8s"], ("2001:db8::9", "198.51.100.1")),
        (["https://k8s:99999", "https://k8s:x", "https://:6443", "k8s:6443", "https://["], ()),
    ],
)
def test_to_which_api_servers_the_kubelet_is_connected(
    servers: list[str], expected: tuple[str, ...], tmp_path: Path
) -> None:
    """Of servers given by name; other states, ports and processes do not count."""
    lines = [
        SOCKETS,
        connection("010200C0", 6443, 11),
        connection("010200C0", 6443, 12),
        connection("020200C0", 6443, 13, state="06"),
        connection("020200C0", 6443, 99),
        connection("020200C0", 6444, 14),
        connection("016433C6", 443, 15),
        connection("00000000", 0, 16, state="0A"),
    ]
    lines6 = [
        SOCKETS,
        connection("B80D0120000000000000000001000000", 6443, 21),
        connection("0000000000000000FFFF0000030200C0", 6443, 22),
        connection("B80D0120000000000000000002000000", 6443, 23, state="08"),
    ]
    files = {
        **without(good_node(), "proc/900/fd"),
        KUBECONFIG: kubeconfig(*servers),
        **{f"proc/900/fd/{each}": f"-> socket:[{each}]" for each in (*range(11, 17), 21, 22, 23)},
        "proc/900/fd/3": "-> anon_inode:[eventpoll]",
        "proc/900/net/tcp": "\n".join(lines),
        "proc/900/net/tcp6": "\n".join(lines6),
        "proc/700/fd/3": "-> socket:[99]",
    }
    kubelet = facts_of(tmp_path, files).kubelet
    assert kubelet is not None
    assert kubelet.api_servers == expected


def test_connections_that_are_nonsense_cost_no_other(tmp_path: Path) -> None:
    good = connection("010200C0", 6443, 4711)
    lines = [
        *(SOCKETS, "", "\0", ":", "0: 1 2 01 3", good[:40], good[: good.index("4711") + 2]),
        *(good.replace("010200C0", each) for each in ("010200C", "010200C00", "01G200C0", "")),
        *(good.replace("192B", "192B0"), good.replace(" 01 ", " 1 "), good.replace("4711", "x")),
        *(good.replace("4711", "9" * 5000), good.replace("   0:", " " * 5000), "0" * 5000),
        connection("020200C0", 6443, 4711),
    ]
    files = good_node() | {"proc/900/net/tcp": "\n".join(lines)}
    kubelet = facts_of(tmp_path, files).kubelet
    assert kubelet is not None
    assert kubelet.api_servers == ("192.0.2.2",)


def test_more_connections_than_are_told(tmp_path: Path) -> None:
    lines = (connection(f"{last:02X}0200C0", 6443, 4711) for last in range(1, 100))
    kubelet = facts_of(tmp_path, good_node() | {"proc/900/net/tcp": "\n".join(lines)}).kubelet
    assert kubelet is not None
    assert kubelet.api_servers == tuple(f"192.0.2.{last}" for last in range(1, 17))


def test_what_was_known_of_the_node_stays_known(tmp_path: Path) -> None:
    """While the kubelet is between two connections, or not there at all; not without end."""
    network = FakeNetwork(default=4, own={}, reached={"192.0.2.1": 3})
    root = write(tmp_path, good_node())
    known = node_addresses(read(root, network).kubelet, NodeAddresses(frozenset({"192.0.2.7"})))
    assert known == NodeAddresses(frozenset({"192.0.2.7", "192.0.2.10"}), ("192.0.2.1",))
    for gone in ("proc/900/net", "proc/900"):
        shutil.rmtree(root / gone)
        facts = read(root, network, known=known)
        _, intel, _ = facts.nics or ()
        assert intel.node_traffic == (NodeTraffic.API_SERVER,)
        assert node_addresses(facts.kubelet, known) == known
    for other in range(100):
        servers = (f"198.51.100.{other}",)
        known = node_addresses(Kubelet(api_servers=servers), known)
        assert known.api_servers[:1] == servers
    assert len(known.api_servers) < 50


@pytest.mark.parametrize(
    ("family", "address", "asked"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET, "127.0.0.1", "::ffff:127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
    ],
)
def test_connections_of_this_process(
    family: socket.AddressFamily, address: str, asked: str
) -> None:
    with socket.create_server((address, 0), family=family) as server:
        port = server.getsockname()[1]
        with socket.create_connection((asked, port)):
            assert (address, port) in connected(Tree(Path("/")), "proc/self")
        assert (address, port) not in connected(Tree(Path("/")), "proc/self")


def test_version_1_of_control_groups(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/hugetlb/kubepods"
    files = without(good_node(), PODS) | {f"{group}/hugetlb.2MB.limit_in_bytes": str(1 << 63)}
    kubelet = facts_of(tmp_path, files).kubelet
    assert kubelet is not None
    assert kubelet.hugepages is not None
    assert kubelet.hugepages[0].limit_bytes > 1 << 60


def test_memory_that_may_be_locked(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, good_node())
    assert facts.memory_locks == (
        MemoryLock(process="containerd"),
        MemoryLock(process="headrace", limit_bytes=8388608),
    )
    files = {**good_node(), "proc/self/status": "CapEff:\t0000000000004000\n"}
    again = facts_of(tmp_path / "again", files)
    assert again.memory_locks[1].ipc_lock


def test_interrupts(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, good_node())
    assert [(i.irq, i.name, i.pci_address, i.cpus) for i in facts.interrupts or ()] == [
        (40, "nvme0q1", "0000:02:00.0", "0"),
        (50, "eno1-TxRx-0", OWN, "4"),
        (60, f"vfio-msix[0]({INTEL_VFS[0]})", INTEL_VFS[0], "1"),
    ]
    assert facts.iommu.interrupt_remapping is True


@pytest.mark.parametrize("text", ["", "0", "1-3,9", "0-15", "1,3,5"])
def test_lists_of_cpus(text: str) -> None:
    assert cpu_list(cpu_set(text)) == text


def test_facts_come_back_from_json(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, good_node())
    assert NodeFacts.model_validate(facts.to_dict()) == facts


# Files of nonsense

GOOD = good_node()
GARBAGE = st.one_of(
    st.sampled_from(
        [
            *(b"", b"\0", b"-1", b"999999999999999999999", b"0x", b"\xff\xfe", b"null", b"[]"),
            *(b"0-99999", b"5-1", b"1,", b"{", b"- - -", b"a: [", b"&a [*a]", b"[" * 5000),
            *(b"clusters: [3]", b"clusters: [{cluster: {server: 'https://[::1'}}]"),
            *(b"btime 99999999999999\n", b"900 (kubelet) S", b"9" * 5000, b"CPU0 CPUx\n 7: x\n"),
            b"Max locked memory 99999999999999999999 1 bytes",
        ]
    ),
    st.binary(max_size=200),
    st.text(max_size=200).map(str.encode),
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("node"), GOOD)


@contextmanager
def instead(path: Path, what: bytes | None, *, folder: bool = False) -> Iterator[None]:
    """Have something else there meanwhile: other bytes, a folder, nothing."""
    aside = path.with_name(path.name + ".aside")
    path.rename(aside)
    try:
        if folder:
            path.mkdir()
        elif what is not None:
            path.write_bytes(what)
        yield
    finally:
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        aside.rename(path)


def examine(root: Path) -> None:
    facts = read(root, FakeNetwork())
    NodeFacts.model_validate(facts.to_dict())
    memory = (Memory(512, HugepageSize.SIZE_2MI),)
    for wanted in (Wanted(), Wanted((Threads(3),), memory, (INTEL_VFS[0], OWN), mtu=8900)):
        assert checks(facts, wanted)
        reach(facts, wanted)


@given(data=st.data())
@settings(max_examples=400)
def test_no_file_is_an_error_whatever_it_has(tree: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(GOOD)))
    how = data.draw(st.sampled_from(["bytes", "bytes", "bytes", "missing", "folder"]))
    what = data.draw(GARBAGE) if how == "bytes" else None
    with instead(tree / name, what, folder=how == "folder"):
        examine(tree)


@given(data=st.data())
@settings(max_examples=100)
def test_no_missing_part_is_an_error(tree: Path, data: st.DataObject) -> None:
    parts = sorted({parent for name in GOOD for parent in Path(name).parents} - {Path(".")})
    with instead(tree / data.draw(st.sampled_from(parts)), None):
        examine(tree)


def test_links_that_lead_nowhere_or_round_are_no_error(tmp_path: Path) -> None:
    files = good_node()
    files[f"{PCI}/{INTEL}/driver"] = "-> driver"
    files[f"{PCI}/{INTEL}/virtfn0"] = "-> ../0000:ff:1f.7"
    files[f"{PCI}/{INTEL}/iommu_group"] = "-> /"
    files[f"{PCI}/{INTEL}/vendor"] = "-> vendor"
    _, intel, _ = facts_of(tmp_path, files).nics or ()
    assert intel.iommu_group is None
    assert intel.vendor_id is None
    examine(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="lowers its own rights")
def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    """As another user: root reads all."""
    write(tmp_path, good_node())
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == 0 and path.is_relative_to("/tmp") and path != Path("/tmp"):
            path.chmod(0o755)
    (tmp_path / KUBELET_CONFIG).chmod(0)
    os.seteuid(65534)
    try:
        facts = read(tmp_path, FakeNetwork())
    finally:
        os.seteuid(0)
    assert f"/{KUBELET_CONFIG}" in facts.unreadable
    assert facts.kubelet is not None
    assert not facts.kubelet.config_readable


def test_a_value_that_is_nonsense_costs_no_other(tmp_path: Path) -> None:
    files = good_node()
    files[f"{CPU}/cpu3/topology/core_id"] = "99999999999999"
    files[KUBELET_CONFIG] = kubelet_config(reservedSystemCPUs="all of them", cpuManagerPolicy=[1])
    facts = facts_of(tmp_path, files)
    assert facts.cpus is not None
    assert (facts.cpus.cpus[3].core, facts.cpus.cpus[3].siblings) == (None, "3,11")
    assert facts.kubelet is not None
    assert facts.kubelet.reserved_cpus is None
    assert facts.kubelet.topology_manager_policy == "single-numa-node"


def test_this_machine() -> None:
    """Whatever it is: what is read of it fits the models, and its own links are seen."""
    facts = read()
    NodeFacts.model_validate(facts.to_dict())
    assert facts.kernel.release == os.uname().release
    assert facts.cpus is not None
    assert len(facts.cpus.cpus) == os.sysconf("SC_NPROCESSORS_ONLN")


def test_a_folder_in_place_of_each_file(tmp_path: Path) -> None:
    for name in GOOD:
        write_one(tmp_path / name, "<empty>")
    examine(tmp_path)
