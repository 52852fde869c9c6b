"""Variable scopes: `get_variable`, `variable_scope`, and the rules of reuse."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from stepjit import initializers
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.func_graph import outermost
from stepjit.framework.graph import Graph, get_default_graph
from stepjit.framework.graph_keys import GraphKeys
from stepjit.framework.scopes import name_scope
from stepjit.framework.shape import TensorShape
from stepjit.framework.tensor import Tensor
from stepjit.partitioned import PartitionedVariable, partitions
from stepjit.variable_kinds import VariableAggregation, VariableSynchronization
from stepjit.variables import Variable
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType, as_dtype


class _ReuseMode(enum.Enum):
    AUTO_REUSE = 1


AUTO_REUSE = _ReuseMode.AUTO_REUSE

Getter = Callable[..., Any]


class _Store:
    """The variables that `get_variable` made in one graph, by full name; and how often each scope was opened."""

    def __init__(self) -> None:
        self.variables: dict[str, Any] = {}
        self.opened: dict[str, int] = {}
        self.scope = VariableScope(False)

    def close_inner(self, name: str) -> None:
        """Forget how often the scopes inside `name` were opened."""
        for key in self.opened:
            if not name or key.startswith(name + "/"):
                self.opened[key] = 0

    def unique(self, prefix: str) -> str:
        """`prefix`, with a number when the current scope has one of that name."""
        outer = self.scope.name
        name = f"{outer}/{prefix}" if outer else prefix
        if not self.opened.get(name):
            return prefix
        number = 1
        while self.opened.get(f"{name}_{number}"):
            number += 1
        return f"{prefix}_{number}"


def _store(graph: Graph | None = None) -> _Store:
    found = (graph or get_default_graph()).get_collection_ref("__variable_store")
    if not found:
        found.append(_Store())
    return found[0]


class VariableScope:
    """The name prefix and the defaults that `get_variable` uses in a block."""

    def __init__(
        self,
        reuse: Any,
        name: str = "",
        initializer: Any = None,
        regularizer: Any = None,
        caching_device: Any = None,
        partitioner: Any = None,
        custom_getter: Getter | None = None,
        name_scope: str = "",
        dtype: Any = dtypes.float32,
        use_resource: bool | None = None,
        constraint: Any = None,
    ) -> None:
        self._name, self._reuse, self._initializer, self._regularizer = name, reuse, initializer, regularizer
        self._caching_device, self._partitioner, self._custom_getter = caching_device, partitioner, custom_getter
        self._name_scope, self._dtype, self._use_resource, self._constraint = (
            name_scope,
            dtype,
            use_resource,
            constraint,
        )

    @property
    def name(self) -> str:
        return self._name

    @property
    def original_name_scope(self) -> str:
        """The name scope that the block opened, with its slash."""
        return self._name_scope

    @property
    def reuse(self) -> Any:
        return self._reuse

    @property
    def initializer(self) -> Any:
        return self._initializer

    @property
    def regularizer(self) -> Any:
        return self._regularizer

    @property
    def caching_device(self) -> Any:
        return self._caching_device

    @property
    def partitioner(self) -> Any:
        return self._partitioner

    @property
    def custom_getter(self) -> Getter | None:
        return self._custom_getter

    @property
    def dtype(self) -> Any:
        return self._dtype

    @property
    def use_resource(self) -> bool | None:
        return self._use_resource

    @property
    def constraint(self) -> Any:
        return self._constraint

    def reuse_variables(self) -> None:
        """From now on every `get_variable` in the scope must find its variable."""
        self._reuse = True

    def set_initializer(self, initializer: Any) -> None:
        self._initializer = initializer

    def set_regularizer(self, regularizer: Any) -> None:
        self._regularizer = regularizer

    def set_caching_device(self, caching_device: Any) -> None:
        self._caching_device = caching_device

    def set_partitioner(self, partitioner: Any) -> None:
        self._partitioner = partitioner

    def set_custom_getter(self, custom_getter: Getter | None) -> None:
        self._custom_getter = custom_getter

    def set_dtype(self, dtype: Any) -> None:
        self._dtype = dtype

    def set_use_resource(self, use_resource: bool | None) -> None:
        self._use_resource = use_resource

    def get_collection(self, name: str) -> list[Any]:
        """The items of a collection whose names are inside the scope."""
        return get_default_graph().get_collection(name, self._name + "/" if self._name else "")

    def trainable_variables(self) -> list[Variable]:
        """The scope's trainable variables."""
        return self.get_collection(GraphKeys.TRAINABLE_VARIABLES)

    def global_variables(self) -> list[Variable]:
        """The scope's global variables."""
        return self.get_collection(GraphKeys.GLOBAL_VARIABLES)

    def local_variables(self) -> list[Variable]:
        """The scope's local variables."""
        return self.get_collection(GraphKeys.LOCAL_VARIABLES)

    def _replaced(self, **changes: Any) -> VariableScope:
        """A copy with what isn't None among `changes`."""
        copy = VariableScope.__new__(VariableScope)
        copy.__dict__.update(self.__dict__)
        copy.__dict__.update({f"_{key}": value for key, value in changes.items() if value is not None})
        return copy

    def get_variable(self, name: str, **wanted: Any) -> Any:
        """The variable `name` of this scope, see `tf.get_variable`."""
        wanted = {key: value for key, value in wanted.items() if value is not None}
        for key in ("initializer", "regularizer", "caching_device", "partitioner", "use_resource", "constraint"):
            default = getattr(self, key)
            if default is not None:
                wanted.setdefault(key, default)
        initializer, dtype = wanted.get("initializer"), wanted.get("dtype")
        if dtype is not None and initializer is not None and not callable(initializer):
            given = convert_to_tensor(initializer).dtype.base_dtype
            if given is not as_dtype(dtype).base_dtype:
                raise ValueError(f"Initializer type '{given}' and explicit dtype '{as_dtype(dtype)}' don't match.")
        wanted["dtype"] = as_dtype(self._dtype if dtype is None else dtype)
        wanted.setdefault("reuse", self._reuse)
        getter = _wrapped(wanted.pop("custom_getter", None), self._custom_getter)
        full_name = f"{self._name}/{name}" if self._name else name
        store = _store()
        # Variables are named by their variable scope alone.
        with get_default_graph().name_scope(None):
            if getter is None:
                return _get(store, full_name, **wanted)
            return getter(lambda name, **changed: _get(store, name, **changed), full_name, **_all_arguments(wanted))


