"""Batch normalisation in one op, normalisation across neighbouring channels, and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepjit_compiler import dims, opdef
from stepjit_compiler.lowering import Composite
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text, show
from stepjit_compiler.ops.windows import channel_axis, wide
from stepjit_runtime import dtypes


def _native(call: Any) -> bool:
    return all(dtype in opdef.NATIVE for dtype in call.dtypes) and all(t.dtype in opdef.NATIVE for t in call.inputs)


# --- Shapes ---


def _other_axes(call: Any, rank: int) -> tuple[int, ...]:
    return tuple(axis for axis in range(rank) if axis != channel_axis(call.attrs, rank))


def _image(x: Inference, i: int) -> tuple[Any, ...] | None:
    shape = x.shape(i)
    volumes = x.op.endswith("V3")
    if shape is not None and len(shape) != 4 and not (volumes and len(shape) == 5):
        wanted = "4 or 5" if volumes else "4"
        x.fail(f"input must be {wanted}-dimensional{show(shape)}: Shape must be rank 4 but is rank {len(shape)}")
    return shape


def _channels(x: Inference, depth: Any, names: Sequence[tuple[int, str]]) -> Any:
    """The number of channels that the vectors and the image agree on."""
    for i, name in names:
        have = x.with_rank(i, 1)[0]
        a, b = extent_text(have), extent_text(depth)
        depth = x.equal(
            depth, have, f"{name} must have the same number of elements as the channels of x, got {a} and {b} "
            f"(Dimensions must be equal, but are {b} and {a})",
        )  # fmt: skip
    return depth


def _norm_shape(x: Inference) -> list[ShapeLike]:
    shape = _image(x, 0)
    axis = None if shape is None else channel_axis(x.attrs, len(shape))
    names = [(1, "scale"), (2, "offset")]
    if not x.attrs["is_training"]:
        names += [(3, "When is_training=false, mean"), (4, "When is_training=false, variance")]
    depth = _channels(x, None if shape is None or axis is None else shape[axis], names)
    whole = None if shape is None or axis is None else (*shape[:axis], depth, *shape[axis + 1 :])
    found: list[ShapeLike] = [whole, *[(depth,)] * 4]
    return [*found, ()] if x.op == "FusedBatchNormV3" else found


def _column(vector: np.ndarray, call: Any, rank: int) -> np.ndarray:
    """A vector over the channels, to be broadcast against the image."""
    return vector.reshape(-1, *[1] * (rank - 1 - channel_axis(call.attrs, rank)))


# --- FusedBatchNorm, FusedBatchNormV2, FusedBatchNormV3 ---
def _check_vectors(call: Call, x: np.ndarray, vectors: Sequence[tuple[str, np.ndarray]]) -> None:
    if x.ndim not in ((4, 5) if call.name.endswith("V3") else (4,)):
        call.fail(f"input must be 4{' or 5' if call.name.endswith('V3') else ''}-dimensional{show(x.shape)}")
    depth = x.shape[channel_axis(call.attrs, x.ndim)]
    for name, vector in vectors:
        if vector.ndim != 1:
            call.fail(f"{name} must be 1-dimensional{show(vector.shape)}")
        if vector.size != depth:
            call.fail(f"{name} must have the same number of elements as the channels of x, got {vector.size} and "
                      f"{depth}")  # fmt: skip


def _batch_norm(call: Call, image: np.ndarray, *vectors: np.ndarray) -> tuple[np.ndarray, ...]:
    scale, offset, mean, variance = vectors
    training = call.attrs["is_training"]
    named = [("scale", scale), ("offset", offset)]
    if not training or mean.size:
        prefix = "" if training else "When is_training=false, "
        named += [(prefix + "mean", mean), (prefix + "variance", variance)]
    _check_vectors(call, image, named)
    x = wide(image)
    with np.errstate(all="ignore"):
        if training:
            kept = _statistics(call, x)
            found = _running(call, x, kept, (mean, variance))
        else:
            kept = (mean, variance)
            found = (mean, variance)
        centre, spread = (_column(wide(each), call, x.ndim) for each in kept)
        factor = _column(wide(scale), call, x.ndim) / np.sqrt(spread + np.float32(call.attrs["epsilon"]))
        y = (x - centre) * factor + _column(wide(offset), call, x.ndim)
    number = call.dtypes[1].np
    saved = kept if training else (np.zeros_like(mean), np.zeros_like(variance))
    outputs = (y.astype(image.dtype), *(np.array(each, number) for each in (*found, *saved)))
    return (*outputs, np.zeros((), number)) if len(call.dtypes) == 6 else outputs


def _statistics(call: Call, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the variance of the batch; those of no elements are 0, as TF keeps them for the gradient."""
    axes = _other_axes(call, x.ndim)
    depth = x.shape[channel_axis(call.attrs, x.ndim)]
    if not x.size:
        return np.zeros(depth, x.dtype), np.zeros(depth, x.dtype)
    mean = np.mean(x, axes)
    return mean, np.mean(np.square(x - _column(mean, call, x.ndim)), axes)


