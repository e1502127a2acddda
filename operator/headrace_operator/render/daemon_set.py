# SPDX-License-Identifier: Apache-2.0
"""The DaemonSets of a Pipeline: one for each class of nodes, and no privilege without a reason."""

import hashlib
import re
from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

from pydantic import JsonValue

from headrace_api import (
    LEASE_SECONDS,
    LEASE_SECONDS_VARIABLE,
    PIPELINE_LABEL,
    RUNTIME_DIRECTORY,
    SOCKETS_DIRECTORY,
    SOCKETS_VARIABLE,
    STARTUP_TAINT,
    AttachmentType,
    Json,
    LabelSelector,
    Pipeline,
    PipelineSpec,
)
from headrace_api.pipeline import DEFAULT_CLASS
from headrace_operator.settings import (
    CERTIFICATE_DIRECTORY,
    DEVICE_VOLUME,
    STATE_DIRECTORY,
    TUN,
    DataplaneSettings,
    Settings,
)

NODE_CLASS_LABEL = "headrace.dev/node-class"
#: Pods are named after their DaemonSet with six more characters, and their host name has 63.
_NAME_LENGTH = 57
#: The chart's own DaemonSet, beside those of Pipelines.
_NODE_AGENT = "headrace-node"
_STOP_SECONDS = 15
#: All nodes take up what a replaced one has brought before the next does not forward.
_SETTLE_SECONDS = 5
_PROBE_SECONDS = 2


#: Capabilities that the engine's ports need, as uid 0 with all others dropped and no privileges
#: to gain (tried with DPDK 22.11, with and without hugepages). Types that are not here need none.
_CAPABILITIES: Mapping[AttachmentType, frozenset[str]] = {
    # vfio maps memory whatever RLIMIT_MEMLOCK is; without it no frame passes, and nothing says so.
    AttachmentType.SRIOV: frozenset({"IPC_LOCK"}),
    # TUNSETIFF makes the device.
    AttachmentType.TAP: frozenset({"NET_ADMIN"}),
    # The socket; and the device's start, which sets its MAC address, MTU and promiscuity.
    AttachmentType.AF_PACKET: frozenset({"NET_RAW", "NET_ADMIN"}),
    AttachmentType.POD: frozenset({"NET_RAW", "NET_ADMIN"}),
}
#: What a function needs besides that stays with the kernel's driver (mlx5): DPDK steers packets to
#: itself by verbs, and finds and sets the device by its kernel device, in the node's namespace.
_BIFURCATED_CAPABILITIES = frozenset({"NET_RAW", "NET_ADMIN"})
#: Devices of the node's kernel: a restarted pod must find them where they were.
_KERNEL_TYPES = frozenset({AttachmentType.TAP, AttachmentType.AF_PACKET, AttachmentType.POD})

#: Types whose two sides meet at a Unix socket on the node. Memory is passed over it.
_SOCKET_TYPES = frozenset(
    {AttachmentType.MEMIF, AttachmentType.VHOST_USER, AttachmentType.VIRTIO_USER}
)


def daemon_sets(
    pipeline: Pipeline,
    settings: Settings,
    metrics_port: int,
    namespace: str,
    kernel_resources: Set[str] = frozenset(),
) -> list[Json]:
    """The DaemonSets for server-side apply, without owner: the default class, then the others.

    None where the Pipeline selects no node whatever its labels. `kernel_resources` are extended
    resources whose functions stay with the kernel's driver.
    """
    if pipeline.spec.node_selector is None:
        return []
    values = [each.value for each in pipeline.spec.node_classes]
    needs = _needs(pipeline.spec, kernel_resources)
    return [
        _daemon_set(pipeline, value, settings.dataplane, metrics_port, namespace, needs)
        for value in (None, *values)
    ]


def class_name(pipeline: str, value: str | None) -> str:
    """Name of the DaemonSet of a node class, at most 57 characters; None is the default class.

    `headrace-<pipeline>`, or `headrace-<pipeline>-<value>-<hash>`: Pipeline `a` with class `b-c`
    and Pipeline `a-b` with class `c` are two. Pipeline `node` has `headrace-node-<hash>`.
    """
    if value is None:
        return _short(f"headrace-{pipeline}", pipeline)
    word = re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-")
    unique = f"{pipeline}/{value}"
    return _short(f"headrace-{pipeline}-{word}-{_hash(unique)}", unique)


