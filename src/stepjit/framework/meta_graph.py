"""MetaGraphDefs: a graph together with its collections, written and read again; and graphs written to files."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from stepjit.framework.graph import Graph
from stepjit.framework.importer import import_graph_def
from stepjit.framework.stack import get_default_graph
from stepjit.framework.tensor import Operation, Tensor
from stepjit.proto import MESSAGES

_LOG = logging.getLogger("tensorflow")


class _Converter(NamedTuple):
    message: str
    to_proto: Callable[[Any, str | None], Any]
    from_proto: Callable[[Any, str | None], Any]


_CONVERTERS: dict[str, _Converter] = {}
_SAVER: list[Callable[[Any, str | None], Any]] = []


def register_collection(
    key: str, message: str, to_proto: Callable[[Any, str | None], Any], from_proto: Callable[[Any, str | None], Any]
) -> None:
    """Let the items of a collection be stored as messages of that type; both functions take a name scope too."""
    _CONVERTERS[key] = _Converter(message, to_proto, from_proto)


def register_saver(make: Callable[[Any, str | None], Any]) -> None:
    """Let `import_meta_graph` return `make(saver_def, import_scope)`; saver_def is None when the file has none."""
    _SAVER[:] = [make]


def without_scope(name: str, scope: str | None) -> str:
    """A name as it is inside a name scope; the marks of control inputs and colocation stay in front."""
    if not scope:
        return name
    for mark in ("^", "loc:@", ""):
        if name.startswith(mark):
            return mark + name[len(mark) :].removeprefix(f"{scope.rstrip('/')}/")
    return name


def _within(name: str, scope: str | None) -> bool:
    return not scope or name.startswith(f"{scope.rstrip('/')}/")


# --- Files ---


def write_file(path: str, content: bytes) -> None:
    """Write a file as a whole: other processes see the old one or the new one."""
    folder = os.path.dirname(path) or "."
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{os.path.basename(path)}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current


def write_graph(graph_or_graph_def: Any, logdir: Any, name: str, as_text: bool = True) -> str:
    """Write a Graph or GraphDef into a folder, which is made if need be, as text or binary; gives the file's path."""
    graph_def = graph_or_graph_def
    if isinstance(graph_or_graph_def, Graph):
        graph_def = graph_or_graph_def.as_graph_def()
    folder = os.fspath(logdir)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, name)
    write_file(path, _content(graph_def, as_text))
    return path


def _content(message: Any, as_text: bool) -> bytes:
    from google.protobuf import text_format

    return text_format.MessageToString(message).encode() if as_text else message.SerializeToString()


def read_meta_graph_file(filename: Any) -> Any:
    """The MetaGraphDef of a binary or text file; OSError when there is none, and when it is neither."""
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError

    path = os.fspath(filename)
    if not os.path.isfile(path):
        raise OSError(f"File {path} does not exist.")
    with open(path, "rb") as file:
        content = file.read()
    found = MESSAGES["MetaGraphDef"]()
    try:
        found.ParseFromString(content)
        return found
    except DecodeError:
        pass
    try:
        return text_format.Parse(content.decode("utf-8"), MESSAGES["MetaGraphDef"]())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise OSError(f"Cannot parse file {path}: {error}.") from None


# --- Export ---


