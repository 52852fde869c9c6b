"""Cross entropies and the L2 loss, in TF1's signatures, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.registry import RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.array import shape as shape_of
from stepjit.ops.array import transpose
from stepjit.ops.creation import zeros_like
from stepjit.ops.reductions import either
from stepjit_runtime import dtypes

Grads = Sequence[Any]


def _mul(x: Any, y: Any) -> Tensor:
    return apply_op("Mul", x=x, y=y, name="mul")


def _named_only(name: str, *given: Any) -> None:
    if any(each is None for each in given):
        raise ValueError(f"Both `labels` and `logits` must be provided. {name} takes them by name.")


def _flattened(x: Tensor) -> Tensor:
    """x as a matrix of its last dimension's rows."""
    if x.dims is not None and x.dims and x.dims[-1] is not None:
        return apply_op("Reshape", tensor=x, shape=[-1, x.dims[-1]])
    last = apply_op("StridedSlice", input=shape_of(x), begin=[-1], end=[0], strides=[1], end_mask=1)
    shape = apply_op("ConcatV2", values=[[-1], last], axis=0, name="concat")
    return apply_op("Reshape", tensor=x, shape=shape)


def softmax_cross_entropy_with_logits_v2(
    labels: Any, logits: Any, axis: Any = None, name: str | None = None, dim: Any = None
) -> Tensor:
    """-sum(labels * log_softmax(logits)) along `axis` (the last by default); differentiable by both."""
    axis = either("axis", axis, "dim", dim)
    axis = -1 if axis is None else axis
    with name_scope(name, "softmax_cross_entropy_with_logits", [logits, labels]) as scope:
        x, y = convert_to_tensor(logits, name="logits"), convert_to_tensor(labels, name="labels")
        narrow = x.dtype.base_dtype in (dtypes.float16, dtypes.bfloat16)
        precise = apply_op("Cast", x=x, DstT="float32") if narrow else x
        if y.dtype.base_dtype is not precise.dtype.base_dtype:
            y = apply_op("Cast", x=y, DstT=precise.dtype.base_dtype)
        rank = None if precise.dims is None else len(precise.dims)
        if axis != -1 and rank is None:
            raise ValueError("a cross entropy over an axis other than the last needs a static rank")
        if rank is not None and not -rank <= axis < rank:
            raise ValueError(f"axis {axis} must be in the range [-{rank}, {rank}) of the logits' dimensions")
        if rank is not None and axis not in (-1, rank - 1):
            order = list(range(rank))
            order.append(order.pop(axis % rank))
            precise, y = transpose(precise, order), transpose(y, order)
        kept = shape_of(precise)
        rows = _flattened(precise), _flattened(y)
        loss, _ = apply_op("SoftmaxCrossEntropyWithLogits", features=rows[0], labels=rows[1], name=scope)
        if rank == 2:
            result = apply_op("Reshape", tensor=loss, shape=[-1])
        else:
            outer = apply_op("StridedSlice", input=kept, begin=[0], end=[-1], strides=[1], begin_mask=1)
            result = apply_op("Reshape", tensor=loss, shape=outer)
        if precise.dims is not None:
            result.set_shape(precise.dims[:-1])
        return apply_op("Cast", x=result, DstT=x.dtype.base_dtype) if narrow else result


@RegisterGradient("SoftmaxCrossEntropyWithLogits")
def _softmax_cross_entropy_grad(op: Operation, grad: Tensor, grad_of_grad: Tensor | None) -> Grads:
    logits, slope = op.inputs[0], op.outputs[1]
    column = apply_op("ExpandDims", input=grad, dim=-1)
    dx, dy = _mul(column, slope), _mul(column, apply_op("Neg", x=apply_op("LogSoftmax", logits=logits)))
    if grad_of_grad is not None and grad_of_grad.op.type not in ("ZerosLike", "Zeros"):
        # The slope softmax - labels is an output too, and was differentiated.
        soft = apply_op("Softmax", logits=logits)
        along = apply_op("Sum", input=_mul(grad_of_grad, soft), reduction_indices=-1, keep_dims=True)
        dx = apply_op("AddV2", x=dx, y=_mul(apply_op("Sub", x=grad_of_grad, y=along, name="sub"), soft))
        dy = apply_op("Sub", x=dy, y=grad_of_grad)
    return [dx, dy]


def softmax_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, dim: Any = -1, name: str | None = None, axis: Any = None
) -> Tensor:  # fmt: skip
    """As the _v2, with the labels taken as constants; ValueError for an `axis` beside `dim`, which has a default."""
    axis = either("axis", axis, "dim", dim)
    _named_only("softmax_cross_entropy_with_logits", labels, logits)
    with name_scope(name, "softmax_cross_entropy_with_logits_sg", [logits, labels]) as scope:
        fixed = apply_op("StopGradient", input=labels, name="labels_stop_gradient")
    return softmax_cross_entropy_with_logits_v2(fixed, logits, axis=axis, name=scope)


