# SPDX-License-Identifier: Apache-2.0
"""The device plugin beside a kubelet: whoever restarts, and whatever devices do meanwhile."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from hypothesis import given
from hypothesis import strategies as st

from headrace_dataplane.node.device_plugin import kubelet_api as api
from headrace_dataplane.node.device_plugin.allocation import PluginDevice, preferred
from headrace_dataplane.node.device_plugin.device_files import (
    DeviceFile,
    NoDeviceFilesError,
    device_files,
)
from headrace_dataplane.node.device_plugin.plugins import DevicePlugins
from headrace_dataplane.node.device_plugin.pod_resources import KubeletError, PodResources
from headrace_dataplane.node.device_plugin.protobuf import decode, encode
from tests.unit import node_tree
from tests.unit.fake_kubelet import FakeKubelet
from tests.unit.node_tree import INTEL_VFS, MELLANOX_VFS, PCI, Files

CX6, E810 = "headrace.dev/cx6", "intel.com/e810-vfs"
FIRST, SECOND = INTEL_VFS
DEVICES = PluginDevice(FIRST, 0), PluginDevice(SECOND, 0)

# What a ConnectX's VF has besides, as mlx5_ib makes it.
RDMA = {
    f"{PCI}/{MELLANOX_VFS[0]}/infiniband/mlx5_2/node_guid": "",
    f"{PCI}/{MELLANOX_VFS[0]}/infiniband_verbs/uverbs2/abi_version": "",
    f"{PCI}/{MELLANOX_VFS[0]}/infiniband_mad/umad2/port": "",
    f"{PCI}/{MELLANOX_VFS[0]}/infiniband_mad/issm2/port": "",
    "dev/infiniband/uverbs2": "",
    "dev/infiniband/umad2": "",
    "dev/infiniband/issm2": "",
    "dev/infiniband/rdma_cm": "",
}
VFIO = {"dev/vfio/vfio": "", "dev/vfio/21": "", "dev/vfio/22": ""}


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """Short, for sockets in it, whatever a test is called."""
    with TemporaryDirectory() as folder:
        yield Path(folder)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def tree(tmp_path: Path, files: Files | None = None) -> Path:
    """A machine with VFs, their device nodes, and what is given besides."""
    root = tmp_path / "root"
    return node_tree.write(root, {**node_tree.good_node(), **VFIO, **RDMA, **(files or {})})


@asynccontextmanager
async def running(plugins: DevicePlugins) -> AsyncIterator[None]:
    task = asyncio.create_task(plugins.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled(), task.exception()


@asynccontextmanager
async def site(tmp_path: Path) -> AsyncIterator[tuple[FakeKubelet, DevicePlugins]]:
    """A kubelet, and a plugin that asks it who has what."""
    kubelet = FakeKubelet(tmp_path / "device-plugins")
    await kubelet.start()
    plugins = plugins_of(kubelet, tmp_path)
    try:
        async with running(plugins):
            yield kubelet, plugins
    finally:
        await kubelet.stop()


def plugins_of(kubelet: FakeKubelet, tmp_path: Path) -> DevicePlugins:
    return DevicePlugins(
        kubelet.directory,
        root=tmp_path / "root",
        pod_resources=PodResources(kubelet.socket),
        retry_seconds=0.01,
    )


def test_of_each_container_that_wants_some_is_told(tmp_path: Path) -> None:
    tree(tmp_path)

    async def run() -> None:
        async with site(tmp_path) as (kubelet, plugins):
            told: list[str] = []
            plugins._changed = lambda: told.append("")
            plugins.set({E810: DEVICES})
            await until(lambda: kubelet.healthy(E810) == [FIRST, SECOND])
            before = len(told)
            await kubelet.allocate(E810, FIRST)
            assert len(told) > before
            with pytest.raises(GRPCError):
                await kubelet.allocate(E810, "0000:00:00.9")
            assert len(told) > before + 1

    asyncio.run(run())


def sockets(kubelet: FakeKubelet) -> list[str]:
    return sorted(each.name for each in kubelet.directory.glob("headrace-*"))


def test_the_kubelet_is_told_of_devices_and_of_each_change(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as (kubelet, plugins):
            plugins.set({E810: DEVICES})
            await until(lambda: kubelet.healthy(E810) == [FIRST, SECOND])
            assert kubelet.devices[E810] == (
                api.Device(FIRST, api.HEALTHY, api.TopologyInfo((api.NumaNode(0),))),
                api.Device(SECOND, api.HEALTHY, api.TopologyInfo((api.NumaNode(0),))),
            )
            plugins.set({E810: (DEVICES[0], PluginDevice(SECOND, None, healthy=False))})
            await until(lambda: kubelet.healthy(E810) == [FIRST])
            assert kubelet.devices[E810][1] == api.Device(SECOND, api.UNHEALTHY)
            plugins.set({E810: ()})
            await until(lambda: kubelet.devices[E810] == ())
            request = kubelet.registered[0]
            assert (request.version, request.resource_name) == ("v1beta1", E810)
            assert [request.endpoint] == sockets(kubelet)
            assert len(kubelet.registered) == 1
            assert plugins.problems == {}

    asyncio.run(run())


def test_each_resource_has_its_socket_and_takes_it_along(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as (kubelet, plugins):
            plugins.set({E810: DEVICES[:1], CX6: (PluginDevice(MELLANOX_VFS[0], 1),)})
            await until(lambda: len(kubelet.devices) == 2)
            assert len(sockets(kubelet)) == 2
            plugins.set({CX6: (PluginDevice(MELLANOX_VFS[0], 1),)})
            await until(lambda: kubelet.devices[E810] == ())
            await until(lambda: len(sockets(kubelet)) == 1)
            assert kubelet.healthy(CX6) == [MELLANOX_VFS[0]]
            # And comes again.
            plugins.set({E810: DEVICES[:1]})
            await until(lambda: kubelet.healthy(E810) == [FIRST])
        assert sockets(kubelet) == []

    asyncio.run(run())


def test_a_kubelet_that_restarts_finds_the_plugin(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as (kubelet, plugins):
            plugins.set({E810: DEVICES, CX6: (PluginDevice(MELLANOX_VFS[0], 1),)})
            await until(lambda: len(kubelet.devices) == 2)
            for number in (2, 3):
                await kubelet.stop()
                await kubelet.start()
                await until(lambda: kubelet.healthy(E810) == [FIRST, SECOND])
                await until(lambda: kubelet.healthy(CX6) == [MELLANOX_VFS[0]])
                assert len(kubelet.registered) == 2 * number

    asyncio.run(run())


def test_a_kubelet_that_comes_later_is_waited_for(tmp_path: Path) -> None:
    tree(tmp_path)
    directory = tmp_path / "device-plugins"

    async def run() -> None:
        kubelet = FakeKubelet(directory)
        plugins = plugins_of(kubelet, tmp_path)
        async with running(plugins):
            plugins.set({E810: DEVICES})
            await until(lambda: E810 in plugins.problems)
            assert plugins.problems[E810].reason == "KubeletUnreachable"
            assert str(directory) in plugins.problems[E810].message
            await kubelet.start()
            await until(lambda: kubelet.healthy(E810) == [FIRST, SECOND])
            await until(lambda: plugins.problems == {})
            await kubelet.stop()

    asyncio.run(run())


def test_a_kubelet_that_loses_the_plugin_gets_it_back(tmp_path: Path) -> None:
    """As the real one does when a plugin's former connection ends after it registered anew."""

    async def run() -> None:
        async with site(tmp_path) as (kubelet, plugins):
            plugins.set({E810: DEVICES})
            await until(lambda: kubelet.healthy(E810) == [FIRST, SECOND])
            kubelet.drop(E810)
            await until(lambda: len(kubelet.registered) == 2)
            await until(lambda: kubelet.healthy(E810) == [FIRST, SECOND])

    asyncio.run(run())


