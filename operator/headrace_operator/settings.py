# SPDX-License-Identifier: Apache-2.0
"""The operator's settings: the file operator.yaml, which the chart writes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import ConfigDict, Field, ValidationError, model_validator

from headrace_api import (
    LEASE_SECONDS,
    LEASE_SECONDS_VARIABLE,
    RUNTIME_DIRECTORY,
    SOCKETS_VARIABLE,
)
from headrace_api.base import ApiModel, field_error
from headrace_api.device import DEFAULT_DEVICES, Device
from headrace_api.errors import violations
from headrace_api.types import Name, Subdomain

#: Prefixes of the labels and annotations that say what a dataplane pod is.
RESERVED_KEYS = ("headrace.dev/", "app.kubernetes.io/")
#: Environment, volumes and mounts that a dataplane pod cannot do without.
RESERVED_ENV = (
    *("NODE_NAME", "POD_NAME", "POD_NAMESPACE", "POD_IP"),
    *(LEASE_SECONDS_VARIABLE, SOCKETS_VARIABLE),
)
RESERVED_VOLUMES = ("engine", "state", "tmp", "sockets", "tun", "metrics-certificate")
#: Prefix of the volumes of devices of type Pcap.
DEVICE_VOLUME = "device-"
STATE_DIRECTORY = "/var/lib/headrace/state"
TUN = "/dev/net/tun"
CERTIFICATE_DIRECTORY = "/run/headrace/metrics-certificate"
RESERVED_PATHS = (
    *(RUNTIME_DIRECTORY, STATE_DIRECTORY, TUN, CERTIFICATE_DIRECTORY),
    "/tmp",  # noqa: S108
)

HostPath = Annotated[str, Field(max_length=1024, pattern=r"^(/[^/\s:]+)+$")]


class SettingsError(Exception):
    """The file cannot be used; each line of the text names the file and a field."""


class Part(ApiModel):
    """A part of a pod as core/v1 has it: what is not named here goes through as it is."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(min_length=1, max_length=253)
    """Name of the variable, volume or mounted volume."""


class Mount(Part):
    """A volume mount (core/v1)."""

    mount_path: HostPath
    """Absolute path in the container."""


class DataplaneSettings(ApiModel):
    """What the dataplane pods of every Pipeline have in common."""

    image: str = Field(min_length=1, max_length=1024)
    """Container image, for Pipelines that name none."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    """As in core/v1. Default IfNotPresent."""
    image_pull_secrets: tuple[Subdomain, ...] = ()
    """Names of Secrets in the operator's namespace."""
    service_account_name: Subdomain = "headrace-dataplane"
    """Default headrace-dataplane."""
    priority_class_name: str = Field(default="system-node-critical", max_length=253)
    """Default system-node-critical; empty: none."""
    metrics_port: int = Field(default=9477, ge=1024, le=65436)
    """First of 100 ports: each Pipeline gets the lowest free one, 1024 to 65436. Default 9477."""
    metrics_certificate: Subdomain | None = None
    """Secret with tls.crt and tls.key: then the pods serve by TLS, and /metrics only to whom the
    API server lets get it. Default: in clear, to everybody."""
    host_directory: HostPath = "/var/lib/headrace"
    """Directory of the node whose folder `sockets` has a directory for each Interface with a
    socket. Default /var/lib/headrace."""
    lease_seconds: int = Field(default=LEASE_SECONDS, ge=4, le=3600)
    """After so many without a word an agent is unreachable, 4 to 3600 seconds. Default 40."""
    labels: dict[str, str] = Field(default_factory=dict)
    """More labels of the pods; those of headrace.dev and app.kubernetes.io are taken."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """More annotations of the pods."""
    env: tuple[Part, ...] = ()
    """More environment variables (core/v1 EnvVar)."""
    volumes: tuple[Part, ...] = ()
    """More volumes (core/v1 Volume)."""
    volume_mounts: tuple[Mount, ...] = ()
    """More mounts (core/v1 VolumeMount)."""

    @property
    def sockets(self) -> str:
        """Where the directories of Interfaces with a socket are, on the node and in the pod."""
        return f"{self.host_directory}/sockets"

    @model_validator(mode="after")
    def _essentials_stay(self) -> Self:
        for field, value in self._taken():
            raise field_error(field, f"{value} belongs to the dataplane pod: choose another")
        return self

    def _taken(self) -> Iterator[tuple[str, str]]:
        for key in self.labels:
            if key.startswith(RESERVED_KEYS):
                yield "labels", key
        for key in self.annotations:
            if key.startswith(RESERVED_KEYS):
                yield "annotations", key
        for index, variable in enumerate(self.env):
            if variable.name in RESERVED_ENV:
                yield f"env[{index}].name", variable.name
        for index, volume in enumerate(self.volumes):
            if volume.name in RESERVED_VOLUMES or volume.name.startswith(DEVICE_VOLUME):
                yield f"volumes[{index}].name", volume.name
        for index, mount in enumerate(self.volume_mounts):
            if mount.mount_path in (*RESERVED_PATHS, self.sockets):
                yield f"volumeMounts[{index}].mountPath", mount.mount_path


class Settings(ApiModel):
    """operator.yaml."""

    log_level: Literal["Debug", "Info", "Warning", "Error"] = "Info"
    """Default Info."""
    resync_seconds: int = Field(default=600, ge=10, le=86400)
    """How often everything is listed again, 10 to 86400 seconds. Default 600."""
    owner: Name = "headrace-operator"
    """Name of the ConfigMap that owns everything the operator makes. Default headrace-operator."""
    node_agent: bool = False
    """Whether the node agent gives pods their devices: a Pipeline without devices then allows
    type Pod. Default false."""
    dataplane: DataplaneSettings

    @property
    def default_devices(self) -> tuple[Device, ...]:
        """What a Pipeline has that lists no devices."""
        return DEFAULT_DEVICES if self.node_agent else ()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file. Raises SettingsError that names the file and every broken field."""
        try:
            document = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
        try:
            return cls.model_validate({} if document is None else document)
        except ValidationError as error:
            lines = (
                f"{path}: {found.path or 'the document'}: {found.message}"
                for found in violations(cls, error)
            )
            raise SettingsError("\n".join(lines)) from None
