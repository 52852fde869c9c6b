"""A gradient case, and how it is checked: against central differences, first and second order at once.

One step gives a random projection of the op's outputs, a random projection of the gradients of that, and the gradients
of both; moving each element of each input tells what these should be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf


@dataclass(frozen=True)
class Case:
    """An op of a type, or another function, of its differentiable inputs."""

    kind: str
    build: Callable[..., Any]
    arrays: tuple[np.ndarray, ...]
    note: str = ""
    none: tuple[int, ...] = ()
    """The inputs for which there is no gradient."""
    second: bool | None = True
    """Whether the gradient can be differentiated again; None where it can, but not with the right result."""
    unknown: bool = False
    """Whether the placeholders leave all extents open."""

    @property
    def name(self) -> str:
        return ", ".join(filter(None, [self.kind, self.note]))


def of(kind: str, names: str, *arrays: Any, note: str = "", **rest: Any) -> Case:
    """The case of one op: `names` are those of its differentiable inputs, `rest` are options, other inputs and attrs."""
    options = {key: rest.pop(key) for key in ("none", "second", "unknown") if key in rest}

    def build(*inputs: Any) -> Any:
        return getattr(tf.raw_ops, kind)(**dict(zip(names.split(), inputs, strict=True)), **rest)

    return Case(kind, build, tuple(np.asarray(array) for array in arrays), note, **options)


def by(kind: str, build: Callable[..., Any], *arrays: Any, note: str = "", **options: Any) -> Case:
    """The case of an op that `build` makes, with others around it."""
    return Case(kind, build, tuple(np.asarray(array) for array in arrays), note, **options)


class _Projection:
    """A weighted sum of all elements of some tensors and half their squares.

    Squares let the gradients of linear ops depend on where they are taken.
    """

    def __init__(self, tensors: Sequence[Any], draw: np.random.Generator) -> None:
        self.tensors = [each for each in tensors if each.dtype.is_floating or each.dtype.is_complex]
        # One weight for all elements where only the step knows how many there are.
        sizes = [each.shape.as_list() if each.shape.is_fully_defined() else [] for each in self.tensors]
        self.weights = [
            (draw.normal(size=size) + (1j * draw.normal(size=size) if each.dtype.is_complex else 0)).astype(
                each.dtype.as_numpy_dtype
            )
            for each, size in zip(self.tensors, sizes)
        ]

    def gradients(self, xs: Sequence[Any]) -> list[Any]:
        """Its gradients by xs."""
        # Of complex numbers it is Re(conj(w) z + conj(w) z^2 / 2).
        starts = [
            (1.0 + tf.conj(each)) * weight if each.dtype.is_complex else (1.0 + each) * weight
            for each, weight in zip(self.tensors, self.weights)
        ]
        return tf.gradients(self.tensors, list(xs), grad_ys=starts)

    def value(self, arrays: Sequence[np.ndarray]) -> float:
        """It itself, of the values of the tensors."""
        terms = [np.sum(np.conj(w) * (a + 0.5 * a * a)).real for a, w in zip(arrays, self.weights)]
        return float(sum(terms))


def _directions(array: np.ndarray) -> list[complex]:
    return [1.0, 1j] if array.dtype.kind == "c" else [1.0]


def _differences(
    values: Callable[..., tuple[float, float]], arrays: Sequence[np.ndarray], width: float
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The derivatives of two values by every element of their inputs."""
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for k, array in enumerate(arrays):
        slopes = np.zeros((2, *array.shape), complex)
        for at in np.ndindex(array.shape):
            for direction in _directions(array):
                ends = []
                for sign in (1, -1):
                    moved = array.copy()
                    moved[at] += sign * width * direction
                    ends.append(values(*arrays[:k], moved, *arrays[k + 1 :]))
                for order in (0, 1):
                    slopes[(order, *at)] += (ends[0][order] - ends[1][order]) / (2 * width) * direction
        for order in (0, 1):
            found[order].append(slopes[order] if array.dtype.kind == "c" else slopes[order].real)
    return found


def _dense(grads: Sequence[Any], feeds: Sequence[Any]) -> list[Any]:
    return [tf.zeros_like(x) if grad is None else tf.convert_to_tensor(grad) for grad, x in zip(grads, feeds)]


def check(case: Case) -> None:
    """Assert that an op's gradient, and the gradient of that, are what central differences say."""
    single = any(array.dtype == np.float32 for array in case.arrays)
    width, tolerance = (1e-2, 2e-2) if single else (1e-5, 1e-6)
    for label, result, want in compare(case, width):
        assert result.shape == want.shape
        scale = max(1.0, np.abs(want).max(initial=0.0))
        np.testing.assert_allclose(result, want, rtol=tolerance, atol=tolerance * scale, err_msg=label)


def compare(case: Case, width: float) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """For each order and input the gradient and the central differences."""
    draw = np.random.default_rng(5)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        feeds = [tf.placeholder(a.dtype, [None] * a.ndim if case.unknown else a.shape) for a in case.arrays]
        made = case.build(*feeds)
        first = _Projection(list(made) if isinstance(made, (list, tuple)) else [made], draw)
        assert not case.kind or case.kind in {op.type for op in graph.get_operations()}
        grads = first.gradients(feeds)
        assert tuple(k for k, grad in enumerate(grads) if grad is None) == case.none
        slopes = _dense(grads, feeds)
        second = _Projection(slopes, draw)
        again: list[Any] = []
        if case.second:
            again = _dense(second.gradients(feeds), feeds)
        elif case.second is False:
            with pytest.raises((LookupError, ValueError)):
                second.gradients(feeds)
        step = session.make_callable([first.tensors, slopes, again], feeds)

        def values(*arrays: np.ndarray) -> tuple[float, float]:
            outputs, gradients, _ = step(*arrays)
            return first.value(outputs), second.value(gradients)

        found = [each for part in step(*case.arrays)[1:] for each in part]
        wanted = _differences(values, case.arrays, width)
    for result, array in zip(found, [*case.arrays, *case.arrays]):
        assert result.dtype == array.dtype
    labels = [f"order {order}, input {k}" for order in (1, 2) for k in range(len(feeds))]
    rows = list(zip(labels, found, [*wanted[0], *wanted[1]]))
    return [row for k, row in enumerate(rows) if k % len(feeds) not in case.none]
