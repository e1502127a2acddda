# SPDX-License-Identifier: Apache-2.0
"""VFs that Interfaces have: the node agent puts them into VLANs, and takes them out again."""

import asyncio
import errno
import threading
from pathlib import Path
from typing import Any

from headrace_api.node_state import FunctionState
from headrace_dataplane.boot import boot_id
from headrace_dataplane.node.sriov.tagged import Tagged
from tests.unit.sriov_kernel import PF, Igb, Ixgbe, Kernel, Killed, make_pf
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

__all__ = ["at_once"]

ENGINE = "process 7 (headrace-engine)"
POD = "headrace-system/headrace-router-x"
OPEN = f"{POD}, {ENGINE}"


def function(pf: PF, index: int = 0, vlan: int | None = 100, grant: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = {
        "pciAddress": pf.vfs[index].address,
        "pipeline": "router",
        "interface": "blue/a",
        "network": "blue/net",
        "grant": grant,
        "pod": POD,
    }
    pf.vfs[index].held = pf.vfs[index].held or POD
    return found if vlan is None else {**found, "vlan": vlan}


def functions(here: Node) -> dict[str, FunctionState]:
    return {each.pci_address: each for each in here.api.status.functions}


def said(here: Node, pf: PF, index: int = 0) -> FunctionState | None:
    generation = here.api.objects[PATH]["metadata"]["generation"]
    if here.api.status.observed_generation != generation:
        return None
    return functions(here).get(pf.vfs[index].address)


async def until_said(here: Node, pf: PF, reason: str, index: int = 0) -> FunctionState:
    await here.until(lambda: (found := said(here, pf, index)) and found.reason == reason)
    found = said(here, pf, index)
    assert found is not None and found.ready == (not reason)
    return found


@asynchronous
async def test_a_vf_is_put_into_its_vlan_read_back_and_put_back(tmp_path: Path) -> None:
    pf = make_pf(Ixgbe())
    async with running(node(Kernel(pf), tmp_path)) as here:
        here.api.put(policy(settings={"spoofCheck": False}))
        await here.until_policy("")
        assert here.api.status.functions == ()
        here.api.put(policy(settings={"spoofCheck": False}), functions=[function(pf)])
        found = await until_said(here, pf, "")
        assert (found.interface, found.grant, found.vlan) == ("blue/a", 1, 100)
        assert here.api.status.boot_id == boot_id()
        assert [(vf.vlan, vf.spoof_check) for vf in pf.vfs] == [(100, True), (0, False)]
        await here.until_policy("")
        assert here.plugins.healthy() == 2

        # Another grant: its word is said of that one.
        here.api.put(policy(settings={"spoofCheck": False}), functions=[function(pf, grant=2)])
        assert (await until_said(here, pf, "")).grant == 2

        here.api.put(policy(settings={"spoofCheck": False}))
        await here.until(lambda: not functions(here))
        assert [(vf.vlan, vf.spoof_check) for vf in pf.vfs] == [(0, False)] * 2
        assert not Tagged(tmp_path).all()


@asynchronous
async def test_without_a_vlan_it_is_where_its_policy_has_it(tmp_path: Path) -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    async with running(node(kernel, tmp_path)) as here:
        here.api.put(policy(settings={"vlan": 7}))
        await here.until_policy("")
        wanted = [function(pf, vlan=None), function(pf, 1, vlan=100)]
        here.api.put(policy(settings={"vlan": 7}), functions=wanted)
        assert (await until_said(here, pf, "")).vlan == 7
        conflict = await until_said(here, pf, "PolicyConflict", 1)
        assert "VLAN 100, and DevicePolicy p has it in 7" in conflict.message
        assert [vf.vlan for vf in pf.vfs] == [7, 7]
        here.api.put(policy(settings={"vlan": 100}), functions=wanted)
        await until_said(here, pf, "", 1)
        # Without the policy's it is in none, whoever put it elsewhere.
        pf.vfs[0].vlan = 55
        here.api.put(policy(), functions=wanted)
        await here.until(lambda: [vf.vlan for vf in pf.vfs] == [0, 100])
        await here.until(lambda: (found := said(here, pf)) and found.vlan == 0)
        assert (await until_said(here, pf, "")).vlan == 0


@asynchronous
async def test_a_vf_that_is_open_is_not_moved(tmp_path: Path) -> None:
    pf = make_pf(Igb())
    async with running(node(Kernel(pf), tmp_path)) as here:
        here.api.put(policy())
        await here.until_policy("")
        # A pod has it all the time.
        pf.vfs[0].held = POD
        here.api.put(policy(), functions=[function(pf)])
        await until_said(here, pf, "")
        pf.vfs[0].held = OPEN
        here.api.put(policy(), functions=[function(pf, vlan=200, grant=2)])
        found = await until_said(here, pf, "VFsInUse")
        assert found.vlan == 100 and ENGINE in found.message and "VLAN 200" in found.message
        here.api.put(policy())
        await until_said(here, pf, "NotPutBack")
        assert pf.vfs[0].vlan == 100
        pf.vfs[0].held = POD
        await here.until(lambda: not functions(here))
        assert pf.vfs[0].vlan == 0


@asynchronous
async def test_what_somebody_else_changes_is_not_ready_until_it_is_as_it_was(
    tmp_path: Path,
) -> None:
    pf = make_pf(Igb())
    async with running(node(Kernel(pf), tmp_path)) as here:
        here.api.put(policy())
        await here.until_policy("")
        here.api.put(policy(), functions=[function(pf)])
        await until_said(here, pf, "")
        pf.vfs[0].vlan, pf.vfs[0].held = 0, OPEN
        here.kernel.touch()
        here.agent.changed()
        assert (await until_said(here, pf, "VFsInUse")).vlan == 0
        # Its dataplane has heard.
        pf.vfs[0].held = POD
        await until_said(here, pf, "")
        assert pf.vfs[0].vlan == 100


@asynchronous
async def test_a_vf_is_for_the_pod_that_said_so_and_no_other_gets_it(tmp_path: Path) -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)

    def reserved() -> list[bool]:
        return [each.reserved for each in here.plugins.given[VF_RESOURCE]]

    async with running(node(kernel, tmp_path)) as here:
        here.api.put(policy())
        await here.until_policy("")
        assert reserved() == [False, False]
        asked: list[list[bool]] = []
        ask = here.machine.ask_users

        async def ask_users() -> bool:
            asked.append(reserved())
            return await ask()

        here.machine.ask_users = ask_users  # type: ignore[method-assign]
        wanted = function(pf)
        pf.vfs[0].held = ""
        here.api.put(policy(), functions=[wanted])
        # Nobody has got it between the question and the answer.
        await here.until(lambda: [True, False] in asked)
        found = await until_said(here, pf, "InProgress")
        assert f"is not {POD}'s" in found.message
        await here.until(lambda: reserved() == [False, False])
        for other in ("shop/web", "headrace-system/headrace-router-y"):
            pf.vfs[0].held = other
            await here.look_again()
            assert pf.vfs[0].vlan == 0
        pf.vfs[0].held = POD
        await here.look_again()
        await until_said(here, pf, "")
        assert (pf.vfs[0].vlan, reserved()) == (100, [True, False])
        # The pod goes, and its NodeState says what it said.
        pf.vfs[0].held = ""
        await here.look_again()
        await until_said(here, pf, "InProgress")
        await here.until(lambda: reserved() == [False, False])
        assert (pf.vfs[0].vlan, Tagged(tmp_path).all()) == (0, {})


