"""Rules of arithmetic, comparison and logic: see `matching` for what a rule is and promises."""

from __future__ import annotations

import numpy as np

from stepjit_compiler.ir import Node, Ref
from stepjit_compiler.passes.matching import (
    Result,
    constant,
    general_rule,
    is_integer,
    is_number,
    is_real,
    producer,
    rule,
    splat,
)  # fmt: skip
from stepjit_compiler.step_builder import StepBuilder
from stepjit_runtime import dtypes


@general_rule(lambda op: op.commutative and len(op.inputs) == 2)
def constant_right(x: StepBuilder, node: Node) -> Result:
    """f(c, x) -> f(x, c)"""
    left, right = node.inputs
    if constant(x, left) is None or constant(x, right) is not None:
        return None
    return x.emit(node.op, (right, left), dict(node.attrs))


# --- Sums ---


@rule("Add", "AddV2")
def add_zero(x: StepBuilder, node: Node) -> Result:
    """x + -0.0 -> x; x + 0 -> x for integers"""
    left, right = node.inputs
    zero = 0.0 if is_integer(x, left) else -0.0
    return left if is_real(x, left) and is_number(splat(x, right), zero) else None


@rule("Sub")
def subtract_zero(x: StepBuilder, node: Node) -> Result:
    """x - 0 -> x"""
    left, right = node.inputs
    return left if is_real(x, left) and is_number(splat(x, right), 0.0) else None


@rule("Add", "AddV2")
def add_negated(x: StepBuilder, node: Node) -> Result:
    """x + -y -> x - y; -x + y -> y - x"""
    left, right = node.inputs
    if negated := producer(x, right, "Neg"):
        return x.op("Sub", left, negated.inputs[0])
    if negated := producer(x, left, "Neg"):
        return x.op("Sub", right, negated.inputs[0])
    return None


@rule("Sub")
def subtract_negated(x: StepBuilder, node: Node) -> Result:
    """x - -y -> x + y"""
    negated = producer(x, node.inputs[1], "Neg")
    return None if negated is None else x.op("AddV2", node.inputs[0], negated.inputs[0])


@rule("Sub")
def negative_zero_minus(x: StepBuilder, node: Node) -> Result:
    """-0.0 - x -> -x; 0 - x -> -x for signed integers"""
    left, right = node.inputs
    if x.type(left).dtype.kind not in "fi":
        return None
    zero = 0.0 if is_integer(x, left) else -0.0
    return x.op("Neg", right) if is_number(splat(x, left), zero) else None


@rule("AddN")
def add_few(x: StepBuilder, node: Node) -> Result:
    """AddN(x) -> x; AddN(x, y) -> x + y"""
    if len(node.inputs) == 1:
        return node.inputs[0]
    return x.op("AddV2", *node.inputs) if len(node.inputs) == 2 else None


@rule("Add", "AddV2", "Mul")
def combine_integers(x: StepBuilder, node: Node) -> Result:
    """(x + a) + b -> x + (a + b); (x * a) * b -> x * (a * b); for integer constants"""
    left, right = node.inputs
    inner = producer(x, left, node.op)
    if inner is None or not is_integer(x, left) or constant(x, right) is None:
        return None
    if constant(x, inner.inputs[1]) is None:
        return None
    return x.op(node.op, inner.inputs[0], x.op(node.op, inner.inputs[1], right))


# --- Products ---


@rule("Mul")
def multiply_one(x: StepBuilder, node: Node) -> Result:
    """x * 1 -> x"""
    left, right = node.inputs
    if not is_real(x, left):
        return None
    if is_number(splat(x, right), 1.0):
        return left
    return right if is_number(splat(x, left), 1.0) else None


@rule("Mul")
def multiply_minus_one(x: StepBuilder, node: Node) -> Result:
    """x * -1 -> -x"""
    left, right = node.inputs
    if x.type(left).dtype.kind not in "fi":
        return None
    return x.op("Neg", left) if is_number(splat(x, right), -1.0) else None


