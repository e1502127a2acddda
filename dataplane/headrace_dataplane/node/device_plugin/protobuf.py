# SPDX-License-Identifier: Apache-2.0
"""Messages of gRPC as frozen dataclasses: `NAME: Annotated[TYPE, NUMBER] = DEFAULT` is a field.

Types are str, int, bool, another message or None, tuples of these, and dict[str, str]. Names are
ours, for only numbers are on the wire; an int is an int64, which reads an int32 alike.
"""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import TypeVar, get_args, get_origin, get_type_hints

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message, message_factory
from grpclib.encoding.base import CodecBase
from pydantic import TypeAdapter

Type = TypeVar("Type")

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {str: _Field.TYPE_STRING, int: _Field.TYPE_INT64, bool: _Field.TYPE_BOOL}
_pool = descriptor_pool.DescriptorPool()
_messages: dict[type[object], type[message.Message]] = {}
_adapters: dict[type[object], TypeAdapter[object]] = {}


def encode(value: object) -> bytes:
    """Return a message as it is on the wire."""
    plain = _adapter(type(value)).dump_python(value, mode="json", exclude_defaults=True)
    return bytes(json_format.ParseDict(plain, _message(type(value))()).SerializeToString())


def decode(data: bytes, kind: type[Type]) -> Type:
    """Return the message; fields that it has not are as by default. Raises ValueError."""
    try:
        read = _message(kind).FromString(data)
    except message.DecodeError as error:
        raise ValueError(f"no {kind.__name__}: {error}") from error
    plain = json_format.MessageToDict(read, preserving_proto_field_name=True)
    found = _adapter(kind).validate_python(plain)
    assert isinstance(found, kind)  # noqa: S101  # for mypy
    return found


class Codec(CodecBase):
    """For servers and clients of grpclib."""

    __content_subtype__ = "proto"

    def encode(self, value: object, kind: type[object]) -> bytes:
        """Return a message as it is on the wire."""
        return encode(value)

    def decode(self, data: bytes, kind: type[Type]) -> Type:
        """Return the message. Raises ValueError."""
        return decode(data, kind)


def _adapter(kind: type[object]) -> TypeAdapter[object]:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def _message(kind: type[object]) -> type[message.Message]:
    """Return protobuf's own class of a message."""
    if kind not in _messages:
        _pool.Add(_described(kind))
        described = _pool.FindMessageTypeByName(kind.__name__)
        _messages[kind] = message_factory.GetMessageClass(described)
    return _messages[kind]


def _described(kind: type[object]) -> descriptor_pb2.FileDescriptorProto:
    """Return a file with this message alone, named alike."""
    file = descriptor_pb2.FileDescriptorProto(name=kind.__name__, syntax="proto3")
    described = file.message_type.add(name=kind.__name__)
    for name, number, of in _fields(kind):
        field = described.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
        container, (item, *_) = get_origin(of), get_args(of) or (of,)
        if container in (tuple, dict):
            field.label = _Field.LABEL_REPEATED
        if container is dict:
            entry = described.nested_type.add(name=f"{name.capitalize()}Entry")
            entry.options.map_entry = True
            entry.field.add(name="key", number=1, type=_Field.TYPE_STRING)
            entry.field.add(name="value", number=2, type=_Field.TYPE_STRING)
            field.type_name = f".{kind.__name__}.{entry.name}"
        elif item in _SCALARS:
            field.type = _SCALARS[item]
        else:
            file.dependency.append(_message(item).DESCRIPTOR.file.name)
            field.type_name = f".{item.__name__}"
    return file


def _fields(kind: type[object]) -> Iterator[tuple[str, int, type[object]]]:
    """Yield name, number and type of each field; of a type or None, the type."""
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind) if is_dataclass(kind) else ():
        of, number = get_args(hints[field.name])
        yield field.name, number, get_args(of)[0] if get_origin(of) is UnionType else of