@asynchronous
async def test_what_no_policy_selects_is_not_touched(tmp_path: Path) -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    kernel.replace_vfs(pf, 2)
    kernel.sleep(1)
    async with running(node(kernel, tmp_path)) as here:
        here.api.put(functions=[function(pf)])
        found = await until_said(here, pf, "NoDevicePolicy")
        assert found.vlan is None
        assert pf.vfs[0].vlan == 0
        # Those of somebody else are told all the same.
        here.api.put(policy(externallyManaged=True), functions=[function(pf)])
        await until_said(here, pf, "")
        assert pf.vfs[0].vlan == 100


@asynchronous
async def test_vfs_that_are_made_anew_are_in_their_vlans_before_they_are_given_away(
    tmp_path: Path,
) -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    async with running(node(kernel, tmp_path)) as here:
        here.api.put(policy())
        await here.until_policy("")
        here.api.put(policy(), functions=[function(pf), function(pf, 1, 101)])
        await until_said(here, pf, "", 1)
        kernel.journal.clear()
        kernel.pods = {vf.address: POD for vf in pf.vfs}
        kernel.replace_vfs(pf, 0)
        here.agent.changed()
        await here.until(lambda: [vf.driver for vf in pf.vfs] == ["vfio-pci"] * 2)
        assert [vf.vlan for vf in pf.vfs] == [100, 101]
        # Whoever has them could not open them before.
        for vf in pf.vfs:
            tagged = kernel.journal.index(f"vf {pf.netdev.name} {vf.index} {{'vlan': {vf.vlan}}}")
            assert kernel.journal.index(f"bus/pci/drivers_probe {vf.address}") > tagged


