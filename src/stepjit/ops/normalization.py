"""Normalisation, moments, dropout and embeddings, in TF1's signatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit.framework.apply import apply_op
from stepjit.framework.constant_value import constant_value
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.scopes import name_scope
from stepjit.framework.shape import TensorShape
from stepjit.framework.tensor import Tensor
from stepjit.ops.array import shape as shape_of
from stepjit.ops.array import squeeze
from stepjit.ops.indexing import gather
from stepjit.ops.random import random_uniform
from stepjit.ops.reductions import count_nonzero, either, reduce_mean, reduce_sum
from stepjit_runtime import dtypes


def _op(kind: str, x: Any, y: Any, name: str | None = None) -> Tensor:
    return apply_op(kind, x=x, y=y, name=name)


def l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12, name: str | None = None, dim: Any = None) -> Tensor:
    """x divided by its L2 norm along `axis` (all by default), which is taken as at least √epsilon."""
    axis = either("axis", axis, "dim", dim)
    with name_scope(name, "l2_normalize", [x]) as scope:
        tensor = convert_to_tensor(x, name="x")
        squares = reduce_sum(apply_op("Square", x=tensor), axis, keepdims=True)
        return _op("Mul", tensor, apply_op("Rsqrt", x=_op("Maximum", squares, epsilon)), scope)


def moments(
    x: Any, axes: Any, shift: Any = None, name: str | None = None, keep_dims: bool | None = None,
    keepdims: bool | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The mean and variance over `axes`; float16 is computed in float32."""
    keep = bool(either("keepdims", keepdims, "keep_dims", keep_dims))
    with name_scope(name, "moments", [x, axes]):
        given = convert_to_tensor(x)
        half = given.dtype.base_dtype is dtypes.float16
        y = apply_op("Cast", x=given, DstT="float32") if half else given
        mean = reduce_mean(y, axes, keepdims=True, name="mean")
        # The mean's own gradient through the squares is zero.
        squares = _op("SquaredDifference", y, apply_op("StopGradient", input=mean))
        variance = reduce_mean(squares, axes, keepdims=True, name="variance")
        if not keep:
            places = _axes(axes, y)
            mean, variance = squeeze(mean, places), squeeze(variance, places)
        if half:
            return apply_op("Cast", x=mean, DstT="float16"), apply_op("Cast", x=variance, DstT="float16")
        return mean, variance


def _axes(axes: Any, x: Tensor) -> Any:
    known = constant_value(axes) if isinstance(axes, Tensor) else axes
    if known is None:
        raise ValueError("the axes of moments must be known when the graph is built")
    if hasattr(known, "tolist"):
        known = known.tolist()
    return list(known) if isinstance(known, (list, tuple, range)) else [known]


