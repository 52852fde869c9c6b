"""Fourier and cosine transforms in TF1's signatures, with gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.registry import RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.array import concat, expand_dims, shape, squeeze
from stepjit.ops.broadcasting import static_shape
from stepjit.ops.cast import cast
from stepjit.ops.complex import real
from stepjit.ops.elementwise import cos, sqrt
from stepjit.ops.layout import roll
from stepjit.ops.linear import matmul
from stepjit.ops.math import maximum
from stepjit.ops.reductions import reduce_prod
from stepjit_runtime import dtypes

_COMPLEX = {dtypes.float32: dtypes.complex64, dtypes.float64: dtypes.complex128}
_REAL = {wide: narrow for narrow, wide in _COMPLEX.items()}


def _transform(kind: str) -> Callable[..., Tensor]:
    def function(input: Any, name: str | None = None) -> Tensor:
        return apply_op(kind, input=input, name=name)

    function.__name__ = function.__qualname__ = kind.lower()
    function.__doc__ = f"{kind} of complex numbers over the last dimensions."
    return function


fft, fft2d, fft3d = map(_transform, ("FFT", "FFT2D", "FFT3D"))
ifft, ifft2d, ifft3d = map(_transform, ("IFFT", "IFFT2D", "IFFT3D"))


def _rank(kind: str) -> int:
    return int(kind[-2]) if kind.endswith("D") else 1


def _real_transform(kind: str) -> Callable[..., Tensor]:
    inverse, rank = kind.startswith("I"), _rank(kind)

    def function(input_tensor: Any, fft_length: Any = None, name: str | None = None) -> Tensor:
        with name_scope(name, kind.lower(), [input_tensor, fft_length]) as scope:
            if inverse:
                x = convert_to_tensor(input_tensor)
                types = {"Treal": _REAL.get(x.dtype.base_dtype, dtypes.float32)}
            else:
                x = convert_to_tensor(input_tensor, preferred_dtype="float32")
                types = {"Tcomplex": _COMPLEX.get(x.dtype.base_dtype, dtypes.complex64)}
            if fft_length is None:
                fft_length = static_shape(x)[-rank:]
                if inverse:  # of as many real numbers as have this half of a spectrum
                    fft_length = concat([fft_length[:-1], maximum(0, 2 * (fft_length[-1:] - 1))], 0)
            return apply_op(kind, input=x, fft_length=fft_length, name=scope, **types)

    function.__name__ = function.__qualname__ = kind.lower()
    function.__doc__ = f"{kind} over the last dimensions, cut or filled up with zeros to `fft_length` real numbers."
    return function


rfft, rfft2d, rfft3d = map(_real_transform, ("RFFT", "RFFT2D", "RFFT3D"))
irfft, irfft2d, irfft3d = map(_real_transform, ("IRFFT", "IRFFT2D", "IRFFT3D"))


# --- gradients ---


def _count(lengths: Tensor, like: Tensor) -> Tensor:
    return cast(reduce_prod(lengths), like.dtype.base_dtype)


def _complex_grad(op: Operation, grad: Tensor) -> Tensor:
    count = _count(shape(grad)[-_rank(op.type) :], grad)
    if op.type.startswith("I"):
        return apply_op(op.type[1:], input=grad) / count
    return apply_op("I" + op.type, input=grad) * count


def _resized(x: Tensor, lengths: Tensor, rank: int) -> Tensor:
    """The last dimensions cut or filled up with zeros to the lengths."""
    have = shape(x)
    want = concat([have[:-rank], lengths], 0)
    more = maximum(want - have, 0)
    padded = apply_op("Pad", input=x, paddings=apply_op("Pack", values=[more * 0, more], axis=1))
    return apply_op("Slice", input=padded, begin=want * 0, size=want)


def _rfft_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    rank, lengths = _rank(op.type), op.inputs[1]
    whole = apply_op(op.type.replace("RFFT", "IFFT"), input=_resized(grad, lengths, rank))
    found = real(whole) * _count(lengths, op.inputs[0])
    return [_resized(found, shape(op.inputs[0])[-rank:], rank), None]


def _irfft_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    rank, lengths = _rank(op.type), op.inputs[1]
    kind = op.inputs[0].dtype.base_dtype
    half = apply_op(op.type[1:], input=grad, fft_length=lengths, Tcomplex=kind)
    # All frequencies but the first and, of an even number, the last stand for two.
    number = apply_op("Range", start=0, limit=lengths[-1] // 2 + 1, delta=1)
    single = apply_op("LogicalOr", x=apply_op("Equal", x=number, y=0), y=apply_op("Equal", x=2 * number, y=lengths[-1]))
    weight = apply_op("SelectV2", condition=single, t=constant(1.0), e=constant(2.0))
    found = half * cast(weight, kind) / _count(lengths, op.inputs[0])
    return [_resized(found, shape(op.inputs[0])[-rank:], rank), None]


for _suffix in ("", "2D", "3D"):
    RegisterGradient("FFT" + _suffix)(_complex_grad)
    RegisterGradient("IFFT" + _suffix)(_complex_grad)
    RegisterGradient("RFFT" + _suffix)(_rfft_grad)
    RegisterGradient("IRFFT" + _suffix)(_irfft_grad)


# --- shifts, cosine transforms ---


def fftshift(x: Any, axes: Any = None, name: str | None = None) -> Tensor:
    """The zero frequency moved to the middle of the axes (all by default)."""
    return _shifted(x, axes, 1, name or "fftshift")


def ifftshift(x: Any, axes: Any = None, name: str | None = None) -> Tensor:
    """What `fftshift` did is undone."""
    return _shifted(x, axes, -1, name or "ifftshift")


def _shifted(x: Any, axes: Any, sign: int, name: str) -> Tensor:
    with name_scope(name, values=[x]):
        tensor = convert_to_tensor(x)
        if tensor.dims is None:
            raise ValueError(f"{name} needs a static rank")
        chosen = [axes] if isinstance(axes, int) else list(range(len(tensor.dims)) if axes is None else axes)
        sizes = static_shape(tensor)
        shifts = [sizes[axis] // 2 if sign > 0 else -(sizes[axis] // 2) for axis in chosen]
        return roll(tensor, shifts, chosen)


def dct(
    input: Any, type: int = 2, n: int | None = None, axis: int = -1, norm: str | None = None, name: str | None = None
) -> Tensor:
    """The discrete cosine transform of type 1 to 4 over the last dimension, cut or filled up with zeros to n.

    norm: None, or "ortho" for an orthogonal matrix.
    """
    _check_dct(type, n, axis, norm)
    with name_scope(name or "dct", "dct", [input]):
        x = convert_to_tensor(input, preferred_dtype="float32")
        have = None if x.dims is None else x.dims[-1]
        if n is not None and n != have:
            x = _resized(x, constant([n]), 1)
        size = n or have or shape(x)[-1]
        matrix = cast(_cosines(type, cast(size, "float64"), norm), x.dtype.base_dtype)
        found = squeeze(matmul(expand_dims(x, -2), matrix), -2)
        if x.dims is not None:
            found.set_shape([*x.dims[:-1], n or have])
        return found


def idct(
    input: Any, type: int = 2, n: int | None = None, axis: int = -1, norm: str | None = None, name: str | None = None
) -> Tensor:
    """The inverse of `dct`, times 2n unless `norm` is "ortho"."""
    _check_dct(type, n, axis, norm)
    return dct(input, {1: 1, 2: 3, 3: 2, 4: 4}[type], n, axis, norm, name or "idct")


def _check_dct(type: int, n: int | None, axis: int, norm: str | None) -> None:
    if axis != -1:
        raise ValueError(f"axis must be -1. Got: {axis}")
    if n is not None and n < 1:
        raise ValueError("n should be a positive integer or None")
    if type not in (1, 2, 3, 4):
        raise ValueError("Types I, II, III and IV (I)DCT are supported.")
    if norm not in (None, "ortho"):
        raise ValueError(f"Unknown normalization. Expected None or 'ortho', got: {norm}")
    if type == 1 and n == 1:
        raise ValueError("DCT-I requires dimension to be greater than one.")
    if type == 1 and norm == "ortho":
        raise ValueError("Normalization is not supported for the Type-I DCT.")


def _cosines(type: int, n: Tensor, norm: str | None) -> Tensor:
    """The matrix of the transform, by input and output, in float64."""
    number = apply_op("Range", start=constant(0.0, "float64"), limit=n, delta=constant(1.0, "float64"))
    odd = 2.0 * number + 1.0
    rows, columns = {1: (number, number), 2: (odd, number), 3: (number, odd), 4: (odd, odd)}[type]
    period = {1: n - 1.0, 2: 2.0 * n, 3: 2.0 * n, 4: 4.0 * n}[type]
    matrix = 2.0 * cos(expand_dims(rows, 1) * columns * (np.pi / period))
    ends = apply_op("Equal", x=number, y=constant(0.0, "float64"))
    if type == 1:
        ends = apply_op("LogicalOr", x=ends, y=apply_op("Equal", x=number, y=n - 1.0))
    share = constant(np.sqrt(0.5) if norm else 0.5, "float64")
    scale = apply_op("SelectV2", condition=ends, t=share, e=constant(1.0, "float64"))
    if type in (1, 3):
        matrix = matrix * expand_dims(scale, 1)
    elif type == 2 and norm:
        matrix = matrix * scale
    return matrix * sqrt(0.5 / n) if norm else matrix
