# SPDX-License-Identifier: Apache-2.0
"""DPDK programs in pods: sockets in a directory of each Interface, by the example of testpmd."""

import json
import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from headrace_api import socket_directory
from tests.cluster.cluster import Node
from tests.cluster.pods import TOOLBOX, manifest, wait
from tests.cluster.sandbox import CommandError, until
from tests.cluster.site import PODS, REPOSITORY, SECONDS, Site

EXAMPLE = REPOSITORY / "deploy/examples/testpmd"
ADDRESSES = ("10.0.0.11", "10.0.0.12", "fd00:10::12")
"""testpmd's: behind memif, and behind vhost-user."""
INSIDE = "/run/headrace"
"""Where the pods have their directories."""


@pytest.fixture(scope="module")
def programs(pod_site: Site) -> Site:
    """The example as it stands: its pods run, and all of it is Ready."""
    pod_site.cluster.kubectl("apply", "-f", EXAMPLE)
    wait(pod_site, "pod", "--all", "-n", "blue")
    pod_site.ready()
    return pod_site


def answers(site: Site, address: str) -> bool:
    """Whether a pod gets an answer to its pings."""
    try:
        site.cluster.kubectl(
            *("exec", "shell", "-n", "blue", "--", "ping", "-c", "1", "-w", "10", address)
        )
    except CommandError:
        return False
    return True


def all_answer(site: Site) -> None:
    for address in ADDRESSES:
        try:
            until(lambda: answers(site, address), f"{address} answers", 2 * SECONDS)  # noqa: B023
        except CommandError as error:
            logs = site.cluster.kubectl("get", "pods", "-n", "blue", "-o", "yaml")
            raise AssertionError(f"{error}\n{site.report()}\n{logs}") from error


def test_programs_answer(programs: Site) -> None:
    all_answer(programs)


def test_programs_go_on_after_the_dataplane_was_replaced(programs: Site) -> None:
    programs.cluster.kubectl("delete", "pod", *PODS)
    all_answer(programs)


def test_programs_go_on_after_an_engine_was_killed(programs: Site) -> None:
    """Its sockets are still there."""
    for node in programs.nodes:
        (engine,) = programs.processes(node, "headrace-engine")
        os.kill(engine, signal.SIGKILL)
    all_answer(programs)


# Directories.


def interface(name: str, node: Node, **memif: str) -> dict[str, Any]:
    """An Interface of type Memif whose socket the dataplane makes."""
    return {
        "apiVersion": "headrace.dev/v1alpha1",
        "kind": "Interface",
        "metadata": {"name": name, "namespace": "blue"},
        "spec": {
            "networkRef": {"name": "blue"},
            "pipelineRef": {"name": "router"},
            "nodeName": node.name,
            "attachment": {"type": "Memif", "memif": memif},
        },
    }


def program(name: str, node: Node, path: str, namespace: str = "blue") -> dict[str, Any]:
    """A pod that has a directory of the node."""
    volume = {"name": "socket", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}
    found = manifest(
        name,
        "",
        image=TOOLBOX,
        namespace=namespace,
        nodeName=node.name,
        volumes=[volume],
        terminationGracePeriodSeconds=1,
    )
    (container,) = found["spec"]["containers"]
    container["volumeMounts"] = [{"name": "socket", "mountPath": INSIDE}]
    return found


def apply(site: Site, *items: dict[str, Any]) -> None:
    for item in items:
        site.cluster.kubectl("apply", "-f", "-", stdin=json.dumps(item))


def sees(site: Site, pod: str, file: str) -> bool:
    """Whether a pod has a socket in its directory."""
    try:
        site.cluster.kubectl("exec", pod, "-n", "blue", "--", "test", "-S", f"{INSIDE}/{file}")
    except CommandError:
        return False
    return True


def has(node: Node, path: str) -> bool:
    """Whether the node has a file or directory."""
    try:
        node.namespace.command("test", "-e", path)
    except CommandError:
        return False
    return True


