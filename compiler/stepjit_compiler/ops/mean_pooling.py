"""The mean of windows over images and volumes, and its gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepjit_compiler.lowering import Indexed
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, show
from stepjit_compiler.ops.pool_emit import emit_mean, emit_mean_spread
from stepjit_compiler.ops.pooling import (
    BACKWARD,
    FORWARD,
    IMAGES,
    PADDING,
    SIZES,
    VOLUMES,
    checked_windows,
    own_windows,
    pool_shape,
    result_shape,
)
from stepjit_compiler.ops.windows import Slide, inside, padded, taps, wide


# --- AvgPool, AvgPool3D: the mean of what of a window lies inside the image ---
def _present(shape: Sequence[int], windows: Sequence[Slide], dtype: Any) -> np.ndarray:
    """How many elements of each window are no padding, to be broadcast against the result."""
    small = [extent if axis in {each.axis for each in windows} else 1 for axis, extent in enumerate(shape)]
    ones = padded(np.ones(small, dtype), windows)
    found = np.zeros(result_shape(small, windows), dtype)
    for _, cut in taps(windows):
        found += ones[cut]
    return found


def _avg_pool(rank: int) -> Callable[..., np.ndarray]:
    def reference(call: Call, x: np.ndarray) -> np.ndarray:
        windows = checked_windows(call, x.shape, rank)
        source = padded(wide(x), windows)
        found = np.zeros(result_shape(x.shape, windows), source.dtype)
        with np.errstate(all="ignore"):
            for _, cut in taps(windows):
                found += source[cut]
            return (found / _present(x.shape, windows, found.dtype)).astype(x.dtype, copy=False)

    return reference


define("AvgPool", "value: T -> output: T", f"{SIZES}{PADDING}, {IMAGES}, T: type in float",
       infer=pool_shape(4), reference=_avg_pool(4),
       lower=Indexed(emit_mean(own_windows), when=FORWARD, cost=4))  # fmt: skip
define("AvgPool3D", "input: T -> output: T", f"{SIZES}{PADDING}, {VOLUMES}, T: type in float",
       infer=pool_shape(5), reference=_avg_pool(5),
       lower=Indexed(emit_mean(own_windows), when=FORWARD, cost=8))  # fmt: skip


# --- AvgPoolGrad, AvgPool3DGrad ---
def _avg_grad_shape(rank: int) -> Callable[[Inference], list[ShapeLike]]:
    def infer(x: Inference) -> list[ShapeLike]:
        x.with_rank(0, 1)
        sizes = x.extents(0)
        if sizes is not None and len(sizes) != rank:
            x.fail(f"Shape must be rank {rank} but is rank {len(sizes)} for '{x.op}'")
        return [tuple(sizes) if sizes is not None else (None,) * rank]

    return infer


def _avg_pool_grad(rank: int) -> Callable[..., np.ndarray]:
    def reference(call: Call, sizes: np.ndarray, grad: np.ndarray) -> np.ndarray:
        shape = tuple(int(each) for each in sizes.ravel())
        windows = checked_windows(call, shape, rank)
        want = result_shape(shape, windows)
        if grad.shape != want:
            call.fail(f"Expected grad shape to be {show(want)}, but got {show(grad.shape)}")
        g = wide(grad)
        found = padded(np.zeros(shape, g.dtype), windows)
        with np.errstate(all="ignore"):
            g = g / _present(shape, windows, g.dtype)
            for _, cut in taps(windows):
                found[cut] += g
        return np.array(inside(found, windows), grad.dtype)

    return reference


def _mean_grad_fits(call: Any) -> bool:
    image = call.types[0].dims
    return BACKWARD(call) and call.inputs[1].dims == result_shape(image, own_windows(call, image))


define("AvgPoolGrad", "orig_input_shape: int32, grad: T -> output: T", f"{SIZES}{PADDING}, {IMAGES}, T: type in float",
       infer=_avg_grad_shape(4), reference=_avg_pool_grad(4),
       lower=Indexed(emit_mean_spread(own_windows), when=_mean_grad_fits, cost=4))  # fmt: skip
define("AvgPool3DGrad", "orig_input_shape: int32, grad: T -> output: T",
       f"{SIZES}{PADDING}, {VOLUMES}, T: type in float",
       infer=_avg_grad_shape(5), reference=_avg_pool_grad(5),
       lower=Indexed(emit_mean_spread(own_windows), when=_mean_grad_fits, cost=8))  # fmt: skip
