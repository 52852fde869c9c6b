"""One step of a Kalman filter: 4 states, 2 measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.workloads.base import Arrays, Call, Workload

STEP = 0.1
F = np.array([[1, 0, STEP, 0], [0, 1, 0, STEP], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32)
H = np.array([[1, 0, 0, 0], [0, 1, 0, 0]], np.float32)
Q = np.eye(4, dtype=np.float32) * np.float32(0.01)
R = np.eye(2, dtype=np.float32) * np.float32(0.1)


def _step(xp: Any, x: Any, p: Any, z: Any, inverse: Any) -> Any:
    f, h, q, r = (xp.asarray(each, dtype=x.dtype) for each in (F, H, Q, R))
    x = f @ x
    p = f @ p @ f.T + q
    gain = p @ h.T @ inverse(h @ p @ h.T + r)
    return x + gain @ (z - h @ x), p - gain @ h @ p


class Kalman(Workload):
    """Predict and update; the 2x2 inverse written out."""

    name = "kalman"
    title = "Kalman step: 4 states, 2 measurements, 2x2 inverse written out"
    tolerance = 1e-4

    def inputs(self, rng: np.random.Generator) -> Arrays:
        half = rng.normal(size=(4, 4))
        covariance = (half @ half.T + np.eye(4)).astype(np.float32)
        return rng.normal(size=(4, 1)).astype(np.float32), covariance, rng.normal(size=(2, 1)).astype(np.float32)

    def inverse(self, tf: Any, s: Any) -> Any:
        """TF1 code of a 2x2 inverse."""
        a, b, c, d = s[0, 0], s[0, 1], s[1, 0], s[1, 1]
        return tf.stack([tf.stack([d, -b]), tf.stack([-c, a])]) / (a * d - b * c)

    def graph(self, tf: Any, inputs: Arrays, *placeholders: Any) -> Sequence[Any]:
        x, p, z = placeholders
        f, h, q, r = (tf.constant(each) for each in (F, H, Q, R))
        x = tf.matmul(f, x)
        p = tf.matmul(tf.matmul(f, p), f, transpose_b=True) + q
        ph = tf.matmul(p, h, transpose_b=True)
        gain = tf.matmul(ph, self.inverse(tf, tf.matmul(h, ph) + r))
        return [x + tf.matmul(gain, z - tf.matmul(h, x)), p - tf.matmul(tf.matmul(gain, h), p)]

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax
        import jax.numpy as jnp

        def inverse(s: Any) -> Any:
            a, b, c, d = s[0, 0], s[0, 1], s[1, 0], s[1, 1]
            return jnp.stack([jnp.stack([d, -b]), jnp.stack([-c, a])]) / (a * d - b * c)

        return {"jit": (jax.jit(lambda x, p, z: _step(jnp, x, p, z, inverse)), inputs)}

    def numba(self, inputs: Arrays) -> Mapping[str, Call]:
        import numba

        f, h, q, r = F, H, Q, R

        @numba.njit
        def product(a: Any, b: Any) -> Any:
            out = np.zeros((a.shape[0], b.shape[1]), np.float32)
            for i in range(a.shape[0]):
                for k in range(a.shape[1]):
                    for j in range(b.shape[1]):
                        out[i, j] += a[i, k] * b[k, j]
            return out

        @numba.njit
        def step(x: Any, p: Any, z: Any) -> Any:
            x = product(f, x)
            p = product(product(f, p), f.T) + q
            ph = product(p, h.T)
            s = product(h, ph) + r
            inverse = np.empty((2, 2), np.float32)
            scale = np.float32(1) / (s[0, 0] * s[1, 1] - s[0, 1] * s[1, 0])
            inverse[0, 0], inverse[0, 1] = s[1, 1] * scale, -s[0, 1] * scale
            inverse[1, 0], inverse[1, 1] = -s[1, 0] * scale, s[0, 0] * scale
            gain = product(ph, inverse)
            return x + product(gain, z - product(h, x)), p - product(product(gain, h), p)

        return {"array": (step, inputs), "tuned": (_tuned(numba), inputs)}

    def numpy(self, inputs: Arrays) -> Mapping[str, Call]:
        return {"numpy": (lambda x, p, z: _step(np, x, p, z, np.linalg.inv), inputs)}

    def expected(self, *inputs: Any) -> Sequence[np.ndarray]:
        x, p, z = (each.astype(float) for each in inputs)
        return _step(np, x, p, z, np.linalg.inv)


def _tuned(numba: Any) -> Any:
    """All of it in scalar loops over three scratch arrays: what somebody who minds every microsecond writes."""
    f, h, q, r = F, H, Q, R

    @numba.njit
    def step(x: Any, p: Any, z: Any) -> Any:
        fp, pp, out_p = np.empty((4, 4), np.float32), np.empty((4, 4), np.float32), np.empty((4, 4), np.float32)
        ph, hp, out_x = np.empty((4, 2), np.float32), np.empty((2, 4), np.float32), np.empty((4, 1), np.float32)
        zero = np.float32(0)
        for i in range(4):
            out_x[i, 0] = zero
            for j in range(4):
                out_x[i, 0] += f[i, j] * x[j, 0]
                total = zero
                for k in range(4):
                    total += f[i, k] * p[k, j]
                fp[i, j] = total
        for i in range(4):
            for j in range(4):
                total = q[i, j]
                for k in range(4):
                    total += fp[i, k] * f[j, k]
                pp[i, j] = total
        for i in range(4):
            for j in range(2):
                left, right = zero, zero
                for k in range(4):
                    left += pp[i, k] * h[j, k]
                    right += h[j, k] * pp[k, i]
                ph[i, j], hp[j, i] = left, right
        s00, s01, s10, s11 = r[0, 0], r[0, 1], r[1, 0], r[1, 1]
        e0, e1 = z[0, 0], z[1, 0]
        for k in range(4):
            s00 += h[0, k] * ph[k, 0]
            s01 += h[0, k] * ph[k, 1]
            s10 += h[1, k] * ph[k, 0]
            s11 += h[1, k] * ph[k, 1]
            e0 -= h[0, k] * out_x[k, 0]
            e1 -= h[1, k] * out_x[k, 0]
        scale = np.float32(1) / (s00 * s11 - s01 * s10)
        for i in range(4):
            g0 = (ph[i, 0] * s11 - ph[i, 1] * s10) * scale
            g1 = (ph[i, 1] * s00 - ph[i, 0] * s01) * scale
            out_x[i, 0] += g0 * e0 + g1 * e1
            for j in range(4):
                out_p[i, j] = pp[i, j] - g0 * hp[0, j] - g1 * hp[1, j]
        return out_x, out_p

    return step


class KalmanInverse(Kalman):
    """The same with the library's inverse."""

    name = "kalman_inverse"
    title = "the same with tf.matrix_inverse"

    def inverse(self, tf: Any, s: Any) -> Any:
        return tf.matrix_inverse(s)

    def jax(self, inputs: Arrays) -> Mapping[str, Call]:
        import jax
        import jax.numpy as jnp

        return {"jit": (jax.jit(lambda x, p, z: _step(jnp, x, p, z, jnp.linalg.inv)), inputs)}

    def numba(self, inputs: Arrays) -> Mapping[str, Call]:
        return {}


WORKLOADS = (Kalman(), KalmanInverse())