def weighted_moments(
    x: Any, axes: Any, frequency_weights: Any, name: str | None = None, keep_dims: bool | None = None,
    keepdims: bool | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The mean and variance over `axes` of elements counted by their weights."""
    keep = bool(either("keepdims", keepdims, "keep_dims", keep_dims))
    with name_scope(name, "weighted_moments", [x, frequency_weights, axes]):
        y = convert_to_tensor(x, name="x")
        weights = convert_to_tensor(frequency_weights, name="frequency_weights")
        if weights.dtype.base_dtype is not y.dtype.base_dtype:
            weights = apply_op("Cast", x=weights, DstT=y.dtype.base_dtype)
        spread = _op("AddV2", weights, apply_op("ZerosLike", x=y))
        total = reduce_sum(spread, axes, keepdims=True, name="sum_of_weights")
        mean = _op("RealDiv", reduce_sum(_op("Mul", weights, y), axes, keepdims=True), total)
        squares = _op("SquaredDifference", y, apply_op("StopGradient", input=mean))
        variance = _op("RealDiv", reduce_sum(_op("Mul", weights, squares), axes, keepdims=True), total)
        if not keep:
            places = _axes(axes, y)
            mean, variance = squeeze(mean, places), squeeze(variance, places)
        return mean, variance


def sufficient_statistics(
    x: Any, axes: Any, shift: Any = None, keep_dims: bool | None = None, name: str | None = None,
    keepdims: bool | None = None,
) -> tuple[Tensor, Tensor, Tensor, Any]:  # fmt: skip
    """The count, sum and sum of squares over `axes`, each relative to `shift`."""
    keep = bool(either("keepdims", keepdims, "keep_dims", keep_dims))
    with name_scope(name, "sufficient_statistics", [x, shift]):
        y = convert_to_tensor(x, name="x")
        places = list({axis % len(y.dims or (1,)) for axis in _axes(axes, y)})
        sizes = apply_op("GatherV2", params=shape_of(y), indices=places, axis=0)
        counts = apply_op("Cast", x=apply_op("Prod", input=sizes, reduction_indices=[0]), DstT=y.dtype.base_dtype)
        if shift is not None:
            shift = convert_to_tensor(shift, name="shift")
            terms, squares = _op("Sub", y, shift), _op("SquaredDifference", y, shift)
        else:
            terms, squares = y, apply_op("Square", x=y)
        total = reduce_sum(terms, places, keepdims=keep, name="mean_ss")
        return counts, total, reduce_sum(squares, places, keepdims=keep, name="var_ss"), shift


def normalize_moments(
    counts: Any, mean_ss: Any, variance_ss: Any, shift: Any, name: str | None = None
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The mean and variance from what `sufficient_statistics` gives."""
    with name_scope(name, "normalize", [counts, mean_ss, variance_ss, shift]):
        divisor = apply_op("Reciprocal", x=counts, name="divisor")
        shifted = _op("Mul", mean_ss, divisor, "shifted_mean" if shift is not None else "mean")
        mean = _op("AddV2", shifted, shift, "mean") if shift is not None else shifted
        variance = _op("Sub", _op("Mul", variance_ss, divisor), apply_op("Square", x=shifted), "variance")
        return mean, variance


def batch_normalization(
    x: Any, mean: Any, variance: Any, offset: Any, scale: Any, variance_epsilon: Any, name: str | None = None
) -> Tensor:  # fmt: skip
    """scale * (x - mean) / √(variance + epsilon) + offset; scale and offset may be None."""
    with name_scope(name, "batchnorm", [x, mean, variance, scale, offset]):
        y = convert_to_tensor(x)
        number = y.dtype.base_dtype
        spread = convert_to_tensor(variance, dtype=None if isinstance(variance, Tensor) else number)
        inverse = apply_op("Rsqrt", x=_op("AddV2", spread, variance_epsilon, "add"))
        if scale is not None:
            inverse = _op("Mul", inverse, scale, "mul")
        moved = (
            _op("Mul", mean, inverse, "mul")
            if isinstance(mean, Tensor)
            else _op("Mul", convert_to_tensor(mean, dtype=inverse.dtype.base_dtype), inverse, "mul")
        )
        rest = apply_op("Neg", x=moved) if offset is None else _op("Sub", offset, moved, "sub")
        factor = inverse if inverse.dtype.base_dtype is number else apply_op("Cast", x=inverse, DstT=number)
        rest = rest if rest.dtype.base_dtype is number else apply_op("Cast", x=rest, DstT=number)
        return _op("AddV2", _op("Mul", y, factor, "mul"), rest, "add_1")


def zero_fraction(value: Any, name: str | None = None) -> Tensor:
    """The share of elements that are 0, as float32; NaN for no elements."""
    with name_scope(name, "zero_fraction", [value]):
        x = convert_to_tensor(value, name="value")
        total = apply_op("Size", input=x, out_type="int64")
        zeros = _op("Sub", total, count_nonzero(x), "sub")
        parts = [apply_op("Cast", x=each, DstT="float32") for each in (zeros, total)]
        return apply_op("RealDiv", x=parts[0], y=parts[1], name="fraction")


def dropout(
    x: Any, keep_prob: Any = None, noise_shape: Any = None, seed: int | None = None, name: str | None = None,
    rate: Any = None,
) -> Tensor:  # fmt: skip
    """x with elements zeroed at random with probability `rate`, the others scaled by 1 / (1 - rate).

    noise_shape: along its dimensions of 1, elements are kept or zeroed together. ValueError unless exactly one of
    `rate` and `keep_prob` = 1 - rate is given and in [0, 1), or for integers.
    """
    if keep_prob is not None:
        if rate is not None:
            raise ValueError("Only one of `rate` and `keep_prob` may be given")
        rate = _op("Sub", 1.0, keep_prob, "sub") if isinstance(keep_prob, Tensor) else 1 - keep_prob
    if rate is None:
        raise ValueError("`rate` must be provided")
    with name_scope(name, "dropout", [x]):
        y = convert_to_tensor(x, name="x")
        number = y.dtype.base_dtype
        if not number.is_floating:
            raise ValueError(
                f"`x.dtype` must be a floating point tensor as `x` will be scaled. Received: x.dtype={y.dtype}"
            )
        if isinstance(rate, (int, float, np.number)):
            if not 0 <= rate < 1:
                raise ValueError(
                    f"`rate` must be a scalar tensor or a float in the range [0, 1). Received: rate={rate}"
                )
            if rate == 0:
                return y
            scaled = _op("Mul", y, constant(1.0 / (1.0 - float(rate)), dtype=number), "Mul")
            limit: Any = float(rate)
        else:
            limit = convert_to_tensor(rate)
            limit.shape.assert_has_rank(0)
            if limit.dtype.base_dtype is not number:
                limit = apply_op("Cast", x=limit, DstT=number)
            scaled = _op("RealDiv", y, _op("Sub", constant(1, dtype=number), limit, "Sub"))
        drawn = random_uniform(_noise_shape(y, noise_shape), dtype=number, seed=seed)
        kept = _op("GreaterEqual", drawn, limit)
        result = apply_op("SelectV2", condition=kept, t=scaled, e=constant(0.0, dtype=number))
        result.set_shape(y.shape)
        return result


def _noise_shape(x: Tensor, noise_shape: Any) -> Any:
    if noise_shape is None:
        return shape_of(x)
    if isinstance(noise_shape, Tensor) or x.dims is None:
        return noise_shape
    wanted = TensorShape(noise_shape).as_list()
    if None not in wanted or len(wanted) != len(x.dims):
        return noise_shape
    # A None in the noise shape means the extent of x.
    known = [extent if each is None else each for each, extent in zip(wanted, x.dims)]
    if None not in known:
        return known
    whole = shape_of(x)
    return [
        apply_op("StridedSlice", input=whole, begin=[k], end=[k + 1], strides=[1], shrink_axis_mask=1)
        if each is None
        else each
        for k, each in enumerate(known)
    ]


def embedding_lookup(
    params: Any, ids: Any, partition_strategy: str = "mod", name: str | None = None, validate_indices: bool = True,
    max_norm: float | None = None,
) -> Tensor:  # fmt: skip
    """Rows `ids` of a table, or of a table that is spread over several by `partition_strategy`.

    ValueError for no tables or an unknown strategy.
    """
    tables: Sequence[Any] = list(params) if isinstance(params, (list, tuple)) or _is_partitioned(params) else [params]
    if not tables:
        raise ValueError("Argument `params` should not be empty or None.")
    with name_scope(name, "embedding_lookup", [*tables, ids]) as scope:
        rows = convert_to_tensor(ids, name="ids")
        if len(tables) == 1:
            found = gather(tables[0], rows, name=scope, axis=0)
            return _clipped(apply_op("Identity", input=found), max_norm)
        return _clipped(_sharded(tables, rows, partition_strategy), max_norm)


def _is_partitioned(params: Any) -> bool:
    return hasattr(params, "_get_variable_list")


def _clipped(rows: Tensor, max_norm: float | None) -> Tensor:
    if max_norm is None:
        return rows
    from stepjit.ops.clip import clip_by_norm

    return clip_by_norm(rows, max_norm, axes=list(range(1, len(rows.dims or (0,)))))


def _sharded(tables: Sequence[Any], ids: Tensor, strategy: str) -> Tensor:
    """Rows of a table of which every tensor in `tables` holds a share."""
    count = len(tables)
    flat = apply_op("Reshape", tensor=ids, shape=[-1])
    if strategy == "mod":
        owner, local = _op("FloorMod", flat, count), _op("FloorDiv", flat, count)
    elif strategy == "div":
        sizes = [
            apply_op("StridedSlice", input=shape_of(t), begin=[0], end=[1], strides=[1], shrink_axis_mask=1)
            for t in tables
        ]
        total = apply_op("Cast", x=apply_op("AddN", inputs=sizes), DstT=flat.dtype.base_dtype)
        each, extra = _op("FloorDiv", total, count), _op("FloorMod", total, count)
        larger = _op("AddV2", each, 1)
        in_larger = _op("Mul", larger, extra)
        past = _op("FloorDiv", _op("Sub", flat, extra), each)
        owner = _op("Maximum", _op("FloorDiv", flat, larger), past)
        early = _op("Less", flat, in_larger)
        late = _op("FloorMod", _op("Sub", flat, extra), each)
        local = apply_op("SelectV2", condition=early, t=_op("FloorMod", flat, larger), e=late)
    else:
        raise ValueError(f"Unrecognized partition strategy: {strategy}. Must be one of either `mod` or `div`.")
    owner = apply_op("Cast", x=owner, DstT="int32")
    parts = apply_op("DynamicPartition", data=local, partitions=owner, num_partitions=count)
    positions = apply_op("Range", start=0, limit=apply_op("Size", input=flat), delta=1)
    places = apply_op("DynamicPartition", data=positions, partitions=owner, num_partitions=count)
    found = [gather(table, part, axis=0) for table, part in zip(tables, parts)]
    joined = apply_op("DynamicStitch", indices=places, data=found)
    rest = shape_of(found[0])
    inner = apply_op("StridedSlice", input=rest, begin=[1], end=[0], strides=[1], end_mask=1)
    shape = apply_op("ConcatV2", values=[shape_of(ids), inner], axis=0)
    return apply_op("Reshape", tensor=joined, shape=shape)
