# SPDX-License-Identifier: Apache-2.0
"""Endpoints on a node: their VFs are in a VLAN alone with the engine's, whatever happens."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from headrace_api.device_policy import VfLinkState
from headrace_api.node_state import FunctionState
from headrace_dataplane.node.device_plugin.allocation import PluginDevice
from headrace_dataplane.node.device_plugin.plugins import Problem
from headrace_dataplane.node.sriov.tagged import Tag, Tagged
from tests.unit.sriov_kernel import PF, Driver, I40e, Ice, Igb, Kernel, Killed, make_pf
from tests.unit.test_node_state import (
    PATH,
    VF_RESOURCE,
    Node,
    Server,
    asynchronous,
    at_once,
    node,
    policy,
    running,
)
from tests.unit.test_node_vlans import OPEN, POD, functions, until_said

__all__ = ["at_once"]

WEB, APP = "blue/web-0", "process 9 (app)"
MAC = "02:00:00:00:00:07"
SHUT: dict[str, Any] = {"settings": {"linkState": "Disable"}}
"""Of a policy: who has a VF, and no Interface, reaches nothing by it."""


def function(
    pf: PF,
    index: int = 0,
    pod: str | None = WEB,
    interface: str = "blue/a",
    grant: int = 1,
    **peer: Any,
) -> dict[str, Any]:
    """An engine's VF, and what is behind it."""
    pf.vfs[index].held = pf.vfs[index].held or POD
    behind = {"vlans": ["3000-3003"], **({} if pod is None else {"pod": pod}), **peer}
    return {
        "pciAddress": pf.vfs[index].address,
        "pipeline": "router",
        "interface": interface,
        "network": f"{interface.partition('/')[0]}/net",
        "grant": grant,
        "pod": POD,
        "peer": behind,
    }


def peer(here: Node, pf: PF, index: int = 0) -> str:
    """PCI address of what is behind an engine's VF, by the NodeState."""
    found = functions(here).get(pf.vfs[index].address)
    return found.peer.pci_address if found and found.peer else ""


def device(here: Node, address: str) -> PluginDevice:
    (found,) = (each for each in here.plugins.given[VF_RESOURCE] if each.address == address)
    return found


@asynccontextmanager
async def made(
    kernel: Kernel, folder: Path, vfs: int = 4, api: Server | None = None, **more: Any
) -> AsyncIterator[Node]:
    """An agent whose VFs are made."""
    names = [pf.netdev.name for pf in kernel.pfs.values()]
    wanted = policy(vfs=vfs, names=names, **{**SHUT, **more})
    async with running(node(kernel, folder, api)) as here:
        here.wanted = wanted  # type: ignore[attr-defined]
        here.api.put(wanted)
        await here.until_policy("")
        yield here


def put(here: Node, *wanted: dict[str, Any], **spec: Any) -> None:
    here.api.put(here.wanted, functions=[*wanted], **spec)  # type: ignore[attr-defined]


@asynchronous
async def test_a_pods_vf_is_alone_with_the_engines(tmp_path: Path) -> None:
    pf = make_pf(Ice())
    kernel = Kernel(pf)
    async with made(kernel, tmp_path) as here:
        engine, pods = pf.vfs[0], pf.vfs[2]
        before = pods.mac
        # It has opened it before anybody knows of an Interface, and reaches nothing.
        pods.held, pods.trust, pods.spoof_check = f"{WEB}, {APP}", True, False
        assert kernel.hears(pods.address) == set()
        put(here, function(pf, macAddress=MAC))
        found = await until_said(here, pf, "")
        assert found.peer is not None
        assert (found.peer.pci_address, found.peer.mac_address) == (pods.address, MAC)
        assert (engine.vlan, pods.vlan) == (3000, 3000) == (found.vlan, 3000)
        assert (pods.mac, pods.spoof_check, pods.trust) == (MAC, True, False)
        assert (engine.spoof_check, engine.link_state) == (True, VfLinkState.AUTO)
        assert kernel.hears(pods.address) == {engine.address, "wire 3000"}
        assert kernel.hears(engine.address) == {pods.address, "wire 3000"}
        assert kernel.hears(pods.address, "02:00:00:00:00:08") == set()
        assert device(here, pods.address).reserved

        # The pod ends: no other gets it before all of it is as it was.
        engine.held, pods.held = OPEN, ""
        here.api.objects[PATH]["status"]["functions"] = []
        found = await until_said(here, pf, "EndpointPending")
        assert f"pod {WEB} has no VF of {VF_RESOURCE}" in found.message and found.peer is None
        await here.until(lambda: pods.address not in Tagged(tmp_path).all())
        assert (pods.vlan, pods.mac, pods.link_state) == (0, before, VfLinkState.DISABLE)
        await here.until(lambda: not device(here, pods.address).reserved)
        assert kernel.hears(engine.address) == {"wire 3000"}

        # Another pod of that name has another.
        engine.held, pf.vfs[3].held = POD, WEB
        await here.until(lambda: peer(here, pf) == pf.vfs[3].address)
        assert (await until_said(here, pf, "")).vlan == 3000