def test_a_plugin_that_was_killed_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    async def run() -> None:
        kubelet = FakeKubelet(tmp_path / "device-plugins")
        await kubelet.start()
        for name in ("headrace-0123456789abcdef.sock", "other.sock"):
            with socket.socket(socket.AF_UNIX) as killed:
                killed.bind(str(kubelet.directory / name))
        plugins = plugins_of(kubelet, tmp_path)
        async with running(plugins):
            plugins.set({E810: DEVICES})
            await until(lambda: kubelet.healthy(E810) == [FIRST, SECOND])
            assert sockets(kubelet) == [kubelet.registered[0].endpoint]
        assert (kubelet.directory / "other.sock").exists()
        await until(lambda: kubelet.healthy(E810) == [])
        # The next one, and the same socket.
        async with running(again := plugins_of(kubelet, tmp_path)):
            again.set({E810: DEVICES})
            await until(lambda: kubelet.healthy(E810) == [FIRST, SECOND])
        await kubelet.stop()

    asyncio.run(run())


@pytest.mark.parametrize("how", ["refuses", "does not watch"])
def test_registering_is_tried_until_it_works(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace_dataplane.node.device_plugin.plugins._WATCH_SECONDS", 0.05)

    async def run() -> None:
        async with site(tmp_path) as (kubelet, plugins):
            kubelet.refuses = "the ResourceName is invalid" if how == "refuses" else ""
            kubelet.watches = how == "refuses"
            plugins.set({E810: DEVICES})
            await until(lambda: len(kubelet.registered) >= 3)
            expected = "the ResourceName is invalid" if how == "refuses" else "does not ask"
            assert expected in plugins.problems[E810].message
            kubelet.refuses, kubelet.watches = "", True
            await until(lambda: kubelet.healthy(E810) == [FIRST, SECOND])
            await until(lambda: plugins.problems == {})

    asyncio.run(run())


def test_a_resource_that_another_plugin_gives_out_stays_that_plugins(tmp_path: Path) -> None:
    async def run() -> None:
        async with site(tmp_path) as (kubelet, plugins):
            theirs = api.ContainerDevices(E810, ("0000:af:02.0",))
            kubelet.others = api.AllocatableResourcesResponse((theirs,))
            plugins.set({E810: DEVICES, CX6: (PluginDevice(MELLANOX_VFS[0], 1),)})
            await until(lambda: E810 in plugins.problems)
            await until(lambda: kubelet.healthy(CX6) == [MELLANOX_VFS[0]])
            problem = plugins.problems[E810]
            assert problem.reason == "ResourceTaken"
            assert "0000:af:02.0" in problem.message
            assert [each.resource_name for each in kubelet.registered] == [CX6]
            # That plugin ends.
            kubelet.others = api.AllocatableResourcesResponse()
            await until(lambda: kubelet.healthy(E810) == [FIRST, SECOND])
            await until(lambda: plugins.problems == {})

    asyncio.run(run())


def test_a_container_gets_nodes_and_words_as_from_the_sriov_plugin(tmp_path: Path) -> None:
    root = tree(tmp_path)

    async def run() -> None:
        async with site(tmp_path) as (kubelet, plugins):
            plugins.set({E810: DEVICES, CX6: (PluginDevice(MELLANOX_VFS[0], 1),)})
            await until(lambda: len(kubelet.devices) == 2)
            given = await kubelet.allocate(E810, SECOND, FIRST)
            assert given.devices == tuple(
                api.DeviceSpec(path, f"{root}{path}", "rw")
                for path in ("/dev/vfio/vfio", "/dev/vfio/21", "/dev/vfio/22")
            )
            name = "PCIDEVICE_INTEL_COM_E810-VFS"
            assert given.envs[name] == f"{FIRST},{SECOND}"
            assert json.loads(given.envs[f"{name}_INFO"]) == {
                address: {
                    "generic": {"deviceID": address},
                    "vfio": {"mount": "/dev/vfio/vfio", "dev-mount": f"/dev/vfio/{group}"},
                }
                for address, group in ((FIRST, 21), (SECOND, 22))
            }
            given = await kubelet.allocate(CX6, MELLANOX_VFS[0])
            assert {each.container_path for each in given.devices} == {
                "/dev/infiniband/uverbs2",
                "/dev/infiniband/umad2",
                "/dev/infiniband/issm2",
                "/dev/infiniband/rdma_cm",
            }
            assert json.loads(given.envs["PCIDEVICE_HEADRACE_DEV_CX6_INFO"]) == {
                MELLANOX_VFS[0]: {
                    "generic": {"deviceID": MELLANOX_VFS[0]},
                    "rdma": {
                        "uverbs": "/dev/infiniband/uverbs2",
                        "umad": "/dev/infiniband/umad2",
                        "issm": "/dev/infiniband/issm2",
                        "rdma_cm": "/dev/infiniband/rdma_cm",
                        "rdma_dev": "mlx5_2",
                    },
                }
            }

    asyncio.run(run())


def test_the_group_is_that_of_the_moment(tmp_path: Path) -> None:
    root = tree(tmp_path, {"dev/vfio/77": ""})

    async def run() -> None:
        async with site(tmp_path) as (kubelet, plugins):
            plugins.set({E810: DEVICES})
            await until(lambda: kubelet.healthy(E810) == [FIRST, SECOND])
            link = root / PCI / FIRST / "iommu_group"
            link.unlink()
            node_tree.write_one(link, "-> ../../../../kernel/iommu_groups/77")
            given = await kubelet.allocate(E810, FIRST)
            assert given.devices[1].container_path == "/dev/vfio/77"

    asyncio.run(run())


def test_what_cannot_be_given_is_refused_in_words(tmp_path: Path) -> None:
    root = tree(tmp_path)

    async def run() -> None:
        async with site(tmp_path) as (kubelet, plugins):
            plugins.set({E810: DEVICES})
            await until(lambda: kubelet.healthy(E810) == [FIRST, SECOND])
            with pytest.raises(GRPCError) as unknown:
                await kubelet.allocate(E810, "0000:00:00.9", FIRST)
            assert unknown.value.status is Status.NOT_FOUND
            assert unknown.value.message == (
                f"{E810} has no device 0000:00:00.9: it has {FIRST}, {SECOND}"
            )
            (root / "dev/vfio/21").unlink()
            with pytest.raises(GRPCError) as missing:
                await kubelet.allocate(E810, FIRST)
            assert missing.value.message == f"{E810}: {FIRST} has no device node /dev/vfio/21"
            # Others are served.
            await kubelet.allocate(E810, SECOND)
            # What is another's yet goes to nobody, and is not chosen.
            plugins.set({E810: (DEVICES[0], replace(DEVICES[1], reserved=True))})
            with pytest.raises(GRPCError) as reserved:
                await kubelet.allocate(E810, SECOND)
            assert f"{SECOND} is being taken out of a VLAN" in str(reserved.value.message)
            assert await kubelet.preferred(E810, [SECOND], 1) == []
            plugins.set({E810: DEVICES})
            await kubelet.allocate(E810, SECOND)
            assert await kubelet.preferred(E810, [SECOND, FIRST], 1) == [FIRST]

    asyncio.run(run())


def test_who_has_a_device_is_known_by_its_pod(tmp_path: Path) -> None:
    def container(resource: str, *ids: str) -> api.ContainerResources:
        return api.ContainerResources("c", (api.ContainerDevices(resource, ids),))

    async def run() -> None:
        async with site(tmp_path) as (kubelet, _):
            kubelet.pods = api.ListPodResourcesResponse(
                (
                    api.PodResources("a", "blue", (container(E810, FIRST), container(CX6, "x"))),
                    api.PodResources("b", "red", (container(E810, FIRST),)),
                    api.PodResources("c", "red"),
                )
            )
            users = await PodResources(kubelet.socket).users()
            assert users == {FIRST: ("blue/a", "red/b"), "x": ("blue/a",)}
        with pytest.raises(KubeletError, match=str(kubelet.socket)):
            await PodResources(kubelet.socket).users()

    asyncio.run(run())


def test_without_an_iommu_the_node_has_another_name_on_the_machine(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {"sys/kernel/iommu_groups/21/name": "vfio-noiommu\n", "dev/vfio/noiommu-21": ""},
    )
    assert device_files(root, FIRST).files == (
        DeviceFile(f"{root}/dev/vfio/vfio", "/dev/vfio/vfio"),
        DeviceFile(f"{root}/dev/vfio/noiommu-21", "/dev/vfio/21"),
    )


def test_a_kernel_device_without_rdma_needs_no_node(tmp_path: Path) -> None:
    given = device_files(tree(tmp_path), MELLANOX_VFS[1])
    assert given.files == ()
    assert given.info == {"generic": {"deviceID": MELLANOX_VFS[1]}}


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (None, f"{FIRST} is in no IOMMU group"),
        ("../../../../../etc/shadow", f"{FIRST} is in no IOMMU group"),
        ("../../../../kernel/iommu_groups/23", f"{FIRST} has no device node /dev/vfio/23"),
    ],
)
def test_a_function_without_its_node_is_refused(
    tmp_path: Path, target: str | None, said: str
) -> None:
    link = tree(tmp_path) / PCI / FIRST / "iommu_group"
    link.unlink()
    if target is not None:
        node_tree.write_one(link, f"-> {target}")
    with pytest.raises(NoDeviceFilesError, match=f"^{said}$"):
        device_files(tmp_path / "root", FIRST)


