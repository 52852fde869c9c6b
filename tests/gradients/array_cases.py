"""Cases of ops that move elements: shapes, joins, slices, gathering, scattering, padding, diagonals."""

from __future__ import annotations

from typing import Any

import numpy as np
from differences import Case, by, of
from samples import CUBE, NONE, ROW, C, D, X, Y, apart, normal

import stepjit.compat.v1 as tf

IMAGES = normal(2, 4, 6, 3)
_SQUARE = normal(2, 3, 3)
_SLICES = {
    "[1:, ::-2]": {"begin": [1, -1], "end": [3, 0], "strides": [1, -2], "begin_mask": 0, "end_mask": 2},
    "[..., None, 2]": {"begin": [0, 0, 2], "end": [0, 0, 3], "strides": [1, 1, 1], "ellipsis_mask": 1, "new_axis_mask": 2,
                           "shrink_axis_mask": 4},
    "[5:]": {"begin": [5], "end": [9], "strides": [1]},
}  # fmt: skip
_INDICES = [[2], [0], [2]]
_BANDS = {"align": "LEFT_RIGHT", "k": [-1, 1]}



def _conditional(taken: bool) -> Any:
    """A conditional of an imported graph: y only counts on one side, and inside that there is another."""

    def build(x: Any, y: Any) -> Any:
        chosen = tf.placeholder_with_default(taken, [])
        (x0, x1), (y0, _) = (tf.raw_ops.Switch(data=each, pred=chosen) for each in (x, y))
        inner = tf.raw_ops.Switch(data=x0 * y0, pred=tf.raw_ops.Switch(data=tf.reduce_all(x > -9.0), pred=chosen)[0])
        product = tf.raw_ops.Merge(inputs=[inner[0], tf.sin(inner[1])])[0]
        return tf.raw_ops.Merge(inputs=[product * x0, tf.exp(x1)])[0]

    return build