def _short(name: str, unique: str) -> str:
    if len(name) <= _NAME_LENGTH and name != _NODE_AGENT:
        return name
    tail = _hash(unique)
    return f"{name[: _NAME_LENGTH - len(tail) - 1].rstrip('-')}-{tail}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _daemon_set(
    pipeline: Pipeline,
    value: str | None,
    settings: DataplaneSettings,
    metrics_port: int,
    namespace: str,
    needs: "_Needs",
) -> Json:
    name = pipeline.metadata.name
    selector: Json = {PIPELINE_LABEL: name, NODE_CLASS_LABEL: value or DEFAULT_CLASS}
    labels: Json = {
        "app.kubernetes.io/name": "headrace",
        "app.kubernetes.io/component": "dataplane",
        "app.kubernetes.io/managed-by": "headrace-operator",
        **selector,
    }
    metadata: Json = {"labels": {**settings.labels, **labels}}
    if settings.annotations:
        metadata["annotations"] = {**settings.annotations}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": class_name(name, value),
            "namespace": namespace,
            "labels": labels,
        },
        "spec": {
            "selector": {"matchLabels": selector},
            "updateStrategy": _update_strategy(pipeline.spec),
            "minReadySeconds": _SETTLE_SECONDS,
            "template": {
                "metadata": metadata,
                "spec": _pod(pipeline, value, settings, metrics_port, needs),
            },
        },
    }


def _update_strategy(spec: PipelineSpec) -> Json:
    strategy = spec.update_strategy
    found: Json = {"type": strategy.type.value}
    if strategy.type == "RollingUpdate":
        # Exclusive CPUs, devices and the metrics port leave no room for a second pod.
        found["rollingUpdate"] = {"maxUnavailable": strategy.max_unavailable, "maxSurge": 0}
    return found


def _pod(
    pipeline: Pipeline,
    value: str | None,
    settings: DataplaneSettings,
    metrics_port: int,
    needs: "_Needs",
) -> Json:
    spec = pipeline.spec
    pod: Json = {
        "serviceAccountName": settings.service_account_name,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _STOP_SECONDS,
        "tolerations": [
            {"key": STARTUP_TAINT, "operator": "Exists"},
            *(toleration.to_dict() for toleration in spec.tolerations),
        ],
        "containers": [_container(pipeline, value, settings, metrics_port, needs)],
        "volumes": [*_volumes(spec, settings)],
    }
    if needs.host_network:
        pod |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    if settings.priority_class_name:
        pod["priorityClassName"] = settings.priority_class_name
    if settings.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    selector = spec.node_selector or LabelSelector()
    if selector.match_labels:
        pod["nodeSelector"] = {**selector.match_labels}
    # The API server drops what is empty: it would be taken for a difference.
    expressions: list[Json] = [
        {name: value for name, value in each.to_dict().items() if value != []}
        for each in selector.match_expressions
    ]
    if spec.node_classes:
        expressions.append(_class_requirement(spec, value))
    if expressions:
        pod["affinity"] = _affinity(expressions)
    return pod


def _class_requirement(spec: PipelineSpec, value: str | None) -> Json:
    if value is None:
        # NotIn matches nodes without the label, too.
        others = [each.value for each in spec.node_classes]
        return {"key": spec.node_class_label, "operator": "NotIn", "values": [*others]}
    return {"key": spec.node_class_label, "operator": "In", "values": [value]}


