"""Array ops: references against numpy, and shape rules with unknown extents and Dims."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
import pytest
from slice_cases import SLICES, strided

from stepjit_compiler import dims, opdef
from stepjit_compiler.dims import Extent
from stepjit_compiler.opdef import Call, Inference, ShapeLike
from stepjit_compiler.step_builder import output_dtypes
from stepjit_runtime.dtypes import DType, as_dtype, int32, int64
from stepjit_runtime.errors import OpFailure

N = dims.symbol("s0")
M = dims.symbol("s1")
A = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
V = np.arange(6, dtype=np.int32)
G = np.arange(12, dtype=np.float32).reshape(3, 4)
B4 = np.arange(16, dtype=np.int32).reshape(1, 4, 4, 1)


def attrs_of(name: str, inputs: Sequence[np.ndarray], given: dict[str, Any]) -> dict[str, Any]:
    """All attrs of a call: defaults, dtypes and counts that follow from the inputs, and the given ones."""
    op = opdef.lookup(name)
    assert op is not None, name
    full = {attr.name: attr.default for attr in op.attrs if attr.optional}
    at = 0
    shared = [arg for arg in op.inputs if arg.count_attr]
    count = (len(inputs) - (len(op.inputs) - len(shared))) // len(shared) if shared else 0
    for arg in op.inputs:
        if arg.count_attr:
            full[arg.count_attr] = count
        if arg.type_attr and at < len(inputs):
            full[arg.type_attr] = as_dtype(inputs[at].dtype)
        at += count if arg.count_attr else 1
    return full | given


def ref(name: str, *inputs: Any, **given: Any) -> Any:
    """What the op's reference gives."""
    arrays = [np.asarray(each) for each in inputs]
    attrs = attrs_of(name, arrays, given)
    op = opdef.lookup(name)
    assert op is not None
    assert op.reference is not None
    before = [array.copy() for array in arrays]
    out = op.reference(Call(name, attrs, output_dtypes(op, attrs)), *arrays)
    for array, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, old)
    for dtype, each in zip(output_dtypes(op, attrs), out if isinstance(out, tuple) else (out,), strict=True):
        assert isinstance(each, np.ndarray), each
        assert each.dtype == dtype.np, (each, dtype)
        assert not any(np.shares_memory(each, array) for array in arrays)
    return out


def same(got: Any, want: Any) -> None:
    if isinstance(got, tuple):
        assert len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            same(g, w)
        return
    want = np.asarray(want)
    assert got.shape == want.shape
    np.testing.assert_array_equal(got, want)


class Shapes(Inference):
    """Shape inference over given shapes and input values."""

    def __init__(
        self, op: str, shapes: Sequence[ShapeLike], values: dict[int, Any], kinds: dict[int, DType], attrs: dict[str, Any]
    ) -> None:
        self.op, self.shapes, self.values = op, shapes, values
        self.dtypes = [kinds.get(i, int32) for i in range(len(shapes))]
        definition = opdef.lookup(op)
        assert definition is not None
        self.attrs = {attr.name: attr.default for attr in definition.attrs if attr.optional} | attrs
        self.checks: list[tuple[str, Extent, Extent]] = []

    def shape(self, i: int) -> ShapeLike:
        return self.shapes[i]

    def value(self, i: int) -> np.ndarray | None:
        given = self.values.get(i)
        if given is None or any(not isinstance(each, (int, float)) for each in np.ravel(np.array(given, object))):
            return None
        return np.array(given)

    def extents(self, i: int) -> tuple[Extent | None, ...] | None:
        if i in self.values:
            return tuple(np.array(self.values[i], object).ravel())
        shape = self.shapes[i]
        size = None if shape is None or None in shape else int(np.prod(shape))  # type: ignore[arg-type]
        return None if size is None else (None,) * size

    def fail(self, message: str) -> NoReturn:
        raise ValueError(message)

    def equal(self, a: Extent | None, b: Extent | None, message: str) -> Extent | None:
        if a is None or b is None or a == b:
            return b if a is None else a
        if isinstance(a, int) and isinstance(b, int):
            self.fail(message)
        self.checks.append(("eq", a, b))
        return a

    def check(self, holds: str, a: Extent | None, b: Extent | None, message: str) -> None:
        if isinstance(a, int) and isinstance(b, int):
            if not (a >= b if holds == "ge" else b != 0 and a % b == 0):
                self.fail(message)
        elif a is not None and b is not None:
            self.checks.append((holds, a, b))


