"""Array ops: native code against the references, with extents as numbers and as symbols."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from native_steps import build, check, native
from slice_cases import SLICES, strided

from stepjit_compiler.interpret import interpret
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType, int32, int64

A = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
G = np.arange(12, dtype=np.float32).reshape(3, 4)
B4 = np.arange(16, dtype=np.int32).reshape(1, 4, 4, 1)


def c(b: Any, value: Any, dtype: DType = int32) -> Any:
    return b.const(value, dtype)


NATIVE: dict[str, tuple[list[np.ndarray], Callable[..., Any]]] = {
    "shape": ([G], lambda b, x: [b.op("Shape", x, out_type=int64), b.op("Size", x), b.op("Rank", x)]),
    "broadcast_to": ([G[:, :1]], lambda b, x: b.op("BroadcastTo", x, c(b, [2, 3, 5]))),
    "range": ([G], lambda b, x: b.op("Range", c(b, 7), c(b, -20), c(b, -3))),
    "transpose": ([A], lambda b, x: b.op("Transpose", x, c(b, [2, 0, 1]))),
    "concat": ([G, G + 20], lambda b, x, y: b.op("ConcatV2", x, y, x, c(b, -1))),
    "concat_old": ([A], lambda b, x: b.op("Concat", c(b, 1), x, x)),
    "pack_0": ([G[:, :3], G[:, 1:]], lambda b, x, y: b.op("Pack", x, y, x, axis=0)),
    "pack_1": ([G[:, :3], G[:, 1:]], lambda b, x, y: b.op("Pack", x, y, x, axis=1)),
    "pack_2": ([G[:, :3], G[:, 1:]], lambda b, x, y: b.op("Pack", x, y, x, axis=-1)),
    "unpack": ([A], lambda b, x: list(b.op("Unpack", x, num=4, axis=-1))),
    "split": ([A], lambda b, x: list(b.op("Split", c(b, 2), x, num_split=2))),
    "split_v": ([A], lambda b, x: list(b.op("SplitV", x, c(b, [1, -1, 2]), c(b, 2), num_split=3))),
    "tile": ([G], lambda b, x: b.op("Tile", x, c(b, [2, 3]))),
    "reverse": ([A], lambda b, x: b.op("ReverseV2", x, c(b, [0, -1]))),
    "roll": ([A], lambda b, x: b.op("Roll", x, c(b, [1, -6, 9]), c(b, [0, 2, 1]))),
    "slice": ([A], lambda b, x: b.op("Slice", x, c(b, [0, 1, 1]), c(b, [-1, 2, 2]))),
    "slice_grad": ([A], lambda b, x: b.op(
        "StridedSliceGrad", c(b, [4, 5, 6]), c(b, [1, 0, 2]), c(b, [3, 3, 6]), c(b, [1, 1, 1]), x)),
    "pad": ([G], lambda b, x: b.op("Pad", x, c(b, [[1, 2], [0, 3]]))),
    "pad_v2": ([G], lambda b, x: b.op("PadV2", x, c(b, [[0, 0], [1, 3]]), c(b, 7.5, dtypes.float32))),
    "reflect": ([G], lambda b, x: b.op("MirrorPad", x, c(b, [[1, 1], [3, 2]]), mode=b"REFLECT")),
    "symmetric": ([G], lambda b, x: b.op("MirrorPad", x, c(b, [[2, 0], [4, 3]]), mode=b"SYMMETRIC")),
    "matrix_diag": ([G], lambda b, x: b.op("MatrixDiag", x)),
    "matrix_diag_part": ([A], lambda b, x: b.op("MatrixDiagPart", x)),
    "matrix_set_diag": ([A, A[:, :, 0] + 50], lambda b, x, y: b.op("MatrixSetDiag", x, y)),
    "band": ([A], lambda b, x: [b.op("MatrixBandPart", x, c(b, n, int64), c(b, m, int64))
                                for n, m in ((-1, 0), (0, -1), (1, 2), (-1, -1))]),
    "diag": ([G[:2, :2]], lambda b, x: b.op("Diag", x)),
    "diag_part": ([np.arange(16, dtype=np.float32).reshape(2, 2, 2, 2)], lambda b, x: b.op("DiagPart", x)),
    "gather": ([G, np.int32([[2, 0], [1, 1]])], lambda b, x, i: b.op("GatherV2", x, i, c(b, 0))),
    "gather_axis": ([A, np.int64([2, 0, 1, 2])], lambda b, x, i: b.op("GatherV2", x, i, c(b, -2))),
    "gather_scalar": ([A, np.array(1, np.int64)], lambda b, x, i: b.op("GatherV2", x, i, c(b, 0))),
    "gather_batch": ([A, np.int32([[3, 0], [1, 1]])], lambda b, x, i: b.op("GatherV2", x, i, c(b, 2), batch_dims=1)),
    "gather_old": ([G, np.int32([2, 2])], lambda b, x, i: b.op("Gather", x, i)),
    "gather_nd": ([G[:, :3], np.int32([[2, 1], [0, 2]])], lambda b, x, i: b.op("GatherNd", x, i)),
    "gather_nd_rows": ([A, np.int32([[1], [0]])], lambda b, x, i: b.op("GatherNd", x, i)),
    "one_hot": ([np.int64([1, -1, 3, 0])], lambda b, i: b.op("OneHot", i, c(b, 3), c(b, 2.5, dtypes.float32),
                                                            c(b, -1.0, dtypes.float32))),
    "one_hot_axis": ([np.uint8([[1, 0], [3, 0]])], lambda b, i: b.op("OneHot", i, c(b, 3), c(b, 1), c(b, 0), axis=1)),
    "scatter_update": ([G, np.int32([[2], [0]]), G[:2]], lambda b, x, i, u: b.op("TensorScatterUpdate", x, i, u)),
    "scatter_add": ([G, np.int32([[2], [2]]), G[:2]], lambda b, x, i, u: b.op("TensorScatterAdd", x, i, u)),
    "scatter_nd": ([np.int32([[2], [2]]), G[:2]], lambda b, i, u: b.op("ScatterNd", i, u, c(b, [5, 4]))),
    "unsorted_sum": ([G, np.int32([1, -1, 1])], lambda b, x, i: b.op("UnsortedSegmentSum", x, i, c(b, 3))),
    "unsorted_sum_2d": ([A, np.int64([[1, -1, 1], [0, 0, 1]])],
                        lambda b, x, i: b.op("UnsortedSegmentSum", x, i, c(b, 3))),
    "fill_like": ([G], lambda b, x: [b.op("ZerosLike", x), b.op("OnesLike", x), b.op("Fill", b.op("Shape", x), c(b, 3))]),
    "space_to_depth": ([B4], lambda b, x: b.op("DepthToSpace", b.op("SpaceToDepth", x, block_size=2), block_size=2)),
    "space_to_batch": ([B4], lambda b, x: b.op("SpaceToBatchND", x, c(b, [2, 3]), c(b, [[1, 1], [0, 2]]))),
    "batch_to_space": ([np.arange(48, dtype=np.float32).reshape(12, 2, 2, 1)],
                       lambda b, x: b.op("BatchToSpaceND", x, c(b, [2, 3]), c(b, [[1, 0], [0, 2]]))),
    "patches": ([np.arange(60, dtype=np.float32).reshape(2, 5, 3, 2)], lambda b, x: [b.op(
        "ExtractImagePatches", x, ksizes=(1, 2, 3, 1), strides=(1, 2, 1, 1), rates=(1, 2, 1, 1), padding=kind)
        for kind in (b"SAME", b"VALID")]),
    "slice_update": ([A, A[:, 1:2, 0] + 50], lambda b, x, y: b.op(
        "TensorStridedSliceUpdate", x, c(b, [0, 2, 1]), c(b, [0, 0, 2]), c(b, [1, -1, 1]), y, begin_mask=1, end_mask=1,
        shrink_axis_mask=4)),
    "matrix_diag_v3": ([G], lambda b, x: b.op(
        "MatrixDiagV3", x, c(b, 0), c(b, -1), c(b, -1), c(b, 3.5, dtypes.float32))),
    "matrix_diag_part_v3": ([A], lambda b, x: b.op("MatrixDiagPartV3", x, c(b, -1), c(b, 0))),
    "matrix_set_diag_v3": ([A, A[:, 1:, 0] + 50], lambda b, x, y: b.op("MatrixSetDiagV3", x, y, c(b, [-1, -1]))),
    "ensure_shape": ([G], lambda b, x: b.op("Neg", b.op("EnsureShape", x, shape=(None, 4)))),
}  # fmt: skip


@pytest.mark.parametrize("symbolic", [False, True])
@pytest.mark.parametrize("name", NATIVE)
def test_native(name: str, symbolic: bool) -> None:
    feeds, make = NATIVE[name]
    check([np.ascontiguousarray(feed) if feed.ndim else feed for feed in feeds], make, symbolic)


def test_native_strided_slices() -> None:
    def make(b: Any, x: Any) -> list[Any]:
        made = []
        for item in SLICES:
            bounds, masks = strided(item)
            made.append(b.op("StridedSlice", x, *(c(b, bound) for bound in bounds), **masks))
        return made

    for symbolic in (False, True):
        step = build([A], make, symbolic)
        want, _ = interpret(step, [A], [])
        for g, w, item in zip(native(step)(A), want, SLICES, strict=True):
            np.testing.assert_array_equal(g, w, str(item))
            np.testing.assert_array_equal(g, A[item], str(item))


def test_native_slice_gradients() -> None:
    def make(b: Any, x: Any, y: Any) -> list[Any]:
        made = []
        for item in SLICES:
            bounds, masks = strided(item)
            consts = [c(b, bound) for bound in bounds]
            cut = b.op("StridedSlice", x, *consts, **masks)
            if A[item].size:
                made.append(b.op("StridedSliceGrad", b.op("Shape", x), *consts, cut, **masks))
        return made

    step = build([A, A], make, False)
    want, _ = interpret(step, [A, A], [])
    for g, w in zip(native(step)(A, A), want, strict=True):
        np.testing.assert_array_equal(g, w)
