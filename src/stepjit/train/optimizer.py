"""`Optimizer`: what all optimisers share - gradients, slots, and the op that applies the updates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.func_graph import outermost
from stepjit.framework.gradients import gradients
from stepjit.framework.graph_keys import GraphKeys
from stepjit.framework.indexed_slices import IndexedSlices
from stepjit.framework.scopes import name_scope
from stepjit.framework.stack import get_default_graph
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops import state
from stepjit.ops.control import group
from stepjit.ops.control import tuple as gated
from stepjit.train import slots
from stepjit.variables import Variable
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType

GradientsAndVariables = Iterable[tuple[Any, Any]]


def deduplicated(slices: IndexedSlices) -> tuple[Tensor, Tensor]:
    """The slices with every index once, values of equal indices added: values and indices."""
    unique, positions = apply_op("Unique", x=slices.indices)
    count = apply_op(
        "StridedSlice", input=apply_op("Shape", input=unique), begin=[0], end=[1], strides=[1], shrink_axis_mask=1
    )
    return apply_op("UnsortedSegmentSum", data=slices.values, segment_ids=positions, num_segments=count), unique


class Optimizer:
    """Base of the optimisers: a subclass says how one variable is updated by one gradient.

    It overrides `_apply_dense` and `_apply_sparse` (for resource variables `_resource_apply_dense` and
    `_resource_apply_sparse`), and where needed `_create_slots`, `_prepare` and `_finish`.
    """

    GATE_NONE = 0
    GATE_OP = 1
    GATE_GRAPH = 2

    def __init__(self, use_locking: bool, name: str, use_own_namescope_for_non_slot_vars: bool = False) -> None:
        if not name:
            raise ValueError("Must specify the optimizer name")
        self._use_locking, self._name = use_locking, name
        self._slots: dict[str, dict[Any, Any]] = {}
        self._non_slots: dict[Any, Any] = {}

    def get_name(self) -> str:
        return self._name

    # --- What users call ---

    def minimize(
        self,
        loss: Any,
        global_step: Any = None,
        var_list: Any = None,
        gate_gradients: int = GATE_OP,
        aggregation_method: int | None = None,
        colocate_gradients_with_ops: bool = False,
        name: str | None = None,
        grad_loss: Any = None,
    ) -> Operation:
        """The op that changes `var_list` (all trainable variables) to lessen `loss`, and counts up `global_step`.

        ValueError when no variable has a gradient.
        """
        found = self.compute_gradients(
            loss, var_list, gate_gradients, aggregation_method, colocate_gradients_with_ops, grad_loss
        )
        if all(grad is None for grad, _ in found):
            names = [str(variable) for _, variable in found]
            raise ValueError(
                "No gradients provided for any variable, check your graph for ops that do not support gradients, "
                f"between variables {names} and loss {loss}."
            )
        return self.apply_gradients(found, global_step, name)

    def compute_gradients(
        self,
        loss: Any,
        var_list: Any = None,
        gate_gradients: int = GATE_OP,
        aggregation_method: int | None = None,
        colocate_gradients_with_ops: bool = False,
        grad_loss: Any = None,
    ) -> list[tuple[Any, Any]]:
        """Pairs of gradient (None where there is none) and variable.

        ValueError for an unknown gate or when there is no variable, TypeError for what is no variable.
        """
        if callable(loss):
            loss = loss()
        if gate_gradients not in (self.GATE_NONE, self.GATE_OP, self.GATE_GRAPH):
            raise ValueError(
                "gate_gradients must be one of: Optimizer.GATE_NONE, Optimizer.GATE_OP, Optimizer.GATE_GRAPH.  Not "
                f"{gate_gradients}"
            )
        variables = self._variables_for(var_list)
        self._check_dtypes([loss])
        grads: Sequence[Any] = gradients(
            loss, variables, grad_loss, "gradients", colocate_gradients_with_ops, gate_gradients == self.GATE_OP,
            aggregation_method,
        )  # fmt: skip
        if gate_gradients == self.GATE_GRAPH and any(grad is not None for grad in grads):
            grads = gated(grads)
        self._check_dtypes([variable for grad, variable in zip(grads, variables) if grad is not None])
        return list(zip(grads, variables))

    @staticmethod
    def _variables_for(var_list: Any) -> list[Any]:
        graph = get_default_graph()
        if var_list is None:
            var_list = graph.get_collection(GraphKeys.TRAINABLE_VARIABLES)
            var_list += graph.get_collection(GraphKeys.TRAINABLE_RESOURCE_VARIABLES)
        elif isinstance(var_list, (Variable, Tensor)):
            var_list = [var_list]
        result: list[Any] = []
        for each in var_list:
            result += each if isinstance(each, (list, tuple)) or hasattr(each, "_get_variable_list") else [each]
        if not result:
            raise ValueError("No variables to optimize.")
        for each in result:
            if not isinstance(each, (Variable, Tensor)):
                raise TypeError(f"Argument is not a tf.Variable: {each}")
        return result

    def apply_gradients(
        self, grads_and_vars: GradientsAndVariables, global_step: Any = None, name: str | None = None
    ) -> Operation:  # fmt: skip
        """The op that updates the variables by their gradients, and then counts up `global_step`.

        ValueError for no pairs or when every gradient is None, TypeError for gradients that are none.
        """
        pairs = [(_checked_gradient(grad), variable) for grad, variable in grads_and_vars]
        if not pairs:
            raise ValueError("No variables provided.")
        used = [variable for grad, variable in pairs if grad is not None]
        for variable in used:
            if isinstance(variable, Tensor):
                raise NotImplementedError("Trying to update a Tensor ", variable)
        if not used:
            names = [str(variable) for _, variable in pairs]
            raise ValueError(f"No gradients provided for any variable: {names}.")
        graph = get_default_graph()
        with outermost() as root, root.control_dependencies(None):
            self._create_slots(used)
        with name_scope(name, self._name) as scope:
            self._prepare()
            updates = []
            for grad, variable in pairs:
                if grad is None:
                    continue
                with name_scope("update_" + variable.op.name), graph.colocate_with(variable.op):
                    updates.append(self._update(grad, variable))
            result = self._finished(updates, global_step, scope)
        train_ops = graph.get_collection_ref(GraphKeys.TRAIN_OP)
        if result not in train_ops:
            train_ops.append(result)
        return result

    def _finished(self, updates: list[Operation], global_step: Any, scope: str) -> Any:
        if global_step is None:
            return self._finish(updates, scope)
        graph = get_default_graph()
        with graph.control_dependencies([self._finish(updates, "update")]), graph.colocate_with(global_step.op):
            if state.is_resource(global_step):
                return global_step.assign_add(1, name=scope, read_value=False)
            return state.assign_add(global_step, 1, name=scope).op

    # --- One variable ---

    def _update(self, grad: Any, variable: Any) -> Operation:
        resource = state.is_resource(variable)
        if isinstance(grad, IndexedSlices):
            if variable.constraint is not None:
                raise RuntimeError("Cannot use a constraint function on a sparse variable.")
            if resource:
                return self._resource_apply_sparse_duplicate_indices(grad.values, variable, grad.indices)
            return self._apply_sparse_duplicate_indices(grad, variable)
        done = self._resource_apply_dense(grad, variable) if resource else self._apply_dense(grad, variable)
        if variable.constraint is None:
            return done
        with get_default_graph().control_dependencies([done]):
            # Read anew: the cached read of a reference variable may be older than the update.
            return variable.assign(variable.constraint(variable.read_value()), read_value=False)

    def _apply_sparse_duplicate_indices(self, grad: IndexedSlices, var: Any) -> Operation:
        values, indices = deduplicated(grad)
        return self._apply_sparse(IndexedSlices(values, indices, grad.dense_shape), var)

    def _resource_apply_sparse_duplicate_indices(self, grad: Tensor, handle: Any, indices: Tensor) -> Operation:
        values, rows = deduplicated(IndexedSlices(grad, indices))
        return self._resource_apply_sparse(values, handle, rows)

    def _apply_dense(self, grad: Tensor, var: Any) -> Operation:
        raise NotImplementedError(f"{type(self).__name__} updates no reference variables by dense gradients")

    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Operation:
        raise NotImplementedError(f"{type(self).__name__} updates no reference variables by sparse gradients")

    def _resource_apply_dense(self, grad: Tensor, handle: Any) -> Operation:
        raise NotImplementedError(f"{type(self).__name__} updates no resource variables by dense gradients")

    def _resource_apply_sparse(self, grad: Tensor, handle: Any, indices: Tensor) -> Operation:
        raise NotImplementedError(f"{type(self).__name__} updates no resource variables by sparse gradients")

    # --- What subclasses may add ---

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        """Make the slots of the variables."""

    def _prepare(self) -> None:
        """Make the tensors of the hyper-parameters."""

    def _finish(self, update_ops: Sequence[Operation], name_scope: str) -> Operation:
        """The op that is done when all updates are."""
        return group(*update_ops, name=name_scope)

    def _valid_dtypes(self) -> set[DType]:
        return {dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64}

    def _check_dtypes(self, tensors: Iterable[Any]) -> None:
        for each in tensors:
            dtype = each.dtype.base_dtype
            if dtype not in self._valid_dtypes():
                allowed = ", ".join(sorted(f"tf.{valid.name}" for valid in self._valid_dtypes()))
                raise ValueError(f"Invalid type {dtype!r} for {each.name}, expected: [{allowed}].")

    def _call_if_callable(self, param: Any) -> Any:
        return param() if callable(param) else param

    def _number(self, value: Any, name: str) -> Tensor:
        """A hyper-parameter as a tensor (float32 unless it is one of another dtype)."""
        return convert_to_tensor(self._call_if_callable(value), name=name)

    @staticmethod
    def _as(tensor: Tensor, var: Any) -> Tensor:
        """A hyper-parameter in the variable's dtype."""
        target = var.dtype.base_dtype
        return tensor if tensor.dtype.base_dtype is target else apply_op("Cast", x=tensor, DstT=target)

    # --- Slots ---

    def get_slot(self, var: Any, name: str) -> Any:
        """The slot `name` of a variable, or None."""
        return self._slots.get(name, {}).get(_key(var))

    def get_slot_names(self) -> list[str]:
        """The names of the slots, in alphabetical order."""
        return sorted(self._slots)

    def variables(self) -> list[Any]:
        """All variables that the optimiser keeps in the default graph, by name."""
        graph = get_default_graph()
        found = [v for table in (*self._slots.values(), self._non_slots) for v in table.values() if v.graph is graph]
        return sorted(found, key=lambda variable: variable.op.name)

    def _slot(self, var: Any, slot_name: str, make: Callable[[], Any]) -> Any:
        table = self._slots.setdefault(slot_name, {})
        if _key(var) not in table:
            table[_key(var)] = make()
        return table[_key(var)]

    def _get_or_make_slot(self, var: Any, val: Any, slot_name: str, op_name: str) -> Any:
        return self._slot(var, slot_name, lambda: slots.create_slot(var, val, op_name))

    def _get_or_make_slot_with_initializer(
        self, var: Any, initializer: Any, shape: Any, dtype: Any, slot_name: str, op_name: str
    ) -> Any:
        return self._slot(
            var, slot_name, lambda: slots.create_slot_with_initializer(var, initializer, shape, dtype, op_name)
        )

    def _zeros_slot(self, var: Any, slot_name: str, op_name: str) -> Any:
        return self._slot(var, slot_name, lambda: slots.create_zeros_slot(var, op_name))

    def _create_non_slot_variable(self, initial_value: Any, name: str, colocate_with: Any) -> Any:
        graph = get_default_graph()
        key = (name, graph)
        if key not in self._non_slots:
            with graph.colocate_with(colocate_with.op):
                self._non_slots[key] = Variable(
                    initial_value, name=name, trainable=False, use_resource=state.is_resource(colocate_with)
                )
        return self._non_slots[key]

    def _get_non_slot_variable(self, name: str, graph: Any = None) -> Any:
        return self._non_slots.get((name, graph or get_default_graph()))


def _key(variable: Any) -> tuple[Any, str]:
    return variable.op.graph, variable.op.name


def _checked_gradient(grad: Any) -> Any:
    if grad is None or isinstance(grad, (Tensor, IndexedSlices)):
        return grad
    try:
        return convert_to_tensor(grad)
    except (TypeError, ValueError):
        raise TypeError(f"Gradient must be convertible to a Tensor or IndexedSlices, or None: {grad}") from None
