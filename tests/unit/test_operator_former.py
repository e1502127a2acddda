# SPDX-License-Identifier: Apache-2.0
"""An operator takes over from one of release 0.2, whose agents follow objects of another group."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from headrace_api import FEATURES, LISTS, Json, assembled, network_of
from headrace_api.raw import mapping, part
from headrace_kube import (
    DAEMON_SETS,
    DATAPLANE_CONFIGS,
    FORMER_CONFIGS,
    FORMER_SLICES,
    INTERFACES,
    NODES,
    PIPELINES,
    SLICES,
    VIRTUAL_NETWORKS,
    Kind,
)
from headrace_operator.agents import ReportChanges
from headrace_operator.main import _Replica
from headrace_operator.render import Report, Settings
from headrace_operator.upgrade.convert import reverted
from headrace_operator.work import Work
from tests.specs import slice_spec
from tests.unit import test_operator_controller as controllers
from tests.unit.clock import in_no_time
from tests.unit.fake_api import FakeApi
from tests.unit.test_operator_progress import (
    CONFIG,
    DOWN,
    NET,
    READY,
    SLICE,
    Site,
    config,
    routes,
)
from tests.unit.test_operator_writer import (
    SYSTEM,
    TENANTS,
    Operator,
    interface,
    meta,
    no_settling,
    pipeline,
    running,
)

__all__ = ["no_settling"]

FORWARDS = Report(True, "Forwarding", "")
FORMER = {DATAPLANE_CONFIGS: FORMER_CONFIGS, SLICES: FORMER_SLICES}
GOES = {"Accepted", "ResolvedRefs", "Forwarding"}
COPY, ROUTES = Work(FORMER_CONFIGS, CONFIG), Work(FORMER_SLICES, SLICE)


def former(item: Json) -> Any:
    found = reverted(item)
    assert found is not None
    return found


@pytest.fixture
def site() -> Site:
    """Release 0.2 had written all and its agent reported; this operator has compiled the same."""
    found = Site()
    found.write(FORMER_CONFIGS, CONFIG, former(config("vm")))
    found.write(FORMER_SLICES, SLICE, former(routes("10.0.0.2/32")))
    # Of its slices, which have other revisions.
    found.say(copied=True, networks=found.digests("d0.2"))
    found.start()
    found.want(DATAPLANE_CONFIGS, CONFIG, config("vm"))
    found.want(SLICES, SLICE, routes("10.0.0.2/32"))
    return found


@pytest.fixture
def both(site: Site) -> Site:
    """All is written in the group of this release, too."""
    site.write(DATAPLANE_CONFIGS, CONFIG, config("vm"))
    site.write(SLICES, SLICE, routes("10.0.0.2/32"))
    return site


# What is told.


def test_an_agent_of_the_release_before_is_taken_at_what_it_has_seen(site: Site) -> None:
    assert site.interface() == (FORWARDS, "WritePending")
    site.changes.clear()
    site.write(DATAPLANE_CONFIGS, CONFIG, config("vm"))
    site.write(SLICES, SLICE, routes("10.0.0.2/32"))
    # Nothing is reported of it.
    assert site.changes[0] == ReportChanges()
    assert (site.interface(), site.network()) == ((FORWARDS, None), (1, 0, 0, None))
    assert site.failing() == {}
    site.say(copied=True, ready=DOWN, networks=[])
    assert site.failing() == {"a": "EngineDown: no hugepages"}
    assert site.network() == (0, 1, 0, None)


def test_what_its_engine_refuses_is_said(both: Site) -> None:
    both.say(copied=True, networks=both.digests("", reason="Refused", message="10.0.0.0/8: no"))
    progress, _ = both.progress.network(NET)
    (verdict,) = progress.lacking.values()
    assert (verdict.reason, verdict.message) == ("Refused", "10.0.0.0/8: no")


def test_a_change_is_compiled_for_both_and_counts_where_the_agent_has_it(both: Site) -> None:
    changed: Any = config("vm", mtu=1400, workers=2)
    changed["spec"]["interfaces"][0]["mtu"] = 1400
    both.want(DATAPLANE_CONFIGS, CONFIG, changed)
    copy: Any = both.desired.get(COPY)
    assert {**copy, "metadata": changed["metadata"]} == former(changed)
    assert copy["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "headrace-operator"
    both.write(DATAPLANE_CONFIGS, CONFIG, changed)
    # Its agent has no use for that.
    assert both.interface()[1] == "WritePending"
    assert "is not written yet" in both.failing()["a"]
    both.desired.failed(COPY, "no", refused=True)
    assert both.interface()[1] == "WriteRefused"
    both.write(FORMER_CONFIGS, CONFIG, copy)
    assert (both.interface()[0].ready, both.interface()[1]) == (None, None)
    assert both.network() == (0, 1, 0, None)
    both.say(copied=True)
    assert (both.interface(), both.network()) == ((FORWARDS, None), (1, 0, 0, None))
    assert both.failing() == {}


def test_a_report_on_this_release_s_object_ends_its_copies(both: Site) -> None:
    both.say(networks=both.digests())
    assert both.progress.former.follows(Work(DATAPLANE_CONFIGS, CONFIG))
    both.changes.clear()
    assert both.progress.retire(Work(DATAPLANE_CONFIGS, CONFIG)).networks == {NET}
    assert both.desired.get(COPY) is both.desired.get(ROUTES) is None
    assert (both.interface(), both.network()) == ((FORWARDS, None), (1, 0, 0, None))
    # It counts whole, digests too, and the other one's does not any more.
    both.say(copied=True, ready=DOWN)
    assert both.changes[-1] == ReportChanges()
    assert both.failing() == {}
    both.say(networks=both.digests("7"))
    assert both.network() == (0, 1, 0, None)
    # Nothing is copied again.
    both.want(DATAPLANE_CONFIGS, CONFIG, config("vm", mtu=1400))
    both.want(SLICES, SLICE, routes("10.0.0.3/32"))
    assert both.desired.get(COPY) is both.desired.get(ROUTES) is None


def test_copies_that_are_not_written_yet_are_not_wanted_any_more_either(both: Site) -> None:
    """Whoever writes them has not come to them: the API server has never had them."""
    more = Work(FORMER_SLICES, "sys/ns.net.1")
    both.want(SLICES, more.key, routes("10.1.0.0/16", name="ns.net.1"))
    assert both.desired.get(more) is not None
    both.say(networks=both.digests())
    both.progress.retire(Work(DATAPLANE_CONFIGS, CONFIG))
    assert both.desired.get(more) is None


def test_a_slice_of_another_type_is_not_copied(both: Site) -> None:
    item: Json = {**routes(), "spec": {**slice_spec(NET), "type": "Policies"}}
    both.want(SLICES, SLICE, item)
    assert both.desired.get(Work(SLICES, SLICE)) is not None
    assert both.desired.get(ROUTES) is None


def test_what_is_gone_has_no_copy(both: Site) -> None:
    both.progress.desire(Work(SLICES, SLICE), None)
    both.progress.desire(Work(DATAPLANE_CONFIGS, CONFIG), None)
    assert both.desired.get(COPY) is both.desired.get(ROUTES) is None


def test_an_operator_that_starts_in_the_middle_goes_on(both: Site) -> None:
    both.start()
    both.want(DATAPLANE_CONFIGS, CONFIG, config("vm"))
    both.want(SLICES, SLICE, routes("10.0.0.2/32"))
    assert (both.interface(), both.network()) == ((FORWARDS, None), (1, 0, 0, None))
    assert both.desired.get(COPY) is not None
    # Its agent has reported, and nobody has taken the copies away.
    both.say(networks=both.digests("7"))
    both.start()
    both.want(DATAPLANE_CONFIGS, CONFIG, config("vm"))
    both.want(SLICES, SLICE, routes("10.0.0.2/32"))
    assert both.network() == (0, 1, 0, None)
    assert both.desired.get(COPY) is both.desired.get(ROUTES) is None


def test_somebody_else_s_object_is_no_copy() -> None:
    site = Site()
    site.write(FORMER_CONFIGS, CONFIG, former(config("vm")))
    theirs: Any = site.there[FORMER_CONFIGS, CONFIG]
    theirs = {**theirs, "metadata": {**theirs["metadata"], "labels": {}, "resourceVersion": "9"}}
    site.cache.put(FORMER_CONFIGS, theirs)
    site.start()
    site.both(DATAPLANE_CONFIGS, CONFIG, config("vm"))
    assert site.desired.get(COPY) is None
    site.say()
    assert site.failing() == {}


# What was given out.


def test_what_there_is_of_both_releases_is_of_this_one_with_the_agent_s_word(both: Site) -> None:
    both.write(DATAPLANE_CONFIGS, CONFIG, config("vm", mtu=1400))
    both.write(FORMER_SLICES, "sys/ns.net.1", former(routes("10.1.0.0/16", name="ns.net.1")))
    both.write(SLICES, SLICE, routes("10.0.0.3/32"))
    (found,), slices = both.progress.former.compiled()
    assert found["apiVersion"] == DATAPLANE_CONFIGS.api_version
    names = ["edge.a.networks.0", "edge.a.interfaces.0"]
    assert found["spec"] == {**part(config("vm", mtu=1400), "spec"), "slices": names}
    assert found["status"] == both.there[FORMER_CONFIGS, CONFIG]["status"]
    assert {each["apiVersion"] for each in slices} == {SLICES.api_version}
    specs = {
        str(mapping(each["metadata"])["name"]): each["spec"]
        for each in slices
        if network_of(part(each, "spec"))
    }
    assert specs == {
        "ns.net.0": routes("10.0.0.3/32")["spec"],
        "ns.net.1": routes("10.1.0.0/16")["spec"],
    }
    # The agent reports there: the copy says nothing more.
    both.say()
    both.start()
    (found,), _ = both.progress.former.compiled()
    assert part(found, "status")["conditions"] == [READY]
    assert "d0.2" not in str(found)


# The controller.


class World(controllers.World):
    """Where release 0.2 ran; it had given out values that nobody would get anew."""

    async def take_over(self, *, features: tuple[str, ...] = FEATURES[:2]) -> None:
        """Start the operator of this release; `features` are what agents of 0.2 understand."""
        gone = [(NODES, "0"), (VIRTUAL_NETWORKS, "0"), (INTERFACES, "0")]
        self.node("0", "True")
        self.put(VIRTUAL_NETWORKS, "0", "0", {"subnets": [{"prefix": "10.0.0.0/24"}]})
        self.put(INTERFACES, "0", "ns", {**self.spec(INTERFACES, "on-a"), "nodeName": "0"})
        await self.start()
        for kind, name in gone:
            self.remove(kind, name)
        await self.compiled()
        made: dict[Work, Json | None] = {
            Work(DATAPLANE_CONFIGS, self.key(node)): self.whole(node) for node in "abc"
        }
        made[controllers.SLICE] = self.controller.desired(controllers.SLICE)
        await self.stop()
        for work, item in made.items():
            assert item is not None
            # Its routes were in another slice.
            text = json.dumps(reverted(item)).replace("ns.net.0", "ns.net.3")
            self.hold(FORMER[work.kind], json.loads(text))
        for node in "abc":
            self.report(FORMER_CONFIGS, node, features)
        await self.start()

    def remove(self, kind: Kind, name: str) -> None:
        """Have an object gone, and its deletion seen."""
        self.version += 1
        gone = self.objects.pop((kind, name))
        metadata: Json = {**part(gone, "metadata"), "resourceVersion": str(self.version)}
        self.controller.cache.remove(kind, {**gone, "metadata": metadata})

    def spec(self, kind: Kind, name: str) -> Json:
        return part(self.objects[kind, name], "spec")

    @staticmethod
    def key(node: str) -> str:
        return f"{controllers.NAMESPACE}/edge.{node}"

    def hold(self, kind: Kind, item: Any) -> None:
        """Have the object at the API server."""
        self.version += 1
        metadata = item["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}"
        given: Any = {"uid": f"{kind.plural}.{key}", "generation": 1}
        given["resourceVersion"] = str(self.version)
        self.objects[kind, key] = {**item, "metadata": {**metadata, **given}}

    def report(self, kind: Kind, node: str, features: tuple[str, ...] = FEATURES) -> None:
        """The agent of a node reports that all is well."""
        item: Any = self.objects[kind, self.key(node)]

        def states(entries: Any) -> Any:
            good = {"ready": True, "reason": "Forwarding"}
            return [{**{n: each[n] for n in ("namespace", "name")}, **good} for each in entries]

        status: Any = {
            "observedGeneration": 1,
            "features": [*features],
            "conditions": [READY],
            "interfaces": states(item["spec"].get("interfaces", ())),
        }
        self.hold(kind, {**item, "status": status})
        for name in item["spec"].get("slices", ()):
            held: Any = self.objects[SLICES, f"{controllers.NAMESPACE}/{name}"]
            said: Any = {"observedGeneration": 1, "entries": states(held["spec"]["entries"])}
            self.hold(SLICES, {**held, "status": said})

    def write_all(self) -> None:
        """Have what is wanted in this release's group at the API server, and pods."""
        for work in (*self.parts("abc"), FOURTH):
            self.write(work.kind, work.key)
        for node in "abc":
            self.write(DATAPLANE_CONFIGS, self.key(node))
        pods = f"{controllers.NAMESPACE}/headrace-edge"
        self.write(DAEMON_SETS, pods)
        self.objects[DAEMON_SETS, pods]["status"] = {
            "observedGeneration": 1,
            "desiredNumberScheduled": 3,
            "updatedNumberScheduled": 3,
            "numberReady": 3,
        }
        self.tell()

    def copies(self) -> set[str]:
        """Nodes whose copies are wanted, and `routes` where those of slices are."""
        wanted = self.controller.desired
        nodes = {node for node in "abc" if wanted(Work(FORMER_CONFIGS, self.key(node)))}
        return nodes | ({"routes"} if wanted(Work(FORMER_SLICES, FOURTH.key)) else set())


