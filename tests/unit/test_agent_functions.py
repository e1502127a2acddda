# SPDX-License-Identifier: Apache-2.0
"""PCI functions of a pod: named by number, opened by device node, and where they are."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_api import ConditionStatus, DataplaneConfig, Problem
from headrace_dataplane.device_status import device_problems, devices_ready
from headrace_dataplane.functions import (
    DevicesMissingError,
    Functions,
    environment_name,
    functions_of,
    pci_order,
)
from headrace_dataplane.numa import Numa, alignment, read
from headrace_dataplane.preflight import Fault, function_faults
from headrace_dataplane.translate import Translation, translate
from tests.unit import node_tree
from tests.unit.node_tree import INTEL_VFS, MELLANOX_VFS, PCI
from tests.unit.test_agent_translate import CONFIG

CX6, E810 = "headrace.dev/cx6", "intel.com/e810-vfs"
A, B, C, D = "0000:3b:02.1", "0000:3b:0a.0", "0000:af:00.2", "10000:01:00.0"


def info(groups: dict[str, int]) -> str:
    """What the SR-IOV network device plugin says besides."""
    return json.dumps(
        {
            address: {
                "generic": {"deviceID": address},
                "vfio": {"mount": "/dev/vfio/vfio", "dev-mount": f"/dev/vfio/{group}"},
            }
            for address, group in groups.items()
        }
    )


def test_a_device_plugin_says_what_a_pod_has() -> None:
    found = functions_of(
        {
            "PCIDEVICE_HEADRACE_DEV_CX6": f"{D},{C}",
            "PCIDEVICE_HEADRACE_DEV_CX6_INFO": info({C: 12, D: 13}),
            "PCIDEVICE_INTEL_COM_E810-VFS": B.upper(),
            "PATH": "/bin",
        }
    )
    # By number: domain 10000 comes after 0000.
    assert found.of(CX6) == (C, D)
    assert found.of(E810) == (B,)
    assert found.of("headrace.dev/other") == ()
    assert found.addresses() == (B, C, D)
    assert found.groups == {C: 12, D: 13}


def test_a_resource_may_be_named_as_the_details_of_another() -> None:
    found = functions_of(
        {"PCIDEVICE_X_DEV_A": A, "PCIDEVICE_X_DEV_A_INFO": B, "PCIDEVICE_X_DEV_A_INFO_INFO": "{}"}
    )
    assert found.of("x.dev/a_info") == (B,)


def test_a_dra_driver_names_no_resource() -> None:
    found = functions_of(
        {
            "SRIOVNETWORK_VF_DEVICE_0000_af_00_2": C,
            "SRIOVNETWORK_VF_DEVICE_0000_3b_02_1": A,
            "SRIOVNETWORK_NET_ATTACH_DEF_NAME": "net",
            "PCIDEVICE_INTEL_COM_E810-VFS": B,
        }
    )
    assert found.of(CX6) == (A, C)
    assert found.of(E810) == (B,)
    assert found.addresses() == (A, B, C)


@pytest.mark.parametrize(
    "details",
    ["{", "{}", "[]", "null", '{"x": 1}', '{"0000:3b:02.1": {"vfio": []}}', "{" * 100_000]
    + [json.dumps({A: {"vfio": {"dev-mount": node}}}) for node in (1, "/dev/vfio/../x", "")],
)
def test_details_that_are_nonsense_say_nothing(details: str) -> None:
    found = functions_of({"PCIDEVICE_X": f"{A},nonsense,,{A}", "PCIDEVICE_X_INFO": details})
    assert found.addresses() == (A,)
    assert found.groups == {}


@given(st.dictionaries(st.sampled_from(["PCIDEVICE_A", "PCIDEVICE_A_INFO"]), st.text()))
def test_an_environment_of_nonsense_has_no_functions(environment: dict[str, str]) -> None:
    assert functions_of(environment).groups == {}


@pytest.mark.parametrize(
    ("resource", "name"),
    [
        ("intel.com/intel_sriov_netdevice", "PCIDEVICE_INTEL_COM_INTEL_SRIOV_NETDEVICE"),
        ("headrace.dev/cx-6.a", "PCIDEVICE_HEADRACE_DEV_CX-6_A"),
        ("x-y.io/Up", "PCIDEVICE_X-Y_IO_UP"),
    ],
)
def test_only_dots_and_the_slash_of_a_name_become_underscores(resource: str, name: str) -> None:
    assert environment_name(resource) == name


def test_uplinks_count_from_the_first_and_interfaces_from_the_last() -> None:
    functions = functions_of({environment_name(CX6): ",".join((A, B, C, D))})

    def pick(number: int, uplinks: int, of_uplink: bool) -> str:
        return functions.pick(CX6, number, uplinks, of_uplink=of_uplink)

    assert [pick(number, 2, True) for number in (0, 1)] == [A, B]
    assert [pick(number, 2, False) for number in (0, 1)] == [D, C]
    # What is an uplink's is no Interface's.
    with pytest.raises(DevicesMissingError, match=f"needs 5 devices of {CX6}, and this pod has 4"):
        pick(2, 2, False)
    with pytest.raises(DevicesMissingError, match="needs 5 devices"):
        pick(4, 5, True)
    with pytest.raises(DevicesMissingError, match=f"needs 1 devices of {E810}, .* has 0"):
        functions.pick(E810, 0, 0, of_uplink=False)


def test_addresses_have_an_order() -> None:
    assert sorted([D, C, B, A], key=pci_order) == [A, B, C, D]
    with pytest.raises(ValueError, match="no PCI address"):
        pci_order("eth0")


def config(*numbers: int, uplink: int | None = 0) -> DataplaneConfig:
    """One uplink, and Interfaces a/vm0 and so on with functions of these numbers."""
    spec = CONFIG["spec"]
    attachment = {"type": "SRIOV", "sriov": {"resourceName": CX6}}
    uplinks: list[dict[str, Any]] = [{**spec["uplinks"][0], "attachment": attachment}]
    if uplink is not None:
        uplinks[0]["function"] = uplink
    interfaces = [
        {**spec["interfaces"][0], "name": f"vm{n}", "attachment": attachment, "function": n}
        for n in numbers
    ]
    changed = {**spec, "uplinks": uplinks, "interfaces": interfaces}
    return DataplaneConfig.model_validate({**CONFIG, "spec": changed})


def translated(found: DataplaneConfig, *addresses: str) -> Translation:
    functions = functions_of({environment_name(CX6): ",".join(addresses)})
    return translate(found, (), None, functions)


def test_ports_have_the_functions_of_their_numbers() -> None:
    done = translated(config(0, 1), C, B, A)
    assert done.devices == {A: "uplink/uplink0", C: "a/vm0", B: "a/vm1"}
    assert done.problems == ()
    ports = {put.key: put.spec["devargs"] for put in done.objects if put.kind == "port"}
    assert ports == {"uplink/uplink0": A, "a/vm0": C, "a/vm1": B}


def test_a_port_without_its_function_is_left_out_alone() -> None:
    done = translated(config(0, 1), A, B)
    assert done.devices == {A: "uplink/uplink0", B: "a/vm0"}
    (problem,) = done.problems
    assert (problem.kind, problem.name, problem.reason) == ("Interface", "vm1", "DevicesMissing")
    assert f"needs 3 devices of {CX6}, and this pod has 2" in problem.message
    done = translated(config(0))
    assert [(each.kind, each.field, each.reason) for each in done.problems] == [
        ("Pipeline", "spec.uplinks[0].attachment", "DevicesMissing"),
        ("Interface", "spec.attachment", "DevicesMissing"),
    ]
    # Who compiled it knows of no functions, as on the command line.
    done = translated(config(uplink=None), A)
    assert [each.reason for each in done.problems] == ["AttachmentUnsupported"]


def test_an_uplink_that_comes_moves_no_interface() -> None:
    before = translated(config(0, 1), A, B, C).devices
    after = translated(config(0, 1), A, B, C, D).devices
    # A pod with another function is another pod; the Interfaces still count from its end.
    assert {port for port in before.values()} == {port for port in after.values()}
    assert after[D] == "a/vm0"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {"dev/vfio/vfio": "", "dev/vfio/21": "", "dev/vfio/22": ""}
    return node_tree.write(tmp_path, {**node_tree.good_node(), **files})


FIRST, SECOND = INTEL_VFS
GIVEN = {
    "PCIDEVICE_A": f"{FIRST},{SECOND}",
    "PCIDEVICE_A_INFO": info({FIRST: 21, SECOND: 22}),
    "PCIDEVICE_B": MELLANOX_VFS[0],
}


def move(tree: Path, address: str, group: int) -> None:
    link = tree / PCI / address / "iommu_group"
    link.unlink()
    node_tree.write_one(link, f"-> ../../../../kernel/iommu_groups/{group}")


def test_functions_with_their_device_nodes_have_no_fault(tree: Path) -> None:
    assert function_faults(functions_of(GIVEN), tree) == {}
    # Without an IOMMU the node has another name.
    (tree / "dev/vfio/21").rename(tree / "dev/vfio/noiommu-21")
    assert function_faults(functions_of(GIVEN), tree) == {}


def test_groups_that_have_other_numbers_are_named_old_and_new(tree: Path) -> None:
    move(tree, FIRST, 31)
    move(tree, SECOND, 32)
    faults = function_faults(functions_of(GIVEN), tree)
    assert {address: fault.reason for address, fault in faults.items()} == {
        FIRST: "DeviceNodeChanged",
        SECOND: "DeviceNodeChanged",
    }
    assert faults[FIRST].message == (
        f"{FIRST} is in IOMMU group 31 now, and this pod was made when it was in 21: only a new "
        "pod gets /dev/vfio/31"
    )


def test_groups_that_are_all_there_may_have_changed_places(tree: Path) -> None:
    move(tree, FIRST, 22)
    move(tree, SECOND, 21)
    assert function_faults(functions_of(GIVEN), tree) == {}


def test_a_device_node_that_never_was_is_missing(tree: Path) -> None:
    (tree / "dev/vfio/21").unlink()
    faults = function_faults(functions_of(GIVEN), tree)
    assert faults == {
        FIRST: Fault("DeviceNodeMissing", f"this pod has no /dev/vfio/21, for {FIRST}")
    }
    assert function_faults(functions_of({"PCIDEVICE_A": FIRST}), tree) == faults


def test_a_function_that_is_gone_is_named(tree: Path) -> None:
    faults = function_faults(functions_of({"PCIDEVICE_A": A}), tree)
    assert faults == {A: Fault("DeviceGone", f"the node has no PCI function {A} any more")}


def test_faults_are_those_of_ports() -> None:
    found = config(0)
    devices = translated(found, A, B, C).devices
    faults = {A: Fault("DeviceGone", "a"), C: Fault("DeviceNodeChanged", "c"), B: Fault("X", "b")}
    assert list(device_problems(found, devices, faults)) == [
        Problem("Pipeline", "", "router", "spec.uplinks[0].attachment", "DeviceGone", "a"),
        Problem("Interface", "a", "vm0", "spec.attachment", "DeviceNodeChanged", "c"),
    ]


def test_the_condition_of_devices_names_first_what_a_new_pod_mends() -> None:
    functions = Functions({environment_name(CX6): (A, B)})
    problems = [
        Problem("Interface", "a", "vm0", "", reason, message)
        for reason, message in (
            ("DevicesMissing", "too few"),
            ("AttachmentInvalid", "another matter"),
            ("DeviceNodeChanged", "another group"),
            ("DevicesMissing", "too few"),
        )
    ]
    found = devices_ready(functions, problems)
    assert found is not None
    assert found[1:] == (ConditionStatus.FALSE, "DeviceNodeChanged", "another group; too few")
    found = devices_ready(functions, ())
    assert found is not None
    assert found.status is ConditionStatus.TRUE
    assert devices_ready(Functions(), problems[1:2]) is None
    missing = devices_ready(Functions(), problems[:1])
    assert missing is not None
    assert missing.reason == "DevicesMissing"


MAPS = """\
00400000 default file=/usr/bin/headrace-engine mapped=12 N0=12 kernelpagesize_kB=4
100000000 default file=/memfd:huge\\040(deleted) huge dirty=100 N0=96 N1=4 kernelpagesize_kB=2048
140000000 default anon=3 dirty=3 N1=3 kernelpagesize_kB=4
150000000 default huge anon=1 dirty=1 N0=1 kernelpagesize_kB=2048
"""


def test_where_things_are_is_read(tree: Path) -> None:
    (tree / "proc/7").mkdir()
    (tree / "proc/7/numa_maps").write_text(MAPS)
    found = read(7, tree)
    assert {cpu for cpu, node in found.cpus.items() if node == 1} == {*range(4, 8), *range(12, 16)}
    assert (found.functions[FIRST], found.functions[MELLANOX_VFS[0]]) == (0, 1)
    assert found.hugepages == {0: 97, 1: 4}


def test_what_cannot_be_read_is_left_out(tree: Path) -> None:
    (tree / PCI / FIRST / "numa_node").write_text("-1")
    (tree / "sys/devices/system/node/node1/cpulist").write_text("4-x,--")
    found = read(8, tree)
    assert set(found.cpus.values()) == {0}
    assert FIRST not in found.functions
    assert found.hugepages == {}
    assert read(8, tree / "nothing") == Numa()


TWO_NODES = {0: 0, 1: 0, 2: 1, 3: 1}


@pytest.mark.parametrize(
    ("numa", "functions", "status", "reason", "said"),
    [
        (Numa(TWO_NODES, {A: 1, B: 1}, {1: 64}), [A, B], "True", "Aligned", "NUMA node 1"),
        (Numa({0: 0, 2: 0, 3: 0}, {}, {0: 1}), [A], "True", "OneNode", ""),
        (Numa(TWO_NODES, {}, {0: 64}), [A], "Unknown", "NodeUnknown", A),
        (Numa(TWO_NODES, {A: 0, B: 1}), [A, B], "False", "FunctionsApart", f"{A} on 0, {B} on 1"),
        (
            Numa(TWO_NODES, {A: 0}, {0: 60, 1: 4}),
            [A],
            "False",
            "NotAligned",
            f"NUMA node 0, where {A} are: worker 0 (CPU 2, node 1), worker 1 (CPU 3, node 1), "
            "4 of its hugepages (node 1)",
        ),
        # Of CPUs and functions that nobody knows nothing is said.
        (Numa({2: 1, 7: 0}, {A: 1}), [A, B], "True", "Aligned", ""),
    ],
)
def test_whether_all_is_on_the_node_of_the_functions(
    numa: Numa, functions: list[str], status: str, reason: str, said: str
) -> None:
    found = alignment(numa, functions, {0: 2, 1: 3})
    assert (found.type, found.status, found.reason) == ("NUMAAligned", status, reason)
    assert said in found.message
