# SPDX-License-Identifier: Apache-2.0
"""The node's own NodeState: its policies are carried out, and what is found is reported."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Protocol, TypeVar

from pydantic import ValidationError

from headrace_api import Json
from headrace_api.device import vlans_of
from headrace_api.node_facts import NodeFacts
from headrace_api.node_state import (
    FunctionState,
    NodeFunction,
    NodeState,
    NodeStateSpec,
    NodeStateStatus,
)
from headrace_dataplane.follow import follow_one
from headrace_dataplane.node import peers, vlans
from headrace_dataplane.node.cards import Cards, InterruptedWorkError
from headrace_dataplane.node.device_plugin.allocation import PluginDevice
from headrace_dataplane.node.device_plugin.plugins import RESOURCE_TAKEN, Problem
from headrace_dataplane.node.policies import (
    Card,
    Given,
    Resolved,
    Working,
    given,
    lend,
    policy_states,
    resolve,
)
from headrace_dataplane.node.report import node_state_status
from headrace_dataplane.node.sriov.desired import VF, Desired
from headrace_dataplane.node.sriov.steps import Condition, Reason
from headrace_dataplane.node.traffic import NodeAddresses
from headrace_dataplane.node.users import pods
from headrace_dataplane.status_writer import StatusWriter, with_times_of
from headrace_kube import NODE_STATES, Kube

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Pace:
    """How long is waited, in seconds."""

    quiet: float = 0.5
    """After the kernel has told of a change: others come with it."""
    least: float = 3.0
    """Between two looks that the kernel asks for."""
    slow: float = 300.0
    """Between two looks that nobody asks for."""
    retry: tuple[float, float] = (5.0, 300.0)
    """Until what may pass by itself is tried again, first and at most; each time twice as long."""
    in_use: float = 15.0
    """Until it is looked whether VFs are still used."""
    absent: float = 60.0
    """For a NodeState, until pods may start without: the operator makes it."""
    ready: float = 300.0
    """For VFs, until pods may start without."""
    leave: float = 60.0
    """For who uses VFs, at the end, before these are left as they are."""


class Machine(Protocol):
    """The node, as far as it is read."""

    async def ask_users(self) -> bool:
        """Ask who uses VFs; False: it is not known anew, and what was known holds."""

    def read(self) -> tuple[NodeFacts, NodeAddresses]:
        """Return what it is like. Blocks."""

    def fault(self, address: str, want: VF, *, used: bool) -> str:
        """Return what is wrong with a VF that is as it is wanted, "": nothing. Blocks."""


class Plugins(Protocol):
    """Gives the devices of each resource to the kubelet."""

    @property
    def problems(self) -> Mapping[str, Problem]:
        """Resource -> why it is not given out."""

    def set(self, resources: Mapping[str, tuple[PluginDevice, ...]]) -> None:
        """Have exactly these resources, by name, with these devices."""


class StateWriter(StatusWriter[NodeStateStatus]):
    """Writes the status of the NodeState."""

    kind = NODE_STATES
    model = NodeStateStatus

    def _adopted(self, before: NodeStateStatus | None, desired: NodeStateStatus) -> NodeStateStatus:
        return with_times_of(before, desired)


@dataclass
class _Tried:
    """A PF that is not as it is wanted, and may be by itself."""

    times: int = 0
    at: float = 0.0
    """When it is tried again, in the loop's time."""