def inferred(op: str, *shapes: ShapeLike, values: dict[int, Any] | None = None, **attrs: Any) -> list[ShapeLike]:
    definition = opdef.lookup(op)
    assert definition is not None
    return list(definition.infer(Shapes(op, shapes, values or {}, {}, attrs)))


# --- References ---

REFERENCES: list[tuple[str, Callable[[], Any], Any]] = [
    ("shape", lambda: ref("Shape", A, out_type=int64), [2, 3, 4]),
    ("shape_n", lambda: ref("ShapeN", A, V[:2].reshape(1, 2, 1), out_type=int32), ([2, 3, 4], [1, 2, 1])),
    ("size", lambda: ref("Size", A), 24),
    ("rank", lambda: ref("Rank", A), 3),
    ("reshape", lambda: ref("Reshape", A, [4, -1]), A.reshape(4, 6)),
    ("reshape_string", lambda: ref("Reshape", np.array([b"a", b"b"], object), [2, 1]), np.array([[b"a"], [b"b"]], object)),
    ("reshape_empty", lambda: ref("Reshape", np.zeros((0, 3, 4)), [-1, 0, 2]), np.zeros((6, 0, 2))),
    ("expand_dims", lambda: ref("ExpandDims", V, -1), V[:, None]),
    ("squeeze", lambda: ref("Squeeze", np.ones((1, 2, 1))), np.ones(2)),
    ("squeeze_axis", lambda: ref("Squeeze", np.ones((1, 2, 1)), squeeze_dims=(-1,)), np.ones((1, 2))),
    ("broadcast_to", lambda: ref("BroadcastTo", [[1], [2]], [3, 2, 2]), np.broadcast_to([[1], [2]], (3, 2, 2))),
    ("broadcast_args", lambda: ref("BroadcastArgs", np.int32([2, 1]), np.int32([3])), [2, 3]),
    ("gradient_args", lambda: ref("BroadcastGradientArgs", np.int32([2, 1, 3]), np.int32([4, 1])), ([1], [0, 2])),
    ("gradient_args_ones", lambda: ref("BroadcastGradientArgs", np.int32([1, 1]), np.int32([1])), ([0, 1], [0, 1])),
    ("fill_string", lambda: ref("Fill", [2], np.array(b"x", object)), np.array([b"x", b"x"], object)),
    ("zeros_like_string", lambda: ref("ZerosLike", np.array([b"x"], object)), np.array([b""], object)),
    ("range", lambda: ref("Range", 5, -2, -3), [5, 2, -1]),
    ("range_empty", lambda: ref("Range", 3, 3, 1), np.zeros(0, np.int64)),
    ("range_float", lambda: ref("Range", np.float32(0), np.float32(1), np.float32(0.25)), [0, 0.25, 0.5, 0.75]),
    ("linspace", lambda: ref("LinSpace", np.float64(1), np.float64(2), 5), np.linspace(1, 2, 5)),
    ("transpose", lambda: ref("Transpose", A, [2, 0, -2]), A.transpose(2, 0, 1)),
    ("conjugate", lambda: ref("ConjugateTranspose", np.array([[1 + 1j, 2]]), [1, 0]), [[1 - 1j], [2]]),
    ("concat", lambda: ref("ConcatV2", A, A[:1], 0), np.concatenate([A, A[:1]])),
    ("concat_old", lambda: ref("Concat", np.int32(-1), A, A), np.concatenate([A, A], -1)),
    ("concat_offset", lambda: ref("ConcatOffset", np.int32(1), V[2:4], V[2:4]), ([0, 0], [0, 3])),
    ("pack", lambda: ref("Pack", V, V, axis=-1), np.stack([V, V], -1)),
    ("unpack", lambda: ref("Unpack", A, num=3, axis=1), tuple(A[:, i] for i in range(3))),
    ("tile", lambda: ref("Tile", G, [2, 0]), np.tile(G, (2, 0))),
    ("reverse", lambda: ref("ReverseV2", A, [0, -1]), A[::-1, :, ::-1]),
    ("roll", lambda: ref("Roll", A, [1, -2], [0, 2]), np.roll(A, (1, -2), (0, 2))),
    ("reverse_sequence", lambda: ref("ReverseSequence", A[0], [2, 4, 0], seq_dim=1),
     [[1, 0, 2, 3], [7, 6, 5, 4], [8, 9, 10, 11]]),
    ("reverse_sequence_columns", lambda: ref("ReverseSequence", A[0], [2, 3, 0, 1], seq_dim=0, batch_dim=1),
     [[4, 9, 2, 3], [0, 5, 6, 7], [8, 1, 10, 11]]),
    ("invert_permutation", lambda: ref("InvertPermutation", [2, 0, 1]), [1, 2, 0]),
    ("split", lambda: ref("Split", np.int32(2), A, num_split=2), tuple(np.split(A, 2, 2))),
    ("split_v", lambda: ref("SplitV", V, [1, -1, 2], np.int32(0), num_split=3), (V[:1], V[1:4], V[4:])),
    ("slice", lambda: ref("Slice", A, [0, 1, 2], [2, -1, 1]), A[:, 1:, 2:3]),
    ("pad", lambda: ref("Pad", np.array([[1, 2]]), [[1, 0], [0, 2]]), np.pad([[1, 2]], ((1, 0), (0, 2)))),
    ("pad_v2", lambda: ref("PadV2", V, [[1, 2]], np.int32(9)), np.pad(V, (1, 2), constant_values=9)),
    ("reflect", lambda: ref("MirrorPad", V, [[2, 3]], mode=b"REFLECT"), np.pad(V, (2, 3), "reflect")),
    ("symmetric", lambda: ref("MirrorPad", V, [[6, 3]], mode=b"SYMMETRIC"), np.pad(V, (6, 3), "symmetric")),
    ("mirror_grad", lambda: ref("MirrorPadGrad", V, [[1, 2]], mode=b"REFLECT"), [1 + 5, 2 + 0 + 4, 3]),
    ("matrix_diag", lambda: ref("MatrixDiag", V[1:3].reshape(1, 2)), [[[1, 0], [0, 2]]]),
    ("matrix_diag_part", lambda: ref("MatrixDiagPart", G), np.diagonal(G)),
    ("matrix_set_diag", lambda: ref("MatrixSetDiag", np.zeros((2, 3)), [1.0, 2.0]), [[1, 0, 0], [0, 2, 0]]),
    ("band", lambda: ref("MatrixBandPart", G, 1, 0), np.tril(G) - np.tril(G, -2)),
    ("diag", lambda: ref("Diag", V[:4].reshape(2, 2)), np.diag(V[:4]).reshape(2, 2, 2, 2)),
    ("diag_part", lambda: ref("DiagPart", np.diag(V[:4]).reshape(2, 2, 2, 2)), V[:4].reshape(2, 2)),
    ("gather", lambda: ref("GatherV2", G, [[0], [3]], 1), G[:, [[0], [3]]]),
    ("gather_batch", lambda: ref("GatherV2", G, [[0, 1], [2, 3], [1, 1]], 1, batch_dims=1),
     np.take_along_axis(G, np.array([[0, 1], [2, 3], [1, 1]]), 1)),
    ("gather_batch_axis", lambda: ref("GatherV2", A, [[3, 0], [1, 1]], 2, batch_dims=1),
     np.stack([A[0][:, [3, 0]], A[1][:, [1, 1]]])),
    ("gather_nd", lambda: ref("GatherNd", G, [[[0, 0]], [[1, 1]]]), [[0], [5]]),
    ("gather_nd_rows", lambda: ref("GatherNd", G, [[2], [0]]), G[[2, 0]]),
    ("gather_nd_all", lambda: ref("GatherNd", G, np.zeros((2, 0), np.int32)), np.stack([G, G])),
    ("scatter_nd", lambda: ref("ScatterNd", [[1], [1], [0]], [9, 8, 1], [3]), [1, 17, 0]),
    ("scatter_sub", lambda: ref("TensorScatterSub", V, [[1], [1]], V[1:3]), [0, -2, 2, 3, 4, 5]),
    ("scatter_max", lambda: ref("TensorScatterMax", V, [[1], [5]], V[3:5]), [0, 3, 2, 3, 4, 5]),
    ("one_hot", lambda: ref("OneHot", np.array([1, -1]), np.int32(2), 5, -1, axis=0), [[-1, -1], [5, -1]]),
    ("unique", lambda: ref("Unique", [5, 1, 5, 2, 1]), ([5, 1, 2], [0, 1, 0, 2, 1])),
    ("unique_counts", lambda: ref("UniqueWithCounts", [5, 1, 5]), ([5, 1], [0, 1, 0], [2, 1])),
    ("unique_rows", lambda: ref("UniqueV2", [[1, 1], [1, 1], [2, 1]], [0]), ([[1, 1], [2, 1]], [0, 0, 1])),
    ("unique_nan", lambda: ref("Unique", [np.nan, 1, np.nan])[1], [0, 1, 2]),
    ("unique_string", lambda: ref("Unique", np.array([b"b", b"a", b"b"], object))[0], np.array([b"b", b"a"], object)),
    ("where", lambda: ref("Where", [0.0, np.nan, -0.0, 2]), [[1], [3]]),
    ("list_diff", lambda: ref("ListDiff", [1, 2, 3, 2, 4], [2, 4]), ([1, 3], [0, 2])),
    ("partition", lambda: ref("DynamicPartition", V[:4], np.int32([1, 0, 1, 2]), num_partitions=4),
     ([1], [0, 2], [3], V[:0])),
    ("stitch", lambda: ref("DynamicStitch", np.int32([0, 2]), np.int32([1, 2]), [10, 20], [30, 40]), [10, 30, 40]),
    ("unsorted_sum", lambda: ref("UnsortedSegmentSum", G, [1, -1, 1], 2), [np.zeros(4), G[0] + G[2]]),
    ("unsorted_max", lambda: ref("UnsortedSegmentMax", V[:2], [0, 0], 2), [1, -(2**31)]),
    ("segment_mean", lambda: ref("SegmentMean", np.array([1.0, 2.0, 4.0]), [0, 0, 2]), [1.5, 0, 4]),
    ("segment_prod", lambda: ref("SegmentProd", np.array([1.0, 2.0, 4.0]), [0, 0, 2]), [2, 1, 4]),
    ("segment_max", lambda: ref("SegmentMax", np.array([1.0, -2.0, -4.0]), [0, 0, 2]), [1, 0, -4]),
    ("sparse_sqrt", lambda: ref("SparseSegmentSqrtN", G, np.int32([0, 1]), np.int32([0, 0])),
     ((G[0] + G[1]) / np.sqrt(np.float32(2)))[None]),
    ("sparse_mean_grad", lambda: ref("SparseSegmentMeanGrad", G[:1], np.int32([0, 2]), np.int32([0, 0]), np.int32(3)),
     [G[0] / 2, G[0] * 0, G[0] / 2]),
    ("space_to_depth", lambda: ref("SpaceToDepth", B4, block_size=2),
     B4.reshape(1, 2, 2, 2, 2, 1).transpose(0, 1, 3, 2, 4, 5).reshape(1, 2, 2, 4)),
    ("depth_to_space", lambda: ref("DepthToSpace", ref("SpaceToDepth", B4, block_size=2), block_size=2), B4),
    ("depth_to_space_nchw", lambda: ref("DepthToSpace", ref(
        "SpaceToDepth", B4.reshape(1, 1, 4, 4), block_size=2, data_format=b"NCHW"), block_size=2, data_format=b"NCHW"),
     B4.reshape(1, 1, 4, 4)),
    ("space_to_batch", lambda: ref("SpaceToBatchND", B4, [2, 2], [[0, 0], [2, 0]])[0, :, :, 0], [[0, 0, 2], [0, 8, 10]]),
    ("batch_to_space", lambda: ref("BatchToSpaceND", ref("SpaceToBatchND", B4, [2, 1], [[1, 1], [0, 0]]), [2, 1],
                                   [[1, 1], [0, 0]]), B4),
    ("patches", lambda: ref("ExtractImagePatches", B4, ksizes=(1, 2, 2, 1), strides=(1, 3, 3, 1), rates=(1, 1, 1, 1),
                            padding=b"SAME"), [[[[0, 1, 4, 5], [3, 0, 7, 0]], [[12, 13, 0, 0], [15, 0, 0, 0]]]]),
    ("lower_bound", lambda: ref("LowerBound", [[1, 3, 3]], [[3, 0, 9]]), [[1, 0, 3]]),
    ("upper_bound", lambda: ref("UpperBound", [[1, 3, 3]], [[3, 0, 9]]), [[3, 0, 3]]),
    ("unravel", lambda: ref("UnravelIndex", [5, 11], [3, 4]), [[1, 2], [1, 3]]),
    ("slice_update", lambda: ref("TensorStridedSliceUpdate", V, [4], [0], [-2], np.int32([7, 8])), [0, 1, 8, 3, 7, 5]),
    ("band_part", lambda: ref("MatrixDiagPartV3", G, np.int32([-1, 1]), np.float32(9)),
     [[1, 6, 11], [0, 5, 10], [4, 9, 9]]),
    ("band_matrix", lambda: ref("MatrixDiagV3", np.int32([1, 2]), np.int32(1), np.int32(-1), np.int32(-1), np.int32(0)),
     np.diag([1, 2], 1)),
    ("band_set", lambda: ref("MatrixSetDiagV3", np.zeros((2, 3)), [1.0, 2.0], np.int32(1)), [[0, 1, 0], [0, 0, 2]]),
]  # fmt: skip


