"""`Layer`: variables made on first use, under a scope of their own, and used again on every call."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from stepjit.framework.collections import add_to_collection, get_collection
from stepjit.framework.constant_value import constant_value
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.graph_keys import GraphKeys
from stepjit.framework.scopes import name_scope
from stepjit.framework.shape import TensorShape
from stepjit.framework.tensor import Tensor
from stepjit.ops.cond import cond
from stepjit.variable_scope import VariableScope, get_variable, variable_scope
from stepjit_runtime.dtypes import as_dtype


def smart_cond(predicate: Any, yes: Callable[[], Any], no: Callable[[], Any], name: str | None = None) -> Any:
    """`cond`, decided at once where the predicate is a bool, 0, 1 or a constant."""
    known = predicate
    if isinstance(predicate, Tensor):
        value = constant_value(predicate)
        known = None if value is None else bool(value)
    if known is None:
        return cond(predicate, yes, no, name=name)
    return yes() if known else no()


def numbers(value: Any, count: int, name: str) -> tuple[int, ...]:
    """One number for all dimensions, or one for each; ValueError else."""
    found = (value,) * count if isinstance(value, int) else tuple(value)
    if len(found) != count:
        raise ValueError(f"The `{name}` argument must be a tuple of {count} integers. Received: {value}")
    return tuple(int(each) for each in found)


def start(initializer: Any) -> Any:
    """An initializer, made if it is a class."""
    return initializer() if isinstance(initializer, type) else initializer


def _snake(name: str) -> str:
    parts = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", parts).lower()


class Layer:
    """A function of tensors that owns variables; derive from it `build(input_shape)` and `call(inputs)`."""

    def __init__(
        self, trainable: bool = True, name: str | None = None, dtype: Any = None, activity_regularizer: Any = None,
        **options: Any,
    ) -> None:  # fmt: skip
        self._reuse = options.pop("_reuse", None)
        scope = options.pop("_scope", None)
        if options:
            raise TypeError(f"Keyword argument not understood: {sorted(options)[0]}")
        self.trainable, self.built = trainable, False
        self._base_name = name or _snake(type(self).__name__)
        self._given = scope if scope is not None else name
        self._scope: VariableScope | None = None
        self._dtype = None if dtype is None else as_dtype(dtype)
        self._activity_regularizer = activity_regularizer
        self._variables: list[tuple[Any, bool]] = []
        self._updates: list[Any] = []
        self._losses: list[Any] = []
        self.inputs: Any = None
        self.outputs: Any = None

    # --- what derived classes define ---

    def build(self, input_shape: Any) -> None:
        """Make the variables for inputs of that shape."""
        self.built = True

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The layer's function."""
        return inputs

    # --- use ---

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The layer on inputs; the first call builds it in the current variable scope."""
        given = kwargs.pop("scope", None)
        x = inputs if isinstance(inputs, (list, tuple, dict)) else convert_to_tensor(inputs)
        if self._scope is None:
            target = given if given is not None else self._given
            with variable_scope(target, default_name=self._base_name, reuse=self._reuse) as scope:
                self._scope = scope
                return self._apply(x, args, kwargs)
        with (
            variable_scope(self._scope, reuse=self.built or self._reuse, auxiliary_name_scope=False),
            name_scope(self._scope.original_name_scope),
        ):
            return self._apply(x, args, kwargs)

    def apply(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The same as calling the layer."""
        return self(inputs, *args, **kwargs)

    def _apply(self, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._dtype is None and isinstance(x, Tensor):
            self._dtype = x.dtype.base_dtype
        if not self.built:
            known = get_collection(GraphKeys.REGULARIZATION_LOSSES)
            self.build(x.shape if isinstance(x, Tensor) else None)
            self._losses += [each for each in get_collection(GraphKeys.REGULARIZATION_LOSSES)
                             if not any(each is other for other in known)]  # fmt: skip
            self.built = True
        result = self.call(x, *args, **kwargs)
        if self._activity_regularizer is not None:
            self.add_loss(self._activity_regularizer(result))
        self.inputs, self.outputs = x, result
        return result

    # --- variables, losses, updates ---

    def add_weight(
        self, name: str, shape: Any, dtype: Any = None, initializer: Any = None, regularizer: Any = None,
        trainable: bool | None = None, constraint: Any = None, **options: Any,
    ) -> Any:  # fmt: skip
        """A variable of the layer, made or, when the scope is reused, found again."""
        trained = self.trainable and trainable is not False
        variable = get_variable(
            name, shape, as_dtype(dtype) if dtype is not None else self._dtype, start(initializer), regularizer,
            trainable=trained, constraint=constraint, **options,
        )  # fmt: skip
        self._variables.append((variable, trained))
        return variable

    add_variable = add_weight

    def add_loss(self, losses: Any, inputs: Any = None) -> None:
        """Losses to be added to the model's, in collection REGULARIZATION_LOSSES."""
        for loss in losses if isinstance(losses, (list, tuple)) else [losses]:
            if loss is not None:
                self._losses.append(loss)
                add_to_collection(GraphKeys.REGULARIZATION_LOSSES, loss)

    def add_update(self, updates: Any, inputs: Any = None) -> None:
        """Ops to run with every training step, in collection UPDATE_OPS."""
        for update in updates if isinstance(updates, (list, tuple)) else [updates]:
            self._updates.append(update)
            add_to_collection(GraphKeys.UPDATE_OPS, update)

    @property
    def name(self) -> str:
        """The name given, or the one that the scope of the first call has."""
        return self._scope.name.rsplit("/", 1)[-1] if self._scope is not None else self._base_name

    @property
    def scope_name(self) -> str:
        """The name of the scope that the variables are in; ValueError before the first call."""
        if self._scope is None:
            raise ValueError(f'No name available for layer scope because the layer "{self._base_name}" has not been '
                             "used yet.")  # fmt: skip
        return self._scope.name

    @property
    def dtype(self) -> Any:
        """The dtype of the variables."""
        return self._dtype

    @property
    def graph(self) -> Any:
        """The graph of the outputs."""
        return None if self.outputs is None else self.outputs.graph

    @property
    def trainable_variables(self) -> list[Any]:
        """Variables that optimizers change."""
        return [variable for variable, trained in self._variables if trained and self.trainable]

    @property
    def non_trainable_variables(self) -> list[Any]:
        """The other variables."""
        return [variable for variable, trained in self._variables if not (trained and self.trainable)]

    @property
    def variables(self) -> list[Any]:
        """All variables, the trained ones first."""
        return [*self.trainable_variables, *self.non_trainable_variables]

    weights = variables
    trainable_weights = trainable_variables
    non_trainable_weights = non_trainable_variables

    @property
    def losses(self) -> list[Any]:
        """Regularisation losses."""
        return list(self._losses)

    @property
    def updates(self) -> list[Any]:
        """Ops to run with every training step."""
        return list(self._updates)

    @property
    def input(self) -> Any:
        """The inputs of the last call."""
        return self.inputs

    @property
    def output(self) -> Any:
        """The outputs of the last call."""
        return self.outputs

    def count_params(self) -> int:
        """How many numbers the variables hold; ValueError before the layer is built."""
        if not self.built:
            raise ValueError(f"You tried to call `count_params` on {self.name}, but the layer isn't built.")
        return sum(int(variable.shape.num_elements()) for variable in self.variables)

    # --- for derived classes ---

    def _check_rank(self, shape: TensorShape, rank: int, least: bool = False) -> None:
        have = shape.ndims
        if have is not None and (have < rank if least else have != rank):
            wanted = "min_ndim" if least else "ndim"
            raise ValueError(
                f"Input 0 of layer {self.name} is incompatible with the layer: expected {wanted}={rank}, found "
                f"ndim={have}. Full shape received: {shape.as_list()}"
            )

    def _static(self, shape: TensorShape, axis: int) -> int:
        extent: Sequence[int | None] | None = shape.as_list() if shape.ndims is not None else None
        found = None if extent is None else extent[axis]
        if found is None:
            raise ValueError(
                f"The channel dimension (the last dimension of the inputs to a `{type(self).__name__}`, or axis "
                f"{axis}) should be defined. Found `None`."
            )
        return found