@rule("Mul")
def multiply_negated(x: StepBuilder, node: Node) -> Result:
    """-x * -y -> x * y; -x * c -> x * -c"""
    left, right = node.inputs
    a, b = producer(x, left, "Neg"), producer(x, right, "Neg")
    if a is not None and b is not None:
        return x.op("Mul", a.inputs[0], b.inputs[0])
    if a is not None and constant(x, right) is not None and is_real(x, right):
        return x.op("Mul", a.inputs[0], x.op("Neg", right))
    return None


@rule("RealDiv", "Div", "DivNoNan", "FloorDiv", "TruncateDiv")
def divide_by_one(x: StepBuilder, node: Node) -> Result:
    """x / 1 -> x; for floor and truncation: of integers"""
    left, right = node.inputs
    if not is_real(x, left) or (node.op in ("FloorDiv", "TruncateDiv") and not is_integer(x, left)):
        return None
    return left if is_number(splat(x, right), 1.0) else None


@rule("RealDiv", "Div", "DivNoNan")
def divide_by_power(x: StepBuilder, node: Node) -> Result:
    """x / c -> x * (1 / c) where c is a power of two"""
    divisor = constant(x, node.inputs[1])
    dtype = x.type(node.inputs[0]).dtype
    if divisor is None or dtype not in (dtypes.float32, dtypes.float64) or divisor.size == 0:
        return None
    if not np.all(np.isfinite(divisor)) or np.any(divisor == 0):
        return None
    with np.errstate(all="ignore"):
        inverse = 1 / divisor
    smallest = np.finfo(dtype.np).tiny
    exact = np.abs(np.frexp(divisor)[0]) == 0.5
    if not np.all(exact & np.isfinite(inverse) & (np.abs(inverse) >= smallest)):
        return None
    return x.op("Mul", node.inputs[0], x.const(inverse, dtype))


@rule("Pow")
def small_powers(x: StepBuilder, node: Node) -> Result:
    """x ** 1 -> x; x ** 2 -> Square(x)"""
    left, right = node.inputs
    if not is_real(x, left):
        return None
    power = splat(x, right)
    if is_number(power, 1.0):
        return left
    return x.op("Square", left) if is_number(power, 2.0) else None


# --- Signs, and functions that do nothing a second time ---


@rule("Neg", "LogicalNot", "Invert", "Conj")
def involution(x: StepBuilder, node: Node) -> Result:
    """f(f(x)) -> x for negation, not, invert and conjugate"""
    inner = producer(x, node.inputs[0], node.op)
    return None if inner is None else inner.inputs[0]


@rule("Neg")
def negate_difference(x: StepBuilder, node: Node) -> Result:
    """-(x - y) -> y - x for integers"""
    inner = producer(x, node.inputs[0], "Sub")
    if inner is None or not is_integer(x, node.inputs[0]):
        return None
    return x.op("Sub", inner.inputs[1], inner.inputs[0])


@rule("Square", "Abs")
def even_of_sign(x: StepBuilder, node: Node) -> Result:
    """f(-x) -> f(x); f(|x|) -> f(x) for square and absolute value of reals"""
    inner = producer(x, node.inputs[0], "Neg", "Abs")
    if inner is None or not is_real(x, inner.inputs[0]):
        return None
    return x.op(node.op, inner.inputs[0])


@rule("Relu", "Relu6", "Floor", "Ceil", "Rint", "Round", "Sign")
def idempotent(x: StepBuilder, node: Node) -> Result:
    """f(f(x)) -> f(x)"""
    return node.inputs[0] if producer(x, node.inputs[0], node.op) else None


@rule("Maximum", "Minimum", "LogicalAnd", "LogicalOr")
def same_operands(x: StepBuilder, node: Node) -> Result:
    """f(x, x) -> x for max, min, and, or"""
    return node.inputs[0] if node.inputs[0] == node.inputs[1] else None


# --- Logic and choice ---


@rule("LogicalAnd")
def and_true(x: StepBuilder, node: Node) -> Result:
    """x and true -> x; x and false -> false"""
    return _with_constant(x, node, neutral=True)


@rule("LogicalOr")
def or_false(x: StepBuilder, node: Node) -> Result:
    """x or false -> x; x or true -> true"""
    return _with_constant(x, node, neutral=False)