@pytest.mark.parametrize("row", REFERENCES, ids=[row[0] for row in REFERENCES])
def test_reference(row: Any) -> None:
    same(row[1](), row[2])


ERRORS: list[tuple[Callable[[], Any], str]] = [
    (lambda: ref("Reshape", [1, 2, 3], [2, 2]), "Input to reshape is a tensor with 3 values, but the requested shape has 4"),
    (lambda: ref("Reshape", [1, 2, 3], [-1, 2]), "requires a multiple of 2"),
    (lambda: ref("ExpandDims", [1], 5), "Tried to expand dim index 5 for tensor with 1 dimensions"),
    (lambda: ref("Squeeze", [[1, 2]], squeeze_dims=(1,)), "Can not squeeze dim[1], expected a dimension of 1, got 2"),
    (lambda: ref("BroadcastTo", [1, 2], [3]), "Incompatible shapes: [2] vs. [3]"),
    (lambda: ref("Fill", [-1], 1.0), "must be >= 0"),
    (lambda: ref("Range", 0, 3, 0), "Requires delta != 0"),
    (lambda: ref("Transpose", [[1, 2]], [0, 0]), "1 is missing from {0,0}."),
    (lambda: ref("ConcatV2", np.ones((2, 3)), np.ones((3, 2)), 0), "ConcatOp : Dimension 1 in both shapes must be equal"),
    (lambda: ref("Split", np.int32(0), [1, 2, 3], num_split=2), "should evenly divide"),
    (lambda: ref("Slice", V, [2], [9]), "Expected size[0] in [0, 4], but got 9"),
    (lambda: ref("Slice", V, [9], [1]), "Expected begin[0] in [0, 6], but got 9"),
    (lambda: ref("StridedSlice", V, [7], [8], [1], shrink_axis_mask=1), "slice index 7 of dimension 0 out of bounds"),
    (lambda: ref("StridedSlice", V, [0], [1], [0]), "strides[0] must be non-zero"),
    (lambda: ref("StridedSlice", V, [0, 0], [1, 1], [1, 1]), "Index out of range using input dim 1"),
    (lambda: ref("Tile", [1], [-1]), "Expected multiples[0] >= 0, but got -1"),
    (lambda: ref("MirrorPad", V, [[9, 0]], mode=b"REFLECT"), "paddings must be less than the dimension size: 9, 0 not less than 6"),
    (lambda: ref("ReverseV2", [1], [3]), "'axis'[0] = 3"),
    (lambda: ref("ReverseSequence", A[0], [9, 0, 0], seq_dim=1), "seq_lens(0) > input.dims(1)"),
    (lambda: ref("InvertPermutation", [0, 0]), "0 is duplicated in the input."),
    (lambda: ref("EnsureShape", [1, 2], shape=(3,)), "is not compatible with expected shape [3]"),
    (lambda: ref("GatherV2", [1, 2, 3], [[0, 5]], 0), "indices[0,1] = 5 is not in [0, 3)"),
    (lambda: ref("GatherNd", [[1, 2]], [[0, 5]]), "indices[0] = [0, 5] does not index into param shape [1,2]"),
    (lambda: ref("ScatterNd", [[5]], [1.0], [3]), "indices[0] = [5] does not index into shape [3]"),
    (lambda: ref("OneHot", [1], np.int32(-1), 1, 0), "depth must be non-negative, got: -1"),
    (lambda: ref("UnsortedSegmentSum", [1.0, 2.0], [0, 5], 3), "segment_ids[1] = 5 is out of range [0, 3)"),
    (lambda: ref("SegmentSum", [1.0, 2.0], [1, 0]), "segment ids are not increasing"),
    (lambda: ref("DynamicPartition", [1, 2], np.int32([0, 5]), num_partitions=2), "partitions[1] = 5 is not in [0, 2)"),
]  # fmt: skip