@asynchronous
async def test_its_address_is_its_own_where_none_is_given(tmp_path: Path) -> None:
    pf = make_pf(Ice())
    async with made(Kernel(pf), tmp_path) as here:
        pf.vfs[1].held, own = WEB, pf.vfs[1].mac
        put(here, function(pf))
        found = await until_said(here, pf, "")
        assert found.peer is not None and found.peer.mac_address == own == pf.vfs[1].mac
        assert Tagged(tmp_path).all()[pf.vfs[1].address] == Tag("blue/a", "")
        # And is again when one was.
        put(here, function(pf, macAddress=MAC, grant=2))
        await here.until(lambda: pf.vfs[1].mac == MAC)
        await until_said(here, pf, "")
        put(here, function(pf, grant=3))
        await here.until(lambda: pf.vfs[1].mac == own)
        await until_said(here, pf, "")


@pytest.mark.parametrize("driver", [Igb, I40e])
@asynchronous
async def test_without_link_states_it_is_in_no_vlan_before(
    driver: Callable[[], Driver], tmp_path: Path
) -> None:
    pf = make_pf(driver())
    kernel = Kernel(pf)
    async with made(kernel, tmp_path, settings={}) as here:
        pf.vfs[1].held = WEB
        put(here, function(pf))
        await until_said(here, pf, "")
        assert kernel.hears(pf.vfs[1].address) == {pf.vfs[0].address, "wire 3000"}
        # Of which the wire of a card is no part, unless the fabric carries it.
        assert "wire" not in kernel.hears(pf.vfs[0].address)


@asynchronous
async def test_a_pod_without_one_is_waited_for(tmp_path: Path) -> None:
    pf = make_pf(Ice())
    async with made(Kernel(pf), tmp_path) as here:
        # Those of another namespace's pod of that name, or of the dataplane itself, are not its.
        pf.vfs[1].held, pf.vfs[2].held = "red/web-0", POD
        put(here, function(pf))
        assert (await until_said(here, pf, "EndpointPending")).peer is None
        put(here, function(pf, pod=POD, grant=2))
        await until_said(here, pf, "EndpointPending")
        assert [each.vlan for each in pf.vfs[1:]] == [0, 0, 0]
        put(here, function(pf, grant=3))
        pf.vfs[3].held = WEB
        await until_said(here, pf, "")
        assert peer(here, pf) == pf.vfs[3].address


@asynchronous
async def test_one_of_another_card_reaches_nobody_and_is_told(tmp_path: Path) -> None:
    one, two = make_pf(Ice(), 0), make_pf(Ice(), 1)
    async with made(Kernel(one, two), tmp_path, 2) as here:
        two.vfs[0].held = WEB
        put(here, function(one))
        found = await until_said(here, one, "EndpointElsewhere")
        for each in (one.address, two.address, two.vfs[0].address, "a resource of its own"):
            assert each in found.message
        assert (two.vfs[0].vlan, found.peer) == (0, None)
        # With one of both cards it is the right one.
        one.vfs[1].held = WEB
        await until_said(here, one, "")
        assert peer(here, one) == one.vfs[1].address


