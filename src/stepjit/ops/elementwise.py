"""Elementwise functions of one tensor, in TF1's signatures, with gradients."""

from __future__ import annotations

import math
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.indexed_slices import IndexedSlices
from stepjit.framework.registry import NotDifferentiable, RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.sparse_tensor import SparseTensor
from stepjit.framework.tensor import Operation, Tensor


def _on_values(kind: str, x: Any, name: str | None) -> Any:
    """The op on a tensor, or on the values of IndexedSlices or of a SparseTensor."""
    if isinstance(x, IndexedSlices):
        return IndexedSlices(apply_op(kind, x=x.values, name=name), x.indices, x.dense_shape)
    if isinstance(x, SparseTensor):
        return x.with_values(apply_op(kind, x=x.values, name=name))
    return apply_op(kind, x=x, name=name)


def _number(value: float, like: Tensor, name: str = "Const") -> Tensor:
    return constant(value, dtype=like.dtype.base_dtype, name=name)


def _mul(x: Any, y: Any) -> Tensor:
    return apply_op("Mul", x=x, y=y, name="mul")


def _neg(x: Tensor) -> Tensor:
    return apply_op("Neg", x=x)


def _conj(x: Tensor) -> Tensor:
    return apply_op("Conj", input=x) if x.dtype.base_dtype.kind == "c" else x


def _inverse(x: Tensor) -> Tensor:
    return apply_op("Reciprocal", x=x)


# --- sign and size ---


def abs(x: Any, name: str | None = None) -> Any:
    """|x| elementwise; of complex numbers the modulus, as a real tensor."""
    with name_scope(name, "Abs", [x]) as scope:
        x = x if isinstance(x, (IndexedSlices, SparseTensor)) else convert_to_tensor(x, name="x")
        if x.dtype.base_dtype.kind == "c":
            if isinstance(x, SparseTensor):
                return x.with_values(abs(x.values, name=scope))
            return apply_op("ComplexAbs", x=x, Tout=x.dtype.base_dtype.real_dtype, name=scope)
        return _on_values("Abs", x, scope)


@RegisterGradient("Abs")
def _abs_grad(op: Operation, grad: Tensor) -> Tensor:
    return _mul(grad, apply_op("Sign", x=op.inputs[0]))


@RegisterGradient("ComplexAbs")
def _complex_abs_grad(op: Operation, grad: Tensor) -> Tensor:
    zero = apply_op("ZerosLike", x=grad, name="zeros_like")
    ratio = apply_op("DivNoNan", x=grad, y=op.outputs[0])
    return _mul(apply_op("Complex", real=ratio, imag=zero, Tout=op.inputs[0].dtype.base_dtype), op.inputs[0])


def negative(x: Any, name: str | None = None) -> Any:
    """-x elementwise."""
    return _on_values("Neg", x, name)


@RegisterGradient("Neg")
def _neg_grad(op: Operation, grad: Any) -> Any:
    return -grad if isinstance(grad, IndexedSlices) else _neg(grad)


def sign(x: Any, name: str | None = None) -> Any:
    """-1, 0 or 1 by the sign of x; NaN stays."""
    return _on_values("Sign", x, name)


@RegisterGradient("Sign")
def _sign_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("ZerosLike", x=op.inputs[0], name="zeros")


# --- powers and roots ---


def square(x: Any, name: str | None = None) -> Any:
    """x² elementwise."""
    return _on_values("Square", x, name)


@RegisterGradient("Square")
def _square_grad(op: Operation, grad: Tensor) -> Tensor:
    x = _conj(op.inputs[0])
    twice = apply_op("Mul", x=x, y=_number(2, x), name="Mul")
    return apply_op("Mul", x=grad, y=twice, name="Mul")


def sqrt(x: Any, name: str | None = None) -> Any:
    """The square root elementwise; NaN below 0."""
    return _on_values("Sqrt", x, name)


@RegisterGradient("Sqrt")
def _sqrt_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("SqrtGrad", y=op.outputs[0], dy=grad)


@RegisterGradient("SqrtGrad")
def _sqrt_grad_grad(op: Operation, grad: Tensor) -> list[Tensor]:
    y = op.inputs[0]
    ratio = apply_op("RealDiv", x=grad, y=y, name="truediv")
    half = _mul(_number(0.5, y), ratio)
    return [_neg(_mul(_conj(ratio), op.outputs[0])), half]