@asynchronous
async def test_what_was_seen_before_it_was_moved_counts_no_more(tmp_path: Path) -> None:
    """An Interface goes, and is back with its grant while its VF is being put back."""
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    async with running(node(kernel, tmp_path)) as here:
        here.api.put(policy())
        await here.until_policy("")
        here.api.put(policy(), functions=[function(pf)])
        await until_said(here, pf, "")
        loop = asyncio.get_running_loop()
        heard: list[FunctionState] = []

        def again() -> None:
            """In the loop, while the kernel is being told."""
            here.api.put(policy(), functions=[function(pf)])
            here.agent._observe(here.api.objects[PATH])
            here.agent._report()
            heard.extend(here.agent._writer._desired.functions)  # type: ignore[union-attr]

        def before(_: int) -> None:
            kernel.before_write = lambda number: None
            done = threading.Event()
            loop.call_soon_threadsafe(again)
            loop.call_soon_threadsafe(done.set)
            assert done.wait(10)

        kernel.before_write = before
        here.api.put(policy())
        await here.until(lambda: heard)
        # Of the grant nothing can be said yet.
        assert [(each.grant, each.ready) for each in heard] == [(None, False)]
        await until_said(here, pf, "")
        assert pf.vfs[0].vlan == 100


@asynchronous
async def test_what_cannot_be_noted_is_not_done(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    kernel.replace_vfs(pf, 2)
    kernel.sleep(1)
    async with running(node(kernel, tmp_path / "file")) as here:
        wanted = policy(externallyManaged=True, driver="Kernel")
        here.api.put(wanted, functions=[function(pf)])
        await until_said(here, pf, "InProgress")
        assert pf.vfs[0].vlan == 0


@asynchronous
async def test_a_setting_that_the_card_refuses_is_said_of_the_function(tmp_path: Path) -> None:
    pf = make_pf(Igb())
    kernel = Kernel(pf)
    async with running(node(kernel, tmp_path)) as here:
        here.api.put(policy())
        await here.until_policy("")
        kernel.failures.append(("vf eth0 0 {'vlan'", 100, errno.EOPNOTSUPP))
        here.api.put(policy(), functions=[function(pf), function(pf, 1, 101)])
        await until_said(here, pf, "", 1)
        await here.until(
            lambda: (found := said(here, pf)) and found.reason not in ("", "InProgress")
        )
        assert [vf.vlan for vf in pf.vfs] == [0, 101]


@asynchronous
async def test_killed_anywhere_the_next_agent_puts_it_there_and_back(tmp_path: Path) -> None:
    points = 0
    while True:
        points += 1
        pf, api = make_pf(Igb()), Server()
        kernel, folder = Kernel(pf), tmp_path / str(points)
        async with running(node(kernel, folder, api)) as here:
            api.put(policy())
            await here.until_policy("")
        address = pf.vfs[0].address
        kernel.killed_after = kernel._points + points
        api.put(policy(), functions=[function(pf)])
        killed = await _life(node(kernel, folder, api), pf)
        kernel.killed_after = None
        # Whether the Interface is still there when the next one comes, or not.
        for gone in (False, True):
            if not gone:
                async with running(node(kernel, folder, api)) as here:
                    await until_said(here, pf, "")
                    assert pf.vfs[0].vlan == 100
                continue
            api.put(policy())
            async with running(node(kernel, folder, api)) as here:
                await here.until(
                    lambda: api.status.observed_generation == 3 and not functions(here)  # noqa: B023
                )
                assert pf.vfs[0].vlan == 0
        assert address not in Tagged(folder).all()
        if not killed:
            break
    assert points > 1


@asynchronous
async def test_killed_while_its_interface_goes_it_is_put_back(tmp_path: Path) -> None:
    """The wish is gone before anybody has said that it was done."""
    pf, api = make_pf(Igb()), Server()
    kernel = Kernel(pf)
    async with running(node(kernel, tmp_path, api)) as here:
        api.put(policy())
        await here.until_policy("")
    kernel.killed_after = kernel._points + 1
    api.put(policy(), functions=[function(pf)])
    assert await _life(node(kernel, tmp_path, api), pf)
    kernel.killed_after = None
    assert pf.vfs[0].vlan == 100
    assert not any(each.ready for each in api.status.functions)
    api.put(policy())
    async with running(node(kernel, tmp_path, api)) as here:
        await here.until(lambda: pf.vfs[0].vlan == 0)
        await here.until(lambda: api.status.observed_generation == 3)


async def _life(of: Node, pf: PF) -> bool:
    """Run it until it says that the VF is ready; whether it was killed before."""
    killed = False
    try:
        async with running(of):
            await of.until(lambda: (found := said(of, pf)) and found.ready)
    except* Killed:
        killed = True
    return killed


def test_a_file_of_nonsense_is_no_address(tmp_path: Path) -> None:
    (tmp_path / "vlans").write_bytes(b"\xff\x00\n0000:01:10.0\n\n")
    found = Tagged(tmp_path)
    assert "0000:01:10.0" in found.all()
    found.discard(found.all())
    assert not Tagged(tmp_path).all()
