# SPDX-License-Identifier: Apache-2.0
"""Which Interfaces a pod waits for, who is asked for that, and how much."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar, cast

import pytest

from headrace_api import Json
from headrace_dataplane.node import links
from headrace_dataplane.node.cni import CNIError, Code, parse
from headrace_dataplane.node.configs import Configs
from headrace_dataplane.node.pods import Pods
from headrace_kube import Event, Kind, Kube, KubeError, Listing

T = TypeVar("T")
ANNOTATIONS = "io.kubernetes.cri.pod-annotations"
PREVIOUS = {"cniVersion": "1.0.0", "ips": [{"address": "10.244.0.9/24"}]}


class Server:
    """Holds objects, and remembers what it was asked."""

    def __init__(self, *items: Any) -> None:
        self.items = {(item["kind"], item["metadata"]["name"]): item for item in items}
        self.asked: list[str] = []

    async def get(self, kind: Kind, name: str, _namespace: str) -> Json:
        self.asked.append(f"get {kind.name} {name}")
        if (kind.name, name) not in self.items:
            raise KubeError(404, "NotFound", "is not there")
        return cast("Json", self.items[kind.name, name])

    async def list(self, kind: Kind, _namespace: str, _labels: str, fields: str) -> Listing:
        self.asked.append(f"list {kind.name} {fields}")
        found = self.items.get((kind.name, fields.removeprefix("metadata.name=")))
        return Listing([found] if found else [], "1")

    async def watch(self, *_: Any, **__: Any) -> AsyncIterator[Event]:
        await asyncio.Event().wait()
        yield  # type: ignore[misc]


class Compiled:
    """The node's DataplaneConfig, whose dataplane forwards."""

    def __init__(self, *names: str) -> None:
        self.config: Any = {
            "spec": {
                "networks": [
                    {
                        "namespace": "blue",
                        "name": "blue",
                        "vni": 4096,
                        "mtu": 1400,
                        "gateways": ["10.0.0.1"],
                        "subnets": ["10.0.0.0/24"],
                        "routeSlices": [],
                    }
                ],
                "interfaces": [
                    {
                        "namespace": "blue",
                        "name": name,
                        "network": "blue/blue",
                        "vni": 4096,
                        "attachment": {"type": "Pod", "pod": {"name": "web"}},
                        "addresses": ["10.0.0.5"],
                        "gateways": ["10.0.0.1"],
                        "underlayAddress": "fd00:1:0:1::2",
                        "sourceCheck": "Enabled",
                        "mtu": 1400,
                    }
                    for name in names
                ],
            },
            "status": {
                "interfaces": [{"namespace": "blue", "name": name, "ready": True} for name in names]
            },
        }

    async def wait(self, _name: str, find: Callable[[Json], T | None]) -> T:
        found = find(self.config)
        assert found is not None
        return found


def interface(name: str = "web-blue", pod: str = "web", owner: str = "", static: str = "") -> Any:
    metadata: dict[str, Any] = {"namespace": "blue", "name": name}
    if owner:
        reference = {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": owner}
        metadata["ownerReferences"] = [reference]
    if static:
        metadata["annotations"] = {"headrace.dev/static-pod-uid": static}
    return {
        "apiVersion": "headrace.dev/v1alpha1",
        "kind": "Interface",
        "metadata": metadata,
        "spec": {
            "networkRef": {"name": "blue"},
            "pipelineRef": {"name": "router"},
            "attachment": {"type": "Pod", "pod": {"name": pod}},
        },
        "status": {"addresses": ["10.0.0.5"], "nodeName": "node-a"},
    }


def pod(uid: str, **annotations: str) -> Any:
    named = {f"{group}/{name}": value for (group, name), value in _split(annotations)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "blue", "name": "web", "uid": uid, "annotations": named},
    }


def _split(annotations: dict[str, str]) -> Any:
    groups = {"networks": "headrace.dev", "config.mirror": "kubernetes.io"}
    return [((groups[name], name), value) for name, value in annotations.items()]


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the hosts' ends that were plugged in, which are read at once."""
    found: list[str] = []

    def plug(endpoint: links.Endpoint, _owner: links.Owner, _namespace: int) -> links.Device:
        found.append(endpoint.host)
        return links.Device(endpoint, "02:00:00:00:00:01", "02:00:00:00:00:02")

    monkeypatch.setattr(links, "plug", plug)
    monkeypatch.setattr(links, "is_read", lambda _device: True)
    return found


