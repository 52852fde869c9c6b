"""Plain gradient descent."""

from __future__ import annotations

from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.indexed_slices import IndexedSlices
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops import state
from stepjit.train.optimizer import Optimizer


class GradientDescentOptimizer(Optimizer):
    """var -= learning_rate * gradient."""

    def __init__(self, learning_rate: Any, use_locking: bool = False, name: str = "GradientDescent") -> None:
        super().__init__(use_locking, name)
        self._learning_rate = learning_rate
        self._learning_rate_tensor: Tensor

    def _prepare(self) -> None:
        self._learning_rate_tensor = self._number(self._learning_rate, "learning_rate")

    def _apply_dense(self, grad: Tensor, var: Any) -> Operation:
        rate = self._as(self._learning_rate_tensor, var)
        return apply_op(
            "ApplyGradientDescent", var=var._ref(), alpha=rate, delta=grad, use_locking=self._use_locking
        ).op

    def _resource_apply_dense(self, grad: Tensor, handle: Any) -> Operation:
        rate = self._as(self._learning_rate_tensor, handle)
        return apply_op(
            "ResourceApplyGradientDescent", var=handle.handle, alpha=rate, delta=grad, use_locking=self._use_locking
        )

    # Subtraction may be repeated for an index, so equal ones need not be added up first.

    def _apply_sparse_duplicate_indices(self, grad: IndexedSlices, var: Any) -> Operation:
        step = apply_op("Mul", x=grad.values, y=self._as(self._learning_rate_tensor, var), name="mul")
        return state.scatter_sub(var, grad.indices, step, use_locking=self._use_locking).op

    def _resource_apply_sparse_duplicate_indices(self, grad: Tensor, handle: Any, indices: Tensor) -> Operation:
        step = apply_op("Neg", x=apply_op("Mul", x=grad, y=self._as(self._learning_rate_tensor, handle), name="mul"))
        return apply_op("ResourceScatterAdd", resource=handle.handle, indices=indices, updates=step)
