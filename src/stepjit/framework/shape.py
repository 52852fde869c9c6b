"""Static shapes as users see them: `TensorShape` and `Dimension`. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, SupportsIndex, Union, cast, overload

Dims = Union[tuple[Union[int, None], ...], None]
"""A shape as the graph stores it: extents, None where unknown; or None when the rank is unknown."""


class Dimension:
    """One extent: an int, or unknown (`value` is None)."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        if value is None:
            self._value: int | None = None
        elif isinstance(value, Dimension):
            self._value = value._value
        else:
            if isinstance(value, (str, bytes, float)) and int(value) != value:
                raise TypeError(f"Dimension value must be integer or None or have an __index__ method, got {value!r}")
            self._value = int(value)
            if self._value < 0:
                raise ValueError(f"Dimension {self._value} must be >= 0")

    @property
    def value(self) -> int | None:
        return self._value

    def __repr__(self) -> str:
        return f"Dimension({self._value!r})"

    def __str__(self) -> str:
        return "?" if self._value is None else str(self._value)

    def _other(self, other: Any) -> int | None:
        return other._value if isinstance(other, Dimension) else Dimension(other)._value

    def __eq__(self, other: object) -> bool | None:  # type: ignore[override]
        """None when either side is unknown."""
        try:
            value = self._other(other)
        except (TypeError, ValueError):
            return NotImplemented
        return None if self._value is None or value is None else self._value == value

    def __ne__(self, other: object) -> bool | None:  # type: ignore[override]
        equal = self.__eq__(other)
        return equal if equal is NotImplemented or equal is None else not equal

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __int__(self) -> int:
        return cast(int, self._value)

    def __index__(self) -> int:
        return cast(int, self._value)

    def is_compatible_with(self, other: Any) -> bool:
        """Whether both may be the same extent."""
        value = self._other(other)
        return self._value is None or value is None or self._value == value

    def assert_is_compatible_with(self, other: Any) -> None:
        """ValueError unless both may be the same extent."""
        if not self.is_compatible_with(other):
            raise ValueError(f"Dimensions {self} and {other} are not compatible")

    def merge_with(self, other: Any) -> Dimension:
        """The extent that is both; ValueError when they differ."""
        self.assert_is_compatible_with(other)
        return Dimension(other) if self._value is None else self

    def _calculate(self, other: Any, function: Any, swap: bool = False) -> Any:
        try:
            value = self._other(other)
        except (TypeError, ValueError):
            return NotImplemented
        if self._value is None or value is None:
            return Dimension(None)
        return Dimension(function(value, self._value) if swap else function(self._value, value))

    def __add__(self, other: Any) -> Any:
        return self._calculate(other, lambda a, b: a + b)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self._calculate(other, lambda a, b: a - b)

    def __rsub__(self, other: Any) -> Any:
        return self._calculate(other, lambda a, b: a - b, swap=True)

    def __mul__(self, other: Any) -> Any:
        return self._calculate(other, lambda a, b: a * b)

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        return self._calculate(other, lambda a, b: a // b)

    def __rfloordiv__(self, other: Any) -> Any:
        return self._calculate(other, lambda a, b: a // b, swap=True)

    # Python-2 programs divide dimensions with "/"; TF keeps it as the floor.
    __div__ = __floordiv__
    __rdiv__ = __rfloordiv__

    def __truediv__(self, other: Any) -> Any:
        kind = type(other).__name__
        raise TypeError(f"unsupported operand type(s) for /: 'Dimension' and '{kind}', please use // instead")

    def __mod__(self, other: Any) -> Any:
        return self._calculate(other, lambda a, b: a % b)

    def __rmod__(self, other: Any) -> Any:
        return self._calculate(other, lambda a, b: a % b, swap=True)

    def _compare(self, other: Any, function: Any) -> Any:
        try:
            value = self._other(other)
        except (TypeError, ValueError):
            return NotImplemented
        return None if self._value is None or value is None else function(self._value, value)

    def __lt__(self, other: Any) -> Any:
        return self._compare(other, lambda a, b: a < b)

    def __le__(self, other: Any) -> Any:
        return self._compare(other, lambda a, b: a <= b)

    def __gt__(self, other: Any) -> Any:
        return self._compare(other, lambda a, b: a > b)

    def __ge__(self, other: Any) -> Any:
        return self._compare(other, lambda a, b: a >= b)

    def __reduce__(self) -> Any:
        return Dimension, (self._value,)


class TensorShape:
    """A static shape: `dims` may hold unknown extents, and the rank may be unknown."""

    __slots__ = ("_dims",)

    _dims: Dims

    def __init__(self, dims: Any) -> None:
        self._dims = as_dims(dims)

    @property
    def dims(self) -> list[Dimension] | None:
        return None if self._dims is None else [Dimension(d) for d in self._dims]

    @property
    def ndims(self) -> int | None:
        return None if self._dims is None else len(self._dims)

    rank = ndims

    def as_list(self) -> list[int | None]:
        """The extents, None where unknown; ValueError when the rank is unknown."""
        if self._dims is None:
            raise ValueError("as_list() is not defined on an unknown TensorShape.")
        return list(self._dims)

    def num_elements(self) -> int | None:
        """How many elements such a tensor has; None when that is unknown."""
        if self._dims is None or None in self._dims:
            return None
        total = 1
        for extent in self._dims:
            total *= cast(int, extent)
        return total

    def is_fully_defined(self) -> bool:
        return self._dims is not None and None not in self._dims

    def assert_is_fully_defined(self) -> None:
        """ValueError unless every extent is known."""
        if not self.is_fully_defined():
            raise ValueError(f"Shape {self} is not fully defined")

    def is_compatible_with(self, other: Any) -> bool:
        """Whether some shape is both."""
        return compatible(self._dims, as_dims(other))

    def assert_is_compatible_with(self, other: Any) -> None:
        """ValueError unless some shape is both."""
        if not self.is_compatible_with(other):
            raise ValueError(f"Shapes {self} and {as_shape(other)} are incompatible")

    def is_subtype_of(self, other: Any) -> bool:
        """Whether every shape this one allows is allowed by `other`."""
        theirs = as_dims(other)
        if theirs is None:
            return True
        if self._dims is None or len(self._dims) != len(theirs):
            return False
        return all(b is None or a == b for a, b in zip(self._dims, theirs))

    def merge_with(self, other: Any) -> TensorShape:
        """The shape that is both; ValueError when none can be."""
        return TensorShape(merged(self._dims, as_dims(other)))

    def concatenate(self, other: Any) -> TensorShape:
        """The extents of this shape, then those of `other`."""
        theirs = as_dims(other)
        return TensorShape(None if self._dims is None or theirs is None else self._dims + theirs)

    def most_specific_compatible_shape(self, other: Any) -> TensorShape:
        """The shape with an unknown wherever the two differ."""
        theirs = as_dims(other)
        if self._dims is None or theirs is None or len(self._dims) != len(theirs):
            return TensorShape(None)
        return TensorShape(tuple(a if a == b else None for a, b in zip(self._dims, theirs)))

    def with_rank(self, rank: int) -> TensorShape:
        """This shape with `rank` dimensions; ValueError when it has another number."""
        if self._dims is None:
            return TensorShape((None,) * rank)
        if len(self._dims) != rank:
            raise ValueError(f"Shape {self} must have rank {rank}")
        return self

    def with_rank_at_least(self, rank: int) -> TensorShape:
        """This shape; ValueError when it is known to have fewer than `rank` dimensions."""
        if self._dims is not None and len(self._dims) < rank:
            raise ValueError(f"Shape {self} must have rank at least {rank}")
        return self

    def with_rank_at_most(self, rank: int) -> TensorShape:
        """This shape; ValueError when it is known to have more than `rank` dimensions."""
        if self._dims is not None and len(self._dims) > rank:
            raise ValueError(f"Shape {self} must have rank at most {rank}")
        return self

    def assert_has_rank(self, rank: int) -> None:
        """ValueError unless the shape may have `rank` dimensions."""
        if self._dims is not None and len(self._dims) != rank:
            raise ValueError(f"Shape {self} must have rank {rank}")

    def assert_same_rank(self, other: Any) -> None:
        """ValueError when both ranks are known and differ."""
        theirs = as_dims(other)
        if self._dims is not None and theirs is not None and len(self._dims) != len(theirs):
            raise ValueError(f"Shapes {self} and {as_shape(other)} must have the same rank")

    def __len__(self) -> int:
        if self._dims is None:
            raise ValueError("Cannot take the length of shape with unknown rank.")
        return len(self._dims)

    def __iter__(self) -> Iterator[Dimension]:
        if self._dims is None:
            raise ValueError("Cannot iterate over a shape with unknown rank.")
        return iter([Dimension(d) for d in self._dims])

    @overload
    def __getitem__(self, key: SupportsIndex) -> Dimension: ...

    @overload
    def __getitem__(self, key: slice) -> TensorShape: ...

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, slice):
            return Dimension(None if self._dims is None else self._dims[key])
        if self._dims is not None:
            return TensorShape(self._dims[key])
        # A slice of an unknown rank has a known length only when both ends count from the front.
        stop = key.stop
        if stop is None or (key.step or 1) != 1 or (key.start or 0) < 0 or stop < 0:
            return TensorShape(None)
        return TensorShape((None,) * max(stop - (key.start or 0), 0))

    def __add__(self, other: Any) -> TensorShape:
        return self.concatenate(other)

    def __radd__(self, other: Any) -> TensorShape:
        return as_shape(other).concatenate(self)

    def __bool__(self) -> bool:
        return self._dims is not None

    def __eq__(self, other: object) -> bool:
        try:
            return self._dims == as_dims(other)
        except (TypeError, ValueError):
            return NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._dims)

    def __str__(self) -> str:
        if self._dims is None:
            return "<unknown>"
        texts = ["?" if d is None else str(d) for d in self._dims]
        return f"({texts[0]},)" if len(texts) == 1 else f"({', '.join(texts)})"

    def __repr__(self) -> str:
        return f"TensorShape({self.dims})"

    def as_proto(self) -> Any:
        """A new TensorShapeProto; unknown extents are -1."""
        from stepjit.framework.attr_values import shape_proto

        return shape_proto(self._dims)

    def __reduce__(self) -> Any:
        return TensorShape, (self._dims,)


