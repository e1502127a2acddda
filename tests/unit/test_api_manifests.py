# SPDX-License-Identifier: Apache-2.0
"""Manifests: what is read, and one line for each broken rule."""

import random
from pathlib import Path

import pytest

from headrace_api import Interface, Node, VirtualNetwork
from headrace_api.manifests import load, loads

INTERFACE = """\
apiVersion: headrace.dev/v1alpha1
kind: Interface
metadata: {name: vm1}
spec:
  networkRef: {name: blue}
  pipelineRef:
    name: router
  nodeName: node-a
  attachment: {type: Tap, tap: {deviceName: tap0}}
"""
NETWORK = """\
apiVersion: headrace.dev/v1alpha1
kind: VirtualNetwork
metadata:
  name: blue
spec:
  subnets:
    - prefix: 10.0.0.0/24
"""


def lines(text: str) -> list[str]:
    return [str(problem) for problem in loads(text, "m.yaml")[1]]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "10.0.0.0/24",
            "10.0.0.5/24",
            "m.yaml:7: VirtualNetwork/default/blue: spec.subnets[0].prefix: '10.0.0.5/24':"
            " host bits are set; the prefix is 10.0.0.0/24 (Invalid)",
        ),
        (
            "prefix:",
            "prefx:",
            "m.yaml:7: VirtualNetwork/default/blue: spec.subnets[0].prefx:"
            " no such field; did you mean prefix? (UnknownField)",
        ),
        (
            "    - prefix: 10.0.0.0/24",
            "    - prefix: 10.0.0.0/24\n    - prefix: 10.0.0.128/25",
            "m.yaml:8: VirtualNetwork/default/blue: spec.subnets[1].prefix:"
            " 10.0.0.128/25 overlaps 10.0.0.0/24 of subnets[0] (Invalid)",
        ),
        (
            "spec:\n",
            "spec:\n  mtu: 100\n",
            "m.yaml:6: VirtualNetwork/default/blue: spec.mtu: 100: must be at least 1280 (Invalid)",
        ),
        (
            "kind: VirtualNetwork",
            "kind: VirtualNetworks",
            "m.yaml:2: VirtualNetworks/blue: kind: VirtualNetworks is no kind of Headrace;"
            " did you mean VirtualNetwork? (NotSupported)",
        ),
        (
            "v1alpha1",
            "v1",
            "m.yaml:1: VirtualNetwork/blue: apiVersion: 'headrace.dev/v1':"
            " must be headrace.dev/v1alpha1 (NotSupported)",
        ),
        (
            "  name: blue",
            "  name: Blue_1",
            "m.yaml:4: VirtualNetwork/default/Blue_1: metadata.name: 'Blue_1': must be of a-z,"
            " 0-9, '-' and '.', as in node-a.example (RFC 1123 subdomain) (Invalid)",
        ),
        (
            "  name: blue",
            "  name: blue\n  name: red",
            "m.yaml:5: field name is given twice (InvalidYAML)",
        ),
        ("spec:", "spec: [", "m.yaml:7: did not find expected node content (InvalidYAML)"),
    ],
)
def test_a_broken_network_gives_one_line(old: str, new: str, line: str) -> None:
    found = lines(NETWORK.replace(old, new))
    if "prefx" in new:
        assert found[0].endswith("spec.subnets[0].prefix: required, but not given (Required)")
        found = found[1:]
    assert found == [line]


@pytest.mark.parametrize(
    ("attachment", "field", "words"),
    [
        ("{type: tap}", "type", "did you mean Tap?"),
        ("{type: Tap}", "tap", "required when type is Tap"),
        ("{type: Tap, tap: {name: a}}", "tap.deviceName", "required, but not given"),
        ("{type: Tap, tap: {deviceName: tap-of-vm-number-1}}", "tap.deviceName", "at most 15"),
        ('{type: Memif, memif: {socketPath: "/a b"}}', "memif.socketPath", "must match"),
        ("tap0", "", "must be a mapping of fields"),
    ],
)
def test_a_broken_attachment_is_not_a_mess(attachment: str, field: str, words: str) -> None:
    old = "{type: Tap, tap: {deviceName: tap0}}"
    _, problems = loads(INTERFACE.replace(old, attachment))
    assert problems[0].field == ".".join(filter(None, ("spec.attachment", field)))
    assert words in problems[0].message
    assert len(problems) == (2 if "name" in attachment else 1)


