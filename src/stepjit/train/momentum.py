"""Gradient descent with momentum, plain or after Nesterov."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.indexed_slices import IndexedSlices
from stepjit.framework.tensor import Operation, Tensor
from stepjit.train.optimizer import Optimizer


class MomentumOptimizer(Optimizer):
    """accumulation = momentum * accumulation + gradient; var -= learning_rate * accumulation."""

    def __init__(
        self, learning_rate: Any, momentum: Any, use_locking: bool = False, name: str = "Momentum",
        use_nesterov: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(use_locking, name)
        self._learning_rate, self._momentum, self._use_nesterov = learning_rate, momentum, use_nesterov
        self._learning_rate_tensor: Tensor
        self._momentum_tensor: Tensor

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for var in var_list:
            self._zeros_slot(var, "momentum", self._name)

    def _prepare(self) -> None:
        self._learning_rate_tensor = self._number(self._learning_rate, "learning_rate")
        self._momentum_tensor = self._number(self._momentum, "momentum")

    def _numbers(self, var: Any) -> dict[str, Any]:
        return {
            "lr": self._as(self._learning_rate_tensor, var), "momentum": self._as(self._momentum_tensor, var),
            "use_locking": self._use_locking, "use_nesterov": self._use_nesterov,
        }  # fmt: skip

    def _apply_dense(self, grad: Tensor, var: Any) -> Operation:
        slot = self.get_slot(var, "momentum")
        return apply_op("ApplyMomentum", var=var._ref(), accum=slot._ref(), grad=grad, **self._numbers(var)).op

    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Operation:
        slot = self.get_slot(var, "momentum")
        return apply_op(
            "SparseApplyMomentum", var=var._ref(), accum=slot._ref(), grad=grad.values, indices=grad.indices,
            **self._numbers(var),
        ).op  # fmt: skip

    def _resource_apply_dense(self, grad: Tensor, handle: Any) -> Operation:
        slot = self.get_slot(handle, "momentum")
        return apply_op(
            "ResourceApplyMomentum", var=handle.handle, accum=slot.handle, grad=grad, **self._numbers(handle)
        )

    def _resource_apply_sparse(self, grad: Tensor, handle: Any, indices: Tensor) -> Operation:
        slot = self.get_slot(handle, "momentum")
        return apply_op(
            "ResourceSparseApplyMomentum", var=handle.handle, accum=slot.handle, grad=grad, indices=indices,
            **self._numbers(handle),
        )  # fmt: skip