def _with_constant(x: StepBuilder, node: Node, neutral: bool) -> Ref | None:
    value = splat(x, node.inputs[1])
    if value is None:
        return None
    return node.inputs[0] if bool(value) is neutral else node.inputs[1]


@rule("LogicalNot")
def not_comparison(x: StepBuilder, node: Node) -> Result:
    """not (x == y) -> x != y, and back; of integers not (x < y) -> x >= y and kin"""
    inner = producer(x, node.inputs[0], *_OPPOSITES)
    if inner is None:
        return None
    if inner.op not in ("Equal", "NotEqual") and not is_integer(x, inner.inputs[0]):
        return None  # every comparison with NaN is false
    extra = {name: value for name, value in inner.attrs if name == "incompatible_shape_error"}
    return x.op(_OPPOSITES[inner.op], *inner.inputs, **extra)


_OPPOSITES = {
    "Equal": "NotEqual", "NotEqual": "Equal", "Less": "GreaterEqual", "GreaterEqual": "Less", "Greater": "LessEqual",
    "LessEqual": "Greater",
}  # fmt: skip


@rule("Select", "SelectV2")
def select_constant(x: StepBuilder, node: Node) -> Result:
    """select(true, x, y) -> x; select(false, x, y) -> y"""
    value = splat(x, node.inputs[0])
    return None if value is None else node.inputs[1] if bool(value) else node.inputs[2]


@rule("Select", "SelectV2")
def select_same(x: StepBuilder, node: Node) -> Result:
    """select(c, x, x) -> x"""
    return node.inputs[1] if node.inputs[1] == node.inputs[2] else None


@rule("Select", "SelectV2")
def select_not(x: StepBuilder, node: Node) -> Result:
    """select(not c, x, y) -> select(c, y, x)"""
    inner = producer(x, node.inputs[0], "LogicalNot")
    return None if inner is None else x.op(node.op, inner.inputs[0], node.inputs[2], node.inputs[1])


# --- Values that pass through ---


@rule("Identity", "IdentityN", "StopGradient", "PreventGradient", "Snapshot", "PlaceholderWithDefault")
def pass_through(x: StepBuilder, node: Node) -> Result:
    """Identity(x) -> x and kin"""
    return node.inputs


@rule("Cast", "Bitcast")
def cast_to_same(x: StepBuilder, node: Node) -> Result:
    """cast(x) to x's dtype -> x"""
    return node.inputs[0]


@rule("Cast")
def cast_back(x: StepBuilder, node: Node) -> Result:
    """cast(cast(x) to one that holds all of x's values) to x's dtype -> x"""
    inner = producer(x, node.inputs[0], "Cast")
    if inner is None:
        return None
    source, between = x.type(inner.inputs[0]).dtype, inner.types[0].dtype
    if "bfloat16" in (source.name, between.name) or "s" in source.kind + between.kind:
        return None
    holds = np.can_cast(source.np, between.np, "safe") and (source.kind not in "iu" or between.kind in "iuf")
    return inner.inputs[0] if holds else None


@rule("Real")
def real_of_real(x: StepBuilder, node: Node) -> Result:
    """Real(Complex(x, y)) -> x"""
    inner = producer(x, node.inputs[0], "Complex")
    return None if inner is None else inner.inputs[0]


@rule("Imag")
def imag_of_complex(x: StepBuilder, node: Node) -> Result:
    """Imag(Complex(x, y)) -> y"""
    inner = producer(x, node.inputs[0], "Complex")
    return None if inner is None else inner.inputs[1]


@rule("Max", "Min", "Prod", "All", "Any", "Sum", "Mean")
def reduce_nothing(x: StepBuilder, node: Node) -> Result:
    """reduce(x, no axes) -> x"""
    axes = constant(x, node.inputs[1])
    return node.inputs[0] if axes is not None and axes.size == 0 else None


@rule("_Held")
def held_for_sure(x: StepBuilder, node: Node) -> Result:
    """_Held(x, not missing) -> x"""
    missing = constant(x, node.inputs[1])
    return node.inputs[0] if missing is not None and not missing else None
