"""Graphs as protocol buffers: NodeDef and GraphDef of ops and graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.attr_values import put_attr, put_shape
from stepjit.framework.function_io import functions_of, put_attrs, put_function
from stepjit.framework.graph import Graph
from stepjit.framework.tensor import Operation
from stepjit.proto import MESSAGES
from stepjit_compiler.opdef import Attr

PRODUCER = 134
"""The version of GraphDef's meaning that is written: TensorFlow 1.15's."""
LARGEST = 2**31 - 1
"""Bytes that a message may have."""


def node_def(op: Operation) -> Any:
    """A new NodeDef of an op."""
    proto = MESSAGES["NodeDef"]()
    _put_node(proto, op)
    return proto


def graph_def(graph: Graph, from_version: int | None = None, add_shapes: bool = False) -> Any:
    """A new GraphDef of a graph, nodes in the order they were made.

    from_version: only ops that were made after the graph had this `version`.
    add_shapes: whether nodes carry their outputs' static shapes, as attr `_output_shapes`.
    Raises ValueError when the message would have 2 GiB or more.
    """
    return graph_def_of(graph.get_operations()[from_version or 0 :], add_shapes)


def graph_def_of(ops: Sequence[Operation], add_shapes: bool = False) -> Any:
    """A new GraphDef of some ops of a graph; ValueError when the message would have 2 GiB or more."""
    proto = MESSAGES["GraphDef"]()
    proto.versions.producer = PRODUCER
    for op in ops:
        node = proto.node.add()
        _put_node(node, op)
        if add_shapes and op.outputs:
            shapes = node.attr["_output_shapes"].list.shape
            for tensor in op.outputs:
                # A handle is a scalar, whose static shape here is that of the value behind it.
                put_shape(shapes.add(), () if tensor.dtype.kind == "o" else tensor.dims)
    for region in functions_of(ops):
        put_function(proto.library.function.add(), region)
    if proto.ByteSize() > LARGEST:
        raise ValueError("GraphDef cannot be larger than 2GB.")
    return proto


def attr_message(op: Operation, attr: Attr) -> Any:
    """The value of an attr that holds shapes or tensors: a TensorShapeProto or TensorProto, or a list of them."""
    proto = MESSAGES["AttrValue"]()
    put_attr(proto, attr.type, op.attrs[attr.name], op.attrs.get("dtype"))
    if attr.type.startswith("list("):
        return list(getattr(proto.list, attr.type[5:-1]))
    return getattr(proto, attr.type)


def _put_node(proto: Any, op: Operation) -> None:
    proto.name = op.name
    proto.op = op.type
    proto.input.extend([tensor.name if tensor.value_index else tensor.op.name for tensor in op.inputs])
    proto.input.extend(sorted([f"^{control.name}" for control in op.control_inputs]))
    if op.device:
        proto.device = op.device
    put_attrs(proto, op)
