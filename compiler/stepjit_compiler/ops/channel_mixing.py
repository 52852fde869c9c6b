"""What a convolution does at one place of its window, in numpy: a matrix for the channels of each group, and back."""

from __future__ import annotations

import numpy as np


def mixed(x: np.ndarray, matrix: np.ndarray, groups: int) -> np.ndarray:
    """The channels of x through a [inner, outer] matrix, group by group."""
    if groups == 1:
        return np.asarray(x @ matrix)
    inner, outer = matrix.shape
    parts = x.reshape(*x.shape[:-1], groups, inner)
    found = np.einsum("...gi,igo->...go", parts, matrix.reshape(inner, groups, outer // groups))
    return found.reshape(*x.shape[:-1], outer)


def unmixed(grad: np.ndarray, matrix: np.ndarray, groups: int) -> np.ndarray:
    """The gradient of `mixed` for x."""
    if groups == 1:
        return np.asarray(grad @ matrix.T)
    inner, outer = matrix.shape
    parts = grad.reshape(*grad.shape[:-1], groups, outer // groups)
    found = np.einsum("...go,igo->...gi", parts, matrix.reshape(inner, groups, outer // groups))
    return found.reshape(*grad.shape[:-1], groups * inner)


def mix_of(x: np.ndarray, grad: np.ndarray, groups: int) -> np.ndarray:
    """The gradient of `mixed` for the matrix."""
    rows, columns = x.reshape(-1, x.shape[-1]), grad.reshape(-1, grad.shape[-1])
    if groups == 1:
        return np.asarray(rows.T @ columns)
    apart = [each.reshape(len(each), groups, -1) for each in (rows, columns)]
    return np.einsum("ngi,ngo->igo", *apart).reshape(apart[0].shape[-1], -1)