def _affinity(expressions: Sequence[Json]) -> Json:
    required: Json = {"nodeSelectorTerms": [{"matchExpressions": [*expressions]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def _container(
    pipeline: Pipeline,
    value: str | None,
    settings: DataplaneSettings,
    metrics_port: int,
    needs: "_Needs",
) -> Json:
    spec = pipeline.spec
    certificate = settings.metrics_certificate
    return {
        "name": "dataplane",
        "image": spec.image or settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["headrace-agent"],
        "args": [
            *("--pipeline", pipeline.metadata.name),
            *("--node", "$(NODE_NAME)"),
            *("--namespace", "$(POD_NAMESPACE)"),
            *("--runtime-dir", RUNTIME_DIRECTORY),
            *("--state-dir", STATE_DIRECTORY),
            *("--metrics-address", f"[$(POD_IP)]:{metrics_port}"),
            *(("--metrics-certificate", CERTIFICATE_DIRECTORY) if certificate else ()),
        ],
        "env": [
            _downward("NODE_NAME", "spec.nodeName"),
            _downward("POD_NAME", "metadata.name"),
            _downward("POD_NAMESPACE", "metadata.namespace"),
            _downward("POD_IP", "status.podIP"),
            *_told(settings),
            *(variable.to_dict() for variable in settings.env),
        ],
        "ports": [{"name": "metrics", "containerPort": metrics_port, "protocol": "TCP"}],
        "readinessProbe": {
            "httpGet": {
                "path": "/readyz",
                "port": "metrics",
                **({"scheme": "HTTPS"} if certificate else {}),
            },
            "periodSeconds": _PROBE_SECONDS,
            "timeoutSeconds": _PROBE_SECONDS,
            "failureThreshold": 3,
        },
        "resources": _resources(spec, value),
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": _capabilities(needs),
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [*_mounts(spec, settings)],
    }


def _told(settings: DataplaneSettings) -> list[Json]:
    """What the agent is to have otherwise than by default: an older one does not mind."""
    values = {
        LEASE_SECONDS_VARIABLE: (str(settings.lease_seconds), str(LEASE_SECONDS)),
        SOCKETS_VARIABLE: (settings.sockets, SOCKETS_DIRECTORY),
    }
    return [
        {"name": name, "value": value}
        for name, (value, default) in values.items()
        if value != default
    ]


def _types(spec: PipelineSpec) -> frozenset[AttachmentType]:
    """Every way in which a port of these pods may be attached."""
    listed = (device.type for device in spec.devices or ())
    uplinks = (
        attachment.type
        for uplink in spec.uplinks
        for attachment in (uplink.attachment, *(each.attachment for each in uplink.node_overrides))
    )
    return frozenset((*listed, *uplinks))


class _Needs(NamedTuple):
    """What the ports of these pods need beyond what every pod has."""

    capabilities: frozenset[str]
    host_network: bool


def _needs(spec: PipelineSpec, kernel_resources: Set[str]) -> _Needs:
    types = _types(spec)
    capabilities = frozenset(name for kind in types for name in _CAPABILITIES.get(kind, ()))
    host_network = bool(types & _KERNEL_TYPES)
    if not kernel_resources.isdisjoint(spec.functions()):
        capabilities |= _BIFURCATED_CAPABILITIES
        host_network = True
    return _Needs(capabilities, host_network)


def _capabilities(needs: _Needs) -> Json:
    found: Json = {"drop": ["ALL"]}
    if needs.capabilities:
        found["add"] = [*sorted(needs.capabilities)]
    return found


def _resources(spec: PipelineSpec, value: str | None) -> Json:
    """Requests that equal limits, whole CPUs: the pod is Guaranteed and its CPUs are its own."""
    node_class = next((each for each in spec.node_classes if each.value == value), None)
    sized = spec.sized(node_class)
    workers = sized.workers
    wanted: Json = {
        "cpu": str(workers.count + (not workers.share_control_core)),
        "memory": sized.memory,
    }
    if sized.hugepages:
        wanted[f"hugepages-{sized.hugepages.size}"] = sized.hugepages.amount
    wanted |= {name: str(count) for name, count in spec.functions().items()}
    return {"requests": wanted, "limits": wanted}


def _directories(spec: PipelineSpec) -> dict[str, str]:
    """Directory of files that Interfaces may name -> name of its volume."""
    # Of one directory in several entries the first names the volume.
    return {
        device.directory: f"{DEVICE_VOLUME}{device.name}"
        for device in reversed(spec.devices or ())
        if device.directory
    }


def _volumes(spec: PipelineSpec, settings: DataplaneSettings) -> list[JsonValue]:
    types = _types(spec)
    volumes: list[JsonValue] = [{"name": name, "emptyDir": {}} for name in _SCRATCH]
    if types & _SOCKET_TYPES:
        path: Json = {"path": settings.sockets, "type": "DirectoryOrCreate"}
        volumes.append({"name": "sockets", "hostPath": path})
    if AttachmentType.TAP in types:
        volumes.append({"name": "tun", "hostPath": {"path": TUN, "type": "CharDevice"}})
    for directory, name in _directories(spec).items():
        files: Json = {"path": directory, "type": "DirectoryOrCreate"}
        volumes.append({"name": name, "hostPath": files})
    if settings.metrics_certificate:
        secret: Json = {"secretName": settings.metrics_certificate}
        volumes.append({"name": "metrics-certificate", "secret": secret})
    return [*volumes, *(volume.to_dict() for volume in settings.volumes)]


#: The only places that the pod may write to.
_SCRATCH = {"engine": RUNTIME_DIRECTORY, "state": STATE_DIRECTORY, "tmp": "/tmp"}  # noqa: S108


def _mounts(spec: PipelineSpec, settings: DataplaneSettings) -> list[JsonValue]:
    types = _types(spec)
    mounts: list[JsonValue] = [{"name": name, "mountPath": path} for name, path in _SCRATCH.items()]
    if types & _SOCKET_TYPES:
        mounts.append({"name": "sockets", "mountPath": settings.sockets})
    if AttachmentType.TAP in types:
        mounts.append({"name": "tun", "mountPath": TUN})
    mounts += ({"name": name, "mountPath": path} for path, name in _directories(spec).items())
    if settings.metrics_certificate:
        mounts.append(
            {
                "name": "metrics-certificate",
                "mountPath": CERTIFICATE_DIRECTORY,
                "readOnly": True,
            }
        )
    return [*mounts, *(mount.to_dict() for mount in settings.volume_mounts)]


def _downward(name: str, path: str) -> Json:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
