"""`apply_op`: an op from user values, by its definition: conversion, type inference, attrs, checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from stepjit.framework.attrs import canonical, check_allowed
from stepjit.framework.convert import convert_to_tensor, functions_for
from stepjit.framework.graph import Graph, op_def_of
from stepjit.framework.scopes import graph_of
from stepjit.framework.stack import default_graphs, get_default_graph
from stepjit.framework.tensor import Operation, Tensor
from stepjit_compiler.opdef import Arg, OpDef
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType

_PLAIN = frozenset({int, float, bool, complex, str, bytes, list, tuple, np.ndarray})
"""Values that take the dtype of the tensors beside them."""


class _Plan:
    """An op type's definition, laid out for the loop in `_apply`."""

    __slots__ = (
        "attrs", "bare", "checked", "defaults", "inputs", "names", "op_def", "output_attr", "outputs", "single",
    )  # fmt: skip

    def __init__(self, op_def: OpDef) -> None:
        self.op_def = op_def
        self.inputs = [
            (arg.name, arg.type_attr, arg.dtype, arg.count_attr is not None or arg.list_attr is not None, arg)
            for arg in op_def.inputs
        ]
        self.names = [arg.name for arg in op_def.inputs]
        self.attrs = op_def.attr
        self.defaults = [(attr.name, attr.default, attr.optional) for attr in op_def.attrs]
        self.checked = [
            (attr.name, frozenset(map(id, attr.allowed)), attr)
            for attr in op_def.attrs
            if attr.allowed is not None and attr.type == "type"
        ]
        self.outputs = op_def.outputs
        # The plainest case: one output of one type.
        self.single = len(op_def.outputs) == 1 and not (op_def.outputs[0].count_attr or op_def.outputs[0].list_attr)
        self.output_attr = op_def.outputs[0].type_attr if self.single and not op_def.outputs[0].is_ref else None
        self.bare = not op_def.outputs


_PLANS: dict[str, _Plan] = {}


def _plan(op_type: str) -> _Plan:
    plan = _PLANS.get(op_type)
    if plan is None:
        plan = _PLANS[op_type] = _Plan(op_def_of(op_type))
    return plan


def apply_op(op_type: str, /, name: str | None = None, **arguments: Any) -> Any:
    """Make an op from values for its inputs and attrs, by name; attrs that the inputs decide may be left out.

    Gives the output, the list of outputs when there are several or an output is a list, or the Operation when there
    are none. TypeError for dtypes that don't fit, ValueError for shapes that can't, for tensors of several graphs and
    for an op type that does not exist.
    """
    plan = _PLANS.get(op_type) or _plan(op_type)
    graph = get_default_graph()
    if not graph.is_function:
        other = _graph_of_inputs(plan, arguments)
        if other is not None and other is not graph and not other.is_function:
            with default_graphs.enter(other):
                return _result(plan, _apply(plan, other, name, arguments))
    return _result(plan, _apply(plan, graph, name, arguments))


def _graph_of_inputs(plan: _Plan, arguments: dict[str, Any]) -> Graph | None:
    for name in plan.names:
        value = arguments.get(name)
        if type(value) is Tensor:
            return value.op.graph
        if type(value) not in _PLAIN or type(value) is list or type(value) is tuple:
            found = graph_of((value,))
            if found is not None:
                return found
    return None


def _result(plan: _Plan, op: Operation) -> Any:
    if plan.single:
        return op.outputs[0]
    # As in TF, an op whose list of outputs is empty stands for itself.
    return list(op.outputs) or op if not plan.bare else op


