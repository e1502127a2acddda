# SPDX-License-Identifier: Apache-2.0
"""Models of raw objects, as the API server gives them."""

from pydantic import ValidationError

from headrace_api import Json, Object, Pod, Problem
from headrace_api.errors import violations
from headrace_api.manifests import KINDS
from headrace_api.raw import mapping, text


def parse(kind: str, raw: Json) -> Object | tuple[Problem, ...]:
    """The model of an object that the compiler reads, or what is wrong with it.

    What a status says is not looked at, but for a pod's. Raises KeyError for another kind.
    """
    if kind == "Pod":
        return Pod.model_validate(raw)
    model = KINDS[kind]
    wanted = {key: value for key, value in raw.items() if key != "status"}
    try:
        return model.model_validate(wanted)
    except ValidationError as error:
        metadata = mapping(raw.get("metadata"))
        namespace, name = text(metadata.get("namespace")), text(metadata.get("name"))
        return tuple(
            Problem(kind, namespace, name, found.path, found.reason, found.message)
            for found in violations(model, error)
        )
