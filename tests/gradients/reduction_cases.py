"""Cases of reductions, running sums, segments and products of matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
from differences import Case, by, of
from samples import CUBE, NONE, POS, C, D, X, apart, normal

import stepjit.compat.v1 as tf

_REDUCTIONS = ("Max", "Mean", "Min", "Prod", "Sum")
_IDS = [0, 0, 2]
_SEGMENTS = ("SegmentMax", "SegmentMean", "SegmentMin", "SegmentProd", "SegmentSum")
_UNSORTED = ("UnsortedSegmentMax", "UnsortedSegmentMin", "UnsortedSegmentProd", "UnsortedSegmentSum")
_SPARSE = ("SparseSegmentMean", "SparseSegmentSqrtN", "SparseSegmentSum")
_WITH_ZEROS = np.array([[0.0, 2.0, -1.5, 0.0], [0.0, 0.0, 3.0, 1.2], [0.7, 1.1, 0.0, 2.0]])
A, B = normal(2, 3, 4), normal(2, 4, 5)


def _reduced(kind: str, x: np.ndarray, axis: Any, keepdims: bool = False, **options: Any) -> Case:
    note = f"over {axis} of {x.shape}" + ", kept" * keepdims + ", of unknown extents" * ("unknown" in options)
    reduce = getattr(tf, "reduce_" + kind.lower(), None) or tf.math.reduce_euclidean_norm
    return by(kind, lambda x: reduce(x, axis, keepdims=keepdims), x, note=note, **options)


CASES: list[Case] = [
    *[_reduced(kind, CUBE, axis, keepdims=kept) for kind in (*_REDUCTIONS, "EuclideanNorm")
      for axis, kept in ((1, False), ([0, -1], True), ([0, 1, 2], False))],
    *[_reduced(kind, CUBE, [2, 0], unknown=True) for kind in (*_REDUCTIONS, "EuclideanNorm")],
    *[_reduced(kind, X, np.zeros(0, np.int32)) for kind in _REDUCTIONS],
    *[_reduced(kind, NONE, 0) for kind in ("Sum", "Mean", "Prod")],
    *[_reduced(kind, NONE, 1) for kind in ("Sum", "Max")],
    *[_reduced(kind, C, 1) for kind in ("Sum", "Mean")],
    _reduced("Prod", _WITH_ZEROS, 1, second=None),
    *[of(kind, "x", POS, axis=axis, exclusive=exclusive, reverse=reverse, note=f"{axis}, {exclusive}, {reverse}")
      for kind in ("Cumprod", "Cumsum") for axis, exclusive, reverse in ((0, False, False), (-1, True, False), (1, False, True))],
    of("CumulativeLogsumexp", "x", X, axis=1),
    of("CumulativeLogsumexp", "x", CUBE, axis=0, reverse=True, note="backwards"),
    by("CumulativeLogsumexp", lambda x: tf.raw_ops.CumulativeLogsumexp(x=x, axis=1, exclusive=True)[:, 1:], X,
       note="exclusive"),
    of("Cumsum", "x", C, axis=1, note="of complex"),
    of("Cumprod", "x", CUBE, axis=2, reverse=True, exclusive=True, unknown=True, note="of unknown extents"),
    *[of(kind, "data", X, segment_ids=_IDS) for kind in _SEGMENTS],
    *[of(kind, "data", CUBE, segment_ids=[0, 0], unknown=True, note="of unknown extents") for kind in _SEGMENTS],
    of("SegmentProd", "data", _WITH_ZEROS, segment_ids=_IDS, note="with zeros", second=None),
    *[of(kind, "data", X, segment_ids=[1, -1, 0], num_segments=2) for kind in _UNSORTED],
    *[of(kind, "data", CUBE, segment_ids=[[1, 0, 1], [-1, 1, 0]], num_segments=2, note="of two dimensions")
      for kind in _UNSORTED],
    of("UnsortedSegmentProd", "data", _WITH_ZEROS, segment_ids=[1, 1, 0], num_segments=2, note="with zeros", second=None),
    *[of(kind, "data", X, indices=[2, 0, 2, 1], segment_ids=[0, 0, 1, 3], second=kind == "SparseSegmentSum")
      for kind in _SPARSE],
    *[of(kind + "WithNumSegments", "data", X, indices=[2, 0, 2, 1], segment_ids=[0, 0, 1, 3], num_segments=6,
         second=kind == "SparseSegmentSum") for kind in _SPARSE],
    by("DynamicPartition", lambda x: tf.raw_ops.DynamicPartition(data=x, partitions=[1, 0, 1], num_partitions=3), X),
    by("DynamicPartition", lambda x: tf.raw_ops.DynamicPartition(
        data=x, partitions=[[1, 0, 1], [0, 0, 1]], num_partitions=2), CUBE, note="of two dimensions"),
    *[by(kind, lambda x, y, kind=kind: getattr(tf.raw_ops, kind)(indices=[[0, 2], [3, 1, 4]], data=[x[:2], y]), X, X * X)
      for kind in ("DynamicStitch", "ParallelDynamicStitch")],
    *[of("MatMul", "a b", x, y, transpose_a=ta, transpose_b=tb, note=f"{ta}, {tb}")
      for ta, x in ((False, A[0]), (True, A[0].T)) for tb, y in ((False, B[0]), (True, B[0].T))],
    of("MatMul", "a b", A[0], B[0], unknown=True, note="of unknown extents"),
    of("MatMul", "a b", np.zeros((0, 4)), B[0], note="of no rows"),
    of("MatMul", "a b", np.zeros((3, 0)), np.zeros((0, 2)), note="of no inner extent"),
    *[of("MatMul", "a b", x, y, transpose_a=ta, transpose_b=tb, note=f"of complex, {ta}, {tb}")
      for ta, x in ((False, C), (True, C.T)) for tb, y in ((False, D.T), (True, D))],
    *[of(kind, "x y", x, y, adj_x=ta, adj_y=tb, note=f"{ta}, {tb}") for kind in ("BatchMatMul", "BatchMatMulV2")
      for ta, x in ((False, A), (True, A.transpose(0, 2, 1))) for tb, y in ((False, B), (True, B.transpose(0, 2, 1)))],
    *[of("BatchMatMulV2", "x y", A[:, None], B[:1], adj_y=False, note=f"stretched, {unknown}", unknown=unknown)
      for unknown in (False, True)],
    of("BatchMatMulV2", "x y", C[None] + 0, np.stack([D, C]), adj_y=True, note="of complex, stretched"),
    *[by("Einsum", lambda x, y, rule=rule: tf.raw_ops.Einsum(inputs=[x, y], equation=rule), x, y, note=rule)
      for rule, x, y in (("bij,bjk->ik", A, B), ("ij,jk->ki", A[0], B[0]), ("...ij,jk->...ik", A, B[0]),
                         ("bij,bjk->b", A, B), ("bij,b...->...ib", A, B))],
    *[by("Einsum", lambda x, rule=rule: tf.raw_ops.Einsum(inputs=[x], equation=rule), x, note=rule)
      for rule, x in (("bij->ji", A), ("ii->i", A[0, :, :3]), ("iij->j", normal(3, 3, 2)), ("b...->...", A))],
    by("Einsum", lambda x, y: tf.raw_ops.Einsum(inputs=[x, y], equation="ij,jk->ik"), C, D.T, note="of complex"),
    of("SparseMatMul", "a b", A[0].astype(np.float32), B[0].astype(np.float32)),
    of("SparseMatMul", "a b", A[0].T.astype(np.float32), B[0].T.astype(np.float32), transpose_a=True,
       transpose_b=True, note="transposed"),
    of("L2Loss", "t", X),
    *[by(kind, lambda x, kind=kind: getattr(tf.raw_ops, kind)(input=x, k=2)[0], apart(2, 3, 4)) for kind in ("TopK", "TopKV2")],
]  # fmt: skip