@asynchronous
async def test_several_interfaces_of_a_pod_have_one_each(tmp_path: Path) -> None:
    pf = make_pf(Ice())
    kernel = Kernel(pf)
    async with made(kernel, tmp_path, 5) as here:
        pf.vfs[3].held = pf.vfs[4].held = WEB
        put(here, function(pf, 0, interface="blue/b"))
        await until_said(here, pf, "")
        assert peer(here, pf) == pf.vfs[3].address
        # Who has one keeps it.
        three = [function(pf, i, interface=f"blue/{n}") for i, n in enumerate("bac")]
        put(here, *three)
        await until_said(here, pf, "", 1)
        assert (peer(here, pf), peer(here, pf, 1)) == (pf.vfs[3].address, pf.vfs[4].address)
        assert len({vf.vlan for vf in pf.vfs if vf is not pf.vfs[2]} - {0}) == 2
        await until_said(here, pf, "EndpointPending", 2)


@asynchronous
async def test_a_machines_is_one_that_no_pod_has_and_none_gets(tmp_path: Path) -> None:
    pf, api = make_pf(Ice()), Server()
    kernel = Kernel(pf)
    async with made(kernel, tmp_path, api=api) as here:
        pf.vfs[1].held = "shop/web"
        put(here, function(pf, pod=None, macAddress=MAC))
        found = await until_said(here, pf, "")
        machine = pf.vfs[2]
        assert peer(here, pf) == machine.address
        assert (found.peer and found.peer.mac_address, machine.vlan) == (MAC, 3000)
        await here.until(lambda: not device(here, machine.address).healthy)
        assert device(here, machine.address).reserved
        assert device(here, pf.vfs[3].address).healthy
        machine.held = "process 5 (qemu)"
        await here.look_again()
        assert (peer(here, pf), machine.vlan) == (machine.address, 3000)
    # Whatever restarts, it stays.
    async with made(kernel, tmp_path, api=api) as here:
        pf.vfs[1].held = ""
        put(here, function(pf, pod=None, macAddress=MAC))
        await until_said(here, pf, "")
        assert peer(here, pf) == machine.address
        # Its Interface goes: it is alone until the machine ends, and then anybody's.
        put(here)
        await here.until(lambda: pf.vfs[0].vlan == 0 and not peer(here, pf))
        left = functions(here)[machine.address]
        assert (left.reason, left.vlan) == ("NotPutBack", 3000) and "qemu" in left.message
        await here.until(lambda: kernel.hears(machine.address) == set())
        assert not device(here, machine.address).healthy
        assert (await here.until_policy("")).vfs == 4
        machine.held = ""
        await here.until(lambda: device(here, machine.address).healthy)
        assert (machine.vlan, machine.mac == MAC) == (0, False)
        assert not device(here, machine.address).reserved


@asynchronous
async def test_a_machines_is_never_changed_for_one_of_another_card(tmp_path: Path) -> None:
    one, two = make_pf(Ice(), 0), make_pf(Ice(), 1)
    async with made(Kernel(one, two), tmp_path, 2) as here:
        put(here, function(one, pod=None))
        await until_said(here, one, "")
        machine = peer(here, one)
        # The dataplane's pod is another, with other functions.
        one.vfs[0].held = ""
        put(here, function(two, pod=None, grant=2))
        found = await until_said(here, two, "EndpointElsewhere")
        assert machine in found.message
        assert "is kept for Interface blue/a" in functions(here)[machine].message


@asynchronous
async def test_a_machine_has_the_one_again_that_it_had(tmp_path: Path) -> None:
    pf = make_pf(Ice())
    async with made(Kernel(pf), tmp_path) as here:
        had = pf.vfs[2].address
        put(here, function(pf, pod=None, pciAddress=had))
        await until_said(here, pf, "")
        assert peer(here, pf) == had
        # Its dataplane is away: it is kept.
        pf.vfs[0].held = ""
        await until_said(here, pf, "InProgress")
        assert functions(here)[had].reason == "NotPutBack"
        pf.vfs[0].held = POD
        await until_said(here, pf, "")
        assert peer(here, pf) == had
        put(here)
        await here.until(lambda: not functions(here))
        pf.vfs[2].held = "shop/web"
        put(here, function(pf, pod=None, pciAddress=had, grant=2))
        await until_said(here, pf, "")
        assert peer(here, pf) == pf.vfs[1].address