def rsqrt(x: Any, name: str | None = None) -> Any:
    """1 / √x elementwise."""
    return _on_values("Rsqrt", x, name)


@RegisterGradient("Rsqrt")
def _rsqrt_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("RsqrtGrad", y=op.outputs[0], dy=grad)


@RegisterGradient("RsqrtGrad")
def _rsqrt_grad_grad(op: Operation, grad: Tensor) -> list[Tensor]:
    a, b = op.inputs
    a_ = _conj(a)
    scaled = _mul(_mul(_number(-1.5, a), _conj(grad)), _mul(b, apply_op("Square", x=a_)))
    return [scaled, apply_op("RsqrtGrad", y=a_, dy=grad)]


def reciprocal(x: Any, name: str | None = None) -> Any:
    """1 / x elementwise."""
    return apply_op("Reciprocal", x=x, name=name)


inv = reciprocal


@RegisterGradient("Reciprocal")
@RegisterGradient("Inv")
def _reciprocal_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("ReciprocalGrad", y=op.outputs[0], dy=grad)


@RegisterGradient("InvGrad")
@RegisterGradient("ReciprocalGrad")
def _reciprocal_grad_grad(op: Operation, grad: Tensor) -> list[Tensor]:
    y, dy = op.inputs
    y_ = _conj(y)
    first = _mul(_mul(_number(-2, y), _mul(_conj(grad), dy)), y_)
    return [first, apply_op("ReciprocalGrad", y=y_, dy=grad)]


# --- exponentials and logarithms ---


def exp(x: Any, name: str | None = None) -> Tensor:
    """e to the power x elementwise."""
    return apply_op("Exp", x=x, name=name)


@RegisterGradient("Exp")
def _exp_grad(op: Operation, grad: Tensor) -> Tensor:
    return _mul(grad, _conj(op.outputs[0]))


def expm1(x: Any, name: str | None = None) -> Tensor:
    """exp(x) - 1, exact near 0."""
    return apply_op("Expm1", x=x, name=name)


@RegisterGradient("Expm1")
def _expm1_grad(op: Operation, grad: Tensor) -> Tensor:
    return _mul(grad, apply_op("Exp", x=_conj(op.inputs[0])))


def log(x: Any, name: str | None = None) -> Tensor:
    """The natural logarithm elementwise."""
    return apply_op("Log", x=x, name=name)


@RegisterGradient("Log")
def _log_grad(op: Operation, grad: Tensor) -> Tensor:
    return _mul(grad, _inverse(_conj(op.inputs[0])))


def log1p(x: Any, name: str | None = None) -> Tensor:
    """log(1 + x), exact near 0."""
    return apply_op("Log1p", x=x, name=name)


@RegisterGradient("Log1p")
def _log1p_grad(op: Operation, grad: Tensor) -> Tensor:
    x = _conj(op.inputs[0])
    return _mul(grad, _inverse(apply_op("AddV2", x=_number(1, x, "add/x"), y=x, name="add")))


# --- trigonometric and hyperbolic functions, and their inverses ---


def sin(x: Any, name: str | None = None) -> Tensor:
    """The sine elementwise."""
    return apply_op("Sin", x=x, name=name)


@RegisterGradient("Sin")
def _sin_grad(op: Operation, grad: Tensor) -> Tensor:
    return _mul(grad, apply_op("Cos", x=_conj(op.inputs[0])))


def cos(x: Any, name: str | None = None) -> Tensor:
    """The cosine elementwise."""
    return apply_op("Cos", x=x, name=name)


@RegisterGradient("Cos")
def _cos_grad(op: Operation, grad: Tensor) -> Tensor:
    return _mul(grad, _neg(apply_op("Sin", x=_conj(op.inputs[0]))))


def tan(x: Any, name: str | None = None) -> Tensor:
    """The tangent elementwise."""
    return apply_op("Tan", x=x, name=name)


@RegisterGradient("Tan")
def _tan_grad(op: Operation, grad: Tensor) -> Tensor:
    secant = _inverse(apply_op("Cos", x=_conj(op.inputs[0])))
    return _mul(apply_op("Square", x=secant), grad)


def _one_minus_square(x: Tensor) -> Tensor:
    return apply_op("Sub", x=_number(1, x), y=apply_op("Square", x=x), name="Sub")


