"""A tensor's shape: asking for it, and changing it without moving an element."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler import dims
from stepjit_compiler.dims import Dim, Extent, Symbol
from stepjit_compiler.lowering import Alias, Indexed
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text, scalar, show
from stepjit_compiler.ops.arguments import (
    as_dtype,
    axis_of,
    brief,
    extents_array,
    fresh,
    int_input,
    integer,
    integers,
    knows,
    lookup_extent,
    merge,
    total,
)  # fmt: skip

# --- Shape ---


def _shape_shape(x: Inference) -> list[ShapeLike]:
    return [(x.rank(i),) for i in range(x.count())]


def _emit_shape(k: Any, call: Any, output: int, index: Any) -> Any:
    return as_dtype(k, lookup_extent(k, index[0], call.inputs[output].dims), call.dtypes[output])


define(
    "Shape", "input: T -> output: out_type", "T: type, out_type: type in index = int32",
    infer=_shape_shape, reference=lambda call, x: extents_array(x.shape, call), lower=Indexed(_emit_shape),
    symbolic=True,
)  # fmt: skip

# --- ShapeN ---
define(
    "ShapeN", "input: N*T -> output: N*out_type", "N: int, T: type, out_type: type in index = int32",
    infer=_shape_shape, reference=lambda call, *xs: tuple(extents_array(x.shape, call) for x in xs),
    lower=Indexed(_emit_shape), symbolic=True,
)  # fmt: skip

# --- Size ---


def _number(value: Any, call: Call) -> np.ndarray:
    return extents_array([value], call).reshape(())


def _emit_size(k: Any, call: Any, output: int, index: Any) -> Any:
    return as_dtype(k, k.extent(dims.product(call.inputs[0].dims)), call.dtypes[0])


define(
    "Size", "input: T -> output: out_type", "T: type, out_type: type in index = int32",
    infer=scalar, reference=lambda call, x: _number(dims.product(x.shape), call), lower=Indexed(_emit_size),
    symbolic=True,
)  # fmt: skip

# --- Rank ---
define(
    "Rank", "input: T -> output: int32", "T: type",
    infer=scalar, reference=lambda call, x: _number(len(x.shape), call),
    lower=Indexed(lambda k, call, output, index: k.const(len(call.inputs[0].dims), call.dtypes[0])), symbolic=True,
)  # fmt: skip

# --- Reshape ---


def _reshape_shape(x: Inference) -> list[ShapeLike]:
    target = x.extents(1)
    if target is None:
        length = (x.shape(1) or (None,))[0]
        return [(None,) * length if isinstance(length, int) else None]
    source = x.shape(0)
    count = None if source is None else total(source)
    holes = [k for k, extent in enumerate(target) if extent is None or extent == -1]
    if sum(extent == -1 for extent in target) > 1:
        x.fail(f"Cannot reshape: Only one input size may be -1, not both {holes[0]} and {holes[1]}")
    for k, extent in enumerate(target):
        if isinstance(extent, int) and extent < -1:
            x.fail(f"Cannot reshape: Size {k} must be non-negative, not {extent}")
    if not holes:
        return [_same_count(x, source, count, target)]
    shape = [None if k in holes else extent for k, extent in enumerate(target)]
    if len(holes) == 1 and count is not None:
        shape[holes[0]] = _missing_extent(x, source, count, target, holes[0])
    return [tuple(shape)]


def _same_count(
    x: Inference, source: ShapeLike, count: Extent | None, target: tuple[Extent | None, ...]
) -> ShapeLike:
    wanted = total(target)
    have, want = extent_text(count), extent_text(wanted)
    x.equal(
        count, wanted,
        f"Cannot reshape a tensor with {have} elements to shape {show(target)} ({want} elements): "
        f"Input to reshape is a tensor with {have} values, but the requested shape has {want}",
    )  # fmt: skip
    return target


def _missing_extent(
    x: Inference, source: ShapeLike, count: Extent, target: tuple[Extent | None, ...], hole: int
) -> Extent | None:
    rest = total(extent for k, extent in enumerate(target) if k != hole)
    if rest is None:
        return None
    if rest == 0:
        # Zeros on both sides cancel: what is left of each side decides.
        if source is None or count != 0:
            x.equal(count, 0, f"Cannot reshape a tensor with {extent_text(count)} elements to shape {show(target)}, "
                              "which has none")  # fmt: skip
            return 0 if target[hole] == -1 else None
        inside = _without_zeros(source)
        outside = _without_zeros(tuple(extent for k, extent in enumerate(target) if k != hole))
        return inside // outside if isinstance(inside, int) and isinstance(outside, int) else None
    have, divisor = extent_text(count), extent_text(rest)
    x.check(
        "divides", count, rest,
        f"Cannot reshape a tensor of {have} elements to shape {show(target)}: "
        f"Input to reshape is a tensor with {have} values, but the requested shape requires a multiple of {divisor}",
    )  # fmt: skip
    return count // rest


def _without_zeros(shape: tuple[Extent | None, ...]) -> Extent | None:
    return total(extent for extent in shape if extent != 0)


def _reshape(call: Call, x: np.ndarray, shape: np.ndarray) -> np.ndarray:
    if np.ndim(shape) > 1:
        call.fail(f"sizes input must be 1-D, not {brief(shape.shape)}")
    sizes = integers(shape)
    holes = [k for k, size in enumerate(sizes) if size == -1]
    if len(holes) > 1:
        call.fail(f"Only one input size may be -1, not both {holes[0]} and {holes[1]}")
    for k, size in enumerate(sizes):
        if size < -1:
            call.fail(f"Size {k} must be non-negative, not {size}")
    if holes:
        sizes[holes[0]] = _fill_hole(call, x, sizes)
    wanted = int(np.prod(sizes, dtype=object)) if sizes else 1
    if wanted != x.size:
        call.fail(f"Input to reshape is a tensor with {x.size} values, but the requested shape has {wanted}")
    return fresh(x).reshape(sizes)


def _fill_hole(call: Call, x: np.ndarray, sizes: list[int]) -> int:
    rest = [size for size in sizes if size != -1]
    count, product = x.size, dims.product(tuple(rest))
    if product == 0 and count == 0:
        count = int(np.prod([extent for extent in x.shape if extent], dtype=object))
        product = int(np.prod([size for size in rest if size], dtype=object))
    if product == 0:
        return 0
    if count % product:  # type: ignore[operator]
        call.fail(
            f"Input to reshape is a tensor with {x.size} values, but the requested shape requires a multiple of "
            f"{product}"
        )
    return count // product  # type: ignore[return-value]


define(
    "Reshape", "tensor: T, shape: Tshape -> output: T", "T: type, Tshape: type in index = int32",
    infer=_reshape_shape, reference=_reshape, lower=Alias(when=lambda call: call.known(1) is not None), symbolic=True,
)  # fmt: skip

# --- ExpandDims ---


def _expand_dims_shape(x: Inference) -> list[ShapeLike]:
    shape, axis = x.shape(0), int_input(x, 1)
    if shape is None:
        return [None]
    if axis is None:
        return [(None,) * (len(shape) + 1)]
    rank = len(shape)
    if not -rank - 1 <= axis <= rank:
        x.fail(
            f"Tried to expand dim index {axis} for tensor with {rank} dimensions: "
            f"dim {axis} not in the interval [{-rank - 1}, {rank}]"
        )
    axis += rank + 1 if axis < 0 else 0
    return [(*shape[:axis], 1, *shape[axis:])]


def _expand_dims(call: Call, x: np.ndarray, dim: np.ndarray) -> np.ndarray:
    if dim.size != 1:
        call.fail(f"'dim' must be a tensor with a single value, but has {dim.size} elements")
    axis, rank = integer(dim), x.ndim
    if not -rank - 1 <= axis <= rank:
        call.fail(f"Tried to expand dim index {axis} for tensor with {rank} dimensions.")
    return np.expand_dims(fresh(x), axis)


define(
    "ExpandDims", "input: T, dim: Tdim -> output: T", "T: type, Tdim: type in index = int32",
    infer=_expand_dims_shape, reference=_expand_dims, lower=Alias(when=knows(1)), symbolic=True,
)  # fmt: skip

# --- Squeeze ---


def _squeeze_shape(x: Inference) -> list[ShapeLike]:
    shape, axes = x.shape(0), x.attrs["squeeze_dims"]
    if shape is None:
        return [None]
    rank = len(shape)
    gone = set()
    for k, axis in enumerate(axes):
        if not -rank <= axis < rank:
            x.fail(f"squeeze_dims[{k}] not in [{-rank},{rank}). Tried to squeeze dim index {axis}")
        gone.add(axis % rank)
    if not axes:
        return [None if not all(map(_one_or_not, shape)) else tuple(extent for extent in shape if extent != 1)]
    for axis in sorted(gone):
        x.equal(
            shape[axis], 1, f"Can not squeeze dim[{axis}], expected a dimension of 1, got {shape[axis]}"
        )
    return [tuple(extent for k, extent in enumerate(shape) if k not in gone)]


def _one_or_not(extent: Extent | None) -> bool:
    """Whether it is settled that the extent is 1 or that it isn't: a product of symbols is never 1."""
    if not isinstance(extent, Dim):
        return extent is not None
    if len(extent.terms) != 1:
        return False
    return all(isinstance(atom, Symbol) and atom.name.startswith("s") for atom in extent.terms[0][0])


