"""The recurrent cells: basic, gated, and long short-term memory with its variants."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

from stepjit.framework.convert import constant
from stepjit.framework.tensor import Tensor
from stepjit.initializers import Constant, Zeros
from stepjit.ops.activations import bias_add
from stepjit.ops.array import concat, split
from stepjit.ops.clip import clip_by_value
from stepjit.ops.elementwise import sigmoid, tanh
from stepjit.ops.linear import matmul
from stepjit.ops.normalization import dropout, moments
from stepjit.rnn.base import RNNCell
from stepjit.variable_scope import get_variable, variable_scope

Activation = Callable[[Any], Any]

LSTMStateTuple = namedtuple("LSTMStateTuple", ("c", "h"))
LSTMStateTuple.__doc__ = """The state of an LSTM cell: what it keeps (c) and its last output (h)."""
LSTMStateTuple.dtype = property(lambda self: self.c.dtype)  # type: ignore[attr-defined]


def _depth(inputs_shape: Any) -> int:
    """The last extent of the inputs; ValueError when it isn't static."""
    extent = inputs_shape.with_rank(2)[1] if inputs_shape.ndims is not None else None
    value = getattr(extent, "value", extent)
    if value is None:
        raise ValueError(f"Expected inputs.shape[-1] to be known, saw shape: {inputs_shape}")
    return int(value)


def _activation(activation: Any) -> Activation:
    if activation is None:
        return tanh
    if isinstance(activation, str):
        from stepjit.compat.v1 import nn

        found: Activation = getattr(nn, activation)
        return found
    chosen: Activation = activation
    return chosen


class LayerRNNCell(RNNCell):
    """A cell whose kernels act on the inputs and the last output together."""

    def _joined(self, inputs: Any, hidden: Any, kernel: Any, bias: Any) -> Tensor:
        result = matmul(concat([inputs, hidden], 1), kernel)
        return result if bias is None else bias_add(result, bias)


