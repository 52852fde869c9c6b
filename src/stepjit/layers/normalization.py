"""Batch normalisation with moving averages."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant
from stepjit.framework.shape import TensorShape
from stepjit.framework.tensor import Tensor
from stepjit.initializers import Ones, Zeros
from stepjit.layers.base import Layer, smart_cond
from stepjit.ops.array import reshape
from stepjit.ops.batch_norm import fused_batch_norm
from stepjit.ops.normalization import batch_normalization as normalize
from stepjit.ops.normalization import moments
from stepjit.ops.state import assign_sub
from stepjit_runtime import dtypes


class BatchNormalization(Layer):
    """Normalises along `axis` by the batch's moments while training, and by their moving averages else.

    The updates of the averages go to collection UPDATE_OPS. fused: one op for images of rank 4 (the default there),
    whose moving variance is the unbiased one.
    """

    def __init__(
        self, axis: Any = -1, momentum: float = 0.99, epsilon: float = 1e-3, center: bool = True, scale: bool = True,
        beta_initializer: Any = Zeros, gamma_initializer: Any = Ones, moving_mean_initializer: Any = Zeros,
        moving_variance_initializer: Any = Ones, beta_regularizer: Any = None, gamma_regularizer: Any = None,
        beta_constraint: Any = None, gamma_constraint: Any = None, renorm: bool = False, renorm_clipping: Any = None,
        renorm_momentum: float = 0.99, fused: bool | None = None, trainable: bool = True,
        virtual_batch_size: int | None = None, adjustment: Any = None, name: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(trainable, name, **kwargs)
        if renorm or virtual_batch_size is not None or adjustment is not None:
            raise ValueError("BatchNormalization has no renorm, virtual_batch_size or adjustment")
        self.axis, self.momentum, self.epsilon = axis, momentum, epsilon
        self.center, self.scale, self.fused = center, scale, fused
        self._starts = {
            "gamma": gamma_initializer, "beta": beta_initializer, "moving_mean": moving_mean_initializer,
            "moving_variance": moving_variance_initializer,
        }  # fmt: skip
        self._regularizers = {"gamma": gamma_regularizer, "beta": beta_regularizer}
        self._constraints = {"gamma": gamma_constraint, "beta": beta_constraint}
        self.gamma: Any = None
        self.beta: Any = None
        self.moving_mean: Any = None
        self.moving_variance: Any = None

    def build(self, input_shape: Any) -> None:
        """Make gamma, beta and the moving averages."""
        shape = TensorShape(input_shape)
        if shape.ndims is None:
            raise ValueError("Input has undefined rank.")
        given = [self.axis] if isinstance(self.axis, int) else list(self.axis)
        axes = [axis + shape.ndims if axis < 0 else axis for axis in given]
        if any(not 0 <= axis < shape.ndims for axis in axes):
            raise ValueError(f"Invalid axis: {self.axis}")
        self.axis = axes
        if self.fused is None:
            self.fused = shape.ndims == 4 and axes in ([1], [3])
        elif self.fused and (shape.ndims != 4 or axes not in ([1], [3])):
            raise ValueError("Batch normalization layers with fused=True take inputs of rank 4 and axis 1 or 3. "
                             f"Got axis {axes} of rank {shape.ndims}")  # fmt: skip
        extents = shape.as_list()
        if any(extents[axis] is None for axis in axes):
            raise ValueError(f"Input has undefined `axis` dimension. Input shape: {shape}")
        size = [extents[axes[0]]] if len(axes) == 1 else [
            extents[axis] if axis in axes else 1 for axis in range(shape.ndims)
        ]  # fmt: skip
        self.gamma = self._vector("gamma", size) if self.scale else None
        self.beta = self._vector("beta", size) if self.center else None
        self.moving_mean = self._vector("moving_mean", size, trained=False)
        self.moving_variance = self._vector("moving_variance", size, trained=False)
        self.built = True

    def _vector(self, name: str, size: Sequence[Any], trained: bool = True) -> Any:
        dtype = dtypes.float32 if self._dtype in (dtypes.float16, dtypes.bfloat16) else self._dtype
        return self.add_weight(
            name, size, dtype, self._starts[name], self._regularizers.get(name), trained,
            self._constraints.get(name),
        )  # fmt: skip

    def call(self, inputs: Any, training: Any = False, **kwargs: Any) -> Tensor:
        """The inputs normalised."""
        if self.fused and inputs.dtype.base_dtype is not dtypes.float64:
            return self._fused(inputs, training)
        axes = [axis for axis in range(len(inputs.dims)) if axis not in self.axis]
        column = None
        if self.axis != [len(inputs.dims) - 1]:
            column = [inputs.dims[k] if k in self.axis else 1 for k in range(len(inputs.dims))]

        def wide(vector: Any) -> Any:
            return vector if vector is None or column is None else reshape(vector, column)

        keep = len(self.axis) > 1
        mean, variance = smart_cond(
            training,
            lambda: moments(inputs, axes, keep_dims=keep),
            lambda: (apply_op("Identity", input=self.moving_mean), apply_op("Identity", input=self.moving_variance)),
        )
        self._update(training, mean, variance)
        result = normalize(inputs, wide(mean), wide(variance), wide(self.beta), wide(self.gamma), self.epsilon)
        result.set_shape(inputs.shape)
        return result

    def _fused(self, inputs: Any, training: Any) -> Tensor:
        size = self.moving_mean.shape.as_list()
        gamma = self.gamma if self.scale else constant(1.0, dtype=dtypes.float32, shape=size)
        beta = self.beta if self.center else constant(0.0, dtype=dtypes.float32, shape=size)
        layout = "NCHW" if self.axis == [1] else "NHWC"

        def train() -> Any:
            return fused_batch_norm(inputs, gamma, beta, epsilon=self.epsilon, data_format=layout)

        def infer() -> Any:
            return fused_batch_norm(
                inputs, gamma, beta, self.moving_mean, self.moving_variance, self.epsilon, layout, is_training=False
            )

        result, mean, variance = smart_cond(training, train, infer)
        self._update(training, mean, variance)
        return result

    def _update(self, training: Any, mean: Any, variance: Any) -> None:
        """Move the averages towards the batch's moments, by nothing when a tensor says that this is no training."""
        if not isinstance(training, Tensor) and not training:
            return
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            kind = moving.dtype.base_dtype
            step = smart_cond(training, partial(constant, 1 - self.momentum, kind), partial(constant, 0.0, kind))
            now = value if value.dtype.base_dtype is kind else apply_op("Cast", x=value, DstT=kind)
            self.add_update(assign_sub(moving, (moving - now) * step, name="AssignMovingAvg"))

    def compute_output_shape(self, input_shape: Any) -> TensorShape:
        """The input's shape."""
        return TensorShape(input_shape)