_ARGUMENTS: dict[str, Any] = {
    "shape": None, "dtype": dtypes.float32, "initializer": None, "regularizer": None, "reuse": None, "trainable": None,
    "collections": None, "caching_device": None, "partitioner": None, "validate_shape": True, "use_resource": None,
    "constraint": None, "synchronization": VariableSynchronization.AUTO, "aggregation": VariableAggregation.NONE,
}  # fmt: skip


def _all_arguments(wanted: dict[str, Any]) -> dict[str, Any]:
    """What a custom getter is given by keyword."""
    return {**_ARGUMENTS, **wanted}


def _wrapped(inner: Getter | None, outer: Getter | None) -> Getter | None:
    """The getter that asks `inner`, whose own getter is `outer`."""
    if inner is None or outer is None:
        return inner or outer

    def both(getter: Getter, name: str, *args: Any, **kwargs: Any) -> Any:
        return inner(lambda name, *a, **k: outer(getter, name, *a, **k), name, *args, **kwargs)

    return both


def _get(
    store: _Store,
    name: str,
    shape: Any = None,
    dtype: Any = dtypes.float32,
    initializer: Any = None,
    regularizer: Any = None,
    reuse: Any = None,
    trainable: bool | None = None,
    collections: Any = None,
    caching_device: Any = None,
    partitioner: Any = None,
    validate_shape: bool = True,
    use_resource: bool | None = None,
    constraint: Any = None,
    synchronization: Any = VariableSynchronization.AUTO,
    aggregation: Any = VariableAggregation.NONE,
) -> Any:
    """The variable of that full name: found or made, as `reuse` says."""
    wanted, number = (None if shape is None else TensorShape(shape)), as_dtype(dtype)
    existing = store.variables.get(name)
    if existing is not None:
        if reuse is False or reuse is None:
            line = existing.op.traceback_line if isinstance(existing, Variable) else ""
            raise ValueError(
                f"Variable {name} already exists, disallowed. Did you mean to set reuse=True or reuse=tf.AUTO_REUSE in "
                f"VarScope? Originally defined at: {line}"
            )
        return _checked(existing, name, wanted, number)
    if reuse is True:
        raise ValueError(
            f"Variable {name} does not exist, or was not created with tf.get_variable(). Did you mean to set "
            "reuse=tf.AUTO_REUSE in VarScope?"
        )
    options = {
        "trainable": trainable, "collections": collections, "caching_device": caching_device, "constraint": constraint,
        "validate_shape": validate_shape, "use_resource": use_resource, "synchronization": synchronization,
        "aggregation": aggregation,
    }  # fmt: skip
    if partitioner is not None and wanted is not None and wanted.is_fully_defined() and len(wanted):
        slices = partitions(partitioner, wanted, number)
        made = [
            _make(store, part.name_in(name), part.shape, number, initializer, regularizer, options, part)
            for part in slices
        ]
        result: Any = PartitionedVariable(name, wanted, number, made, slices)
    else:
        result = _make(store, name, wanted, number, initializer, regularizer, options, None)
    store.variables[name] = result
    return result


