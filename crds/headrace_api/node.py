# SPDX-License-Identifier: Apache-2.0
"""Node: what the compiler needs of a core/v1 Node."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from .base import ObjectMeta


class Node(BaseModel):
    """A Kubernetes node: its name and labels; everything else is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    api_version: Literal["v1"] = Field(default="v1", alias="apiVersion")
    kind: Literal["Node"] = "Node"
    metadata: ObjectMeta

    @property
    def key(self) -> str:
        """The node's name."""
        return self.metadata.name