def _apply(plan: _Plan, graph: Graph, name: str | None, arguments: dict[str, Any]) -> Operation:
    attrs: dict[str, Any] = {}
    declared = plan.attrs
    given = 0
    for key, value in arguments.items():
        attr = declared.get(key)
        if attr is not None:
            given += 1
            if value is not None or attr.type == "shape":
                attrs[key] = canonical(plan.op_def.name, attr, value)
    if given + len(plan.names) != len(arguments):
        _wrong_arguments(plan, arguments)
    full = graph.full_name(name or plan.op_def.name)
    tensors: list[Any] = []
    waiting: list[tuple[int, Arg, Any]] = []
    listed = False
    for input_name, type_attr, dtype, many, arg in plan.inputs:
        try:
            value = arguments[input_name]
        except KeyError:
            _wrong_arguments(plan, arguments)
        if many:
            listed = True
            waiting.append((len(tensors), arg, value))
            tensors.append(None)
            continue
        if type(value) is not Tensor and not isinstance(value, Tensor):
            if type(value) in _PLAIN or not functions_for(type(value)):
                waiting.append((len(tensors), arg, value))
                tensors.append(None)
                continue
            value = _convert_in(graph, full, plan, arg, value, attrs)
        found = value.dtype.base_dtype
        if type_attr is not None:
            known = attrs.get(type_attr)
            if known is None:
                attrs[type_attr] = found
            elif known is not found:
                _type_error(plan, arg, found, known, arguments)
        elif dtype is not found:
            _type_error(plan, arg, found, dtype, arguments)
        if arg.is_ref and not value.dtype._is_ref_dtype:
            raise TypeError(f"Input '{arg.name}' of '{plan.op_def.name}' Op requires l-value input: a variable")
        tensors.append(value)
    if waiting:
        local = graph.local
        outer, local.scope = local.scope, full
        try:
            if listed:
                _find_list_types(plan, waiting, attrs)
            for k, arg, value in waiting:
                if arg.count_attr is not None or arg.list_attr is not None:
                    tensors[k] = _convert_list(plan, arg, value, attrs, arguments)
                else:
                    tensors[k] = _convert_value(plan, arg, value, attrs, arguments)
        finally:
            local.scope = outer
        if listed:
            tensors = [t for each in tensors for t in (each if isinstance(each, list) else (each,))]
    _complete(plan, attrs)
    return graph.add(plan.op_def, tensors, attrs, full, _output_dtypes(plan, attrs))


def _complete(plan: _Plan, attrs: dict[str, Any]) -> None:
    """Fill in defaults, and check types against those that are allowed."""
    for name, default, optional in plan.defaults:
        if name not in attrs:
            if not optional:
                raise TypeError(f"'{plan.op_def.name}' Op needs a value for attr '{name}': its inputs give none.")
            attrs[name] = default
    for name, allowed, attr in plan.checked:
        if id(attrs[name]) not in allowed:
            arg = next((arg for arg in plan.op_def.inputs if arg.type_attr == name), None)
            check_allowed(plan.op_def.name, attr, attrs[name], name if arg is None else arg.name)


def _output_dtypes(plan: _Plan, attrs: dict[str, Any]) -> Sequence[DType]:
    if plan.output_attr is not None:
        return (attrs[plan.output_attr],)
    return arg_dtypes(plan.outputs, attrs)


def arg_dtypes(args: Sequence[Arg], attrs: dict[str, Any]) -> list[DType]:
    """The dtypes of the tensors that inputs or outputs of an op consist of."""
    result: list[Any] = []
    for arg in args:
        if arg.list_attr is not None:
            result += attrs[arg.list_attr]
            continue
        dtype: Any = attrs[arg.type_attr] if arg.type_attr is not None else arg.dtype
        if arg.is_ref:
            dtype = dtype._as_ref
        if arg.count_attr is None:
            result.append(dtype)
        else:
            result += [dtype] * attrs[arg.count_attr]
    return result


def _convert_in(graph: Graph, scope: str, plan: _Plan, arg: Arg, value: Any, attrs: dict[str, Any]) -> Tensor:
    """A variable or such: it brings its own dtype."""
    local = graph.local
    outer, local.scope = local.scope, scope
    try:
        return convert_to_tensor(value, name=arg.name, as_ref=arg.is_ref)
    finally:
        local.scope = outer