FOURTH = Work(SLICES, f"{controllers.NAMESPACE}/ns.net.3")


def test_values_that_the_release_before_gave_out_stay() -> None:
    async def story() -> None:
        world = World()
        await world.start()
        fresh: Any = world.whole("a")
        await world.stop()
        world = World()
        await world.take_over()
        found = {Work(DATAPLANE_CONFIGS, world.key(node)): world.whole(node) for node in "abc"}
        found[FOURTH] = world.controller.desired(FOURTH) or {}
        for work, wanted in found.items():
            copy = Work(FORMER[work.kind], work.key)
            # There is nothing to be written there.
            assert world.controller.is_written(copy, world.objects[copy.kind, copy.key])
            there: Any = world.objects[copy.kind, copy.key]
            assert former(wanted)["spec"] == there["spec"]
        assert world.controller.desired(controllers.SLICE) is None
        kept: Any = world.whole("a")
        for path in (
            ("underlayPrefix",),
            ("networks", 0, "vni"),
            ("networks", 0, "routeSlices"),
            ("interfaces", 0, "addresses"),
            ("interfaces", 0, "underlayAddress"),
        ):
            before, after = fresh["spec"], kept["spec"]
            for name in path:
                before, after = before[name], after[name]
            assert before != after, path
        await world.stop()

    asyncio.run(story())


