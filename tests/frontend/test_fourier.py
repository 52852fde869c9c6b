"""Fourier and cosine transforms: against numpy, lengths, gradients against central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

RNG = np.random.default_rng(5)
REAL = RNG.normal(size=(2, 3, 4, 6))
HALF = np.fft.rfftn(REAL, axes=(1, 2, 3))
COMPLEX = RNG.normal(size=REAL.shape) + 1j * RNG.normal(size=REAL.shape)
AXES = {"": (-1,), "2d": (-2, -1), "3d": (-3, -2, -1)}


def run(build: Callable[[Any], Any], given: np.ndarray, shape: Any = None) -> np.ndarray:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(given.dtype, shape)
        return session.run(build(x), {x: given})


@pytest.mark.parametrize("suffix", AXES)
@pytest.mark.parametrize("wide", [False, True])
def test_complex_transforms(suffix: str, wide: bool) -> None:
    given = COMPLEX.astype(np.complex128 if wide else np.complex64)
    for name, transform in (("fft", np.fft.fftn), ("ifft", np.fft.ifftn)):
        got = run(getattr(tf.signal, name + suffix), given)
        assert got.dtype == given.dtype
        np.testing.assert_allclose(got, transform(given, axes=AXES[suffix]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("suffix", AXES)
def test_real_transforms(suffix: str) -> None:
    axes = AXES[suffix]
    for lengths in (None, [5, 3, 7][: len(axes)], [2, 6, 4][: len(axes)]):
        for shape in (None, [None, 3, 4, None]):
            got = run(lambda x, n=lengths: getattr(tf.spectral, "rfft" + suffix)(x, n), REAL, shape)
            np.testing.assert_allclose(got, np.fft.rfftn(REAL, lengths, axes=axes), atol=1e-12)
        got = run(lambda x, n=lengths: getattr(tf.spectral, "irfft" + suffix)(x, n), HALF)
        np.testing.assert_allclose(got, np.fft.irfftn(HALF, lengths, axes=axes), atol=1e-12)


def parts(x: Any) -> Any:
    """A complex tensor from a real one of twice its last extent."""
    first, second = tf.split(x, 2, -1)
    return tf.complex(first, second)


def both(x: Any) -> Any:
    return tf.concat([tf.real(x), tf.imag(x)], -1)


GRADIENTS: dict[str, Callable[[Any], Any]] = {
    "fft": lambda x: both(tf.fft(parts(x))), "ifft2d": lambda x: both(tf.ifft2d(parts(x))),
    "rfft": lambda x: both(tf.spectral.rfft(x)), "rfft, odd": lambda x: both(tf.spectral.rfft(x, [5])),
    "rfft2d": lambda x: both(tf.spectral.rfft2d(x, [3, 8])), "irfft": lambda x: tf.spectral.irfft(parts(x)),
    "irfft, odd": lambda x: tf.spectral.irfft(parts(x), [5]), "irfft2d": lambda x: tf.spectral.irfft2d(parts(x), [3, 4]),
    "dct": lambda x: tf.spectral.dct(x, norm="ortho"), "shift": lambda x: tf.signal.fftshift(x),
}  # fmt: skip


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name: str) -> None:
    given = REAL[0]
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float64, given.shape)
        y = GRADIENTS[name](x)
        loss = tf.reduce_sum(y * tf.constant(np.random.default_rng(1).normal(size=session.run(y, {x: given}).shape)))
        (gradient,) = tf.gradients(loss, [x])
        step = session.make_callable(loss, [x])
        want = np.zeros_like(given)
        for index in np.ndindex(given.shape):
            near = [given.copy(), given.copy()]
            for sign, each in zip((1, -1), near, strict=True):
                each[index] += sign * 1e-5
            want[index] = (step(near[0]) - step(near[1])) / 2e-5
        np.testing.assert_allclose(session.run(gradient, {x: given}), want, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_cosine_transforms_are_undone(kind: int) -> None:
    given = REAL[0, 0]
    scale = 2 * (given.shape[-1] - (kind == 1))
    got = run(lambda x: tf.spectral.idct(tf.spectral.dct(x, kind), kind), given, None)
    np.testing.assert_allclose(got, given * scale, atol=1e-12)
    if kind > 1:
        got = run(lambda x: tf.spectral.dct(x, kind, norm="ortho"), given, None)
        np.testing.assert_allclose((got * got).sum(), (given * given).sum())


def test_shifts() -> None:
    np.testing.assert_array_equal(run(tf.signal.fftshift, REAL, REAL.shape), np.fft.fftshift(REAL))
    np.testing.assert_array_equal(run(lambda x: tf.signal.ifftshift(x, 1), REAL, REAL.shape), np.fft.ifftshift(REAL, 1))


def test_mistakes() -> None:
    with tf.Graph().as_default():
        with pytest.raises(ValueError, match="at least rank 2"):
            tf.fft2d(tf.zeros([3], tf.complex64))
        with pytest.raises(ValueError, match="equal"):
            tf.spectral.rfft(tf.zeros([3]), [2, 2])
        with pytest.raises(ValueError, match="Type-I"):
            tf.spectral.dct(tf.zeros([3]), 1, norm="ortho")


def test_cosine_transforms_of_other_lengths() -> None:
    for n in (3, 9):
        want = run(lambda x, n=n: tf.spectral.dct(x, n=n), REAL)
        filled = np.pad(REAL, [(0, 0)] * 3 + [(0, 6)])[..., :n].copy()
        np.testing.assert_allclose(run(tf.spectral.dct, filled, filled.shape), want, atol=1e-12)
