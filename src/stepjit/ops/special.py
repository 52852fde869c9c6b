"""Special functions, bits, counting and histograms, in TF1's signatures, with gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.registry import NotDifferentiable, RegisterGradient
from stepjit.framework.scopes import control_dependencies, name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.array import shape as shape_of
from stepjit.ops.assertions import assert_non_negative
from stepjit.ops.broadcasting import unbroadcast
from stepjit.ops.reductions import reduce_max, reduce_sum
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import as_dtype

Grads = Sequence[Any]


def _op(kind: str, x: Any, y: Any) -> Tensor:
    return apply_op(kind, x=x, y=y)


def realdiv(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y of floats, elementwise, broadcasting."""
    return apply_op("RealDiv", x=x, y=y, name=name)


# --- incomplete gamma and beta functions, zeta ---


def igamma(a: Any, x: Any, name: str | None = None) -> Tensor:
    """The lower regularised incomplete gamma function P(a, x)."""
    return apply_op("Igamma", a=a, x=x, name=name)


def igammac(a: Any, x: Any, name: str | None = None) -> Tensor:
    """The upper regularised incomplete gamma function 1 - P(a, x)."""
    return apply_op("Igammac", a=a, x=x, name=name)


def lbeta(x: Any, name: str | None = None) -> Tensor:
    """The logarithm of the multivariate beta function of the last axis."""
    with name_scope(name, "lbeta", [x]):
        tensor = convert_to_tensor(x, name="x")
        gammas = reduce_sum(apply_op("Lgamma", x=tensor), [-1])
        return _op("Sub", gammas, apply_op("Lgamma", x=reduce_sum(tensor, [-1])))


def ndtri(x: Any, name: str | None = None) -> Tensor:
    """The quantiles of the standard normal distribution."""
    return apply_op("Ndtri", x=x, name=name)


@RegisterGradient("Ndtri")
def _ndtri_grad(op: Operation, grad: Tensor) -> Tensor:
    y = op.outputs[0]
    half, root = (constant(each, dtype=y.dtype.base_dtype) for each in (0.5, math.sqrt(2 * math.pi)))
    return _op("Mul", grad, _op("Mul", root, apply_op("Exp", x=_op("Mul", half, apply_op("Square", x=y)))))


def _gamma_density(a: Tensor, x: Tensor) -> Tensor:
    """x^(a - 1) e^-x / Γ(a)."""
    power = _op("Mul", _op("Sub", a, 1), apply_op("Log", x=x))
    return apply_op("Exp", x=_op("Sub", _op("Sub", power, x), apply_op("Lgamma", x=a)))


@RegisterGradient("Igamma")
def _igamma_grad(op: Operation, grad: Tensor) -> Grads:
    a, x = op.inputs
    by_a = apply_op("IgammaGradA", a=a, x=x)
    return unbroadcast(a, x, _op("Mul", by_a, grad), _op("Mul", _gamma_density(a, x), grad))


@RegisterGradient("Igammac")
def _igammac_grad(op: Operation, grad: Tensor) -> Grads:
    return _igamma_grad(op, apply_op("Neg", x=grad))


def betainc(a: Any, b: Any, x: Any, name: str | None = None) -> Tensor:
    """The regularised incomplete beta function."""
    return apply_op("Betainc", a=a, b=b, x=x, name=name)


@RegisterGradient("Betainc")
def _betainc_grad(op: Operation, grad: Tensor) -> Grads:
    a, b, x = op.inputs
    one = constant(1, dtype=x.dtype.base_dtype)
    parts = [apply_op("Lgamma", x=each) for each in (a, b, _op("AddV2", a, b))]
    log_beta = _op("Sub", _op("AddV2", parts[0], parts[1]), parts[2])
    powers = _op("AddV2", _op("Xlogy", _op("Sub", a, one), x), _op("Xlog1py", _op("Sub", b, one), apply_op("Neg", x=x)))
    density = apply_op("Exp", x=_op("Sub", powers, log_beta))
    return [None, None, unbroadcast(op.outputs[0], x, None, _op("Mul", density, grad))[1]]


def nextafter(x1: Any, x2: Any, name: str | None = None) -> Tensor:
    """The next number after x1 on the way to x2."""
    return apply_op("NextAfter", x1=x1, x2=x2, name=name)


# --- Bessel functions ---


def bessel_i0e(x: Any, name: str | None = None) -> Tensor:
    """The modified Bessel function of order 0, times exp(-|x|)."""
    with name_scope(name, "bessel_i0e", [x]):
        return apply_op("BesselI0e", x=x)


def bessel_i1e(x: Any, name: str | None = None) -> Tensor:
    """The modified Bessel function of order 1, times exp(-|x|)."""
    with name_scope(name, "bessel_i1e", [x]):
        return apply_op("BesselI1e", x=x)


def _grown(scaled: Tensor, x: Tensor) -> Tensor:
    return _op("Mul", apply_op("Exp", x=apply_op("Abs", x=x)), scaled)