def export_meta_graph(
    filename: Any = None,
    meta_info_def: Any = None,
    graph_def: Any = None,
    saver_def: Any = None,
    collection_list: Iterable[str] | None = None,
    as_text: bool = False,
    graph: Graph | None = None,
    export_scope: str | None = None,
    clear_devices: bool = False,
    clear_extraneous_savers: bool = False,
    strip_default_attrs: bool = False,
    save_debug_info: bool = False,
    **kwargs: Any,
) -> Any:
    """A new MetaGraphDef of a graph (by default the default one) and its collections; also written to `filename`.

    collection_list: the only collections to export. export_scope: the only name scope, whose prefix is left out.
    ValueError for unknown arguments, and when what is exported depends on ops outside the scope.
    """
    if kwargs:
        raise ValueError(f"export_meta_graph() got unexpected arguments: {', '.join(sorted(kwargs))}")
    graph = graph or get_default_graph()
    found = MESSAGES["MetaGraphDef"]()
    if meta_info_def is not None:
        found.meta_info_def.MergeFromString(meta_info_def.SerializeToString())
    found.meta_info_def.stripped_default_attrs = strip_default_attrs
    source = graph.as_graph_def(add_shapes=True) if graph_def is None else graph_def
    found.graph_def.MergeFromString(source.SerializeToString())
    _narrow(found.graph_def, export_scope)
    for node in found.graph_def.node:
        if clear_devices:
            node.device = ""
        if strip_default_attrs:
            _strip_defaults(node)
    if saver_def is not None:
        found.saver_def.MergeFromString(saver_def.SerializeToString())
    for key in graph.get_all_collection_keys() if collection_list is None else collection_list:
        _put_collection(found, graph, key, export_scope)
    if clear_extraneous_savers and "savers" in found.collection_def:
        _keep_saver(found)
    if filename is not None:
        path = os.fspath(filename)
        write_graph(found, os.path.dirname(path) or ".", os.path.basename(path), as_text)
    return found


def _narrow(graph_def: Any, scope: str | None) -> None:
    """Leave only the nodes of a name scope, and take its prefix off their names."""
    if not scope:
        return
    kept = [node for node in graph_def.node if _within(node.name, scope)]
    for node in kept:
        for k, text in enumerate(node.input):
            if not _within(text.removeprefix("^"), scope):
                raise ValueError(f"Node '{node.name}' depends on '{text}', which is outside the scope '{scope}'.")
            node.input[k] = without_scope(text, scope)
        node.name = without_scope(node.name, scope)
        if "_class" in node.attr:
            groups = node.attr["_class"].list.s
            inside = [g.decode() for g in groups if _within(g.decode().removeprefix("loc:@"), scope)]
            del groups[:]
            groups.extend([without_scope(group, scope).encode() for group in inside])
    copies = [MESSAGES["NodeDef"].FromString(node.SerializeToString()) for node in kept]
    del graph_def.node[:]
    graph_def.node.extend(copies)


def _strip_defaults(node: Any) -> None:
    from stepjit.framework.attr_values import put_attr
    from stepjit_compiler.opdef import lookup

    op_def = lookup(node.op)
    for attr in op_def.attrs if op_def is not None else ():
        if attr.optional and attr.name in node.attr:
            default = MESSAGES["AttrValue"]()
            put_attr(default, attr.type, attr.default)
            if default == node.attr[attr.name]:
                del node.attr[attr.name]


def _keep_saver(found: Any) -> None:
    mine = found.saver_def.SerializeToString()
    values = found.collection_def["savers"].bytes_list.value
    kept = [value for value in values if value == mine]
    del values[:]
    values.extend(kept)


def _put_collection(found: Any, graph: Graph, key: str, scope: str | None) -> None:
    """Store a collection; one with items that can't be stored is left out, with a warning."""
    items = graph.get_collection(key)
    if not items:
        return
    stored = MESSAGES["CollectionDef"]()
    try:
        _put_items(stored, key, items, scope)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        _LOG.warning("Collection %r is not exported: %s", key, error)
        return
    if stored.WhichOneof("kind"):
        found.collection_def[key].CopyFrom(stored)


