"""tf.Variable, of both kinds: reference variables (the default) and resource variables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import convert_to_tensor, register_tensor_conversion_function
from stepjit.framework.func_graph import outermost
from stepjit.framework.graph import Graph, get_default_graph
from stepjit.framework.graph_keys import GraphKeys
from stepjit.framework.scopes import name_scope
from stepjit.framework.shape import TensorShape, as_dims
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops import state
from stepjit.variable_kinds import VariableAggregation, VariableSynchronization, resource_variables_enabled
from stepjit.variable_rows import RowMethods
from stepjit_runtime.dtypes import DType, as_dtype


def _wants_resource(use_resource: bool | None) -> bool:
    if use_resource is None:
        from stepjit.variable_scope import get_variable_scope

        use_resource = get_variable_scope().use_resource
    return resource_variables_enabled() if use_resource is None else use_resource


class Variable(RowMethods):
    """A value that a session keeps between steps; set by its initializer, changed by assign ops.

    ValueError without an initial value, TypeError for collections that are no list.
    """

    _graph: Graph
    _dtype: DType
    _initializer_op: Operation
    _initial_value: Tensor

    def __new__(cls, *args: Any, use_resource: bool | None = None, **kwargs: Any) -> Variable:
        if cls is Variable:
            cls = ResourceVariable if _wants_resource(use_resource) else RefVariable
        return object.__new__(cls)

    def __init__(
        self,
        initial_value: Any = None,
        trainable: bool | None = None,
        collections: Any = None,
        validate_shape: bool = True,
        caching_device: Any = None,
        name: str | None = None,
        variable_def: Any = None,
        dtype: Any = None,
        expected_shape: Any = None,
        import_scope: str | None = None,
        constraint: Callable[[Any], Any] | None = None,
        use_resource: bool | None = None,
        synchronization: Any = VariableSynchronization.AUTO,
        aggregation: Any = VariableAggregation.NONE,
        shape: Any = None,
    ) -> None:
        if variable_def is not None:
            self._restore(variable_def, import_scope)
            return
        if initial_value is None:
            raise ValueError("initial_value must be specified.")
        if constraint is not None and not callable(constraint):
            raise ValueError("The `constraint` argument must be a callable.")
        if collections is None:
            collections = [GraphKeys.GLOBAL_VARIABLES]
        if not isinstance(collections, (list, tuple, set)):
            raise ValueError(
                f"collections argument to Variable constructor must be a list, tuple, or set. Got {collections}"
            )
        self._trainable = True if trainable is None else bool(trainable)
        self._constraint, self._caching_device = constraint, caching_device
        self._synchronization, self._aggregation = synchronization, aggregation
        self._save_slice_info: Any = None
        if isinstance(initial_value, Tensor) and initial_value.graph.is_function:
            raise ValueError(
                f"Initializer for variable {name or 'Variable'} is from inside a control-flow construct, such as a "
                "loop or conditional. When creating a variable inside a loop or conditional, use a lambda as the "
                "initializer."
            )
        keys = list(collections)
        if self._trainable and GraphKeys.TRAINABLE_VARIABLES not in keys:
            keys.append(GraphKeys.TRAINABLE_VARIABLES)
        with outermost() as self._graph, self._graph.control_dependencies(None):
            self._build(initial_value, name, as_dtype(dtype) if dtype is not None else None, validate_shape, shape)
        self._graph.add_to_collections(keys, self)

    def _build(self, initial_value: Any, name: str | None, dtype: DType | None, validate: bool, shape: Any) -> None:
        raise AssertionError

    def _restore(self, definition: Any, import_scope: str | None) -> None:
        raise AssertionError

    # --- what it is ---

    @property
    def name(self) -> str:
        return self.op.name + ":0"

    @property
    def _shared_name(self) -> str:
        return self.op.name

    @property
    def op(self) -> Operation:
        raise AssertionError

    @property
    def graph(self) -> Graph:
        return self._graph

    @property
    def device(self) -> str:
        return self.op.device

    @property
    def dtype(self) -> DType:
        return self._dtype

    @property
    def shape(self) -> TensorShape:
        raise AssertionError

    def get_shape(self) -> TensorShape:
        """The static shape."""
        return self.shape

    @property
    def initializer(self) -> Operation:
        """The op that gives the variable its initial value."""
        return self._initializer_op

    @property
    def initial_value(self) -> Tensor:
        """The tensor that the variable starts from."""
        return self._initial_value

    @property
    def trainable(self) -> bool:
        return self._trainable

    @property
    def constraint(self) -> Callable[[Any], Any] | None:
        return self._constraint

    @property
    def synchronization(self) -> Any:
        return self._synchronization

    @property
    def aggregation(self) -> Any:
        return self._aggregation

    def _get_save_slice_info(self) -> Any:
        return self._save_slice_info

    def _set_save_slice_info(self, info: Any) -> None:
        self._save_slice_info = info

    # --- its value ---

    def value(self) -> Tensor:
        """The value, read without an order relative to writes in the same step."""
        raise AssertionError

    def read_value(self) -> Tensor:
        """The value, read anew, so after what the enclosing control dependencies name."""
        raise AssertionError

    def _gradient_source(self) -> Tensor:
        raise AssertionError

    def _as_graph_element(self) -> Tensor:
        raise AssertionError

    def eval(self, session: Any = None) -> Any:
        """The value in `session` or the default one."""
        return self._as_graph_element().eval(session=session)

    def initialized_value(self) -> Tensor:
        """The value once initialised, else the initial value: for initial values that depend on another variable's."""
        with get_default_graph().control_dependencies(None):
            return state.initialized_value(self)

    def load(self, value: Any, session: Any = None) -> None:
        """Set the value in `session` or the default one; ValueError when there is none."""
        from stepjit.session import get_default_session

        session = session or get_default_session()
        if session is None:
            raise ValueError("Either session argument should be provided or default session should be established")
        session.run(self.initializer, {self.initializer.inputs[1]: value})

    def set_shape(self, shape: Any) -> None:
        """Narrow the static shape."""
        self._as_graph_element().set_shape(shape)
        self.value().set_shape(shape)

    def assign(self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True) -> Any:
        """Let the value be `value`; gives the new value, or the op with `read_value=False`."""
        raise AssertionError

    def assign_add(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Any:
        """Add `delta`; gives the new value, or the op with `read_value=False`."""
        raise AssertionError

    def assign_sub(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Any:
        """Subtract `delta`; gives the new value, or the op with `read_value=False`."""
        raise AssertionError

    def experimental_ref(self) -> Variable:
        return self

    ref = experimental_ref

    def __hash__(self) -> int:
        return id(self)

    def __iter__(self) -> NoReturn:
        raise TypeError("'Variable' object is not iterable.")

    def __bool__(self) -> bool:
        return bool(self.value())

    __array_priority__ = 100

    def __repr__(self) -> str:
        return f"<tf.Variable '{self.name}' shape={self.shape} dtype={self.dtype.name}>"

    def to_proto(self, export_scope: str | None = None) -> Any:
        """A new VariableDef; None for a variable outside the name scope `export_scope`."""
        from stepjit.variable_defs import variable_def

        return variable_def(self, export_scope)

    @staticmethod
    def from_proto(variable_def: Any, import_scope: str | None = None) -> Variable:
        """The variable that a VariableDef describes, whose ops the default graph has; KeyError when it hasn't."""
        from stepjit.variable_defs import variable_from_def

        return variable_from_def(variable_def, import_scope)

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"can't pickle variable {self.name}: save it with a Saver instead")


def _initial_tensor(initial_value: Any, dtype: DType | None) -> Tensor:
    value = initial_value() if callable(initial_value) else initial_value
    return convert_to_tensor(value, dtype=dtype, name="initial_value")


class RefVariable(Variable):
    """A variable behind a reference tensor `v:0`, read through the snapshot `v/read`."""

    def _build(self, initial_value: Any, name: str | None, dtype: DType | None, validate: bool, shape: Any) -> None:
        graph = self._graph
        with name_scope(name, "Variable", [] if callable(initial_value) else [initial_value]) as scope:
            if callable(initial_value):
                own_place = (b"loc:@" + scope[:-1].encode(),)
                with graph._attr_scope({"_class": own_place}), name_scope("Initializer"), graph.device(None):
                    start = _initial_tensor(initial_value, dtype)
            else:
                start = _initial_tensor(initial_value, dtype)
            self._initial_value = start
            dims = as_dims(shape) if shape is not None else start.dims if validate else None
            base = start.dtype.base_dtype
            self._variable: Tensor = apply_op("VariableV2", shape=dims, dtype=base, name=scope)
            with graph.colocate_with(self._variable.op):
                assigned = apply_op("Assign", ref=self._variable, value=start, validate_shape=validate)
                self._initializer_op = assigned.op
                self._snapshot: Tensor = apply_op("Identity", input=self._variable, name="read")
        self._dtype = base._as_ref

    def _restore(self, definition: Any, import_scope: str | None) -> None:
        self._graph = graph = get_default_graph()

        def find(name: str) -> Any:
            return graph.as_graph_element(f"{import_scope}/{name}" if import_scope else name)

        self._variable = find(definition.variable_name)
        self._initializer_op = find(definition.initializer_name)
        self._snapshot = find(definition.snapshot_name)
        named = definition.initial_value_name
        self._initial_value = find(named) if named else self._initializer_op.inputs[1]
        self._dtype = self._variable.dtype
        self._trainable = bool(definition.trainable)
        self._constraint = self._caching_device = self._save_slice_info = None
        self._synchronization, self._aggregation = VariableSynchronization.AUTO, VariableAggregation.NONE

    @property
    def op(self) -> Operation:
        return self._variable.op

    @property
    def shape(self) -> TensorShape:
        return self._variable.shape

    def _ref(self) -> Tensor:
        return self._variable

    def _gradient_source(self) -> Tensor:
        return self._variable

    def _as_graph_element(self) -> Tensor:
        return self._variable

    def value(self) -> Tensor:
        """The snapshot `v/read`."""
        return self._snapshot

    def read_value(self) -> Tensor:
        """The value, read anew."""
        return apply_op("Identity", input=self._variable, name="read")

    def assign(self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True) -> Any:
        """Let the value be `value`; gives the new value, or the op with `read_value=False`."""
        result = state.assign(self, value, use_locking=use_locking, name=name)
        return result if read_value else result.op

    def assign_add(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Any:
        """Add `delta`; gives the new value, or the op with `read_value=False`."""
        result = state.assign_add(self, delta, use_locking=use_locking, name=name)
        return result if read_value else result.op

    def assign_sub(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Any:
        """Subtract `delta`; gives the new value, or the op with `read_value=False`."""
        result = state.assign_sub(self, delta, use_locking=use_locking, name=name)
        return result if read_value else result.op


class ResourceVariable(Variable):
    """A variable behind a resource handle; every use reads it anew."""

    def _build(self, initial_value: Any, name: str | None, dtype: DType | None, validate: bool, shape: Any) -> None:
        graph = self._graph
        with name_scope(name, "Variable", [] if callable(initial_value) else [initial_value]) as scope:
            own_place = (b"loc:@" + scope[:-1].encode(),)
            with graph._attr_scope({"_class": own_place}), name_scope("Initializer"), graph.device(None):
                self._initial_value = start = _initial_tensor(initial_value, dtype)
            self._dtype = base = start.dtype.base_dtype
            self._shape = TensorShape(as_dims(shape) if shape is not None else start.dims if validate else None)
            self.handle: Tensor = apply_op(
                "VarHandleOp", dtype=base, shape=self._shape.as_list() if self._shape.ndims is not None else None,
                shared_name=scope[:-1].encode(), name=scope,
            )  # fmt: skip
            with name_scope("IsInitialized"):
                self._is_initialized: Tensor = apply_op("VarIsInitializedOp", resource=self.handle)
            self._initializer_op = apply_op("AssignVariableOp", resource=self.handle, value=start, name="Assign")
            with name_scope("Read"):
                self._graph_element: Tensor = self._read()

    def _restore(self, definition: Any, import_scope: str | None) -> None:
        self._graph = graph = get_default_graph()

        def find(name: str) -> Any:
            return graph.as_graph_element(f"{import_scope}/{name}" if import_scope else name)

        self.handle = find(definition.variable_name)
        self._initializer_op = find(definition.initializer_name)
        self._graph_element = find(definition.snapshot_name)
        named = definition.initial_value_name
        self._initial_value = find(named) if named else self._initializer_op.inputs[1]
        self._dtype = self.handle.op.attrs["dtype"]
        self._shape = TensorShape(self.handle.op.attrs["shape"])
        self._is_initialized = apply_op("VarIsInitializedOp", resource=self.handle)
        self._trainable = bool(definition.trainable)
        self._constraint = self._caching_device = self._save_slice_info = None
        self._synchronization, self._aggregation = VariableSynchronization.AUTO, VariableAggregation.NONE

    @property
    def op(self) -> Operation:
        return self.handle.op

    @property
    def shape(self) -> TensorShape:
        return self._shape

    @property
    def create(self) -> Operation:
        """The initializer."""
        return self._initializer_op

    def _read(self) -> Tensor:
        value = apply_op("ReadVariableOp", resource=self.handle, dtype=self._dtype)
        value.set_shape(self._shape)
        return value

    def _gradient_source(self) -> Tensor:
        return self.handle

    def _as_graph_element(self) -> Tensor:
        return self._graph_element

    def _after(self, op: Operation) -> Tensor:
        """The value once `op` has run."""
        with op.graph.control_dependencies([op]):
            return self._read()

    def value(self) -> Tensor:
        """The value, read by an op of its own."""
        return self._read()

    def read_value(self) -> Tensor:
        """The value, read anew."""
        with name_scope("Read"):
            value = self._read()
        return apply_op("Identity", input=value)

    def is_initialized(self, name: str | None = None) -> Tensor:
        """Whether the variable has a value, as a bool tensor."""
        return apply_op("VarIsInitializedOp", resource=self.handle, name=name)

    def set_shape(self, shape: Any) -> None:
        """Narrow the static shape."""
        self._shape = self._shape.merge_with(shape)
        self._graph_element.set_shape(shape)

    def _update(self, kind: str, value: Any, name: str | None, read_value: bool) -> Any:
        tensor = convert_to_tensor(value, dtype=self._dtype)
        if not self._shape.is_compatible_with(tensor.shape):
            raise ValueError(
                f"Cannot assign value to variable '{self.name}': Shape mismatch. The variable shape {self._shape}, "
                f"and the assigned value shape {tensor.shape} are incompatible."
            )
        checked = {"validate_shape": True} if kind == "AssignVariableOp" and self._shape.is_fully_defined() else {}
        op = apply_op(kind, resource=self.handle, value=tensor, name=name, **checked)
        return self._after(op) if read_value else op

    def assign(self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True) -> Any:
        """Let the value be `value`; gives the new value, or the op with `read_value=False`."""
        return self._update("AssignVariableOp", value, name, read_value)

    def assign_add(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Any:
        """Add `delta`; gives the new value, or the op with `read_value=False`."""
        return self._update("AssignAddVariableOp", delta, name, read_value)

    def assign_sub(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Any:
        """Subtract `delta`; gives the new value, or the op with `read_value=False`."""
        return self._update("AssignSubVariableOp", delta, name, read_value)


def _convert(variable: Variable, dtype: Any = None, name: str | None = None, as_ref: bool = False) -> Any:
    if dtype is not None and not as_dtype(dtype).is_compatible_with(variable.dtype):
        raise ValueError(
            f"Incompatible type conversion requested to type '{as_dtype(dtype).name}' for variable of type "
            f"'{variable.dtype.name}' (Variable: {variable!r})"
        )
    return variable._as_graph_element() if as_ref and isinstance(variable, RefVariable) else variable.value()


register_tensor_conversion_function(Variable, _convert)
