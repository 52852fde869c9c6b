"""Python's operators on tensors and variables, named as TF names them (`add`, `mul`, `truediv`, ...)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Tensor, override_operator
from stepjit.ops import comparison, elementwise, indexing, math
from stepjit.ops.linear import matmul
from stepjit.variables import Variable
from stepjit_runtime import dtypes

Function = Callable[[Tensor, Tensor, str], Tensor]


def _operator(kind: str) -> Function:
    return lambda x, y, name: apply_op(kind, x=x, y=y, name=name)


def _add(x: Tensor, y: Tensor, name: str) -> Tensor:
    return apply_op("Add" if x.dtype.base_dtype is dtypes.string else "AddV2", x=x, y=y, name=name)


def _logic(number: str, flags: Function) -> Function:
    """Bits for integers, truth for bools."""

    def function(x: Tensor, y: Tensor, name: str) -> Tensor:
        return flags(x, y, name) if x.dtype.base_dtype is dtypes.bool_ else apply_op(number, x=x, y=y, name=name)

    return function


_BINARY: dict[str, Function] = {
    "add": _add,
    "sub": _operator("Sub"),
    "mul": _operator("Mul"),
    "truediv": math.truediv,
    "div": math.div,
    "floordiv": _operator("FloorDiv"),
    "mod": _operator("FloorMod"),
    "pow": _operator("Pow"),
    "matmul": lambda x, y, name: matmul(x, y, name=name),
    "and": _logic("BitwiseAnd", _operator("LogicalAnd")),
    "or": _logic("BitwiseOr", _operator("LogicalOr")),
    "xor": _logic("BitwiseXor", comparison.logical_xor),
}


_PLAIN = (int, float, complex, str, bytes, list, tuple, np.ndarray, np.generic)


def _left(name: str, function: Function) -> Callable[[Any, Any], Any]:
    def operator(x: Any, y: Any) -> Any:
        with name_scope(None, name, [x, y]) as scope:
            first = convert_to_tensor(x, name="x")
            kind, second = first.dtype.base_dtype, y
            try:
                if _is_other(y):
                    second = convert_to_tensor(y, dtype_hint=kind, name="y")
                else:
                    second = convert_to_tensor(y, dtype=kind, name="y")
            except (TypeError, ValueError):
                # What is no number or array may know what to do with a tensor; other dtypes are reported by the op.
                if not isinstance(y, _PLAIN):
                    if hasattr(type(y), f"__r{name}__"):
                        return NotImplemented
                    raise
            return function(first, second, scope)

    return operator


def _is_other(value: Any) -> bool:
    """Whether `value` is a tensor already, whose dtype must be reported by the op if it doesn't fit."""
    return isinstance(value, Tensor) or hasattr(value, "_as_graph_element")


def _right(name: str, function: Function) -> Callable[[Any, Any], Any]:
    def operator(y: Any, x: Any) -> Any:
        with name_scope(None, name, [x, y]) as scope:
            second = convert_to_tensor(y, name="y")
            return function(convert_to_tensor(x, dtype=second.dtype.base_dtype, name="x"), second, scope)

    return operator


def _compare(function: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Any]:
    return lambda x, y: function(x, y)


def _invert(x: Any) -> Tensor:
    tensor = convert_to_tensor(x)
    if tensor.dtype.base_dtype is dtypes.bool_:
        return comparison.logical_not(tensor, name="LogicalNot")
    return apply_op("Invert", x=tensor)


_UNARY_AND_COMPARISONS: dict[str, Callable[..., Any]] = {
    "__neg__": lambda x: elementwise.negative(x),
    "__abs__": lambda x: elementwise.abs(x),
    "__invert__": _invert,
    "__lt__": _compare(comparison.less),
    "__le__": _compare(comparison.less_equal),
    "__gt__": _compare(comparison.greater),
    "__ge__": _compare(comparison.greater_equal),
    "__getitem__": indexing.getitem,
}


def _on_value(function: Callable[..., Any]) -> Callable[..., Any]:
    """The operator of a variable: that of its value."""
    return lambda variable, *others: function(variable.value(), *others)


def _install() -> None:
    operators = dict(_UNARY_AND_COMPARISONS)
    for name, function in _BINARY.items():
        operators[f"__{name}__"] = _left(name, function)
        operators[f"__r{name}__"] = _right(name, function)
    for name, operator in operators.items():
        override_operator(name, operator)
        setattr(Variable, name, _on_value(operator))
    setattr(Variable, "__getitem__", lambda variable, item: indexing.getitem(variable.value(), item, variable))  # noqa: B010


_install()