def test_copies_are_kept_for_those_who_follow_them_and_routes_until_the_last() -> None:
    async def story() -> None:
        world = World()
        await world.take_over()
        assert world.copies() == {"a", "b", "c", "routes"}
        world.write_all()
        for name in ("on-a", "on-b"):
            assert world.reasons(INTERFACES, f"ns/{name}") == GOES
        for node, left in (("b", {"a", "c", "routes"}), ("a", {"c", "routes"}), ("c", set())):
            world.report(DATAPLANE_CONFIGS, node)
            world.tell()
            assert world.copies() == left
            assert world.reasons(INTERFACES, "ns/on-b") == GOES
        # What comes later has none.
        world.put(VIRTUAL_NETWORKS, "other", "ns", world.spec(VIRTUAL_NETWORKS, "net"))
        spec: Json = {**world.spec(INTERFACES, "on-a"), "networkRef": {"name": "other"}}
        world.put(INTERFACES, "other", "ns", spec)
        world.tell()
        await world.compiled()
        key = f"{controllers.NAMESPACE}/ns.other.0"
        assert world.controller.desired(Work(SLICES, key)) is not None
        assert world.controller.desired(Work(FORMER_SLICES, key)) is None
        assert world.copies() == set()
        await world.stop()

    asyncio.run(story())