@pytest.mark.parametrize("row", ERRORS, ids=[row[1][:32] for row in ERRORS])
def test_error(row: Any) -> None:
    with pytest.raises(OpFailure) as info:
        row[0]()
    assert row[1] in info.value.message


# --- Strided slices against numpy's own indexing ---

@pytest.mark.parametrize("item", SLICES, ids=str)
def test_strided_slice(item: Any) -> None:
    bounds, masks = strided(item)
    want = A[item]
    same(ref("StridedSlice", A, *bounds, **masks), want)
    values = dict(enumerate(bounds, 1))
    vector = (len(bounds[0]),)
    assert inferred("StridedSlice", (2, 3, 4), vector, vector, vector, values=values, **masks) == [want.shape]
    (unknown,) = inferred("StridedSlice", (None, None, None), vector, vector, vector, values=values, **masks)
    assert unknown is not None
    assert len(unknown) == want.ndim
    (symbolic,) = inferred("StridedSlice", (2, N, 4), vector, vector, vector, values=values, **masks)
    assert symbolic is not None
    assert tuple(dims.evaluate(extent or 0, {"s0": 3}) for extent in symbolic) == want.shape

    filled = np.zeros_like(A)
    filled[item] = want + 1
    grad_masks = {**masks}
    same(ref("StridedSliceGrad", np.array(A.shape), *bounds, want + 1, **grad_masks), filled)