def as_dims(value: Any) -> Dims:
    """A shape in the graph's form, from a TensorShape, a sequence of extents, a TensorShapeProto, an int or None."""
    if value is None:
        return None
    kind = type(value)
    if kind is TensorShape:
        return cast(TensorShape, value)._dims
    if kind is tuple or kind is list:
        return tuple([d if type(d) is int and d >= 0 else Dimension(d)._value for d in value])
    if isinstance(value, TensorShape):
        return value._dims
    if hasattr(value, "unknown_rank") and hasattr(value, "dim"):
        return None if value.unknown_rank else tuple(None if d.size == -1 else d.size for d in value.dim)
    if isinstance(value, (str, bytes)):
        raise TypeError(f"A shape must be a list of integers, got {value!r}")
    try:
        items = list(value)
    except TypeError:
        items = [value]
    return tuple(Dimension(d)._value for d in items)


def compatible(a: Dims, b: Dims) -> bool:
    """Whether some shape is both."""
    if a is None or b is None:
        return True
    return len(a) == len(b) and all(x is None or y is None or x == y for x, y in zip(a, b))


def merged(a: Dims, b: Dims) -> Dims:
    """The shape that is both; ValueError when none can be."""
    if a is None or b is None:
        return b if a is None else a
    if not compatible(a, b):
        raise ValueError(f"Shapes {TensorShape(a)} and {TensorShape(b)} are not compatible")
    return tuple(y if x is None else x for x, y in zip(a, b))


