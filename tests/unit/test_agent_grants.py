# SPDX-License-Identifier: Apache-2.0
"""Functions in VLANs: opened once the node agent says where they are, and claimed until closed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace_api import DataplaneConfig, Json
from headrace_dataplane.boot import boot_id
from headrace_dataplane.controller import LIST_SECONDS, RESYNC_SECONDS, Controller
from headrace_dataplane.functions import functions_of
from headrace_dataplane.grants import Grants, read_grants
from headrace_dataplane.protocol import Hello, Put
from headrace_dataplane.source import Snapshot
from headrace_dataplane.state import AgentState
from headrace_dataplane.sync import Reconciler
from tests.unit.test_agent_controller import Node
from tests.unit.test_agent_translate import CONFIG

VM1, VM2 = CONFIG["spec"]["interfaces"]
P = "0000:3b:02.2"
POD = "headrace-system/headrace-router-x"
FUNCTIONS = functions_of(
    {
        "PCIDEVICE_HEADRACE_DEV_CX6": f"0000:3b:02.1,{P}",
        "POD_NAMESPACE": "headrace-system",
        "POD_NAME": "headrace-router-x",
    }
)


def wants(name: str = "vm1", vlan: int | None = 100, grant: int | None = 5) -> Any:
    sriov: Json = {"resourceName": "headrace.dev/cx6", **({"vlan": vlan} if vlan else {})}
    found = {**VM1, "name": name, "attachment": {"type": "SRIOV", "sriov": sriov}, "function": 0}
    return found if grant is None else {**found, "grant": grant}


def config(generation: int, *interfaces: Any, grants: Grants | None = None) -> Snapshot:
    spec = {**CONFIG["spec"], "uplinks": [], "interfaces": [*interfaces]}
    metadata = {**CONFIG["metadata"], "generation": generation}
    item = {**CONFIG, "metadata": metadata, "spec": spec}
    return Snapshot(generation, DataplaneConfig.model_validate(item), (), grants=grants)


def state(
    interface: str = "a/vm1",
    grant: int = 5,
    vlan: int | None = 100,
    *,
    ready: bool = True,
    said: Json | None = None,
    seen: int = 1,
    boot: str | None = None,
    pod: str = POD,
) -> Json:
    """A NodeState in which the function is an Interface's, and where the node agent says it is."""
    wish: Json = {"pciAddress": P, "pipeline": "router", "network": "a/blue", "pod": pod}
    wish |= {"interface": interface, "grant": grant, **({"vlan": vlan} if vlan else {})}
    told: Json = {"pciAddress": P, "interface": interface, "grant": grant, "ready": ready}
    told |= {} if ready else {"reason": "InProgress", "message": "not yet"}
    return {
        "metadata": {"name": "node-a", "generation": 1},
        "spec": {"nodeName": "node-a", "functions": [wish]},
        "status": {
            "observedGeneration": seen,
            "bootID": boot_id() if boot is None else boot,
            "functions": [told if said is None else said],
        },
    }


def grants(*arguments: Any, **named: Any) -> Grants:
    return read_grants(state(*arguments, **named), boot_id())


BEHIND: Json = {"type": "Pod", "pod": {"name": "web-0"}}


def with_endpoint(grant: int = 5) -> Any:
    found = wants(vlan=None, grant=grant)
    sriov = {**found["attachment"]["sriov"], "endpoint": BEHIND}
    return {**found, "attachment": {"type": "SRIOV", "sriov": sriov}, "endpointVLANs": ["3000"]}


def of_endpoint(said: Json | None = None, *, peer: bool = True, wanted: bool = True) -> Grants:
    """Grants by a NodeState in which the function has an endpoint."""
    item: Any = state(vlan=None)
    if wanted:
        item["spec"]["functions"][0]["peer"] = {"pod": "a/web-0", "vlans": ["3000"]}
    told = item["status"]["functions"][0]
    told |= {
        "vlan": 3000,
        **({"peer": {"pciAddress": "0000:3b:02.7"}} if peer else {}),
        **(said or {}),
    }
    return read_grants(item, boot_id())


NOTHING = read_grants({"metadata": {"generation": 1}, "status": {"observedGeneration": 1}}, "")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path, functions=FUNCTIONS)
    yield node
    node.end()


def settle(node: Node) -> None:
    """Until nothing is to be done, and the engine has been asked for its Interfaces again."""
    node.settle()
    node.report_up(*node.engine.objects["interface"])
    node.now += LIST_SECONDS
    node.settle()


def have(node: Node, snapshot: Snapshot) -> None:
    node.now += 1
    node.snapshot = snapshot
    settle(node)


def hear(node: Node, said: Grants | None) -> None:
    have(node, replace(node.snapshot, grants=said))


def ports(node: Node) -> dict[str, Any]:
    return {key: each["devargs"] for key, each in node.engine.objects["port"].items()}


