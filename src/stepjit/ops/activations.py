"""Activation functions and softmax, in TF1's signatures, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.registry import RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.broadcasting import static_shape
from stepjit.ops.reductions import either
from stepjit_runtime.errors import InvalidArgumentError

Grads = Sequence[Any]


def _mul(x: Any, y: Any) -> Tensor:
    return apply_op("Mul", x=x, y=y, name="mul")


# --- relu and its kin ---


def relu(features: Any, name: str | None = None) -> Tensor:
    """max(x, 0) elementwise."""
    return apply_op("Relu", features=features, name=name)


@RegisterGradient("Relu")
def _relu_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("ReluGrad", gradients=grad, features=op.outputs[0])


@RegisterGradient("ReluGrad")
def _relu_grad_grad(op: Operation, grad: Tensor) -> Grads:
    features = op.inputs[1]
    return [
        apply_op("ReluGrad", gradients=grad, features=features),
        apply_op("ZerosLike", x=features, name="zeros_like"),
    ]


def relu6(features: Any, name: str | None = None) -> Tensor:
    """min(max(x, 0), 6) elementwise."""
    with name_scope(name, "Relu6", [features]) as scope:
        return apply_op("Relu6", features=convert_to_tensor(features, name="features"), name=scope)


@RegisterGradient("Relu6")
def _relu6_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("Relu6Grad", gradients=grad, features=op.outputs[0])


@RegisterGradient("Relu6Grad")
def _relu6_grad_grad(op: Operation, grad: Tensor) -> Grads:
    features = op.inputs[1]
    return [
        apply_op("Relu6Grad", gradients=grad, features=features),
        apply_op("ZerosLike", x=features, name="zeros_like"),
    ]


def elu(features: Any, name: str | None = None) -> Tensor:
    """x above 0, exp(x) - 1 below."""
    return apply_op("Elu", features=features, name=name)


@RegisterGradient("Elu")
def _elu_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("EluGrad", gradients=grad, outputs=op.outputs[0])


@RegisterGradient("EluGrad")
def _elu_grad_grad(op: Operation, grad: Tensor) -> Grads:
    given, outputs = op.inputs
    below = apply_op("Less", x=outputs, y=constant(0, dtype=outputs.dtype.base_dtype))
    zero = apply_op("ZerosLike", x=given, name="zeros_like")
    return [
        apply_op("EluGrad", gradients=grad, outputs=outputs),
        apply_op("Select", condition=below, t=_mul(grad, given), e=zero),
    ]


def selu(features: Any, name: str | None = None) -> Tensor:
    """The scaled elu that keeps mean 0 and variance 1."""
    return apply_op("Selu", features=features, name=name)


_SELU_SCALE_ALPHA = 1.7580993408473768599402175208123


@RegisterGradient("Selu")
def _selu_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("SeluGrad", gradients=grad, outputs=op.outputs[0])


@RegisterGradient("SeluGrad")
def _selu_grad_grad(op: Operation, grad: Tensor) -> Grads:
    given, outputs = op.inputs
    again = apply_op("SeluGrad", gradients=grad, outputs=outputs)
    below = apply_op("Less", x=outputs, y=constant(0, dtype=outputs.dtype.base_dtype))
    zero = apply_op("ZerosLike", x=given, name="zeros_like")
    return [again, apply_op("Select", condition=below, t=_mul(grad, given), e=zero)]


def leaky_relu(features: Any, alpha: Any = 0.2, name: str | None = None) -> Tensor:
    """x above 0, alpha * x below; integers become float32."""
    with name_scope(name, "LeakyRelu", [features, alpha]) as scope:
        x = convert_to_tensor(features, name="features")
        if x.dtype.base_dtype.is_integer:
            x = apply_op("Cast", x=x, DstT="float32")
        if isinstance(alpha, Tensor):
            return apply_op("Maximum", x=_mul(alpha, x), y=x, name=scope)
        return apply_op("LeakyRelu", features=x, alpha=float(alpha), name=scope)


@RegisterGradient("LeakyRelu")
def _leaky_relu_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("LeakyReluGrad", gradients=grad, features=op.inputs[0], alpha=op.attrs["alpha"])


@RegisterGradient("LeakyReluGrad")
def _leaky_relu_grad_grad(op: Operation, grad: Tensor) -> Grads:
    features = op.inputs[1]
    again = apply_op("LeakyReluGrad", gradients=grad, features=features, alpha=op.attrs["alpha"])
    return [again, apply_op("ZerosLike", x=features, name="zeros_like")]


def crelu(features: Any, name: str | None = None, axis: int = -1) -> Tensor:
    """relu(x) and relu(-x), one after the other along `axis`."""
    with name_scope(name, "CRelu", [features]) as scope:
        x = convert_to_tensor(features, name="features")
        both = apply_op("ConcatV2", values=[x, apply_op("Neg", x=x)], axis=axis, name=scope)
        return relu(both)


def swish(features: Any, beta: Any = 1.0) -> Tensor:
    """x * sigmoid(beta * x)."""
    x = convert_to_tensor(features, name="features")
    inner = x if isinstance(beta, float) and beta == 1.0 else _mul(convert_to_tensor(beta, dtype=x.dtype.base_dtype), x)
    return _mul(x, apply_op("Sigmoid", x=inner))


def softplus(features: Any, name: str | None = None) -> Tensor:
    """log(1 + exp(x)) elementwise."""
    return apply_op("Softplus", features=features, name=name)


@RegisterGradient("Softplus")
def _softplus_grad(op: Operation, grad: Tensor) -> Tensor:
    return _mul(grad, apply_op("Sigmoid", x=op.inputs[0]))


@RegisterGradient("SoftplusGrad")
def _softplus_grad_grad(op: Operation, grad: Tensor) -> Grads:
    dy, x = op.inputs
    half = apply_op("AddV2", x=apply_op("Exp", x=apply_op("Neg", x=x)), y=constant(2, dtype=x.dtype.base_dtype))
    curve = apply_op("RealDiv", x=_mul(grad, dy), y=apply_op("AddV2", x=half, y=apply_op("Exp", x=x)))
    return [apply_op("SoftplusGrad", gradients=grad, features=x), curve]


def softsign(features: Any, name: str | None = None) -> Tensor:
    """x / (1 + |x|) elementwise."""
    return apply_op("Softsign", features=features, name=name)


@RegisterGradient("Softsign")
def _softsign_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("SoftsignGrad", gradients=grad, features=op.inputs[0])


# --- softmax ---


def _over_axis(kind: str, logits: Any, axis: Any, dim: Any, name: str | None) -> Tensor:
    axis = either("axis", axis, "dim", dim)
    axis = -1 if axis is None else axis
    x = convert_to_tensor(logits)
    if isinstance(axis, Tensor) or x.dims is None or axis == -1 or axis == len(x.dims) - 1:
        if isinstance(axis, Tensor) or (axis != -1 and x.dims is None):
            raise ValueError(f"{kind} over an axis other than the last needs a static axis and rank")
        return apply_op(kind, logits=x, name=name)
    rank = len(x.dims)
    if not -rank <= axis < rank:
        text = f"`dim` must be in the range [-{rank}, {rank}) where {rank} is the number of dimensions in the input."
        raise InvalidArgumentError(None, None, f"{text} Received: dim={axis}")
    order = list(range(rank))
    order[axis], order[-1] = order[-1], order[axis]
    perm = constant(order, dtype="int32")
    moved = apply_op("Transpose", x=x, perm=perm, name="transpose")
    return apply_op("Transpose", x=apply_op(kind, logits=moved), perm=perm, name=name or "transpose")


def softmax(logits: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Tensor:
    """exp(x) divided by its sum along `axis` (the last by default)."""
    return _over_axis("Softmax", logits, axis, dim, name)


@RegisterGradient("Softmax")
def _softmax_grad(op: Operation, grad: Tensor) -> Tensor:
    y = op.outputs[0]
    total = apply_op("Sum", input=_mul(grad, y), reduction_indices=-1, keep_dims=True)
    return _mul(apply_op("Sub", x=grad, y=total, name="sub"), y)


def log_softmax(logits: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Tensor:
    """The logarithm of softmax, exact for small probabilities."""
    return _over_axis("LogSoftmax", logits, axis, dim, name)


@RegisterGradient("LogSoftmax")
def _log_softmax_grad(op: Operation, grad: Tensor) -> Tensor:
    powers = apply_op("Exp", x=op.outputs[0])
    total = apply_op("Sum", input=grad, reduction_indices=-1, keep_dims=True)
    return apply_op("Sub", x=grad, y=_mul(total, powers), name="sub")


# --- dense layers' pieces ---


def bias_add(value: Any, bias: Any, data_format: str | None = None, name: str | None = None) -> Tensor:
    """`value` plus a vector along its channels: the last dimension, or the second with `data_format="NC..."`."""
    with name_scope(name, "BiasAdd", [value, bias]) as scope:
        layout = "NHWC"
        if data_format is not None:
            if data_format.startswith("NC"):
                layout = "NCHW"
            elif not (data_format.startswith("N") and data_format.endswith("C")):
                raise ValueError(f"`data_format` must be of the form `N...C` or `NC...`. Received: {data_format}")
        x = convert_to_tensor(value, name="input")
        vector = convert_to_tensor(bias, dtype=x.dtype.base_dtype, name="bias")
        return apply_op("BiasAdd", value=x, bias=vector, data_format=layout, name=scope)


@RegisterGradient("BiasAdd")
def _bias_add_grad(op: Operation, grad: Tensor) -> Grads:
    return [grad, apply_op("BiasAddGrad", out_backprop=grad, data_format=op.attrs["data_format"])]


@RegisterGradient("BiasAddV1")
def _bias_add_v1_grad(op: Operation, grad: Tensor) -> Grads:
    return [grad, apply_op("BiasAddGrad", out_backprop=grad)]


@RegisterGradient("BiasAddGrad")
def _bias_add_grad_grad(op: Operation, grad: Tensor) -> Tensor:
    x = op.inputs[0]
    if op.attrs["data_format"] != b"NCHW":
        return apply_op("BroadcastTo", input=grad, shape=static_shape(x))
    rank = len(x.dims or ())
    column = apply_op("Reshape", tensor=grad, shape=[-1] + [1] * (rank - 2))
    return apply_op("BroadcastTo", input=column, shape=static_shape(x))


def xw_plus_b(x: Any, weights: Any, biases: Any, name: str | None = None) -> Tensor:
    """matmul(x, weights) + biases."""
    with name_scope(name, "xw_plus_b", [x, weights, biases]) as scope:
        a, w = convert_to_tensor(x, name="x"), convert_to_tensor(weights, name="weights")
        b = convert_to_tensor(biases, name="biases")
        return bias_add(apply_op("MatMul", a=a, b=w), b, name=scope)


def relu_layer(x: Any, weights: Any, biases: Any, name: str | None = None) -> Tensor:
    """relu(matmul(x, weights) + biases)."""
    with name_scope(name, "relu_layer", [x, weights, biases]) as scope:
        a, w = convert_to_tensor(x, name="x"), convert_to_tensor(weights, name="weights")
        b = convert_to_tensor(biases, name="biases")
        return relu(bias_add(apply_op("MatMul", a=a, b=w), b), name=scope)