def test_a_directory_for_each_whoever_comes_first(programs: Site) -> None:
    """Made by the kubelet or the dataplane, each has its own socket and no other's."""
    node = programs.nodes[0]
    late, early = (socket_directory(f"blue/{name}") for name in ("late", "early"))
    apply(programs, program("late", node, late))
    wait(programs, "pod/late", "-n", "blue")
    apply(programs, interface("early", node))
    until(lambda: has(node, f"{early}/memif.sock"), "early's socket is there", SECONDS)
    apply(programs, interface("late", node), program("early", node, early))
    wait(programs, "pod/early", "-n", "blue")
    for name in ("early", "late"):
        until(lambda: sees(programs, name, "memif.sock"), f"{name} sees its socket", SECONDS)  # noqa: B023
        listed = programs.cluster.kubectl("exec", name, "-n", "blue", "--", "ls", INSIDE)
        assert listed.split() == ["memif.sock"]

    # What is left of an Interface that goes: what somebody else put there.
    node.namespace.command("touch", f"{early}/notes")
    programs.cluster.kubectl("delete", "interface", "early", "late", "-n", "blue")
    until(lambda: not has(node, late), "late's directory is gone", SECONDS)
    until(lambda: not has(node, f"{early}/memif.sock"), "early's socket is gone", SECONDS)
    assert has(node, f"{early}/notes")


def test_no_socket_elsewhere(programs: Site) -> None:
    """Neither another Interface's nor any other of the node's."""
    victim = f"{socket_directory('blue/vhost')}/vhost-user.sock"
    own = socket_directory("blue/thief")
    for path in (victim, f"{own}/../vhost/vhost-user.sock", "/run/headrace/engine/engine.sock"):
        apply(programs, interface("thief", programs.nodes[1], socketPath=path))
        generation = programs.get("interface", "thief", "-n", "blue")["metadata"]["generation"]

        def verdict() -> Any:
            status = programs.get("interface", "thief", "-n", "blue").get("status", {})
            conditions = status.get("conditions", ())
            return next((each for each in conditions if each["type"] == "Ready"), None)

        def judged() -> bool:
            found = verdict()
            return found is not None and found.get("observedGeneration") == generation  # noqa: B023

        until(judged, f"a verdict on {path}", SECONDS)
        found = verdict()
        assert (found["status"], found["reason"]) == ("False", "AttachmentInvalid")
        assert "spec.attachment.memif.socketPath" in found["message"]
        assert f"is not in {own}" in found["message"]
    programs.cluster.kubectl("delete", "interface", "thief", "-n", "blue")
    all_answer(programs)


@pytest.fixture
def policy(programs: Site) -> Iterator[Site]:
    """The policy of docs/pods.md, in force."""
    text = (REPOSITORY / "docs/pods.md").read_text()
    blocks = re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (text,) = (block for block in blocks if "kind: ValidatingAdmissionPolicy\n" in block)
    programs.cluster.kubectl("apply", "-f", "-", stdin=text)
    try:
        yield programs
    finally:
        programs.cluster.kubectl("delete", "-f", "-", stdin=text)


def test_the_policy_of_the_documentation(policy: Site) -> None:
    """A tenant's pod has sockets of its own namespace, and no other directory of the node."""
    node = policy.nodes[0]
    policy.cluster.kubectl("label", "namespace", "blue", "headrace.dev/sockets=own", "--overwrite")

    def refused(path: str, namespace: str = "blue") -> bool:
        try:
            policy.cluster.kubectl(
                *("create", "--dry-run=server", "-f", "-"),
                stdin=json.dumps(program("tried", node, path, namespace)),
            )
        except CommandError as error:
            assert "headrace-sockets" in str(error), error
            return True
        return False

    until(lambda: refused("/"), "the policy is in force", SECONDS)
    for path in ("/var/lib", socket_directory("red/fast"), socket_directory("blue")):
        assert refused(path), path
    assert not refused(socket_directory("blue/fast"))
    assert not refused("/var/log", "default")
