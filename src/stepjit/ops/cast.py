"""Changing dtypes: cast and its shorthands, saturating cast, bitcast; in TF1's signatures, with gradients."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.indexed_slices import IndexedSlices
from stepjit.framework.registry import RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType, as_dtype


def cast(x: Any, dtype: Any, name: str | None = None) -> Any:
    """x in another dtype: floats lose their fraction toward zero, integers wrap; the tensor itself if it fits already.

    Takes IndexedSlices and SparseTensor too, whose values are cast.
    """
    target = as_dtype(dtype).base_dtype
    if isinstance(x, Tensor) and x.dtype is target:
        return x
    with name_scope(name, "Cast", [x]) as scope:
        if isinstance(x, IndexedSlices):
            return IndexedSlices(cast(x.values, target, scope), x.indices, x.dense_shape)
        if hasattr(x, "dense_shape") and hasattr(x, "indices"):
            return type(x)(x.indices, cast(x.values, target, scope), x.dense_shape)
        tensor = convert_to_tensor(x, name="x")
        if tensor.dtype.base_dtype is target:
            return tensor
        return apply_op("Cast", x=tensor, DstT=target, name=scope)


@RegisterGradient("Cast")
def _cast_grad(op: Operation, grad: Any) -> Any:
    source, target = op.inputs[0].dtype.base_dtype, grad.dtype.base_dtype
    return cast(grad, source) if source.kind in "fc" and target.kind in "fc" else None


def to_float(x: Any, name: str | None = "ToFloat") -> Any:
    """x as float32."""
    return cast(x, dtypes.float32, name)


def to_double(x: Any, name: str | None = "ToDouble") -> Any:
    """x as float64."""
    return cast(x, dtypes.float64, name)


def to_int32(x: Any, name: str | None = "ToInt32") -> Any:
    """x as int32."""
    return cast(x, dtypes.int32, name)


def to_int64(x: Any, name: str | None = "ToInt64") -> Any:
    """x as int64."""
    return cast(x, dtypes.int64, name)


def to_bfloat16(x: Any, name: str | None = "ToBFloat16") -> Any:
    """x as bfloat16."""
    return cast(x, dtypes.bfloat16, name)


def to_complex64(x: Any, name: str | None = "ToComplex64") -> Any:
    """x as complex64."""
    return cast(x, dtypes.complex64, name)


def to_complex128(x: Any, name: str | None = "ToComplex128") -> Any:
    """x as complex128."""
    return cast(x, dtypes.complex128, name)


def _limits(source: DType, target: DType) -> tuple[Any, Any]:
    """The values of `source` that `target` can hold, as numbers exact in `source`."""
    low, high = target.min, target.max
    if source.kind == "f":
        # A limit that the float rounds outward would overflow in the cast; take the next one inside.
        return _inward(source, low, up=True), _inward(source, high, up=False)
    return max(int(low), int(source.min)), min(int(high), int(source.max))


def _inward(source: DType, limit: Any, up: bool) -> Any:
    info = ml_dtypes.finfo(source.np)
    # In Python's own numbers, so that the comparisons below are exact.
    bounded = min(max(limit, float(info.min)), float(info.max)) if isinstance(limit, int) else limit
    value = source.np.type(bounded)
    exact = int(float(value)) if isinstance(limit, int) and np.isfinite(float(value)) else float(value)
    if up and exact < limit:
        value = np.nextafter(value, source.np.type(np.inf), dtype=source.np)
    elif not up and exact > limit:
        value = np.nextafter(value, source.np.type(-np.inf), dtype=source.np)
    return value


def saturate_cast(value: Any, dtype: Any, name: str | None = None) -> Tensor:
    """`value` in another dtype, with what it can't hold clamped to its limits."""
    with name_scope(name, "saturate_cast", [value]) as scope:
        x = convert_to_tensor(value, name="value")
        target, source = as_dtype(dtype).base_dtype, x.dtype.base_dtype
        if source.min < target.min or source.max > target.max:
            low, high = _limits(source, target)
            bounds = constant(low, dtype=source), constant(high, dtype=source)
            x = apply_op("ClipByValue", t=x, clip_value_min=bounds[0], clip_value_max=bounds[1], name="clamp")
        return cast(x, target, scope)


def bitcast(input: Any, type: Any, name: str | None = None) -> Tensor:
    """The same bytes read as another dtype; a last dimension appears or goes when the sizes differ."""
    return apply_op("Bitcast", input=input, type=type, name=name)
