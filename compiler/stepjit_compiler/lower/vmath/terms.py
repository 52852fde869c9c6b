"""Operators over Builder values, so that the vector math reads as formulas.

Float arithmetic here is IEEE, each operation rounded on its own: `contract` is never set, and FMA appears only where
`fma` is written. That keeps error-free transformations exact and makes a lane's bits independent of the vector width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType

from ..builder import Builder, Value

Operand = Union["Term", float, int]


class Term:
    """A value with operators; numbers beside it become constants of its dtype and lanes."""

    __slots__ = ("b", "value")

    def __init__(self, b: Builder, value: Value) -> None:
        self.b, self.value = b, value

    @property
    def dtype(self) -> DType:
        assert self.value.dtype is not None
        return self.value.dtype

    @property
    def single(self) -> bool:
        """Whether this is float32 (otherwise float64)."""
        return self.value.dtype is dtypes.float32

    def lift(self, other: Operand) -> Value:
        return other.value if isinstance(other, Term) else self.b.like(other, self.value)

    def constant(self, number: float) -> Term:
        return Term(self.b, self.b.like(number, self.value))

    def __add__(self, other: Operand) -> Term:
        add = self.b.exact_add if self.dtype.kind == "f" else self.b.add
        return Term(self.b, add(self.value, self.lift(other)))

    def __sub__(self, other: Operand) -> Term:
        sub = self.b.exact_sub if self.dtype.kind == "f" else self.b.sub
        return Term(self.b, sub(self.value, self.lift(other)))

    def __rsub__(self, other: Operand) -> Term:
        return Term(self.b, self.lift(other)) - self

    def __mul__(self, other: Operand) -> Term:
        return Term(self.b, self.b.exact_mul(self.value, self.lift(other)))

    def __truediv__(self, other: Operand) -> Term:
        return Term(self.b, self.b.div(self.value, self.lift(other)))

    def __rtruediv__(self, other: Operand) -> Term:
        return Term(self.b, self.lift(other)) / self

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> Term:
        return Term(self.b, self.b.neg(self.value))

    def __abs__(self) -> Term:
        return Term(self.b, self.b.abs(self.value))

    def __and__(self, other: Operand) -> Term:
        return Term(self.b, self.b.and_(self.value, self.lift(other)))

    def __or__(self, other: Operand) -> Term:
        return Term(self.b, self.b.or_(self.value, self.lift(other)))

    def __xor__(self, other: Operand) -> Term:
        return Term(self.b, self.b.xor(self.value, self.lift(other)))

    def __invert__(self) -> Term:
        return Term(self.b, self.b.not_(self.value))

    def __lshift__(self, count: int) -> Term:
        return Term(self.b, self.b.shl(self.value, self.lift(count)))

    def __rshift__(self, count: int) -> Term:
        """Logical: zeros come in."""
        return Term(self.b, self.b.lshr(self.value, self.lift(count)))

    def __lt__(self, other: Operand) -> Term:
        return Term(self.b, self.b.compare("lt", self.value, self.lift(other)))

    def __gt__(self, other: Operand) -> Term:
        return Term(self.b, self.b.compare("gt", self.value, self.lift(other)))

    def __ge__(self, other: Operand) -> Term:
        return Term(self.b, self.b.compare("ge", self.value, self.lift(other)))

    def equals(self, other: Operand) -> Term:
        return Term(self.b, self.b.compare("eq", self.value, self.lift(other)))

    def is_nan(self) -> Term:
        return Term(self.b, self.b.is_nan(self.value))

    def at_most(self, limit: float) -> Term:
        """The smaller of both; NaN stays."""
        return where(self > limit, self.constant(limit), self)

    def at_least(self, limit: float) -> Term:
        """The larger of both; NaN stays."""
        return where(self < limit, self.constant(limit), self)

    def bits(self) -> Term:
        """A float's bits as a signed integer."""
        return Term(self.b, self.b.as_int_bits(self.value))

    def as_float(self) -> Term:
        """The float of the same width with these bits."""
        dtype = dtypes.float32 if self.dtype.itemsize == 4 else dtypes.float64
        return Term(self.b, self.b.bitcast(self.value, dtype))

    def convert(self, dtype: DType) -> Term:
        return Term(self.b, self.b.convert(self.value, dtype))

    def with_sign_of(self, other: Term) -> Term:
        return Term(self.b, self.b.copysign(self.value, other.value))


def where(condition: Term, yes: Operand, no: Operand) -> Term:
    """Lane by lane, `yes` or `no`; at least one of them is a Term."""
    if isinstance(yes, Term):
        return Term(yes.b, yes.b.select(condition.value, yes.value, yes.lift(no)))
    assert isinstance(no, Term)
    return Term(no.b, no.b.select(condition.value, no.lift(yes), no.value))


def fma(a: Operand, x: Operand, y: Operand) -> Term:
    """a * x + y, rounded once."""
    term = next(each for each in (a, x, y) if isinstance(each, Term))
    return Term(term.b, term.b.fma(term.lift(a), term.lift(x), term.lift(y)))


def sqrt(x: Term) -> Term:
    return Term(x.b, x.b.sqrt(x.value))


def round_even(x: Term) -> Term:
    return Term(x.b, x.b.round_even(x.value))


def horner(x: Term, coefficients: Sequence[float]) -> Term:
    """c0 + c1 x + c2 x^2 + ..., one step after the other: the fewest roundings."""
    *rest, highest = coefficients
    total = x.constant(highest)
    for each in reversed(rest):
        total = fma(total, x, each)
    return total


def polynomial(x: Term, coefficients: Sequence[float]) -> Term:
    """c0 + c1 x + c2 x^2 + ..., a long one by pairs in x^2, which halves the chain of dependent steps."""
    if len(coefficients) < 6:
        return horner(x, coefficients)
    square = x * x
    last = len(coefficients) - 1
    odd = len(coefficients) % 2
    total = x.constant(coefficients[last]) if odd else fma(x, coefficients[last], coefficients[last - 1])
    for k in range(last - 2 + odd, 0, -2):
        total = fma(total, square, fma(x, coefficients[k], coefficients[k - 1]))
    return total