def claims(node: Node) -> dict[str, tuple[str, int]] | None:
    found = node.reports[-1].functions
    return None if found is None else {e.pci_address: (e.interface, e.grant) for e in found}


def reason(node: Node, name: str = "vm1") -> tuple[str, str]:
    (found,) = (each for each in node.reports[-1].interfaces if each.name == name)
    return found.reason, found.message


def test_a_function_is_opened_once_it_is_in_its_vlan(node: Node) -> None:
    have(node, config(2, wants(), VM2, grants=NOTHING))
    assert ports(node).keys() == {"a/vm2"}
    assert claims(node) == {P: ("a/vm1", 5)}
    why, message = reason(node)
    assert why == "VLANNotSet"
    assert f"has not said that {P} is in VLAN 100" in message
    assert reason(node, "vm2")[0] == "Forwarding"

    hear(node, grants(ready=False))
    assert ports(node).keys() == {"a/vm2"}
    assert reason(node)[1].endswith("InProgress: not yet")
    hear(node, grants())
    assert ports(node)["a/vm1"] == P
    assert reason(node)[0] == "Forwarding"
    assert claims(node) == {P: ("a/vm1", 5)}


@pytest.mark.parametrize(
    "said",
    [
        grants(grant=4),
        grants("a/vm9"),
        grants(vlan=101),
        grants(vlan=None),
        grants(said={"pciAddress": P, "interface": "a/vm1", "grant": 4, "ready": True}),
        grants(said={"pciAddress": P, "interface": "a/vm9", "grant": 5, "ready": True}),
        grants(said={"pciAddress": P, "ready": True}),
        grants(said={"pciAddress": P, "interface": "a/vm1", "grant": 5, "ready": "x"}),
        grants(said={"pciAddress": "0000:3b:02.1", "ready": True}),
        grants(boot="another"),
        grants(boot=""),
        grants(pod="headrace-system/headrace-router-y"),
        # It has not seen all that is wanted, of which this may be undone.
        grants(seen=0),
        NOTHING,
        None,
    ],
)
def test_no_other_word_opens_it(node: Node, said: Grants | None) -> None:
    have(node, config(2, wants(), grants=said))
    assert ports(node) == {}
    assert reason(node)[0] == "VLANNotSet"
    assert claims(node) == {P: ("a/vm1", 5)}


@pytest.mark.parametrize(
    "said", [grants(ready=False), grants(boot="another"), grants("a/vm9"), NOTHING]
)
def test_it_is_closed_when_that_is_not_said_any_more(node: Node, said: Grants) -> None:
    have(node, config(2, wants(), grants=grants()))
    assert ports(node) == {"a/vm1": P}
    hear(node, said)
    assert ports(node) == {}
    assert (reason(node)[0], claims(node)) == ("VLANNotSet", {P: ("a/vm1", 5)})
    hear(node, grants())
    assert ports(node) == {"a/vm1": P}


@pytest.mark.parametrize("said", [None, grants(seen=0)])
def test_what_an_engine_has_goes_on_while_nothing_new_is_known(
    node: Node, said: Grants | None
) -> None:
    have(node, config(2, wants(), grants=grants()))
    hear(node, said)
    assert ports(node) == {"a/vm1": P}
    assert reason(node)[0] == "Forwarding"
    # So it does under another agent.
    node.controller = Controller(AgentState(), (), FUNCTIONS)
    node.now += 1
    settle(node)
    assert ports(node) == {"a/vm1": P}
    assert claims(node) == {P: ("a/vm1", 5)}
    # Another engine does not open it.
    node.silence()
    node.start()
    settle(node)
    assert ports(node) == {}
    assert reason(node)[0] == "VLANNotSet"


def test_another_vlan_is_asked_for_once_it_is_closed(node: Node) -> None:
    have(node, config(2, wants(), grants=grants()))
    have(node, config(3, wants(vlan=200, grant=6), grants=grants()))
    assert ports(node) == {}
    assert claims(node) == {P: ("a/vm1", 6)}
    # The word of the one before is none of this one's.
    hear(node, grants(vlan=200, grant=5))
    assert ports(node) == {}
    hear(node, grants(vlan=200, grant=6))
    assert ports(node) == {"a/vm1": P}


def test_it_is_claimed_until_the_engine_has_closed_it(node: Node) -> None:
    have(node, config(2, wants(), grants=grants()))
    node.engine.refuse = {("port", "a/vm1"): "InUse", ("interface", "a/vm1"): "InUse"}
    have(node, config(3, wants("vm3", 200, 6), grants=grants()))
    assert claims(node) == {P: ("a/vm1", 5)}
    node.engine.refuse = {}
    node.live(node.now + RESYNC_SECONDS)
    assert ports(node) == {}
    assert claims(node) == {P: ("a/vm3", 6)}
    hear(node, grants("a/vm3", 6, 200))
    assert ports(node) == {"a/vm3": P}
    have(node, config(4))
    assert claims(node) == {}


