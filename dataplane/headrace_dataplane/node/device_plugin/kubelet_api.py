# SPDX-License-Identifier: Apache-2.0
"""What the kubelet and device plugins say to one another.

Of k8s.io/kubelet, pkg/apis: deviceplugin/v1beta1/api.proto and podresources/v1/api.proto. Whatever
of these is not used here is left out.
"""

from dataclasses import dataclass, field
from typing import Annotated

VERSION = "v1beta1"
REGISTER = "/v1beta1.Registration/Register"
OPTIONS = "/v1beta1.DevicePlugin/GetDevicePluginOptions"
LIST_AND_WATCH = "/v1beta1.DevicePlugin/ListAndWatch"
PREFERRED = "/v1beta1.DevicePlugin/GetPreferredAllocation"
ALLOCATE = "/v1beta1.DevicePlugin/Allocate"
PRE_START = "/v1beta1.DevicePlugin/PreStartContainer"
LIST = "/v1.PodResourcesLister/List"
ALLOCATABLE = "/v1.PodResourcesLister/GetAllocatableResources"

HEALTHY, UNHEALTHY = "Healthy", "Unhealthy"


@dataclass(frozen=True)
class Empty:
    """Nothing."""


@dataclass(frozen=True)
class DevicePluginOptions:
    """What a plugin offers."""

    pre_start_required: Annotated[bool, 1] = False
    get_preferred_allocation_available: Annotated[bool, 2] = False


@dataclass(frozen=True)
class RegisterRequest:
    """A plugin is there."""

    version: Annotated[str, 1] = ""
    endpoint: Annotated[str, 2] = ""
    """Its socket's name, in the directory of the kubelet's."""
    resource_name: Annotated[str, 3] = ""
    options: Annotated[DevicePluginOptions | None, 4] = None


@dataclass(frozen=True)
class NumaNode:
    """A NUMA node."""

    id: Annotated[int, 1] = 0


@dataclass(frozen=True)
class TopologyInfo:
    """Where a device is."""

    nodes: Annotated[tuple[NumaNode, ...], 1] = ()


@dataclass(frozen=True)
class Device:
    """A device that may be given out."""

    id: Annotated[str, 1] = ""
    """At most 63 characters."""
    health: Annotated[str, 2] = ""
    topology: Annotated[TopologyInfo | None, 3] = None


@dataclass(frozen=True)
class ListAndWatchResponse:
    """All devices of a plugin."""

    devices: Annotated[tuple[Device, ...], 1] = ()


@dataclass(frozen=True)
class ContainerPreferredAllocationRequest:
    """Which devices a container should get."""

    available: Annotated[tuple[str, ...], 1] = ()
    must_include: Annotated[tuple[str, ...], 2] = ()
    size: Annotated[int, 3] = 0


@dataclass(frozen=True)
class PreferredAllocationRequest:
    """Which devices containers should get."""

    container_requests: Annotated[tuple[ContainerPreferredAllocationRequest, ...], 1] = ()


@dataclass(frozen=True)
class ContainerPreferredAllocationResponse:
    """The devices that a container should get."""

    device_ids: Annotated[tuple[str, ...], 1] = ()


@dataclass(frozen=True)
class PreferredAllocationResponse:
    """The devices that containers should get, one for each request."""

    container_responses: Annotated[tuple[ContainerPreferredAllocationResponse, ...], 1] = ()


@dataclass(frozen=True)
class ContainerAllocateRequest:
    """A container gets these devices."""

    device_ids: Annotated[tuple[str, ...], 1] = ()


@dataclass(frozen=True)
class AllocateRequest:
    """Containers get these devices."""

    container_requests: Annotated[tuple[ContainerAllocateRequest, ...], 1] = ()


@dataclass(frozen=True)
class DeviceSpec:
    """A device node of a container."""

    container_path: Annotated[str, 1] = ""
    host_path: Annotated[str, 2] = ""
    permissions: Annotated[str, 3] = ""
    """Of r, w and m, as the device controller of control groups has them."""


@dataclass(frozen=True)
class ContainerAllocateResponse:
    """What a container is made with."""

    envs: Annotated[dict[str, str], 1] = field(default_factory=dict)
    devices: Annotated[tuple[DeviceSpec, ...], 3] = ()


@dataclass(frozen=True)
class AllocateResponse:
    """What containers are made with, one for each request."""

    container_responses: Annotated[tuple[ContainerAllocateResponse, ...], 1] = ()


@dataclass(frozen=True)
class PreStartContainerRequest:
    """A container starts."""


@dataclass(frozen=True)
class PreStartContainerResponse:
    """It may."""


@dataclass(frozen=True)
class ContainerDevices:
    """Devices of a resource that a container has, or all that may be given out."""

    resource_name: Annotated[str, 1] = ""
    device_ids: Annotated[tuple[str, ...], 2] = ()


@dataclass(frozen=True)
class ContainerResources:
    """What a container has."""

    name: Annotated[str, 1] = ""
    devices: Annotated[tuple[ContainerDevices, ...], 2] = ()


@dataclass(frozen=True)
class PodResources:
    """What a pod has."""

    name: Annotated[str, 1] = ""
    namespace: Annotated[str, 2] = ""
    containers: Annotated[tuple[ContainerResources, ...], 3] = ()


@dataclass(frozen=True)
class ListPodResourcesResponse:
    """What the node's pods have."""

    pods: Annotated[tuple[PodResources, ...], 1] = ()


@dataclass(frozen=True)
class AllocatableResourcesResponse:
    """Healthy devices of all plugins."""

    devices: Annotated[tuple[ContainerDevices, ...], 1] = ()
