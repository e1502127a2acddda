# SPDX-License-Identifier: Apache-2.0
"""The node agent and its NodeState: what is wanted comes to be, and the status says the truth."""

import asyncio
import contextlib
import errno
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from headrace_api.node_facts import NodeFacts
from headrace_api.node_state import NodeStateStatus, PolicyState
from headrace_dataplane import status_writer
from headrace_dataplane.node.cards import Cards
from headrace_dataplane.node.device_plugin.allocation import PluginDevice
from headrace_dataplane.node.device_plugin.plugins import Problem
from headrace_dataplane.node.sriov.desired import VF
from headrace_dataplane.node.state import NodeStateAgent, Pace
from headrace_dataplane.node.traffic import NodeAddresses
from headrace_kube import NODE_STATES, Event, Kind, Listing
from tests.unit.fake_api import FakeApi, refuse
from tests.unit.sriov_kernel import PF, Bnxt, Igb, Ixgbe, Kernel, Killed, NoSRIOV, make_pf

PF0, PF1 = "0000:01:00.0", "0000:02:00.0"
PATH = NODE_STATES.path("", "node-a")
NUMVFS = f"bus/pci/devices/{PF0}/sriov_numvfs"
VF_RESOURCE = "headrace.dev/vf"
SOON = Pace(
    quiet=0.001, least=0.001, slow=60, retry=(0.01, 0.02), in_use=0.01, absent=60, ready=60, leave=0
)
NEVER_AGAIN = Pace(quiet=0.001, least=0.001, slow=60, retry=(60, 60), in_use=60, ready=60, leave=0)


