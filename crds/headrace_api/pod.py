# SPDX-License-Identifier: Apache-2.0
"""Pods as endpoints: what the compiler needs of one, and the annotations that people write."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from .attachment import PodDeviceName
from .base import GROUP, ApiModel, ObjectMeta
from .errors import violations
from .types import Name, TenantAddress

#: Annotation of a pod: the networks that it joins (see `pod_networks`).
NETWORKS_ANNOTATION = f"{GROUP}/networks"
#: Annotation of a pod: Interfaces of its namespace that name it and are written by hand, by name.
INTERFACES_ANNOTATION = f"{GROUP}/interfaces"
#: Annotation of a pod, "true": its Interfaces belong to its StatefulSet, and keep their addresses.
KEEP_ANNOTATION = f"{GROUP}/keep-addresses"
#: Label of an Interface that was made of an annotation: name of the pod.
POD_LABEL = f"{GROUP}/pod"
#: Annotation of the API server's pod for one of a manifest on a node's disk: the uid that it has on
#: its node, and so for the container runtime.
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
#: Annotation of an Interface that was made for such a pod: that uid.
STATIC_POD_ANNOTATION = f"{GROUP}/static-pod-uid"

#: Most networks of one pod.
POD_NETWORKS = 16


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="ignore", populate_by_name=True, alias_generator=to_camel
    )


class PodSpec(_Part):
    """What a pod is."""

    node_name: str = ""
    """Empty: it has not been scheduled yet."""


class PodStatus(_Part):
    """How a pod is."""

    phase: str = ""
    """Pending, Running, Succeeded, Failed or Unknown."""


class Pod(_Part):
    """A Kubernetes pod: its name and where it is; everything else is ignored."""

    api_version: Literal["v1"] = "v1"
    kind: Literal["Pod"] = "Pod"
    metadata: ObjectMeta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def node(self) -> str | None:
        """Name of the node that it is on or was on; None: it has not been scheduled yet."""
        return self.spec.node_name or None

    @property
    def completed(self) -> bool:
        """Whether all of its containers have ended for good: its node is free of it."""
        return self.status.phase in ("Succeeded", "Failed")


class PodNetwork(ApiModel):
    """A network that a pod joins: an item of the annotation headrace.dev/networks."""

    network: Name
    """The VirtualNetwork, in the pod's namespace."""
    addresses: tuple[TenantAddress, ...] = Field(default=(), max_length=32)
    """As spec.addresses of an Interface. Default: one of every subnet."""
    pipeline: Name | None = None
    """The Pipeline that serves it. Default: the only one that allows Pod."""
    device: PodDeviceName | None = None
    """Name of the device inside the pod. Default: net1, net2, ... by place in the list."""
    default_route: bool = False
    """Whether all that has no other route goes into the network. Default false."""


class PodNetworksError(ValueError):
    """An annotation of a pod is wrong; the text says how to mend it."""


class _Networks(ApiModel):
    networks: Annotated[tuple[PodNetwork, ...], Field(min_length=1, max_length=POD_NETWORKS)]


def pod_networks(annotation: str) -> tuple[PodNetwork, ...]:
    """Parse headrace.dev/networks: `blue,red`, or a JSON list of PodNetworks; devices are set.

    1 to 16 networks, each once. Raises PodNetworksError.
    """
    text = annotation.strip()
    items: object = [{"network": name.strip()} for name in text.split(",") if name.strip()]
    if text.startswith(("[", "{")):
        try:
            items = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise PodNetworksError(f"is not JSON: {error}") from None
    try:
        found = _Networks.model_validate({"networks": items}).networks
    except ValidationError as error:
        first = next(violations(_Networks, error))
        where = first.path.removeprefix("networks") or "the list"
        raise PodNetworksError(f"{where}: {first.message}") from None
    named = tuple(
        item if item.device else item.model_copy(update={"device": f"net{number}"})
        for number, item in enumerate(found, 1)
    )
    for what in ("network", "device"):
        values = [getattr(item, what) for item in named]
        for value in values:
            if values.count(value) > 1:
                raise PodNetworksError(f"{what} {value} is listed twice: a pod has each once")
    return named


def pod_interfaces(pod: str, annotations: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the Interfaces that a pod (its name) is to have, by its annotations.

    Those of headrace.dev/networks, then those that headrace.dev/interfaces names. Raises
    PodNetworksError, which names the annotation.
    """
    found: list[str] = []
    if (text := annotations.get(NETWORKS_ANNOTATION)) is not None:
        try:
            networks = pod_networks(text)
        except PodNetworksError as error:
            raise PodNetworksError(f"annotation {NETWORKS_ANNOTATION}: {error}") from None
        found += (pod_interface_name(pod, network.network) for network in networks)
    if (text := annotations.get(INTERFACES_ANNOTATION)) is not None:
        names = [name.strip() for name in text.split(",") if name.strip()]
        if not 1 <= len(names) <= POD_NETWORKS or not all(map(_NAME.fullmatch, names)):
            raise PodNetworksError(
                f"annotation {INTERFACES_ANNOTATION}: {text!r}: write 1 to {POD_NETWORKS} names of "
                "Interfaces, separated by commas"
            )
        found += names
    return tuple(dict.fromkeys(found))


def pod_interface_name(pod: str, network: str) -> str:
    """Name of the Interface that is made for a pod (its name) in a network: at most 63 characters.

    `<pod>-<network>`; where that is too long, or no label, shortened with a hash.
    """
    name = f"{pod}-{network}"
    if len(name) <= _LABEL and "." not in name:
        return name
    tail = hashlib.sha256(f"{pod}/{network}".encode()).hexdigest()[:8]
    return f"{name.replace('.', '-')[: _LABEL - len(tail) - 1].rstrip('-')}-{tail}"


def pod_device(key: str) -> str:
    """Name of the node's end of the veth pair of an Interface (namespace/name) of type Pod."""
    return f"hr{_digest(key).hex()[:12]}"


def pod_mac(key: str) -> str:
    """MAC address of an Interface (namespace/name) of type Pod that names none.

    Locally administered, and the same wherever the pod is: 02 and 5 bytes of a digest.
    """
    return (b"\x02" + _digest(key)[:5]).hex(":")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


_LABEL = 63
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
