"""Extents of tensors: an int, or a `Dim`, an integer expression over symbols that is known when the step runs.

A Dim is kept as a sum of products with integer coefficients, so equal expressions are equal objects. Products are of
atoms: a symbol, or `floordiv`, `mod`, `min`, `max` of two dims. A symbol stands for an extent that is never 1 (a
step compiled for extent 1 has the int 1 in its place) and never negative.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Union


class Symbol(NamedTuple):
    """An extent by name, such as `s0`."""

    name: str

    def __str__(self) -> str:
        return self.name


class Apply(NamedTuple):
    """A function of two dims that has no polynomial form: `floordiv`, `mod`, `min` or `max`."""

    function: str
    left: Extent
    right: Extent

    def __str__(self) -> str:
        return f"{self.function}({self.left},{self.right})"


Atom = Union[Symbol, Apply]
Product = tuple[Atom, ...]


class Dim:
    """A non-constant integer expression; interned, so `==` is identity."""

    __slots__ = ("_text", "terms")
    _interned: dict[tuple[tuple[Product, int], ...], Dim] = {}

    _text: str
    terms: tuple[tuple[Product, int], ...]
    """(product, coefficient) pairs in the order of the products' text; the empty product is the constant."""

    def __add__(self, other: Extent) -> Extent:
        total = dict(self.terms)
        for product, factor in _terms(other):
            total[product] = total.get(product, 0) + factor
        return _from_terms(total)

    def __mul__(self, other: Extent) -> Extent:
        total: dict[Product, int] = {}
        for left, a in self.terms:
            for right, b in _terms(other):
                product = tuple(sorted(left + right, key=str))
                total[product] = total.get(product, 0) + a * b
        return _from_terms(total)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Extent:
        return self * -1

    def __sub__(self, other: Extent) -> Extent:
        return self + other * -1

    def __rsub__(self, other: Extent) -> Extent:
        return self * -1 + other

    def __floordiv__(self, other: Extent) -> Extent:
        if isinstance(other, int) and other != 0 and all(factor % other == 0 for _, factor in self.terms):
            return _from_terms({product: factor // other for product, factor in self.terms})
        if isinstance(other, int) and other > 0:
            whole = {product: factor for product, factor in self.terms if product and factor % other == 0}
            if len(whole) == len(self.terms) - 1 and self.terms[-1][0] == ():
                return _from_terms({product: factor // other for product, factor in whole.items()}) + (
                    self.terms[-1][1] // other
                )
        if self is other:
            return 1  # only reached by extents that were checked to be non-zero
        exact = _divide(self, other)
        return exact if exact is not None else _apply("floordiv", self, other)

    def __rfloordiv__(self, other: Extent) -> Extent:
        return _apply("floordiv", other, self)

    def __mod__(self, other: Extent) -> Extent:
        if isinstance(other, int) and other != 0 and all(factor % other == 0 for _, factor in self.terms):
            return 0
        if self is other or _divide(self, other) is not None:
            return 0
        return _apply("mod", self, other)

    def __rmod__(self, other: Extent) -> Extent:
        return _apply("mod", other, self)

    def __repr__(self) -> str:
        return self._text

    __str__ = __repr__

    def __reduce__(self) -> tuple[Callable[[str], Extent], tuple[str]]:
        return parse, (self._text,)

    @property
    def symbols(self) -> frozenset[str]:
        """Names of the symbols anywhere in the expression."""
        found: set[str] = set()
        for product, _ in self.terms:
            for atom in product:
                if isinstance(atom, Symbol):
                    found.add(atom.name)
                else:
                    found |= symbols(atom.left) | symbols(atom.right)
        return frozenset(found)

    def substitute(self, values: Mapping[str, Extent]) -> Extent:
        """The expression with symbols replaced by ints or other dims."""
        total: Extent = 0
        for product, factor in self.terms:
            value: Extent = factor
            for atom in product:
                value = value * _substitute(atom, values)
            total = total + value
        return total


Extent = Union[int, Dim]
Shape = tuple[Extent, ...]


def symbol(name: str) -> Dim:
    """The dim that is the symbol `name` alone."""
    found = _from_terms({(Symbol(name),): 1})
    assert isinstance(found, Dim)
    return found


def symbols(extent: Extent) -> frozenset[str]:
    return extent.symbols if isinstance(extent, Dim) else frozenset()


def substitute(extent: Extent, values: Mapping[str, Extent]) -> Extent:
    return extent.substitute(values) if isinstance(extent, Dim) else extent


def minimum(a: Extent, b: Extent) -> Extent:
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    difference = a - b
    if isinstance(difference, int):
        return a if difference <= 0 else b
    return _apply("min", *sorted((a, b), key=str))


def maximum(a: Extent, b: Extent) -> Extent:
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    difference = a - b
    if isinstance(difference, int):
        return a if difference >= 0 else b
    if a == 0 and is_natural(b):
        return b
    if b == 0 and is_natural(a):
        return a
    return _apply("max", *sorted((a, b), key=str))


def is_natural(extent: Extent) -> bool:
    """Whether the extent is surely >= 0, given that symbols are."""
    if isinstance(extent, int):
        return extent >= 0
    for product, factor in extent.terms:
        if factor < 0 or not all(_natural_atom(atom) for atom in product):
            return False
    return True


def never_one(extent: Extent | None) -> bool:
    """Ints but 1, and products of feeds' symbols: those are never 1; False when unsure."""
    if isinstance(extent, int):
        return extent != 1
    if not isinstance(extent, Dim) or len(extent.terms) != 1:
        return False
    product_, factor = extent.terms[0]
    return factor > 0 and all(isinstance(atom, Symbol) and atom.name.startswith("s") for atom in product_)


def is_rising(extent: Extent) -> bool:
    """Whether larger extents for its symbols surely make it no smaller."""
    if isinstance(extent, int):
        return True
    return all(factor > 0 and all(map(_rising_atom, product)) for product, factor in extent.terms if product)


def at_most(a: Extent, b: Extent) -> bool:
    """Whether a <= b for all values of the symbols; False when unsure."""
    difference = b - a
    return is_natural(difference)


def product(extents: Shape) -> Extent:
    """The product of all extents; 1 for none."""
    total: Extent = 1
    for extent in extents:
        total = total * extent
    return total


def evaluate(extent: Extent, values: Mapping[str, int]) -> int:
    """The extent's number once its symbols have values; KeyError when one has none."""
    if isinstance(extent, int):
        return extent
    missing = extent.symbols - values.keys()
    if missing:
        raise KeyError(sorted(missing)[0])
    found = extent.substitute(values)
    assert isinstance(found, int)
    return found


def parse(text: str) -> Extent:
    """The extent that prints as `text`; ValueError for anything else."""
    parser = _Parser(text)
    found = parser.sum()
    if parser.rest():
        raise ValueError(f"not an extent: {text!r}")
    return found


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def rest(self) -> str:
        return self.text[self.at :]

    def take(self, token: str) -> bool:
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def sum(self) -> Extent:
        total: Extent = -self.product() if self.take("-") else self.product()
        while True:
            if self.take("+"):
                total = total + self.product()
            elif self.take("-"):
                total = total - self.product()
            else:
                return total

    def product(self) -> Extent:
        total = self.atom()
        while self.take("*"):
            total = total * self.atom()
        return total

    def atom(self) -> Extent:
        start = self.at
        while self.at < len(self.text) and (self.text[self.at].isalnum() or self.text[self.at] == "_"):
            self.at += 1
        word = self.text[start : self.at]
        if word.isdigit():
            return int(word)
        if not word:
            raise ValueError(f"not an extent: {self.text!r}")
        if not self.take("("):
            return symbol(word)
        left = self.sum()
        if not self.take(","):
            raise ValueError(f"not an extent: {self.text!r}")
        right = self.sum()
        if not self.take(")"):
            raise ValueError(f"not an extent: {self.text!r}")
        return _apply(word, left, right)


def _terms(extent: Extent) -> tuple[tuple[Product, int], ...]:
    return extent.terms if isinstance(extent, Dim) else (((), extent),)


def _from_terms(total: Mapping[Product, int]) -> Extent:
    kept = {product: factor for product, factor in total.items() if factor}
    if not kept:
        return 0
    if len(kept) == 1 and () in kept:
        return kept[()]
    terms = tuple(sorted(kept.items(), key=lambda term: (term[0] == (), "*".join(map(str, term[0])))))
    found = Dim._interned.get(terms)
    if found is None:
        found = object.__new__(Dim)
        found.terms = terms
        found._text = _print(terms)
        Dim._interned[terms] = found
    return found


def _print(terms: tuple[tuple[Product, int], ...]) -> str:
    text = ""
    for product_, factor in terms:
        sign = "-" if factor < 0 else "+"
        parts = [str(atom) for atom in product_]
        if abs(factor) != 1 or not parts:
            parts.insert(0, str(abs(factor)))
        text += sign + "*".join(parts)
    return text.removeprefix("+")


def _divide(a: Dim, b: Extent) -> Extent | None:
    """a / b when b is a single product that divides every term of a."""
    if isinstance(b, int) or len(b.terms) != 1:
        return None
    divisor, factor = b.terms[0]
    quotient: dict[Product, int] = {}
    for product_, coefficient in a.terms:
        left = list(product_)
        for atom in divisor:
            if atom not in left:
                return None
            left.remove(atom)
        if coefficient % factor:
            return None
        quotient[tuple(left)] = coefficient // factor
    return _from_terms(quotient)


_FUNCTIONS: dict[str, Callable[[int, int], int]] = {
    # A zero divisor is reported by the op's own check; the extent only has to be defined.
    "floordiv": lambda a, b: a // b if b else 0,
    "mod": lambda a, b: a % b if b else 0,
    "min": min,
    "max": max,
}


def _apply(function: str, left: Extent, right: Extent) -> Extent:
    if isinstance(left, int) and isinstance(right, int):
        return _FUNCTIONS[function](left, right)
    return _from_terms({(Apply(function, left, right),): 1})


def _natural_atom(atom: Atom) -> bool:
    if isinstance(atom, Symbol):
        return True
    if atom.function == "max":
        return is_natural(atom.left) or is_natural(atom.right)
    return is_natural(atom.left) and is_natural(atom.right)


def _rising_atom(atom: Atom) -> bool:
    if not isinstance(atom, Apply):
        return True
    if atom.function == "floordiv":
        return is_rising(atom.left) and isinstance(atom.right, int) and atom.right > 0
    return atom.function in ("min", "max") and is_rising(atom.left) and is_rising(atom.right)


def _substitute(atom: Atom, values: Mapping[str, Extent]) -> Extent:
    if isinstance(atom, Symbol):
        return values.get(atom.name, symbol(atom.name))
    left, right = substitute(atom.left, values), substitute(atom.right, values)
    if atom.function == "floordiv" and not (isinstance(left, int) and isinstance(right, int)):
        return left // right
    if atom.function == "mod" and not (isinstance(left, int) and isinstance(right, int)):
        return left % right
    if atom.function == "min":
        return minimum(left, right)
    if atom.function == "max":
        return maximum(left, right)
    return _apply(atom.function, left, right)