def test_a_copy_that_somebody_deletes_does_not_come_again() -> None:
    async def story() -> None:
        world = World()
        await world.take_over()
        world.write_all()
        for node, left in (("a", {"b", "c", "routes"}), ("b", {"c", "routes"}), ("c", set())):
            world.remove(FORMER_CONFIGS, world.key(node))
            assert world.copies() == left
        # Its agent's word went with it.
        assert "Forwarding" not in world.reasons(INTERFACES, "ns/on-a")
        world.report(DATAPLANE_CONFIGS, "a")
        world.tell()
        assert world.reasons(INTERFACES, "ns/on-a") == GOES
        await world.stop()

    asyncio.run(story())


@pytest.mark.parametrize("begins", [True, False])
def test_what_the_agents_of_copies_do_not_understand_is_told(begins: bool) -> None:
    """Whether the operator finds it so, or it comes to be."""
    several: Json = {"underlayPrefixes": ["fd00:1::/48", "fd00:2::/48"]}

    async def story() -> None:
        world = World()
        if not begins:
            await world.take_over(features=FEATURES)
            assert "AgentTooOld" not in world.reasons(PIPELINES, "edge")
        pipeline: Json = {**world.spec(PIPELINES, "edge"), **several}
        world.put(PIPELINES, "edge", "", pipeline)
        if begins:
            await world.take_over()
        else:
            for node in "abc":
                world.report(FORMER_CONFIGS, node, FEATURES[:2])
            world.tell()
            await world.compiled()
        world.write_all()
        copy: Any = world.controller.desired(Work(FORMER_CONFIGS, world.key("a")))
        assert copy["spec"]["pipelinePrefix"] == "fd00:1::/48"
        assert "AgentTooOld" in world.reasons(PIPELINES, "edge")
        for node in "abc":
            world.report(DATAPLANE_CONFIGS, node)
        world.tell()
        await world.compiled()
        assert "AgentTooOld" not in world.reasons(PIPELINES, "edge")
        await world.stop()

    asyncio.run(story())


