"""The lists of tensors in GraphDefs that TensorFlow 2 writes, as buffers with a row per element.

A list is a variant there, whose ops tell the dtype of its elements. Here the nodes that make, change and read lists are
exchanged for those of buffers, in the functions too: a function is written once for each set of dtypes it is used with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.attr_values import array_of
from stepjit.proto import MESSAGES

_VARIANT = 21
"""The number of the dtype that lists have."""
_LOOPS = {"While": ("cond", "body"), "StatelessWhile": ("cond", "body")}
_BRANCHES = {"If": ("then_branch", "else_branch"), "StatelessIf": ("then_branch", "else_branch")}
_CALLS = {"PartitionedCall": ("f",), "StatefulPartitionedCall": ("f",)}

OPEN = "_open"
"""The attr of a buffer whose rows wait for the first write to have a shape."""

Dtypes = Sequence["int | None"]
"""Of some values, in order: the dtypes of lists' elements; None for what is no list."""


def without_lists(graph_def: Any) -> Any:
    """A copy of a GraphDef that has buffers instead of lists; ValueError where that can't be."""
    result = MESSAGES["GraphDef"]()
    result.CopyFrom(graph_def)
    del result.node[:]
    rewriting = _Rewriting(graph_def, result)
    rewriting.scope(graph_def.node, {}, result.node)
    return result


class _Rewriting:
    def __init__(self, graph_def: Any, result: Any) -> None:
        self.functions = {each.signature.name: each for each in graph_def.library.function}
        self.result = result
        self.made: dict[tuple[Any, ...], tuple[str, list[int | None]]] = {}
        """Functions written anew: name and dtypes of results, by name and dtypes of arguments."""

    def scope(self, nodes: Any, arguments: dict[str, int | None], into: Any) -> dict[str, list[int | None]]:
        """Write the nodes of a graph or function; gives the dtypes of all outputs by node and number."""
        found: dict[str, list[int | None]] = {name: [dtype] for name, dtype in arguments.items()}
        by_name = {node.name: node for node in nodes}
        pending = list(nodes)
        while pending:
            left = []
            for node in pending:
                sources = [_source(text) for text in node.input if not text.startswith("^")]
                if all(name in found for name, _ in sources):
                    kinds = [_at(found[name], number) for name, number in sources]
                    found[node.name] = self.node(node, kinds, by_name, into)
                else:
                    left.append(node)
            if len(left) == len(pending):
                # Loops of version 1, or nodes that are missing: the import finds out.
                for node in left:
                    into.add().CopyFrom(node)
                break
            pending = left
        return found

    def node(self, node: Any, kinds: Dtypes, by_name: dict[str, Any], into: Any) -> list[int | None]:
        """Write one node; gives the dtypes of its outputs."""
        change = _CHANGES.get(node.op)
        if change is not None:
            dtype = node.attr["element_dtype"].type or next((kind for kind in kinds if kind is not None), None)
            if dtype is None:
                raise ValueError(f"Node '{node.name}' works on a list whose elements' dtype is unknown")
            return change(node, int(dtype), by_name, into)
        if node.op.startswith("TensorList") or node.op == "EmptyTensorList":
            raise ValueError(f"Op type not registered '{node.op}', of node '{node.name}'")
        copy = into.add()
        copy.CopyFrom(node)
        if not any(kind is not None for kind in kinds) and not _names_functions(node):
            return []
        if node.op in _LOOPS:
            return self.loop(copy, list(kinds))
        if node.op in _BRANCHES or node.op in _CALLS:
            return self.call(copy, kinds)
        if any(kind is not None for kind in kinds) and "T" in copy.attr:
            _set_types(copy, "T", kinds)
        return list(kinds)

    def loop(self, node: Any, kinds: list[int | None]) -> list[int | None]:
        _set_types(node, "T", kinds)
        shapes = node.attr["output_shapes"].list.shape if "output_shapes" in node.attr else ()
        for shape, kind in zip(shapes, kinds):
            if kind is not None:
                shape.Clear()
                shape.unknown_rank = True
        for key in _LOOPS[node.op]:
            node.attr[key].func.name, results = self.function(node.attr[key].func.name, kinds)
        return results

    def call(self, node: Any, kinds: Dtypes) -> list[int | None]:
        keys = _BRANCHES.get(node.op) or _CALLS[node.op]
        arguments = list(kinds[1:] if node.op in _BRANCHES else kinds)
        results: list[int | None] = []
        for key in keys:
            node.attr[key].func.name, results = self.function(node.attr[key].func.name, arguments)
        _set_types(node, "Tin", arguments)
        _set_types(node, "Tout", results)
        return results

    def function(self, name: str, kinds: Sequence[int | None]) -> tuple[str, list[int | None]]:
        """A function for arguments of these dtypes: its name, and the dtypes of its results."""
        key = (name, *kinds)
        if key in self.made or name not in self.functions:
            return self.made.get(key, (name, []))
        old = self.functions[name]
        new = self.result.library.function.add()
        new.CopyFrom(old)
        del new.node_def[:]
        new.signature.name = f"{name}_lists_{len(self.made)}"
        self.made[key] = new.signature.name, []
        arguments = {}
        for number, (arg, kind) in enumerate(zip(new.signature.input_arg, kinds)):
            arguments[arg.name] = kind
            if kind is not None:
                arg.type = kind
                # What it says there is the shape of a handle.
                new.arg_attr[number].Clear()
        found = self.scope(old.node_def, arguments, new.node_def)
        results: list[int | None] = []
        for arg in new.signature.output_arg:
            source, number = _source(old.ret[arg.name])
            kind = _at(found.get(source, []), number) if arg.type == _VARIANT else None
            if kind is not None:
                arg.type = kind
            results.append(kind)
        self.made[key] = new.signature.name, results
        return self.made[key]