def add(
    server: Server,
    annotations: dict[str, str] | None,
    *,
    uid: str = "u1",
    ask: bool = False,
    seconds: int = 30,
) -> Any:
    """What ADD answers for pod blue/web; `annotations` None: the runtime does not give them."""
    config: Any = {
        "cniVersion": "1.0.0",
        "name": "pods",
        "timeoutSeconds": seconds,
        "prevResult": PREVIOUS,
    }
    if annotations is not None:
        config["runtimeConfig"] = {ANNOTATIONS: annotations}
    arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=blue;K8S_POD_NAME=web"
    variables = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": arguments + (f";K8S_POD_UID={uid}" if uid else ""),
    }
    head = "\0".join(f"{name}={value}" for name, value in variables.items())
    request = parse(f"{head}\0\0{json.dumps(config)}".encode())
    configs = cast("Configs", Compiled("web-blue", "kept"))
    pods = Pods(cast("Kube", server), "node-a", configs, ask_api_server=ask)
    return asyncio.run(pods.answer(request, -1))


def refused(server: Server, annotations: dict[str, str] | None, **more: Any) -> CNIError:
    with pytest.raises(CNIError) as caught:
        add(server, annotations, **more)
    return caught.value


def test_a_pod_without_our_annotations_passes_and_nobody_is_asked() -> None:
    server = Server(pod("u1", networks="blue"))
    assert add(server, {"other": "x"}) == PREVIOUS
    assert server.asked == []


def test_the_runtimes_annotations_are_enough_and_each_interface_is_asked_for_by_name(
    plugged: list[str],
) -> None:
    server = Server(interface(owner="u1"), interface("kept"))
    names = {"headrace.dev/networks": "blue", "headrace.dev/interfaces": "kept"}
    assert len(add(server, names)["ips"]) == 3
    assert len(plugged) == 2
    assert sorted(server.asked) == [
        "list Interface metadata.name=kept",
        "list Interface metadata.name=web-blue",
    ]


def test_without_them_no_pod_starts_unless_the_api_server_may_be_asked(plugged: list[str]) -> None:
    server = Server(pod("u1", networks="blue"), interface(owner="u1"))
    error = refused(server, None)
    assert error.code is Code.TRY_AGAIN_LATER
    assert "set nodeAgent.cni.podAnnotations=APIServer" in error.message
    assert server.asked == []
    add(server, None, ask=True)
    add(server, None, ask=True, uid="")
    assert len(plugged) == 2
    assert "get Pod web" in server.asked
    assert "has been replaced" in refused(server, None, ask=True, uid="u2").message


@pytest.mark.parametrize(
    "item",
    [
        interface(owner="u0"),
        interface(owner="u0", static="u2"),
        interface(pod="other", owner="u1"),
    ],
)
def test_an_interface_of_an_earlier_pod_or_of_another_is_waited_for(
    plugged: list[str], item: Any
) -> None:
    error = refused(Server(item), {"headrace.dev/networks": "blue"}, seconds=1)
    assert error.code is Code.TRY_AGAIN_LATER
    assert plugged == []


@pytest.mark.parametrize("ask", [False, True])
def test_a_static_pod_gets_its_device(plugged: list[str], ask: bool) -> None:
    """Its node knows it by another uid than the API server."""
    mirror = pod("api-uid", networks="blue", **{"config.mirror": "node-uid"})
    server = Server(mirror, interface(owner="api-uid", static="node-uid"))
    given = None if ask else {"headrace.dev/networks": "blue"}
    add(server, given, uid="node-uid", ask=ask)
    assert len(plugged) == 1


def test_a_static_pod_that_the_api_server_does_not_have_yet_waits(plugged: list[str]) -> None:
    server = Server(interface(owner="api-uid", static="node-uid"))
    error = refused(server, None, uid="node-uid", ask=True)
    assert error.code is Code.TRY_AGAIN_LATER
    assert "pod blue/web is not at the API server (yet): it is tried again" in error.message
    server.items["Pod", "web"] = pod("api-uid", networks="blue", **{"config.mirror": "node-uid"})
    add(server, None, uid="node-uid", ask=True)
    assert len(plugged) == 1


def test_a_runtime_without_uids_is_told(plugged: list[str]) -> None:
    error = refused(Server(interface()), {"headrace.dev/networks": "blue"}, uid="")
    assert error.code is Code.INVALID_ENVIRONMENT
    assert plugged == []


def test_a_wrong_annotation_is_named() -> None:
    error = refused(Server(), {"headrace.dev/networks": "[{}]"})
    assert error.code is Code.INVALID_CONFIG
    assert "annotation headrace.dev/networks: [0].network" in error.message