def test_an_engine_that_does_not_answer_may_have_it_open(node: Node) -> None:
    have(node, config(2, wants(), grants=grants()))
    node.silence()
    node.snapshot = config(3)
    node.live(node.now + 10)
    assert claims(node) == {P: ("a/vm1", 5)}
    node.start()
    node.settle()
    assert claims(node) == {}


def test_an_agent_that_starts_claims_nothing_before_it_knows(node: Node) -> None:
    have(node, config(2, wants(), grants=grants()))
    # While it is away the Interface goes, and the engine runs on.
    node.controller = Controller(AgentState(), (), FUNCTIONS)
    node.snapshot = config(3, wants("vm3", 200, 6), grants=grants())
    node.hello, node.problem = None, "it does not answer"
    node.now += 1
    node.settle()
    assert claims(node) is None
    assert "functions" not in node.reports[-1].to_dict()
    node.hello, node.problem = Hello.model_validate(node.engine.hello()), ""
    node.settle()
    assert (ports(node), claims(node)) == ({}, {P: ("a/vm3", 6)})


def test_without_a_vlan_it_waits_for_one_that_was_in_one(node: Node) -> None:
    have(node, config(2, wants(vlan=None, grant=None), grants=grants("a/vm9", 4)))
    assert (ports(node), claims(node)) == ({}, {})
    assert reason(node) == ("VLANNotSet", f"{P} is another Interface's yet")
    back: Json = {"pciAddress": P, "ready": False}
    done: Json = {**state(said=back), "spec": {"nodeName": "node-a"}}
    hear(node, read_grants(done, boot_id()))
    assert ports(node) == {}
    hear(node, NOTHING)
    assert ports(node) == {"a/vm1": P}
    # Where nobody is in VLANs there is no NodeState to be heard.
    hear(node, None)
    assert ports(node) == {"a/vm1": P}


def test_without_a_vlan_by_a_grant_it_waits_for_the_word(node: Node) -> None:
    have(node, config(2, wants(vlan=None), grants=NOTHING))
    assert ports(node) == {}
    hear(node, grants(vlan=None))
    assert ports(node) == {"a/vm1": P}


def test_with_an_endpoint_it_is_opened_once_both_are_in_a_vlan(node: Node) -> None:
    have(node, config(2, with_endpoint(), grants=NOTHING))
    assert ports(node) == {}
    assert "is in a VLAN alone with its endpoint" in reason(node)[1]
    for said in (of_endpoint(peer=False), of_endpoint(wanted=False), grants(vlan=None)):
        hear(node, said)
        assert (ports(node), reason(node)[0]) == ({}, "VLANNotSet")
    # Of an endpoint that is away the Interface says what the node agent says.
    why: Json = {"ready": False, "reason": "EndpointPending", "message": "pod a/web-0 has none"}
    hear(node, of_endpoint(why, peer=False))
    assert (ports(node), reason(node)) == ({}, ("EndpointPending", "pod a/web-0 has none"))
    hear(node, of_endpoint())
    assert ports(node) == {"a/vm1": P}
    hear(node, of_endpoint(why, peer=False))
    assert (ports(node), claims(node)) == ({}, {P: ("a/vm1", 5)})


def test_one_on_the_wire_is_not_opened_with_an_endpoint(node: Node) -> None:
    have(node, config(2, wants(vlan=None), grants=of_endpoint()))
    assert ports(node) == {}
    have(node, config(3, with_endpoint(grant=6), grants=of_endpoint()))
    assert ports(node) == {}


def test_a_vlan_without_a_grant_is_never_opened(node: Node) -> None:
    for said in (None, NOTHING, grants()):
        have(node, config(2, wants(grant=None), grants=said))
        assert ports(node) == {}
        have(node, config(3, {**with_endpoint(), "grant": None}, grants=said))
        assert ports(node) == {}


@pytest.mark.parametrize("functions", [None, 7, "x", [None, 7, [], {}, {"pciAddress": 5}]])
def test_nonsense_grants_nothing(functions: Any) -> None:
    item: Json = {"spec": {"functions": functions}, "status": {"functions": functions}}
    assert read_grants(item, "").functions == {}


def test_what_is_only_kept_is_neither_given_nor_changed(node: Node) -> None:
    reconciler = Reconciler(node._client, node.hello.kinds if node.hello else ())
    one, other = (Put("port", "p", each, {"devargs": each}) for each in ("one", "other"))
    assert reconciler.reconcile([replace(one, keep=True)], 1, 0).changed == 0
    assert ports(node) == {}
    reconciler.reconcile([one], 2, 0)
    reconciler.reconcile([replace(one, keep=True)], 3, 0)
    assert ports(node) == {"p": "one"}
    # Another of that name is not what it has.
    reconciler.reconcile([replace(other, keep=True)], 4, 0)
    assert ports(node) == {}