class BasicRNNCell(LayerRNNCell):
    """The simplest cell: output = new state = activation(W·[input, state] + b)."""

    def __init__(
        self, num_units: int, activation: Any = None, reuse: Any = None, name: str | None = None, dtype: Any = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(_reuse=reuse, name=name, dtype=dtype, **kwargs)
        self._num_units, self._activation = num_units, _activation(activation)

    @property
    def state_size(self) -> int:
        return self._num_units

    @property
    def output_size(self) -> int:
        return self._num_units

    def build(self, inputs_shape: Any) -> None:
        """Make kernel and bias."""
        units = self._num_units
        self._kernel = self.add_variable("kernel", [_depth(inputs_shape) + units, units])
        self._bias = self.add_variable("bias", [units], initializer=Zeros())

    def call(self, inputs: Any, state: Any) -> Any:
        """The output twice."""
        output = self._activation(self._joined(inputs, state, self._kernel, self._bias))
        return output, output


class GRUCell(LayerRNNCell):
    """A gated recurrent unit (http://arxiv.org/abs/1406.1078)."""

    def __init__(
        self, num_units: int, activation: Any = None, reuse: Any = None, kernel_initializer: Any = None,
        bias_initializer: Any = None, name: str | None = None, dtype: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(_reuse=reuse, name=name, dtype=dtype, **kwargs)
        self._num_units, self._activation = num_units, _activation(activation)
        self._kernel_initializer, self._bias_initializer = kernel_initializer, bias_initializer

    @property
    def state_size(self) -> int:
        return self._num_units

    @property
    def output_size(self) -> int:
        return self._num_units

    def build(self, inputs_shape: Any) -> None:
        """Make kernels and biases of the gates and the candidate."""
        units, rows = self._num_units, _depth(inputs_shape) + self._num_units
        weights, biases = self._kernel_initializer, self._bias_initializer
        self._gate_kernel = self.add_variable("gates/kernel", [rows, 2 * units], initializer=weights)
        self._gate_bias = self.add_variable("gates/bias", [2 * units], initializer=biases or Constant(1.0))
        self._candidate_kernel = self.add_variable("candidate/kernel", [rows, units], initializer=weights)
        self._candidate_bias = self.add_variable("candidate/bias", [units], initializer=biases or Zeros())

    def call(self, inputs: Any, state: Any) -> Any:
        """The new state twice."""
        gates = sigmoid(self._joined(inputs, state, self._gate_kernel, self._gate_bias))
        r, u = split(gates, 2, axis=1)
        c = self._activation(self._joined(inputs, r * state, self._candidate_kernel, self._candidate_bias))
        new = u * state + (1 - u) * c
        return new, new


class _LSTM(LayerRNNCell):
    _state_is_tuple: bool

    def _parts(self, state: Any, c_size: int, h_size: int) -> tuple[Any, Any]:
        if self._state_is_tuple:
            return state[0], state[1]
        c, h = split(state, [c_size, h_size], axis=1)
        return c, h

    def _state(self, c: Any, h: Any) -> Any:
        return LSTMStateTuple(c, h) if self._state_is_tuple else concat([c, h], 1)


class BasicLSTMCell(_LSTM):
    """Long short-term memory, without peepholes, clipping and projection."""

    def __init__(
        self, num_units: int, forget_bias: float = 1.0, state_is_tuple: bool = True, activation: Any = None,
        reuse: Any = None, name: str | None = None, dtype: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(_reuse=reuse, name=name, dtype=dtype, **kwargs)
        self._num_units, self._forget_bias = num_units, forget_bias
        self._state_is_tuple, self._activation = state_is_tuple, _activation(activation)

    @property
    def state_size(self) -> Any:
        units = self._num_units
        return LSTMStateTuple(units, units) if self._state_is_tuple else 2 * units

    @property
    def output_size(self) -> int:
        return self._num_units

    def build(self, inputs_shape: Any) -> None:
        """Make kernel and bias of the four gates."""
        units = self._num_units
        self._kernel = self.add_variable("kernel", [_depth(inputs_shape) + units, 4 * units])
        self._bias = self.add_variable("bias", [4 * units], initializer=Zeros())

    def call(self, inputs: Any, state: Any) -> Any:
        """The new h, and the new state."""
        c, h = self._parts(state, self._num_units, self._num_units)
        i, j, f, o = split(self._joined(inputs, h, self._kernel, self._bias), 4, axis=1)
        forget = constant(self._forget_bias, dtype=f.dtype)
        new_c = c * sigmoid(f + forget) + sigmoid(i) * self._activation(j)
        new_h = self._activation(new_c) * sigmoid(o)
        return new_h, self._state(new_c, new_h)


class LSTMCell(_LSTM):
    """Long short-term memory with optional peepholes, clipping of the cell, and projection of the output.

    num_proj: the size of the output. num_unit_shards, num_proj_shards: accepted, without a meaning.
    """

    def __init__(
        self, num_units: int, use_peepholes: bool = False, cell_clip: float | None = None, initializer: Any = None,
        num_proj: int | None = None, proj_clip: float | None = None, num_unit_shards: Any = None,
        num_proj_shards: Any = None, forget_bias: float = 1.0, state_is_tuple: bool = True, activation: Any = None,
        reuse: Any = None, name: str | None = None, dtype: Any = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(_reuse=reuse, name=name, dtype=dtype, **kwargs)
        self._num_units, self._use_peepholes, self._cell_clip = num_units, use_peepholes, cell_clip
        self._initializer, self._num_proj, self._proj_clip = initializer, num_proj, proj_clip
        self._forget_bias, self._state_is_tuple = forget_bias, state_is_tuple
        self._activation = _activation(activation)

    @property
    def state_size(self) -> Any:
        units = self._num_units
        return LSTMStateTuple(units, self.output_size) if self._state_is_tuple else units + self.output_size

    @property
    def output_size(self) -> int:
        return self._num_units if self._num_proj is None else self._num_proj

    def build(self, inputs_shape: Any) -> None:
        """Make kernel, bias, peepholes and projection."""
        units, start = self._num_units, self._initializer
        self._kernel = self.add_variable(
            "kernel", [_depth(inputs_shape) + self.output_size, 4 * units], initializer=start
        )
        self._bias = self.add_variable("bias", [4 * units], initializer=Zeros())
        if self._use_peepholes:
            self._peepholes = [self.add_variable(f"w_{gate}_diag", [units], initializer=start) for gate in "fio"]
        if self._num_proj is not None:
            self._projection = self.add_variable("projection/kernel", [units, self._num_proj], initializer=start)

    def call(self, inputs: Any, state: Any) -> Any:
        """The new h, and the new state."""
        c, h = self._parts(state, self._num_units, self.output_size)
        i, j, f, o = split(self._joined(inputs, h, self._kernel, self._bias), 4, axis=1)
        f = f + constant(self._forget_bias, dtype=f.dtype)
        if self._use_peepholes:
            to_f, to_i, to_o = self._peepholes
            f, i = f + to_f * c, i + to_i * c
        new_c = sigmoid(f) * c + sigmoid(i) * self._activation(j)
        if self._cell_clip is not None:
            new_c = clip_by_value(new_c, -self._cell_clip, self._cell_clip)
        gate = o + to_o * new_c if self._use_peepholes else o
        new_h = sigmoid(gate) * self._activation(new_c)
        if self._num_proj is not None:
            new_h = matmul(new_h, self._projection)
            if self._proj_clip is not None:
                new_h = clip_by_value(new_h, -self._proj_clip, self._proj_clip)
        return new_h, self._state(new_c, new_h)


class LayerNormBasicLSTMCell(RNNCell):
    """Long short-term memory with layer normalisation of the gates and dropout of what enters the cell."""

    def __init__(
        self, num_units: int, forget_bias: float = 1.0, input_size: Any = None, activation: Any = tanh,
        layer_norm: bool = True, norm_gain: float = 1.0, norm_shift: float = 0.0, dropout_keep_prob: Any = 1.0,
        dropout_prob_seed: int | None = None, reuse: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(_reuse=reuse)
        self._num_units, self._forget_bias, self._activation = num_units, forget_bias, _activation(activation)
        self._layer_norm, self._norm_gain, self._norm_shift = layer_norm, norm_gain, norm_shift
        self._keep_prob, self._seed = dropout_keep_prob, dropout_prob_seed

    @property
    def state_size(self) -> Any:
        return LSTMStateTuple(self._num_units, self._num_units)

    @property
    def output_size(self) -> int:
        return self._num_units

    def _normed(self, x: Any, scope: str) -> Any:
        if not self._layer_norm:
            return x
        with variable_scope(scope):
            shape = [x.shape[-1].value]
            gamma = get_variable("gamma", shape, x.dtype.base_dtype, Constant(self._norm_gain))
            beta = get_variable("beta", shape, x.dtype.base_dtype, Constant(self._norm_shift))
        mean, variance = moments(x, [-1], keep_dims=True)
        return (x - mean) / (variance + constant(1e-12, dtype=x.dtype)) ** 0.5 * gamma + beta

    def call(self, inputs: Any, state: Any) -> Any:
        """The new h, and the new state."""
        c, h = state
        joined = concat([inputs, h], 1)
        kernel = get_variable("kernel", [joined.shape[-1].value, 4 * self._num_units], inputs.dtype.base_dtype)
        gates = matmul(joined, kernel)
        if not self._layer_norm:
            bias = get_variable("bias", [4 * self._num_units], inputs.dtype.base_dtype, Zeros())
            gates = bias_add(gates, bias)
        i, j, f, o = split(gates, 4, axis=1)
        i, j = self._normed(i, "input"), self._normed(j, "transform")
        f, o = self._normed(f, "forget"), self._normed(o, "output")
        entering = self._activation(j)
        if not isinstance(self._keep_prob, (int, float)) or self._keep_prob < 1:
            entering = dropout(entering, self._keep_prob, seed=self._seed)
        new_c = self._normed(c * sigmoid(f + self._forget_bias) + sigmoid(i) * entering, "state")
        new_h = self._activation(new_c) * sigmoid(o)
        return new_h, LSTMStateTuple(new_c, new_h)