def asin(x: Any, name: str | None = None) -> Tensor:
    """The angle in [-π/2, π/2] whose sine is x; NaN outside [-1, 1]."""
    return apply_op("Asin", x=x, name=name)


@RegisterGradient("Asin")
def _asin_grad(op: Operation, grad: Tensor) -> Tensor:
    return _mul(grad, _inverse(apply_op("Sqrt", x=_one_minus_square(_conj(op.inputs[0])))))


def acos(x: Any, name: str | None = None) -> Tensor:
    """The angle in [0, π] whose cosine is x; NaN outside [-1, 1]."""
    return apply_op("Acos", x=x, name=name)


@RegisterGradient("Acos")
def _acos_grad(op: Operation, grad: Tensor) -> Tensor:
    return _mul(_neg(grad), _inverse(apply_op("Sqrt", x=_one_minus_square(_conj(op.inputs[0])))))


def atan(x: Any, name: str | None = None) -> Tensor:
    """The angle in (-π/2, π/2) whose tangent is x."""
    return apply_op("Atan", x=x, name=name)


@RegisterGradient("Atan")
def _atan_grad(op: Operation, grad: Tensor) -> Tensor:
    x = _conj(op.inputs[0])
    return _mul(grad, _inverse(apply_op("AddV2", x=_number(1, x), y=apply_op("Square", x=x), name="Add")))


def sinh(x: Any, name: str | None = None) -> Tensor:
    """The hyperbolic sine elementwise."""
    return apply_op("Sinh", x=x, name=name)


@RegisterGradient("Sinh")
def _sinh_grad(op: Operation, grad: Tensor) -> Tensor:
    return _mul(grad, apply_op("Cosh", x=_conj(op.inputs[0])))


def cosh(x: Any, name: str | None = None) -> Tensor:
    """The hyperbolic cosine elementwise."""
    return apply_op("Cosh", x=x, name=name)


@RegisterGradient("Cosh")
def _cosh_grad(op: Operation, grad: Tensor) -> Tensor:
    return _mul(grad, apply_op("Sinh", x=_conj(op.inputs[0])))


def tanh(x: Any, name: str | None = None) -> Any:
    """The hyperbolic tangent elementwise."""
    return _on_values("Tanh", x, name)


@RegisterGradient("Tanh")
def _tanh_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("TanhGrad", y=_conj(op.outputs[0]), dy=grad)


@RegisterGradient("TanhGrad")
def _tanh_grad_grad(op: Operation, grad: Tensor) -> list[Tensor]:
    y, dy = _conj(op.inputs[0]), _conj(op.inputs[1])
    return [_mul(_mul(_mul(grad, _number(-2, y)), dy), y), apply_op("TanhGrad", y=y, dy=grad)]


def asinh(x: Any, name: str | None = None) -> Tensor:
    """The inverse of sinh."""
    return apply_op("Asinh", x=x, name=name)


@RegisterGradient("Asinh")
def _asinh_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("RealDiv", x=grad, y=apply_op("Cosh", x=_conj(op.outputs[0])), name="truediv")


def acosh(x: Any, name: str | None = None) -> Tensor:
    """The inverse of cosh, at least 0; NaN below 1."""
    return apply_op("Acosh", x=x, name=name)


@RegisterGradient("Acosh")
def _acosh_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("RealDiv", x=grad, y=apply_op("Sinh", x=_conj(op.outputs[0])), name="truediv")


def atanh(x: Any, name: str | None = None) -> Tensor:
    """The inverse of tanh; NaN outside [-1, 1]."""
    return apply_op("Atanh", x=x, name=name)


@RegisterGradient("Atanh")
def _atanh_grad(op: Operation, grad: Tensor) -> Tensor:
    return _mul(grad, _inverse(_one_minus_square(_conj(op.inputs[0]))))


# --- special functions ---


def erf(x: Any, name: str | None = None) -> Any:
    """The error function elementwise."""
    return _on_values("Erf", x, name)


def _bell(x: Tensor, factor: float) -> Tensor:
    """factor * exp(-x²)."""
    return _mul(_number(factor, x), apply_op("Exp", x=_neg(apply_op("Square", x=x))))


@RegisterGradient("Erf")
def _erf_grad(op: Operation, grad: Tensor) -> Tensor:
    return _mul(grad, _bell(op.inputs[0], 2 / math.sqrt(math.pi)))