def _checked(existing: Any, name: str, shape: TensorShape | None, dtype: DType) -> Any:
    if shape is not None and not shape.is_compatible_with(existing.shape):
        raise ValueError(
            f"Trying to share variable {name}, but specified shape {shape} and found shape {existing.shape}."
        )
    if not dtype.is_compatible_with(existing.dtype):
        raise ValueError(
            f"Trying to share variable {name}, but specified dtype {dtype.name} and found dtype {existing.dtype.name}."
        )
    return existing


def _make(
    store: _Store, name: str, shape: TensorShape | None, dtype: DType, initializer: Any, regularizer: Any,
    options: dict[str, Any], part: Any,
) -> Variable:  # fmt: skip
    if inspect.isclass(initializer):
        initializer = initializer()
    if initializer is None:
        initializer = _default_initializer(name, dtype)
    by_value = not callable(initializer)
    if by_value and shape is not None:
        raise ValueError("If initializer is a constant, do not specify shape.")
    needs_shape = not by_value and not initializers.takes_no_arguments(initializer)
    if needs_shape and (shape is None or not shape.is_fully_defined()):
        raise ValueError(f"Shape of a new variable ({name}) must be fully defined, but instead was {shape}.")
    start: Any = initializer
    if needs_shape:
        assert shape is not None
        info = {} if part is None or not initializers.takes_partitions(initializer) else {"partition_info": part}

        def start() -> Any:
            return initializer(shape.as_list(), dtype=dtype, **info)

    variable = Variable(start, name=name, dtype=None if by_value else dtype.base_dtype, **options)
    if part is not None:
        variable._set_save_slice_info(part)
    store.variables[name] = variable
    if regularizer is not None:
        with outermost() as graph, graph.colocate_with(variable.op), graph.name_scope(name + "/Regularizer/"):
            loss = regularizer(variable)
        if loss is not None:
            graph.add_to_collection(GraphKeys.REGULARIZATION_LOSSES, loss)
    return variable


def _default_initializer(name: str, dtype: DType) -> Any:
    if dtype.is_floating:
        return initializers.GlorotUniform()
    if dtype.is_integer or dtype.is_bool or dtype.base_dtype is dtypes.string:
        return initializers.Zeros()
    raise ValueError(f"An initializer for variable {name} of {dtype.base_dtype} is required")


def get_variable_scope() -> VariableScope:
    """The current variable scope."""
    return _store().scope


def get_variable(
    name: str,
    shape: Any = None,
    dtype: Any = None,
    initializer: Any = None,
    regularizer: Any = None,
    trainable: bool | None = None,
    collections: Any = None,
    caching_device: Any = None,
    partitioner: Any = None,
    validate_shape: bool = True,
    use_resource: bool | None = None,
    custom_getter: Getter | None = None,
    constraint: Any = None,
    synchronization: Any = VariableSynchronization.AUTO,
    aggregation: Any = VariableAggregation.NONE,
) -> Any:
    """The variable `name` of the current variable scope: a new one, or with reuse the one made before.

    ValueError when it exists and isn't reused, is reused and doesn't exist, or has another shape or dtype.
    """
    return get_variable_scope().get_variable(
        name, shape=shape, dtype=dtype, initializer=initializer, regularizer=regularizer, trainable=trainable,
        collections=collections, caching_device=caching_device, partitioner=partitioner, validate_shape=validate_shape,
        use_resource=use_resource, custom_getter=custom_getter, constraint=constraint, synchronization=synchronization,
        aggregation=aggregation,
    )  # fmt: skip