@asynchronous
async def test_a_machine_finds_its_own_again_after_a_reboot(tmp_path: Path) -> None:
    api, had = Server(), ""
    for grant in (1, 2):
        pf = make_pf(Ice())
        async with made(Kernel(pf), tmp_path, api=api) as here:
            if had:
                # All is free again, and another would be the first.
                assert pf.vfs[1].address != had
            else:
                pf.vfs[1].held = "shop/web"
            # By the status of its Interface, as its dataplane was away meanwhile.
            before: dict[str, Any] = {"pciAddress": had} if had else {}
            put(here, function(pf, pod=None, grant=grant, **before))
            await until_said(here, pf, "")
            had = had or peer(here, pf)
            assert peer(here, pf) == had == pf.vfs[2].address


@asynchronous
async def test_no_vf_is_left_for_a_machine(tmp_path: Path) -> None:
    pf = make_pf(Ice())
    async with made(Kernel(pf), tmp_path, 2) as here:
        pf.vfs[1].held = "shop/web"
        put(here, function(pf, pod=None))
        found = await until_said(here, pf, "EndpointPending")
        assert f"no VF of {VF_RESOURCE} is free on PF {pf.address}" in found.message
        pf.vfs[1].held = ""
        await until_said(here, pf, "")


@asynchronous
async def test_a_pod_that_gets_it_meanwhile_has_it(tmp_path: Path) -> None:
    pf = make_pf(Ice())
    async with made(Kernel(pf), tmp_path, 3) as here:
        asked: list[bool] = []
        ask = here.machine.ask_users

        async def ask_users() -> bool:
            if device(here, pf.vfs[1].address).reserved and not pf.vfs[1].held:
                # The kubelet has given it away, just before.
                pf.vfs[1].held = "shop/web"
                asked.append(True)
            return await ask()

        here.machine.ask_users = ask_users  # type: ignore[method-assign]
        put(here, function(pf, pod=None))
        await until_said(here, pf, "")
        assert asked and peer(here, pf) == pf.vfs[2].address
        assert pf.vfs[1].vlan == 0


@asynchronous
async def test_nothing_is_begun_while_the_kubelet_does_not_answer(tmp_path: Path) -> None:
    """A pod may have got what was free before."""
    pf = make_pf(Ice())
    async with made(Kernel(pf), tmp_path) as here:
        answers = [False]

        async def ask_users() -> bool:
            await asyncio.sleep(0)
            return answers[-1]

        here.machine.ask_users = ask_users  # type: ignore[method-assign]
        pf.vfs[1].held = WEB
        put(here, function(pf), function(pf, 2, None, "blue/m", 2))
        await until_said(here, pf, "InProgress")
        await here.look_again()
        assert [vf.vlan for vf in pf.vfs] == [0] * 4
        answers.append(True)
        await until_said(here, pf, "")
        await until_said(here, pf, "", 2)
        # What is there stays, also of what it does not know any more, as after a restart.
        answers.append(False)
        await here.look_again()
        assert [each.ready for each in functions(here).values()] == [True, True]
        put(here)
        await here.until(lambda: not any(each.interface for each in functions(here).values()))
        # Not before: a look may be under way by which they are an endpoint's.
        pf.vfs[1].held = pf.vfs[2].held = ""
        await here.look_again()
        assert {vf.vlan for vf in pf.vfs} == {3000, 3001}
        assert "does not say" in functions(here)[pf.vfs[1].address].message
        answers.append(True)
        await here.until(lambda: not functions(here))
        assert {vf.vlan for vf in pf.vfs} == {0}


