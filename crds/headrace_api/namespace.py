# SPDX-License-Identifier: Apache-2.0
"""Namespace: what the compiler needs of a core/v1 Namespace."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .base import ObjectMeta

#: Label that every namespace has: its name.
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"


class Namespace(BaseModel):
    """A Kubernetes namespace: its name and labels; everything else is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    api_version: Literal["v1"] = Field(default="v1", alias="apiVersion")
    kind: Literal["Namespace"] = "Namespace"
    metadata: ObjectMeta

    @property
    def key(self) -> str:
        """The namespace's name."""
        return self.metadata.name