@pytest.mark.parametrize("extent", [0, 2, 3, 7])
def test_strided_extents_of_a_symbol(extent: int) -> None:
    x = np.arange(extent)
    for start in (None, 0, 1, 3, -1, -4):
        for stop in (None, 0, 2, 5, -1, -3):
            for step in (1, 2, -1, -3):
                bounds, masks = strided(slice(start, stop, step))
                (shape,) = inferred("StridedSlice", (N,), (1,), (1,), (1,), values=dict(enumerate(bounds, 1)), **masks)
                assert shape is not None
                assert shape[0] is not None
                assert dims.evaluate(shape[0], {"s0": extent}) == len(x[start:stop:step]), (start, stop, step)


def test_both_ends_cut_by_one_agree() -> None:
    def extent(item: slice) -> Any:
        bounds, masks = strided(item)
        (shape,) = inferred("StridedSlice", (N,), (1,), (1,), (1,), values=dict(enumerate(bounds, 1)), **masks)
        return shape

    assert extent(slice(1, None)) == extent(slice(None, -1))


# --- Shape rules ---


def test_shapes_with_unknown_extents() -> None:
    assert inferred("Reshape", None, (2,), values={1: [2, -1]}) == [(2, None)]
    assert inferred("Reshape", (None, 4), (2,), values={1: [-1, 2]}) == [(None, 2)]
    assert inferred("Reshape", (3, 4), (2,), values={1: [None, 2]}) == [(6, 2)]
    assert inferred("Reshape", (3, 4), (None,)) == [None]
    assert inferred("ExpandDims", (None, 2), (), values={1: -1}) == [(None, 2, 1)]
    assert inferred("Squeeze", (None, 1)) == [None]
    assert inferred("Squeeze", (None, 1), squeeze_dims=(1,)) == [(None,)]
    assert inferred("BroadcastTo", (None,), (2,), values={1: [3, None]}) == [(3, None)]
    assert inferred("Transpose", (None, 2), (2,), values={1: [1, 0]}) == [(2, None)]
    assert inferred("Transpose", None, (2,)) == [(None, None)]
    assert inferred("ConcatV2", (None, 2), (3, None), (), values={2: 0}, N=2) == [(None, 2)]
    assert inferred("ConcatV2", None, (3, None), (), values={2: 1}, N=2) == [(3, None)]
    assert inferred("Pack", None, (3, None), axis=1, N=2) == [(3, 2, None)]
    assert inferred("Split", (), (None, 4), values={0: 1}, num_split=2) == [(None, 2)] * 2
    assert inferred("SplitV", (None, 4), (2,), (), values={1: [1, -1], 2: 1}, num_split=2) == [(None, 1), (None, 3)]
    assert inferred("Slice", (None, 4), (2,), (2,), values={1: [0, 1], 2: [-1, -1]}) == [(None, 3)]
    assert inferred("Pad", (None, 4), (2, 2), values={1: [1, 1, None, 0]}) == [(None, None)]
    assert inferred("GatherV2", (None, 4), (None, 3), (), values={2: 0}) == [(None, 3, 4)]
    assert inferred("OneHot", (None,), (), (), ()) == [(None, None)]
    assert inferred("Range", (), (), ()) == [(None,)]
    assert inferred("RandomUniform", (2,)) == [(None, None)]


