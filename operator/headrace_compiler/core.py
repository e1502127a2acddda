# SPDX-License-Identifier: Apache-2.0
"""What is common to all kinds: who refers to whom, who is dirty, holds, failed, and is at fault.

A kind of object is a module with a subclass of Kind; it says what its objects refer to, claim,
allocate and put out. Nothing here knows any of them.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Protocol, TypeVar

from headrace_api import Object, Problem

from .claims import Claims, Owner
from .failures import Failures
from .outcome import Changes, Fault, Subject, problem

Spec = TypeVar("Spec")
Part = TypeVar("Part", bound="FromCore")
Key = TypeVar("Key")
Name = TypeVar("Name")
Value = TypeVar("Value")
Found = TypeVar("Found")

#: Takes what an owner wants; says why it may not have it. Another step follows where it may.
Step = Callable[[Owner], tuple[Fault, ...]]


class FromCore(Protocol):
    """What there is one of in each compiler."""

    def __init__(self, core: "Core") -> None:
        """Find the others that it needs with Core.part."""


@dataclass(frozen=True, slots=True)
class Entry(Generic[Spec]):
    """All of an object that the compiler reads."""

    created: str
    """RFC 3339, or empty: text order is age order."""
    spec: Spec
    uid: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


class Core:
    """What the kinds of one compiler share."""

    def __init__(self, namespace: str, sockets: str | None) -> None:
        self.namespace = namespace
        self.sockets = sockets
        self.claims = Claims()
        self.failures = Failures()
        self.unread: set[Subject] = set()
        """What exists and cannot be read."""
        self.now = 0
        """Of this flush, in seconds since 1970."""
        self.changes = Changes()
        """Of this flush."""
        self.kinds: dict[str, Kind[object]] = {}
        """By name, in the order in which they are looked at."""
        self._parts: dict[type, FromCore] = {}
        self._dirty: defaultdict[str, set[Owner]] = defaultdict(set)
        self._referrers: dict[Owner, set[Owner]] = {}
        self._watchers: defaultdict[str, list[Callable[[str], None]]] = defaultdict(list)
        # Object -> where it was found (a node, "routes") -> what is wrong.
        self._faults: dict[Subject, dict[str, tuple[Fault, ...]]] = {}
        self._looked_at: set[Subject] = set()

    def part(self, cls: type[Part]) -> Part:
        """The one of its class."""
        found = self._parts.get(cls)
        if found is None:
            found = self._parts[cls] = cls(self)
        if not isinstance(found, cls):
            raise TypeError(f"{found} is no {cls}")
        return found

    # Who depends on whom

    def refer(self, owner: Owner, before: Collection[Owner], now: Collection[Owner]) -> None:
        """Have the owner looked at whenever one of these changes, instead of those before."""
        for target in before:
            if target not in now:
                referrers = self._referrers[target]
                referrers.discard(owner)
                if not referrers:
                    del self._referrers[target]
        for target in now:
            if target not in before:
                self._referrers.setdefault(target, set()).add(owner)

    def referring(self, target: Owner) -> Collection[Owner]:
        """Who refers to it."""
        return self._referrers.get(target, ())

    def watch(self, kind: str, heard: Callable[[str], None]) -> None:
        """Be told the key of every object of the kind that comes, changes or goes."""
        self._watchers[kind].append(heard)

    def changed(self, kind: str, key: str) -> None:
        """An object came, changed or went: who refers to it is looked at."""
        self.mark(self.referring(Owner(kind, key)))
        self.tell(kind, key)

    def tell(self, kind: str, key: str) -> None:
        """Tell those who watch the kind, and nobody else."""
        for heard in self._watchers[kind]:
            heard(key)

    def mark(self, owners: Iterable[Owner]) -> None:
        """Have these looked at."""
        for owner in owners:
            self._dirty[owner.kind].add(owner)

    def wake(self, owners: Iterable[Owner]) -> None:
        """Have these looked at, as what they waited for is free, or another took it."""
        for owner in owners:
            self._dirty[owner.kind].add(owner)
            self.kinds[owner.kind].woken(owner)

    def dirty(self) -> list[Owner]:
        """Who is to be looked at, in the order of the kinds."""
        return [owner for kind in self.kinds for owner in self._dirty[kind]]

    def take_dirty(self, kind: str) -> list[Owner]:
        """Those of the kind, the oldest first; clean from now on."""
        dirty, self._dirty[kind] = self._dirty[kind], set()
        return self.by_age(owner for owner in dirty if owner.subject not in self.unread)

    def by_age(self, owners: Iterable[Owner]) -> list[Owner]:
        """Oldest first, then by key: of those that ask together, the first gets it."""
        return sorted(owners, key=lambda owner: (self.kinds[owner.kind].created(owner.key), owner))

    # What is wrong

    def attempt(self, owner: Owner, step: Step) -> tuple[Fault, ...]:
        """Take a step with an owner; an exception that nobody expected is its own fault."""
        try:
            return step(owner)
        except Exception as error:  # one object's fault must stop no other
            return self.failures.add(owner, error)

    def report(self, subject: Subject, where: str, faults: tuple[Fault, ...]) -> None:
        """Say what is wrong with an object as seen there; nothing: all is well there."""
        self._looked_at.add(subject)
        known = self._faults.setdefault(subject, {})
        put(known, where, faults or None)
        if not known:
            del self._faults[subject]

    def forget(self, subject: Subject) -> None:
        """The object is gone, and so is all that was wrong with it."""
        self._faults.pop(subject, None)

    def problems(self, subject: Subject) -> tuple[Problem, ...]:
        """All that is wrong with an object, sorted."""
        found = self._faults.get(subject, {}).values()
        return tuple(sorted({problem(*subject, fault) for faults in found for fault in faults}))

    def all_problems(self) -> tuple[Problem, ...]:
        """All that is wrong, sorted."""
        return tuple(sorted(found for each in self._faults for found in self.problems(each)))

    # A flush

    def begin(self, now: int) -> None:
        """Begin a flush; who failed in the last one is tried again."""
        self.now = now
        self.changes = Changes()
        self._looked_at = set()
        self.wake(self.failures.turn())

    def end(self) -> Changes:
        """End the flush."""
        self.changes.problems = {each: self.problems(each) for each in sorted(self._looked_at)}
        self.changes.traces = self.failures.news()
        return self.changes


class Kind(Generic[Spec]):
    """A kind of object: what it refers to, claims, allocates and puts out.

    A flush has each kind keep what its owners have, then, kind by kind, look at those that are
    dirty: `prepare` for all, then each of `steps` for all, then `settle` for each after its last.
    """

    name: ClassVar[str]

    def __init__(self, core: Core) -> None:
        self.core = core
        self.entries: dict[str, Entry[Spec]] = {}
        """By key: namespace/name, or name where cluster-scoped."""

    # Input

    def read(self, item: Object) -> Entry[Spec]:
        """All of an object of this kind that the compiler reads."""
        raise NotImplementedError

    def references(self, key: str, entry: Entry[Spec]) -> Collection[Owner]:
        """What the object names, and all else that it is compiled from."""
        return ()

    def put(self, key: str, entry: Entry[Spec] | None) -> None:
        """Put an object, or remove it (None). An equal one changes nothing."""
        old = self.entries.get(key)
        if old == entry:
            return
        put(self.entries, key, entry)
        self.core.refer(
            Owner(self.name, key),
            self.references(key, old) if old else (),
            self.references(key, entry) if entry else (),
        )
        self.changed(key, old, entry)

    def changed(self, key: str, old: Entry[Spec] | None, new: Entry[Spec] | None) -> None:
        """An object came (from None), changed or went (to None)."""
        self.core.mark([Owner(self.name, key)])
        self.core.changed(self.name, key)

    def readable(self, key: str) -> None:
        """An object that was held is to be put, or is gone."""
        self.core.mark([Owner(self.name, key), *self.core.referring(Owner(self.name, key))])

    def spec(self, key: str) -> Spec | None:
        """Spec of the object, if it exists."""
        entry = self.entries.get(key)
        return entry.spec if entry else None

    def created(self, key: str) -> str:
        """Creation time of the object; empty when unknown."""
        entry = self.entries.get(key)
        return entry.created if entry else ""

    # What owners hold

    def holds(self, owner: Owner) -> bool:
        """Whether the owner has something, accepted or not."""
        return False

    def woken(self, owner: Owner) -> None:
        """What the owner waited for is free, or another took it."""

    def keep(self, owner: Owner) -> None:
        """Give back what is no longer wanted of what an owner holds; it holds something."""

    def prepare(self, owners: Collection[Owner]) -> None:
        """Look at all that are dirty, before the first step."""

    @property
    def steps(self) -> tuple[Step, ...]:
        """What takes what users gave, then what allocates what they left open."""
        return ()

    def settle(self, owner: Owner, faults: tuple[Fault, ...]) -> None:
        """Make it so: without faults all steps were taken."""
        self.core.report(owner.subject, owner.node, faults)

    def finish(self) -> None:
        """Put out what came of it, once nobody is dirty: before routes and configs are written."""


def put(table: dict[Key, Value], key: Key, value: Value | None) -> None:
    """Set, or remove when there is nothing."""
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def record(
    table: dict[Key, Value],
    key: Key,
    value: Value | None,
    changes: dict[Name, Value | None],
    name: Name,
) -> None:
    """Set what is held, and note it if it is another than before."""
    if table.get(key) != value:
        put(table, key, value)
        changes[name] = value


def namespace_of(key: str) -> str:
    """The namespace of the object with this key."""
    return key.partition("/")[0]


def sibling(key: str, name: str) -> str:
    """Key of the object with this name in the namespace of another."""
    return f"{key.partition('/')[0]}/{name}"