def test_a_broken_document_hurts_itself_alone() -> None:
    text = f"{NETWORK}---\nkind: [\n---\n{INTERFACE}---\n# only a comment\n---\n- 1\n"
    objects, problems = loads(text, "m.yaml")
    assert [item.key for item in objects.items] == ["default/blue", "default/vm1"]
    assert [(found.source, found.reason) for found in problems] == [
        ("m.yaml:10", "InvalidYAML"),
        ("m.yaml:22", "InvalidYAML"),
    ]


def test_yaml_is_read_as_kubernetes_reads_it() -> None:
    spec = 'spec:\n  macAddress: 52:54:00:12:34:56\n  addresses: ["10.0.0.5"]\n'
    created = "metadata: {name: vm1, creationTimestamp: 2026-01-01T00:00:00Z}"
    text = INTERFACE.replace("spec:\n", spec).replace("metadata: {name: vm1}", created)
    objects, problems = loads(text)
    assert problems == ()
    (item,) = objects.of(Interface)
    assert item.spec.mac_address == "52:54:00:12:34:56"
    assert item.metadata.creation_timestamp == "2026-01-01T00:00:00Z"


def test_duplicates_are_problems_and_the_first_is_taken() -> None:
    objects, problems = loads(f"{NETWORK}---\n{NETWORK.replace('10.0', '10.9')}", "m.yaml")
    assert [item.spec.subnets[0].prefix for item in objects.of(VirtualNetwork)] == ["10.0.0.0/24"]
    assert [(found.reason, found.name) for found in problems] == [("Duplicate", "blue")]
    assert "m.yaml:1" in problems[0].message


def test_a_directory_is_read_and_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(INTERFACE)
    (tmp_path / "a.yml").write_text(NETWORK)
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "notes.txt").write_text("kind: Nothing")
    objects, problems = load([tmp_path, tmp_path / "none.yaml"], namespace="team")
    assert [item.key for item in objects.items] == ["team/blue", "team/vm1"]
    assert [found.reason for found in problems] == ["Unreadable", "Unreadable"]


def test_nodes_are_read_and_foreign_objects_passed_over() -> None:
    objects, problems = loads(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n---\n"
        "apiVersion: v1\nkind: Node\nmetadata: {name: node-a, labels: {zone: a}}\nspec: {x: 1}\n"
    )
    assert problems == ()
    assert [(item.key, item.metadata.labels) for item in objects.of(Node)] == [
        ("node-a", {"zone": "a"})
    ]


EXAMPLES = Path(__file__).parents[2] / "deploy/examples"
BENDS = (
    *"{}[]:,-#&*!|>'\"%@`\n\t \x00é0a~",
    *("&a [*a]", "*a", "!!python/object:os.system", "<<: *x", "- - -", "1e999", "0x", ".inf"),
    *("null", "? : ", "---\n", "...\n", "!!binary aaa", "!!timestamp 2001-01-01", "9" * 5000),
)


def bent(text: str, rng: random.Random) -> str:
    """Return the text with a few pieces changed, cut out, repeated or put in."""
    for _ in range(rng.randrange(1, 8)):
        at, other = rng.randrange(len(text)), rng.randrange(len(text))
        match rng.randrange(4):
            case 0:
                text = text[:at] + rng.choice(BENDS) + text[at + 1 :]
            case 1:
                text = text[:at] + text[at + rng.randrange(20) :] + "\n"
            case 2:
                text = text[:at] + text[other : other + rng.randrange(60)] + text[at:]
            case _:
                text = text[:at] + rng.choice(BENDS) + text[at:]
    return text


def test_whatever_is_in_a_file_is_a_problem_never_a_crash() -> None:
    rng = random.Random(1)
    texts = [path.read_text() for path in sorted(EXAMPLES.rglob("*.yaml"))]
    outcomes = set()
    for _ in range(3000):
        _, problems = loads(bent(rng.choice(texts), rng), "m.yaml")
        assert all("\n" not in str(problem) for problem in problems)
        outcomes |= {problem.reason for problem in problems}
    assert {"InvalidYAML", "Required", "UnknownField"} <= outcomes


def test_aliases_are_not_multiplied() -> None:
    levels = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    _, problems = loads(f"kind: Interface\nspec:\n  x: 1\na0: &a0 [1]\n{levels}", "m.yaml")
    assert problems
