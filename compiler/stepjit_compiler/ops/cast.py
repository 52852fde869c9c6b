"""From one dtype to another: by value, or by bits."""

from __future__ import annotations

import numpy as np

from stepjit_compiler.dims import Dim
from stepjit_compiler.lowering import Elementwise
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text, unchanged


# --- Cast: floats are cut towards zero, integers wrap, anything but 0 is true ---
def _cast(call: Call, x: np.ndarray) -> np.ndarray:
    target = call.dtypes[0]
    if x.dtype == object and target.is_integer:
        if target.itemsize < 4 and any(isinstance(each, Dim) for each in x.ravel()):
            raise TypeError("an extent may not fit")
        return x
    if x.dtype.kind == "c" and not target.is_complex:
        x = x.real if not target.is_bool else x != 0
    if target.is_integer and x.dtype.kind not in "iub":
        return _cut(x, target.np)
    with np.errstate(all="ignore"):
        if target.is_floating and target.itemsize == 2 and x.dtype == np.float64:
            x = x.astype(np.float32)  # TensorFlow rounds twice here
        return x.astype(target.np)


def _cut(x: np.ndarray, target: np.dtype) -> np.ndarray:
    """As x86 converts: by way of int32 or int64, where what is out of range or NaN becomes the smallest number."""
    wide = np.dtype(np.int64 if target.itemsize == 8 or target == np.uint32 else np.int32)
    half = 2.0 ** (wide.itemsize * 8 - 1)
    x = x.astype(np.float64)
    with np.errstate(all="ignore"):
        fits = (x >= -half) & (x < half)
        cut = np.where(fits, np.where(fits, x, 0).astype(wide), np.iinfo(wide).min)
        if target == np.uint64:
            upper = (x >= half) & (x < 2 * half)
            shifted = np.where(upper, x - half, 0).astype(wide) ^ np.iinfo(wide).min
            cut = np.where(upper, shifted, cut)
        return np.asarray(cut).astype(target)


define("Cast", "x: SrcT -> y: DstT", "SrcT: type, DstT: type, Truncate: bool = False",
       infer=unchanged, reference=_cast, symbolic=True,
       lower=Elementwise(lambda b, call, x: b.convert(x, call.dtypes[0])))  # fmt: skip


# --- Bitcast: a narrower dtype adds a dimension, a wider one takes the last ---
def _bitcast_shape(x: Inference) -> list[ShapeLike]:
    shape, have, want = x.shape(0), x.dtypes[0].size, x.attrs["type"].size
    if shape is None or have == want:
        return [shape]
    if have > want:
        return [(*shape, have // want)]
    if not shape:
        x.fail(f"Cannot bitcast due to shape: a scalar has too few bytes, {have} of {want}")
    x.equal(shape[-1], want // have, f"Cannot bitcast from {x.dtypes[0].name} to {x.attrs['type'].name}: "
            f"the last extent is {extent_text(shape[-1])}, not {want // have}")  # fmt: skip
    return [shape[:-1]]


def _bitcast(call: Call, x: np.ndarray) -> np.ndarray:
    target = call.dtypes[0].np
    have, want = x.dtype.itemsize, target.itemsize
    if have < want and (not x.ndim or x.shape[-1] * have != want):
        call.fail(f"Cannot bitcast from {x.dtype} to {target}: the shape does not fit")
    shape = x.shape if have == want else (*x.shape, have // want) if have > want else x.shape[:-1]
    return np.frombuffer(x.tobytes(), target).reshape(shape).copy()


_PLAIN = "float|int|complex|qint8|quint8|qint16|quint16|qint32"
define("Bitcast", "input: T -> output: type", f"T: type in {_PLAIN}, type: type in {_PLAIN}",
       infer=_bitcast_shape, reference=_bitcast,
       lower=Elementwise(lambda b, call, x: b.bitcast(x, call.dtypes[0]),
                         when=lambda call: call.dtypes[0].size == call.inputs[0].dtype.size))  # fmt: skip