def _running(
    call: Call, x: np.ndarray, found: tuple[np.ndarray, np.ndarray], old: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the unbiased variance, averaged with the old ones by exponential_avg_factor."""
    mean, variance = found
    if not x.size:
        return np.full_like(mean, np.nan), np.full_like(variance, np.nan)
    count = x.size // max(mean.size, 1)
    variance = variance * np.float32(count / max(count - 1, 1))
    factor = np.float32(call.attrs["exponential_avg_factor"])
    if factor == 1 or not old[0].size:
        return mean, variance
    return (1 - factor) * old[0] + factor * mean, (1 - factor) * old[1] + factor * variance


def _wide_column(x: Any, call: Any, vector: Any, rank: int) -> Any:
    """The vector as an op that broadcasts against the image."""
    after = rank - 1 - channel_axis(call.attrs, rank)
    return x.op("Reshape", vector, x.dims((x.type(vector).dims[0], *[1] * after))) if after else vector


def _number(x: Any, value: Any, dtype: Any) -> Any:
    """A count, which may depend on feeds, as a float."""
    return x.op("Cast", x.dims(value, dtypes.int64), DstT=dtype)


def _expand_batch_norm(x: Any, call: Any, image: Any, scale: Any, offset: Any, mean: Any, variance: Any) -> Any:
    type_ = x.type(image)
    rank, number = len(type_.dims), type_.dtype
    axes = _other_axes(call, rank)
    if call.attrs["is_training"]:
        kept = centre = x.reduce("Mean", image, axes)
        spread = x.reduce("Mean", x.op("SquaredDifference", image, _wide_column(x, call, centre, rank)), axes)
        found = _expand_running(x, call, image, (centre, spread), (mean, variance))
        saved = (kept, spread)
    else:
        centre, spread = mean, variance
        found = (x.op("Identity", mean), x.op("Identity", variance))
        zeros = x.op("ZerosLike", mean)
        saved = (zeros, zeros)
    inverse = x.op("Rsqrt", x.op("AddV2", spread, x.const(call.attrs["epsilon"], number)))
    factor = _wide_column(x, call, x.op("Mul", inverse, scale), rank)
    moved = x.op("Sub", image, _wide_column(x, call, centre, rank))
    y = x.op("AddV2", x.op("Mul", moved, factor), _wide_column(x, call, offset, rank))
    outputs = (y, *found, *saved)
    return (*outputs, x.const(0, number)) if len(call.dtypes) == 6 else outputs


def _expand_running(x: Any, call: Any, image: Any, found: tuple[Any, Any], old: tuple[Any, Any]) -> tuple[Any, Any]:
    type_ = x.type(image)
    number = type_.dtype
    count = dims.product(tuple(type_.dims[axis] for axis in _other_axes(call, len(type_.dims))))
    mean, spread = found
    share = x.op("RealDiv", _number(x, count, number), _number(x, dims.maximum(count - 1, 1), number))
    variance = x.op("Mul", spread, share)
    factor = call.attrs["exponential_avg_factor"]
    if factor == 1 or x.type(old[0]).dims == (0,):
        return mean, variance

    def blend(before: Any, now: Any) -> Any:
        kept = x.op("Mul", before, x.const(1 - factor, number))
        return x.op("AddV2", kept, x.op("Mul", now, x.const(factor, number)))

    return blend(old[0], mean), blend(old[1], variance)


def _norm_is_native(call: Any) -> bool:
    """Also asks that the statistics to be averaged with have the size that they must have."""
    old = call.inputs[3].dims
    fits = old == (0,) or old == call.types[1].dims
    return _native(call) and (fits or (call.attrs["is_training"] and call.attrs["exponential_avg_factor"] == 1))


_NORM = "epsilon: float = 0.0001, exponential_avg_factor: float = 1.0, "
_OUTPUTS = "y: T, batch_mean: {0}, batch_variance: {0}, reserve_space_1: {0}, reserve_space_2: {0}"
_FORMATS = {"": "NHWC|NCHW", "V2": "NHWC|NCHW", "V3": "NHWC|NCHW|NDHWC|NCDHW"}

for _version, _types, _u, _more in (
    ("", "T: type in float32", "T", ""),
    ("V2", "T: type in float32|float16|bfloat16, U: type in float32", "U", ""),
    ("V3", "T: type in float32|float16|bfloat16, U: type in float32|bfloat16", "U", ", reserve_space_3: U"),
):
    define(
        f"FusedBatchNorm{_version}",
        f"x: T, scale: {_u}, offset: {_u}, mean: {_u}, variance: {_u} -> {_OUTPUTS.format(_u)}{_more}",
        f"{_types}, {_NORM}data_format: string in {_FORMATS[_version]} = NHWC, is_training: bool = True",
        infer=_norm_shape, reference=_batch_norm, lower=Composite(_expand_batch_norm, when=_norm_is_native),
    )  # fmt: skip


# --- FusedBatchNormGrad, FusedBatchNormGradV2, FusedBatchNormGradV3: by the mean and variance that were used ---
def _norm_grad_shape(x: Inference) -> list[ShapeLike]:
    shape, other = _image(x, 0), _image(x, 1)
    if shape is not None and other is not None and len(shape) == len(other):
        shape = tuple(x.equal(a, b, f"x and y_backprop must have same shape, but x has shape {show(other)} and "
                              f"y_backprop has shape {show(shape)}") for a, b in zip(shape, other))  # fmt: skip
    depth = None if shape is None else shape[channel_axis(x.attrs, len(shape))]
    depth = _channels(x, depth, [(2, "scale"), (3, "saved mean"), (4, "saved variance")])
    return [shape, (depth,), (depth,), (0,), (0,)]


def _batch_norm_grad(
    call: Call, grad: np.ndarray, image: np.ndarray, scale: np.ndarray, mean: np.ndarray, variance: np.ndarray,
    *rest: np.ndarray,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    if grad.shape != image.shape:
        shapes = f"x has shape {show(image.shape)} and y_backprop has shape {show(grad.shape)}"
        call.fail(f"x and y_backprop must have same shape, but {shapes}")
    _check_vectors(call, image, [("scale", scale), ("saved mean", mean), ("saved variance", variance)])
    x, g, axes = wide(image), wide(grad), _other_axes(call, image.ndim)
    count = max(x.size // max(scale.size, 1), 1)
    with np.errstate(all="ignore"):
        moved = x - _column(wide(mean), call, x.ndim)
        inverse = 1 / np.sqrt(wide(variance) + np.float32(call.attrs["epsilon"]))
        total, along = g.sum(axes), (g * moved).sum(axes)
        out = g
        if call.attrs["is_training"]:
            slope = _column(along / count * inverse * inverse, call, x.ndim)
            out = g - _column(total / count, call, x.ndim) - moved * slope
        out = out * _column(wide(scale) * inverse, call, x.ndim)
    number = call.dtypes[1].np
    empty = np.zeros(0, number)
    return out.astype(image.dtype), (along * inverse).astype(number), total.astype(number), empty, empty


def _expand_batch_norm_grad(x: Any, call: Any, grad: Any, image: Any, scale: Any, *rest: Any) -> Any:
    mean, variance = rest[:2]
    type_ = x.type(image)
    rank, number, axes = len(type_.dims), type_.dtype, _other_axes(call, len(type_.dims))
    moved = x.op("Sub", image, _wide_column(x, call, mean, rank))
    inverse = x.op("Rsqrt", x.op("AddV2", variance, x.const(call.attrs["epsilon"], number)))
    total, along = x.reduce("Sum", grad, axes), x.reduce("Sum", x.op("Mul", grad, moved), axes)
    out = grad
    if call.attrs["is_training"]:
        count = _number(x, dims.product(tuple(type_.dims[axis] for axis in axes)), number)
        slope = x.op("RealDiv", x.op("Mul", along, x.op("Square", inverse)), count)
        out = x.op("Sub", grad, _wide_column(x, call, x.op("RealDiv", total, count), rank))
        out = x.op("Sub", out, x.op("Mul", moved, _wide_column(x, call, slope, rank)))
    out = x.op("Mul", out, _wide_column(x, call, x.op("Mul", scale, inverse), rank))
    empty = x.const(np.zeros(0), number)
    return out, x.op("Mul", along, inverse), total, empty, empty


for _version, _types, _u, _more, _left in (
    ("", "T: type in float32", "T", "", "3: T, reserve_space_4: T"),
    ("V2", "T: type in float32|float16|bfloat16, U: type in float32", "U", "", "3: U, reserve_space_4: U"),
    ("V3", "T: type in float32|float16|bfloat16, U: type in float32", "U", ", reserve_space_3: U",
     "4: U, reserve_space_5: U"),
):  # fmt: skip
    define(
        f"FusedBatchNormGrad{_version}",
        f"y_backprop: T, x: T, scale: {'float32' if _version else 'T'}, reserve_space_1: {_u}, reserve_space_2: {_u}"
        f"{_more} -> x_backprop: T, scale_backprop: {_u}, offset_backprop: {_u}, reserve_space_{_left}",
        f"{_types}, epsilon: float = 0.0001, data_format: string in {_FORMATS[_version]} = NHWC, "
        "is_training: bool = True",
        infer=_norm_grad_shape, reference=_batch_norm_grad, lower=Composite(_expand_batch_norm_grad, when=_native),
    )  # fmt: skip


# --- BatchNormWithGlobalNormalization ---
def _global_norm(
    call: Call, t: np.ndarray, mean: np.ndarray, variance: np.ndarray, beta: np.ndarray, gamma: np.ndarray
) -> np.ndarray:
    with np.errstate(all="ignore"):
        factor = 1 / np.sqrt(variance + np.asarray(call.attrs["variance_epsilon"], variance.dtype))
        if call.attrs["scale_after_normalization"]:
            factor = factor * gamma
        return np.asarray((t - mean) * factor + beta).astype(call.dtypes[0].np)


def _expand_global_norm(x: Any, call: Any, t: Any, mean: Any, variance: Any, beta: Any, gamma: Any) -> Any:
    number = x.type(t).dtype
    factor = x.op("Rsqrt", x.op("AddV2", variance, x.const(call.attrs["variance_epsilon"], number)))
    if call.attrs["scale_after_normalization"]:
        factor = x.op("Mul", factor, gamma)
    return x.op("AddV2", x.op("Mul", x.op("Sub", t, mean), factor), beta)


def _global_norm_shape(x: Inference) -> list[ShapeLike]:
    shape = x.with_rank(0, 4)
    depth = _channels(x, shape[3], [(1, "mean"), (2, "var"), (3, "beta"), (4, "gamma")])
    return [(*shape[:3], depth)]


define("BatchNormWithGlobalNormalization", "t: T, m: T, v: T, beta: T, gamma: T -> result: T",
       "T: type in float, variance_epsilon: float, scale_after_normalization: bool",
       infer=_global_norm_shape, reference=_global_norm,
       lower=Composite(_expand_global_norm, when=_native))  # fmt: skip


# --- LRN, LRNGrad: over the channels up to depth_radius away on either side ---
_LRN = "depth_radius: int = 5, bias: float = 1.0, alpha: float = 1.0, beta: float = 0.5, "
_LRN += "T: type in float16|bfloat16|float32 = float32"


def _band(depth: int, radius: int, dtype: Any) -> np.ndarray:
    """The matrix that sums over neighbours."""
    at = np.arange(depth)
    return (np.abs(at[:, None] - at) <= radius).astype(dtype)


def _lrn_norm(call: Call, x: np.ndarray) -> np.ndarray:
    sums = np.square(x) @ _band(x.shape[-1], call.attrs["depth_radius"], x.dtype)
    return np.asarray(sums * np.asarray(call.attrs["alpha"], x.dtype) + np.asarray(call.attrs["bias"], x.dtype))


def _lrn(call: Call, image: np.ndarray) -> np.ndarray:
    if image.ndim != 4:
        call.fail("in must be 4-dimensional")
    x = wide(image)
    with np.errstate(all="ignore"):
        return np.asarray(x * _lrn_norm(call, x) ** np.asarray(-call.attrs["beta"], x.dtype)).astype(image.dtype)


def _lrn_grad(call: Call, grad: np.ndarray, image: np.ndarray, output: np.ndarray) -> np.ndarray:
    if not grad.ndim == image.ndim == output.ndim == 4:
        call.fail("inputs must be 4-dimensional")
    if not grad.shape == image.shape == output.shape:
        call.fail("input_grads, input_image, and out_image should have the same shape")
    g, x, y = wide(grad), wide(image), wide(output)
    alpha, beta = call.attrs["alpha"], call.attrs["beta"]
    with np.errstate(all="ignore"):
        norm = _lrn_norm(call, x)
        around = (g * y / norm) @ _band(x.shape[-1], call.attrs["depth_radius"], x.dtype)
        found = g * norm ** np.asarray(-beta, x.dtype) - np.asarray(2 * alpha * beta, x.dtype) * x * around
        return np.asarray(found).astype(image.dtype)


def _expand_around(x: Any, call: Any, value: Any) -> Any:
    """The sums over neighbouring channels, as a product with a band of ones."""
    type_ = x.type(value)
    depth = type_.dims[-1]
    band = x.const(_band(depth, call.attrs["depth_radius"], type_.dtype.np), type_.dtype)
    flat = x.op("Reshape", value, x.dims((dims.product(type_.dims[:-1]), depth)))
    return x.op("Reshape", x.op("MatMul", flat, band), x.dims(type_.dims))


def _expand_norm(x: Any, call: Any, image: Any) -> Any:
    number = x.type(image).dtype
    sums = _expand_around(x, call, x.op("Square", image))
    return x.op("AddV2", x.op("Mul", sums, x.const(call.attrs["alpha"], number)), x.const(call.attrs["bias"], number))


def _expand_fall(x: Any, call: Any, norm: Any) -> Any:
    """norm to the power of -beta; the usual ones by square roots."""
    beta = call.attrs["beta"]
    if beta in (0.5, 0.75):
        root = x.op("Rsqrt", norm)
        return root if beta == 0.5 else x.op("Mul", root, x.op("Sqrt", root))
    return x.op("Pow", norm, x.const(-beta, x.type(norm).dtype))


def _expand_lrn(x: Any, call: Any, image: Any) -> Any:
    return x.op("Mul", image, _expand_fall(x, call, _expand_norm(x, call, image)))


def _expand_lrn_grad(x: Any, call: Any, grad: Any, image: Any, output: Any) -> Any:
    number, norm = x.type(image).dtype, _expand_norm(x, call, image)
    around = _expand_around(x, call, x.op("RealDiv", x.op("Mul", grad, output), norm))
    own = x.op("Mul", grad, _expand_fall(x, call, norm))
    share = x.op("Mul", x.const(2 * call.attrs["alpha"] * call.attrs["beta"], number), image)
    return x.op("Sub", own, x.op("Mul", share, around))


def _few_channels(call: Any) -> bool:
    depth = call.inputs[0].dims[-1]
    return _native(call) and isinstance(depth, int) and 0 < depth <= 1024


def _images(count: int) -> Callable[[Inference], list[ShapeLike]]:
    def infer(x: Inference) -> list[ShapeLike]:
        shape = x.with_rank(0, 4)
        for i in range(1, count):
            shape = tuple(
                x.equal(a, b, "input_grads, input_image, and out_image should have the same shape")
                for a, b in zip(shape, x.with_rank(i, 4), strict=True)
            )
        return [shape]

    return infer


define("LRN", "input: T -> output: T", _LRN,
       infer=_images(1), reference=_lrn, lower=Composite(_expand_lrn, when=_few_channels))  # fmt: skip
define("LRNGrad", "input_grads: T, input_image: T, output_image: T -> output: T", _LRN,
       infer=_images(3), reference=_lrn_grad, lower=Composite(_expand_lrn_grad, when=_few_channels))  # fmt: skip
