"""Layers of tf.contrib: dense layers with `weights` and `biases`, initializers by variance, regularizers."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.collections import add_to_collection, add_to_collections, get_collection
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.graph_keys import GraphKeys
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Tensor
from stepjit.initializers import Zeros
from stepjit.layers import core
from stepjit.layers.base import start
from stepjit.ops.activations import bias_add, relu
from stepjit.ops.cross_entropy import l2_loss
from stepjit.ops.linear import matmul, tensordot
from stepjit.ops.math import add_n, multiply
from stepjit.ops.random import random_uniform, truncated_normal
from stepjit.ops.reductions import reduce_sum
from stepjit.variable_scope import get_variable, variable_scope
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import as_dtype

Regularizer = Callable[[Any], Any]

# --- Initializers ---


def variance_scaling_initializer(
    factor: float = 2.0, mode: str = "FAN_IN", uniform: bool = False, seed: int | None = None,
    dtype: Any = dtypes.float32,
) -> Callable[..., Tensor]:  # fmt: skip
    """Random numbers of variance factor / n, n being inputs, outputs or their mean (FAN_IN, FAN_OUT, FAN_AVG).

    TypeError for another mode and for dtypes that aren't floating point.
    """
    if not as_dtype(dtype).is_floating:
        raise TypeError("Cannot create initializer for non-floating point type.")
    if mode not in ("FAN_IN", "FAN_OUT", "FAN_AVG"):
        raise TypeError(f"Unknown mode {mode} [FAN_IN, FAN_OUT, FAN_AVG]")

    def initializer(shape: Sequence[int], dtype: Any = dtype, partition_info: Any = None) -> Tensor:
        if not as_dtype(dtype).is_floating:
            raise TypeError("Cannot create initializer for non-floating point type.")
        sizes = [int(each) for each in shape]
        window = math.prod(sizes[:-2])
        fan_in = float(sizes[-2] if len(sizes) > 1 else sizes[-1]) * window if sizes else 1.0
        fan_out = float(sizes[-1]) * window if sizes else 1.0
        n = {"FAN_IN": fan_in, "FAN_OUT": fan_out, "FAN_AVG": (fan_in + fan_out) / 2.0}[mode]
        if uniform:
            limit = math.sqrt(3.0 * factor / n)
            return random_uniform(sizes, -limit, limit, dtype, seed=seed)
        # Cutting off beyond two deviations takes some of the variance away.
        return truncated_normal(sizes, 0.0, math.sqrt(1.3 * factor / n), dtype, seed=seed)

    return initializer


def xavier_initializer(
    uniform: bool = True, seed: int | None = None, dtype: Any = dtypes.float32
) -> Callable[..., Tensor]:  # fmt: skip
    """Glorot and Bengio's initializer: the variance is 1 over the mean of inputs and outputs."""
    return variance_scaling_initializer(1.0, "FAN_AVG", uniform, seed, dtype)


xavier_initializer_conv2d = xavier_initializer

# --- Regularizers ---


def _check_scale(scale: Any, name: str = "scale") -> None:
    if isinstance(scale, numbers.Integral):
        raise ValueError(f"{name} cannot be an integer: {scale}")
    if isinstance(scale, numbers.Real) and scale < 0.0:
        raise ValueError(f"Setting a scale less than 0 on a regularizer: {scale:g}")


def _scaled(scale: Any, scope: str | None, label: str, measure: Callable[[Any], Tensor]) -> Regularizer:
    _check_scale(scale)
    if isinstance(scale, numbers.Real) and scale == 0.0:
        return lambda weights: None

    def regularizer(weights: Any) -> Tensor:
        with name_scope(scope, label, [weights]) as name:
            factor = convert_to_tensor(scale, weights.dtype.base_dtype, name="scale")
            return multiply(factor, measure(weights), name=name)

    return regularizer


def l1_regularizer(scale: Any, scope: str | None = None) -> Regularizer:
    """`scale` times the sum of absolute weights, None for 0; ValueError for an integer or a negative scale."""
    return _scaled(scale, scope, "l1_regularizer", lambda weights: reduce_sum(apply_op("Abs", x=weights)))


def l2_regularizer(scale: Any, scope: str | None = None) -> Regularizer:
    """`scale` times half the sum of squared weights, None for 0; ValueError for an integer or a negative scale."""
    return _scaled(scale, scope, "l2_regularizer", l2_loss)


def l1_l2_regularizer(scale_l1: Any = 1.0, scale_l2: Any = 1.0, scope: str | None = None) -> Regularizer:
    """Both regularizers' sum."""
    _check_scale(scale_l1, "scale_l1")
    _check_scale(scale_l2, "scale_l2")
    return sum_regularizer([l1_regularizer(scale_l1), l2_regularizer(scale_l2)], scope or "l1_l2_regularizer")