def test_an_operator_that_starts_between_the_releases_goes_on() -> None:
    async def story() -> None:
        world = World()
        await world.take_over()
        world.write_all()
        world.report(DATAPLANE_CONFIGS, "b")
        await world.stop()
        await world.start()
        assert world.copies() == {"a", "c", "routes"}
        for name in ("on-a", "on-b"):
            assert world.reasons(INTERFACES, f"ns/{name}") == GOES
        await world.stop()

    asyncio.run(story())


# At the API server.


def of_both(operator: Operator, *names: str) -> set[str]:
    """Which of these there are copies of."""
    paths = [kind.path(SYSTEM, name) for kind in FORMER.values() for name in names]
    return {path.rpartition("/")[2] for path in paths if path in operator.api.objects}


def whole(api: FakeApi, kind: Kind, name: str) -> Json:
    """The object; a DataplaneConfig with what is in its Slices, as it is compiled."""
    slices = {item["metadata"]["name"]: item for item in api.objects.values()}
    found: Any = assembled(api.objects[kind.path(SYSTEM, name)], slices)
    spec = {name: each for name, each in found["spec"].items() if name != "slices"}
    return {**found, "spec": {**{key: [] for key in LISTS.values()}, **spec}}


def left_behind(
    api: FakeApi, configs: Iterable[str], slices: Iterable[str]
) -> list[tuple[Kind, Any]]:
    """What release 0.2 would have written, where this one has."""
    found = []
    for kind, names in ((DATAPLANE_CONFIGS, configs), (SLICES, slices)):
        for name in names:
            item = former(whole(api, kind, name))
            metadata = {**item["metadata"], "generation": 1, "resourceVersion": "1"}
            found.append((FORMER[kind], {**item, "metadata": metadata}))
    return found


@in_no_time
async def test_a_cluster_without_release_0_2_hears_nothing_of_it() -> None:
    api = FakeApi()
    async with running(api) as operator:
        await operator.settle()
    there = api.paths("PATCH", "POST", "DELETE", "GET")
    for kind, copy in FORMER.items():
        assert [path for path in there if path.startswith(kind.path(SYSTEM))]
        assert not [path for path in there if path.startswith(copy.path(SYSTEM))]