def test_a_function_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoDeviceFilesError, match=r"^there is no PCI function 0000:00:00\.9$"):
        device_files(tree(tmp_path), "0000:00:00.9")


PREFERRED = (
    PluginDevice("0000:3b:02.0", 0),
    PluginDevice("0000:3b:02.1", 0),
    PluginDevice("0000:3c:02.0", 0),
    PluginDevice("0000:86:02.0", 1),
    PluginDevice("0000:86:02.1", 1),
    PluginDevice("0000:ff:00.0", None),
)
EVERY = tuple(device.address for device in PREFERRED)


@pytest.mark.parametrize(
    ("must", "size", "expected"),
    [
        ((), 0, ()),
        ((), -1, ()),
        # The smallest node that is enough: the other stays whole.
        ((), 1, ("0000:86:02.0",)),
        ((), 2, ("0000:86:02.0", "0000:86:02.1")),
        # Across PFs of one node, by address.
        ((), 3, ("0000:3b:02.0", "0000:3b:02.1", "0000:3c:02.0")),
        # No node is enough: the largest, then the next.
        ((), 4, ("0000:3b:02.0", "0000:3b:02.1", "0000:3c:02.0", "0000:86:02.0")),
        # Where the first one is, be others.
        (("0000:3c:02.0",), 2, ("0000:3c:02.0", "0000:3b:02.0")),
        (("0000:3c:02.0",), 4, ("0000:3c:02.0", "0000:3b:02.0", "0000:3b:02.1", "0000:86:02.0")),
        # Those of no known node come last.
        ((), 6, ("0000:3b:02.0", "0000:3b:02.1", "0000:3c:02.0", *EVERY[3:5], EVERY[5])),
        # Asked for less than must be, or for more than there is.
        (EVERY[:2], 1, EVERY[:1]),
        ((), 9, EVERY),
    ],
)
def test_devices_of_one_numa_node_are_preferred(
    must: tuple[str, ...], size: int, expected: tuple[str, ...]
) -> None:
    assert preferred(PREFERRED, EVERY, must, size) == expected