@asynchronous
async def test_no_endpoint_has_a_mac_address_of_another_function(tmp_path: Path) -> None:
    """The card would give what is for that one to it."""
    pf = make_pf(Ice())
    async with made(Kernel(pf), tmp_path, 6) as here:
        pf.vfs[1].held, pf.vfs[3].held = WEB, "red/web-0"
        for mac in (pf.netdev.mac, pf.vfs[0].mac, pf.vfs[5].mac):
            put(here, function(pf, macAddress=mac))
            assert mac in (await until_said(here, pf, "MACAddressInUse")).message
            assert (pf.vfs[1].mac != mac, pf.vfs[1].vlan) == (True, 0)
        both = (
            function(pf, macAddress=MAC),
            function(pf, 2, "red/web-0", "red/a", 2, macAddress=MAC),
        )
        put(here, *both)
        await until_said(here, pf, "")
        await until_said(here, pf, "MACAddressInUse", 2)
        assert pf.vfs[3].vlan == 0
        put(here, both[1])
        pf.vfs[1].held = ""
        await until_said(here, pf, "", 2)


@asynchronous
async def test_what_a_running_pod_keeps_is_alone_and_in_nobodys_way(tmp_path: Path) -> None:
    pf = make_pf(Ice())
    kernel = Kernel(pf)
    async with made(kernel, tmp_path, 6) as here:
        pf.vfs[1].held, pf.vfs[2].held = f"{WEB}, {APP}", "red/web-0"
        put(here, function(pf))
        await until_said(here, pf, "")
        put(here, function(pf, pod="red/web-0", interface="red/a", grant=2))
        # Another tenant's is in another VLAN, on the same function of the engine.
        found = await until_said(here, pf, "")
        assert (found.interface, found.vlan, pf.vfs[1].vlan) == ("red/a", 3001, 3000)
        await here.until(lambda: kernel.hears(pf.vfs[1].address) == set())
        assert functions(here)[pf.vfs[1].address].reason == "NotPutBack"
        # It is the pod's all the time, so it may have another Interface.
        put(
            here,
            function(pf, pod="red/web-0", interface="red/a", grant=2),
            function(pf, 3, interface="blue/b", grant=3),
        )
        await until_said(here, pf, "", 3)
        assert peer(here, pf, 3) == pf.vfs[1].address
        assert (pf.vfs[3].vlan, pf.vfs[1].vlan) == (3000, 3000)


@asynchronous
async def test_vlans_are_those_that_nothing_else_is_in(tmp_path: Path) -> None:
    pf = make_pf(Ice())
    async with made(Kernel(pf), tmp_path, 6) as here:
        pf.vfs[1].held, pf.vfs[5].held = WEB, "red/web-0"
        fabric: Any = {"pipeline": "router", "workers": 1, "mtu": 1500, "vlans": ["2000-3000"]}
        wire = {**function(pf, 2, interface="red/w", grant=9), "vlan": 3001}
        del wire["peer"]
        pf.vfs[3].vlan = 3002
        put(here, function(pf), wire, dataplanes=[fabric])
        assert (await until_said(here, pf, "")).vlan == 3003
        assert (await until_said(here, pf, "", 2)).vlan == 3001
        # Of the other nothing is done without a VLAN.
        more = function(pf, 4, "red/web-0", "red/a", 5)
        put(here, function(pf), wire, more, dataplanes=[fabric])
        found = await until_said(here, pf, "VLANsExhausted", 4)
        assert "all VLANs for endpoints (3000-3003) are in use on PF" in found.message
        assert (pf.vfs[4].vlan, pf.vfs[5].vlan) == (0, 0)
        put(here, function(pf), wire, more)
        assert (await until_said(here, pf, "", 4)).vlan == 3000
        # Where a VLAN becomes the fabric's, the wire waits until the engine has closed its own.
        pf.vfs[0].held = OPEN
        later = {**wire, "vlan": 3003, "grant": 10}
        put(here, function(pf), later, dataplanes=[fabric])
        assert "with an endpoint" in (await until_said(here, pf, "VLANInUse", 2)).message
        await here.until(lambda: not functions(here)[pf.vfs[0].address].ready)
        assert pf.vfs[0].vlan == 3003
        pf.vfs[0].held = POD
        assert (await until_said(here, pf, "", 2)).vlan == 3003
        assert (await until_said(here, pf, "")).vlan == 3001


