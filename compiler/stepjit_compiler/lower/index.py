"""Positions in tensors as linear forms over loop variables, so that a load knows how it runs along each loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Union

from stepjit_compiler.dims import Dim, Extent
from stepjit_compiler.lower.builder import Value

if TYPE_CHECKING:
    from stepjit_compiler.lower.point import Point


class LoopVar:
    """A loop's counter; with `lanes` > 1 it is vectorised: lane k stands at value + k."""

    __slots__ = ("lanes", "value")

    def __init__(self, value: Value, lanes: int = 1) -> None:
        self.value, self.lanes = value, lanes


Terms = tuple[tuple[LoopVar, Extent], ...]


class Index:
    """`sum(coefficient * variable) + constant + dynamic`; dynamic is an i64 Value, scalar or one per lane, or None."""

    __slots__ = ("constant", "dynamic", "point", "terms")

    def __init__(self, point: Point, constant: Extent = 0, terms: Terms = (), dynamic: Value | None = None) -> None:
        self.point, self.constant, self.terms, self.dynamic = point, constant, terms, dynamic

    @property
    def key(self) -> tuple[object, ...]:
        """Equal keys name equal positions."""
        dynamic = None if self.dynamic is None else self.dynamic.ref
        return self.constant, tuple((id(var), factor) for var, factor in self.terms), dynamic

    @property
    def is_constant(self) -> bool:
        return not self.terms and self.dynamic is None

    @property
    def lanes(self) -> int:
        """How many different positions this stands for."""
        wide = [var.lanes for var, _ in self.terms]
        return max([*wide, self.dynamic.lanes if self.dynamic else 1], default=1)

    def __add__(self, other: IndexLike) -> Index:
        if isinstance(other, (int, Dim)):
            return Index(self.point, self.constant + other, self.terms, self.dynamic)
        terms: dict[LoopVar, Extent] = dict(self.terms)
        for var, factor in other.terms:
            terms[var] = terms[var] + factor if var in terms else factor
        kept = tuple((var, factor) for var, factor in terms.items() if factor != 0)
        dynamic = self.point.add(self.dynamic, other.dynamic)
        return Index(self.point, self.constant + other.constant, kept, dynamic)

    def __mul__(self, factor: IndexLike) -> Index:
        if isinstance(factor, Index):
            if factor.is_constant:
                return self * factor.constant
            if self.is_constant:
                return factor * self.constant
            return self.point.product(self, factor)
        if factor == 0:
            return Index(self.point)
        dynamic = None if self.dynamic is None else self.point.scaled(self.dynamic, factor)
        return Index(self.point, self.constant * factor, tuple((v, each * factor) for v, each in self.terms), dynamic)

    def __neg__(self) -> Index:
        return self * -1

    def __sub__(self, other: IndexLike) -> Index:
        return self + other * -1

    def __rsub__(self, other: IndexLike) -> Index:
        return self * -1 + other

    __radd__, __rmul__ = __add__, __mul__


IndexLike = Union[Index, int, Dim]