def batch_normalization(
    inputs: Any, axis: Any = -1, momentum: float = 0.99, epsilon: float = 1e-3, center: bool = True,
    scale: bool = True, beta_initializer: Any = Zeros, gamma_initializer: Any = Ones,
    moving_mean_initializer: Any = Zeros, moving_variance_initializer: Any = Ones, beta_regularizer: Any = None,
    gamma_regularizer: Any = None, beta_constraint: Any = None, gamma_constraint: Any = None, training: Any = False,
    trainable: bool = True, name: str | None = None, reuse: Any = None, renorm: bool = False,
    renorm_clipping: Any = None, renorm_momentum: float = 0.99, fused: bool | None = None,
    virtual_batch_size: int | None = None, adjustment: Any = None,
) -> Tensor:  # fmt: skip
    """A `BatchNormalization` layer on inputs; `training` is a bool or a bool tensor."""
    layer = BatchNormalization(
        axis, momentum, epsilon, center, scale, beta_initializer, gamma_initializer, moving_mean_initializer,
        moving_variance_initializer, beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint, renorm,
        renorm_clipping, renorm_momentum, fused, trainable, virtual_batch_size, adjustment, name, _reuse=reuse,
        _scope=name,
    )  # fmt: skip
    return layer.apply(inputs, training=training)
