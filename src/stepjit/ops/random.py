"""Random numbers, in TF1's signatures."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit.framework.apply import apply_op
from stepjit.framework.constant_value import constant_value
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.random_seed import get_seed
from stepjit.framework.registry import NotDifferentiable, RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.array import shape as shape_of
from stepjit.ops.broadcasting import unbroadcast
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType, as_dtype


def _seeds(seed: int | None) -> dict[str, Any]:
    first, second = get_seed(seed)
    return {"seed": first or 0, "seed2": second or 0}


def shape_tensor(shape: Any, name: str = "shape") -> Tensor:
    """`shape` as an integer vector."""
    if isinstance(shape, Tensor):
        return shape
    if isinstance(shape, (list, tuple)) and not shape:
        return constant([], dtype="int32", shape=[0], name=name)
    return convert_to_tensor(shape, name=name)


def random_uniform(
    shape: Any, minval: Any = 0, maxval: Any = None, dtype: Any = dtypes.float32, seed: int | None = None,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """Uniform numbers in [minval, maxval); maxval is 1 for floats. ValueError for integers without it."""
    number = as_dtype(dtype)
    if number not in (dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64, dtypes.int32, dtypes.int64):
        raise ValueError(f"Argument `dtype` got invalid value {number!r}.")
    if maxval is None:
        if number.is_integer:
            raise ValueError("Must specify maxval for integer dtype")
        maxval = 1
    with name_scope(name, "random_uniform", [shape, minval, maxval]) as scope:
        dims = shape_tensor(shape)
        # Numbers in [0, 1) need no scaling.
        plain_low = isinstance(minval, (int, float, np.number)) and minval == 0
        plain_high = isinstance(maxval, (int, float, np.number)) and maxval == 1
        if number.is_integer:
            low, high = (
                convert_to_tensor(each, dtype=number, name=label) for each, label in ((minval, "min"), (maxval, "max"))
            )
            return apply_op("RandomUniformInt", shape=dims, minval=low, maxval=high, name=scope, **_seeds(seed))
        if not plain_low or not plain_high:
            low, high = (
                convert_to_tensor(each, dtype=number, name=label) for each, label in ((minval, "min"), (maxval, "max"))
            )
        unit = apply_op("RandomUniform", shape=dims, dtype=number, **_seeds(seed))
        if plain_low and plain_high:
            return unit
        if plain_low:
            return apply_op("Mul", x=unit, y=high, name=scope)
        width = apply_op("Sub", x=high, y=low, name="sub")
        return apply_op("AddV2", x=apply_op("Mul", x=unit, y=width, name="mul"), y=low, name=scope)


def random_normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = dtypes.float32, seed: int | None = None,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """Normally distributed numbers."""
    return _normal("RandomStandardNormal", "random_normal", shape, mean, stddev, dtype, seed, name)


def truncated_normal(
    shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = dtypes.float32, seed: int | None = None,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """Normally distributed numbers, those two or more standard deviations from the mean drawn again."""
    return _normal("TruncatedNormal", "truncated_normal", shape, mean, stddev, dtype, seed, name)


def _normal(
    kind: str, default: str, shape: Any, mean: Any, stddev: Any, dtype: Any, seed: int | None, name: str | None
) -> Tensor:
    with name_scope(name, default, [shape, mean, stddev]) as scope:
        number = as_dtype(dtype)
        dims = shape_tensor(shape)
        center = convert_to_tensor(mean, dtype=number, name="mean")
        spread = convert_to_tensor(stddev, dtype=number, name="stddev")
        drawn = apply_op(kind, shape=dims, dtype=number, **_seeds(seed))
        return apply_op("AddV2", x=apply_op("Mul", x=drawn, y=spread, name="mul"), y=center, name=scope)


def random_shuffle(value: Any, seed: int | None = None, name: str | None = None) -> Tensor:
    """The rows of `value` in random order."""
    return apply_op("RandomShuffle", value=value, name=name, **_seeds(seed))


def random_crop(value: Any, size: Any, seed: int | None = None, name: str | None = None) -> Tensor:
    """A block of `size` at a random place; InvalidArgumentError in the step when `value` is smaller."""
    from stepjit.framework.stack import get_default_graph
    from stepjit.ops.reductions import reduce_all

    with name_scope(name, "random_crop", [value, size]) as scope:
        x = convert_to_tensor(value, name="value")
        block = convert_to_tensor(size, dtype="int32", name="size")
        whole = shape_of(x)
        if not _surely_fits(x, block):
            fits = reduce_all(apply_op("GreaterEqual", x=whole, y=block))
            check = apply_op("Assert", condition=fits, data=["Need value.shape >= size, got ", whole, block])
            with get_default_graph().control_dependencies([check]):
                whole = apply_op("Identity", input=whole, name="control_dependency")
        limit = apply_op("AddV2", x=apply_op("Sub", x=whole, y=block, name="sub"), y=1, name="add")
        drawn = random_uniform(shape_of(limit), 0, dtypes.int32.max, dtypes.int32, seed=seed)
        start = apply_op("FloorMod", x=drawn, y=limit, name="mod")
        return apply_op("Slice", input=x, begin=start, size=block, name=scope)


def _surely_fits(x: Tensor, block: Tensor) -> bool:
    """Whether the graph alone tells that a block of that size can be cut out."""
    size = constant_value(block)
    if x.dims is None or size is None or size.shape != (len(x.dims),):
        return False
    return all(extent is not None and extent >= wanted for extent, wanted in zip(x.dims, size.tolist()))


def multinomial(
    logits: Any, num_samples: Any, seed: int | None = None, name: str | None = None, output_dtype: Any = None
) -> Tensor:  # fmt: skip
    """Class numbers drawn with probabilities softmax(logits): [rows, num_samples]."""
    with name_scope(name, "multinomial", [logits]):
        return _categorical(logits, num_samples, output_dtype, seed)


def categorical(
    logits: Any, num_samples: Any, dtype: Any = None, seed: int | None = None, name: str | None = None
) -> Tensor:  # fmt: skip
    """Class numbers drawn with probabilities softmax(logits): [rows, num_samples]."""
    with name_scope(name, "categorical", [logits]):
        return _categorical(logits, num_samples, dtype, seed)


def _categorical(logits: Any, num_samples: Any, dtype: Any, seed: int | None) -> Tensor:
    rows = convert_to_tensor(logits, name="logits")
    output = as_dtype(dtype or dtypes.int64)
    if output not in (dtypes.int32, dtypes.int64):
        raise ValueError(f"Argument `dtype` got invalid value {output!r}. Accepted dtypes are int32 and int64.")
    return apply_op("Multinomial", logits=rows, num_samples=num_samples, output_dtype=output, **_seeds(seed))


def random_gamma(
    shape: Any, alpha: Any, beta: Any = None, dtype: Any = dtypes.float32, seed: int | None = None,
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """Gamma distributed numbers of shape `shape` + the broadcast shape of alpha and beta."""
    with name_scope(name, "random_gamma", [shape, alpha, beta]):
        dims = convert_to_tensor(shape, dtype="int32", name="shape")
        number = as_dtype(dtype)
        spread, rate = gamma_parameters(alpha, beta, number)
        return gamma_scaled(apply_op("RandomGamma", shape=dims, alpha=spread, **_seeds(seed)), rate)


def gamma_parameters(alpha: Any, beta: Any, number: DType) -> tuple[Tensor, Tensor]:
    """alpha, spread to the shape that both broadcast to, and beta."""
    form = convert_to_tensor(alpha, dtype=number, name="alpha")
    rate = convert_to_tensor(1 if beta is None else beta, dtype=number, name="beta")
    both = apply_op("BroadcastArgs", s0=shape_of(form), s1=shape_of(rate))
    return apply_op("BroadcastTo", input=form, shape=both), rate


def gamma_scaled(drawn: Tensor, rate: Tensor) -> Tensor:
    """Numbers of rate 1 made numbers of `rate`, none of them zero."""
    number = drawn.dtype
    tiny = constant(np.finfo(number.np).tiny, dtype=number)
    return apply_op("Maximum", x=tiny, y=apply_op("RealDiv", x=drawn, y=rate, name="truediv"))


def gamma_gradient(alpha: Tensor, drawn: Tensor, grad: Tensor) -> Tensor:
    """The gradient for alpha, at fixed quantiles."""
    partial = apply_op("RandomGammaGrad", alpha=alpha, sample=drawn)
    return unbroadcast(alpha, drawn, apply_op("Mul", x=grad, y=partial, name="mul"), None)[0]


@RegisterGradient("RandomGamma")
def _random_gamma_grad(op: Operation, grad: Tensor) -> list[Any]:
    return [None, gamma_gradient(op.inputs[1], op.outputs[0], grad)]


def random_poisson(
    lam: Any, shape: Any, dtype: Any = dtypes.float32, seed: int | None = None, name: str | None = None
) -> Tensor:  # fmt: skip
    """Poisson distributed numbers of rates `lam`: of shape `shape` + lam's."""
    with name_scope(name, "random_poisson", [lam, shape]):
        dims = convert_to_tensor(shape, dtype="int32", name="shape")
        return apply_op("RandomPoissonV2", shape=dims, rate=lam, dtype=as_dtype(dtype), **_seeds(seed))


for _kind in (
    "RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal", "RandomShuffle", "Multinomial",
):  # fmt: skip
    NotDifferentiable(_kind)