def erfc(x: Any, name: str | None = None) -> Tensor:
    """1 - erf(x), exact for large x."""
    return apply_op("Erfc", x=x, name=name)


@RegisterGradient("Erfc")
def _erfc_grad(op: Operation, grad: Tensor) -> Tensor:
    return _mul(grad, _bell(op.inputs[0], -2 / math.sqrt(math.pi)))


def lgamma(x: Any, name: str | None = None) -> Tensor:
    """log |Γ(x)| elementwise."""
    return apply_op("Lgamma", x=x, name=name)


@RegisterGradient("Lgamma")
def _lgamma_grad(op: Operation, grad: Tensor) -> Tensor:
    return _mul(grad, apply_op("Digamma", x=op.inputs[0]))


def digamma(x: Any, name: str | None = None) -> Tensor:
    """The derivative of lgamma."""
    return apply_op("Digamma", x=x, name=name)


@RegisterGradient("Digamma")
def _digamma_grad(op: Operation, grad: Tensor) -> Tensor:
    x = op.inputs[0]
    return _mul(grad, apply_op("Polygamma", a=_number(1, x), x=x))


def erfinv(x: Any, name: str | None = None) -> Tensor:
    """The inverse of erf on (-1, 1)."""
    return apply_op("Erfinv", x=x, name=name)


@RegisterGradient("Erfinv")
def _erfinv_grad(op: Operation, grad: Tensor) -> Tensor:
    y = op.outputs[0]
    return _mul(_mul(grad, _number(math.sqrt(math.pi) / 2, y)), apply_op("Exp", x=apply_op("Square", x=y)))


def sigmoid(x: Any, name: str | None = None) -> Tensor:
    """1 / (1 + exp(-x)) elementwise."""
    with name_scope(name, "Sigmoid", [x]) as scope:
        return apply_op("Sigmoid", x=convert_to_tensor(x, name="x"), name=scope)


@RegisterGradient("Sigmoid")
def _sigmoid_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("SigmoidGrad", y=_conj(op.outputs[0]), dy=grad)


@RegisterGradient("SigmoidGrad")
def _sigmoid_grad_grad(op: Operation, grad: Tensor) -> list[Tensor]:
    y, dy = _conj(op.inputs[0]), _conj(op.inputs[1])
    both = _mul(grad, dy)
    first = apply_op("Sub", x=both, y=_mul(_mul(_number(2, y), both), y), name="sub")
    return [first, apply_op("SigmoidGrad", y=y, dy=grad)]


def log_sigmoid(x: Any, name: str | None = None) -> Tensor:
    """log(sigmoid(x)), finite for large negative x."""
    with name_scope(name, "LogSigmoid", [x]) as scope:
        soft = apply_op("Softplus", features=_neg(convert_to_tensor(x, name="x")))
        return apply_op("Neg", x=soft, name=scope)


# --- rounding and tests ---


def floor(x: Any, name: str | None = None) -> Tensor:
    """The largest whole number not above x."""
    return apply_op("Floor", x=x, name=name)


def ceil(x: Any, name: str | None = None) -> Tensor:
    """The smallest whole number not below x."""
    return apply_op("Ceil", x=x, name=name)


def round(x: Any, name: str | None = None) -> Tensor:
    """x rounded to the nearest whole number, halves to the even one; integers as they are."""
    x = convert_to_tensor(x, name="x")
    return x if x.dtype.base_dtype.is_integer else apply_op("Round", x=x, name=name)


def rint(x: Any, name: str | None = None) -> Tensor:
    """x rounded to the nearest whole number, halves to the even one."""
    return apply_op("Rint", x=x, name=name)


@RegisterGradient("Floor")
@RegisterGradient("Ceil")
@RegisterGradient("Round")
@RegisterGradient("Rint")
def _step_grad(op: Operation, grad: Tensor) -> list[None]:
    return [None]


def is_nan(x: Any, name: str | None = None) -> Tensor:
    """Whether each element is NaN."""
    return apply_op("IsNan", x=x, name=name)


def is_inf(x: Any, name: str | None = None) -> Tensor:
    """Whether each element is infinite."""
    return apply_op("IsInf", x=x, name=name)


def is_finite(x: Any, name: str | None = None) -> Tensor:
    """Whether each element is neither infinite nor NaN."""
    return apply_op("IsFinite", x=x, name=name)


for _kind in ("IsNan", "IsInf", "IsFinite"):
    NotDifferentiable(_kind)
