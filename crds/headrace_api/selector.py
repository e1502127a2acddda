# SPDX-License-Identifier: Apache-2.0
"""LabelSelector: which objects, by their labels (metav1.LabelSelector)."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from .base import ApiModel, cel, field_error

#: Key of a label or taint: a name of at most 63 characters, with or without a DNS prefix.
LabelKey = Annotated[
    str,
    Field(
        min_length=1,
        max_length=317,
        pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?"
        r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
    ),
]
LabelValue = Annotated[
    str, Field(max_length=63, pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")
]


class SelectorOperator(StrEnum):
    """How a requirement compares."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class SelectorRequirement(ApiModel):
    """One requirement on a label."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            (
                "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
                "values is required with operators In and NotIn, and forbidden otherwise",
            )
        )
    )

    key: LabelKey
    """Key of the label."""
    operator: SelectorOperator
    """In, NotIn, Exists or DoesNotExist. NotIn and DoesNotExist also match without the label."""
    values: tuple[LabelValue, ...] = Field(default=(), max_length=32)
    """Values, with In and NotIn; at most 32."""

    @model_validator(mode="after")
    def _values(self) -> Self:
        compares = self.operator in (SelectorOperator.IN, SelectorOperator.NOT_IN)
        if compares != bool(self.values):
            raise field_error(
                "values", "required with operators In and NotIn, and forbidden otherwise"
            )
        return self

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels meets it."""
        match self.operator:
            case SelectorOperator.IN:
                return labels.get(self.key) in self.values
            case SelectorOperator.NOT_IN:
                return labels.get(self.key) not in self.values
            case SelectorOperator.EXISTS:
                return self.key in labels
            case SelectorOperator.DOES_NOT_EXIST:
                return self.key not in labels


class LabelSelector(ApiModel):
    """Which objects: those whose labels meet all of it. Empty: all."""

    match_labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=16)
    """Labels that the object must have, at most 16."""
    match_expressions: tuple[SelectorRequirement, ...] = Field(default=(), max_length=16)
    """Requirements that the object's labels must meet, at most 16."""

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            each.matches(labels) for each in self.match_expressions
        )
