"""Connectionist temporal classification: the beam search decoder."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterable

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_compiler.ops.ctc import check_lengths

_NEVER = -math.inf


def _log_add(a: float, b: float) -> float:
    high, low = (a, b) if a > b else (b, a)
    return high if low == _NEVER else high + math.log1p(math.exp(low - high))


class _Path:
    """A prefix of labels, with the log probabilities that it ends in its last label, in a blank, and at all."""

    __slots__ = ("before_blank", "before_total", "blank", "children", "ending", "label", "parent", "total")

    def __init__(self, parent: _Path | None, label: int) -> None:
        self.parent, self.label = parent, label
        self.children: dict[int, _Path] = {}
        self.before_blank = self.before_total = _NEVER
        self.drop()

    def drop(self) -> None:
        """The path is not in the beam any more."""
        self.total = self.blank = self.ending = _NEVER

    def labels(self, merge: bool) -> list[int]:
        """The labels, equal neighbours once if `merge`."""
        found: list[int] = []
        path, last = self, -1
        while path.parent is not None:
            if not merge or path.label != last:
                found.append(path.label)
            path, last = path.parent, path.label
        return found[::-1]


class _Beam:
    """The best prefixes of one sequence, up to `width` of them."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.order = itertools.count()
        root = _Path(None, -1)
        root.total = root.blank = 0.0
        self.heap = [(0.0, 0, root)]

    def step(self, log_y: np.ndarray) -> None:
        """Take in one frame of log probabilities, the last of which is the blank's."""
        old = sorted((path for _, _, path in self.heap), key=lambda path: -path.total)
        self.heap = []
        by_label = log_y.tolist()
        for path in old:
            path.before_total, path.before_blank = path.total, path.blank
        for path in old:
            self._stay(path, by_label)
        for path in old:
            if self._fits(path.before_total):
                self._grow(path, log_y)

    def _stay(self, path: _Path, log_y: list[float]) -> None:
        """The frame says the last label again, or a blank."""
        parent = path.parent
        if parent is not None:
            if parent.total != _NEVER:
                before = parent.before_blank if path.label == parent.label else parent.before_total
                path.ending = _log_add(path.ending, before)
            path.ending += log_y[path.label]
        path.blank = path.before_total + log_y[-1]
        path.total = _log_add(path.blank, path.ending)
        heapq.heappush(self.heap, (path.total, next(self.order), path))

    def _fits(self, total: float) -> bool:
        return total > _NEVER and (len(self.heap) < self.width or total > self.heap[0][0])

    def _grow(self, path: _Path, log_y: np.ndarray) -> None:
        """The frame says another label."""
        scores = log_y[:-1] + path.before_total
        if path.label >= 0:
            scores[path.label] = log_y[path.label] + path.before_blank
        labels: Iterable[int] = range(len(scores))
        if len(self.heap) == self.width:
            # The others can't get in; but a path that was dropped in this frame must not grow once it is known here.
            labels = sorted({*np.flatnonzero(scores > self.heap[0][0]).tolist(), *path.children})
        for label in labels:
            child = path.children.get(label)
            if child is None:
                child = path.children[label] = _Path(path, label)
            if child.total != _NEVER:
                continue
            score = float(scores[label])
            if self._fits(score):
                child.total = child.ending = score
                if len(self.heap) == self.width:
                    heapq.heappop(self.heap)[2].drop()
                heapq.heappush(self.heap, (score, next(self.order), child))
            else:
                child.before_blank = child.before_total = _NEVER


# --- CTCBeamSearchDecoder ---
def _shapes(x: Inference) -> list[ShapeLike]:
    inputs, lengths = x.with_rank(0, 3), x.with_rank(1, 1)
    batch = x.equal(inputs[1], lengths[0], "len(sequence_length) != batch_size: Dimensions must be equal")
    paths = x.attrs["top_paths"]
    return [*[(None, 2)] * paths, *[(None,)] * paths, *[(2,)] * paths, (batch, paths)]


def _decoded(call: Call, inputs: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, ...]:
    check_lengths(call, inputs, lengths)
    batch, paths, width = inputs.shape[1], call.attrs["top_paths"], call.attrs["beam_width"]
    if paths > width:
        call.fail(f"top_paths ({paths}) must not be greater than beam_width ({width})")
    scores = np.zeros((batch, paths), inputs.dtype)
    rows: list[list[list[int]]] = [[] for _ in range(paths)]
    for k in range(batch):
        logits = inputs[: lengths[k], k].astype(np.float64)
        beam = _Beam(width)
        for frame in logits:
            top = frame.max()
            beam.step(frame - (top + np.log(np.exp(frame - top).sum())))
        best = sorted((path for _, _, path in beam.heap), key=lambda path: -path.total)
        if len(best) < paths:
            call.fail("Less leaves in the beam search than requested.")
        for p, path in enumerate(best[:paths]):
            scores[k, p] = path.total
            rows[p].append(path.labels(call.attrs["merge_repeated"]))
    sparse = [_as_sparse(each) for each in rows]
    return *(each[0] for each in sparse), *(each[1] for each in sparse), *(each[2] for each in sparse), scores


def _as_sparse(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    places = [(k, at) for k, row in enumerate(rows) for at in range(len(row))]
    values = [label for row in rows for label in row]
    shape = (len(rows), max(map(len, rows), default=0))
    return np.array(places, np.int64).reshape(-1, 2), np.array(values, np.int64), np.array(shape, np.int64)


define(
    "CTCBeamSearchDecoder",
    "inputs: T, sequence_length: int32 -> decoded_indices: top_paths*int64, decoded_values: top_paths*int64, "
    "decoded_shape: top_paths*int64, log_probability: T",
    "beam_width: int, top_paths: int, merge_repeated: bool = True, T: type in float32|float64 = float32",
    infer=_shapes, reference=_decoded,
)  # fmt: skip
