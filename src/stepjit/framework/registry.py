"""Which function computes the gradient of each op type."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

GradientFunction = Callable[..., Any]
"""`f(op, *grads)` gives one gradient (Tensor, IndexedSlices or None) per input of `op`; a bare one for one input."""

F = TypeVar("F", bound=GradientFunction)

_FUNCTIONS: dict[str, GradientFunction | None] = {}


def _register(op_type: Any, function: GradientFunction | None) -> None:
    if not isinstance(op_type, str):
        raise TypeError("op_type must be a string")
    if op_type in _FUNCTIONS:
        raise KeyError(f"Registering two gradient with name '{op_type}'! (Previous registration is kept.)")
    _FUNCTIONS[op_type] = function


class RegisterGradient:
    """Decorator that makes a function the gradient of an op type; KeyError when that name has one already."""

    __slots__ = ("_op_type",)

    def __init__(self, op_type: str) -> None:
        if not isinstance(op_type, str):
            raise TypeError("op_type must be a string")
        self._op_type = op_type

    def __call__(self, f: F) -> F:
        _register(self._op_type, f)
        return f


RegionGradient = Callable[..., Any]
"""`f(op, grads, needed)` gives one gradient per input of an op that holds regions; the grads of some outputs may be
None, and only the gradients of the inputs that are `needed` count."""
_REGION_FUNCTIONS: dict[str, RegionGradient] = {}


class RegisterRegionGradient:
    """Decorator that makes a function the gradient of op types that hold regions."""

    __slots__ = ("_op_types",)

    def __init__(self, *op_types: str) -> None:
        self._op_types = op_types

    def __call__(self, f: F) -> F:
        for op_type in self._op_types:
            _REGION_FUNCTIONS[op_type] = f
        return f


def region_gradient(op: Any) -> RegionGradient | None:
    """The gradient of an op that holds regions; None for other ops, and where it is overridden."""
    return None if "_gradient_op_type" in op.attrs else _REGION_FUNCTIONS.get(op.type)


def NotDifferentiable(op_type: str) -> None:  # noqa: N802 - the public name
    """Declare that ops of this type pass no gradient on; TypeError unless `op_type` is a string."""
    _register(op_type, None)


NoGradient = NotDifferentiable


def gradient_function(op: Any) -> GradientFunction | None:
    """The gradient of `op`, honouring `gradient_override_map`; None when it passes none; LookupError if unknown."""
    if not op.inputs:
        return None
    override = op.attrs.get("_gradient_op_type")
    op_type = op.type if override is None else override.decode()
    if not has_gradient(op_type):
        raise LookupError(f"gradient registry has no entry for: {op_type}")
    return _FUNCTIONS[op_type]


_LATE = ("stepjit.ops.candidate_sampling", "stepjit.ops.random_stateless")
"""Modules with gradients that are imported when one of their names is first asked for; a graph may come from a file."""


def has_gradient(op_type: str) -> bool:
    """Whether the op type is registered, as differentiable or not."""
    if op_type not in _FUNCTIONS:
        for name in _LATE:
            importlib.import_module(name)
    return op_type in _FUNCTIONS