def test_shapes_with_symbols() -> None:
    assert inferred("Reshape", (N, 4), (2,), values={1: [-1, 2]}) == [(N * 2, 2)]
    assert inferred("Reshape", (N, 4), (2,), values={1: [N, -1]}) == [(N, 4)]
    assert inferred("Squeeze", (N, 1)) == [(N,)]
    assert inferred("Range", (), (), (), values={0: 0, 1: N, 2: 1}) == [(N,)]
    assert inferred("Tile", (N, 2), (2,), values={1: [3, M]}) == [(N * 3, M * 2)]
    assert inferred("ConcatV2", (N, 2), (3, 2), (), values={2: 0}, N=2) == [(N + 3, 2)]
    assert inferred("MatrixDiag", (N,)) == [(N, N)]
    assert inferred("Fill", (2,), (), values={0: [N, 3]}) == [(N, 3)]
    assert inferred("BroadcastGradientArgs", (2,), (1,), values={0: [N, 3], 1: [3]}) == [(0,), (1,)]


def test_symbolic_references() -> None:
    shape = np.array([N, 3, 4], object)
    assert ref_symbolic("StridedSlice", shape, [0], [1], [1], shrink_axis_mask=1)[()] is N
    assert list(ref_symbolic("ConcatV2", shape[:1], np.array([2]), 0)) == [N, 2]
    assert list(ref_symbolic("Pack", np.array(N, object), np.array(5))) == [N, 5]
    assert list(ref_symbolic("GatherV2", shape, [2, 0], 0)) == [4, N]
    first, second = ref_symbolic("BroadcastGradientArgs", shape, np.array([3, 1], object))
    assert (first.tolist(), second.tolist()) == ([], [0, 2])


