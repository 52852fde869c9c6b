"""Cases of images, spectra, sparse tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from differences import Case, by, of
from samples import POS, X, apart, normal, single

import stepjit.compat.v1 as tf

IMAGES = single(normal(2, 4, 5, 2))
BOXES = single(np.array([[0.1, 0.07, 0.83, 0.92], [0.9, 0.23, -0.33, 1.2], [0.42, 0.35, 0.43, 0.93]]))
COLOURS = np.array([[0.9, 0.5, 0.1], [0.2, 0.7, 0.4], [0.3, 0.1, 0.8], [0.8, 0.1, 0.4], [0.5, 0.6, 0.1], [0.2, 0.3, 0.9]])
Z, CUBE = normal(2, 3, 4) + 1j * normal(2, 3, 4), normal(2, 3, 4)
INDICES = np.array([[0, 1], [0, 3], [1, 0], [2, 4]])
VALUES, SHAPE = normal(4), [3, 5]
_SPARSE: dict[str, Any] = {"sp_indices": INDICES, "sp_shape": SHAPE}

CASES: list[Case] = [
    *[of("ResizeBilinear", "images", IMAGES, size=size, align_corners=align, half_pixel_centers=half,
         note=f"{size}, {align}, {half}", second=None)
      for size, align, half in (([7, 3], False, False), ([7, 3], True, False), ([3, 8], False, True))],
    *[of("ResizeBicubic", "images", IMAGES, size=size, half_pixel_centers=half, note=f"{size}, {half}", second=False)
      for size, half in (([7, 3], False), ([3, 8], True))],
    *[of("ResizeNearestNeighbor", "images", normal(1, 3, 4, 2), size=size, align_corners=align, note=f"{size}, {align}",
         second=False) for size, align in (([7, 3], False), ([2, 5], True))],
    *[of("CropAndResize", "image boxes", IMAGES, BOXES, box_ind=[0, 1, 0], crop_size=size, note=f"{size}", second=False)
      for size in ([3, 4], [1, 2])],
    by("CropAndResize", lambda image: tf.raw_ops.CropAndResize(
        image=image, boxes=BOXES, box_ind=[0, 1, 0], crop_size=[3, 4], method="nearest"), IMAGES, note="nearest",
       second=False),
    of("RGBToHSV", "images", COLOURS),
    of("ExtractImagePatches", "images", normal(1, 5, 4, 2), ksizes=[1, 3, 2, 1], strides=[1, 2, 1, 1],
       rates=[1, 1, 2, 1], padding="SAME"),
    of("ExtractImagePatches", "images", normal(1, 5, 4, 2), ksizes=[1, 2, 2, 1], strides=[1, 1, 2, 1],
       rates=[1, 1, 1, 1], padding="VALID", note="inside"),
    *[of(kind, "input", Z) for kind in ("FFT", "IFFT", "FFT2D", "IFFT2D", "FFT3D", "IFFT3D")],
    *[by(kind, lambda x, kind=kind, size=size: getattr(tf.signal, kind.lower())(x, size), CUBE, note=f"{size}")
      for kind, size in (("RFFT", None), ("RFFT", [5]), ("RFFT2D", None), ("RFFT2D", [3, 3]))],
    *[by(kind, lambda x, kind=kind, size=size: getattr(tf.signal, kind.lower())(x, size), Z, note=f"{size}")
      for kind, size in (("IRFFT", None), ("IRFFT", [5]), ("IRFFT2D", None), ("IRFFT2D", [3, 5]))],
    by("RFFT3D", lambda x: tf.raw_ops.RFFT3D(input=x, fft_length=[2, 3, 4], Tcomplex=tf.complex128), CUBE),
    by("IRFFT3D", lambda x: tf.raw_ops.IRFFT3D(input=x, fft_length=[2, 3, 6], Treal=tf.float64), Z),
    *[of("SparseTensorDenseMatMul", "a_values b", VALUES, normal(*shape), a_indices=INDICES, a_shape=SHAPE, adjoint_a=a,
         adjoint_b=b, note=f"{a}, {b}")
      for a, b, shape in ((False, False, (5, 2)), (False, True, (2, 5)), (True, False, (3, 2)), (True, True, (2, 3)))],
    of("SparseTensorDenseAdd", "a_values b", VALUES, X, a_indices=INDICES, a_shape=SHAPE),
    *[of(kind, "sp_values dense", VALUES, POS, **_SPARSE) for kind in ("SparseDenseCwiseMul", "SparseDenseCwiseDiv")],
    of("SparseDenseCwiseAdd", "sp_values", VALUES, dense=X, **_SPARSE),
    by("SparseAdd", lambda a, b: tf.raw_ops.SparseAdd(
        a_indices=INDICES, a_values=a, a_shape=SHAPE, b_indices=INDICES[1:] - [[0, 0], [0, 0], [1, 0]], b_values=b,
        b_shape=SHAPE, thresh=np.float64(0))[1], VALUES, normal(3), second=None),
    of("SparseReduceSum", "input_values", VALUES, input_indices=INDICES, input_shape=SHAPE, reduction_axes=[1]),
    of("SparseReduceSum", "input_values", VALUES, input_indices=INDICES, input_shape=SHAPE, reduction_axes=[0],
       keep_dims=True, note="kept"),
    by("SparseReorder", lambda v: tf.raw_ops.SparseReorder(
        input_indices=INDICES[[2, 0, 3, 1]], input_values=v, input_shape=SHAPE)[1], VALUES),
    by("SparseSlice", lambda v: tf.raw_ops.SparseSlice(
        indices=INDICES, values=v, shape=SHAPE, start=[0, 1], size=[2, 4])[1], VALUES, second=False),
    of("SparseSoftmax", "sp_values", VALUES, **_SPARSE),
    of("SparseToDense", "sparse_values default_value", VALUES, np.array(0.3), sparse_indices=INDICES, output_shape=SHAPE),
    by("SparseFillEmptyRows", lambda v, d: tf.raw_ops.SparseFillEmptyRows(
        indices=INDICES, values=v, dense_shape=[5, 5], default_value=d)[1], VALUES, np.array(0.7), second=False),
    of("LeakyRelu", "features", apart(7), note="of an odd extent"),
]  # fmt: skip
