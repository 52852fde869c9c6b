"""tf.signal: frames, windows, short-time spectra, mel scales."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

G = tf.signal
X = np.random.default_rng(2).standard_normal((2, 50)).astype(np.float32)


def run(build: Any) -> Any:
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(build())


@pytest.mark.parametrize(("length", "step"), [(8, 4), (7, 3), (10, 15), (60, 5)])
def test_frames(length: int, step: int) -> None:
    starts = range(0, 50 - length + 1, step)
    want = np.array([X[:, k : k + length] for k in starts]).reshape(-1, 2, length).transpose(1, 0, 2)
    np.testing.assert_array_equal(run(lambda: G.frame(X, length, step)), want)
    filled = np.pad(X, ((0, 0), (0, 200)), constant_values=3)
    want = np.stack([filled[:, k : k + length] for k in range(0, 50, step)], 1)
    np.testing.assert_array_equal(run(lambda: G.frame(X, length, step, True, 3.0)), want)


def test_frames_of_unknown_sizes() -> None:
    x, length = tf.placeholder(tf.float32, [None, None, 3]), tf.placeholder(tf.int32, [])
    y = G.frame(x, length, 2, axis=1)
    assert y.shape.as_list() == [None, None, None, 3]
    with tf.Session() as session:
        assert session.run(y, {x: np.zeros((1, 9, 3)), length: 4}).shape == (1, 3, 4, 3)


def test_overlap_and_add_is_the_adjoint_of_frame() -> None:
    def build() -> Any:
        x = tf.constant(X[:, :47])
        framed = G.frame(x, 7, 4)
        return [G.overlap_and_add(framed, 4), tf.gradients(framed, x, framed)[0]]

    added, adjoint = run(build)
    np.testing.assert_allclose(added, adjoint, rtol=1e-6)


def test_windows() -> None:
    n = np.arange(8)
    periodic, symmetric, loud = run(lambda: [G.hann_window(8), G.hann_window(8, periodic=False), G.hamming_window(8)])
    np.testing.assert_allclose(periodic, 0.5 - 0.5 * np.cos(2 * np.pi * n / 8), atol=1e-6)
    np.testing.assert_allclose(symmetric, np.hanning(8), atol=1e-6)
    np.testing.assert_allclose(loud, 0.54 - 0.46 * np.cos(2 * np.pi * n / 8), atol=1e-6)
    assert run(lambda: G.hann_window(1)).tolist() == [1]
    with pytest.raises(ValueError, match="floating"):
        G.hann_window(4, dtype=tf.int32)


def test_spectra_and_back() -> None:
    spectra = run(lambda: G.stft(X, 16, 4))
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(16) / 16)
    np.testing.assert_allclose(spectra[:, 2], np.fft.rfft(X[:, 8:24] * window), atol=1e-4)
    back = run(lambda: G.inverse_stft(G.stft(X, 16, 4), 16, 4, window_fn=G.inverse_stft_window_fn(4)))
    np.testing.assert_allclose(back[:, 12:36], X[:, 12:36], atol=1e-5)
    assert G.stft(X, 12, 5).shape.as_list() == [2, 8, 9]


@pytest.mark.parametrize("norm", [None, "ortho"])
def test_modified_cosine_transforms_and_back(norm: str | None) -> None:
    back = run(lambda: G.inverse_mdct(G.mdct(X[:, :48], 8, norm=norm), norm=norm))
    np.testing.assert_allclose(back[:, 4:44], X[:, 4:44], atol=1e-5)


def test_mel() -> None:
    weights = run(lambda: G.linear_to_mel_weight_matrix(5, 33, 8000, 100.0, 3900.0))
    assert weights.shape == (33, 5) and (weights >= 0).all() and (weights[0] == 0).all()
    assert (np.diff(weights.argmax(0)) > 0).all() and (weights.max(0) > 0.5).all()
    flat = run(lambda: G.mfccs_from_log_mel_spectrograms(np.ones((1, 10), np.float32)))
    np.testing.assert_allclose(flat[0], [np.sqrt(20)] + [0] * 9, atol=1e-5)
    with pytest.raises(ValueError, match="Nyquist"):
        G.linear_to_mel_weight_matrix(upper_edge_hertz=5000.0)