@asynchronous
async def test_what_somebody_puts_into_its_vlan_closes_it(tmp_path: Path) -> None:
    pf = make_pf(Ice())
    async with made(Kernel(pf), tmp_path) as here:
        pf.vfs[1].held = WEB
        put(here, function(pf))
        assert (await until_said(here, pf, "")).vlan == 3000
        pf.vfs[0].held, pf.vfs[3].vlan = OPEN, 3000
        here.kernel.touch()
        here.agent.changed()
        assert (await until_said(here, pf, "VFsInUse")).vlan == 3000
        pf.vfs[0].held = POD
        assert (await until_said(here, pf, "")).vlan == 3001
        assert [vf.vlan for vf in pf.vfs] == [3001, 3001, 0, 3000]


@asynchronous
async def test_what_headrace_does_not_give_out_is_nobodys_endpoint(tmp_path: Path) -> None:
    """It could not be kept from another pod."""
    pf = make_pf(Ice())
    async with made(Kernel(pf), tmp_path) as here:
        here.plugins.problems[VF_RESOURCE] = Problem("ResourceTaken", "another gives it out")
        pf.vfs[1].held = WEB
        put(here, function(pf))
        found = await until_said(here, pf, "EndpointPending")
        assert "does not give" in found.message and pf.vfs[1].vlan == 0
        here.plugins.problems.clear()
        await until_said(here, pf, "")


@asynchronous
async def test_a_policys_vlan_is_a_conflict(tmp_path: Path) -> None:
    pf = make_pf(Ice())
    async with made(Kernel(pf), tmp_path, settings={"vlan": 7}) as here:
        pf.vfs[1].held = WEB
        put(here, function(pf))
        assert "leave settings.vlan out" in (await until_said(here, pf, "PolicyConflict")).message
        assert [vf.vlan for vf in pf.vfs] == [7] * 4


LATE = 15
"""Milliseconds until an engine has closed what is not granted any more."""


class Tenants:
    """Two tenants' pods and their engines, and every frame that goes where it may not."""

    def __init__(self, kernel: Kernel, pf: PF, *, shut: bool) -> None:
        """`shut`: who has no Interface reaches nothing."""
        self._kernel = kernel
        self._pf = pf
        self._shut = shut
        self._late: Counter[str] = Counter()
        self.opened: dict[str, str] = {}
        """VF that the engine has open -> namespace of the Interface."""
        self.astray: list[str] = []
        kernel.after_write = self.send

    def owner(self, address: str) -> str:
        """Whose a VF is; "": nobody hears it."""
        if address in self.opened:
            return self.opened[address]
        held = self._kernel._vf(address).held
        return held.partition("/")[0] if held not in ("", POD) else ""

    def send(self) -> None:
        """Have all send from everywhere, and see where it arrives."""
        for vf in self._pf.vfs:
            sender = self.owner(vf.address)
            if not sender or not (vf.vlan or self._shut or vf.address in self.opened):
                continue
            for address in self._kernel.hears(vf.address):
                if address == "wire" or (
                    not address.startswith("wire") and self.owner(address) not in ("", sender)
                ):
                    self.astray.append(f"{vf.address} of {sender} at {address}")

    async def engine(self, here: Node) -> None:
        """Open what is granted, close what is not any more, as dataplanes' agents have it done."""
        while True:
            status = here.api.status
            spec: Any = here.api.objects.get(PATH, {}).get("spec", {})
            seen = status.observed_generation == here.api.objects[PATH]["metadata"]["generation"]
            granted = {
                each["pciAddress"]: each["interface"].partition("/")[0]
                for each in spec.get("functions", ())
                if _says(status.functions, each)
            }
            for vf in self._pf.vfs:
                may = vf.address in granted and (seen or vf.address in self.opened)
                if may and vf.address not in self.opened:
                    self.opened[vf.address], vf.held = granted[vf.address], OPEN
                elif self.opened.get(vf.address) != granted.get(vf.address):
                    self._late[vf.address] += 1
                    if self._late[vf.address] > LATE:
                        del self.opened[vf.address], self._late[vf.address]
                        vf.held = POD
            self.send()
            for each in here.plugins.given.get(VF_RESOURCE, ()):
                vf = self._kernel._vf(each.address)
                if not (vf.held or each.reserved) and vf.vlan:
                    self.astray.append(f"another pod may have {each.address} in VLAN {vf.vlan}")
            await asyncio.sleep(0.001)