def _squeeze(call: Call, x: np.ndarray) -> np.ndarray:
    axes = []
    for axis in call.attrs["squeeze_dims"]:
        found = axis_of(
            call, axis, x.ndim,
            lambda axis=axis: f"Tried to squeeze dim index {axis} for tensor with {x.ndim} dimensions.",  # type: ignore[misc]
        )  # fmt: skip
        if x.shape[found] != 1:
            call.fail(f"Can not squeeze dim[{found}], expected a dimension of 1, got {x.shape[found]}")
        axes.append(found)
    if not call.attrs["squeeze_dims"]:
        axes = [k for k, extent in enumerate(x.shape) if extent == 1]
    return fresh(x).reshape([extent for k, extent in enumerate(x.shape) if k not in axes])


define(
    "Squeeze", "input: T -> output: T", "T: type, squeeze_dims: list(int) = []",
    infer=_squeeze_shape, reference=_squeeze, lower=Alias(), symbolic=True,
)  # fmt: skip

# --- EnsureShape ---


def _ensure_shape_shape(x: Inference) -> list[ShapeLike]:
    shape, wanted = x.shape(0), x.attrs["shape"]
    message = f"Shape of tensor {show(shape)} is not compatible with expected shape {show(wanted)}."
    return [merge(x, shape, wanted, message)]


def _ensure_shape(call: Call, x: np.ndarray) -> np.ndarray:
    wanted = call.attrs["shape"]
    if wanted is not None:
        fits = len(wanted) == x.ndim and all(w is None or w == e for w, e in zip(wanted, x.shape, strict=True))
        if not fits:
            call.fail(
                f"Shape of tensor {call.name} {brief(x.shape)} is not compatible with expected shape {show(wanted)}."
            )
    return fresh(x)


define(
    "EnsureShape", "input: T -> output: T", "shape: shape, T: type",
    infer=_ensure_shape_shape, reference=_ensure_shape, lower=Alias(), symbolic=True,
)  # fmt: skip
