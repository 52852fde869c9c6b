"""Cases of neural-network ops: softmax, losses, biases, convolutions, pooling, normalisation, with their gradient ops."""

from __future__ import annotations

from typing import Any

import numpy as np
from differences import Case, by, of
from samples import POS, X, apart, normal, single

import stepjit.compat.v1 as tf

IMAGE, KERNEL = normal(1, 4, 5, 2), normal(3, 2, 2, 3)
VOLUME, KERNEL_3D = normal(1, 2, 3, 3, 1), normal(2, 2, 2, 1, 2)
FINE = normal(1, 4, 3, 2)
SPOTS, SPOTS_3D = apart(1, 5, 4, 2), apart(1, 3, 2, 3, 2)
SHARES = POS / POS.sum(1, keepdims=True)
BATCH, SCALE, OFFSET = single(normal(2, 2, 3, 2)), single(normal(2) + 2), single(normal(2))
MEAN, VARIANCE = single(normal(2)), single(np.array([0.7, 1.9]))
_CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "SAME": {"strides": [1, 2, 1, 1], "padding": "SAME"},
    "VALID": {"strides": [1, 1, 2, 1], "padding": "VALID"},
    "explicit, dilated": {
        "strides": [1, 1, 1, 1], "padding": "EXPLICIT", "explicit_paddings": [0, 0, 2, 1, 0, 3, 0, 0], "dilations": [1, 1, 2, 1]
    },
}
_DEPTHWISE: dict[str, dict[str, Any]] = {
    "SAME": {"strides": [1, 2, 2, 1], "padding": "SAME"},
    "VALID": {"strides": [1, 1, 1, 1], "padding": "VALID"},
}
_POOLS: dict[str, dict[str, Any]] = {
    "SAME": {"ksize": [1, 3, 2, 1], "strides": [1, 2, 2, 1], "padding": "SAME"},
    "VALID": {"ksize": [1, 2, 2, 1], "strides": [1, 1, 1, 1], "padding": "VALID"},
}
_POOL_3D: dict[str, Any] = {"ksize": [1, 2, 2, 2, 1], "strides": [1, 1, 1, 1, 1], "padding": "SAME"}


def _first(index: int, call: Any, kind: str) -> Any:
    """The gradients, by the first `index` inputs, that an op with a gradient op of its own gets."""

    def build(*inputs: Any) -> Any:
        y = call(*inputs)
        return tf.gradients(y * y * y, list(inputs[:index]))

    return build


def _norm(kind: str, training: bool, **options: Any) -> Any:
    def build(x: Any, scale: Any, offset: Any) -> Any:
        moments = {"mean": [], "variance": []} if training else {"mean": MEAN, "variance": VARIANCE}
        options.setdefault("epsilon", 0.01)
        found = getattr(tf.raw_ops, kind)(x=x, scale=scale, offset=offset, is_training=training, **moments, **options)
        return found[0]

    return build


def _norm_grad(kind: str, training: bool, **options: Any) -> Any:
    def build(x: Any, scale: Any, offset: Any) -> Any:
        y = _norm(kind, training, **options)(x, scale, offset)
        return tf.gradients(y * y, [x, scale, offset])

    return build


_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_OF_NORMS = dict(zip(_NORMS, ("FusedBatchNormGrad", "FusedBatchNormGradV2", "FusedBatchNormGradV3")))
_LOGITS = normal(4, 3)