def ref_symbolic(name: str, *inputs: Any, **given: Any) -> Any:
    op = opdef.lookup(name)
    assert op is not None
    assert op.symbolic
    assert op.reference is not None
    attrs = {"T": int32, "out_type": int32, "dtype": int32, "Tparams": int32}
    attrs |= {attr.name: attr.default for attr in op.attrs if attr.optional} | given
    return op.reference(Call(name, attrs, [int32, int32]), *[np.asarray(each) for each in inputs])


@pytest.mark.parametrize(("message", "infer"), [
    ("Cannot reshape", lambda: inferred("Reshape", (3,), (2,), values={1: [2, 2]})),
    ("must be equal", lambda: inferred("Pack", (1,), (2,), axis=0)),
    ("must be equal", lambda: inferred("ConcatV2", (2, 3), (3, 2), (), values={2: 0})),
    ("Can not squeeze", lambda: inferred("Squeeze", (2, 3), squeeze_dims=(0,))),
    ("Incompatible shapes", lambda: inferred("BroadcastTo", (2,), (1,), values={1: [3]})),
    ("out of bounds", lambda: inferred("StridedSlice", (6,), (1,), (1,), (1,), values={1: [9], 2: [10], 3: [1]},
                                       shrink_axis_mask=1)),
])  # fmt: skip
def test_mistakes_in_the_graph(message: str, infer: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=message):
        infer()