def _put_items(stored: Any, key: str, items: list[Any], scope: str | None) -> None:
    converter = _CONVERTERS.get(key)
    first = items[0]
    if converter is not None:
        protos = [converter.to_proto(item, scope) for item in items]
        stored.bytes_list.value.extend([proto.SerializeToString() for proto in protos if proto is not None])
    elif isinstance(first, (bytes, str)):
        texts = [item.encode() if isinstance(item, str) else item for item in items]
        stored.bytes_list.value.extend([text for text in texts if _within(text.decode(errors="replace"), scope)])
    elif isinstance(first, int):
        stored.int64_list.value.extend(items)
    elif isinstance(first, float):
        stored.float_list.value.extend(items)
    else:
        names = [_node_name(item) for item in items]
        stored.node_list.value.extend([without_scope(name, scope) for name in names if _within(name, scope)])


def _node_name(item: Any) -> str:
    if not isinstance(item, (Tensor, Operation)) and not hasattr(item, "_as_graph_element"):
        raise TypeError(f"{item!r} is neither a tensor, an op, a number nor a text, and has no to_proto")
    name: str = item.name
    return name


# --- Import ---


def import_meta_graph(
    meta_graph_or_file: Any, clear_devices: bool = False, import_scope: str | None = None, **kwargs: Any
) -> Any:
    """Add a MetaGraphDef, or the one in a file, to the default graph; gives the Saver that belongs to it, or None.

    kwargs: `input_map` and `return_elements` of import_graph_def. OSError when the file can't be read.
    """
    return import_meta_graph_with_return_elements(meta_graph_or_file, clear_devices, import_scope, **kwargs)[0]


def import_meta_graph_with_return_elements(
    meta_graph_or_file: Any,
    clear_devices: bool = False,
    import_scope: str | None = None,
    return_elements: Any = None,
    input_map: Any = None,
    restore_collections_predicate: Callable[[str], bool] = lambda key: True,
) -> tuple[Any, Any]:
    """`import_meta_graph`, and what import_graph_def returns for `return_elements`."""
    meta_graph = _meta_graph_of(meta_graph_or_file)
    graph_def = MESSAGES["GraphDef"].FromString(meta_graph.graph_def.SerializeToString())
    if clear_devices:
        for node in graph_def.node:
            node.device = ""
    graph = get_default_graph()
    scope = graph.unique_name(import_scope, mark_as_used=False) if import_scope else ""
    returned = import_graph_def(graph_def, input_map, return_elements, name=import_scope or "")
    variables: dict[bytes, Any] = {}
    for key in sorted(meta_graph.collection_def):
        if restore_collections_predicate(key):
            _restore_collection(graph, key, meta_graph.collection_def[key], scope, variables)
    saver_def = meta_graph.saver_def if meta_graph.HasField("saver_def") else None
    if not _SAVER or (saver_def is None and not graph.get_collection("variables", scope or None)):
        return None, returned
    return _SAVER[0](saver_def, scope or None), returned


def _meta_graph_of(value: Any) -> Any:
    kind = MESSAGES["MetaGraphDef"]
    if getattr(getattr(value, "DESCRIPTOR", None), "full_name", None) == kind.DESCRIPTOR.full_name:
        return value if isinstance(value, kind) else kind.FromString(value.SerializeToString())
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise TypeError(f"meta_graph_or_file must be a MetaGraphDef or a file's name, not {type(value).__name__}")
    return read_meta_graph_file(value)


def _restore_collection(graph: Graph, key: str, stored: Any, scope: str, variables: dict[bytes, Any]) -> None:
    kind = stored.WhichOneof("kind")
    if kind is None:
        _LOG.error("Cannot identify data type for collection %s. Skipping.", key)
        return
    converter = _CONVERTERS.get(key)
    for value in getattr(stored, kind).value:
        if kind == "bytes_list" and converter is not None:
            # A variable is one object in all its collections.
            if converter.message != "VariableDef" or value not in variables:
                variables[value] = converter.from_proto(MESSAGES[converter.message].FromString(value), scope or None)
            item = variables[value]
        elif kind == "node_list":
            item = graph.as_graph_element(f"{scope}/{value}" if scope else value)
        else:
            item = value
        graph.add_to_collection(key, item)