def bessel_i0(x: Any, name: str | None = None) -> Tensor:
    """The modified Bessel function of order 0."""
    with name_scope(name, "bessel_i0", [x]):
        numbers = convert_to_tensor(x, name="x")
        return _grown(bessel_i0e(numbers), numbers)


def bessel_i1(x: Any, name: str | None = None) -> Tensor:
    """The modified Bessel function of order 1."""
    with name_scope(name, "bessel_i1", [x]):
        numbers = convert_to_tensor(x, name="x")
        return _grown(bessel_i1e(numbers), numbers)


@RegisterGradient("BesselI0e")
def _bessel_i0e_grad(op: Operation, grad: Tensor) -> Tensor:
    x, y = op.inputs[0], op.outputs[0]
    return _op("Mul", grad, _op("Sub", apply_op("BesselI1e", x=x), _op("Mul", apply_op("Sign", x=x), y)))


@RegisterGradient("BesselI1e")
def _bessel_i1e_grad(op: Operation, grad: Tensor) -> Tensor:
    x, y = op.inputs[0], op.outputs[0]
    tiny = constant(np.finfo(x.dtype.as_numpy_dtype).eps, dtype=x.dtype.base_dtype)
    usual = _op("Greater", apply_op("Abs", x=x), tiny)
    safe = apply_op("SelectV2", condition=usual, t=x, e=tiny)
    slope = _op("Mul", y, _op("AddV2", apply_op("Sign", x=safe), apply_op("Reciprocal", x=safe)))
    slope = _op("Sub", apply_op("BesselI0e", x=safe), slope)
    return _op("Mul", grad, apply_op("SelectV2", condition=usual, t=slope, e=0.5))


def zeta(x: Any, q: Any, name: str | None = None) -> Tensor:
    """The Hurwitz zeta function."""
    return apply_op("Zeta", x=x, q=q, name=name)


@RegisterGradient("Zeta")
def _zeta_grad(op: Operation, grad: Tensor) -> Grads:
    x, q = op.inputs
    partial = _op("Mul", apply_op("Neg", x=x), apply_op("Zeta", x=_op("AddV2", x, 1), q=q))
    return [None, unbroadcast(x, q, None, _op("Mul", partial, grad))[1]]


def polygamma(a: Any, x: Any, name: str | None = None) -> Tensor:
    """The derivative number a of digamma."""
    return apply_op("Polygamma", a=a, x=x, name=name)


@RegisterGradient("Polygamma")
def _polygamma_grad(op: Operation, grad: Tensor) -> Grads:
    n, x = op.inputs
    partial = apply_op("Polygamma", a=_op("AddV2", n, 1), x=x)
    return [None, unbroadcast(n, x, None, _op("Mul", partial, grad))[1]]


@RegisterGradient("NextAfter")
def _nextafter_grad(op: Operation, grad: Tensor) -> Grads:
    x, towards = op.inputs
    return unbroadcast(x, towards, grad, apply_op("ZerosLike", x=grad))


# --- bits ---


def bitwise_and(x: Any, y: Any, name: str | None = None) -> Tensor:
    """The bits that are set in both."""
    return apply_op("BitwiseAnd", x=x, y=y, name=name)


def bitwise_or(x: Any, y: Any, name: str | None = None) -> Tensor:
    """The bits that are set in either."""
    return apply_op("BitwiseOr", x=x, y=y, name=name)


def bitwise_xor(x: Any, y: Any, name: str | None = None) -> Tensor:
    """The bits that are set in exactly one."""
    return apply_op("BitwiseXor", x=x, y=y, name=name)


def invert(x: Any, name: str | None = None) -> Tensor:
    """All bits flipped."""
    return apply_op("Invert", x=x, name=name)


def left_shift(x: Any, y: Any, name: str | None = None) -> Tensor:
    """Bits moved y places up."""
    return apply_op("LeftShift", x=x, y=y, name=name)


def right_shift(x: Any, y: Any, name: str | None = None) -> Tensor:
    """Bits moved y places down, the sign kept."""
    return apply_op("RightShift", x=x, y=y, name=name)


for _kind in ("BitwiseAnd", "BitwiseOr", "BitwiseXor", "Invert", "LeftShift", "RightShift", "PopulationCount"):
    NotDifferentiable(_kind)


# --- counting ---


def _as(value: Any, like: Tensor) -> Tensor:
    return apply_op("Cast", x=convert_to_tensor(value), DstT=like.dtype.base_dtype)


