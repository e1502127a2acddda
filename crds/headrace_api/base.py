# SPDX-License-Identifier: Apache-2.0
"""What every model shares: strictness, camelCase in YAML, object metadata, conditions, CEL."""

from collections.abc import Sequence
from enum import StrEnum
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

GROUP = "headrace.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
#: The group of what is compiled: neither written nor read by people.
DATAPLANE_GROUP = f"dataplane.{GROUP}"

#: RFC 1123 label: the names of the kinds that people write.
LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
#: RFC 1123 subdomain: the names of nodes and of compiled objects.
SUBDOMAIN_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"

Json = dict[str, JsonValue]


#: A CEL rule and its message.
Rule = tuple[str, str]


def cel(*rules: Rule) -> Json:
    """`json_schema_extra` that carries CEL rules."""
    return {
        "x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in rules]
    }


def list_map(*keys: str) -> Json:
    """`json_schema_extra` of a list whose items are told apart by these fields."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [*keys]}


def field_error(field: str, message: str) -> PydanticCustomError:
    """An error of a cross-field rule which names the field at fault.

    `field` is a path in YAML names below the model that raises, e.g. `subnets[1].prefix`.
    """
    # The message goes in whole: pydantic would take its braces for placeholders.
    return PydanticCustomError("rule", "{text}", {"text": message, "field": field})


#: Every item once. Not list-type set: who applies the list replaces it whole.
UNIQUE = cel(("self.all(one, self.exists_one(other, other == one))", "every item once"))


def refuse_duplicates(field: str, values: Sequence[str]) -> None:
    """Raise the error of the first item that is listed twice."""
    for index, value in enumerate(values):
        if value in values[:index]:
            raise field_error(f"{field}[{index}]", f"{value} is listed twice")


class ApiModel(BaseModel):
    """Base of every model: frozen, unknown fields refused, camelCase in YAML, snake_case here."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )

    @classmethod
    def read(cls, data: object) -> Self:
        """Validate what Headrace itself wrote: what a newer release added is ignored everywhere."""
        return cls.model_validate(data, extra="ignore")

    def to_dict(self) -> Json:
        """The object as JSON types with YAML's names; absent values are left out."""
        result: Json = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return result


class StatusModel(ApiModel):
    """Base of every status: fields of a newer release are ignored, never an error."""

    model_config = ConfigDict(extra="ignore")


class ObjectMeta(ApiModel):
    """Kubernetes object metadata; fields that Headrace has no use for are ignored."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(min_length=1, max_length=253, pattern=SUBDOMAIN_PATTERN)
    namespace: str = Field(default="", max_length=63, pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$")
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str = ""
    """RFC 3339 in UTC, so that text order is time order; empty in local mode."""
    deletion_timestamp: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class ConditionStatus(StrEnum):
    """Status of a condition, as in metav1.Condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(StatusModel):
    """One aspect of the object's state (metav1.Condition)."""

    type: str = Field(max_length=316)
    """CamelCase name of the condition; Ready is the summary."""
    status: ConditionStatus
    """True, False or Unknown."""
    observed_generation: int | None = Field(default=None, ge=0)
    """The metadata.generation that the condition was set for."""
    last_transition_time: str = Field(json_schema_extra={"format": "date-time"}, max_length=40)
    """When the status last changed (RFC 3339)."""
    reason: str = Field(
        min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
    )
    """CamelCase reason of the last transition."""
    message: str = Field(max_length=32768)
    """What happened and what to do about it, for people."""


#: Makes a fresh object read as in progress (kstatus) before the operator has seen it.
PENDING: list[JsonValue] = [
    {
        "type": "Ready",
        "status": "Unknown",
        "reason": "Pending",
        "message": "Waiting for the operator",
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    }
]


class ObjectStatus(StatusModel):
    """What every status has."""

    observed_generation: int | None = Field(default=None, ge=0)
    """The metadata.generation that this status was written for."""
    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=16,
        json_schema_extra=list_map("type"),
    )
    """Conditions of the object; Ready is the summary."""


class PrinterColumn(ApiModel):
    """One column of `kubectl get`."""

    name: str
    type: str = "string"
    json_path: str
    priority: int = 0


class Resource(ApiModel):
    """A Kubernetes object: apiVersion, kind, metadata; its subclasses add spec and status."""

    #: Name of the kind, where the class has another.
    KIND: ClassVar[str] = ""
    GROUP: ClassVar[str] = GROUP
    PLURAL: ClassVar[str]
    SHORT_NAME: ClassVar[str]
    NAMESPACED: ClassVar[bool] = True
    #: Written by the operator alone: longer, dotted names, and no rules at the API server.
    COMPILED: ClassVar[bool] = False
    #: Rules about the whole object, its status too; an update's have `oldSelf`.
    RULES: ClassVar[tuple[Rule, ...]] = ()
    #: Fields that a list or watch can select by, besides metadata.
    SELECTABLE: ClassVar[tuple[str, ...]] = ()
    #: Columns between Name and Ready.
    COLUMNS: ClassVar[tuple[PrinterColumn, ...]] = ()

    api_version: str
    kind: str
    metadata: ObjectMeta

    @property
    def key(self) -> str:
        """`namespace/name`, or the name alone where the kind is cluster-scoped."""
        if not self.NAMESPACED:
            return self.metadata.name
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @classmethod
    def kind_name(cls) -> str:
        """Name of the kind."""
        return cls.KIND or cls.__name__

    @classmethod
    def version(cls) -> str:
        """The kind's apiVersion."""
        return f"{cls.GROUP}/{VERSION}"

    @model_validator(mode="before")
    @classmethod
    def _default_kind(cls, data: object) -> object:
        if isinstance(data, dict):
            given = {"apiVersion": cls.version()} if "api_version" not in data else {}
            return {**given, "kind": cls.kind_name(), **data}
        return data

    @model_validator(mode="after")
    def _check_identity(self) -> Self:
        if self.kind != self.kind_name():
            raise field_error("kind", f"must be {self.kind_name()}, not {self.kind}")
        if self.api_version != self.version():
            raise field_error("apiVersion", f"must be {self.version()}, not {self.api_version}")
        name = self.metadata.name
        if not self.COMPILED and ("." in name or len(name) > 63):
            raise field_error(
                "metadata.name", "at most 63 characters of a-z, 0-9 and '-' (an RFC 1123 label)"
            )
        return self


class CompiledResource(Resource):
    """A kind that the operator writes, and nobody else, in a group of its own."""

    GROUP = DATAPLANE_GROUP
    COMPILED = True


def column(name: str, path: str, kind: str = "string", *, wide: bool = False) -> PrinterColumn:
    """A printer column; `wide` shows it with `kubectl get -o wide` only."""
    return PrinterColumn(name=name, type=kind, json_path=path, priority=1 if wide else 0)