def sum_regularizer(regularizer_list: Sequence[Regularizer | None], scope: str | None = None) -> Any:
    """What several regularizers give in all; None for no regularizer."""
    chosen = [each for each in regularizer_list if each is not None]
    if not chosen:
        return None

    def regularizer(weights: Any) -> Any:
        with name_scope(scope, "sum_regularizer", [weights]) as name:
            found = [each for each in (one(weights) for one in chosen) if each is not None]
            return add_n(found, name=name) if found else None

    return regularizer


def apply_regularization(regularizer: Regularizer, weights_list: Sequence[Any] | None = None) -> Tensor:
    """The sum over weights (by default the collection WEIGHTS), added to REGULARIZATION_LOSSES.

    ValueError for no weights.
    """
    chosen = get_collection("weights") if weights_list is None else weights_list
    if not chosen:
        raise ValueError("No weights to regularize.")
    with name_scope("get_regularization_penalty", values=list(chosen)) as scope:
        penalties = [each for each in map(regularizer, chosen) if each is not None]
        found = add_n(penalties, name=scope) if penalties else convert_to_tensor(0.0)
        add_to_collection(GraphKeys.REGULARIZATION_LOSSES, found)
        return found


# --- Layers ---


def _collected(outputs: Tensor, collections: Any) -> Tensor:
    if collections:
        add_to_collections(collections, outputs)
    return outputs


def fully_connected(
    inputs: Any, num_outputs: int, activation_fn: Any = relu, normalizer_fn: Any = None,
    normalizer_params: Any = None, weights_initializer: Any = None, weights_regularizer: Any = None,
    biases_initializer: Any = Zeros, biases_regularizer: Any = None, reuse: Any = None,
    variables_collections: Sequence[str] | None = None, outputs_collections: Any = None, trainable: bool = True,
    scope: Any = None,
) -> Tensor:  # fmt: skip
    """activation_fn(inputs · weights + biases) over the last dimension, or the normalizer in place of the biases.

    weights_initializer: `xavier_initializer` by default. ValueError when the last extent isn't static.
    """
    if not isinstance(num_outputs, numbers.Integral):
        raise ValueError(f"num_outputs should be int or long, got {num_outputs}.")
    with variable_scope(scope, "fully_connected", [inputs], reuse=reuse):
        x = convert_to_tensor(inputs)
        depth = None if x.dims is None or len(x.dims) < 2 else x.dims[-1]
        if depth is None:
            raise ValueError("The last dimension of the inputs to `Dense` should be defined. Found `None`.")
        keys = [GraphKeys.GLOBAL_VARIABLES, GraphKeys.MODEL_VARIABLES, *(variables_collections or ())]
        kind = x.dtype.base_dtype
        weights = get_variable(
            "weights", [depth, int(num_outputs)], kind, weights_initializer or xavier_initializer(),
            weights_regularizer, trainable=trainable, collections=keys,
        )  # fmt: skip
        if len(x.dims or ()) == 2:
            found = matmul(x, weights)
        else:
            found = tensordot(x, weights, [[len(x.dims or ()) - 1], [0]])
        if normalizer_fn is not None:
            found = normalizer_fn(found, **(normalizer_params or {}))
        elif biases_initializer is not None:
            biases = get_variable(
                "biases", [int(num_outputs)], kind, start(biases_initializer), biases_regularizer,
                trainable=trainable, collections=keys,
            )  # fmt: skip
            found = bias_add(found, biases)
        if activation_fn is not None:
            found = activation_fn(found)
        return _collected(found, outputs_collections)



def flatten(inputs: Any, outputs_collections: Any = None, scope: str | None = None) -> Tensor:
    """All dimensions but the first as one."""
    with name_scope(scope, "Flatten", [inputs]):
        return _collected(core.Flatten().call(convert_to_tensor(inputs)), outputs_collections)


def dropout(
    inputs: Any, keep_prob: Any = 0.5, noise_shape: Any = None, is_training: Any = True,
    outputs_collections: Any = None, scope: str | None = None, seed: int | None = None,
) -> Tensor:  # fmt: skip
    """`tf.nn.dropout` that keeps with `keep_prob` while `is_training`, else the inputs."""
    with name_scope(scope, "Dropout", [inputs]):
        layer = core.Dropout(1 - keep_prob, noise_shape, seed)
        return _collected(layer.call(convert_to_tensor(inputs), training=is_training), outputs_collections)
