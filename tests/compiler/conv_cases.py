"""Convolution, pooling and their gradients written out as loops over every window, to compare references with."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

Padding = str | Sequence[tuple[int, int]]


def margins(extents: Sequence[int], sizes: Sequence[int], strides: Sequence[int], padding: Padding) -> list[list[int]]:
    """(before, after) along each axis; sizes are those that windows reach over."""
    if not isinstance(padding, str):
        return [list(pair) for pair in padding]
    if padding == "VALID":
        return [[0, 0] for _ in extents]
    found = []
    for extent, size, stride in zip(extents, sizes, strides, strict=True):
        total = max((-(-extent // stride) - 1) * stride + size - extent, 0)
        found.append([total // 2, total - total // 2])
    return found


def pixels(
    shape: Sequence[int], sizes: Sequence[int], strides: Sequence[int], padding: Padding,
    rates: Sequence[int] | None = None,
) -> tuple[tuple[int, ...], Iterator[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]]:  # fmt: skip
    """Numbers of windows, and (window, place in it, pixel) for every pixel of every window that lies in the image."""
    spread = [1] * len(sizes) if rates is None else list(rates)
    spans = [(size - 1) * rate + 1 for size, rate in zip(sizes, spread, strict=True)]
    edges = margins(shape, spans, strides, padding)
    counts = tuple(
        (extent + sum(edge) - span) // stride + 1
        for extent, edge, span, stride in zip(shape, edges, spans, strides, strict=True)
    )

    def walk() -> Iterator[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
        for window in itertools.product(*map(range, counts)):
            for place in itertools.product(*map(range, sizes)):
                pixel = tuple(
                    w * stride + p * rate - edge[0]
                    for w, stride, p, rate, edge in zip(window, strides, place, spread, edges, strict=True)
                )
                if all(0 <= at < extent for at, extent in zip(pixel, shape, strict=True)):
                    yield window, place, pixel

    return counts, walk()


def conv(
    x: np.ndarray, kernel: np.ndarray, strides: Sequence[int], padding: Padding, rates: Sequence[int] | None = None
) -> np.ndarray:
    """Images with channels last under filters [*sizes, in, out]."""
    counts, every = pixels(x.shape[1:-1], kernel.shape[:-2], strides, padding, rates)
    found = np.zeros((x.shape[0], *counts, kernel.shape[-1]))
    for window, place, pixel in every:
        found[(slice(None), *window)] += x[(slice(None), *pixel)] @ kernel[place]
    return found


def depthwise(x: np.ndarray, kernel: np.ndarray, strides: Sequence[int], padding: Padding) -> np.ndarray:
    """Images under filters [height, width, channels, columns]."""
    counts, every = pixels(x.shape[1:-1], kernel.shape[:2], strides, padding)
    found = np.zeros((x.shape[0], *counts, *kernel.shape[2:]))
    for (i, j), (a, b), (h, w) in every:
        found[:, i, j] += x[:, h, w][..., None] * kernel[a, b]
    return found.reshape(*found.shape[:3], -1)


def pool(kind: str, x: np.ndarray, sizes: Sequence[int], strides: Sequence[int], padding: Padding) -> np.ndarray:
    """The `max` or `mean` of the pixels of every window."""
    counts, every = pixels(x.shape[1:-1], sizes, strides, padding)
    held: dict[tuple[int, ...], list[np.ndarray]] = {}
    for window, _, pixel in every:
        held.setdefault(window, []).append(x[(slice(None), *pixel)])
    found = np.zeros((x.shape[0], *counts, x.shape[-1]))
    for window, values in held.items():
        found[(slice(None), *window)] = getattr(np, kind)(values, axis=0)
    return found
