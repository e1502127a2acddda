# SPDX-License-Identifier: Apache-2.0
"""What is reported of a node: conditions by what is wanted of it, each with its remedy."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headrace_api import ConditionStatus, HugepageSize
from headrace_api.node_facts import NodeFacts
from headrace_api.node_state import NodeStateSpec, NodeStateStatus, PolicyState, Subject
from headrace_dataplane.node.checks import Memory, Threads, Wanted
from headrace_dataplane.node.device_plugin.allocation import PluginDevice
from headrace_dataplane.node.facts import read
from headrace_dataplane.node.report import Resources, node_state_status, wanted
from headrace_dataplane.node.tree import Tree
from tests.unit.node_tree import (
    INTEL_VFS,
    KUBELET_CONFIG,
    MELLANOX_VFS,
    FakeNetwork,
    Files,
    good_node,
    kubelet_config,
    pages,
    without,
    write,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
VFS: Resources = {"headrace.dev/e810": tuple(PluginDevice(each, 0) for each in INTEL_VFS)}


def dataplane(name: str = "router", **more: Any) -> dict[str, Any]:
    hugepages = {"size": "2Mi", "amount": "512Mi"}
    return {"pipeline": name, "workers": 3, "mtu": 8940, "hugepages": hugepages, **more}


def spec(*dataplanes: dict[str, Any], policies: Any = ()) -> NodeStateSpec:
    return NodeStateSpec.model_validate(
        {"nodeName": "node-a", "dataplanes": dataplanes, "policies": policies}
    )


def facts(root: Path, files: Files) -> NodeFacts:
    return read(write(root, files), FakeNetwork())


def status(
    of: NodeFacts,
    wants: NodeStateSpec,
    resources: Resources | None = None,
    policies: tuple[PolicyState, ...] = (),
    faults: tuple[str, ...] = (),
) -> NodeStateStatus:
    return node_state_status(5, wants, of, policies, (), resources or {}, faults, NOW)


def conditions(of: NodeStateStatus) -> dict[str, tuple[str, str]]:
    return {each.type: (each.status, each.reason) for each in of.conditions}


def message(of: NodeStateStatus, name: str) -> str:
    return next(each.message for each in of.conditions if each.type == name)


def test_a_good_node_is_right_for_what_is_wanted(tmp_path: Path) -> None:
    wants = spec(dataplane(resourceNames=[*VFS]))
    found = status(facts(tmp_path, good_node()), wants, VFS)
    expected = dict.fromkeys(("Ready", *Subject), ("True", "Suitable"))
    assert conditions(found) == expected
    assert found.observed_generation == 5
    assert {each.observed_generation for each in found.conditions} == {5}
    assert {each.last_transition_time for each in found.conditions} == {"2026-01-02T03:04:05Z"}
    (resource,) = found.resources
    assert (resource.name, resource.devices, resource.healthy) == ("headrace.dev/e810", 2, 2)
    # All that is not measured anew each time is there, and interrupts, of which there are many,
    # are not.
    assert len(found.nics or ()) == 3
    NodeStateStatus.model_validate(found.to_dict(), extra="forbid")


def test_a_fault_is_the_condition_of_its_subject_and_has_the_command(tmp_path: Path) -> None:
    files = {**good_node(), KUBELET_CONFIG: kubelet_config(cpuManagerPolicy="none")}
    found = status(facts(tmp_path, files), spec(dataplane()))
    assert conditions(found)["CPUManagerReady"] == ("False", "CPUManager")
    assert conditions(found)["Ready"] == ("False", "CPUManager")
    for name in ("CPUManagerReady", "Ready"):
        assert "cpuManagerPolicy: static" in message(found, name)
    assert message(found, "Ready").startswith("CPUManagerReady: ")


def test_what_is_slower_than_it_could_be_is_ready_and_says_so(tmp_path: Path) -> None:
    files = {**good_node(), "proc/sys/kernel/nmi_watchdog": "1"}
    found = status(facts(tmp_path, files), spec(dataplane()))
    assert conditions(found)["TopologyReady"] == ("True", "NMIWatchdog")
    assert "nmi_watchdog=0" in message(found, "TopologyReady")
    assert conditions(found)["Ready"] == ("True", "Suitable")


def test_a_dataplane_without_hugepages_asks_for_none(tmp_path: Path) -> None:
    files = {**good_node(), **pages(0, 0), **pages(1, 0)}
    files["sys/fs/cgroup/kubepods.slice/hugetlb.2MB.max"] = "0"
    bare = facts(tmp_path, files)
    found = status(bare, spec(dataplane(hugepages=None)))
    assert conditions(found)["HugepagesReady"][0] != "False"
    assert conditions(found)["Ready"] == ("True", "Suitable")
    found = status(bare, spec(dataplane()))
    assert conditions(found)["HugepagesReady"] == ("False", "HugepagesOfNUMANode")
    assert conditions(found)["Ready"][0] == "False"
    assert "nr_hugepages" in message(found, "Ready")


def test_where_nothing_is_wanted_conditions_say_what_would_be_missing(tmp_path: Path) -> None:
    files = {**good_node(), **pages(0, 0), **pages(1, 0)}
    found = status(facts(tmp_path, files), spec())
    assert conditions(found)["HugepagesReady"][0] == "False"
    assert conditions(found)["Ready"] == ("True", "NothingWanted")


def test_a_dataplane_of_kernel_devices_needs_no_iommu(tmp_path: Path) -> None:
    groups = [name for name in good_node() if "iommu" in name]
    bare = facts(tmp_path, without(good_node(), *groups))
    found = status(bare, spec(dataplane()))
    assert conditions(found)["Ready"] == ("True", "Suitable")


def test_dataplanes_together(tmp_path: Path) -> None:
    one = dataplane(resourceNames=["headrace.dev/e810"])
    two = dataplane("edge", workers=1, mtu=1500, hugepages={"size": "1Gi", "amount": "2Gi"})
    three = dataplane("third", workers=2, shareControlCore=True)
    found = wanted(spec(one, two, three).dataplanes, VFS)
    assert found == Wanted(
        threads=(Threads(3), Threads(1), Threads(2, share_control=True)),
        hugepages=(Memory(1024, HugepageSize.SIZE_2MI), Memory(2048, HugepageSize.SIZE_1GI)),
        devices=INTEL_VFS,
        pool=True,
        mtu=8900,
    )
    good = facts(tmp_path, good_node())
    # Six CPUs for workers on each of two NUMA nodes: three dataplanes of four have none left.
    alike = [dataplane(name, hugepages=None) for name in ("a", "b", "c", "d")]
    assert conditions(status(good, spec(*alike[:3])))["TopologyReady"][0] == "True"
    found_all = status(good, spec(*alike))
    assert conditions(found_all)["TopologyReady"] == ("False", "Workers")
    assert "4 dataplanes need 16 CPUs, and 12 are there" in message(found_all, "TopologyReady")
    # Without a CPU for each control thread it is three each.
    shared = [{**each, "shareControlCore": True} for each in alike]
    assert conditions(status(good, spec(*shared)))["TopologyReady"][0] == "True"


def test_some_vfs_of_a_resource_are_enough(tmp_path: Path) -> None:
    """They are on both NUMA nodes, and hugepages on one."""
    files = {**good_node(), **pages(1, 0)}
    files["sys/fs/cgroup/kubepods.slice/hugetlb.2MB.max"] = str(512 << 21)
    both = {
        "headrace.dev/any": (PluginDevice(INTEL_VFS[0], 0), PluginDevice(MELLANOX_VFS[0], 1)),
    }
    found = status(facts(tmp_path, files), spec(dataplane(resourceNames=[*both])), both)
    assert conditions(found)["HugepagesReady"] == ("True", "Suitable")
    assert conditions(found)["TopologyReady"] == ("True", "Suitable")


def test_policies_are_part_of_ready(tmp_path: Path) -> None:
    good = facts(tmp_path, good_node())
    wants = spec(policies=[{"name": "p", "nicSelector": {"names": ["ens1f0"]}, "vfs": 2}])
    well = PolicyState(name="p", ready=True)
    assert conditions(status(good, wants, VFS, (well,)))["Ready"] == ("True", "Suitable")
    bad = PolicyState(name="p", ready=False, reason="VFsInUse", message="VF 0: shop/web")
    found = status(good, wants, VFS, (well.model_copy(update={"name": "o"}), bad))
    assert conditions(found)["Ready"] == (ConditionStatus.FALSE, "VFsInUse")
    assert message(found, "Ready") == "DevicePolicy p: VFsInUse: VF 0: shop/web"


def test_devices_that_are_not_given_out_are_told(tmp_path: Path) -> None:
    good = facts(tmp_path, good_node())
    none = {
        name: tuple(PluginDevice(d.address, 0, False) for d in some) for name, some in VFS.items()
    }
    wants = spec(dataplane(resourceNames=[*VFS]))
    found = status(good, wants, none, faults=("/dev/vfio/21 does not open",))
    assert conditions(found)["DevicesReady"] == ("False", "Resources")
    assert "/dev/vfio/21 does not open" in message(found, "DevicesReady")
    assert conditions(found)["Ready"] == ("False", "Resources")


def test_what_is_too_long_for_the_api_is_cut(tmp_path: Path) -> None:
    good = facts(tmp_path, good_node())
    bad = tuple(
        PolicyState(name=f"p{n}", ready=False, reason="Failed", message="x" * 4096)
        for n in range(64)
    )
    found = status(good, spec(), policies=bad, faults=("y" * 9000,))
    NodeStateStatus.model_validate(found.to_dict())


def test_the_kubelets_files_are_read_as_it_sees_them(tmp_path: Path) -> None:
    """Who looks is in a container, which has the host's processes and not its files."""
    inside = ("var/lib/kubelet", "etc/kubernetes", "sys/fs/cgroup")
    files = {
        f"proc/900/root/{name}" if name.startswith(inside) else name: text
        for name, text in good_node().items()
    }
    seen = facts(tmp_path / "container", files).kubelet
    assert seen == facts(tmp_path / "host", good_node()).kubelet
    assert seen is not None
    assert seen.cpu_manager_policy == "static"


def test_what_may_not_be_read_below_a_folder_is_known_above(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    assert tree.below("sys").below("bus").text("missing") is None
    assert tree.denied == ()
