"""Arrays that gradient cases start from: small, of odd extents, away from kinks."""

from __future__ import annotations

import numpy as np

RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def apart(*shape: int) -> np.ndarray:
    """Numbers well apart from each other and from 0, so that a small step changes no order."""
    return (RNG.permutation(int(np.prod(shape))) - np.prod(shape) / 2 + 0.25).reshape(shape) * 0.13


def single(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32)


X = apart(3, 5)
Y = apart(3, 5) + 0.05
POS = np.abs(normal(3, 5)) + 0.4
UNIT = np.tanh(normal(3, 5)) * 0.8
ROW = apart(5) + 0.03
COLUMN = apart(3, 1) + 0.07
CUBE = apart(2, 3, 4)
NONE = np.zeros((0, 5))
C = normal(3, 4) + 1j * normal(3, 4)
D = normal(3, 4) + 1j * normal(3, 4)
SQUARE = 2 * np.eye(3) + 0.4 * normal(2, 3, 3)
COMPLEX_SQUARE = SQUARE + 0.3j * normal(2, 3, 3)
