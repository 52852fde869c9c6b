"""Elementwise arithmetic of two or more tensors, in TF1's signatures, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.indexed_slices import IndexedSlices
from stepjit.framework.registry import RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.broadcasting import unbroadcast
from stepjit_runtime import dtypes

Grads = Sequence[Any]


def _operands(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Both as tensors of one dtype, which comes from whichever is a tensor already."""
    # Where a value does not fit that dtype it keeps its own, and the op says which two don't match.
    if not isinstance(x, Tensor) and isinstance(y, Tensor):
        return convert_to_tensor(x, dtype_hint=y.dtype.base_dtype, name="x"), y
    first = convert_to_tensor(x, name="x")
    return first, convert_to_tensor(y, dtype_hint=first.dtype.base_dtype, name="y")


def _conj(x: Tensor) -> Tensor:
    return apply_op("Conj", input=x) if x.dtype.base_dtype.kind == "c" else x


def _zero_like_scalar(x: Tensor) -> Tensor:
    return constant(0, dtype=x.dtype.base_dtype, name="zeros")


def _mul(x: Any, y: Any, name: str | None = "mul") -> Tensor:
    return apply_op("Mul", x=x, y=y, name=name)


# --- add ---


def add(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x + y elementwise, broadcasting; strings are joined."""
    with name_scope(name, "Add", [x, y]) as scope:
        a, b = _operands(x, y)
        return apply_op("Add" if a.dtype.base_dtype is dtypes.string else "AddV2", x=a, y=b, name=scope)


@RegisterGradient("Add")
@RegisterGradient("AddV2")
def _add_grad(op: Operation, grad: Tensor) -> Grads:
    return unbroadcast(op.inputs[0], op.inputs[1], grad, grad)


def add_n(inputs: Any, name: str | None = None) -> Tensor:
    """The sum of tensors of one shape and dtype; ValueError for an empty list."""
    if isinstance(inputs, (Tensor, IndexedSlices)):
        inputs = [inputs]
    if not isinstance(inputs, (list, tuple)) or not inputs:
        raise ValueError(
            "Inputs must be an iterable of at least one Tensor/IndexedSlices with the same dtype and shape."
        )
    tensors = [convert_to_tensor(each) for each in inputs]
    if len(tensors) == 1:
        if isinstance(inputs[0], IndexedSlices):
            return tensors[0]
        return apply_op("Identity", input=tensors[0], name=name) if name else tensors[0]
    return apply_op("AddN", inputs=tensors, name=name)


@RegisterGradient("AddN")
def _add_n_grad(op: Operation, grad: Tensor) -> Grads:
    return [grad] * len(op.inputs)


def accumulate_n(inputs: Any, shape: Any = None, tensor_dtype: Any = None, name: str | None = None) -> Tensor:
    """The sum of tensors of one shape and dtype; ValueError when they differ or there are none."""
    message = "inputs must be a list of at least one Tensor with the same dtype and shape"
    if not isinstance(inputs, (list, tuple)) or not inputs:
        raise ValueError(message)
    tensors = [convert_to_tensor(each) for each in inputs]
    if any(each.dtype.base_dtype is not tensors[0].dtype.base_dtype for each in tensors):
        raise ValueError(message)
    if tensor_dtype is not None and dtypes.as_dtype(tensor_dtype) is not tensors[0].dtype.base_dtype:
        raise TypeError(f"tensor_dtype is {tensor_dtype}, but input is of type {tensors[0].dtype.name}")
    if len(tensors) == 1:
        return apply_op("Identity", input=tensors[0], name=name) if name else tensors[0]
    result = apply_op("AddN", inputs=tensors, name=name)
    if shape is not None:
        result.set_shape(shape)
    return result


# --- subtract ---


def subtract(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x - y elementwise, broadcasting."""
    return apply_op("Sub", x=x, y=y, name=name)


@RegisterGradient("Sub")
def _sub_grad(op: Operation, grad: Tensor) -> Grads:
    return unbroadcast(op.inputs[0], op.inputs[1], grad, apply_op("Neg", x=grad))


# --- multiply ---


def multiply(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x * y elementwise, broadcasting."""
    return apply_op("Mul", x=x, y=y, name=name)


@RegisterGradient("Mul")
def _mul_grad(op: Operation, grad: Tensor) -> Grads:
    x, y = op.inputs
    return unbroadcast(x, y, _mul(grad, _conj(y), "Mul"), _mul(_conj(x), grad, "Mul"))


def scalar_mul(scalar: Any, x: Any, name: str | None = None) -> Any:
    """`scalar * x` for a 0-d scalar; x may be IndexedSlices. ValueError when `scalar` isn't 0-d."""
    base = x.dtype.base_dtype if isinstance(x, (Tensor, IndexedSlices)) else None
    factor = convert_to_tensor(scalar, dtype=base, name="scalar")
    if factor.dims not in (None, ()):
        raise ValueError(f"Only scalar multiply works, got shape {factor.shape}")
    if isinstance(x, IndexedSlices):
        return IndexedSlices(_mul(factor, x.values, name), x.indices, x.dense_shape)
    return _mul(factor, x, name)


# --- division ---


_TRUE_DIVISION = {
    dtypes.uint8: dtypes.float32, dtypes.int8: dtypes.float32, dtypes.uint16: dtypes.float32,
    dtypes.int16: dtypes.float32, dtypes.int32: dtypes.float64, dtypes.int64: dtypes.float64,
    dtypes.uint32: dtypes.float64, dtypes.uint64: dtypes.float64, dtypes.float32: None, dtypes.float64: None,
    dtypes.float16: None, dtypes.bfloat16: None, dtypes.complex64: None, dtypes.complex128: None,
}  # fmt: skip


def truediv(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y as Python 3 divides: integers become float32 (8 and 16 bits) or float64; TypeError for other dtypes."""
    with name_scope(name, "truediv", [x, y]) as scope:
        a, b = _operands(x, y)
        if a.dtype.base_dtype is not b.dtype.base_dtype:
            raise TypeError(f"x and y must have the same dtype, got {a.dtype!r} != {b.dtype!r}")
        if a.dtype.base_dtype not in _TRUE_DIVISION:
            raise TypeError(f"Invalid dtype {a.dtype!r} in __truediv__")
        target = _TRUE_DIVISION[a.dtype.base_dtype]
        if target is not None:
            a, b = apply_op("Cast", x=a, DstT=target), apply_op("Cast", x=b, DstT=target)
        return apply_op("RealDiv", x=a, y=b, name=scope)


def divide(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y as Python 3 divides, see `truediv`."""
    return truediv(x, y, name)


def div(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y as Python 2 divides: integers are floored."""
    with name_scope(name, "div", [x, y]) as scope:
        a, b = _operands(x, y)
        kind = a.dtype.base_dtype.kind
        return apply_op("RealDiv" if kind in "fc" else "FloorDiv", x=a, y=b, name=scope)


@RegisterGradient("RealDiv")
@RegisterGradient("Div")
def _real_div_grad(op: Operation, grad: Tensor) -> Grads:
    x, y = op.inputs
    x_, y_ = _conj(x), _conj(y)
    dx = apply_op("RealDiv", x=grad, y=y_)
    quotient = apply_op("RealDiv", x=apply_op("RealDiv", x=apply_op("Neg", x=x_), y=y_), y=y_)
    return unbroadcast(x, y, dx, _mul(grad, quotient))


def floordiv(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y rounded down, for integers and floats alike."""
    with name_scope(name, "floordiv", [x, y]) as scope:
        a, b = _operands(x, y)
        return apply_op("FloorDiv", x=a, y=b, name=scope)


floor_div = floordiv


@RegisterGradient("FloorDiv")
def _floor_div_grad(op: Operation, grad: Tensor) -> Grads:
    return [None, None]


def truncatediv(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y of integers rounded toward zero, as C does."""
    return apply_op("TruncateDiv", x=x, y=y, name=name)


@RegisterGradient("TruncateDiv")
def _truncate_div_grad(op: Operation, grad: Tensor) -> Grads:
    return [None, None]


def div_no_nan(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y, and 0 where y is 0; integers become floats as in `truediv`."""
    with name_scope(name, "div_no_nan", [x, y]) as scope:
        a, b = _operands(x, y)
        target = _TRUE_DIVISION.get(a.dtype.base_dtype)
        if target is not None and a.dtype.base_dtype is b.dtype.base_dtype:
            a, b = apply_op("Cast", x=a, DstT=target), apply_op("Cast", x=b, DstT=target)
        return apply_op("DivNoNan", x=a, y=b, name=scope)


def reciprocal_no_nan(x: Any, name: str | None = None) -> Tensor:
    """1 / x, and 0 where x is 0."""
    with name_scope(name, "reciprocal_no_nan", [x]) as scope:
        tensor = convert_to_tensor(x, name="x")
        return apply_op("DivNoNan", x=constant(1, dtype=tensor.dtype.base_dtype, name="one"), y=tensor, name=scope)


@RegisterGradient("DivNoNan")
def _div_no_nan_grad(op: Operation, grad: Tensor) -> Grads:
    x, y = op.inputs
    x_, y_ = _conj(x), _conj(y)
    dx = apply_op("DivNoNan", x=grad, y=y_)
    quotient = apply_op("DivNoNan", x=apply_op("DivNoNan", x=apply_op("Neg", x=x_), y=y_), y=y_)
    return unbroadcast(x, y, dx, _mul(grad, quotient))


def floormod(x: Any, y: Any, name: str | None = None) -> Tensor:
    """The remainder of flooring division; it has y's sign."""
    return apply_op("FloorMod", x=x, y=y, name=name)


mod = floormod


@RegisterGradient("FloorMod")
def _floor_mod_grad(op: Operation, grad: Tensor) -> Grads:
    x, y = op.inputs
    quotient = apply_op("Neg", x=apply_op("FloorDiv", x=x, y=y, name="floordiv"))
    return unbroadcast(x, y, grad, _mul(grad, quotient))


def truncatemod(x: Any, y: Any, name: str | None = None) -> Tensor:
    """The remainder of division toward zero; it has x's sign."""
    return apply_op("TruncateMod", x=x, y=y, name=name)


# --- pow ---


def pow(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x to the power y elementwise, broadcasting."""
    with name_scope(name, "Pow", [x]) as scope:
        return apply_op("Pow", x=x, y=y, name=scope)


@RegisterGradient("Pow")
def _pow_grad(op: Operation, grad: Tensor) -> Grads:
    x, y = op.inputs
    z = op.outputs[0]
    x_, y_, z_ = _conj(x), _conj(y), _conj(z)
    less_one = apply_op("Sub", x=y_, y=constant(1, dtype=y.dtype.base_dtype, name="sub/y"), name="sub")
    dx = _mul(_mul(grad, y_), apply_op("Pow", x=x_, y=less_one))
    zero = _zero_like_scalar(x)
    # Where x is not positive, log(x) has no finite value to give.
    positive = apply_op("NotEqual" if x.dtype.base_dtype.kind == "c" else "Greater", x=x_, y=zero)
    safe = apply_op("Select", condition=positive, t=x_, e=apply_op("OnesLike", x=x_, name="ones_like"))
    logarithm = apply_op(
        "Select", condition=positive, t=apply_op("Log", x=safe), e=apply_op("ZerosLike", x=x_, name="zeros_like")
    )
    return unbroadcast(x, y, dx, _mul(_mul(grad, z_), logarithm))


# --- maximum, minimum ---


def maximum(x: Any, y: Any, name: str | None = None) -> Tensor:
    """The larger of x and y elementwise, broadcasting."""
    return apply_op("Maximum", x=x, y=y, name=name)


def minimum(x: Any, y: Any, name: str | None = None) -> Tensor:
    """The smaller of x and y elementwise, broadcasting."""
    return apply_op("Minimum", x=x, y=y, name=name)


def _extremum_grad(op: Operation, grad: Tensor, comparison: str) -> Grads:
    x, y = op.inputs
    # A tie gives all to x.
    first = apply_op(comparison, x=x, y=y)
    zero = _zero_like_scalar(grad)
    dx = apply_op("SelectV2", condition=first, t=grad, e=zero)
    return unbroadcast(x, y, dx, apply_op("SelectV2", condition=first, t=zero, e=grad))


@RegisterGradient("Maximum")
def _maximum_grad(op: Operation, grad: Tensor) -> Grads:
    return _extremum_grad(op, grad, "GreaterEqual")


@RegisterGradient("Minimum")
def _minimum_grad(op: Operation, grad: Tensor) -> Grads:
    return _extremum_grad(op, grad, "LessEqual")


# --- squared difference ---


def squared_difference(x: Any, y: Any, name: str | None = None) -> Tensor:
    """(x - y)² elementwise, broadcasting."""
    return apply_op("SquaredDifference", x=x, y=y, name=name)


@RegisterGradient("SquaredDifference")
def _squared_difference_grad(op: Operation, grad: Tensor) -> Grads:
    x, y = op.inputs
    two = constant(2, dtype=grad.dtype.base_dtype, name="scalar")
    dx = _mul(_mul(two, grad, "Mul"), apply_op("Sub", x=x, y=y, name="sub"))
    return unbroadcast(x, y, dx, apply_op("Neg", x=dx))


# --- products and quotients with a rule for zero ---


def multiply_no_nan(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x * y, and 0 where y is 0, even if x is infinite or NaN."""
    with name_scope(name, "multiply_no_nan", [x, y]) as scope:
        a, b = _operands(x, y)
        return apply_op("MulNoNan", x=a, y=b, name=scope)


@RegisterGradient("MulNoNan")
def _mul_no_nan_grad(op: Operation, grad: Tensor) -> Grads:
    x, y = op.inputs
    return unbroadcast(x, y, apply_op("MulNoNan", x=grad, y=y), apply_op("MulNoNan", x=x, y=grad))


def _where_not_zero(x: Tensor) -> Tensor:
    """1 where x is not 0, else 0, in x's dtype."""
    return apply_op("Cast", x=apply_op("NotEqual", x=x, y=_zero_like_scalar(x)), DstT=x.dtype.base_dtype)


def xlogy(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x * log(y), and 0 where x is 0."""
    return apply_op("Xlogy", x=x, y=y, name=name)


@RegisterGradient("Xlogy")
def _xlogy_grad(op: Operation, grad: Tensor) -> Grads:
    x, y = op.inputs
    dx = _mul(apply_op("Xlogy", x=_where_not_zero(x), y=y), grad)
    return unbroadcast(x, y, dx, _mul(apply_op("Xdivy", x=x, y=y), grad))


def xlog1py(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x * log(1 + y), and 0 where x is 0."""
    return apply_op("Xlog1py", x=x, y=y, name=name)


@RegisterGradient("Xlog1py")
def _xlog1py_grad(op: Operation, grad: Tensor) -> Grads:
    x, y = op.inputs
    dx = _mul(apply_op("Xlog1py", x=_where_not_zero(x), y=y), grad)
    one = constant(1, dtype=y.dtype.base_dtype, name="one")
    return unbroadcast(x, y, dx, _mul(apply_op("Xdivy", x=x, y=apply_op("AddV2", x=y, y=one, name="add")), grad))


def xdivy(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y, and 0 where x is 0."""
    return apply_op("Xdivy", x=x, y=y, name=name)


@RegisterGradient("Xdivy")
def _xdivy_grad(op: Operation, grad: Tensor) -> Grads:
    x, y = op.inputs
    dx = _mul(apply_op("Xdivy", x=_where_not_zero(x), y=y), grad)
    square = apply_op("Square", x=y)
    return unbroadcast(x, y, dx, _mul(apply_op("Xdivy", x=apply_op("Neg", x=x), y=square), grad))


# --- atan2 ---


def atan2(y: Any, x: Any, name: str | None = None) -> Tensor:
    """The angle of the point (x, y), in (-π, π]."""
    return apply_op("Atan2", y=y, x=x, name=name)


@RegisterGradient("Atan2")
def _atan2_grad(op: Operation, grad: Tensor) -> Grads:
    y, x = op.inputs
    squares = apply_op("AddV2", x=apply_op("Square", x=x), y=apply_op("Square", x=y), name="add")
    scaled = apply_op("RealDiv", x=grad, y=squares, name="truediv")
    return unbroadcast(y, x, _mul(x, scaled), _mul(apply_op("Neg", x=y), scaled))