def asynchronous(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run it in an event loop."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_writer, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(status_writer, "jittered", lambda _: 0.001)


class Server(FakeApi):
    """An API server that has NodeStates, and tells who watches."""

    def __init__(self) -> None:
        super().__init__()
        self.events: asyncio.Queue[Event] = asyncio.Queue()

    def put(self, *policies: dict[str, Any], **spec: Any) -> None:
        """Have this wanted."""
        before: Any = self.objects.get(PATH, {"metadata": {"generation": 0}})
        self._version += 1
        metadata = {
            "name": "node-a",
            "uid": "1",
            "resourceVersion": str(self._version),
            "generation": before["metadata"]["generation"] + 1,
        }
        wanted = {"nodeName": "node-a", "policies": [*policies], **spec}
        self.objects[PATH] = {**before, "metadata": metadata, "spec": wanted}
        self.events.put_nowait(Event("MODIFIED", self.objects[PATH]))

    async def list(
        self, kind: Kind, namespace: str = "", labels: str = "", fields: str = ""
    ) -> Listing:
        assert (kind, namespace, fields) == (NODE_STATES, "", "metadata.name=node-a")
        trouble = self.fault("LIST", PATH)
        if trouble is not None:
            await trouble
        found = self.objects.get(PATH)
        return Listing([found] if found else [], str(self._version))

    async def watch(self, kind: Kind, *_: object, **more: Any) -> AsyncIterator[Event]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(more["seconds"]):
                while True:
                    yield await self.events.get()

    @property
    def status(self) -> NodeStateStatus:
        return NodeStateStatus.model_validate(self.objects.get(PATH, {}).get("status") or {})

    def policy(self, name: str = "p") -> PolicyState | None:
        return next((each for each in self.status.policies if each.name == name), None)


@dataclass
class Plugins:
    given: dict[str, tuple[PluginDevice, ...]] = field(default_factory=dict)
    problems: dict[str, Problem] = field(default_factory=dict)

    def set(self, resources: Any) -> None:
        self.given = dict(resources)

    def healthy(self) -> int:
        return sum(each.healthy for each in self.given.get(VF_RESOURCE, ()))


@dataclass
class Machine:
    """What is read of the node besides its cards."""

    addresses: NodeAddresses
    faults: dict[str, str] = field(default_factory=dict)

    async def ask_users(self) -> bool:
        await asyncio.sleep(0)
        return True

    def read(self) -> tuple[NodeFacts, NodeAddresses]:
        return NodeFacts(), self.addresses

    def fault(self, address: str, want: VF, *, used: bool) -> str:
        assert want.driver is not None
        return self.faults.get(address, "")


@dataclass
class Node:
    api: Server
    kernel: Kernel
    agent: NodeStateAgent
    machine: Machine
    plugins: Plugins
    ready: list[str]
    life: asyncio.Task[None] | None = None

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                if self.life is not None and self.life.done():
                    await self.life
                await asyncio.sleep(0.002)

    async def look_again(self) -> None:
        """Have it look as if the kernel had told of something, and wait until it has done so."""
        for _ in range(2):
            before = self.agent._facts
            self.agent.changed()
            await self.until(lambda: self.agent._facts is not before)  # noqa: B023

    async def until_policy(self, reason: str, name: str = "p") -> PolicyState:
        """Wait until that came of a policy at its generation."""

        def holds() -> bool:
            found = self.api.policy(name)
            current = self.api.status.observed_generation
            wanted = self.api.objects[PATH]["metadata"]["generation"]
            return found is not None and (current, found.reason) == (wanted, reason)

        await self.until(holds)
        found = self.api.policy(name)
        assert found is not None
        return found


def node(
    kernel: Kernel,
    folder: Path,
    api: Server | None = None,
    pace: Pace = SOON,
    addresses: NodeAddresses | None = None,
) -> Node:
    api, plugins, ready = api or Server(), Plugins(), list[str]()
    kernel.touch()
    cards = Cards(kernel, kernel, kernel.users, folder, kernel)
    machine = Machine(addresses or NodeAddresses())
    agent = NodeStateAgent(
        api,
        "node-a",
        cards,
        machine,
        plugins,
        lambda: ready.append("ready"),
        pace,
    )
    return Node(api, kernel, agent, machine, plugins, ready)


@asynccontextmanager
async def running(of: Node) -> AsyncIterator[Node]:
    of.life = asyncio.create_task(of.agent.run())
    try:
        yield of
    finally:
        of.life.cancel()
        await asyncio.wait((of.life,))


def policy(name: str = "p", vfs: int = 2, **more: Any) -> dict[str, Any]:
    selector = more.pop("names", ["eth0"])
    more.setdefault("resourceName", VF_RESOURCE)
    return {"name": name, "nicSelector": {"names": selector}, "vfs": vfs, "generation": 1, **more}


def drivers(pf: PF) -> list[str]:
    return [vf.driver for vf in pf.vfs]


@asynchronous
async def test_vfs_are_made_reported_and_given_out(tmp_path: Path) -> None:
    pf = make_pf(Igb())
    async with running(node(Kernel(pf), tmp_path)) as here:
        here.api.put(policy(settings={"vlan": 7}))
        found = await here.until_policy("")
        assert (found.ready, found.vfs, found.pci_addresses) == (True, 2, (PF0,))
        assert drivers(pf) == ["vfio-pci", "vfio-pci"]
        assert [vf.vlan for vf in pf.vfs] == [7, 7]
        await here.until(lambda: here.plugins.healthy() == 2)
        await here.until(lambda: here.ready)
        (resource,) = here.api.status.resources
        assert (resource.name, resource.devices, resource.healthy) == (VF_RESOURCE, 2, 2)
        ready = here.api.status.conditions[0]
        assert (ready.type, ready.status) == ("Ready", "True")
        # What nobody selects any more stays as it is, and is nobody's.
        here.api.put()
        await here.until(lambda: here.api.status.observed_generation == 2)
        await here.until(lambda: not here.api.status.policies)
        assert here.plugins.given == {}
        assert drivers(pf) == ["vfio-pci", "vfio-pci"]


@asynchronous
async def test_a_vf_that_does_not_work_is_given_to_nobody(tmp_path: Path) -> None:
    pf = make_pf(Igb())
    async with running(node(Kernel(pf), tmp_path)) as here:
        here.api.put(policy())
        await here.until(lambda: here.plugins.healthy() == 2)
        bad = pf.vfs[1].address
        fault = f"/dev/vfio/31 of {bad} does not open"
        here.machine.faults[bad] = fault
        here.plugins.problems[VF_RESOURCE] = Problem("ResourceTaken", "another gives it out")
        here.agent.changed()
        await here.until(lambda: any(fault in each.message for each in here.api.status.checks))
        assert here.plugins.healthy() == 1
        (check,) = (each for each in here.api.status.checks if each.name == "resources")
        assert (check.verdict, check.subject) == ("Warn", "DevicesReady")
        assert "another gives it out" in check.message
        # It is as it is wanted all the same.
        assert (await here.until_policy("")).vfs == 2


@asynchronous
async def test_nothing_is_written_twice(tmp_path: Path) -> None:
    kernel = Kernel(make_pf(Igb()))
    async with running(node(kernel, tmp_path)) as here:
        here.api.put(policy())
        await here.until_policy("")
        await here.until(lambda: here.plugins.healthy() == 2)
        await here.until(lambda: here.ready)
        written, told = len(kernel.attempts), len(here.api.begun)
        for _ in range(5):
            await here.look_again()
        assert len(kernel.attempts) == written
        assert len(here.api.begun) == told


@asynchronous
async def test_a_driver_that_is_reloaded_has_its_vfs_again(tmp_path: Path) -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    async with running(node(kernel, tmp_path)) as here:
        here.api.put(policy())
        await here.until_policy("")
        kernel.reload(PF0, 0.05)
        here.agent.changed()
        # Its network device, by which it is selected, is away meanwhile.
        await here.until_policy("NoDevice")
        kernel.sleep(0.1)
        here.agent.changed()
        await here.until_policy("")
        assert drivers(pf) == ["vfio-pci", "vfio-pci"]


@asynchronous
async def test_an_agent_that_starts_after_a_reboot_makes_them_again(tmp_path: Path) -> None:
    api = Server()
    for _ in range(2):
        pf = make_pf(Igb())
        async with running(node(Kernel(pf), tmp_path, api)) as here:
            api.put(policy())
            await here.until(lambda: drivers(pf) == ["vfio-pci", "vfio-pci"])  # noqa: B023
            await here.until_policy("")


@asynchronous
async def test_vfs_in_use_are_waited_for_without_a_hand(tmp_path: Path) -> None:
    pf = make_pf(Igb())
    async with running(node(Kernel(pf), tmp_path)) as here:
        here.api.put(policy())
        await here.until_policy("")
        pf.vfs[1].held = "shop/web"
        here.api.put(policy(vfs=3))
        found = await here.until_policy("VFsInUse")
        assert "shop/web" in found.message
        assert len(pf.vfs) == 2
        pf.vfs[1].held = ""
        await here.until_policy("")
        assert len(pf.vfs) == 3


@asynchronous
async def test_conflicts_touch_nothing_and_another_card_goes_on(tmp_path: Path) -> None:
    one, two = make_pf(Igb(), 0), make_pf(Ixgbe(), 1)
    kernel = Kernel(one, two)
    async with running(node(kernel, tmp_path)) as here:
        here.api.put(policy("a"), policy("b", 3), policy("c", names=["eth1"]))
        await here.until_policy("", "c")
        for name in "ab":
            await here.until_policy("PolicyConflict", name)
        assert one.vfs == []
        assert not any("0000:01:" in line or "eth0" in line for line in kernel.attempts)
        await here.until(lambda: here.ready)


@pytest.mark.parametrize("how", ["route", "address", "API server"])
@asynchronous
async def test_the_nodes_uplink_is_never_touched(how: str, tmp_path: Path) -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    if how == "address":
        kernel.node_addresses = [(pf.netdev.index, "192.0.2.1")]
    elif how == "API server":
        kernel.routed["192.0.2.9"] = pf.netdev.index
    else:
        kernel.default_route = pf.netdev.index
    addresses = NodeAddresses(frozenset({"192.0.2.1"}), ("192.0.2.9",))
    async with running(node(kernel, tmp_path, addresses=addresses)) as here:
        here.api.put(policy())
        await here.until_policy("NodeUplink")
        assert kernel.attempts == []
        assert here.plugins.given == {VF_RESOURCE: ()}
        assert [*tmp_path.iterdir()] == []


def refused(begins: str, number: int) -> Callable[[Kernel], None]:
    def fail(kernel: Kernel) -> None:
        kernel.failures.append((begins, 1000, number))

    return fail


def read_only(kernel: Kernel) -> None:
    kernel.read_only = True


def without(name: str) -> Callable[[Kernel], None]:
    def change(kernel: Kernel) -> None:
        kernel.pfs[PF0].missing = frozenset({name})

    return change


def no_netdev(kernel: Kernel) -> None:
    kernel.pfs[PF0].vfs_show_netdev = False


def hidden(kernel: Kernel) -> None:
    kernel.pfs[PF0].hidden_links = 1


def no_iommu(kernel: Kernel) -> None:
    kernel.iommu = False


def no_vfio(kernel: Kernel) -> None:
    kernel.modules.discard("vfio-pci")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (read_only, "ReadOnlySysfs"),
        (refused("sriov_numvfs", errno.EBUSY), "DeviceBusy"),
        (refused("sriov_numvfs", errno.EPERM), "NumVFsRefused"),
        (refused("sriov_numvfs", errno.ENOMEM), "NotEnoughMMIO"),
        (refused("'mac'", errno.EACCES), "PermissionDenied"),
        (refused("drivers_probe", errno.EINVAL), "BindFailed"),
        (without("sriov_numvfs"), "MissingAttribute"),
        (without("sriov_totalvfs"), "NoSRIOV"),
        (without("driver_override"), "MissingAttribute"),
        (no_netdev, "VFNetdevMissing"),
        (hidden, "VFLinksMissing"),
        (no_iommu, "IOMMUOff"),
        (no_vfio, "DriverNotLoaded"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
@asynchronous
async def test_each_fault_is_a_named_condition(
    fault: Callable[[Kernel], None], reason: str, tmp_path: Path
) -> None:
    kernel = Kernel(make_pf(Igb()))
    fault(kernel)
    async with running(node(kernel, tmp_path, pace=NEVER_AGAIN)) as here:
        here.api.put(policy())
        found = await here.until_policy(reason)
        assert not found.ready
        assert PF0 in found.message
        assert here.plugins.healthy() == 0
        ready = here.api.status.conditions[0]
        assert (ready.status, ready.reason) == ("False", reason)
        assert found.message in ready.message


@pytest.mark.parametrize(
    ("driver", "more", "reason"),
    [
        (NoSRIOV(), {}, "DriverWithoutSRIOV"),
        (Bnxt(limit=1), {}, "FewerVFs"),
        (Igb(), {"vfs": 8}, "NumVFsAboveTotal"),
        (Igb(), {"settings": {"linkState": "Enable"}}, "SettingUnsupported"),
        (Igb(), {"names": ["eth0#0-5"]}, "PolicyInvalid"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
@asynchronous
async def test_what_a_card_cannot_is_said_and_not_tried_again(
    driver: Any, more: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    kernel = Kernel(make_pf(driver))
    async with running(node(kernel, tmp_path)) as here:
        here.api.put(policy(**more))
        await here.until_policy(reason)
        await here.until(lambda: here.ready)
        written = len(kernel.attempts)
        await here.look_again()
        assert len(kernel.attempts) == written
        # Another wish is another matter.
        here.api.put(policy(vfs=0))
        await here.until_policy("")


@asynchronous
async def test_what_was_busy_is_tried_again_by_itself(tmp_path: Path) -> None:
    kernel = Kernel(make_pf(Igb()))
    kernel.failures.append(("sriov_numvfs", 1000, errno.EBUSY))
    async with running(node(kernel, tmp_path)) as here:
        here.api.put(policy())
        await here.until_policy("DeviceBusy")
        # Pods may start without only after a while: it may be well before that.
        assert here.ready == []
        kernel.failures.clear()
        await here.until_policy("")
        await here.until(lambda: here.ready)


@asynchronous
async def test_pods_start_after_a_while_whatever_is_with_the_cards(tmp_path: Path) -> None:
    kernel = Kernel(make_pf(Igb()))
    kernel.failures.append(("sriov_numvfs", 100000, errno.EBUSY))
    pace = Pace(quiet=0, least=0, retry=(0.01, 0.01), ready=0.1)
    async with running(node(kernel, tmp_path, pace=pace)) as here:
        here.api.put(policy())
        await here.until(lambda: here.ready)
    # And where there is no operator to say what is wanted.
    pace = Pace(quiet=0, least=0, absent=0.05)
    async with running(node(kernel, tmp_path, pace=pace)) as here:
        await here.until(lambda: here.ready)


@asynchronous
async def test_what_somebody_else_makes_is_not_put_back(tmp_path: Path) -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    kernel.replace_vfs(pf, 2)
    kernel.sleep(1)
    async with running(node(kernel, tmp_path)) as here:
        here.api.put(policy(externallyManaged=True))
        await here.until_policy("")
        assert drivers(pf) == ["vfio-pci", "vfio-pci"]
    await node(kernel, tmp_path).agent.put_back()
    assert drivers(pf) == ["vfio-pci", "vfio-pci"]


@asynchronous
async def test_a_nodestate_that_comes_late_is_waited_for_no_less(tmp_path: Path) -> None:
    kernel = Kernel(make_pf(Igb()))
    kernel.failures.append(("sriov_numvfs", 100000, errno.EBUSY))
    pace = Pace(quiet=0, least=0, retry=(0.01, 0.01), absent=0.05, ready=60)
    async with running(node(kernel, tmp_path, pace=pace)) as here:
        await here.until(lambda: here.agent._absent is not None)
        here.api.put(policy())
        await here.until_policy("DeviceBusy")
        assert here.agent._absent is None
        assert not here.agent._settled.is_set()
        assert here.ready == []


@asynchronous
async def test_the_api_server_may_be_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pf = make_pf(Igb())
    here = node(Kernel(pf), tmp_path)
    away = True

    def fault(method: str, _: str) -> Any:
        return refuse(0, "connection refused") if away and method == "PATCH" else None

    async with running(here):
        here.api.put(policy())
        here.api.fault = fault
        await here.until(lambda: drivers(pf) == ["vfio-pci", "vfio-pci"])
        await here.until(lambda: "connection refused" in caplog.text)
        assert here.api.status.policies == ()
        away = False
        found = await here.until_policy("")
        assert found.ready


@asynchronous
async def test_another_wish_interrupts_what_is_being_done(tmp_path: Path) -> None:
    """With the machine's own clock: the first wish waits for what never comes."""
    pf = make_pf(Igb(), vfs_show_netdev=False)
    kernel = Kernel(pf)
    here = node(kernel, tmp_path)
    here.agent._cards = Cards(kernel, kernel, kernel.users, tmp_path)
    async with running(here):
        here.api.put(policy(driver="Kernel"))
        found = await here.until_policy("InProgress")
        await here.until(lambda: "waiting for" in str(here.api.policy()))
        assert not found.ready
        here.api.put()
        await here.until(lambda: here.api.status.observed_generation == 2)
        await here.until(lambda: not here.agent._by_address)
        assert len(pf.vfs) == 2


@asynchronous
async def test_nothing_is_said_of_a_wish_that_came_while_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = node(Kernel(make_pf(Igb())), tmp_path, pace=NEVER_AGAIN)
    async with running(here):
        here.api.put(policy())
        assert (await here.until_policy("")).vfs == 2
        said: list[NodeStateStatus] = []
        monkeypatch.setattr(here.agent._writer, "report", said.append)
        looks, seen = threading.Event(), threading.Event()

        def fault(*_: object, **__: object) -> str:
            looks.set()
            assert seen.wait(20)
            return ""

        monkeypatch.setattr(here.machine, "fault", fault)
        here.agent.changed()
        await here.until(looks.is_set)
        here.api.put(policy(vfs=3, generation=2))
        await here.until(lambda: here.agent._state and here.agent._state.metadata.generation == 2)
        seen.set()
        await here.until(lambda: said and said[-1].policies[0].vfs == 3)
    found = [(each.observed_generation, each.policies[0]) for each in said]
    ready = [(whole, each.observed_generation, each.vfs) for whole, each in found if each.ready]
    # What is said again is no news.
    assert list(dict.fromkeys(ready)) == [(1, 1, 2), (2, 2, 3)]


@asynchronous
async def test_killed_anywhere_the_next_agent_ends_the_same(tmp_path: Path) -> None:
    points = 0
    while True:
        points += 1
        pf, api = make_pf(Igb()), Server()
        kernel, folder = Kernel(pf), tmp_path / str(points)
        kernel.replace_vfs(pf, 3)
        kernel.sleep(1)
        kernel.killed_after = kernel._points + points
        api.put(policy(mtu=9000, settings={"vlan": 7, "trust": True}))
        here = node(kernel, folder, api)
        killed = False
        try:
            async with running(here):
                await here.until_policy("")
        except* Killed:
            killed = True
        assert killed or drivers(pf) == ["vfio-pci"] * 2
        kernel.killed_after = None
        claimed = api.policy()
        if killed:
            # Whoever was killed has not said that all is well.
            assert claimed is None or not claimed.ready
        async with running(node(kernel, folder, api)) as here:
            await here.until_policy("")
            assert drivers(pf) == ["vfio-pci"] * 2
            assert [(vf.vlan, vf.trust) for vf in pf.vfs] == [(7, True)] * 2
            assert pf.netdev.mtu == 9000
            plugins = here.plugins
            await here.until(lambda: plugins.healthy() == 2)  # noqa: B023
        # What was found is what was there before the first of them.
        await node(kernel, folder).agent.put_back()
        assert (len(pf.vfs), pf.netdev.mtu, drivers(pf)) == (3, 1500, ["igbvf"] * 3)
        assert [*folder.iterdir()] == []
        if not killed:
            break
    assert points > 10


@asynchronous
async def test_what_was_found_is_put_back_when_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    async with running(node(kernel, tmp_path)) as here:
        here.api.put(policy())
        await here.until_policy("")
    pf.vfs[0].held = "shop/web"
    await node(kernel, tmp_path).agent.put_back()
    assert len(pf.vfs) == 2
    assert len([*tmp_path.iterdir()]) == 1
    last = node(kernel, tmp_path)

    async def ask_users() -> bool:
        """The pod has ended, as the kubelet says when it is asked."""
        pf.vfs[0].held = ""
        return True

    monkeypatch.setattr(last.machine, "ask_users", ask_users)
    await last.agent.put_back()
    assert pf.vfs == []
    assert [*tmp_path.iterdir()] == []


@asynchronous
async def test_what_was_found_of_a_card_that_is_gone_is_not_done_to_another(tmp_path: Path) -> None:
    kernel = Kernel(make_pf(Igb()))
    async with running(node(kernel, tmp_path)) as here:
        here.api.put(policy())
        await here.until_policy("")
    other = make_pf(Igb(), 1)
    other.address = PF0
    kernel = Kernel(other)
    await node(kernel, tmp_path).agent.put_back()
    assert kernel.attempts == []
    assert len([*tmp_path.iterdir()]) == 1


@asynchronous
async def test_what_cannot_be_kept_is_not_changed(tmp_path: Path) -> None:
    kernel = Kernel(make_pf(Igb()))
    (tmp_path / "file").touch()
    async with running(node(kernel, tmp_path / "file", pace=NEVER_AGAIN)) as here:
        here.api.put(policy())
        found = await here.until_policy("StateNotKept")
        assert str(tmp_path / "file") in found.message
        assert kernel.attempts == []


@asynchronous
async def test_a_mistake_with_one_card_is_a_condition(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kernel = Kernel(make_pf(Igb(), 0), make_pf(Ixgbe(), 1))

    def wrong(number: int) -> None:
        if not number:
            raise RuntimeError("a mistake")

    kernel.before_write = wrong
    async with running(node(kernel, tmp_path, pace=NEVER_AGAIN)) as here:
        here.api.put(policy("a"), policy("b", names=["eth1"]))
        found = await here.until_policy("Failed", "a")
        assert "RuntimeError: a mistake" in found.message
        kernel.before_write = lambda _: None
        await here.until(lambda: here.api.policy("b") is not None)


@asynchronous
async def test_a_nodestate_that_is_not_understood_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pf = make_pf(Igb())
    async with running(node(Kernel(pf), tmp_path)) as here:
        here.api.put(policy())
        await here.until_policy("")
        here.api.put({"name": "q", "nicSelector": {}, "vfs": 1})
        await here.until(lambda: "cannot be read" in caplog.text)
        assert len(pf.vfs) == 2
        here.api.put(policy(vfs=1))
        await here.until(lambda: len(pf.vfs) == 1)