class NodeStateAgent:
    """Has the cards as its NodeState says, and tells what the node is like."""

    def __init__(
        self,
        kube: Kube,
        node: str,
        cards: Cards,
        machine: Machine,
        plugins: Plugins,
        ready: Callable[[], None],
        pace: Pace | None = None,
    ) -> None:
        """`ready` is called once, when pods may start."""
        self._kube = kube
        self._node = node
        self._cards = cards
        self._machine = machine
        self._plugins = plugins
        self._ready = ready
        self._pace = pace or Pace()
        self._writer = StateWriter(kube, "", node)
        # The cards are for one thread at a time, which may wait in the kernel for minutes.
        self._thread = ThreadPoolExecutor(1, "cards")
        self._state: NodeState | None = None
        self._facts = NodeFacts()
        self._addresses = NodeAddresses()
        self._faults: Mapping[str, str] = {}
        """What is wrong with a VF, by its PCI address."""
        self._resolved = Resolved({}, {}, {})
        # Who wanted that: another may have come since, of which nothing can be said yet.
        self._resolved_of: NodeState | None = None
        self._tagged: vlans.Tags = {}
        """VFs that were put into a VLAN for an Interface."""
        self._lent = vlans.Lent()
        """Whose VFs are, by the last look."""
        self._seen: dict[NodeFunction, FunctionState] = {}
        """What the last look found of those that it was to put there."""
        self._reserved: frozenset[str] = frozenset()
        """VFs that no other pod gets, as they are, or may be, in VLANs."""
        self._by_address: dict[str, Card] = {}
        self._tried: dict[str, _Tried] = {}
        self._wake = asyncio.Event()
        self._told = asyncio.Event()
        """The kernel has told of a change."""
        self._settled = asyncio.Event()
        self._absent: asyncio.TimerHandle | None = None
        """Until pods start without a NodeState."""
        self._soon: asyncio.TimerHandle | None = None
        """Until it is reported how far things are."""

    def changed(self) -> None:
        """Something has changed in the kernel, or with who uses VFs: look again, soon."""
        self._told.set()
        self._wake.set()

    async def run(self) -> None:
        """Follow it until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._writer.run())
                tasks.create_task(self._follow())
                tasks.create_task(self._work())
                tasks.create_task(self._say_ready())
        finally:
            # What is begun in the kernel ends by itself.
            self._cards.interrupt()

    async def put_back(self) -> None:
        """Have the cards as they were found, once `run` has ended; waits a while for who uses VFs.

        What cannot be put back is logged, and left.
        """

        async def back() -> tuple[str, ...]:
            # A pod that ends with us may have ended since the kubelet was asked last.
            await self._machine.ask_users()
            self._cards.resume()
            return await self._blocking(partial(self._cards.put_back, self._addresses))

        problems = await back()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pace.leave):
                while problems:
                    await asyncio.sleep(self._pace.retry[0])
                    problems = await back()
        for problem in problems:
            log.warning("not as it was found: %s", problem)

    async def _follow(self) -> None:
        async for item in follow_one(self._kube, NODE_STATES, "", self._node):
            self._writer.observe(item)
            self._observe(item)

    def _observe(self, item: Json | None) -> None:
        if item is None:
            if self._absent is None:
                loop = asyncio.get_running_loop()
                self._absent = loop.call_later(self._pace.absent, self._settled.set)
            # Who takes it away wants nothing more, and nothing back.
            self._state = None
            return
        if self._absent is not None:
            self._absent.cancel()
            self._absent = None
        try:
            state = NodeState.read({**item, "status": None})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            log.error("the NodeState cannot be read, and what it said before holds: %s", first)
            return
        before = self._state
        self._state = state
        if before is not None and before.spec == state.spec:
            if before.metadata.generation != state.metadata.generation:
                self._report()
            return
        if before is not None and before.spec.policies != state.spec.policies:
            self._cards.interrupt()
        self._wake.set()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            self._wake.clear()
            self._told.clear()
            # What was interrupted before is what is wanted no more.
            self._cards.resume()
            try:
                await self._look()
            except InterruptedWorkError:
                continue
            except Exception:
                log.exception("the node's state cannot be told; trying again")
                self._tried[""] = self._later("")
            else:
                self._tried.pop("", None)
            # Nobody tells when a pod that has a VF ends.
            lends = self._tagged or (self._state and self._state.spec.functions)
            slow = begun + (self._pace.in_use if lends else self._pace.slow)
            due = min((each.at for each in self._tried.values()), default=slow)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(due, slow)):
                    await self._wake.wait()
            if self._told.is_set():
                await asyncio.sleep(max(self._pace.quiet, begun + self._pace.least - loop.time()))

    async def _look(self) -> None:
        """Read what there is, do what is to be done, and report."""
        state = self._state
        await self._read()
        if state is None:
            return
        there = await self._blocking(self._cards.identities)
        resolved = resolve(state.spec.policies, there)
        lent, users = await self._lend(state.spec, resolved)
        more = vlans.wanted(lent, self._tagged, users)
        self._resolved = lend(resolved, more, frozenset(lent.endpoints()))
        self._resolved_of = state
        for address in [*self._by_address]:
            if address not in self._resolved.desired:
                del self._by_address[address]
                self._tried.pop(address, None)
        worked = False
        for desired in self._resolved.desired.values():
            worked |= await self._bring(desired)
        if worked:
            await self._read()
        back = vlans.back(lent, self._tagged, self._by_address)
        self._tagged = await self._blocking(partial(self._untag, back))
        self._seen = vlans.function_states(lent, self._by_address)
        self._reserved = frozenset(self._tagged)
        self._faults = await asyncio.to_thread(self._look_at_devices)
        self._report()
        if not any(self._may_pass(card) for card in self._by_address.values()):
            self._settled.set()

    async def _lend(
        self, spec: NodeStateSpec, resolved: Resolved
    ) -> tuple[vlans.Lent, vlans.Users]:
        """Return what the pods have which it is for, have that noted, and say who uses it.

        Nobody gets any of it from before it is asked who has it until it is put back.
        """
        functions = spec.functions
        addresses = frozenset(each.pci_address for each in functions)
        self._tagged = await self._blocking(self._cards.tagged.all)
        self._reserved = frozenset(self._tagged) | addresses
        known = True
        if self._reserved:
            self._give()
            known = await self._machine.ask_users()
        # On the word of before nothing is begun, and nothing ended.
        unknown = frozenset[str]() if known else addresses - self._tagged.keys()
        lent = replace(await self._paired(spec, resolved, unknown), silent=not known)
        asked = self._reserved | lent.endpoints().keys()
        users = await self._blocking(partial(self._cards.users, asked)) if asked else {}
        # What was seen of others holds no more, from before the first of them is moved.
        self._seen = {
            each: state
            for each, state in self._seen.items()
            if each in lent.functions and lent.place(each) == self._lent.place(each)
        }
        self._lent = lent
        self._tagged = await self._blocking(partial(self._tag, lent.tags()))
        return lent, users

    async def _paired(
        self, spec: NodeStateSpec, resolved: Resolved, unknown: frozenset[str]
    ) -> vlans.Lent:
        """Return what the pods have, and what goes with it; the kubelet has been asked.

        Of `unknown` it is not known who has them now.
        """
        fabric = vlans_of(each for of in spec.dataplanes for each in of.vlans)
        foreign = frozenset(
            name for name, each in self._plugins.problems.items() if each.reason == RESOURCE_TAKEN
        )
        while True:
            addresses = {each.pci_address for each in spec.functions} - unknown
            used = await self._blocking(partial(self._cards.users, addresses)) if addresses else {}
            had = tuple(
                each for each in spec.functions if each.pod in used.get(each.pci_address, ())
            )
            tags = self._tagged.values()
            if not any(each.peer for each in spec.functions) and not any(t.interface for t in tags):
                return vlans.Lent(had)
            seen = await self._blocking(
                partial(self._cards.seen, resolved.desired, self._addresses)
            )
            cards = {address: (resolved.desired[address], pf) for address, pf in seen.items()}
            rules = peers.Rules(fabric, foreign, unknown)
            pairs = peers.pairs(spec.functions, had, cards, self._tagged, rules)
            news = frozenset(each.address for each in pairs.values() if each.address)
            if news <= self._reserved:
                return self._without_those_in_the_way(spec, had, pairs, cards)
            # No other pod gets it after the kubelet has said whose it is.
            news -= self._reserved
            self._reserved |= news
            self._give()
            if not await self._machine.ask_users():
                unknown |= news

    def _without_those_in_the_way(
        self,
        spec: NodeStateSpec,
        functions: tuple[NodeFunction, ...],
        pairs: Mapping[NodeFunction, peers.Pair],
        cards: peers.Cards,
    ) -> vlans.Lent:
        problems = {each: peers.in_the_way(each, pairs, cards, self._tagged) for each in functions}
        found = {each: problem for each, problem in problems.items() if problem is not None}
        there = tuple(each for each in functions if each not in found)
        return vlans.Lent(there, pairs, found, peers.kept(spec.functions, pairs, self._tagged))

    def _tag(self, tags: vlans.Tags) -> vlans.Tags:
        try:
            self._cards.tagged.add(tags)
        except OSError as error:
            log.error("VFs are put into no VLANs, as that cannot be noted: %s", error)
        return self._cards.tagged.all()

    def _untag(self, addresses: frozenset[str]) -> vlans.Tags:
        with suppress(OSError):
            # Those are looked at again.
            self._cards.tagged.discard(addresses)
        return self._cards.tagged.all()

    async def _read(self) -> None:
        await self._machine.ask_users()
        self._facts, self._addresses = await asyncio.to_thread(self._machine.read)

    def _look_at_devices(self) -> dict[str, str]:
        """Return what is wrong with those VFs that are given out."""
        every = [each for some in given(self._by_address.values()).values() for each in some]
        return {
            each.vf.address: fault
            for each in every
            # A machine is about to open its own.
            if each.well and each.want.driver is not None and not self._is_kept(each)
            if (fault := self._machine.fault(each.vf.address, each.want, used=bool(each.vf.users)))
        }

    async def _bring(self, desired: Desired) -> bool:
        """Have a PF as it is wanted; return whether anything was tried."""
        loop = asyncio.get_running_loop()
        address = desired.address
        last = self._by_address.get(address)
        tried = self._tried.get(address)

        def tell(what: str) -> None:
            loop.call_soon_threadsafe(self._work_on, desired, what)

        again = tried is not None and loop.time() >= tried.at
        try:
            card = await self._blocking(
                partial(self._cards.bring, desired, self._addresses, last, tell, again=again)
            )
        except InterruptedWorkError:
            raise
        except Exception as error:
            # Whatever it is, the other cards and the pods of the node need this agent.
            log.exception("PF %s", address)
            what = f"PF {address}: {type(error).__name__}: {error}"
            card = Card(desired, Condition(Reason.FAILED, what, passes=True))
        if card is last:
            return False
        self._by_address[address] = card
        if self._may_pass(card):
            self._tried[address] = self._later(address, card)
        else:
            self._tried.pop(address, None)
        return True

    def _work_on(self, desired: Desired, what: str) -> None:
        """Say what is being done: until it is done, its VFs are nobody's."""
        before = self._by_address.get(desired.address)
        pf = before.pf if before is not None else None
        self._by_address[desired.address] = Card(desired, Working(what), pf)
        if before is None or not isinstance(before.outcome, Working):
            self._give()
        if self._soon is None:
            # Of many steps the last will do.
            self._soon = asyncio.get_running_loop().call_later(self._pace.quiet, self._report)

    def _later(self, address: str, card: Card | None = None) -> _Tried:
        """Return when something is tried again."""
        first, longest = self._pace.retry
        times = self._tried.get(address, _Tried()).times
        seconds = min(first * 2.0 ** min(times, 16), longest)
        outcome = card.outcome if card is not None else None
        if isinstance(outcome, Condition) and outcome.reason is Reason.VFS_IN_USE:
            seconds = self._pace.in_use
        return _Tried(times + 1, asyncio.get_running_loop().time() + seconds)

    @staticmethod
    def _may_pass(card: Card) -> bool:
        """Whether it is tried again without a change."""
        if isinstance(card.outcome, Condition):
            return card.outcome.passes
        return isinstance(card.outcome, Working)

    def _give(self) -> dict[str, tuple[PluginDevice, ...]]:
        """Have the kubelet told which VFs there are, and return them by resource."""
        found = {
            name: tuple(
                PluginDevice(
                    each.vf.address,
                    each.vf.numa_node,
                    each.well and each.vf.address not in self._faults and not self._is_kept(each),
                    reserved=each.vf.address in self._reserved,
                )
                for each in some
            )
            for name, some in given(self._by_address.values()).items()
        }
        self._plugins.set(found)
        return found

    def _is_kept(self, given: Given) -> bool:
        """Whether a VF is an endpoint's, and no pod's."""
        tag = self._tagged.get(given.vf.address)
        return tag is not None and bool(tag.interface) and not pods(given.vf.users)

    def _report(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        state, newest = self._resolved_of, self._state
        if state is None or newest is None:
            return
        if state.spec == newest.spec:
            state = newest
        found = self._give()
        policies = state.spec.policies
        self._writer.report(
            node_state_status(
                state.metadata.generation,
                state.spec,
                self._facts,
                policy_states(policies, self._resolved, self._by_address),
                vlans.report(
                    state.spec.functions, self._seen, self._lent, self._tagged, self._by_address
                ),
                found,
                (
                    *self._faults.values(),
                    *(each.message for each in self._plugins.problems.values()),
                ),
                datetime.now(UTC),
            )
        )

    async def _say_ready(self) -> None:
        """Let pods start: when the cards are as wanted or need a hand, or after a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pace.ready):
                await self._settled.wait()
        self._ready()

    async def _blocking(self, act: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, act)