def _convert_value(plan: _Plan, arg: Arg, value: Any, attrs: dict[str, Any], arguments: dict[str, Any]) -> Tensor:
    wanted = arg.dtype if arg.type_attr is None else attrs.get(arg.type_attr)
    default = None
    if wanted is None:
        attr = plan.attrs[arg.type_attr]  # type: ignore[index]
        default = attr.default
        if default is not None and attr.allowed and _natural_dtype(value) in attr.allowed:
            # The default serves values whose own dtype the op doesn't take, such as an empty list of axes.
            default = None
    try:
        tensor = convert_to_tensor(value, wanted, arg.name, preferred_dtype=default)
    except (TypeError, ValueError) as error:
        _conversion_error(plan, arg, value, wanted, arguments, error)
    if wanted is None:
        attrs[arg.type_attr] = tensor.dtype.base_dtype  # type: ignore[index]
    return tensor


def _find_list_types(plan: _Plan, waiting: Sequence[tuple[int, Arg, Any]], attrs: dict[str, Any]) -> None:
    """The types and lengths that lists of inputs give, before the values in them are converted."""
    for _, arg, values in waiting:
        if arg.count_attr is None and arg.list_attr is None:
            continue
        if not isinstance(values, (list, tuple)):
            raise TypeError(
                f"Expected list for '{arg.name}' argument to '{plan.op_def.name}' Op, not {values!r}."
            )
        if arg.list_attr is not None:
            continue
        if not values and arg.type_attr is not None and arg.type_attr not in attrs:
            raise ValueError(
                f"List argument '{arg.name}' to '{plan.op_def.name}' Op with length 0 shorter than minimum length 1."
            )
        count = attrs.setdefault(arg.count_attr, len(values))  # type: ignore[arg-type]
        if count != len(values):
            raise ValueError(
                f"List argument '{arg.name}' to '{plan.op_def.name}' Op with length {len(values)} must match length "
                f"{count} of the other list arguments."
            )
        if arg.type_attr is not None and arg.type_attr not in attrs:
            for value in values:
                if isinstance(value, Tensor):
                    attrs[arg.type_attr] = value.dtype.base_dtype
                    break


def _convert_list(
    plan: _Plan, arg: Arg, values: Sequence[Any], attrs: dict[str, Any], arguments: dict[str, Any]
) -> list[Tensor]:
    result: list[Tensor] = []
    if arg.list_attr is not None:
        wanted = attrs.get(arg.list_attr)
        if wanted is not None and len(wanted) != len(values):
            raise ValueError(
                f"List argument '{arg.name}' to '{plan.op_def.name}' Op: {len(values)} values for {len(wanted)} types."
            )
        for k, value in enumerate(values):
            dtype = None if wanted is None else wanted[k]
            try:
                result.append(convert_to_tensor(value, dtype, f"{arg.name}_{k}"))
            except (TypeError, ValueError) as error:
                _conversion_error(plan, arg, value, dtype, arguments, error)
        attrs[arg.list_attr] = tuple([tensor.dtype.base_dtype for tensor in result])
        return result
    for k, value in enumerate(values):
        dtype = arg.dtype if arg.type_attr is None else attrs.get(arg.type_attr)
        try:
            wanted = None if isinstance(value, Tensor) else dtype
            tensor = convert_to_tensor(value, wanted, f"{arg.name}_{k}", as_ref=arg.is_ref)
        except (TypeError, ValueError) as error:
            _conversion_error(plan, arg, value, dtype, arguments, error)
        found = tensor.dtype.base_dtype
        if dtype is None:
            attrs[arg.type_attr] = found  # type: ignore[index]
        elif dtype is not found:
            kinds = ", ".join(v.dtype.name if isinstance(v, Tensor) else "<NOT CONVERTIBLE TO TENSOR>" for v in values)
            raise TypeError(
                f"Tensors in list passed to '{arg.name}' of '{plan.op_def.name}' Op have types [{kinds}] that don't "
                f"all match: {found.name} does not match type {dtype.name}."
            )
        result.append(tensor)
    return result