def get_local_variable(
    name: str,
    shape: Any = None,
    dtype: Any = None,
    initializer: Any = None,
    regularizer: Any = None,
    trainable: bool = False,
    collections: Any = None,
    **options: Any,
) -> Any:
    """As `get_variable`, in the collection of local variables and not trained."""
    keys = [GraphKeys.LOCAL_VARIABLES] if collections is None else [*collections, GraphKeys.LOCAL_VARIABLES]
    return get_variable(name, shape, dtype, initializer, regularizer, False, keys, **options)


class variable_scope:  # noqa: N801 - TF's name
    """A block with a variable scope: a name inside the current one, or a `VariableScope` to enter again.

    With `name_or_scope=None` a unique name is made from `default_name`. Gives the VariableScope.
    """

    def __init__(
        self,
        name_or_scope: Any,
        default_name: str | None = None,
        values: Any = None,
        initializer: Any = None,
        regularizer: Any = None,
        caching_device: Any = None,
        partitioner: Any = None,
        custom_getter: Getter | None = None,
        reuse: Any = None,
        dtype: Any = None,
        use_resource: bool | None = None,
        constraint: Any = None,
        auxiliary_name_scope: bool = True,
    ) -> None:
        if default_name is None and name_or_scope is None:
            raise TypeError("If default_name is None then name_or_scope is required")
        if reuse not in (None, False, True, AUTO_REUSE):
            raise ValueError("The reuse parameter must be True or False or None.")
        if name_or_scope is None and reuse is True:
            raise ValueError("reuse=True cannot be used without a name_or_scope")
        if name_or_scope is not None and not isinstance(name_or_scope, (str, VariableScope)):
            raise TypeError("VariableScope: name_or_scope must be a string or VariableScope.")
        self._target, self._default, self._reuse = name_or_scope, default_name, reuse or None
        self._options = {
            "initializer": initializer, "regularizer": regularizer, "caching_device": caching_device,
            "partitioner": partitioner, "dtype": dtype, "use_resource": use_resource, "constraint": constraint,
        }  # fmt: skip
        self._custom_getter, self._opens_names = custom_getter, auxiliary_name_scope
        self._blocks: list[AbstractContextManager[Any]] = []

    def __enter__(self) -> VariableScope:
        graph = get_default_graph()
        store = _store(graph)
        names, target = self._name_block(graph), self._target
        if target is None:
            assert self._default is not None
            target = store.unique(self._default)
        prefix = names.__enter__()
        if not self._opens_names:
            current = graph.get_name_scope()
            prefix = current + "/" if current else ""
        block = self._pure(store, target, prefix or "")
        try:
            scope = block.__enter__()
        except BaseException:
            names.__exit__(None, None, None)
            raise
        self._blocks = [block, names]
        return scope

    def __exit__(self, *error: Any) -> None:
        block, names = self._blocks
        block.__exit__(None, None, None)
        names.__exit__(*error)

    def _name_block(self, graph: Graph) -> AbstractContextManager[Any]:
        if not self._opens_names:
            return nullcontext()
        if self._target is None:
            return name_scope(self._default)
        name = self._target if isinstance(self._target, str) else self._target.name.rsplit("/", 1)[-1]
        if name:
            return graph.name_scope(name)
        current = graph.get_name_scope()
        return graph.name_scope(current + "/" if current else None)

    @contextmanager
    def _pure(self, store: _Store, target: Any, prefix: str) -> Iterator[VariableScope]:
        outer = store.scope
        again = isinstance(target, VariableScope)
        counts = dict(store.opened) if again else None
        if again:
            base, name = target, target.name
            reuse = self._reuse or target.reuse
        else:
            base, name = outer, f"{outer.name}/{target}" if outer.name else target
            reuse = self._reuse or outer.reuse
        scope = base._replaced(**self._options)
        scope._name, scope._reuse = name, reuse
        scope._name_scope = base.original_name_scope if again else prefix
        scope._custom_getter = _wrapped(self._custom_getter, base.custom_getter)
        if not again:
            store.opened[name] = store.opened.get(name, 0) + 1
        store.scope = scope
        try:
            yield scope
        finally:
            store.close_inner(name)
            if counts is not None:
                store.opened = counts
            store.scope = outer


@contextmanager
def variable_op_scope(
    values: Any, name_or_scope: Any, default_name: str | None = None, *args: Any, **kwargs: Any
) -> Iterator[VariableScope]:  # fmt: skip
    """The older form of `variable_scope`."""
    with variable_scope(name_or_scope, default_name, values, *args, **kwargs) as scope:
        yield scope


def no_regularizer(_: Tensor) -> None:
    """The regulariser that adds nothing, to switch off the scope's."""
    return None
