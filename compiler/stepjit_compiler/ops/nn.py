"""Biases, the L2 loss, and the largest of a row."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler.lowering import Composite
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text, scalar, show

_FORMAT = "data_format: string in NHWC|NCHW = NHWC"


# --- BiasAdd, BiasAddV1: the bias runs along the channels ---
def _channel(call: Any, rank: int) -> int:
    return 1 if call.attrs.get("data_format") == b"NCHW" else rank - 1


def _too_flat(shape: tuple[Any, ...]) -> str:
    return f"Input tensor must be at least 2D: {show(shape)}. Shape must be at least rank 2 but is rank {len(shape)}"


def _bias_shape(x: Inference) -> list[ShapeLike]:
    shape, bias = x.shape(0), x.shape(1)
    if shape is not None and len(shape) < 2:
        x.fail(_too_flat(shape))
    if bias is not None and len(bias) != 1:
        x.fail(f"Biases must be 1D: {show(bias)}. Shape must be rank 1 but is rank {len(bias)}")
    if shape is None or bias is None:
        return [shape]
    at = _channel(x, len(shape))
    text = ("Must provide as many biases as the last dimension of the input tensor: "
            f"{show(bias)} vs. {show(shape)} (Dimensions must be equal, but are {extent_text(shape[at])} and "
            f"{extent_text(bias[0])})"
            )  # fmt: skip
    extent = x.equal(shape[at], bias[0], text)
    return [(*shape[:at], extent, *shape[at + 1 :])]


def _bias_add(call: Call, value: np.ndarray, bias: np.ndarray) -> np.ndarray:
    if value.ndim < 2:
        call.fail(f"Input tensor must be at least 2D: {show(value.shape)}")
    if bias.ndim != 1:
        call.fail(f"Biases must be 1D: {show(bias.shape)}")
    at = _channel(call, value.ndim)
    if value.shape[at] != bias.shape[0]:
        call.fail("Must provide as many biases as the last dimension of the input tensor: "
                  f"{show(bias.shape)} vs. {show(value.shape)}")  # fmt: skip
    with np.errstate(all="ignore"):
        return np.asarray(value + bias.reshape(-1, *[1] * (value.ndim - 1 - at)))


def _expand_bias_add(x: Any, call: Any, value: Any, bias: Any) -> Any:
    rank = len(x.type(value).dims)
    after = rank - 1 - _channel(call, rank)
    if after:
        bias = x.op("Reshape", bias, x.dims((x.type(bias).dims[0], *[1] * after)))
    return x.op("AddV2", value, bias)


for _name, _attrs in (("BiasAdd", f"T: type in number, {_FORMAT}"), ("BiasAddV1", "T: type in number")):
    define(_name, "value: T, bias: T -> output: T", _attrs,
           infer=_bias_shape, reference=_bias_add, lower=Composite(_expand_bias_add))  # fmt: skip


# --- BiasAddGrad: the sum over all but the channels ---
def _bias_grad_shape(x: Inference) -> list[ShapeLike]:
    shape = x.shape(0)
    if shape is None:
        return [(None,)]
    if len(shape) < 2:
        x.fail(_too_flat(shape))
    return [(shape[_channel(x, len(shape))],)]


def _bias_grad(call: Call, value: np.ndarray) -> np.ndarray:
    if value.ndim < 2:
        call.fail(f"Input tensor must be at least 2D: {show(value.shape)}")
    others = _other_axes(call, value.ndim)
    wide = value.astype(np.float32) if value.dtype.itemsize == 2 and call.dtypes[0].is_floating else value
    with np.errstate(all="ignore"):
        return np.sum(wide, others, dtype=wide.dtype).astype(call.dtypes[0].np, copy=False)


def _other_axes(call: Any, rank: int) -> tuple[int, ...]:
    return tuple(axis for axis in range(rank) if axis != _channel(call, rank))


define("BiasAddGrad", "out_backprop: T -> output: T", f"T: type in number, {_FORMAT}",
       infer=_bias_grad_shape, reference=_bias_grad,
       lower=Composite(lambda x, call, value: x.reduce("Sum", value, _other_axes(call, len(x.type(value).dims)))),
       )  # fmt: skip


# --- L2Loss: half the sum of squares ---
def _l2_loss(call: Call, value: np.ndarray) -> np.ndarray:
    wide = value.astype(np.float32) if value.dtype.itemsize == 2 else value
    with np.errstate(all="ignore"):
        return np.asarray(np.sum(wide * wide) / 2).astype(call.dtypes[0].np)


def _expand_l2_loss(x: Any, call: Any, value: Any) -> Any:
    type_ = x.type(value)
    total = x.reduce("Sum", x.op("Square", value), range(len(type_.dims)))
    return x.op("Mul", total, x.const(0.5, type_.dtype))


define("L2Loss", "t: T -> output: T", "T: type in float",
       infer=scalar, reference=_l2_loss, lower=Composite(_expand_l2_loss))  # fmt: skip


# --- TopK, TopKV2: descending, the lower index first among equals; NaN counts as the largest ---
def _top_shape(x: Inference) -> list[ShapeLike]:
    shape = x.shape(0)
    k: Any = x.attrs.get("k")
    if k is None:
        extents = x.extents(1)
        k = extents[0] if extents else None
    if isinstance(k, int) and k < 0:
        x.fail(f"Need k >= 0, got {k}")
    if shape is None:
        return [None, None]
    if not shape:
        x.fail("input must be >= 1-D, got shape []. Shape must be at least rank 1 but is rank 0")
    if k is not None and shape[-1] is not None:
        have, needed = extent_text(shape[-1]), extent_text(k)
        x.check("ge", shape[-1], k, f"input must have at least k columns. Had {have}, needed {needed} "
                f"(input must have last dimension >= k = {needed} but is {have})")  # fmt: skip
    return [(*shape[:-1], k)] * 2


def _top(call: Call, x: np.ndarray, k_input: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    k = int(call.attrs["k"] if k_input is None else k_input)
    if k < 0:
        call.fail(f"Need k >= 0, got {k}")
    if not x.ndim:
        call.fail("input must be >= 1-D, got shape []")
    if x.shape[-1] < k:
        call.fail(f"input must have at least k columns. Had {x.shape[-1]}, needed {k}")
    # A stable ascending order of the reversed row, reversed, is the descending order with equals in order.
    order = np.argsort(x[..., ::-1], -1, kind="stable")[..., ::-1]
    indices = (x.shape[-1] - 1 - order)[..., :k]
    return np.take_along_axis(x, indices, -1), indices.astype(call.dtypes[1].np)


define("TopK", "input: T -> values: T, indices: int32", "k: int, sorted: bool = True, T: type in real",
       infer=_top_shape, reference=_top)  # fmt: skip
define("TopKV2", "input: T, k: Tk -> values: T, indices: index_type",
       "sorted: bool = True, T: type in real, Tk: type in int16|int32|int64 = int32, "
       "index_type: type in int16|int32|int64 = int32",
       infer=_top_shape, reference=_top)  # fmt: skip


# --- InTopK, InTopKV2: false for targets that are out of range and rows that are not finite ---
def _in_top_shape(x: Inference) -> list[ShapeLike]:
    (rows, _), (targets,) = x.with_rank(0, 2), x.with_rank(1, 1)
    text = f"First dimension of predictions {rows} must match length of targets {targets} (Dimensions must be equal)"
    return [(x.equal(rows, targets, text),)]


def _in_top(call: Call, predictions: np.ndarray, targets: np.ndarray, k_input: np.ndarray | None = None) -> np.ndarray:
    k = int(call.attrs["k"] if k_input is None else k_input)
    rows, classes = predictions.shape
    if rows != targets.shape[0]:
        call.fail(f"First dimension of predictions {rows} must match length of targets {targets.shape[0]}")
    inside = (targets >= 0) & (targets < classes)
    if not classes:
        return np.zeros(rows, bool)
    own = predictions[np.arange(rows), np.where(inside, targets, 0)]
    with np.errstate(all="ignore"):
        better = (predictions > own[:, None]).sum(1)
    return np.asarray(inside & np.isfinite(predictions).all(1) & (better < k))


define("InTopK", "predictions: float32, targets: T -> precision: bool", "k: int, T: type in index = int32",
       infer=_in_top_shape, reference=_in_top)  # fmt: skip
define("InTopKV2", "predictions: float32, targets: T, k: T -> precision: bool", "T: type in index = int32",
       infer=_in_top_shape, reference=_in_top)  # fmt: skip