def _type_error(plan: _Plan, arg: Arg, found: DType, known: DType | None, arguments: dict[str, Any]) -> NoReturn:
    assert known is not None
    text = f"Input '{arg.name}' of '{plan.op_def.name}' Op has type {found.name} that does not match "
    if arg.type_attr is None:
        raise TypeError(f"{text}expected type of {known.name}.")
    for other in plan.op_def.inputs:
        if other.type_attr == arg.type_attr and other is not arg:
            raise TypeError(f"{text}type {known.name} of argument '{other.name}'.")
    raise TypeError(f"{text}type {known.name} given for attr '{arg.type_attr}'.")


def _conversion_error(
    plan: _Plan, arg: Arg, value: Any, wanted: DType | None, arguments: dict[str, Any], error: Exception
) -> NoReturn:
    """Explain why a value can't be an input: most often it has another type than the tensor beside it."""
    if wanted is None or (isinstance(error, ValueError) and not isinstance(value, (list, tuple))):
        raise error
    try:
        found = dtypes.as_dtype(convert_to_tensor_dtype(value))
    except (TypeError, ValueError):
        raise error from None
    if found is wanted:
        raise error
    try:
        _type_error(plan, arg, found, wanted, arguments)
    except TypeError as mismatch:
        raise TypeError(f"{mismatch} ({error})") from None


def _natural_dtype(value: Any) -> DType | None:
    try:
        return convert_to_tensor_dtype(value)
    except (TypeError, ValueError):
        return None


def convert_to_tensor_dtype(value: Any) -> DType:
    """The dtype that `value` has when none is asked for; TypeError or ValueError when it has none."""
    from stepjit.framework.convert import has_tensor
    from stepjit.framework.values import leaves_of, to_array

    if isinstance(value, (list, tuple)) and has_tensor(value):
        return next(leaf.dtype.base_dtype for leaf in leaves_of(value) if hasattr(leaf, "dtype"))
    return to_array(value)[1]


def _wrong_arguments(plan: _Plan, arguments: dict[str, Any]) -> NoReturn:
    known = {*plan.names, *plan.attrs}
    unknown = [name for name in arguments if name not in known]
    if unknown:
        raise TypeError(f"'{plan.op_def.name}' Op got an unexpected argument '{unknown[0]}'.")
    missing = [name for name in plan.names if name not in arguments]
    raise TypeError(f"No argument for input '{missing[0]}' of '{plan.op_def.name}' Op.")


def apply_flat(
    graph: Graph, op_type: str, inputs: Sequence[Tensor], attrs: dict[str, Any], name: str | None = None
) -> Operation:
    """Make an op from tensors in their flat order; attrs that the inputs decide may be left out.

    Attrs that the op type does not declare are kept as they are. Errors as in `apply_op`.
    """
    plan = _plan(op_type)
    arguments: dict[str, Any] = {key: value for key, value in attrs.items() if key in plan.attrs}
    rest = list(inputs)
    for arg in plan.op_def.inputs:
        if arg.count_attr is None and arg.list_attr is None:
            if not rest:
                raise ValueError(f"'{op_type}' Op needs an input '{arg.name}', but has {len(inputs)} inputs.")
            arguments[arg.name] = rest.pop(0)
            continue
        later = len(plan.op_def.inputs) - 1 - plan.op_def.inputs.index(arg)
        count = attrs.get(arg.count_attr) if arg.count_attr else len(attrs.get(arg.list_attr or "") or ()) or None
        count = len(rest) - later if count is None else count
        arguments[arg.name], rest = rest[:count], rest[count:]
    if rest:
        raise ValueError(f"'{op_type}' Op has {len(inputs)} inputs, which is {len(rest)} too many.")
    with default_graphs.enter(graph):
        op = _apply(plan, graph, name, arguments)
    for key, value in attrs.items():
        if key not in plan.attrs:
            op.attrs[key] = value
    return op
