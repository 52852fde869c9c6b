"""Cells made of cells: stacked, with dropout, with residuals, on a device, with projections and embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from stepjit.framework import nest
from stepjit.framework.scopes import device as on_device
from stepjit.framework.tensor import Tensor
from stepjit.initializers import Zeros
from stepjit.ops.activations import bias_add
from stepjit.ops.array import concat, reshape, split
from stepjit.ops.linear import matmul
from stepjit.ops.normalization import dropout, embedding_lookup
from stepjit.ops.random import random_uniform
from stepjit.ops.tensor_array import TensorArray
from stepjit.rnn.base import RNNCell, check_cell, size_dims
from stepjit.rnn.cells import LSTMStateTuple
from stepjit.variable_scope import get_variable, variable_scope


class MultiRNNCell(RNNCell):
    """Cells one upon the other: each takes the output of the one before."""

    def __init__(self, cells: Sequence[Any], state_is_tuple: bool = True) -> None:
        super().__init__()
        if not cells:
            raise ValueError("Must specify at least one cell for MultiRNNCell.")
        if not isinstance(cells, (list, tuple)):
            raise TypeError(f"cells must be a list or tuple, but saw: {cells}.")
        if not state_is_tuple and any(nest.is_nested(cell.state_size) for cell in cells):
            raise ValueError("Some cells return tuples of states, but the flag state_is_tuple is not set.")
        self._cells, self._state_is_tuple = list(cells), state_is_tuple

    @property
    def state_size(self) -> Any:
        sizes = tuple(cell.state_size for cell in self._cells)
        return sizes if self._state_is_tuple else sum(sizes)

    @property
    def output_size(self) -> Any:
        return self._cells[-1].output_size

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        """The cells' own zero states."""
        if not self._state_is_tuple:
            return super().zero_state(batch_size, dtype)
        return tuple(cell.zero_state(batch_size, dtype) for cell in self._cells)

    @property
    def weights(self) -> list[Any]:
        return [each for cell in self._cells for each in getattr(cell, "weights", ())]

    variables = weights

    def call(self, inputs: Any, state: Any) -> Any:
        """The last cell's output, and all new states."""
        states = state if self._state_is_tuple else split(state, [cell.state_size for cell in self._cells], axis=1)
        if len(states) != len(self._cells):
            raise ValueError(f"Expected state to be a tuple of length {len(self._cells)}, but received: {state}")
        found = []
        for number, (cell, own) in enumerate(zip(self._cells, states)):
            with variable_scope(f"cell_{number}"):
                inputs, new = cell(inputs, own)
            found.append(new)
        return inputs, tuple(found) if self._state_is_tuple else concat(found, 1)


class _Around(RNNCell):
    """A cell with another inside, whose sizes and zero state it has."""

    def __init__(self, cell: Any, reuse: Any = None) -> None:
        super().__init__(_reuse=reuse)
        check_cell("cell", cell)
        self._cell = cell

    @property
    def state_size(self) -> Any:
        return self._cell.state_size

    @property
    def output_size(self) -> Any:
        return self._cell.output_size

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        """The wrapped cell's zero state."""
        return self._cell.zero_state(batch_size, dtype)


class _Wrapper(_Around):
    """A cell that does what another does, and something around it."""

    @property
    def wrapped_cell(self) -> Any:
        return self._cell

    @property
    def weights(self) -> list[Any]:
        return list(getattr(self._cell, "weights", ()))

    variables = weights

    # A wrapper has no scope of its own: variables are named as without it.
    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> Any:
        """One step of the cell."""
        return self._step(inputs, state, scope)

    def _inner(self, inputs: Any, state: Any, scope: Any) -> Any:
        return self._cell(inputs, state) if scope is None else self._cell(inputs, state, scope=scope)

    def _step(self, inputs: Any, state: Any, scope: Any) -> Any:
        raise AssertionError