def bincount(
    arr: Any, weights: Any = None, minlength: Any = None, maxlength: Any = None, dtype: Any = dtypes.int32
) -> Tensor:  # fmt: skip
    """How often each number from 0 up occurs, or the sum of its weights; `maxlength` and above are left out."""
    with name_scope("bincount"):
        given = convert_to_tensor(arr, dtype_hint="int32", name="arr")
        if given.dtype.base_dtype not in (dtypes.int32, dtypes.int64):
            given = apply_op("Cast", x=given, DstT="int32")
        with control_dependencies([assert_non_negative(given, message="Input arr must be non-negative!")]):
            numbers = apply_op("Reshape", tensor=given, shape=[-1])
        size = _op("AddV2", _op("Maximum", reduce_max(numbers), -1), 1)
        if minlength is not None:
            size = _op("Maximum", _as(minlength, numbers), size)
        if maxlength is not None:
            most = _as(maxlength, numbers)
            size = _op("Minimum", most, size)
            numbers = apply_op("SelectV2", condition=_op("Less", numbers, size), t=numbers, e=-1)
        if weights is None:
            ones = apply_op("Fill", dims=shape_of(numbers), value=constant(1, dtype=as_dtype(dtype)))
            return apply_op("UnsortedSegmentSum", data=ones, segment_ids=numbers, num_segments=size)
        given = apply_op("Reshape", tensor=convert_to_tensor(weights), shape=[-1])
        return apply_op("UnsortedSegmentSum", data=given, segment_ids=numbers, num_segments=size)


def histogram_fixed_width_bins(
    values: Any, value_range: Any, nbins: Any = 100, dtype: Any = dtypes.int32, name: str | None = None
) -> Tensor:  # fmt: skip
    """The bin of each value when the range is cut in `nbins`; outer values belong to the outer bins."""
    with name_scope(name, "histogram_fixed_width_bins", [values, value_range, nbins]):
        given = convert_to_tensor(values, name="values")
        bounds = convert_to_tensor(value_range, dtype=given.dtype.base_dtype, name="value_range")
        count = convert_to_tensor(nbins, dtype="int32", name="nbins")
        low, high = (
            apply_op("StridedSlice", input=bounds, begin=[k], end=[k + 1], strides=[1], shrink_axis_mask=1)
            for k in (0, 1)
        )
        share = apply_op("RealDiv", x=_op("Sub", given, low), y=_op("Sub", high, low))
        scaled = apply_op("Floor", x=_op("Mul", apply_op("Cast", x=count, DstT=given.dtype.base_dtype), share))
        last = apply_op("Cast", x=_op("Sub", count, 1), DstT=given.dtype.base_dtype)
        inside = _op("Maximum", _op("Minimum", scaled, last), 0)
        return apply_op("Cast", x=inside, DstT=as_dtype(dtype))


def histogram_fixed_width(
    values: Any, value_range: Any, nbins: Any = 100, dtype: Any = dtypes.int32, name: str | None = None
) -> Tensor:  # fmt: skip
    """How many values fall in each of `nbins` equal parts of a range."""
    with name_scope(name, "histogram_fixed_width", [values, value_range, nbins]):
        bins = apply_op("Reshape", tensor=histogram_fixed_width_bins(values, value_range, nbins), shape=[-1])
        ones = apply_op("Fill", dims=shape_of(bins), value=constant(1, dtype=as_dtype(dtype)))
        return apply_op("UnsortedSegmentSum", data=ones, segment_ids=bins, num_segments=nbins)


def confusion_matrix(
    labels: Any, predictions: Any, num_classes: Any = None, dtype: Any = dtypes.int32, name: str | None = None,
    weights: Any = None,
) -> Tensor:  # fmt: skip
    """How often each label (row) was predicted as each class (column)."""
    with name_scope(name, "confusion_matrix", [predictions, labels, num_classes, weights]):
        rows, columns = (apply_op("Cast", x=convert_to_tensor(each), DstT="int64") for each in (labels, predictions))
        rows, columns = (apply_op("Reshape", tensor=each, shape=[-1]) for each in (rows, columns))
        if num_classes is None:
            size = _op("AddV2", _op("Maximum", reduce_max(columns), reduce_max(rows)), constant(1, dtype="int64"))
        else:
            size = apply_op("Cast", x=convert_to_tensor(num_classes), DstT="int64")
        target = as_dtype(dtype)
        if weights is None:
            values = apply_op("Fill", dims=shape_of(columns), value=constant(1, dtype=target))
        else:
            values = apply_op("Cast", x=convert_to_tensor(weights), DstT=target)
        indices = apply_op("Pack", values=[rows, columns], axis=1)
        return apply_op("ScatterNd", indices=indices, updates=values, shape=apply_op("Pack", values=[size, size]))


# --- vectors in space ---


def cross(a: Any, b: Any, name: str | None = None) -> Tensor:
    """The cross products of vectors in the last dimension, which has three elements."""
    return apply_op("Cross", a=a, b=b, name=name)


@RegisterGradient("Cross")
def _cross_grad(op: Operation, grad: Tensor) -> Grads:
    a, b = op.inputs
    return [cross(b, grad), cross(grad, a)]


def ensure_shape(x: Any, shape: Any, name: str | None = None) -> Tensor:
    """x, whose static shape is narrowed and which is checked in the step."""
    return apply_op("EnsureShape", input=x, shape=shape, name=name)


@RegisterGradient("EnsureShape")
def _ensure_shape_grad(op: Operation, grad: Tensor) -> Tensor:
    return grad
