# SPDX-License-Identifier: Apache-2.0
"""CustomResourceDefinitions from the models.

`python -m headrace_api.crd` writes crds/*.yaml, `--check` fails when they differ. The schema is
structural (apiextensions.k8s.io/v1): no $ref, no unions, bounds on everything.
"""

import sys
from pathlib import Path
from typing import cast, get_args

import yaml
from pydantic import JsonValue

from . import generated
from .base import PENDING, VERSION, Json, ObjectStatus, PrinterColumn, Resource, cel, column
from .kinds import KINDS

_READY = (
    column("Ready", ".status.conditions[?(@.type=='Ready')].status"),
    column("Reason", ".status.conditions[?(@.type=='Ready')].reason"),
)
_NAME_RULE = (
    "self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')",
    "the name must be an RFC 1123 label: at most 63 characters, no dots",
)
_AGE = column("Age", ".metadata.creationTimestamp", "date")

#: What a structural schema has beside the x-kubernetes extensions.
_KEYWORDS = frozenset(
    {
        "type",
        "description",
        "default",
        "enum",
        "format",
        "pattern",
        "nullable",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
    }
)
_FORMATS = frozenset({"date-time", "int32", "int64"})
_INT32 = 0x7FFFFFFF
#: Largest integer up to which float64 has each.
_EXACT = 1 << 53


class SchemaError(Exception):
    """A model that no structural schema can say."""


def crd(resource: type[Resource]) -> Json:
    """The CustomResourceDefinition of a resource, as JSON types."""
    columns = [*resource.COLUMNS, _AGE]
    version: Json = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema(resource)},
    }
    if _has_status(resource):
        version["subresources"] = {"status": {}}
    if _has_conditions(resource):
        columns[-1:-1] = _READY
    if resource.SELECTABLE:
        version["selectableFields"] = [{"jsonPath": path} for path in resource.SELECTABLE]
    version["additionalPrinterColumns"] = [_printer_column(item) for item in columns]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.PLURAL}.{resource.GROUP}"},
        "spec": {
            "group": resource.GROUP,
            "names": {
                "kind": resource.kind_name(),
                "listKind": f"{resource.kind_name()}List",
                "plural": resource.PLURAL,
                "singular": resource.kind_name().lower(),
                "shortNames": [resource.SHORT_NAME],
                # People look for what people write.
                **({} if resource.COMPILED else {"categories": ["headrace"]}),
            },
            "scope": "Namespaced" if resource.NAMESPACED else "Cluster",
            "versions": [version],
        },
    }


def schema(resource: type[Resource]) -> Json:
    """The structural schema of a resource."""
    source = cast(Json, resource.model_json_schema(by_alias=True, mode="validation"))
    definitions = cast(dict[str, Json], source.get("$defs", {}))
    properties: Json = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": _property(source, definitions, "spec"),
    }
    if _has_status(resource):
        status = _property(source, definitions, "status")
        properties["status"] = status
    if _has_conditions(resource):
        properties["status"] = {**status, "default": {"conditions": PENDING}}
    result: Json = {
        "description": source["description"],
        "type": "object",
        "required": ["metadata", "spec"],
        "properties": properties,
    }
    if resource.COMPILED:
        _drop(result, "x-kubernetes-validations")
        _drop(properties["spec"], "default")
    else:
        result |= cel(_NAME_RULE, *resource.RULES)
    return result


def _has_status(resource: type[Resource]) -> bool:
    return "status" in resource.model_fields


def _has_conditions(resource: type[Resource]) -> bool:
    status = resource.model_fields.get("status")
    return status is not None and any(
        isinstance(each, type) and issubclass(each, ObjectStatus)
        for each in get_args(status.annotation)
    )


def _property(source: Json, definitions: dict[str, Json], name: str) -> Json:
    properties = cast(dict[str, Json], source["properties"])
    return _convert(properties[name], definitions, name)