@given(
    st.lists(st.sampled_from([*EVERY, "unknown"]), unique=True),
    st.lists(st.sampled_from([*EVERY, "unknown"]), unique=True),
    st.integers(-3, 9),
)
def test_what_is_preferred_is_available_and_no_more_than_asked(
    available: list[str], must: list[str], size: int
) -> None:
    found = preferred(PREFERRED, available, must, size)
    assert len(set(found)) == len(found)
    assert set(found) <= set(available) | set(must)
    assert len(found) == max(0, min(size, len(set(available) | set(must))))
    assert set(must) <= set(found) or len(must) > size


WIRE = [
    (
        api.ListAndWatchResponse(
            (
                # NUMA node 0 is a node whose ID is left out.
                api.Device("a", "Healthy", api.TopologyInfo((api.NumaNode(0),))),
                api.Device("b", "Unhealthy"),
            )
        ),
        b"\n\x10\n\x01a\x12\x07Healthy\x1a\x02\n\x00\n\x0e\n\x01b\x12\tUnhealthy",
    ),
    (
        api.AllocateResponse(
            (api.ContainerAllocateResponse({"K": "v"}, (api.DeviceSpec("/c", "/h", "rw"),)),)
        ),
        b"\n\x16\n\x06\n\x01K\x12\x01v\x1a\x0c\n\x02/c\x12\x02/h\x1a\x02rw",
    ),
    (
        api.PreferredAllocationRequest(
            (api.ContainerPreferredAllocationRequest(("a",), ("b",), 2),)
        ),
        b"\n\x08\n\x01a\x12\x01b\x18\x02",
    ),
    (
        api.RegisterRequest("v1beta1", "e", "r", api.DevicePluginOptions(False, True)),
        b'\n\x07v1beta1\x12\x01e\x1a\x01r"\x02\x10\x01',
    ),
]


