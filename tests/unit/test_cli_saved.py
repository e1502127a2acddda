# SPDX-License-Identifier: Apache-2.0
"""What a backup holds of an object, and what it is in another cluster."""

import json
from typing import Any

import pytest

from headrace_api import DataplaneConfig, Interface, RouteSlice
from headrace_cli.errors import CommandError
from headrace_cli.saved import KINDS, Backup, kept_by, owned
from headrace_kube import DATAPLANE_CONFIGS, INTERFACES, SLICES
from tests.unit.test_agent_translate import CONFIG, SLICE

OWNER: Any = {"apiVersion": "v1", "kind": "ConfigMap", "name": "headrace-operator", "uid": "new"}


def raw(kind: str, **fields: Any) -> dict[str, Any]:
    metadata = {
        "name": "one",
        "namespace": "blue",
        "uid": "old",
        "resourceVersion": "7",
        "generation": 3,
        "managedFields": [],
        "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration": "{}",
            "example.com/note": "stays",
        },
        **fields.pop("metadata", {}),
    }
    version = KINDS[kind].api_version if kind in KINDS else ""
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **fields}


def test_an_object_is_saved_without_what_is_this_clusters() -> None:
    status = {"vni": 7, "observedGeneration": 3, "conditions": [{"type": "Ready"}]}
    (item,) = Backup.of_objects([raw("VirtualNetwork", spec={"subnets": []}, status=status)]).items
    assert item == {
        "apiVersion": "headrace.dev/v1alpha1",
        "kind": "VirtualNetwork",
        "metadata": {
            "name": "one",
            "namespace": "blue",
            "annotations": {"example.com/note": "stays"},
        },
        "spec": {"subnets": []},
        "status": {"vni": 7},
    }


def test_a_compiled_object_has_its_new_owner_and_no_report() -> None:
    old = [{"kind": "ConfigMap", "uid": "old"}]
    (item,) = Backup.of_objects(
        [raw("DataplaneConfig", metadata={"ownerReferences": old}, spec={"a": 1}, status={"b": 2})]
    ).items
    found: Any = owned(item, "elsewhere", OWNER)
    assert "status" not in found
    assert found["spec"] == {"a": 1}
    assert found["metadata"]["ownerReferences"] == [OWNER]
    assert found["metadata"]["namespace"] == "elsewhere"


def test_interfaces_of_pods_are_left_out_but_for_kept_ones() -> None:
    labels = {"app.kubernetes.io/managed-by": "headrace-operator", "a": "b"}
    of_set = {"labels": labels, "ownerReferences": [{"kind": "StatefulSet", "name": "db"}]}
    of_pod = {"labels": labels, "ownerReferences": [{"kind": "Pod", "name": "db-0"}]}
    backup = Backup.of_objects(
        [raw("Interface", metadata=of_pod), raw("Interface", metadata=of_set), raw("Interface")]
    )
    kept: Any
    by_hand: Any
    kept, by_hand = backup.items
    assert "ownerReferences" not in by_hand["metadata"]
    again: Any = kept_by(kept, OWNER)
    assert again["metadata"]["ownerReferences"] == [OWNER]
    # The operator takes what is labelled so away with a pod that is not there.
    nobodys: Any = kept_by(kept, None)
    assert nobodys["metadata"]["labels"] == {"a": "b"}
    assert "ownerReferences" not in nobodys["metadata"]


def test_of_the_operators_config_map_only_what_rests_is_saved() -> None:
    config_map: Any = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "headrace-operator", "namespace": "headrace-system", "uid": "old"},
        "data": {"operator.yaml": "logLevel: Info", "resting": "[]"},
    }
    (item,) = Backup.of_objects([config_map]).items
    assert item["data"] == {"resting": "[]"}


def test_what_was_saved_is_loaded() -> None:
    backup = Backup.of_objects([raw("Interface", spec={"nodeName": "n1"})])
    assert Backup.load("f", backup.dump()) == backup
    assert backup.counts() == {"Interface": 1}


def of_release_0_2(**more: str) -> str:
    """A backup with what is compiled, as 0.2 has it, and an Interface."""
    null, spec = {"type": "Null"}, CONFIG["spec"]
    interfaces = [{**each, "attachment": null} for each in spec["interfaces"]]
    config = {**spec, "pipelinePrefix": "fd00:1::/48", "interfaces": interfaces}
    routes = {"network": "blue/net", "vni": 7, "routes": SLICE["spec"]["entries"]}
    names = {"networkRef": {"name": "net"}, "nodeName": "node-a", "pipelineName": "router"}
    former = {"apiVersion": "headrace.dev/v1alpha1"}
    items = [
        raw("DataplaneConfig", spec=config, **former),
        raw("RouteSlice", spec=routes, **former),
        raw("Interface", spec={**names, "attachment": null}),
    ]
    found = Backup.of_objects(items)
    return json.dumps({"items": [*found.items], **more})


def test_a_backup_of_release_0_2_is_loaded_as_objects_of_this_one() -> None:
    backup = Backup.load("f", of_release_0_2())
    assert backup.counts() == {"DataplaneConfig": 1, "Slice": 1, "Interface": 1}
    assert backup.nodes() == {"node-a"}
    (config,) = map(DataplaneConfig.model_validate, backup.of(DATAPLANE_CONFIGS))
    assert config.spec.pipeline_prefixes == ("fd00:1::/48",)
    assert {each.attachment.type for each in config.spec.interfaces} == {"Discard"}
    (part,) = map(RouteSlice.model_validate, backup.of(SLICES))
    assert part.spec == RouteSlice.model_validate(SLICE).spec.model_copy(
        update={"owner": part.spec.owner, "vni": 7}
    )
    assert part.network == "blue/net"
    (interface,) = map(Interface.model_validate, backup.of(INTERFACES))
    assert interface.spec.attachment.type == "Discard"
    # Once it is of this release it stays as it is.
    assert Backup.load("f", backup.dump()) == backup


def test_a_backup_of_a_release_that_says_so_is_taken_as_it_is() -> None:
    content = of_release_0_2(headraceVersion="0.3.0")
    with pytest.raises(
        CommandError, match=r"items\[0\]: .*must be dataplane.headrace.dev/v1alpha1"
    ):
        Backup.load("f", content)


@pytest.mark.parametrize("item", [None, 7, "x", [], {}, {"kind": "RouteSlice", "spec": 7}])
def test_what_is_no_object_of_release_0_2_either_is_named(item: Any) -> None:
    with pytest.raises(CommandError, match=r"is no backup: items\[0\]: "):
        Backup.load("f", json.dumps({"items": [item]}))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "f is no backup: Expecting value"),
        ("[]", "it has no list `items`"),
        (json.dumps({"items": [1]}), "items[0]: is no object"),
        (json.dumps({"items": [{"kind": "Pod"}]}), "items[0]: kind 'Pod' is in no backup"),
        (
            json.dumps({"items": [{"kind": "Interface", "apiVersion": "v1"}]}),
            "must be headrace.dev/v1alpha1",
        ),
        (
            json.dumps({"items": [raw("Interface", metadata={"namespace": ""})]}),
            "metadata.namespace",
        ),
    ],
)
def test_another_file_is_refused(content: str, said: str) -> None:
    with pytest.raises(CommandError, match="is no backup") as error:
        Backup.load("f", content)
    assert said in str(error.value)


def test_what_gives_values_out_comes_before_what_has_them() -> None:
    order = ["Namespace", "ConfigMap", "DataplaneConfig", "Pipeline", "Interface"]
    assert [kind for kind in KINDS if kind in order] == order
