"""Regions as FunctionDefs of a GraphDef's library, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from stepjit.framework.attr_values import put_attr, put_shape
from stepjit.framework.func_graph import FuncGraph
from stepjit.framework.tensor import Operation, Tensor

SHAPES = "_output_shapes"


def functions_of(ops: Sequence[Operation]) -> list[FuncGraph]:
    """The regions that ops hold, those within regions too, each once."""
    found: dict[str, FuncGraph] = {}
    pending = list(_held(ops))
    while pending:
        region = pending.pop()
        if function_name(region) not in found:
            found[function_name(region)] = region
            pending += _held(needed_ops(region))
    return list(found.values())


def _held(ops: Sequence[Operation]) -> Iterator[FuncGraph]:
    for op in ops:
        for value in op.attrs.values():
            if isinstance(value, FuncGraph):
                yield value


def function_name(region: FuncGraph) -> str:
    """The name of a region as a function; given once, unique in its graph."""
    if region.function_name is None:
        names = region.root.function_names
        base = f"{region.label.replace('/', '_')}_region"
        number = len(names)
        while f"{base}_{number}" in names:
            number += 1
        region.function_name = f"{base}_{number}"
        names.add(region.function_name)
    return region.function_name


def needed_ops(region: FuncGraph) -> list[Operation]:
    """The ops that a region's results need, in the order they were made; without its parameters."""
    pending = [tensor.op for tensor in region.outputs]
    found = set(pending)
    while pending:
        op = pending.pop()
        for each in (*(tensor.op for tensor in op.inputs), *op.control_inputs):
            if each not in found:
                found.add(each)
                pending.append(each)
    return sorted((op for op in found if op.type != "_Arg"), key=lambda op: op._id)


def put_function(proto: Any, region: FuncGraph) -> None:
    """Write a region into a FunctionDef that is empty."""
    signature = proto.signature
    signature.name = function_name(region)
    arguments: dict[Tensor, str] = {}
    for number, tensor in enumerate(region.inputs):
        arguments[tensor] = f"arg{number}"
        signature.input_arg.add(name=arguments[tensor], type=tensor.dtype.as_datatype_enum)
        put_shape(proto.arg_attr[number].attr[SHAPES].list.shape.add(), tensor.dims)
    for number, tensor in enumerate(region.outputs):
        name = f"result{number}"
        signature.output_arg.add(name=name, type=tensor.dtype.base_dtype.as_datatype_enum)
        proto.ret[name] = _reference(tensor, arguments)
    for op in needed_ops(region):
        node = proto.node_def.add(name=op.name, op=op.type, device=op.device)
        node.input.extend([_reference(tensor, arguments) for tensor in op.inputs])
        node.input.extend(sorted(f"^{control.name}" for control in op.control_inputs if control.type != "_Arg"))
        put_attrs(node, op)


def put_attrs(node: Any, op: Operation) -> None:
    """Write the attrs of an op into its NodeDef; regions by the names of their functions."""
    declared = op.op_def.attr
    for name, value in op.attrs.items():
        if isinstance(value, FuncGraph):
            node.attr[name].func.name = function_name(value)
            continue
        attr = declared.get(name)
        if name == "output_shapes" and not value:
            value = [tensor.dims for tensor in op.outputs]
        put_attr(node.attr[name], None if attr is None else attr.type, value, op.attrs.get("dtype"))


def _reference(tensor: Tensor, arguments: dict[Tensor, str]) -> str:
    """What an input of a function's node is called: an argument, or `node:output:number`."""
    if tensor in arguments:
        return arguments[tensor]
    op = tensor.op
    position = 0
    for arg in op.op_def.outputs:
        count = outputs_of_arg(arg, op.attrs)
        if tensor.value_index < position + count:
            return f"{op.name}:{arg.name}:{tensor.value_index - position}"
        position += count
    raise AssertionError(f"{tensor.name} is no declared output")


def outputs_of_arg(arg: Any, attrs: dict[str, Any]) -> int:
    """How many tensors an output of an op's definition stands for."""
    if arg.list_attr is not None:
        return len(attrs[arg.list_attr])
    return 1 if arg.count_attr is None else int(attrs[arg.count_attr])

