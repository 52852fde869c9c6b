"""Edit distances between the rows of sparse tensors."""

from __future__ import annotations

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_compiler.ops.arguments import brief
from stepjit_compiler.ops.sparse import check_parts, sparse_input
from stepjit_runtime.errors import INTERNAL

# --- EditDistance ---


def _distances_shape(x: Inference) -> list[ShapeLike]:
    sparse_input(x, 0)
    sparse_input(x, 3)
    mine, theirs = x.extents(2), x.extents(5)
    if mine is None or theirs is None:
        return [None]
    both = zip(mine[:-1], theirs[:-1])
    return [tuple([max(a, b) if isinstance(a, int) and isinstance(b, int) else None for a, b in both])]


def _sequences(indices: np.ndarray, values: np.ndarray) -> dict[tuple[int, ...], np.ndarray]:
    """The values by the indices on all axes but the last."""
    found: dict[tuple[int, ...], list[int]] = {}
    for k, row in enumerate(indices[:, :-1].tolist()):
        found.setdefault(tuple(row), []).append(k)
    return {row: values[places] for row, places in found.items()}


def _distance(a: np.ndarray, b: np.ndarray) -> int:
    """The least number of insertions, removals and replacements that turn one sequence into the other."""
    row = np.arange(len(b) + 1)
    places = np.arange(len(b) + 1)
    for k, each in enumerate(a):
        replaced = row[:-1] + (b != each)
        best = np.concatenate([[k + 1], np.minimum(replaced, row[1:] + 1)])
        # An insertion adds 1 to the entry on the left.
        row = np.minimum.accumulate(best - places) + places
    return int(row[-1])


def _distances(call: Call, *arrays: np.ndarray) -> np.ndarray:
    mine, truth = arrays[:3], arrays[3:]
    check_parts(call, mine[0], mine[1], mine[2], names="hypothesis_")
    check_parts(call, truth[0], truth[1], truth[2], names="truth_")
    if len(truth[2]) < 2:
        call.fail(f"Input SparseTensors must have rank at least 2, but truth_shape rank is: {len(truth[2])}")
    if len(mine[2]) != len(truth[2]):
        call.fail(f"Expected hypothesis_shape.NumElements == truth_shape.NumElements: {len(mine[2])}, {len(truth[2])}")
    shape = np.maximum(mine[2], truth[2])[:-1].tolist()
    ours, theirs = _sequences(*mine[:2]), _sequences(*truth[:2])
    found = np.zeros(shape, np.float32)
    nothing = mine[1][:0]
    for row in ours.keys() | theirs.keys():
        if not all(0 <= at < extent for at, extent in zip(row, shape, strict=True)):
            call.fail(f"The group {list(row)} is outside of the output of shape {brief(shape)}", INTERNAL)
        a, b = ours.get(row, nothing), theirs.get(row, nothing)
        distance = float(_distance(a, b))
        if call.attrs["normalize"]:
            distance = distance / len(b) if len(b) else float("inf")
        found[row] = distance
    return found


define(
    "EditDistance",
    "hypothesis_indices: int64, hypothesis_values: T, hypothesis_shape: int64, truth_indices: int64, truth_values: T, "
    "truth_shape: int64 -> output: float32", "normalize: bool = True, T: type",
    infer=_distances_shape, reference=_distances,
)  # fmt: skip