CASES: list[Case] = [
    by("Switch", _conditional(True), X, Y),
    by("Merge", _conditional(False), X, Y),
    of("Reshape", "tensor", CUBE, shape=[4, -1]),
    of("Reshape", "tensor", CUBE, shape=[-1], unknown=True, note="of unknown extents"),
    of("Reshape", "tensor", NONE, shape=[2, 0, 3], note="of nothing"),
    by("ExpandDims", lambda x: tf.expand_dims(x, 1), X),
    by("Squeeze", lambda x: tf.squeeze(x, [1]), X[:, None]),
    by("Squeeze", lambda x: tf.squeeze(x), X[:, None, :, None], note="of all"),
    of("Transpose", "x", CUBE, perm=[2, 0, 1]),
    of("Transpose", "x", CUBE, perm=[1, 2, 0], unknown=True, note="of unknown extents"),
    of("ConjugateTranspose", "x", C, perm=[1, 0]),
    of("BroadcastTo", "input", X[:, :1], shape=[2, 3, 5]),
    of("BroadcastTo", "input", X[:, :1], shape=[2, 3, 5], unknown=True, note="of unknown extents"),
    of("Fill", "value", np.array(1.5), dims=[2, 3]),
    of("LinSpace", "start stop", np.array(1.5), np.array(-0.7), num=5),
    of("LinSpace", "start stop", np.array(1.5), np.array(-0.7), num=1, note="of one"),
    of("Tile", "input", X, multiples=[2, 3]),
    of("Tile", "input", X, multiples=[1, 2], unknown=True, note="of unknown extents"),
    by("Pack", lambda x, y: tf.raw_ops.Pack(values=[x, y, x], axis=1), X, Y),
    by("Unpack", lambda x: tf.raw_ops.Unpack(value=x, num=5, axis=1)[1:3], X),
    by("Concat", lambda x, y: tf.raw_ops.Concat(concat_dim=1, values=[x, y, x]), X, Y[:, :2]),
    by("ConcatV2", lambda x, y: tf.raw_ops.ConcatV2(values=[x, y, x], axis=-1), X, Y[:, :2]),
    by("ConcatV2", lambda x, y: tf.raw_ops.ConcatV2(values=[x, y], axis=0), X, Y[:2], unknown=True,
       note="of unknown extents"),
    by("ConcatV2", lambda x, y: tf.raw_ops.ConcatV2(values=[x, y], axis=0), X, NONE, note="with nothing"),
    by("Split", lambda x: tf.split(x, 2, 2)[1], CUBE),
    by("SplitV", lambda x: tf.split(x, [1, 3, 1], 1)[1:], X),
    by("Slice", lambda x: tf.raw_ops.Slice(input=x, begin=[1, 0, 2], size=[1, -1, 2]), CUBE),
    by("Slice", lambda x: tf.raw_ops.Slice(input=x, begin=[1, 1], size=[-1, 2]), X, unknown=True, note="of unknown extents"),
    *[of("StridedSlice", "input", X, note=note, **options) for note, options in _SLICES.items()],
    of("StridedSlice", "input", X, note="of unknown extents", unknown=True, begin=[1, -1], end=[3, 0], strides=[1, -2]),
    of("StridedSliceGrad", "dy", normal(2, 3), shape=[3, 5], begin=[1, 0], end=[3, 5], strides=[1, 2]),
    of("TensorStridedSliceUpdate", "input value", X, normal(2, 3), begin=[1, 0], end=[3, 5], strides=[1, 2]),
    of("TensorStridedSliceUpdate", "input value", X, normal(3), begin=[1, 0], end=[3, 5], strides=[1, 2], note="stretched"),
    of("Gather", "params", X, indices=[[2, 0], [2, 1]]),
    of("GatherV2", "params", X, indices=[2, 0, 2], axis=0),
    of("GatherV2", "params", X, indices=[2, 0, 2], axis=0, unknown=True, note="of unknown extents"),
    of("GatherV2", "params", CUBE, indices=[[1, 0], [2, 1]], axis=1, note="inside"),
    of("GatherV2", "params", CUBE, indices=[[1, 0], [2, 2]], axis=-1, batch_dims=1, note="in batches"),
    of("GatherV2", "params", X, indices=np.zeros(0, np.int32), axis=1, note="of nothing"),
    of("GatherNd", "params", X, indices=[[0, 1], [2, 2], [0, 1]]),
    of("GatherNd", "params", X, indices=_INDICES, note="of rows"),
    of("ScatterNd", "updates", X, indices=[[4], [1], [4]], shape=[6, 5]),
    of("ScatterNdNonAliasingAdd", "input updates", X, Y, indices=_INDICES),
    of("TensorScatterAdd", "tensor updates", X, Y, indices=_INDICES),
    of("TensorScatterSub", "tensor updates", X, Y, indices=_INDICES),
    of("TensorScatterUpdate", "tensor updates", X, Y[:2], indices=[[2], [0]]),
    of("TensorScatterMax", "tensor updates", X, Y[1:], indices=[[2], [0]]),
    of("TensorScatterMin", "tensor updates", X, Y[1:], indices=[[2], [0]]),
    of("Pad", "input", X, paddings=[[1, 0], [0, 2]]),
    of("Pad", "input", X, paddings=[[1, 0], [0, 2]], unknown=True, note="of unknown extents"),
    of("PadV2", "input constant_values", X, np.array(1.5), paddings=[[1, 0], [0, 2]], none=(1,)),
    *[of("MirrorPad", "input", X, paddings=[[2, 1], [1, 2]], mode=mode, note=mode) for mode in ("REFLECT", "SYMMETRIC")],
    *[of("MirrorPadGrad", "input", X, paddings=[[1, 0], [1, 1]], mode=mode, note=mode) for mode in ("REFLECT", "SYMMETRIC")],
    of("Reverse", "tensor", CUBE, dims=[True, False, True]),
    of("ReverseV2", "tensor", CUBE, axis=[0, -1]),
    of("ReverseSequence", "input", CUBE, seq_lengths=[3, 2], seq_dim=1, batch_dim=0),
    of("Roll", "input", CUBE, shift=[1, -2], axis=[0, 2]),
    of("SpaceToDepth", "input", IMAGES, block_size=2),
    of("DepthToSpace", "input", normal(1, 2, 3, 8), block_size=2),
    of("SpaceToBatch", "input", IMAGES, paddings=[[1, 1], [0, 2]], block_size=2),
    of("BatchToSpace", "input", normal(4, 2, 3, 1), crops=[[1, 0], [0, 1]], block_size=2),
    of("SpaceToBatchND", "input", IMAGES, block_shape=[2, 3], paddings=[[1, 1], [0, 0]]),
    of("BatchToSpaceND", "input", normal(6, 2, 3, 1), block_shape=[2, 3], crops=[[1, 0], [0, 1]]),
    of("Diag", "diagonal", normal(2, 3)),
    of("DiagPart", "input", normal(2, 3, 2, 3)),
    of("MatrixDiag", "diagonal", X),
    of("MatrixDiagPart", "input", CUBE),
    of("MatrixSetDiag", "input diagonal", CUBE, normal(2, 3)),
    of("MatrixBandPart", "input", CUBE, num_lower=1, num_upper=0),
    of("MatrixDiagV3", "diagonal", normal(2, 3, 3), num_rows=-1, num_cols=-1, padding_value=np.float64(0), **_BANDS),
    of("MatrixDiagV3", "diagonal", normal(2, 3), k=1, num_rows=-1, num_cols=-1, padding_value=np.float64(0), note="above"),
    of("MatrixDiagPartV3", "input", CUBE, padding_value=np.float64(0), **_BANDS),
    of("MatrixDiagPartV3", "input", CUBE, k=-1, padding_value=np.float64(0), note="below"),
    of("MatrixSetDiagV3", "input diagonal", _SQUARE, normal(2, 3, 3), **_BANDS),
    of("MatrixSetDiagV3", "input diagonal", _SQUARE, normal(2, 2), k=1, note="above"),
    of("ReverseV2", "tensor", C, axis=[1], note="of complex"),
    of("GatherV2", "params", C, indices=[2, 0, 2], axis=0, note="of complex"),
    by("ConcatV2", lambda x, y: tf.raw_ops.ConcatV2(values=[x, y], axis=0), C, D, note="of complex"),
    of("TensorScatterAdd", "tensor updates", ROW, apart(2), indices=[[0], [0]], note="of elements"),
]  # fmt: skip
