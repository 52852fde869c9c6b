"""What all recurrent cells share: their scope for variables, zero states, and the checks of arguments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from stepjit.framework import nest
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.scopes import name_scope
from stepjit.framework.shape import TensorShape, as_shape
from stepjit.framework.tensor import Tensor
from stepjit.ops.array import concat, expand_dims
from stepjit.ops.creation import zeros
from stepjit.variable_scope import get_variable, variable_scope
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import as_dtype


class RNNCell:
    """A cell: `output, new_state = cell(input, state)`.

    A subclass has `state_size` and `output_size` (an int, a TensorShape, or any structure of them) and `call`; its
    variables are made in the scope named after it, at the first call.
    """

    def __init__(
        self, trainable: bool = True, name: str | None = None, dtype: Any = None, _reuse: Any = None, **kwargs: Any
    ) -> None:
        if kwargs:
            raise TypeError(f"Keyword argument not understood: {next(iter(kwargs))}")
        self._given_name, self._reuse = name, _reuse
        self.trainable = trainable
        self.built = False
        self._dtype = None if dtype is None else as_dtype(dtype)
        self._scope: Any = None
        self._weights: list[Any] = []

    @property
    def _base_name(self) -> str:
        words = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", type(self).__name__)
        return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()

    @property
    def name(self) -> str:
        return self._given_name or self._base_name

    @property
    def dtype(self) -> Any:
        return self._dtype

    @property
    def scope_name(self) -> str:
        if self._scope is None:
            raise ValueError(f"No name available for the scope of {self.name!r}: it has not been used yet.")
        return str(self._scope.name)

    @property
    def state_size(self) -> Any:
        """The sizes of the state."""
        raise NotImplementedError("Abstract method")

    @property
    def output_size(self) -> Any:
        """The size of the output."""
        raise NotImplementedError("Abstract method")

    # --- Calling ---

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> Any:
        """One step of the cell: the output [batch, output_size] and the new state, from those of the step before."""
        if self._scope is None:
            named = scope if scope is not None else self._given_name
            with variable_scope(named, default_name=self._base_name, reuse=self._reuse) as found:
                self._scope = found
        reuse = True if self.built else self._reuse
        block = variable_scope(
            self._scope, reuse=reuse, auxiliary_name_scope=False, custom_getter=self._remember
        )
        with block, name_scope(self.name):
            if not self.built:
                self._begin(inputs)
            return self.call(inputs, state)

    def _remember(self, getter: Any, *args: Any, **kwargs: Any) -> Any:
        found = getter(*args, **kwargs)
        if not any(found is each for each in self._weights):
            self._weights.append(found)
        return found

    def _begin(self, inputs: Any) -> None:
        first = nest.flatten(inputs)[0]
        if self._dtype is None:
            self._dtype = convert_to_tensor(first).dtype.base_dtype
        shapes = nest.map_structure(lambda each: convert_to_tensor(each).shape, inputs)
        self.build(shapes)
        self.built = True

    def build(self, inputs_shape: Any) -> None:
        """Make the variables for inputs of a shape."""
        self.built = True

    def call(self, inputs: Any, state: Any) -> Any:
        """What a call gives."""
        raise NotImplementedError("Abstract method")

    def add_variable(
        self, name: str, shape: Any = None, dtype: Any = None, initializer: Any = None, trainable: bool = True,
        **rest: Any,
    ) -> Any:  # fmt: skip
        """A variable in the cell's scope."""
        return get_variable(
            name, shape=shape, dtype=dtype or self._dtype or dtypes.float32, initializer=initializer,
            trainable=trainable and self.trainable, **rest,
        )  # fmt: skip

    add_weight = add_variable

    @property
    def weights(self) -> list[Any]:
        """The cell's variables."""
        return list(self._weights)

    variables = weights

    @property
    def trainable_weights(self) -> list[Any]:
        return [each for each in self.weights if each.trainable]

    trainable_variables = trainable_weights

    # --- States ---

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        """A state of zeros for `batch_size` (an int or an int32 scalar) rows."""
        with name_scope(type(self).__name__ + "ZeroState", None, [batch_size]):
            return zero_states(self.state_size, batch_size, dtype)

    def get_initial_state(self, inputs: Any = None, batch_size: Any = None, dtype: Any = None) -> Any:
        """`zero_state`, of the batch and dtype of `inputs` where these are given."""
        if inputs is not None:
            tensor = convert_to_tensor(inputs)
            static = tensor.shape.with_rank_at_least(1)[0]
            batch_size = tensor_rows(tensor) if getattr(static, "value", static) is None else static
            dtype = tensor.dtype
        if batch_size is None or dtype is None:
            raise ValueError("batch_size and dtype are required when there are no inputs to take them from.")
        return self.zero_state(batch_size, dtype)


def tensor_rows(tensor: Tensor) -> Any:
    """How many rows a tensor has: an int where that is known."""
    from stepjit.ops.array import shape

    if tensor.dims is not None and tensor.dims[0] is not None:
        return tensor.dims[0]
    return shape(tensor)[0]


def rows_of(batch_size: Any, size: Any, dtype: Any) -> Tensor:
    """Zeros of shape [batch_size, *size]."""
    rest = size_dims(size)
    if isinstance(batch_size, Tensor):
        return _dynamic_rows(batch_size, rest, dtype)
    number = getattr(batch_size, "value", batch_size)
    return zeros([int(number), *rest], as_dtype(dtype))


def _dynamic_rows(batch_size: Tensor, rest: Sequence[int], dtype: Any) -> Tensor:
    extents = concat([expand_dims(batch_size, 0), convert_to_tensor(list(rest), dtypes.int32)], 0)
    result = zeros(extents, as_dtype(dtype))
    result.set_shape([None, *rest])
    return result


def size_dims(size: Any) -> list[int]:
    """The extents that one size of a cell's state or output stands for."""
    if isinstance(size, TensorShape):
        return [int(each) for each in as_shape(size).as_list() or ()]  # type: ignore[arg-type]
    return [int(getattr(size, "value", size))]


def zero_states(sizes: Any, batch_size: Any, dtype: Any) -> Any:
    """Zeros for a structure of sizes; `dtype` may be such a structure, too."""
    if nest.is_nested(sizes) and not isinstance(sizes, TensorShape):
        kinds = nest.flatten(dtype) if nest.is_nested(dtype) else [dtype] * len(nest.flatten(sizes))
        flat = [rows_of(batch_size, size, kind) for size, kind in zip(nest.flatten(sizes), kinds)]
        return nest.pack_sequence_as(sizes, flat)
    return rows_of(batch_size, sizes, dtype)


def check_cell(argument: str, cell: Any) -> None:
    """TypeError unless `cell` can be used as a cell."""
    missing = [f"'{name}' property is missing" for name in ("output_size", "state_size") if not hasattr(cell, name)]
    if not (hasattr(cell, "zero_state") or hasattr(cell, "get_initial_state")):
        missing.append("either 'zero_state' or 'get_initial_state' method is required")
    if not callable(cell):
        missing.append("is not callable")
    if missing:
        raise TypeError(f"The argument {argument!r} ({cell}) is not an RNNCell: {', '.join(missing)}.")