def _says(said: tuple[FunctionState, ...], wanted: dict[str, Any]) -> bool:
    return any(
        each.ready
        and (each.pci_address, each.interface, each.grant)
        == (wanted["pciAddress"], wanted["interface"], wanted["grant"])
        for each in said
    )


def wishes(pf: PF, round_: int) -> list[dict[str, Any]]:
    """Tenants come, go, and change places."""
    blue = function(pf, 0, "blue/web-0", "blue/a", 1, macAddress=MAC)
    red = function(pf, 1, "red/web-0", "red/a", 2)
    swapped = function(pf, 0, "red/web-0", "red/a", 3), function(pf, 1, "blue/web-0", "blue/a", 4)
    return [[blue], [blue, red], [red], [*swapped], []][round_]


@pytest.mark.parametrize(("driver", "shut"), [(Ice, True), (Ice, False), (Igb, False)])
@asynchronous
async def test_no_frame_goes_to_another_tenant_at_any_step_and_whatever_is_killed(
    driver: Callable[[], Driver], shut: bool, tmp_path: Path
) -> None:
    points, alive = 0, False
    while not alive:
        points += 1
        pf, api, folder = make_pf(driver()), Server(), tmp_path / str(points)
        kernel = Kernel(pf)
        async with made(kernel, folder, api=api, **(SHUT if shut else {"settings": {}})) as here:
            wanted = here.wanted  # type: ignore[attr-defined]
        # Of a function with its kernel driver it is not known who has it open.
        pf.vfs[2].held, pf.vfs[3].held = f"blue/web-0, {APP}", "red/web-0"
        tenants = Tenants(kernel, pf, shut=shut)
        kernel.killed_after = kernel._points + points
        alive = True
        for round_ in range(6):
            ended = round_ == 5
            if ended:
                # Both pods ran on, each alone.
                for vf in pf.vfs[2:]:
                    assert {*kernel.hears(vf.address)} <= {f"wire {vf.vlan}"}
                    vf.held = ""
            asked = [] if ended else wishes(pf, round_)
            api.put(wanted, functions=asked)
            while not await _settled(node(kernel, folder, api), tenants, asked, ended=ended):
                # The next agent goes on from what there is.
                kernel.killed_after, alive = None, False
            assert tenants.astray == []
        assert not Tagged(folder).all()
        assert all((vf.link_state is VfLinkState.DISABLE) == shut for vf in pf.vfs)
        assert all(vf.vlan == 0 for vf in pf.vfs)
    assert points > 10


async def _settled(
    here: Node, tenants: Tenants, asked: list[dict[str, Any]], *, ended: bool
) -> bool:
    """Run an agent until all that is asked for is ready; False: it was killed before."""

    def settled() -> bool:
        status = here.api.status
        current = here.api.objects[PATH]["metadata"]["generation"]
        said = [each for each in status.functions if each.interface]
        left = [each for each in status.functions if not each.interface]
        engines = {vf.address for vf in tenants._pf.vfs[:2]}
        return (
            status.observed_generation == current
            and all(_says(status.functions, each) for each in asked)
            and len(said) == len(asked)
            and not any(each.pci_address in engines for each in left)
            and not (ended and left)
            and len(tenants.opened) == len(asked)
        )

    lived = True
    try:
        async with running(here):
            engine = asyncio.create_task(tenants.engine(here))
            try:
                await here.until(settled)
            finally:
                engine.cancel()
                await asyncio.wait((engine,))
            if engine.done() and not engine.cancelled():
                await engine
    except* Killed:
        lived = False
    return lived