@in_no_time
async def test_copies_are_written_and_taken_away() -> None:
    configs = [f"router.node-{tenant}" for tenant in TENANTS]
    slices = [f"{tenant}.net.0" for tenant in TENANTS]
    api = FakeApi()
    async with running(api) as operator:
        await operator.settle()
    api, there = FakeApi(), left_behind(api, configs, slices)
    async with running(api, there) as operator:
        await operator.settle()
        for copy in FORMER.values():
            sent = api.paths("PATCH", "DELETE")
            assert not [path for path in sent if path.startswith(copy.path(SYSTEM))]
        operator.put(PIPELINES, pipeline(1000, workers={"count": 3}))
        await operator.settle()
        for name in configs:
            copied = api.objects[FORMER_CONFIGS.path(SYSTEM, name)]
            assert copied["spec"]["workers"]["count"] == 3
            there_too = whole(api, DATAPLANE_CONFIGS, name)
            assert copied["spec"] == former(there_too)["spec"]
        # Somebody deletes one.
        (_, gone), *_ = there
        operator.remove(FORMER_CONFIGS, {**gone, "metadata": meta(configs[0], SYSTEM, 100)})
        await operator.settle()
        assert of_both(operator, *configs, *slices) == {configs[1], *slices}
        # The agent of the other reports anew.
        item = api.objects[DATAPLANE_CONFIGS.path(SYSTEM, configs[1])]
        item["metadata"]["resourceVersion"] = "100"
        operator.put(DATAPLANE_CONFIGS, {**item, "status": {"observedGeneration": 2}})
        await operator.settle()
        assert of_both(operator, *configs, *slices) == set()


@in_no_time
async def test_routes_are_copied_after_the_values_that_they_use() -> None:
    api = FakeApi()
    async with running(api) as operator:
        await operator.settle()
    names = [f"router.node-{tenant}" for tenant in TENANTS]
    api, there = FakeApi(), left_behind(api, names, [])
    slow = [FORMER_CONFIGS.path(SYSTEM, name) for name in names]
    api.fault = lambda _method, path: asyncio.sleep(1) if path in slow else None
    async with running(api, there) as operator:
        for tenant in TENANTS:
            more = {**interface(tenant, "vm2"), "metadata": meta("vm2", tenant, 9)}
            operator.put(INTERFACES, more)
        await operator.settle()
    for tenant, before in zip(TENANTS, slow, strict=True):
        written = next(at for at, _, path in api.ended if path == before)
        copied = FORMER_SLICES.path(SYSTEM, f"{tenant}.net.0")
        assert written <= min(at for at, _, path in api.begun if path == copied)


@in_no_time
async def test_objects_of_both_groups_are_counted_once() -> None:
    """Prometheus takes no metric twice."""
    api = FakeApi()
    async with running(api) as operator:
        await operator.settle()
    names = [f"router.node-{tenant}" for tenant in TENANTS]
    api, there = FakeApi(), left_behind(api, names, [])
    async with running(api, there) as operator:
        await operator.settle()
        found = [
            (sample.name, *sample.labels.items())
            for family in operator.metrics.registry.collect()
            for sample in family.samples
        ]
        assert len(found) == len(set(found))
        count = operator.metrics.registry.get_sample_value
        assert count("headrace_operator_objects", {"kind": "DataplaneConfig"}) == 2


@in_no_time
async def test_copies_of_a_pipeline_that_cannot_be_read_stay_until_it_is_gone() -> None:
    configs = [f"router.node-{tenant}" for tenant in TENANTS]
    api = FakeApi()
    async with running(api) as operator:
        await operator.settle()
    api, there = FakeApi(), left_behind(api, configs, [])
    async with running(api, [*there, (PIPELINES, pipeline(2, underlayPrefixes=[]))]) as operator:
        await operator.settle()
        assert of_both(operator, *configs) == {*configs}
        operator.remove(PIPELINES, pipeline(1000))
        await operator.settle()
        assert of_both(operator, *configs) == set()


@pytest.mark.parametrize(
    ("there", "followed"),
    [
        (None, ()),
        ((), ()),
        ((FORMER_CONFIGS,), (FORMER_CONFIGS, FORMER_SLICES)),
        ((FORMER_CONFIGS, FORMER_SLICES), (FORMER_CONFIGS, FORMER_SLICES)),
        ((FORMER_SLICES,), (FORMER_CONFIGS, FORMER_SLICES)),
    ],
)
@in_no_time
async def test_what_release_0_2_left_is_followed_and_what_is_copied_too(
    there: tuple[Kind, ...] | None, followed: tuple[Kind, ...]
) -> None:
    """There may be no such kinds; and no routes yet where there are DataplaneConfigs."""
    api = FakeApi()
    for kind in FORMER.values() if there is not None else ():
        items = [{"metadata": {"name": "one"}}] if kind in (there or ()) else []
        listing = {"metadata": {"resourceVersion": "1"}, "items": items}
        api.objects[kind.path(SYSTEM)] = listing
    settings = Settings.model_validate({"dataplane": {"image": "headrace"}})
    replica = _Replica(api, SYSTEM, settings, None)
    assert await replica._former() == followed