@pytest.mark.parametrize(("said", "wire"), WIRE)
def test_messages_are_those_of_the_kubelet(said: object, wire: bytes) -> None:
    """Byte for byte, as k8s.io/kubelet 0.36.3 writes them."""
    assert encode(said) == wire
    assert decode(wire, type(said)) == said


def test_what_the_kubelet_says_besides_is_passed_over() -> None:
    """As k8s.io/kubelet 0.36.3 writes it, with the CPUs of a container and of the node."""
    wire = b"\n\x17\n\x01n\x12\x01s\x1a\x0f\n\x01c\x12\x06\n\x01r\x12\x01a\x1a\x02\x01\x02"
    container = api.ContainerResources("c", (api.ContainerDevices("r", ("a",)),))
    assert decode(wire, api.ListPodResourcesResponse) == api.ListPodResourcesResponse(
        (api.PodResources("n", "s", (container,)),)
    )
    wire = b"\n\t\n\x01r\x12\x01a\x12\x01b\x12\x01\x01"
    assert decode(wire, api.AllocatableResourcesResponse) == api.AllocatableResourcesResponse(
        (api.ContainerDevices("r", ("a", "b")),)
    )


@given(st.binary(max_size=64))
def test_nonsense_is_no_message(data: bytes) -> None:
    for kind in (api.ListAndWatchResponse, api.AllocateRequest, api.ListPodResourcesResponse):
        try:
            read = decode(data, kind)
        except ValueError:
            continue
        assert decode(encode(read), kind) == read
