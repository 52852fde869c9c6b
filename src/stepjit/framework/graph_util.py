"""Work on GraphDefs: the part that some nodes need, variables as constants, what only training needs taken out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from stepjit.framework.attr_values import put_attr
from stepjit.framework.graph import Graph
from stepjit.framework.shape import TensorShape
from stepjit.framework.tensor import Operation
from stepjit.proto import MESSAGES
from stepjit_runtime.dtypes import as_dtype

_REF_VARIABLES = frozenset({"Variable", "VariableV2", "AutoReloadVariable"})
_HANDLES = frozenset({"VarHandleOp", "VariableHandle"})
_PASS_ON = frozenset({"Identity", "Switch", "Merge", "Enter", "Exit", "NextIteration"})
"""Ops through which a handle may come to where the variable is read."""
_RESOURCE = 20
_PINNED = _REF_VARIABLES | {"VarHandleOp", "ReadVariableOp"}
_INT32, _STRING = 3, 7
_ON_CPU = {
    "Const": ("dtype", (_INT32, _STRING)), "DynamicStitch": ("T", (_INT32,)),
    "ParallelDynamicStitch": ("T", (_INT32,)), "Cast": ("SrcT", (_INT32,)),
}  # fmt: skip
"""Ops that have no place but the CPU when one of their types is one of these."""


def _checked(graph_def: Any) -> Any:
    kind = MESSAGES["GraphDef"]
    if getattr(getattr(graph_def, "DESCRIPTOR", None), "full_name", None) != kind.DESCRIPTOR.full_name:
        raise TypeError(f"graph_def must be a GraphDef proto, but got type {type(graph_def)}.")
    return graph_def if isinstance(graph_def, kind) else kind.FromString(graph_def.SerializeToString())


def node_name(text: str) -> str:
    """The node that an input names: `x` for `x:1` and `^x`."""
    return text[1:] if text.startswith("^") else text.partition(":")[0]


def extract_sub_graph(graph_def: Any, dest_nodes: Iterable[str]) -> Any:
    """A new GraphDef of the nodes that `dest_nodes` need, in their old order.

    TypeError for arguments of wrong types, AssertionError for a name that is not in the graph.
    """
    graph_def = _checked(graph_def)
    if isinstance(dest_nodes, (str, bytes)):
        raise TypeError(f"dest_nodes must be an iterable of strings, but got type {type(dest_nodes)}.")
    nodes = {node.name: node for node in graph_def.node}
    wanted = list(dest_nodes)
    for name in wanted:
        if name not in nodes:
            raise AssertionError(f"{name} is not in graph")
    kept = set(wanted)
    while wanted:
        for text in nodes[wanted.pop()].input:
            name = node_name(text)
            if name not in kept:
                if name not in nodes:
                    raise AssertionError(f"{name} is not in graph")
                kept.add(name)
                wanted.append(name)
    return _with_nodes(graph_def, [node for node in graph_def.node if node.name in kept])


def _with_nodes(graph_def: Any, nodes: Sequence[Any]) -> Any:
    result = MESSAGES["GraphDef"]()
    result.node.extend(nodes)
    result.library.CopyFrom(graph_def.library)
    result.versions.CopyFrom(graph_def.versions)
    return result


# --- convert_variables_to_constants ---


def convert_variables_to_constants(
    sess: Any,
    input_graph_def: Any,
    output_node_names: Sequence[str],
    variable_names_whitelist: Iterable[str] | None = None,
    variable_names_blacklist: Iterable[str] | None = None,
) -> Any:
    """What the outputs need as a new GraphDef, with the variables' values in the session as constants.

    variable_names_whitelist, variable_names_blacklist: names of the only variables to convert, or of those to leave.
    AssertionError for unknown outputs; FailedPreconditionError for a variable without a value.
    """
    graph_def = extract_sub_graph(input_graph_def, output_node_names)
    wanted = None if variable_names_whitelist is None else set(variable_names_whitelist)
    left = set(variable_names_blacklist or ())
    variables = [
        node
        for node in graph_def.node
        if (node.op in _REF_VARIABLES or node.op in _HANDLES)
        and (wanted is None or node.name in wanted)
        and node.name not in left
    ]
    values = dict(zip([node.name for node in variables], sess.run([_reader(sess.graph, node) for node in variables])))
    handles = _handles(graph_def, {node.name for node in variables if node.op in _HANDLES})
    dtypes = {node.name: node.attr["dtype"].type for node in variables}
    nodes: list[Any] = []
    axes: list[Any] = []
    for node in graph_def.node:
        if node.name in values:
            nodes.append(_constant(node.name, values[node.name], dtypes[node.name]))
            continue
        read = handles.get(node_name(node.input[0])) if node.input else None
        if read is not None and node.op == "ResourceGather":
            axes.append(_axis(node))
            nodes.append(_gather(node, dtypes[read]))
        elif read is not None and (node.op == "ReadVariableOp" or node.op in _PASS_ON):
            nodes.append(_passed_on(node, dtypes[read]))
        elif read is not None:
            raise ValueError(f"Variable '{read}' can't be a constant: {node.op} '{node.name}' uses its handle.")
        else:
            nodes.append(node)
    return _with_nodes(graph_def, [*nodes, *axes])


def _reader(graph: Graph, node: Any) -> Any:
    """What to fetch for a variable's value."""
    (tensor,) = graph.get_operation_by_name(node.name).outputs
    if node.op in _REF_VARIABLES:
        return tensor
    for op in tensor.consumers():
        if op.type == "ReadVariableOp":
            return op.outputs[0]
    raise ValueError(f"Variable '{node.name}' can't be read: the session's graph has no ReadVariableOp of it.")


