"""Optimisers that scale each element's step by its past gradients: Adagrad, RMSProp, Adadelta, FTRL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.indexed_slices import IndexedSlices
from stepjit.framework.tensor import Operation, Tensor
from stepjit.initializers import Constant, Ones
from stepjit.train.optimizer import Optimizer


class Fused(Optimizer):
    """An optimiser whose update is one op: `Apply<kind>`, with its slots and hyper-parameters by name."""

    _kind: str
    _slot_names: tuple[str, ...]
    """The op's arguments after `var` that are slots, which are the slots' names too."""

    def _hyper(self) -> dict[str, Any]:
        """The hyper-parameters by the op's argument."""
        raise AssertionError

    _hyper_names: dict[str, str] = {}
    """The names of their tensors where they differ from the arguments'."""

    def _prepare(self) -> None:
        self._tensors = {
            key: self._number(value, self._hyper_names.get(key, key)) for key, value in self._hyper().items()
        }

    def _apply(self, prefix: str, var: Any, get: Any, **rest: Any) -> Any:
        slots: dict[str, Any] = {name: get(self.get_slot(var, name)) for name in self._slot_names}
        numbers: dict[str, Any] = {key: self._as(value, var) for key, value in self._tensors.items()}
        return apply_op(prefix + self._kind, var=get(var), use_locking=self._use_locking, **slots, **numbers, **rest)

    def _apply_dense(self, grad: Tensor, var: Any) -> Operation:
        return self._apply("Apply", var, lambda v: v._ref(), grad=grad).op

    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Operation:
        return self._apply("SparseApply", var, lambda v: v._ref(), grad=grad.values, indices=grad.indices).op

    def _resource_apply_dense(self, grad: Tensor, handle: Any) -> Operation:
        return self._apply("ResourceApply", handle, lambda v: v.handle, grad=grad)

    def _resource_apply_sparse(self, grad: Tensor, handle: Any, indices: Tensor) -> Operation:
        return self._apply("ResourceSparseApply", handle, lambda v: v.handle, grad=grad, indices=indices)


class AdagradOptimizer(Fused):
    """accumulator += g²; var -= lr * g / √accumulator."""

    _kind, _slot_names = "Adagrad", ("accum",)
    _hyper_names = {"lr": "learning_rate"}

    def __init__(
        self,
        learning_rate: Any,
        initial_accumulator_value: float = 0.1,
        use_locking: bool = False,
        name: str = "Adagrad",
    ) -> None:
        if initial_accumulator_value <= 0.0:
            raise ValueError(f"initial_accumulator_value must be positive: {initial_accumulator_value}")
        super().__init__(use_locking, name)
        self._learning_rate, self._initial = learning_rate, initial_accumulator_value

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for var in var_list:
            start = Constant(self._initial, var.dtype.base_dtype)
            self._get_or_make_slot_with_initializer(
                var, start, var.shape, var.dtype.base_dtype, "accumulator", self._name
            )

    def get_slot(self, var: Any, name: str) -> Any:
        """The slot `accumulator` of a variable, or None."""
        return super().get_slot(var, "accumulator" if name == "accum" else name)

    def _hyper(self) -> dict[str, Any]:
        return {"lr": self._learning_rate}


class RMSPropOptimizer(Fused):
    """rms = running mean of g²; momentum = momentum * m + lr * g / √(rms + epsilon); var -= momentum."""

    _slot_names: tuple[str, ...] = ("ms", "mom")
    _hyper_names = {"lr": "learning_rate", "rho": "decay"}

    def __init__(
        self, learning_rate: Any, decay: Any = 0.9, momentum: Any = 0.0, epsilon: Any = 1e-10,
        use_locking: bool = False,
        centered: bool = False, name: str = "RMSProp",
    ) -> None:  # fmt: skip
        super().__init__(use_locking, name)
        self._learning_rate, self._decay, self._momentum, self._epsilon = learning_rate, decay, momentum, epsilon
        self._centered = centered
        self._kind = "CenteredRMSProp" if centered else "RMSProp"
        if centered:
            self._slot_names = ("mg", "ms", "mom")

    _SLOTS = {"ms": "rms", "mom": "momentum", "mg": "mg"}

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for var in var_list:
            number = var.dtype.base_dtype
            self._get_or_make_slot_with_initializer(var, Ones(number), var.shape, number, "rms", self._name)
            if self._centered:
                self._zeros_slot(var, "mg", self._name)
            self._zeros_slot(var, "momentum", self._name)

    def get_slot(self, var: Any, name: str) -> Any:
        """The slot `rms`, `momentum` or (centred) `mg` of a variable, or None."""
        return super().get_slot(var, self._SLOTS.get(name, name))

    def _hyper(self) -> dict[str, Any]:
        return {"lr": self._learning_rate, "rho": self._decay, "momentum": self._momentum, "epsilon": self._epsilon}