def as_shape(value: Any) -> TensorShape:
    """`value` as a TensorShape; see `as_dims` for what it may be."""
    return value if isinstance(value, TensorShape) else TensorShape(value)


def as_dimension(value: Any) -> Dimension:
    """`value` as a Dimension."""
    return value if isinstance(value, Dimension) else Dimension(value)


def dimension_value(dimension: Any) -> int | None:
    """The int or None of a Dimension, an int or None."""
    return dimension.value if isinstance(dimension, Dimension) else dimension


def dimension_at_index(shape: TensorShape, index: int) -> Dimension:
    """The extent at `index`, unknown when the rank is."""
    return shape[index]


def unknown_shape(rank: int | None = None, **kwargs: Any) -> TensorShape:
    """A shape of unknown extents, and of unknown rank when none is given."""
    rank = kwargs.get("ndims", rank)
    return TensorShape(None if rank is None else (None,) * rank)


def scalar_shape() -> TensorShape:
    return TensorShape(())


def vector(length: Any) -> TensorShape:
    return TensorShape((length,))


def matrix(rows: Any, columns: Any) -> TensorShape:
    return TensorShape((rows, columns))


def concrete(value: Any) -> Sequence[int]:
    """The extents of a fully defined shape; ValueError otherwise."""
    shape = as_shape(value)
    shape.assert_is_fully_defined()
    return cast(Sequence[int], shape._dims)
