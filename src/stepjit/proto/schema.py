"""Reads the part of the `.proto` language that the files beside this one use into protobuf's file descriptors."""

from __future__ import annotations

import re
from collections.abc import Iterator

from google.protobuf import descriptor_pb2 as pb

_TOKEN = re.compile(r'//[^\n]*|\s+|("[^"]*"|-?[\w.]+|[{}<>=;,])')
_SCALARS = {
    "double", "float", "int64", "uint64", "int32", "fixed64", "fixed32", "bool", "string", "bytes", "uint32",
    "sfixed32", "sfixed64", "sint32", "sint64",
}  # fmt: skip


def read(name: str, text: str) -> pb.FileDescriptorProto:
    """The descriptor of one proto3 file: messages, enums, oneofs, maps and imports; ValueError for anything else."""
    file = pb.FileDescriptorProto(name=name, syntax="proto3")
    tokens = _Tokens(text)
    for word in tokens:
        if word == "syntax":
            tokens.take("=")
            tokens.take('"proto3"')
        elif word == "package":
            file.package = next(tokens)
        elif word == "import":
            file.dependency.append(next(tokens).strip('"'))
        elif word == "message":
            _message(tokens, file.message_type.add())
            continue
        elif word == "enum":
            _enum(tokens, file.enum_type.add())
            continue
        else:
            raise ValueError(f"{name}: unexpected {word!r}")
        tokens.take(";")
    return file


class _Tokens(Iterator[str]):
    def __init__(self, text: str) -> None:
        end = 0
        self._words: list[str] = []
        for match in _TOKEN.finditer(text):
            if match.start() != end:
                break
            end = match.end()
            if match[1]:
                self._words.append(match[1])
        if end != len(text):
            raise ValueError(f"unexpected text: {text[end : end + 20]!r}")
        self._words.reverse()

    def __next__(self) -> str:
        if not self._words:
            raise StopIteration
        return self._words.pop()

    def take(self, wanted: str) -> None:
        found = next(self)
        if found != wanted:
            raise ValueError(f"expected {wanted!r}, not {found!r}")


def _enum(tokens: _Tokens, enum: pb.EnumDescriptorProto) -> None:
    enum.name = next(tokens)
    tokens.take("{")
    for word in tokens:
        if word == "}":
            return
        tokens.take("=")
        enum.value.add(name=word, number=int(next(tokens)))
        tokens.take(";")


def _message(tokens: _Tokens, message: pb.DescriptorProto) -> None:
    message.name = next(tokens)
    tokens.take("{")
    _fields(tokens, message, None)


def _fields(tokens: _Tokens, message: pb.DescriptorProto, oneof: int | None) -> None:
    for word in tokens:
        if word == "}":
            return
        if word == "message":
            _message(tokens, message.nested_type.add())
        elif word == "enum":
            _enum(tokens, message.enum_type.add())
        elif word == "oneof":
            message.oneof_decl.add(name=next(tokens))
            tokens.take("{")
            _fields(tokens, message, len(message.oneof_decl) - 1)
        else:
            _field(tokens, word, message, oneof)


def _field(tokens: _Tokens, word: str, message: pb.DescriptorProto, oneof: int | None) -> None:
    field = pb.FieldDescriptorProto(label=pb.FieldDescriptorProto.LABEL_OPTIONAL)
    if word == "map":
        tokens.take("<")
        key = next(tokens)
        tokens.take(",")
        value = next(tokens)
        tokens.take(">")
        field.name = next(tokens)
        field.label = pb.FieldDescriptorProto.LABEL_REPEATED
        field.type_name = _map_entry(message, field.name, key, value)
    else:
        if word == "repeated":
            field.label = pb.FieldDescriptorProto.LABEL_REPEATED
            word = next(tokens)
        _set_type(field, word)
        field.name = next(tokens)
    tokens.take("=")
    field.number = int(next(tokens))
    tokens.take(";")
    if oneof is not None:
        field.oneof_index = oneof
    message.field.append(field)


def _set_type(field: pb.FieldDescriptorProto, word: str) -> None:
    if word in _SCALARS:
        field.type = pb.FieldDescriptorProto.Type.Value(f"TYPE_{word.upper()}")
    else:
        # The pool finds out whether the name is a message's or an enum's.
        field.type_name = word


def _map_entry(message: pb.DescriptorProto, field: str, key: str, value: str) -> str:
    """The message that a map is a list of, under the name that protobuf expects."""
    entry = message.nested_type.add(name="".join(part.capitalize() for part in field.split("_")) + "Entry")
    entry.options.map_entry = True
    for number, (name, word) in enumerate([("key", key), ("value", value)], 1):
        part = pb.FieldDescriptorProto(name=name, number=number, label=pb.FieldDescriptorProto.LABEL_OPTIONAL)
        _set_type(part, word)
        entry.field.append(part)
    return entry.name
