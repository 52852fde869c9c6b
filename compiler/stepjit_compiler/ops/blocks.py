"""Blocks of space against depth or batch, and patches of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepjit_compiler.dims import Extent
from stepjit_compiler.lowering import Composite
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text
from stepjit_compiler.ops.arguments import filled, fresh, integers, ints_input, knows
from stepjit_runtime import dtypes

# --- SpaceToDepth, DepthToSpace ---


def _axes(attrs: Any) -> tuple[int, int, int]:
    """Height, width and depth."""
    return (2, 3, 1) if attrs["data_format"] == b"NCHW" else (1, 2, 3)


def _space_message(shape: Sequence[Any], h: int, w: int, block: int) -> str:
    width, height = extent_text(shape[w]), extent_text(shape[h])
    return f"Image width {width} and height {height} should be divisible by block_size: {block}"


def _space_to_depth_shape(x: Inference) -> list[ShapeLike]:
    shape, block, (h, w, c) = x.with_rank(0, 4), x.attrs["block_size"], _axes(x.attrs)
    for axis in (h, w):
        x.check("divides", shape[axis], block, _space_message(shape, h, w, block))
    found = list(shape)
    found[h], found[w] = _over(shape[h], block), _over(shape[w], block)
    found[c] = _times(shape[c], block * block)
    return [tuple(found)]


def _over(extent: Extent | None, by: int) -> Extent | None:
    return None if extent is None else extent // by


def _times(extent: Extent | None, by: int) -> Extent | None:
    return None if extent is None else extent * by


def _depth_to_space_shape(x: Inference) -> list[ShapeLike]:
    shape, block, (h, w, c) = x.with_rank(0, 4), x.attrs["block_size"], _axes(x.attrs)
    x.check("divides", shape[c], block * block, _depth_message(shape[c], block))
    found = list(shape)
    found[h], found[w] = _times(shape[h], block), _times(shape[w], block)
    found[c] = _over(shape[c], block * block)
    return [tuple(found)]


def _depth_message(depth: Any, block: int) -> str:
    return f"Input depth dimension {extent_text(depth)} should be divisible by: {block * block}"


def _space_to_depth_plan(shape: Sequence[Any], attrs: Any) -> tuple[list[Any], list[int]]:
    """The shape with the blocks as axes of their own, and the order that puts them next to depth."""
    b = attrs["block_size"]
    if attrs["data_format"] == b"NCHW":
        n, c, h, w = shape
        return [n, c, h // b, b, w // b, b], [0, 3, 5, 1, 2, 4]
    n, h, w, c = shape
    return [n, h // b, b, w // b, b, c], [0, 1, 3, 2, 4, 5]


def _depth_to_space_plan(shape: Sequence[Any], attrs: Any) -> tuple[list[Any], list[int]]:
    b = attrs["block_size"]
    if attrs["data_format"] == b"NCHW":
        n, c, h, w = shape
        return [n, b, b, c // (b * b), h, w], [0, 3, 4, 1, 5, 2]
    n, h, w, c = shape
    return [n, h, w, b, b, c // (b * b)], [0, 1, 3, 2, 4, 5]


def _rearranged(x: Any, value: Any, plan: tuple[list[Any], list[int]], shape: Sequence[Extent]) -> Any:
    """Reshape, transpose, reshape, as ops."""
    apart, order = plan
    turned = x.op("Transpose", x.op("Reshape", value, x.dims(apart)), x.const(order, dtypes.int32))
    return x.op("Reshape", turned, x.dims(shape))


def _check_image(call: Call, x: np.ndarray) -> None:
    if x.ndim != 4:
        call.fail(f"Input rank should be 4 instead of {x.ndim}")
    if call.attrs["data_format"] == b"NCHW_VECT_C":
        call.fail("Only NHWC and NCHW data formats are supported on CPU", 12)


def _space_to_depth(call: Call, x: np.ndarray) -> np.ndarray:
    _check_image(call, x)
    block, (h, w, c) = call.attrs["block_size"], _axes(call.attrs)
    if x.shape[h] % block or x.shape[w] % block:
        call.fail(_space_message(x.shape, h, w, block))
    shape = list(x.shape)
    shape[h], shape[w], shape[c] = shape[h] // block, shape[w] // block, shape[c] * block * block
    apart, order = _space_to_depth_plan(x.shape, call.attrs)
    return fresh(x.reshape(apart).transpose(order)).reshape(shape)


def _depth_to_space(call: Call, x: np.ndarray) -> np.ndarray:
    _check_image(call, x)
    block, (h, w, c) = call.attrs["block_size"], _axes(call.attrs)
    if x.shape[c] % (block * block):
        call.fail(_depth_message(x.shape[c], block))
    shape = list(x.shape)
    shape[h], shape[w], shape[c] = shape[h] * block, shape[w] * block, shape[c] // (block * block)
    apart, order = _depth_to_space_plan(x.shape, call.attrs)
    return fresh(x.reshape(apart).transpose(order)).reshape(shape)


_BLOCK_ATTRS = "T: type, block_size: int, data_format: string in NHWC|NCHW|NCHW_VECT_C = 'NHWC'"


def _four_axes(call: Any) -> bool:
    return call.attrs["data_format"] != b"NCHW_VECT_C"


for _name, _infer, _reference, _plan in (
    ("SpaceToDepth", _space_to_depth_shape, _space_to_depth, _space_to_depth_plan),
    ("DepthToSpace", _depth_to_space_shape, _depth_to_space, _depth_to_space_plan),
):

    def _expand(x: Any, call: Any, value: Any, plan: Any = _plan) -> Any:
        return _rearranged(x, value, plan(call.inputs[0].dims, call.attrs), call.types[0].dims)

    define(
        _name, "input: T -> output: T", _BLOCK_ATTRS,
        infer=_infer, reference=_reference, lower=Composite(_expand, when=_four_axes),
    )  # fmt: skip

# --- SpaceToBatchND, BatchToSpaceND, SpaceToBatch, BatchToSpace ---


def _space_to_batch_shape(x: Inference, blocks: Sequence[int] | None, margins: Sequence[int] | None) -> list[ShapeLike]:
    shape = x.shape(0)
    if shape is None or blocks is None or margins is None:
        return [_without_margins(shape, blocks, _times)]
    _check_blocks(x, shape, blocks, margins)
    found = list(shape)
    for k, block in enumerate(blocks):
        extent = found[k + 1]
        padded = None if extent is None else extent + margins[2 * k] + margins[2 * k + 1]
        x.check("divides", padded, block, _uneven(k, padded, block))
        found[k + 1] = None if padded is None else padded // block
        found[0] = _times(found[0], block)
    return [tuple(found)]


def _without_margins(shape: ShapeLike, blocks: Sequence[int] | None, batch: Callable[[Any, int], Any]) -> ShapeLike:
    """What is known of the result when the paddings or crops are not."""
    if shape is None or blocks is None or len(shape) <= len(blocks) or min(blocks, default=1) < 1:
        return None if shape is None else (None,) * len(shape)
    return (batch(shape[0], int(np.prod(blocks))), *(None,) * len(blocks), *shape[len(blocks) + 1 :])


def _check_blocks(x: Any, shape: Sequence[Any], blocks: Sequence[int], margins: Sequence[int]) -> None:
    if len(shape) < len(blocks) + 1:
        x.fail(f"input rank should be >= {len(blocks) + 1} instead of {len(shape)}")
    if len(margins) != 2 * len(blocks):
        x.fail(f"paddings should have shape [{len(blocks)}, 2]")
    for k, block in enumerate(blocks):
        if block < 1:
            x.fail(f"All values in block_shape must be positive, got value, {block} at index {k}")
    if any(margin < 0 for margin in margins):
        x.fail(f"Paddings must be non-negative: paddings cannot be negative, got {list(margins)}")


def _uneven(k: int, extent: Any, block: int) -> str:
    return f"padded_shape[{k}]={extent_text(extent)} is not divisible by block_shape[{k}]={block}"


def _batch_to_space_shape(x: Inference, blocks: Sequence[int] | None, margins: Sequence[int] | None) -> list[ShapeLike]:
    shape = x.shape(0)
    if shape is None or blocks is None or margins is None:
        return [_without_margins(shape, blocks, _over)]
    _check_blocks(x, shape, blocks, margins)
    whole = int(np.prod(blocks))
    x.check("divides", shape[0], whole, _odd_batch(shape[0], whole))
    found = list(shape)
    found[0] = _over(shape[0], whole)
    for k, block in enumerate(blocks):
        extent = _times(shape[k + 1], block)
        left = None if extent is None else extent - margins[2 * k] - margins[2 * k + 1]
        x.check("ge", left, 0, f"cropped_shape[{k}]={extent_text(left)} must be non-negative")
        found[k + 1] = left
    return [tuple(found)]


def _odd_batch(batch: Any, whole: int) -> str:
    return f"Input batch dimension ({extent_text(batch)}) is not divisible by product of block sizes ({whole})"


def _to_batch_plan(shape: Sequence[Any], blocks: Sequence[int]) -> tuple[list[Any], list[int]]:
    m = len(blocks)
    apart = [shape[0]]
    for extent, block in zip(shape[1:], blocks, strict=False):
        apart += [extent // block, block]
    apart += shape[m + 1 :]
    order = [*range(2, 2 * m + 1, 2), 0, *range(1, 2 * m, 2), *range(2 * m + 1, len(apart))]
    return apart, order


def _to_space_plan(shape: Sequence[Any], blocks: Sequence[int]) -> tuple[list[Any], list[int]]:
    m = len(blocks)
    apart = [*blocks, shape[0] // int(np.prod(blocks)), *shape[1:]]
    order = [m]
    for k in range(m):
        order += [m + 1 + k, k]
    return apart, [*order, *range(2 * m + 1, len(apart))]


def _to_batch(call: Call, x: np.ndarray, blocks: list[int], margins: list[int]) -> np.ndarray:
    _check_blocks(call, x.shape, blocks, margins)
    m = len(blocks)
    padded = list(x.shape)
    for k, block in enumerate(blocks):
        padded[k + 1] += margins[2 * k] + margins[2 * k + 1]
        if padded[k + 1] % block:
            call.fail(_uneven(k, padded[k + 1], block))
    wide = filled(padded, x.dtype)
    inside = [slice(None)] + [slice(margins[2 * k], margins[2 * k] + x.shape[k + 1]) for k in range(m)]
    wide[tuple(inside)] = x
    apart, order = _to_batch_plan(padded, blocks)
    shape = [padded[0] * int(np.prod(blocks)), *(padded[k + 1] // b for k, b in enumerate(blocks)), *padded[m + 1 :]]
    return fresh(wide.reshape(apart).transpose(order)).reshape(shape)


def _to_space(call: Call, x: np.ndarray, blocks: list[int], margins: list[int]) -> np.ndarray:
    _check_blocks(call, x.shape, blocks, margins)
    m, whole = len(blocks), int(np.prod(blocks))
    if x.shape[0] % whole:
        call.fail(_odd_batch(x.shape[0], whole))
    apart, order = _to_space_plan(x.shape, blocks)
    shape = [x.shape[0] // whole, *(x.shape[k + 1] * b for k, b in enumerate(blocks)), *x.shape[m + 1 :]]
    wide = x.reshape(apart).transpose(order).reshape(shape)
    inside = [slice(None)]
    for k in range(m):
        left = shape[k + 1] - margins[2 * k] - margins[2 * k + 1]
        if left < 0:
            call.fail(f"cropped_shape[{k}]={extent_text(left)} must be non-negative")
        inside.append(slice(margins[2 * k], margins[2 * k] + left))
    return fresh(wide[tuple(inside)])


def _expand_to_batch(x: Any, call: Any, value: Any, blocks: list[int], margins: list[int]) -> Any:
    shape = list(call.inputs[0].dims)
    rest = [0, 0] * (len(shape) - len(blocks) - 1)
    widths = np.array([0, 0, *margins, *rest], np.int32).reshape(-1, 2)
    for k in range(len(blocks)):
        shape[k + 1] = shape[k + 1] + margins[2 * k] + margins[2 * k + 1]
    padded = x.op("Pad", value, x.const(widths, dtypes.int32)) if any(margins) else value
    return _rearranged(x, padded, _to_batch_plan(shape, blocks), call.types[0].dims)


def _expand_to_space(x: Any, call: Any, value: Any, blocks: list[int], margins: list[int]) -> Any:
    shape = call.inputs[0].dims
    whole = [shape[0] // int(np.prod(blocks)), *(extent * b for extent, b in zip(shape[1:], blocks, strict=False))]
    whole += shape[len(blocks) + 1 :]
    wide = _rearranged(x, value, _to_space_plan(shape, blocks), whole)
    if not any(margins):
        return wide
    begin = [0, *margins[::2], *[0] * (len(shape) - len(blocks) - 1)]
    return x.op("Slice", wide, x.const(begin, dtypes.int32), x.dims(call.types[0].dims))


for _name, _shape, _reference_of, _expand_of, _margins in (
    ("SpaceToBatch", _space_to_batch_shape, _to_batch, _expand_to_batch, "paddings"),
    ("BatchToSpace", _batch_to_space_shape, _to_space, _expand_to_space, "crops"),
):

    def _nd_shape(x: Inference, rule: Any = _shape) -> Any:
        return rule(x, ints_input(x, 1), ints_input(x, 2))

    def _square_shape(x: Inference, rule: Any = _shape) -> Any:
        x.with_rank(0, 4)
        return rule(x, [x.attrs["block_size"]] * 2, ints_input(x, 1))

    def _nd(call: Call, x: np.ndarray, blocks: np.ndarray, margins: np.ndarray, move: Any = _reference_of) -> Any:
        return move(call, x, integers(blocks), integers(margins))

    def _square(call: Call, x: np.ndarray, margins: np.ndarray, move: Any = _reference_of) -> Any:
        return move(call, x, [call.attrs["block_size"]] * 2, integers(margins))

    def _expand_nd(x: Any, call: Any, value: Any, blocks: Any, margins: Any, expand: Any = _expand_of) -> Any:
        return expand(x, call, value, integers(call.known(1)), integers(call.known(2)))

    def _expand_square(x: Any, call: Any, value: Any, margins: Any, expand: Any = _expand_of) -> Any:
        return expand(x, call, value, [call.attrs["block_size"]] * 2, integers(call.known(1)))

    _kind = "Tpaddings" if _margins == "paddings" else "Tcrops"
    define(
        _name + "ND", f"input: T, block_shape: Tblock_shape, {_margins}: {_kind} -> output: T",
        f"T: type, Tblock_shape: type in index = int32, {_kind}: type in index = int32",
        infer=_nd_shape, reference=_nd, lower=Composite(_expand_nd, when=knows(1, 2)),
    )  # fmt: skip
    _kind = "Tpaddings" if _margins == "paddings" else "Tidx"
    _attrs = [f"{_kind}: type in index = int32", "block_size: int"]
    define(
        _name, f"input: T, {_margins}: {_kind} -> output: T",
        ", ".join(["T: type", *(_attrs if _margins == "paddings" else _attrs[::-1])]),
        infer=_square_shape, reference=_square, lower=Composite(_expand_square, when=knows(1)),
    )  # fmt: skip
