"""Protocol-buffer messages on TensorFlow's wire format, by name: `from stepjit.proto import GraphDef`.

They live in a descriptor pool of their own, so that a process may hold TensorFlow's as well.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from google.protobuf import descriptor_pool, message_factory

from stepjit.proto import schema

FILES = (
    "graph.proto", "devices.proto", "step_stats.proto", "rewriter.proto", "config.proto", "run.proto", "event.proto",
    "meta_graph.proto", "example.proto",
)  # fmt: skip
"""In an order in which each imports only earlier ones."""


def _load() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    folder = resources.files(__name__)
    for name in FILES:
        pool.AddSerializedFile(schema.read(name, (folder / name).read_text(encoding="utf-8")).SerializeToString())
    found: dict[str, Any] = {}
    for name in FILES:
        file = pool.FindFileByName(name)
        for descriptor in file.message_types_by_name.values():
            kind = message_factory.GetMessageClass(descriptor)
            # Pickling looks the class up here.
            kind.__module__ = __name__
            found[descriptor.name] = kind
        for enum in file.enum_types_by_name.values():
            found |= {value.name: value.number for value in enum.values}
    return found


MESSAGES = _load()
"""The classes of messages, and the numbers of the enums' values, by name."""


def __getattr__(name: str) -> Any:
    try:
        return MESSAGES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
