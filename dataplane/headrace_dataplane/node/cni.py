# SPDX-License-Identifier: Apache-2.0
"""The CNI's words: what a runtime asks, what it is answered, and errors.

https://github.com/containernetworking/cni/blob/main/SPEC.md, versions 0.3.0 to 1.1.0.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from headrace_api import Json
from headrace_dataplane.node.links import Device

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""That are answered, the latest last."""
DEFAULT_TIMEOUT_SECONDS = 50
POD_ANNOTATIONS = "io.kubernetes.cri.pod-annotations"
"""Capability of a runtime: it gives the pod's annotations, as the kubelet has them."""

_IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_DEVICE = re.compile(r"[^\s/:%]{1,15}")


class Code(IntEnum):
    """Codes of errors."""

    INCOMPATIBLE_VERSION = 1
    UNKNOWN_CONTAINER = 3
    INVALID_ENVIRONMENT = 4
    IO_FAILURE = 5
    DECODING_FAILURE = 6
    INVALID_CONFIG = 7
    TRY_AGAIN_LATER = 11
    INTERNAL = 100
    """From here on codes are a plugin's own."""


class CNIError(Exception):
    """The command has failed."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def to_dict(self, version: str = VERSIONS[-1]) -> Json:
        """The error as the runtime reads it."""
        return {"cniVersion": version, "code": int(self.code), "msg": self.message}


class Attachment(BaseModel):
    """One use of a network by a container."""

    container: str = Field(alias="containerID")
    device: str = Field(alias="ifname")


class RuntimeConfig(BaseModel):
    """What the runtime gives for capabilities that the configuration asks for."""

    annotations: dict[str, str] | None = Field(
        default=None, alias="io.kubernetes.cri.pod-annotations"
    )


class Config(BaseModel):
    """The network configuration, as far as it is ours; other keys are ignored."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    version: str = Field(alias="cniVersion")
    name: Annotated[str, Field(pattern=rf"^{_IDENTIFIER.pattern}$", max_length=100)]
    previous: Json | None = Field(default=None, alias="prevResult")
    """Result of the plugins before this one."""
    timeout_seconds: int = Field(
        default=DEFAULT_TIMEOUT_SECONDS, ge=1, le=120, alias="timeoutSeconds"
    )
    """How long ADD waits for the dataplane, 1 to 120 seconds."""
    valid: tuple[Attachment, ...] | None = Field(default=None, alias="cni.dev/valid-attachments")
    valid_by_first_name: tuple[Attachment, ...] | None = Field(
        default=None, alias="cni.dev/attachments"
    )
    """As the first text of version 1.1.0 had it, and the first libcni."""

    runtime: RuntimeConfig | None = Field(default=None, alias="runtimeConfig")

    @property
    def pod_annotations(self) -> dict[str, str] | None:
        """Annotations of the pod; None: the runtime does not say. Null is none, as Go writes it."""
        if self.runtime is None or "annotations" not in self.runtime.model_fields_set:
            return None
        return self.runtime.annotations or {}

    @property
    def in_use(self) -> frozenset[str] | None:
        """GC: containers whose devices are; None: the runtime does not say.

        A list that is null is empty: so libcni writes one.
        """
        if not self.model_fields_set & {"valid", "valid_by_first_name"}:
            return None
        uses = (*(self.valid or ()), *(self.valid_by_first_name or ()))
        return frozenset(use.container for use in uses)

    @field_validator("previous")
    @classmethod
    def _well_formed(cls, previous: Json | None) -> Json | None:
        for name in ("interfaces", "ips", "routes"):
            parts = (previous or {}).get(name) or []
            if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
                raise ValueError(f"{name} must be a list of objects")
        return previous


@dataclass(frozen=True)
class Request:
    """What a runtime asks."""

    command: str
    """ADD, CHECK, DEL, GC or STATUS."""
    container: str
    namespace: str
    """Path of the network namespace, as the host sees it."""
    device: str
    arguments: dict[str, str]
    """CNI_ARGS: K8S_POD_NAME and the like."""
    config: Config


def parse(message: bytes) -> Request:
    """Understand a request as the plugin sends it, see headrace-cni.c. Raises CNIError."""
    head, end, stdin = message.partition(b"\0\0")
    if not end:
        raise CNIError(Code.INVALID_ENVIRONMENT, "CNI_COMMAND is not set")
    variables: dict[str, str] = {}
    for entry in head.decode(errors="replace").split("\0"):
        name, _, value = entry.partition("=")
        variables[name] = value
    command = variables.get("CNI_COMMAND", "")
    if command not in ("ADD", "CHECK", "DEL", "GC", "STATUS"):
        raise CNIError(Code.INVALID_ENVIRONMENT, f"CNI_COMMAND {command!r} is not known")
    container, device = variables.get("CNI_CONTAINERID", ""), variables.get("CNI_IFNAME", "")
    if command in ("ADD", "CHECK", "DEL"):
        for name, value, pattern in (
            ("CNI_CONTAINERID", container, _IDENTIFIER),
            ("CNI_IFNAME", device, _DEVICE),
        ):
            if not pattern.fullmatch(value):
                raise CNIError(Code.INVALID_ENVIRONMENT, f"{name} {value!r} is not valid")
    return Request(
        command,
        container,
        variables.get("CNI_NETNS", ""),
        device,
        _arguments(variables.get("CNI_ARGS", "")),
        _config(stdin),
    )


def result(version: str, previous: Json | None, sandbox: str, devices: Sequence[Device]) -> Json:
    """The result of the plugins before, and of these devices in the namespace `sandbox`."""
    answer: Json = {**(previous or {}), "cniVersion": version}
    interfaces, ips, routes = (
        [*cast("list[Json]", answer.get(name) or [])] for name in ("interfaces", "ips", "routes")
    )
    for device in devices:
        endpoint = device.endpoint
        interfaces.append({"name": endpoint.host, "mac": device.host_mac})
        inside: Json = {"name": endpoint.name, "mac": device.mac, "sandbox": sandbox}
        if version == "1.1.0":
            inside["mtu"] = endpoint.mtu
        interfaces.append(inside)
        for address in endpoint.addresses:
            ip: Json = {"address": address, "interface": len(interfaces) - 1}
            if version.startswith("0."):
                ip["version"] = "6" if ":" in address else "4"
            ips.append(ip)
        routes += [{"dst": to, "gw": gateway} for to, gateway in endpoint.routes]
    for name, parts in (("interfaces", interfaces), ("ips", ips), ("routes", routes)):
        if parts:
            answer[name] = [*parts]
    return answer


def _arguments(text: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in text.split(";") if pair)
    return {name: value for name, _, value in pairs}


def _config(stdin: bytes) -> Config:
    try:
        data = json.loads(stdin)
    except (ValueError, RecursionError) as error:
        message = f"standard input is not a network configuration: {error}"
        raise CNIError(Code.DECODING_FAILURE, message) from error
    if not isinstance(data, dict):
        raise CNIError(Code.DECODING_FAILURE, "standard input is not a JSON object")
    version = data.get("cniVersion")
    if version not in VERSIONS:
        message = f"cniVersion {version!r} is not one of {', '.join(VERSIONS)}"
        raise CNIError(Code.INCOMPATIBLE_VERSION, message)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise CNIError(Code.INVALID_CONFIG, f"{field}: {first['msg']}") from error
