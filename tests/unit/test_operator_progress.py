# SPDX-License-Identifier: Apache-2.0
"""How far what is wanted has come: what conditions may say of it, and when."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from headrace_api import Json, network_of, routes_digest, slice_revision
from headrace_compiler import InterfaceAllocation
from headrace_kube import DATAPLANE_CONFIGS, FORMER_CONFIGS, FORMER_SLICES, SLICES, Kind
from headrace_operator import objects
from headrace_operator.agents import REPORT_TIMEOUT, ReportChanges
from headrace_operator.cache import Cache
from headrace_operator.desired import Desired
from headrace_operator.liveness import PipelineNode, State
from headrace_operator.progress import Progress
from headrace_operator.render import Report
from headrace_operator.sharding import Sharding
from headrace_operator.work import Work
from tests.specs import slice_spec

READY = {"type": "Ready", "status": "True", "reason": "Forwarding", "message": "m"}
DOWN = {"type": "Ready", "status": "False", "reason": "EngineDown", "message": "no hugepages"}
HELD = InterfaceAllocation("ns/net", "edge", "a", "fd00::2", ("10.0.0.2",))
CONFIG, SLICE = "sys/edge.a", "sys/ns.net.0"
NETWORKS = Work(SLICES, "sys/edge.a.networks.0")
INTERFACES = Work(SLICES, "sys/edge.a.interfaces.0")
NET = "ns/net"


def config(*interfaces: str, mtu: int = 1500, workers: int = 1) -> Json:
    return {
        "kind": "DataplaneConfig",
        "metadata": {"name": "edge.a", "namespace": "sys"},
        "spec": {
            "pipelineName": "edge",
            "nodeName": "a",
            "workers": {"count": workers},
            "networks": [{"namespace": "ns", "name": "net", "mtu": mtu}],
            "interfaces": [{"namespace": "ns", "name": name} for name in interfaces],
        },
    }


def routes(*prefixes: str, name: str = "ns.net.0") -> Json:
    hops: Any = [{"underlayAddress": "fd00::2", "weight": 1}]
    return {
        "kind": "Slice",
        "metadata": {"name": name, "namespace": "sys"},
        "spec": slice_spec(
            NET, *({"prefix": prefix, "nextHops": hops} for prefix in prefixes), vni=7
        ),
    }


@dataclass
class Site:
    """An API server and its agents, as the operator sees them."""

    now: float = 100.0
    version: int = 0
    there: dict[tuple[Kind, str], dict[str, Any]] = field(default_factory=dict)
    changes: list[ReportChanges] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sharding = Sharding()
        kinds = (DATAPLANE_CONFIGS, SLICES, FORMER_CONFIGS, FORMER_SLICES)
        self.cache = Cache(kinds, self._changed)
        self.start()

    def start(self) -> None:
        """An operator starts, which knows nothing yet but what is there."""
        self.desired = Desired({}, lambda _: None)
        self.progress = Progress(self.cache, self.desired, "sys", lambda: self.now)
        self.progress.former.load()
        for kind in self.cache.kinds:
            for key, item in self.cache.all(kind):
                if kind is not FORMER_SLICES:
                    self.progress.observe(Work(kind, key), item)

    def _changed(self, kind: Kind, key: str, _before: Json | None, after: Json | None) -> None:
        if kind is not FORMER_SLICES:
            self.changes.append(self.progress.observe(Work(kind, key), after))

    def want(self, kind: Kind, key: str, item: Json) -> None:
        self.progress.desire(Work(kind, key), item)

    def write(self, kind: Kind, key: str, item: Json) -> None:
        """The API server takes it; of a DataplaneConfig its Slices first."""
        if kind is DATAPLANE_CONFIGS:
            found, slices = self.sharding.spread("edge.a", item)
            assert found is not None
            item = found
            for name, each in slices.items():
                assert each is not None
                self._write(SLICES, f"sys/{name}", each["spec"])
        self._write(kind, key, item["spec"])

    def _write(self, kind: Kind, key: str, spec: Any) -> None:
        before = self.there.get((kind, key), {})
        generation = before.get("metadata", {}).get("generation", 0)
        generation += before.get("spec") != spec
        self._put(kind, key, spec, generation, before.get("status", {}))

    def both(self, kind: Kind, key: str, item: Json) -> None:
        self.want(kind, key, item)
        self.write(kind, key, item)

    def say(
        self,
        observed: int | None = None,
        ready: Any = READY,
        *,
        copied: bool = False,
        **status: Any,
    ) -> None:
        """The agent reports: all is well, or as given; `observed` is as far as it has come.

        `copied`: it is of release 0.2, and reports on the copy.
        """
        names = ("namespace", "name")
        if copied:
            there = self.there[FORMER_CONFIGS, CONFIG]
            generation = there["metadata"]["generation"]
            whole: Any = {
                "observedGeneration": generation,
                "conditions": [ready],
                "networks": self.digests("d0.2"),
                "interfaces": [
                    {**{name: each[name] for name in names}, "ready": True, "reason": "Forwarding"}
                    for each in there["spec"]["interfaces"]
                ],
                **status,
            }
            self._put(FORMER_CONFIGS, CONFIG, there["spec"], generation, whole)
            return
        for (kind, key), there in [*self.there.items()]:
            if kind not in (DATAPLANE_CONFIGS, SLICES):
                continue
            generation = there["metadata"]["generation"]
            said: Any = {"observedGeneration": min(observed or generation, generation)}
            entries = [
                {**{name: each[name] for name in names}, "ready": True, "reason": "Forwarding"}
                for each in there["spec"].get("entries", ())
                if ".interfaces." in key
            ]
            if key == CONFIG:
                said |= {"conditions": [ready]}
            elif ".networks." in key:
                said |= {"entries": status.get("networks", [])}
            elif ".interfaces." in key:
                said |= {"entries": entries}
            else:
                continue
            self._put(kind, key, there["spec"], generation, said)

    def _put(self, kind: Kind, key: str, spec: Any, generation: int, status: Any) -> None:
        self.version += 1
        namespace, name = key.split("/")
        metadata = {
            "namespace": namespace,
            "name": name,
            "uid": "u" if kind in (DATAPLANE_CONFIGS, SLICES) else "former",
            "generation": generation,
            "labels": {objects.MANAGED_BY: objects.MANAGER},
        }
        names = {"apiVersion": kind.api_version, "kind": kind.name}
        item = {**names, "metadata": metadata, "spec": spec, "status": status}
        self.there[kind, key] = item
        marked: Any = {**metadata, "resourceVersion": str(self.version)}
        self.cache.put(kind, {**item, "metadata": marked})

    @property
    def digest(self) -> str:
        """Of what is written."""
        return routes_digest(
            slice_revision(item["metadata"]["name"], "u", item["metadata"]["generation"])
            for item in self.there.values()
            if network_of(item["spec"])
        )

    def digests(self, digest: str | None = None, **more: str) -> list[dict[str, str]]:
        given = self.digest if digest is None else digest
        return [{"namespace": "ns", "name": "net", "digest": given, **more}]

    def interface(self) -> tuple[Report, str | None]:
        report, obstacle = self.progress.interface("ns/vm", HELD)
        return report, obstacle.reason if obstacle else None

    def network(self) -> tuple[int, int, int, str | None]:
        """Nodes with it, without it, unheard of; what keeps it from being written."""
        progress, _ = self.progress.network(NET)
        return (
            len(progress.programmed),
            len(progress.lacking),
            len(progress.unreachable),
            progress.unwritten.reason if progress.unwritten else None,
        )

    def failing(self) -> dict[str, str]:
        return self.progress.pipeline("edge", ["a"])[0]


@pytest.fixture
def site() -> Site:
    """One node with one Interface; all is written and reported."""
    found = Site()
    found.both(DATAPLANE_CONFIGS, CONFIG, config("vm"))
    found.both(SLICES, SLICE, routes("10.0.0.2/32"))
    found.say(networks=found.digests())
    return found


def test_what_is_written_and_reported_is_programmed(site: Site) -> None:
    assert site.interface() == (Report(True, "Forwarding", ""), None)
    assert site.network() == (1, 0, 0, None)
    assert site.failing() == {}


# Written.


@pytest.mark.parametrize(
    ("refused", "reason"), [(False, "WritePending"), (True, "WriteRefused")]
)  # fmt: skip
def test_what_is_not_written_is_no_verdict(site: Site, refused: bool, reason: str) -> None:
    changed: Any = config("vm")
    changed["spec"]["interfaces"][0]["mtu"] = 1400
    site.want(DATAPLANE_CONFIGS, CONFIG, changed)
    assert site.interface()[1] == "WritePending"
    assert site.desired.failed(INTERFACES, "no", refused=refused)
    assert not site.desired.failed(INTERFACES, "no", refused=refused)
    assert site.interface()[1] == reason
    # Of the rest of the node it says nothing.
    assert (site.network(), site.failing()) == ((1, 0, 0, None), {})
    site.write(DATAPLANE_CONFIGS, CONFIG, changed)
    assert site.desired.failed(INTERFACES, "", refused=False)
    assert site.interface()[0].ready is None
    site.say(networks=site.digests())
    assert site.interface() == (Report(True, "Forwarding", ""), None)


def test_a_config_that_is_refused_keeps_network_and_pipeline_waiting(site: Site) -> None:
    site.want(DATAPLANE_CONFIGS, CONFIG, config("vm", mtu=1400, workers=2))
    for work in (Work(DATAPLANE_CONFIGS, CONFIG), NETWORKS):
        site.desired.failed(work, "too large", refused=True)
    progress, _ = site.progress.network(NET)
    assert [verdict.reason for verdict in progress.lacking.values()] == ["WriteRefused"]
    assert "too large" in site.failing()["a"]
    assert site.interface()[1] is None


def test_routes_that_are_not_written_are_said(site: Site) -> None:
    site.want(SLICES, SLICE, routes("10.0.0.2/32", "10.0.0.3/32"))
    site.desired.failed(Work(SLICES, SLICE), "quota", refused=True)
    assert site.network()[3] == "WriteRefused"
    assert site.interface()[1] == "WriteRefused"


def test_routes_that_are_there_suffer_from_no_others(site: Site) -> None:
    wanted: Any = routes("10.0.0.2/32", "10.0.0.3/32")
    wanted["spec"]["entries"][1]["nextHops"] = [{"underlayAddress": "fd00::9", "weight": 1}]
    site.want(SLICES, SLICE, wanted)
    site.desired.failed(Work(SLICES, SLICE), "quota", refused=True)
    assert site.interface()[1] is None
    other = InterfaceAllocation(NET, "edge", "a", "fd00::9", ())
    verdict = site.progress.interface("ns/vm", other)[1]
    assert verdict is not None
    assert verdict.reason == "WriteRefused"


def test_what_the_api_server_says_in_other_words_is_written(site: Site) -> None:
    work = Work(DATAPLANE_CONFIGS, CONFIG)
    site.want(DATAPLANE_CONFIGS, CONFIG, config("vm", workers=2))
    defaulted: Any = config("vm", workers=2)
    defaulted["spec"]["more"] = "Disabled"
    site.write(DATAPLANE_CONFIGS, CONFIG, defaulted)
    desired = site.desired.get(work)
    assert desired is not None
    site.desired.applied(work, desired, site.there[DATAPLANE_CONFIGS, CONFIG])
    site.progress.applied(work)
    site.say(networks=site.digests())
    assert (site.failing(), site.interface()[1]) == ({}, None)


# Reported.


def test_a_report_on_what_was_before_does_not_count(site: Site) -> None:
    changed: Any = config("vm", mtu=1400, workers=2)
    changed["spec"]["interfaces"][0]["mtu"] = 1400
    site.both(DATAPLANE_CONFIGS, CONFIG, changed)
    assert site.interface()[0].ready is None
    assert site.network() == (0, 1, 0, None)
    assert site.failing() == {"a": "its agent has not taken the newest configuration"}


def test_a_neighbour_s_change_takes_nobody_s_word(site: Site) -> None:
    site.changes.clear()
    site.both(DATAPLANE_CONFIGS, CONFIG, config("vm", "other"))
    assert [each for each in site.changes if each != ReportChanges()] == [
        ReportChanges(interfaces=frozenset({"ns/other"}))
    ]
    assert site.interface()[0].ready is True
    assert (site.network(), site.failing()) == ((1, 0, 0, None), {})


def test_an_agent_that_stays_behind_is_said_to_be(site: Site) -> None:
    for name in ("b", "c"):
        site.both(DATAPLANE_CONFIGS, CONFIG, config("vm", name))
    site.now += REPORT_TIMEOUT - 1
    assert site.progress.late_in("edge", ["a"]) == 1
    # It takes one after the other: that is progress.
    site.say(2, networks=site.digests())
    site.now += REPORT_TIMEOUT - 1
    assert site.failing() == {}
    site.now += 1
    assert site.failing() == {"a": "its agent has not taken the newest configuration"}
    site.say(networks=site.digests())
    assert (site.failing(), site.progress.late_in("edge", ["a"])) == ({}, None)


def test_what_is_made_anew_has_no_report(site: Site) -> None:
    def anew(work: Work) -> None:
        there = site.there[work.kind, work.key]
        metadata = {**there["metadata"], "uid": "other", "resourceVersion": "99"}
        site.cache.put(work.kind, {**there, "metadata": metadata, "status": {}})

    anew(Work(DATAPLANE_CONFIGS, CONFIG))
    assert site.failing() == {"a": "its agent has not reported yet"}
    # What was said of its Slices is so.
    assert (site.interface()[0].ready, site.network()[:2]) == (True, (1, 0))
    anew(INTERFACES)
    assert (site.interface()[0].ready, site.network()[:2]) == (None, (1, 0))
    anew(NETWORKS)
    assert site.network()[:2] == (0, 1)


def test_a_slice_made_anew_counts_anew(site: Site) -> None:
    for name in ("b", "c"):
        site.both(DATAPLANE_CONFIGS, CONFIG, config("vm", name))
    held = InterfaceAllocation("ns/net", "edge", "a", "fd00::3", ())
    there = site.there[SLICES, INTERFACES.key]
    assert there["metadata"]["generation"] == 3
    metadata = {**there["metadata"], "uid": "other", "generation": 1, "resourceVersion": "99"}
    entries: Any = [{"namespace": "ns", "name": "c", "ready": True, "reason": "Forwarding"}]
    item = {**there, "metadata": metadata, "status": {"entries": entries}}
    site.cache.put(SLICES, item)
    assert site.progress.interface("ns/c", held)[0].ready is None
    metadata = {**metadata, "resourceVersion": "100"}
    status: Any = {"observedGeneration": 1, "entries": entries}
    site.cache.put(SLICES, {**item, "metadata": metadata, "status": status})
    assert site.progress.interface("ns/c", held)[0].ready is True


def test_an_engine_that_is_down_has_nothing(site: Site) -> None:
    site.say(ready=DOWN, networks=[])
    progress, _ = site.progress.network(NET)
    assert [verdict.message for verdict in progress.lacking.values()] == [
        "EngineDown: no hugepages"
    ]  # fmt: skip


def test_what_an_engine_refuses_is_said(site: Site) -> None:
    site.say(networks=site.digests("", reason="Refused", message="10.0.0.0/8: no"))
    progress, _ = site.progress.network(NET)
    (verdict,) = progress.lacking.values()
    assert (verdict.status, verdict.reason, verdict.message) == (
        "False",
        "Refused",
        "10.0.0.0/8: no",
    )


# Routes.


def test_routes_on_their_way_count_for_some_seconds(site: Site) -> None:
    site.both(SLICES, SLICE, routes("10.0.0.2/32", "10.0.0.3/32"))
    progress, passing = site.progress.network(NET)
    assert (len(progress.programmed), passing) == (1, True)
    site.now += REPORT_TIMEOUT
    assert site.network() == (0, 1, 0, None)
    site.say(networks=site.digests())
    assert site.progress.network(NET)[1] is False
    assert site.network() == (1, 0, 0, None)


def test_networks_whose_routes_always_change_are_programmed(site: Site) -> None:
    for number in range(3, 30):
        old = site.digest
        site.both(SLICES, SLICE, routes(f"10.0.0.{number}/32"))
        site.now += REPORT_TIMEOUT / 2
        site.say(networks=site.digests(old))
        assert site.network() == (1, 0, 0, None)


def test_a_new_generation_is_programmed_when_its_own_routes_are(site: Site) -> None:
    site.progress.recompiled(NET)
    site.want(SLICES, SLICE, routes("10.9.0.0/16"))
    assert site.network() == (0, 1, 0, "WritePending")
    site.now += 1
    site.write(SLICES, SLICE, routes("10.9.0.0/16"))
    # What was right before does not count, however short ago.
    assert site.network() == (0, 1, 0, None)
    good = site.digest
    site.now += 1
    site.both(SLICES, SLICE, routes("10.9.0.0/16", "10.8.0.0/16"))
    site.say(networks=site.digests(good))
    assert site.network() == (1, 0, 0, None)


def test_a_digest_that_nobody_knows_is_not_right(site: Site) -> None:
    site.say(networks=site.digests("7"))
    assert site.network() == (0, 1, 0, None)
    site.say(networks=[])
    assert site.network() == (0, 1, 0, None)


def test_several_slices_make_one_digest(site: Site) -> None:
    site.both(SLICES, "sys/ns.net.1", routes("10.1.0.0/16", name="ns.net.1"))
    site.say(networks=site.digests())
    assert site.network() == (1, 0, 0, None)
    site.progress.desire(Work(SLICES, "sys/ns.net.1"), None)
    site.now += REPORT_TIMEOUT
    assert site.network() == (0, 1, 0, None)


# Heard of.


def test_those_that_are_not_heard_of_are_counted_apart(site: Site) -> None:
    for state in (State.AGENT_UNREACHABLE, State.NODE_UNREACHABLE):
        site.progress.states = {PipelineNode("edge", "a"): state, PipelineNode("core", "b"): state}
        assert site.network() == (0, 0, 1, None)
        assert site.interface()[1] == state
        assert site.progress.pipeline("edge", ["a"])[1] == {"a": state}


def test_a_node_that_returns_is_heard_of(site: Site) -> None:
    before = site.network(), site.interface()
    site.progress.states = {PipelineNode("edge", "a"): State.NODE_RETURNING}
    assert (site.network(), site.interface()) == before


def test_what_is_gone_is_forgotten(site: Site) -> None:
    assert site.progress.desire(Work(DATAPLANE_CONFIGS, CONFIG), None) == {NET}
    assert site.network() == (0, 0, 0, None)
    there: Any = {**site.there[DATAPLANE_CONFIGS, CONFIG]}
    there["metadata"] = {**there["metadata"], "resourceVersion": "99"}
    site.cache.remove(DATAPLANE_CONFIGS, there)
    assert site.changes[-1] == ReportChanges(frozenset({"ns/vm"}), frozenset({NET}))
    assert site.interface()[0].ready is None
