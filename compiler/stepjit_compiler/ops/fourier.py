"""Fourier transforms of the last one, two or three dimensions, complex and real, by numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_compiler.ops.arguments import at_least, integers

_TYPES = "Tcomplex: type in complex = complex64"


def _complex_shape(rank: int) -> Callable[[Inference], list[ShapeLike]]:
    return lambda x: [at_least(x, 0, rank)]


def _complex(transform: Any, rank: int) -> Callable[[Call, np.ndarray], np.ndarray]:
    axes = tuple(range(-rank, 0))

    def reference(call: Call, x: np.ndarray) -> np.ndarray:
        if x.ndim < rank:
            call.fail(f"Input must have rank of at least {rank} but got: {x.shape}")
        found = transform(x, axes=axes) if x.size else x.copy()
        return np.asarray(found).astype(call.dtypes[0].np, copy=False)

    return reference


def _real_shape(rank: int, inverse: bool) -> Callable[[Inference], list[ShapeLike]]:
    def infer(x: Inference) -> list[ShapeLike]:
        shape, lengths = at_least(x, 0, rank), x.extents(1)
        x.equal((x.with_rank(1, 1))[0], rank, f"fft_length must have shape [{rank}]: Dimensions must be equal")
        if shape is None:
            return [None]
        if lengths is None or len(lengths) != rank:
            return [(*shape[:-rank], *[None] * rank)]
        last = lengths[-1]
        return [(*shape[:-rank], *lengths[:-1], last if inverse or last is None else last // 2 + 1)]

    return infer


def _real(transform: Any, rank: int) -> Callable[..., np.ndarray]:
    """Inputs shorter than the transform are filled up with zeros, longer ones cut."""
    axes = tuple(range(-rank, 0))

    def reference(call: Call, x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        if x.ndim < rank:
            call.fail(f"Input must have rank of at least {rank} but got: {x.shape}")
        if lengths.shape != (rank,):
            call.fail(f"fft_length must have shape [{rank}]")
        sizes = integers(lengths)
        if min(sizes) < 0:
            call.fail(f"fft_length must be >= 0, got {sizes}")
        if not x.size or 0 in sizes:
            last = sizes[-1] if transform is np.fft.irfftn or not sizes[-1] else sizes[-1] // 2 + 1
            return np.zeros((*x.shape[:-rank], *sizes[:-1], last), call.dtypes[0].np)
        return np.asarray(transform(x, s=sizes, axes=axes)).astype(call.dtypes[0].np, copy=False)

    return reference


for _rank, _suffix in ((1, ""), (2, "2D"), (3, "3D")):
    # --- FFT, FFT2D, FFT3D and their inverses ---
    for _name, _transform in (("FFT", np.fft.fftn), ("IFFT", np.fft.ifftn)):
        define(_name + _suffix, "input: Tcomplex -> output: Tcomplex", _TYPES,
               infer=_complex_shape(_rank), reference=_complex(_transform, _rank))  # fmt: skip
    # --- RFFT, RFFT2D, RFFT3D and their inverses ---
    _real_types = f"Treal: type in float32|float64 = float32, {_TYPES}"
    define("RFFT" + _suffix, "input: Treal, fft_length: int32 -> output: Tcomplex", _real_types,
           infer=_real_shape(_rank, False), reference=_real(np.fft.rfftn, _rank))  # fmt: skip
    define("IRFFT" + _suffix, "input: Tcomplex, fft_length: int32 -> output: Treal", _real_types,
           infer=_real_shape(_rank, True), reference=_real(np.fft.irfftn, _rank))  # fmt: skip