class DropoutWrapper(_Wrapper):
    """Dropout of a cell's inputs, outputs and states.

    variational_recurrent: the same elements are dropped in all time steps; needs `dtype`, and `input_size` when the
    inputs are dropped. dropout_state_filter_visitor: says by substate whether it may be dropped; by default all but
    the memory of an LSTM. ValueError for probabilities outside [0, 1].
    """

    def __init__(
        self,
        cell: Any,
        input_keep_prob: Any = 1.0,
        output_keep_prob: Any = 1.0,
        state_keep_prob: Any = 1.0,
        variational_recurrent: bool = False,
        input_size: Any = None,
        dtype: Any = None,
        seed: int | None = None,
        dropout_state_filter_visitor: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(cell)
        if dropout_state_filter_visitor is not None and not callable(dropout_state_filter_visitor):
            raise TypeError("dropout_state_filter_visitor must be callable")
        self._filter = dropout_state_filter_visitor or _all_but_memory
        self._keep = {"input": input_keep_prob, "output": output_keep_prob, "state": state_keep_prob}
        for kind, prob in self._keep.items():
            if isinstance(prob, (int, float)) and not 0 <= prob <= 1:
                raise ValueError(f"Parameter {kind}_keep_prob must be between 0 and 1: {prob:f}")
        self._seed, self._variational = seed, variational_recurrent
        if variational_recurrent:
            if dtype is None:
                raise ValueError("When variational_recurrent=True, dtype must be provided")
            self._noise = {
                "state": _noises(cell.state_size, "state", dtype, self._seed_of),
                "output": _noises(cell.output_size, "output", dtype, self._seed_of),
            }
            if not _is_one(input_keep_prob):
                if input_size is None:
                    raise ValueError(
                        "When variational_recurrent=True and input_keep_prob < 1.0 or is unknown, input_size must be "
                        "provided"
                    )
                self._noise["input"] = _noises(input_size, "input", dtype, self._seed_of)

    def _seed_of(self, prefix: str, number: int) -> int | None:
        if self._seed is None:
            return None
        text = f"{self._seed}{prefix}_{number}".encode()
        return int(hashlib.md5(text, usedforsecurity=False).hexdigest()[:8], 16) & 0x7FFFFFFF

    def _dropped(self, values: Any, kind: str, wanted: Any = None) -> Any:
        keep = self._keep[kind]
        if _is_one(keep):
            return values
        flat, results = nest.flatten(values), []
        chosen = [True] * len(flat) if wanted is None else nest.flatten(wanted)
        for number, (value, is_wanted) in enumerate(zip(flat, chosen)):
            if not is_wanted:
                results.append(value)
            elif self._variational:
                results.append(_with_noise(value, self._noise[kind][number], keep))
            else:
                results.append(dropout(value, keep, seed=self._seed_of(kind, number)))
        return nest.pack_sequence_as(values, results)

    def _step(self, inputs: Any, state: Any, scope: Any) -> Any:
        output, new = self._inner(self._dropped(inputs, "input"), state, scope)
        new = self._dropped(new, "state", _chosen(self._filter, new))
        return self._dropped(output, "output"), new


def _chosen(visitor: Callable[[Any], Any], state: Any) -> list[bool]:
    """For each tensor of a state, whether the visitor wants it dropped."""
    answer = visitor(state)
    if not nest.is_nested(state):
        return [bool(answer)]
    parts = [state[key] for key in sorted(state)] if isinstance(state, dict) else list(state)
    answers = [answer] * len(parts) if isinstance(answer, bool) else list(answer)
    return [
        flag
        for part, wanted in zip(parts, answers)
        for flag in (_chosen(visitor, part) if wanted else [False] * len(nest.flatten(part)))
    ]


def _all_but_memory(substate: Any) -> Any:
    if isinstance(substate, LSTMStateTuple):
        return LSTMStateTuple(False, True)
    return not isinstance(substate, TensorArray)


def _is_one(prob: Any) -> bool:
    return isinstance(prob, (int, float)) and prob >= 1


def _noises(sizes: Any, prefix: str, dtype: Any, seed_of: Callable[[str, int], int | None]) -> list[Tensor]:
    return [
        random_uniform([1, *size_dims(size)], seed=seed_of(prefix, number), dtype=dtype)
        for number, size in enumerate(nest.flatten(sizes))
    ]


def _with_noise(value: Any, noise: Tensor, keep: Any) -> Tensor:
    from stepjit.ops.elementwise import floor

    result = value / keep * floor(keep + noise)
    result.set_shape(value.shape)
    return result


class ResidualWrapper(_Wrapper):
    """A cell to whose output its inputs are added; or combined as `residual_fn(inputs, outputs)` says."""

    def __init__(self, cell: Any, residual_fn: Callable[[Any, Any], Any] | None = None) -> None:
        super().__init__(cell)
        self._residual_fn = residual_fn

    def _step(self, inputs: Any, state: Any, scope: Any) -> Any:
        output, new = self._inner(inputs, state, scope)
        if self._residual_fn is not None:
            return self._residual_fn(inputs, output), new
        nest.assert_same_structure(inputs, output)
        for one, other in zip(nest.flatten(inputs), nest.flatten(output)):
            one.shape.assert_is_compatible_with(other.shape)
        return nest.map_structure(lambda one, other: one + other, inputs, output), new


class DeviceWrapper(_Wrapper):
    """A cell whose ops go to a device."""

    def __init__(self, cell: Any, device: Any) -> None:
        super().__init__(cell)
        self._device = device

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        """The wrapped cell's zero state, on the device."""
        with on_device(self._device):
            return self._cell.zero_state(batch_size, dtype)

    def _step(self, inputs: Any, state: Any, scope: Any) -> Any:
        with on_device(self._device):
            return self._inner(inputs, state, scope)


class InputProjectionWrapper(_Around):
    """A cell before which a linear layer stands."""

    def __init__(
        self, cell: Any, num_proj: int, activation: Any = None, input_size: Any = None, reuse: Any = None
    ) -> None:
        super().__init__(cell, reuse)
        self._num_proj, self._activation = num_proj, activation

    def call(self, inputs: Any, state: Any) -> Any:
        """One step."""
        projected = _linear(inputs, self._num_proj)
        return self._cell(projected if self._activation is None else self._activation(projected), state)


class OutputProjectionWrapper(_Around):
    """A cell behind which a linear layer stands."""

    def __init__(self, cell: Any, output_size: int, activation: Any = None, reuse: Any = None) -> None:
        super().__init__(cell, reuse)
        if output_size < 1:
            raise ValueError(f"Parameter output_size must be > 0: {output_size}.")
        self._output_size, self._activation = output_size, activation

    @property
    def output_size(self) -> int:
        return self._output_size

    def call(self, inputs: Any, state: Any) -> Any:
        """One step."""
        output, new = self._cell(inputs, state)
        projected = _linear(output, self._output_size)
        return projected if self._activation is None else self._activation(projected), new


class EmbeddingWrapper(_Around):
    """A cell whose inputs are numbers of rows of a table of embeddings."""

    def __init__(
        self, cell: Any, embedding_classes: int, embedding_size: int, initializer: Any = None, reuse: Any = None
    ) -> None:
        super().__init__(cell, reuse)
        if embedding_classes <= 0 or embedding_size <= 0:
            raise ValueError(
                f"Both embedding_classes and embedding_size must be > 0: {embedding_classes}, {embedding_size}."
            )
        self._classes, self._size, self._initializer = embedding_classes, embedding_size, initializer

    def call(self, inputs: Any, state: Any) -> Any:
        """One step."""
        kind = nest.flatten(state)[0].dtype.base_dtype
        table = get_variable("embedding", [self._classes, self._size], kind, self._initializer)
        return self._cell(embedding_lookup(table, reshape(inputs, [-1])), state)


def _linear(inputs: Any, units: int) -> Tensor:
    kernel = get_variable("kernel", [inputs.shape[-1].value, units], inputs.dtype.base_dtype)
    return bias_add(matmul(inputs, kernel), get_variable("bias", [units], inputs.dtype.base_dtype, Zeros()))