CASES: list[Case] = [
    of("Softmax", "logits", X),
    of("LogSoftmax", "logits", X),
    of("Softmax", "logits", X, unknown=True, note="of unknown extents"),
    by("Softmax", lambda x: tf.nn.softmax(x, axis=0), X, note="of columns"),
    by("SoftmaxCrossEntropyWithLogits", lambda x, y: tf.raw_ops.SoftmaxCrossEntropyWithLogits(features=x, labels=y)[0],
       X, SHARES),
    by("SparseSoftmaxCrossEntropyWithLogits", lambda x: tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(
        features=x, labels=[0, 2, 1, 1])[0], _LOGITS),
    of("BiasAdd", "value bias", IMAGE, normal(2)),
    of("BiasAdd", "value bias", IMAGE, normal(4), data_format="NCHW", note="channels first"),
    of("BiasAddV1", "value bias", X, normal(5)),
    of("BiasAddGrad", "out_backprop", IMAGE),
    of("BiasAddGrad", "out_backprop", IMAGE, data_format="NCHW", note="channels first"),
    *[of("Conv2D", "input filter", IMAGE, KERNEL, note=note, **options) for note, options in _CONVOLUTIONS.items()],
    of("Conv2D", "input filter", IMAGE, KERNEL, strides=[1, 1, 1, 1], padding="SAME", unknown=True, note="unknown"),
    *[of("Conv2DBackpropInput", "filter out_backprop", KERNEL, normal(1, 2, 5, 3), input_sizes=[1, 4, 5, 2],
         note=note, **options) for note, options in _CONVOLUTIONS.items() if note == "SAME"],
    *[of("Conv2DBackpropFilter", "input out_backprop", IMAGE, normal(1, 2, 5, 3), filter_sizes=[3, 2, 2, 3],
         note=note, **options) for note, options in _CONVOLUTIONS.items() if note == "SAME"],
    of("Conv3D", "input filter", VOLUME, KERNEL_3D, strides=[1, 1, 2, 1, 1], padding="SAME"),
    of("Conv3DBackpropInputV2", "filter out_backprop", KERNEL_3D, normal(1, 2, 2, 3, 2), input_sizes=[1, 2, 3, 3, 1],
       strides=[1, 1, 2, 1, 1], padding="SAME"),
    of("Conv3DBackpropFilterV2", "input out_backprop", VOLUME, normal(1, 2, 2, 3, 2), filter_sizes=[2, 2, 2, 1, 2],
       strides=[1, 1, 2, 1, 1], padding="SAME"),
    *[of("DepthwiseConv2dNative", "input filter", FINE, normal(2, 3, 2, 2), note=note, **options)
      for note, options in _DEPTHWISE.items()],
    of("DepthwiseConv2dNativeBackpropInput", "filter out_backprop", normal(2, 3, 2, 2), normal(1, 2, 2, 4),
       input_sizes=[1, 4, 3, 2], **_DEPTHWISE["SAME"]),
    of("DepthwiseConv2dNativeBackpropFilter", "input out_backprop", FINE, normal(1, 2, 2, 4),
       filter_sizes=[2, 3, 2, 2], **_DEPTHWISE["SAME"]),
    by("Dilation2D", lambda x, k: tf.raw_ops.Dilation2D(
        input=x, filter=k, strides=[1, 1, 1, 1], rates=[1, 1, 1, 1], padding="SAME"),
       apart(1, 3, 3, 2), normal(2, 2, 2) * 0.01, second=False),
    *[of("MaxPool", "input", SPOTS, note=note, **options) for note, options in _POOLS.items()],
    of("MaxPoolV2", "input", SPOTS, **_POOLS["SAME"]),
    by("MaxPoolWithArgmax", lambda x: tf.raw_ops.MaxPoolWithArgmax(input=x, **_POOLS["SAME"])[0], SPOTS, second=False),
    *[of("AvgPool", "value", IMAGE, note=note, **options) for note, options in _POOLS.items()],
    of("AvgPool3D", "input", VOLUME, **_POOL_3D),
    of("MaxPool3D", "input", single(SPOTS_3D), **_POOL_3D),
    *[of("AvgPoolGrad", "grad", shaped, orig_input_shape=[1, 4, 5, 2], note=note, **_POOLS[note])
      for note, shaped in (("SAME", normal(1, 2, 3, 2)), ("VALID", normal(1, 3, 4, 2)))],
    of("AvgPool3DGrad", "grad", normal(1, 2, 3, 3, 1), orig_input_shape=[1, 2, 3, 3, 1], **_POOL_3D),
    *[by(kind, _first(1, call, kind), array, note="from " + kind.replace("Grad", ""), second=None)
      for kind, call, array in (
          ("MaxPoolGrad", lambda x: tf.raw_ops.MaxPool(input=x, **_POOLS["VALID"]), SPOTS),
          ("MaxPoolGradV2", lambda x: tf.raw_ops.MaxPoolV2(input=x, **_POOLS["VALID"]), SPOTS),
          ("MaxPool3DGrad", lambda x: tf.raw_ops.MaxPool3D(input=x, **_POOL_3D), single(SPOTS_3D)),
      )],
    by("MaxPoolGradGrad", lambda x, g: tf.raw_ops.MaxPoolGradGrad(
        orig_input=x, orig_output=tf.stop_gradient(tf.raw_ops.MaxPool(input=x, **_POOLS["VALID"])), grad=g,
        **_POOLS["VALID"]), SPOTS, apart(1, 5, 4, 2)),
    by("MaxPool3DGradGrad", lambda g: tf.raw_ops.MaxPool3DGradGrad(
        orig_input=single(SPOTS_3D), orig_output=tf.raw_ops.MaxPool3D(input=single(SPOTS_3D), **_POOL_3D), grad=g,
        **_POOL_3D), single(apart(1, 3, 2, 3, 2))),
    by("CTCLoss", lambda x: tf.raw_ops.CTCLoss(
        inputs=x, labels_indices=[[0, 0], [0, 1], [1, 0]], labels_values=[0, 2, 1], sequence_length=[5, 3])[0],
       normal(5, 2, 4), second=False),
    of("LRN", "input", single(normal(1, 2, 2, 4)), depth_radius=1, alpha=0.5, beta=0.75, second=False),
    *[by(kind, _norm(kind, training), BATCH, SCALE, OFFSET, note="training" if training else "inference")
      for kind in _NORMS for training in (True, False)],
    by("FusedBatchNormV3", _norm("FusedBatchNormV3", True, data_format="NCHW"), BATCH.transpose(0, 3, 1, 2), SCALE,
       OFFSET, note="channels first"),
    *[by(_OF_NORMS[kind], _norm_grad(kind, training), BATCH, SCALE, OFFSET, second=None,
         note="training" if training else "inference") for kind in _NORMS for training in (True, False)],
    *[of("BatchNormWithGlobalNormalization", "t m v beta gamma", normal(2, 2, 1, 3), normal(3), POS[0, :3], normal(3),
         normal(3), variance_epsilon=0.01, scale_after_normalization=scaled, note=f"{scaled}")
      for scaled in (True, False)],
]  # fmt: skip
