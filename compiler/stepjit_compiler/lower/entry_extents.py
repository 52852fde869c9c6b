"""Extents as native numbers: every Dim an entry needs is computed once, where it is first asked for."""

from __future__ import annotations

from stepjit_compiler.dims import Apply, Atom, Dim, Extent, symbols
from stepjit_compiler.lower.builder import Builder, Value
from stepjit_runtime import dtypes


class Extents:
    """Numbers of extents on an entry's main path (code that dominates all that follows)."""

    def __init__(self, b: Builder) -> None:
        self._b = b
        self._known: dict[Extent, Value] = {}
        self._symbols: dict[str, Value] = {}

    def inner(self) -> Extents:
        """For code that this point dominates: knows what is known here, and keeps to itself what it adds."""
        found = Extents(self._b)
        found._known, found._symbols = dict(self._known), dict(self._symbols)
        return found

    def bind(self, name: str, value: Value) -> None:
        """From here on the symbol has that number; one of the code around may have had the same name."""
        self._symbols[name] = value
        self._known = {extent: known for extent, known in self._known.items() if name not in symbols(extent)}

    def bound(self, name: str) -> Value | None:
        return self._symbols.get(name)

    def number(self, extent: Extent) -> Value:
        """The extent as an i64; KeyError when one of its symbols has no number yet."""
        if isinstance(extent, int):
            return self._b.int64(extent)
        found = self._known.get(extent)
        if found is None:
            found = self._known[extent] = self._sum(extent)
        return found

    def _sum(self, extent: Dim) -> Value:
        total: Value | None = None
        for product, factor in extent.terms:
            value: Value | None = None
            for atom in product:
                each = self._atom(atom)
                value = each if value is None else self._b.mul(value, each)
            if value is None:
                value = self._b.int64(factor)
            elif factor != 1:
                value = self._b.mul(value, self._b.int64(factor))
            total = value if total is None else self._b.add(total, value)
        assert total is not None
        return total

    def _atom(self, atom: Atom) -> Value:
        if not isinstance(atom, Apply):
            return self._symbols[atom.name]
        left, right = self.number(atom.left), self.number(atom.right)
        if atom.function in ("min", "max"):
            first = self._b.compare("lt" if atom.function == "min" else "gt", left, right)
            return self._b.select(first, left, right)
        name = "floordiv" if atom.function == "floordiv" else "floormod"
        return self._b.assign(f"call i64 @{name}({left!r}, {right!r})", dtypes.int64)
