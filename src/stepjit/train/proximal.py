"""Optimisers with L1 and L2 penalties that are applied to each new value: proximal gradient descent and Adagrad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.stack import get_default_graph
from stepjit.framework.tensor import Operation, Tensor
from stepjit.initializers import Constant, Zeros
from stepjit.train.adaptive import Fused
from stepjit_runtime import dtypes

_STRENGTHS = {"l1": "l1_regularization_strength", "l2": "l2_regularization_strength"}


class ProximalGradientDescentOptimizer(Fused):
    """var = what minimises the penalties and the distance from var - learning_rate * gradient."""

    _kind, _slot_names = "ProximalGradientDescent", ()
    _hyper_names = {"alpha": "learning_rate", **_STRENGTHS}

    def __init__(
        self, learning_rate: Any, l1_regularization_strength: Any = 0.0, l2_regularization_strength: Any = 0.0,
        use_locking: bool = False, name: str = "ProximalGradientDescent",
    ) -> None:  # fmt: skip
        super().__init__(use_locking, name)
        self._learning_rate, self._l1, self._l2 = learning_rate, l1_regularization_strength, l2_regularization_strength

    def _hyper(self) -> dict[str, Any]:
        return {"alpha": self._learning_rate, "l1": self._l1, "l2": self._l2}

    def _apply_dense(self, grad: Tensor, var: Any) -> Operation:
        return self._apply("Apply", var, lambda v: v._ref(), delta=grad).op

    def _resource_apply_dense(self, grad: Tensor, handle: Any) -> Operation:
        return self._apply("ResourceApply", handle, lambda v: v.handle, delta=grad)


class ProximalAdagradOptimizer(Fused):
    """Adagrad with penalties; ValueError for an initial accumulator that is not positive."""

    _kind, _slot_names = "ProximalAdagrad", ("accum",)
    _hyper_names = {"lr": "learning_rate", **_STRENGTHS}

    def __init__(
        self, learning_rate: Any, initial_accumulator_value: float = 0.1, l1_regularization_strength: Any = 0.0,
        l2_regularization_strength: Any = 0.0, use_locking: bool = False, name: str = "ProximalAdagrad",
    ) -> None:  # fmt: skip
        if initial_accumulator_value <= 0.0:
            raise ValueError(f"initial_accumulator_value must be positive: {initial_accumulator_value}")
        super().__init__(use_locking, name)
        self._learning_rate, self._l1, self._l2 = learning_rate, l1_regularization_strength, l2_regularization_strength
        self._initial = initial_accumulator_value

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for var in var_list:
            number = var.dtype.base_dtype
            start = Constant(self._initial, number)
            self._get_or_make_slot_with_initializer(var, start, var.shape, number, "accumulator", self._name)

    def get_slot(self, var: Any, name: str) -> Any:
        """The slot `accumulator` of a variable, or None."""
        return super().get_slot(var, "accumulator" if name == "accum" else name)

    def _hyper(self) -> dict[str, Any]:
        return {"lr": self._learning_rate, "l1": self._l1, "l2": self._l2}


class AdagradDAOptimizer(Fused):
    """Adagrad by dual averaging: every step starts from zero, by the sums of all gradients and of their squares.

    ValueError for an initial accumulator that is not positive.
    """

    _kind, _slot_names = "AdagradDA", ("gradient_accumulator", "gradient_squared_accumulator")
    _hyper_names = {"lr": "learning_rate", **_STRENGTHS}

    def __init__(
        self, learning_rate: Any, global_step: Any, initial_gradient_squared_accumulator_value: float = 0.1,
        l1_regularization_strength: Any = 0.0, l2_regularization_strength: Any = 0.0, use_locking: bool = False,
        name: str = "AdagradDA",
    ) -> None:  # fmt: skip
        if initial_gradient_squared_accumulator_value <= 0.0:
            raise ValueError(
                "initial_gradient_squared_accumulator_value must be positive: "
                f"{initial_gradient_squared_accumulator_value}"
            )
        super().__init__(use_locking, name)
        self._learning_rate, self._l1, self._l2 = learning_rate, l1_regularization_strength, l2_regularization_strength
        self._global_step, self._initial = global_step, initial_gradient_squared_accumulator_value
        self._step: Tensor

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for var in var_list:
            number = var.dtype.base_dtype
            for slot, start in (
                ("gradient_accumulator", Zeros(number)),
                ("gradient_squared_accumulator", Constant(self._initial, number)),
            ):
                self._get_or_make_slot_with_initializer(var, start, var.shape, number, slot, self._name)

    def _prepare(self) -> None:
        super()._prepare()
        step = convert_to_tensor(self._global_step)
        with get_default_graph().colocate_with(step.op):
            self._step = apply_op("AddV2", x=apply_op("Identity", input=step), y=1, name="add")

    def _hyper(self) -> dict[str, Any]:
        return {"lr": self._learning_rate, "l1": self._l1, "l2": self._l2}

    def _apply(self, prefix: str, var: Any, get: Any, **rest: Any) -> Any:
        step = apply_op("Identity", input=self._step)
        if step.dtype.base_dtype is not dtypes.int64:
            step = apply_op("Cast", x=step, DstT=dtypes.int64)
        return super()._apply(prefix, var, get, global_step=step, **rest)