def _handles(graph_def: Any, variables: set[str]) -> dict[str, str]:
    """The nodes whose output is the handle of one of the variables, and which."""
    users: dict[str, list[Any]] = {}
    for node in graph_def.node:
        for text in node.input:
            users.setdefault(node_name(text), []).append(node)
    found = {name: name for name in variables}
    waiting = list(variables)
    while waiting:
        name = waiting.pop()
        for node in users.get(name, ()):
            if node.op in _PASS_ON and node.attr["T"].type == _RESOURCE and node.name not in found:
                found[node.name] = found[name]
                waiting.append(node.name)
    return found


def _new(name: str, op: str, inputs: Iterable[str] = (), **types: int) -> Any:
    node = MESSAGES["NodeDef"](name=name, op=op, input=inputs)
    for key, dtype in types.items():
        node.attr[key].type = dtype
    return node


def _constant(name: str, value: Any, dtype: int) -> Any:
    node = _new(name, "Const", dtype=dtype)
    put_attr(node.attr["value"], "tensor", value, as_dtype(dtype))
    return node


def _passed_on(node: Any, dtype: int) -> Any:
    if node.op == "ReadVariableOp":
        result = _new(node.name, "Identity", node.input)
        if "_class" in node.attr:
            result.attr["_class"].CopyFrom(node.attr["_class"])
    else:
        result = MESSAGES["NodeDef"].FromString(node.SerializeToString())
    result.attr["T"].type = dtype
    result.device = node.device
    return result


def _gather(node: Any, dtype: int) -> Any:
    data = [text for text in node.input if not text.startswith("^")]
    controls = [text for text in node.input if text.startswith("^")]
    result = _new(node.name, "GatherV2", [*data, f"{node.name}/axis", *controls], Tparams=dtype, Taxis=_INT32)
    result.attr["Tindices"].CopyFrom(node.attr["Tindices"])
    result.attr["batch_dims"].i = node.attr["batch_dims"].i
    return result


def _axis(node: Any) -> Any:
    return _constant(f"{node.name}/axis", np.array(0, np.int32), _INT32)


# --- remove_training_nodes ---


def remove_training_nodes(input_graph: Any, protected_nodes: Iterable[str] | None = None) -> Any:
    """A new GraphDef without CheckNumerics and without Identity nodes, their inputs going straight to their users.

    Nodes in `protected_nodes`, and those that have to do with control inputs, stay.
    """
    graph_def = _checked(input_graph)
    protected = set(protected_nodes or ())
    checks = {node.name for node in graph_def.node if node.op == "CheckNumerics"} - protected
    waiting, waited_for = set(), set()
    for node in graph_def.node:
        controls = [text[1:] for text in node.input if text.startswith("^") and text[1:] not in checks]
        waited_for.update(controls)
        if controls:
            waiting.add(node.name)
    moved = {
        node.name: node.input[0]
        for node in graph_def.node
        if node.name in checks
        or (node.op == "Identity" and node.name not in protected and node.name not in waiting | waited_for)
    }
    nodes = []
    for node in graph_def.node:
        if node.name not in moved:
            kept = MESSAGES["NodeDef"].FromString(node.SerializeToString())
            del kept.input[:]
            kept.input.extend(_inputs(node, moved))
            nodes.append(kept)
    return _with_nodes(graph_def, nodes)


def _inputs(node: Any, moved: Mapping[str, str]) -> list[str]:
    result = []
    for text in node.input:
        if text.startswith("^"):
            if text[1:] not in moved:
                result.append(text)
            continue
        while node_name(text) in moved:
            text = moved[node_name(text)]
        result.append(text)
    return result


# --- Where a node runs, and shapes ---


def must_run_on_cpu(node: Any, pin_variables_on_cpu: bool = False) -> bool:
    """Whether a node (Operation or NodeDef) has no place but the CPU: texts, integer constants, sizes.

    TypeError for anything else.
    """
    if not isinstance(node, Operation) and not hasattr(node, "DESCRIPTOR"):
        raise TypeError(f"node must be an Operation or a NodeDef, not {type(node)}")
    proto = node.node_def if isinstance(node, Operation) else node
    if pin_variables_on_cpu and proto.op in _PINNED:
        return True
    attr, dtypes = _ON_CPU.get(proto.op, ("", ()))
    return bool(attr) and proto.attr[attr].type in dtypes


def tensor_shape_from_node_def_name(graph: Graph, input_name: str) -> TensorShape:
    """The static shape of an input as a NodeDef names it: `x` for the first output of x, `x:1`."""
    name = input_name if ":" in input_name else f"{input_name}:0"
    return graph.get_tensor_by_name(name).shape