def _source(text: str) -> tuple[str, int]:
    """The node and the number of the output that an input of a graph's or function's node names."""
    name, _, rest = text.partition(":")
    number = rest.rpartition(":")[2]
    return name, int(number) if number.isdecimal() else 0


def _at(kinds: Dtypes, number: int) -> int | None:
    return kinds[number] if number < len(kinds) else None


def _names_functions(node: Any) -> bool:
    return node.op in _LOOPS or node.op in _BRANCHES or node.op in _CALLS


def _set_types(node: Any, key: str, kinds: Dtypes) -> None:
    attr = node.attr[key]
    if attr.WhichOneof("value") == "type":
        attr.type = next(kind for kind in kinds if kind is not None)
        return
    for number, kind in enumerate(kinds):
        if kind is not None:
            attr.list.type[number] = kind


# --- The ops of lists ---


def _new(into: Any, name: str, op: str, inputs: Sequence[str], **types: int) -> Any:
    node = into.add(name=name, op=op, input=inputs)
    for key, dtype in types.items():
        node.attr[key].type = dtype
    return node


def _constant(into: Any, name: str, dtype: int, values: Sequence[int] | None) -> str:
    """A constant: integers, or with None the zero of its dtype."""
    node = _new(into, name, "Const", [], dtype=dtype)
    tensor = node.attr["value"].tensor
    tensor.dtype = dtype
    tensor.tensor_shape.SetInParent()
    if values is not None:
        tensor.tensor_shape.dim.add(size=len(values))
        tensor.int_val.extend(values)
    return name


_INT32 = 3


def _reserve(node: Any, dtype: int, by_name: dict[str, Any], into: Any) -> list[int | None]:
    """An empty buffer. Extents that aren't known are 0: the first write decides them."""
    shape = by_name.get(_source(node.input[0])[0])
    dims = [0]
    if shape is not None and shape.op == "Const":
        found = array_of(shape.attr["value"].tensor)
        if found.ndim == 1:
            dims = [max(int(each), 0) for each in found]
    name = node.name
    axis = _constant(into, f"{name}/axis", _INT32, None)
    rows = _new(into, f"{name}/rows", "ExpandDims", [node.input[1], axis], T=_INT32, Tdim=_INT32)
    rest = _constant(into, f"{name}/rest", _INT32, dims)
    whole = _new(into, f"{name}/shape", "ConcatV2", [rows.name, rest, axis], T=_INT32, Tidx=_INT32)
    whole.attr["N"].i = 2
    zero = _constant(into, f"{name}/zero", dtype, None)
    filled = _new(into, name, "Fill", [whole.name, zero], T=dtype, index_type=_INT32)
    if 0 in dims:
        filled.attr[OPEN].b = True
    return [dtype]


def _from_tensor(node: Any, dtype: int, by_name: dict[str, Any], into: Any) -> list[int | None]:
    _new(into, node.name, "_TensorArrayUnstack", [node.input[0], *_controls(node)], T=dtype)
    return [dtype]


def _set_item(node: Any, dtype: int, by_name: dict[str, Any], into: Any) -> list[int | None]:
    _new(into, node.name, "_TensorArrayWrite", [*node.input[:3], *_controls(node)], T=dtype)
    return [dtype]


def _get_item(node: Any, dtype: int, by_name: dict[str, Any], into: Any) -> list[int | None]:
    _new(into, node.name, "_TensorArrayRead", [*node.input[:2], *_controls(node)], T=dtype)
    return []


def _stacked(node: Any, dtype: int, by_name: dict[str, Any], into: Any) -> list[int | None]:
    _new(into, node.name, "Identity", [node.input[0], *_controls(node)], T=dtype)
    return []


def _length(node: Any, dtype: int, by_name: dict[str, Any], into: Any) -> list[int | None]:
    extents = _new(into, f"{node.name}/shape", "Shape", [node.input[0]], T=dtype, out_type=_INT32)
    axis = _constant(into, f"{node.name}/axis", _INT32, None)
    _new(into, node.name, "Gather", [extents.name, axis, *_controls(node)], Tparams=_INT32, Tindices=_INT32)
    return []


def _controls(node: Any) -> list[str]:
    return [text for text in node.input if text.startswith("^")]


_CHANGES = {
    "TensorListReserve": _reserve,
    "TensorListFromTensor": _from_tensor,
    "TensorListSetItem": _set_item,
    "TensorListGetItem": _get_item,
    "TensorListStack": _stacked,
    "TensorListLength": _length,
}