def _convert(node: Json, definitions: dict[str, Json], path: str) -> Json:
    node = _inline(node, definitions, path)
    if "const" in node:
        value = node.pop("const")
        node["enum"] = [value]
    result: Json = {
        key: value
        for key, value in node.items()
        if key in _KEYWORDS or key.startswith("x-kubernetes-")
    }
    if result.get("format") not in _FORMATS:
        result.pop("format", None)
    if "description" in result:
        result["description"] = " ".join(cast(str, result["description"]).split())
    match node.get("type"):
        case "object":
            _object(node, result, definitions, path)
        case "array":
            items = cast(Json, node.get("items"))
            result["items"] = _convert(items, definitions, f"{path}[]")
            result.setdefault("x-kubernetes-list-type", "atomic")
            _require(result, "maxItems", path)
        case "integer":
            small = cast(int, node.get("maximum", _INT32 + 1)) <= _INT32
            result["format"] = "int32" if small else "int64"
            if cast(int, node.get("maximum", 0)) > _EXACT:
                # Helm writes another number; the model has the bound.
                del result["maximum"]
        case "string":
            if "enum" not in node and node.get("format") != "date-time":
                _require(result, "maxLength", path)
        case "boolean":
            pass
        case other:
            raise SchemaError(f"{path}: no structural schema for type {other}: {node}")
    return dict(sorted(result.items(), key=lambda item: _order(item[0])))


def _object(node: Json, result: Json, definitions: dict[str, Json], path: str) -> None:
    if "properties" in node:
        properties = cast(dict[str, Json], node["properties"])
        result["properties"] = {
            name: _convert(value, definitions, f"{path}.{name}")
            for name, value in properties.items()
        }
        if "required" in node:
            result["required"] = node["required"]
    elif isinstance(values := _values(node), dict):
        result["additionalProperties"] = _convert(values, definitions, f"{path}.*")
        _require(result, "maxProperties", path)
    elif not node.get("x-kubernetes-preserve-unknown-fields"):
        raise SchemaError(f"{path}: an object without fields")


def _values(node: Json) -> JsonValue:
    """Schema of a map's values. A structural schema has no pattern for keys; the models have."""
    by_pattern = cast(Json, node.get("patternProperties", {}))
    return next(iter(by_pattern.values()), node.get("additionalProperties"))


def _inline(node: Json, definitions: dict[str, Json], path: str) -> Json:
    """Resolve $ref and `X | None`; what stands beside the reference wins."""
    node = dict(node)
    if "anyOf" in node:
        choices = [item for item in cast(list[Json], node.pop("anyOf")) if item != {"type": "null"}]
        if len(choices) != 1:
            raise SchemaError(f"{path}: a union; give each member a field of its own")
        node = {**choices[0], **node}
        if node.get("default", ...) is None:
            del node["default"]
    if "$ref" in node:
        name = cast(str, node.pop("$ref")).rpartition("/")[2]
        target = _inline(definitions[name], definitions, path)
        rules = [
            *cast(list[JsonValue], target.get("x-kubernetes-validations", [])),
            *cast(list[JsonValue], node.get("x-kubernetes-validations", [])),
        ]
        node = {**target, **node}
        if rules:
            node["x-kubernetes-validations"] = rules
    default = node.get("default")
    if isinstance(default, dict):
        node["default"] = {name: value for name, value in default.items() if value is not None}
    if node.get("default", ...) == [] or node.get("default", ...) == {}:
        # Nothing is what absence means already.
        del node["default"]
    return node


def _drop(node: JsonValue, keyword: str) -> None:
    """Compiled objects are large, checked by the models, and compared with what was written.

    The API server need not check them, and must not add to them.
    """
    if isinstance(node, dict):
        node.pop(keyword, None)
        for value in node.values():
            _drop(value, keyword)


def _require(result: Json, bound: str, path: str) -> None:
    if bound not in result:
        raise SchemaError(f"{path}: {bound} is missing")


def _order(key: str) -> tuple[int, str]:
    first = ("description", "type", "format", "default", "enum")
    last = ("required", "properties", "items", "additionalProperties")
    if key in first:
        return first.index(key), key
    return (200 + last.index(key) if key in last else 100), key


def _printer_column(item: PrinterColumn) -> Json:
    result = item.to_dict()
    if not item.priority:
        del result["priority"]
    return result


class _Dumper(yaml.SafeDumper):
    """Without anchors: the API server's YAML knows them, people do not like them."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def to_yaml(item: Json) -> str:
    """The file's text."""
    text = yaml.dump(item, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
    return (
        "# SPDX-License-Identifier: Apache-2.0\n"
        "# Written by `python -m headrace_api.crd` from the models; do not edit.\n" + text
    )


def files() -> dict[str, str]:
    """File name -> text, of every CRD."""
    return {f"{item.GROUP}_{item.PLURAL}.yaml": to_yaml(crd(item)) for item in KINDS}


def main(arguments: list[str] | None = None) -> int:
    """Write the CRDs, or check that they are what the models say."""
    directory = Path(__file__).resolve().parent.parent
    return generated.main("headrace_api.crd", __doc__, files, directory, arguments)


if __name__ == "__main__":
    sys.exit(main())
