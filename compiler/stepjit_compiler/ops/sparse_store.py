"""Sparse tensors kept in a session under numbers, so that they can pass through queues."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, scalar
from stepjit_compiler.ops.queues import shared
from stepjit_runtime import forking
from stepjit_runtime.dtypes import DType

Parts = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Indices, values and dense shape."""


class SparseStore:
    """Sparse tensors of one dtype by number; each is taken once."""

    def __init__(self, name: str, dtype: DType) -> None:
        self.name, self.dtype = name, dtype
        self._kept: dict[int, Parts] = {}
        self._numbers = itertools.count()
        self._lock = forking.lock()

    def add(self, parts: Parts) -> int:
        """The number under which the parts are kept now."""
        with self._lock:
            number = next(self._numbers)
            self._kept[number] = parts
            return number

    def take(self, numbers: Sequence[int]) -> list[Parts] | int:
        """What is kept under the numbers, which is forgotten; the first number that is not there."""
        with self._lock:
            for number in numbers:
                if number not in self._kept:
                    return number
            return [self._kept.pop(number) for number in numbers]


def _store(call: Call, dtype: DType) -> SparseStore:
    store: SparseStore = shared(call, "sparse store", lambda name: SparseStore(name, dtype))[0]
    if store.dtype is not dtype:
        call.fail(f"Sparse tensors in '{store.name}' are of {store.dtype.name}, not {dtype.name}")
    return store


def _check(call: Call, indices: np.ndarray, values: np.ndarray, shape: np.ndarray) -> None:
    if indices.ndim != 2 or values.ndim != 1 or shape.ndim != 1:
        call.fail("A sparse tensor needs a matrix of indices, a vector of values and a vector as shape")
    if len(indices) != len(values) or indices.shape[1] != len(shape):
        sizes = f"{indices.shape[0]} x {indices.shape[1]} indices, {len(values)} values, rank {len(shape)}"
        call.fail(f"The parts of the sparse tensor don't fit together: {sizes}")


# --- AddSparseToTensorsMap, AddManySparseToTensorsMap ---


def _add(call: Call, indices: np.ndarray, values: np.ndarray, shape: np.ndarray) -> np.ndarray:
    _check(call, indices, values, shape)
    store = _store(call, call.attrs["T"])
    return np.array(store.add((indices.copy(), values.copy(), shape.copy())), np.int64)


def _add_many(call: Call, indices: np.ndarray, values: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Each row of the first dimension on its own."""
    _check(call, indices, values, shape)
    if len(shape) < 2:
        call.fail(f"Rank of input SparseTensor should be > 1, but saw rank: {len(shape)}")
    store = _store(call, call.attrs["T"])
    rows = [indices[:, 0] == row for row in range(int(shape[0]))]
    numbers = [store.add((indices[row, 1:], values[row], shape[1:].copy())) for row in rows]
    return np.array(numbers, np.int64)


_PARTS = "sparse_indices: int64, sparse_values: T, sparse_shape: int64"
_NAMED = "container: string = '', shared_name: string = ''"
define(
    "AddSparseToTensorsMap", f"{_PARTS} -> sparse_handle: int64", f"T: type, {_NAMED}", infer=scalar, reference=_add,
    stateful=True, resources=True,
)  # fmt: skip
define(
    "AddManySparseToTensorsMap", f"{_PARTS} -> sparse_handles: int64", f"T: type, {_NAMED}",
    infer=lambda x: [(None,)], reference=_add_many, stateful=True, resources=True,
)  # fmt: skip

# --- TakeManySparseFromTensorsMap ---


def _take(call: Call, handles: np.ndarray) -> Parts:
    """The sparse tensors as one, stacked along a new first dimension, as large as the largest."""
    if handles.ndim != 1 or not len(handles):
        call.fail(f"sparse_handles must be a vector of at least one number, but has shape {list(handles.shape)}")
    dtype = call.attrs["dtype"]
    found = _store(call, dtype).take(handles.tolist())
    if isinstance(found, int):
        call.fail(f"Unable to find SparseTensor: {found} in map: {call.attrs['shared_name'].decode()}")
    ranks = {len(shape) for _, _, shape in found}
    if len(ranks) > 1:
        call.fail(f"Inconsistent rank across SparseTensors: {sorted(ranks)}")
    rows = np.repeat(np.arange(len(found)), [len(values) for _, values, _ in found])
    indices = np.concatenate([rows[:, None], np.concatenate([part for part, _, _ in found])], 1)
    values = np.concatenate([part for _, part, _ in found]).astype(dtype.np, copy=False)
    shape = np.concatenate([[len(found)], np.max([part for _, _, part in found], 0)])
    return indices.astype(np.int64), values, shape.astype(np.int64)


def _taken(x: Inference) -> list[ShapeLike]:
    x.with_rank(0, 1)
    return [(None, None), (None,), (None,)]


define(
    "TakeManySparseFromTensorsMap",
    "sparse_handles: int64 -> sparse_indices: int64, sparse_values: dtype, sparse_shape: int64",
    f"dtype: type, {_NAMED}", infer=_taken, reference=_take, stateful=True, resources=True,
)  # fmt: skip

