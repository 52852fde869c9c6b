"""Complex numbers: building them, their parts and angles, in TF1's signatures, with gradients."""

from __future__ import annotations

import math
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.registry import RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.broadcasting import unbroadcast
from stepjit_runtime import dtypes


def _number(value: float, like: Tensor) -> Tensor:
    return constant(value, dtype=like.dtype.base_dtype)


def complex(real: Any, imag: Any, name: str | None = None) -> Tensor:
    """real + i imag; TypeError unless both are float32 or both float64."""
    with name_scope(name, "Complex", [real, imag]) as scope:
        a, b = convert_to_tensor(real, name="real"), convert_to_tensor(imag, name="imag")
        kinds = (a.dtype.base_dtype, b.dtype.base_dtype)
        wide = {(dtypes.float32,) * 2: dtypes.complex64, (dtypes.float64,) * 2: dtypes.complex128}.get(kinds)
        if wide is None:
            raise TypeError(f"real and imag have incorrect types: {kinds[0].name} {kinds[1].name}")
        return apply_op("Complex", real=a, imag=b, Tout=wide, name=scope)


@RegisterGradient("Complex")
def _complex_grad(op: Operation, grad: Tensor) -> list[Any]:
    a, b = op.inputs
    parts = (apply_op(part, input=grad, Tout=a.dtype.base_dtype) for part in ("Real", "Imag"))
    return unbroadcast(a, b, *parts)


def real(input: Any, name: str | None = None) -> Tensor:
    """The real part; a real tensor as it is."""
    with name_scope(name, "Real", [input]) as scope:
        x = convert_to_tensor(input, name="input")
        if x.dtype.base_dtype.kind != "c":
            return x
        return apply_op("Real", input=x, Tout=x.dtype.base_dtype.real_dtype, name=scope)


@RegisterGradient("Real")
def _real_grad(op: Operation, grad: Tensor) -> Tensor:
    zero = constant(0, dtype=grad.dtype.base_dtype)
    return apply_op("Complex", real=grad, imag=zero, Tout=op.inputs[0].dtype.base_dtype)


def imag(input: Any, name: str | None = None) -> Tensor:
    """The imaginary part; zeros for a real tensor."""
    with name_scope(name, "Imag", [input]) as scope:
        x = convert_to_tensor(input, name="input")
        if x.dtype.base_dtype.kind != "c":
            return apply_op("ZerosLike", x=x)
        return apply_op("Imag", input=x, Tout=x.dtype.base_dtype.real_dtype, name=scope)


@RegisterGradient("Imag")
def _imag_grad(op: Operation, grad: Tensor) -> Tensor:
    zero = constant(0, dtype=grad.dtype.base_dtype)
    return apply_op("Complex", real=zero, imag=grad, Tout=op.inputs[0].dtype.base_dtype)


def angle(input: Any, name: str | None = None) -> Tensor:
    """The argument of complex numbers, in (-π, π]."""
    with name_scope(name, "Angle", [input]) as scope:
        x = convert_to_tensor(input, name="input")
        if x.dtype.base_dtype.kind != "c":
            below = apply_op("Less", x=x, y=_number(0, x))
            return apply_op("SelectV2", condition=below, t=_number(math.pi, x), e=_number(0, x), name=scope)
        return apply_op("Angle", input=x, Tout=x.dtype.base_dtype.real_dtype, name=scope)


@RegisterGradient("Angle")
def _angle_grad(op: Operation, grad: Tensor) -> Tensor:
    x = op.inputs[0]
    kind = grad.dtype.base_dtype
    turned = apply_op(
        "Complex", real=apply_op("Imag", input=x, Tout=kind), imag=apply_op("Real", input=x, Tout=kind), Tout=x.dtype
    )
    wide = apply_op("Complex", real=grad, imag=constant(0, dtype=kind), Tout=x.dtype)
    return apply_op("Mul", x=apply_op("Neg", x=wide), y=apply_op("Reciprocal", x=turned))


def conj(x: Any, name: str | None = None) -> Tensor:
    """The complex conjugate; a real tensor as it is."""
    with name_scope(name, "Conj", [x]) as scope:
        x = convert_to_tensor(x, name="x")
        return apply_op("Conj", input=x, name=scope) if x.dtype.base_dtype.kind == "c" else x


@RegisterGradient("Conj")
def _conj_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("Conj", input=grad)