def sparse_softmax_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, name: str | None = None
) -> Tensor:  # fmt: skip
    """The cross entropy of class numbers `labels` with softmax(logits); ValueError for shapes that don't fit."""
    _named_only("sparse_softmax_cross_entropy_with_logits", labels, logits)
    with name_scope(name, "SparseSoftmaxCrossEntropyWithLogits", [labels, logits]):
        y, x = convert_to_tensor(labels), convert_to_tensor(logits)
        narrow = x.dtype.base_dtype in (dtypes.float16, dtypes.bfloat16)
        precise = apply_op("Cast", x=x, DstT="float32") if narrow else x
        if x.dims == ():
            raise ValueError(f"`logits` cannot be a scalar. Received logits={x}`")
        if x.dims is not None and y.dims is not None and len(y.dims) != len(x.dims) - 1:
            raise ValueError(
                "`labels.shape.rank` must equal `logits.shape.rank - 1`. Received: "
                f"labels.shape={y.shape} of rank {len(y.dims)} and logits.shape={x.shape} of rank {len(x.dims)}"
            )
        if x.dims is not None and len(x.dims) == 2:
            loss, _ = apply_op("SparseSoftmaxCrossEntropyWithLogits", features=precise, labels=y, name=name)
        else:
            flat, rows = apply_op("Reshape", tensor=y, shape=[-1]), _flattened(precise)
            loss, _ = apply_op("SparseSoftmaxCrossEntropyWithLogits", features=rows, labels=flat, name=name)
            loss = apply_op("Reshape", tensor=loss, shape=shape_of(y))
            loss.set_shape(y.shape)
        return apply_op("Cast", x=loss, DstT=x.dtype.base_dtype) if narrow else loss


@RegisterGradient("SparseSoftmaxCrossEntropyWithLogits")
def _sparse_cross_entropy_grad(op: Operation, grad: Tensor, grad_of_grad: Tensor | None) -> Grads:
    logits = op.inputs[0]
    dx = _mul(apply_op("ExpandDims", input=grad, dim=-1), op.outputs[1])
    if grad_of_grad is not None and grad_of_grad.op.type not in ("ZerosLike", "Zeros"):
        soft = apply_op("Softmax", logits=logits)
        along = apply_op("Sum", input=_mul(grad_of_grad, soft), reduction_indices=-1, keep_dims=True)
        dx = apply_op("AddV2", x=dx, y=_mul(apply_op("Sub", x=grad_of_grad, y=along, name="sub"), soft))
    return [dx, None]


def sigmoid_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, name: str | None = None
) -> Tensor:  # fmt: skip
    """The cross entropy of probabilities `labels` with sigmoid(logits), elementwise; ValueError for unlike shapes."""
    _named_only("sigmoid_cross_entropy_with_logits", labels, logits)
    with name_scope(name, "logistic_loss", [logits, labels]) as scope:
        x, y = convert_to_tensor(logits, name="logits"), convert_to_tensor(labels, name="labels")
        if not x.shape.is_compatible_with(y.shape):
            raise ValueError(f"`logits` and `labels` must have the same shape, received ({x.shape} vs {y.shape}).")
        # max(x, 0) - x * y + log(1 + exp(-|x|)), without a kink at 0 in the gradient.
        zero = zeros_like(x)
        positive = apply_op("GreaterEqual", x=x, y=zero)
        above = apply_op("Select", condition=positive, t=x, e=zero)
        below = apply_op("Select", condition=positive, t=apply_op("Neg", x=x), e=x)
        linear = apply_op("Sub", x=above, y=_mul(x, y), name="sub")
        return apply_op("AddV2", x=linear, y=apply_op("Log1p", x=apply_op("Exp", x=below)), name=scope)


def weighted_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, pos_weight: Any = None, name: str | None = None, targets: Any = None
) -> Tensor:  # fmt: skip
    """As `sigmoid_cross_entropy_with_logits`, with the positive labels' part times `pos_weight`."""
    given = either("labels", labels, "targets", targets)
    with name_scope(name, "logistic_loss", [logits, given]) as scope:
        x, y = convert_to_tensor(logits, name="logits"), convert_to_tensor(given, name="labels")
        if not x.shape.is_compatible_with(y.shape):
            raise ValueError(f"`logits` and `labels` must have the same shape, received ({x.shape} vs {y.shape}).")
        extra = apply_op("Sub", x=pos_weight, y=1, name="sub") if isinstance(pos_weight, Tensor) else pos_weight - 1
        weight = apply_op("AddV2", x=1, y=_mul(extra, y), name="add")
        linear = _mul(apply_op("Sub", x=1, y=y, name="sub"), x)
        tail = apply_op("Log1p", x=apply_op("Exp", x=apply_op("Neg", x=apply_op("Abs", x=x))))
        curve = apply_op("AddV2", x=tail, y=apply_op("Relu", features=apply_op("Neg", x=x)), name="add")
        return apply_op("AddV2", x=linear, y=_mul(weight, curve), name=scope)


def log_poisson_loss(targets: Any, log_input: Any, compute_full_loss: bool = False, name: str | None = None) -> Tensor:
    """exp(log_input) - log_input * targets; with the full loss, Stirling's approximation of log(targets!) too."""
    import math

    with name_scope(name, "log_poisson_loss", [log_input, targets]):
        x, y = convert_to_tensor(log_input, name="log_input"), convert_to_tensor(targets, name="targets")
        result = apply_op("Sub", x=apply_op("Exp", x=x), y=_mul(x, y), name="sub")
        if compute_full_loss:
            log_y = apply_op("Log", x=y)
            root = _mul(0.5, apply_op("Log", x=_mul(2 * math.pi, y)))
            stirling = apply_op("AddV2", x=apply_op("Sub", x=_mul(y, log_y), y=y, name="sub"), y=root, name="add")
            small = apply_op("LogicalAnd", x=apply_op("GreaterEqual", x=y, y=0), y=apply_op("LessEqual", x=y, y=1))
            result = apply_op("AddV2", x=result, y=apply_op("Select", condition=small, t=zeros_like(y), e=stirling))
        return result


def l2_loss(t: Any, name: str | None = None) -> Tensor:
    """Half the sum of squares."""
    return apply_op("L2Loss", t=t, name=name)


@RegisterGradient("L2Loss")
def _l2_loss_grad(op: Operation, grad: Tensor) -> Tensor:
    return _mul(op.inputs[0], grad)
