"""Batch normalisation in one op and normalisation across channels, in TF1's signatures, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.registry import RegisterGradient
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.normalization import batch_normalization
from stepjit.ops.reductions import either, reduce_sum
from stepjit_runtime import dtypes

Grads = Sequence[Any]

LEAST_EPSILON = 1.001e-5


def fused_batch_norm(
    x: Any, scale: Any, offset: Any, mean: Any = None, variance: Any = None, epsilon: float = 0.001,
    data_format: str = "NHWC", is_training: bool = True, name: str | None = None,
    exponential_avg_factor: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(normalised x, mean, variance): by the batch's own moments when training, else by the given ones.

    ValueError when moments are needed and not given.
    """
    if (not is_training or exponential_avg_factor != 1.0) and (mean is None or variance is None):
        raise ValueError(
            "When `is_training` is False or `exponential_avg_factor` is not 1.0, both `mean` and `variance` must be a "
            "1D tensor."
        )
    number = dtypes.float32
    given = [constant([], dtype=number) if each is None else each for each in (mean, variance)]
    found = apply_op(
        "FusedBatchNormV3", x=convert_to_tensor(x, name="input"),
        scale=convert_to_tensor(scale, number, name="scale"), offset=convert_to_tensor(offset, number, name="offset"),
        mean=convert_to_tensor(given[0], number), variance=convert_to_tensor(given[1], number),
        epsilon=max(epsilon, LEAST_EPSILON), exponential_avg_factor=exponential_avg_factor, data_format=data_format,
        is_training=is_training, name=name,
    )  # fmt: skip
    return found[0], found[1], found[2]


def _norm_grad(version: str, op: Operation, grad: Tensor) -> Grads:
    x, scale, _, mean, variance = op.inputs
    kept = op.outputs[3:] if op.attrs["is_training"] else [mean, variance, *op.outputs[5:]]
    options = {key: op.attrs[key] for key in ("epsilon", "data_format", "is_training")}
    if version:
        scale = scale if scale.dtype is dtypes.float32 else apply_op("Cast", x=scale, DstT=dtypes.float32)
    spaces: dict[str, Any] = {f"reserve_space_{k + 1}": each for k, each in enumerate(kept)}
    found = apply_op(f"FusedBatchNormGrad{version}", y_backprop=grad, x=x, scale=scale, **spaces, **options)
    return [*found[:3], None, None]


@RegisterGradient("FusedBatchNorm")
def _norm_grad_v1(op: Operation, *grads: Any) -> Grads:
    return _norm_grad("", op, grads[0])


@RegisterGradient("FusedBatchNormV2")
def _norm_grad_v2(op: Operation, *grads: Any) -> Grads:
    return _norm_grad("V2", op, grads[0])


@RegisterGradient("FusedBatchNormV3")
def _norm_grad_v3(op: Operation, *grads: Any) -> Grads:
    return _norm_grad("V3", op, grads[0])


def _axes(op: Operation, x: Tensor) -> tuple[list[int], list[int]]:
    """(the axes that are summed over, the shape of a vector over the channels)."""
    rank = len(x.dims or (0,) * 4)
    channel = 1 if op.attrs["data_format"].startswith(b"NC") else rank - 1
    return [axis for axis in range(rank) if axis != channel], [-1 if axis == channel else 1 for axis in range(rank)]


def _norm_grad_grad(op: Operation, *grads: Any) -> Grads:
    """By the gradient written out in elementary ops, which are differentiated in their turn."""
    from stepjit.framework.gradients import gradients

    given, x, scale = op.inputs[:3]
    axes, column = _axes(op, x)
    training = op.attrs["is_training"]

    def total(value: Any) -> Tensor:
        return apply_op("Sum", input=value, reduction_indices=axes)

    def mean_of(value: Any) -> Tensor:
        return apply_op("Mean", input=value, reduction_indices=axes)

    def wide(vector: Any) -> Tensor:
        return apply_op("Reshape", tensor=vector, shape=column)

    leaves = [apply_op("Identity", input=each) for each in (given, x, scale)]
    y, value, factor = (each if each.dtype is dtypes.float32 else apply_op("Cast", x=each, DstT=dtypes.float32)
                        for each in leaves)  # fmt: skip
    mean, variance = op.inputs[3:5]
    if training:
        mean = mean_of(value)
        variance = mean_of(apply_op("Square", x=value - wide(mean)))
    moved = value - wide(mean)
    inverse = apply_op("Rsqrt", x=variance + op.attrs["epsilon"])
    along = total(y * moved) * inverse
    out = y
    if training:
        out = y - wide(mean_of(y)) - moved * wide(mean_of(y * moved) * inverse * inverse)
    results = [out * wide(factor * inverse), along, total(y)]
    wanted = [(result, apply_op("Cast", x=grad, DstT=dtypes.float32) if grad.dtype is not dtypes.float32 else grad)
              for result, grad in zip(results, grads) if grad is not None]  # fmt: skip
    found = gradients([result for result, _ in wanted], leaves, [grad for _, grad in wanted])
    return [*found, *[None] * (len(op.inputs) - 3)]


for _version in ("", "V2", "V3"):
    RegisterGradient(f"FusedBatchNormGrad{_version}")(_norm_grad_grad)


def batch_norm_with_global_normalization(
    t: Any = None, m: Any = None, v: Any = None, beta: Any = None, gamma: Any = None, variance_epsilon: Any = None,
    scale_after_normalization: bool | None = None, name: str | None = None, input: Any = None, mean: Any = None,
    variance: Any = None,
) -> Tensor:  # fmt: skip
    """`batch_normalization` with the gain only when `scale_after_normalization`."""
    t, m = either("input", input, "t", t), either("mean", mean, "m", m)
    v = either("variance", variance, "v", v)
    return batch_normalization(t, m, v, beta, gamma if scale_after_normalization else None, variance_epsilon, name)


def local_response_normalization(
    input: Any, depth_radius: int = 5, bias: float = 1, alpha: float = 1, beta: float = 0.5, name: str | None = None
) -> Tensor:
    """Every channel divided by (bias + alpha * the sum of squares up to depth_radius channels away) ** beta."""
    return apply_op("LRN", input=input, depth_radius=depth_radius, bias=bias, alpha=alpha, beta=beta, name=name)


lrn = local_response_normalization


@RegisterGradient("LRN")
def _lrn_grad(op: Operation, grad: Tensor) -> Tensor:
    options = {key: op.attrs[key] for key in ("depth_radius", "bias", "alpha", "beta")}
    return apply_op("LRNGrad", input_grads=grad, input_image=op.inputs[0], output_image=op.outputs[0], **options)


@RegisterGradient("BatchNormWithGlobalNormalization")
def _global_norm_grad(op: Operation, grad: Tensor) -> Grads:
    x, mean, variance, _, gamma = op.inputs
    scaled = op.attrs["scale_after_normalization"]
    epsilon = constant(op.attrs["variance_epsilon"], dtype=variance.dtype.base_dtype)
    inverse = apply_op("Rsqrt", x=variance + epsilon)
    scale = gamma if scaled else apply_op("OnesLike", x=gamma)
    factor = inverse * scale
    total, along = (reduce_sum(each, [0, 1, 2]) for each in (grad, grad * (x - mean)))
    by_variance = along * scale * (-0.5 * inverse / (variance + epsilon))
    by_gamma = along * inverse if scaled else apply_op("ZerosLike", x=gamma)
    return [grad * factor, -total * factor, by_variance, total, by_gamma]