class AdadeltaOptimizer(Fused):
    """Steps scaled by the ratio of the running means of past updates² and gradients²."""

    _kind, _slot_names = "Adadelta", ("accum", "accum_update")

    def __init__(
        self, learning_rate: Any = 0.001, rho: Any = 0.95, epsilon: Any = 1e-08, use_locking: bool = False,
        name: str = "Adadelta",
    ) -> None:  # fmt: skip
        super().__init__(use_locking, name)
        self._lr, self._rho, self._epsilon = learning_rate, rho, epsilon

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for var in var_list:
            for slot in self._slot_names:
                self._zeros_slot(var, slot, self._name)

    def _hyper(self) -> dict[str, Any]:
        return {"lr": self._lr, "rho": self._rho, "epsilon": self._epsilon}


class FtrlOptimizer(Fused):
    """Follow the regularised leader, with L1 and L2 penalties; ValueError for hyper-parameters of the wrong sign."""

    _slot_names = ("accum", "linear")
    _hyper_names = {"lr": "learning_rate", "l1": "l1_regularization_strength", "l2": "l2_regularization_strength"}

    def __init__(
        self, learning_rate: Any, learning_rate_power: Any = -0.5, initial_accumulator_value: float = 0.1,
        l1_regularization_strength: Any = 0.0, l2_regularization_strength: Any = 0.0, use_locking: bool = False,
        name: str = "Ftrl", accum_name: str | None = None, linear_name: str | None = None,
        l2_shrinkage_regularization_strength: Any = 0.0, beta: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(use_locking, name)
        if initial_accumulator_value < 0.0:
            raise ValueError(f"initial_accumulator_value {initial_accumulator_value} needs to be positive or zero")
        if learning_rate_power > 0.0:
            raise ValueError(f"learning_rate_power {learning_rate_power} needs to be negative or zero")
        for value, label in (
            (l1_regularization_strength, "l1"), (l2_regularization_strength, "l2"),
            (l2_shrinkage_regularization_strength, "l2_shrinkage"),
        ):  # fmt: skip
            if value < 0.0:
                raise ValueError(f"{label}_regularization_strength {value} needs to be positive or zero")
        self._learning_rate, self._power, self._initial = learning_rate, learning_rate_power, initial_accumulator_value
        self._l1, self._l2, self._shrinkage = (
            l1_regularization_strength,
            l2_regularization_strength,
            l2_shrinkage_regularization_strength,
        )
        if beta:
            self._l2 = self._l2 + beta / (2.0 * learning_rate)
        self._kind = "FtrlV2" if l2_shrinkage_regularization_strength > 0 else "Ftrl"
        self._accum_name, self._linear_name = accum_name, linear_name

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for var in var_list:
            start = Constant(self._initial, var.dtype.base_dtype)
            self._get_or_make_slot_with_initializer(
                var, start, var.shape, var.dtype.base_dtype, "accum", self._accum_name or self._name
            )
            self._zeros_slot(var, "linear", self._linear_name or self._name)

    def _hyper(self) -> dict[str, Any]:
        numbers = {"lr": self._learning_rate, "l1": self._l1, "l2": self._l2, "lr_power": self._power}
        return {**numbers, "l2_shrinkage": self._shrinkage} if self._kind == "FtrlV2" else numbers
