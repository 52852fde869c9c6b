"""What the array families share: arguments that are shapes or axes, in shape rules, references and lowerings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from stepjit_compiler import dims
from stepjit_compiler.dims import Dim, Extent
from stepjit_compiler.opdef import Call, Inference, ShapeLike, extent_text

# --- In shape rules ---


def shape_input(x: Inference, i: int) -> ShapeLike:
    """The shape that integer vector input i spells out; fails for negative extents (in a graph, -1 is an unknown)."""
    extents = x.extents(i)
    if extents is None:
        shape = x.shape(i)
        length = shape[0] if shape else None
        return (None,) * length if isinstance(length, int) else None
    if x.building:
        for extent in extents:
            if isinstance(extent, int) and extent < -1:
                x.fail(f"Invalid value in tensor used for shape: {extent_text(extent)}")
        return tuple([None if extent == -1 else extent for extent in extents])
    for extent in extents:
        if isinstance(extent, int) and extent < 0:
            x.fail(f"Dimension {extent} must be >= 0")
        if isinstance(extent, Dim) and not dims.is_natural(extent):
            x.check("ge", extent, 0, f"Dimension {extent_text(extent)} must be >= 0")
    return extents


def number_input(x: Inference, i: int) -> Extent | None:
    """Integer scalar input i where it is known."""
    extents = x.extents(i)
    return extents[0] if extents is not None and len(extents) == 1 else None


def int_input(x: Inference, i: int) -> int | None:
    """Integer scalar input i where it is known as a plain int."""
    found = number_input(x, i)
    return found if isinstance(found, int) else None


def ints_input(x: Inference, i: int) -> list[int] | None:
    """Integer vector input i where all of it is known as plain ints."""
    extents = x.extents(i)
    if extents is None:
        return None
    plain = [extent for extent in extents if isinstance(extent, int)]
    return plain if len(plain) == len(extents) else None


def at_least(x: Inference, i: int, rank: int) -> tuple[Extent | None, ...] | None:
    """The shape of input i, which has at least `rank` dimensions; None when unknown."""
    shape = x.shape(i)
    if shape is not None and len(shape) < rank:
        x.fail(f"Shape must be at least rank {rank} but is rank {len(shape)} for '{x.op}'")
    return shape


def merge(x: Inference, a: ShapeLike, b: ShapeLike, message: str) -> ShapeLike:
    """The shape that both are; None where neither is known."""
    if a is None or b is None:
        return b if a is None else a
    if len(a) != len(b):
        x.fail(message)
    return tuple(x.equal(one, other, message) for one, other in zip(a, b, strict=True))


def total(shape: Iterable[Extent | None]) -> Extent | None:
    """The number of elements; None when an extent is unknown (and none is 0)."""
    found: Extent = 1
    unknown = False
    for extent in shape:
        if extent is None:
            unknown = True
        else:
            found = found * extent
    return None if unknown and found != 0 else found


# --- In references ---


def integers(array: np.ndarray) -> list[int]:
    """The elements as Python ints; TypeError when one is an extent without a number yet."""
    return [_integer(element) for element in np.asarray(array).ravel().tolist()]


def integer(array: np.ndarray) -> int:
    """A scalar, or a vector of one element, as a Python int."""
    (found,) = integers(array)
    return found


def _integer(element: Any) -> int:
    if isinstance(element, (bool, int)):
        return int(element)
    raise TypeError(f"not an integer: {element!r}")


def extents_array(extents: Sequence[Any], call: Call, output: int = 0) -> np.ndarray:
    """A vector of ints in the output's dtype; an object array when Dims are among them."""
    if all(isinstance(extent, (int, np.integer)) for extent in extents):
        return np.array(extents, call.dtypes[output].np).reshape(len(extents))
    found = np.empty(len(extents), object)
    found[:] = extents
    return found


def fresh(array: np.ndarray) -> np.ndarray:
    """A C-ordered array of its own: results never share memory with inputs."""
    return np.array(array, order="C")


def zero(dtype: np.dtype[Any]) -> Any:
    """What an output starts with: 0, False or the empty string."""
    return b"" if dtype.kind == "O" else np.zeros((), dtype)[()]


def filled(shape: Sequence[int], dtype: np.dtype[Any], value: Any = None) -> np.ndarray:
    return np.full(tuple(shape), zero(dtype) if value is None else value, dtype)


def brief(shape: Sequence[Any]) -> str:
    """A shape as kernels print it: `[2,3]`."""
    return "[" + ",".join(map(extent_text, shape)) + "]"


def axis_of(call: Call, axis: int, rank: int, message: Callable[[], str]) -> int:
    """`axis` counted from the front, or the failure `message()`."""
    if not -rank <= axis < rank:
        call.fail(message())
    return axis + rank if axis < 0 else axis


def safe_shape(call: Call, extents: Sequence[int]) -> tuple[int, ...]:
    """A shape of non-negative extents, or TF's failure."""
    for extent in extents:
        if extent < 0:
            call.fail(f"Dimension {extent_text(extent)} must be >= 0")
    return tuple(extents)


# --- In lowerings ---


def known_ints(call: Any, i: int) -> list[int] | None:
    """Input i as plain ints, where the compiler knows all of it."""
    known = call.known(i)
    if known is None or not all(isinstance(each, int) for each in known.ravel()):
        return None
    return list(known.ravel())


def knows(*inputs: int) -> Callable[[Any], bool]:
    """`when=` for lowerings that need the given inputs as plain ints."""
    return lambda call: all(known_ints(call, i) is not None for i in inputs)


def follows(*inputs: int) -> Callable[[Any], bool]:
    """`when=` for lowerings that need the given inputs as ints or extents."""
    return lambda call: all(call.known(i) is not None for i in inputs)


def fixed(k: Any, extent: Extent) -> Any:
    """The `Index` that always has that number."""
    return k.zero() + extent


def compare(k: Any, predicate: str, a: Any, b: Any) -> Any:
    """A comparison of two positions, each an `Index` or an extent."""
    left, right = (k.value(fixed(k, each) if isinstance(each, (int, Dim)) else each) for each in (a, b))
    return k.b.compare(predicate, *k.same_lanes(left, right))


def every(k: Any, conditions: Iterable[Any]) -> Any:
    """The conjunction of the conditions; None for none of them."""
    found = None
    for condition in conditions:
        found = condition if found is None else k.b.and_(*k.same_lanes(found, condition))
    return found


def remainder(k: Any, index: Any, extent: Extent) -> Any:
    """`index % extent` for an index >= 0."""
    if extent == 1:
        return k.zero()
    return k.index(k.b.rem(*k.same_lanes(k.value(index), k.extent(extent))))


def choose(k: Any, condition: Any, yes: Any, no: Any) -> Any:
    """`yes` where the condition holds; None stands for a condition that always does."""
    return yes if condition is None else k.select(condition, yes, no)


def lookup_extent(k: Any, index: Any, extents: Sequence[Extent]) -> Any:
    """The i64 value of `extents[index]`."""
    if not extents:
        return k.b.int64(0)
    where = k.value(index)
    found = k.b.splat(k.extent(extents[-1]), where.lanes)
    for at in range(len(extents) - 2, -1, -1):
        here = k.b.compare("eq", where, k.b.like(at, where))
        found = k.b.select(here, k.b.splat(k.extent(extents[at]), where.lanes), found)
    return found


def as_dtype(k: Any, value: Any, dtype: Any) -> Any:
    return value if value.dtype is dtype else k.b.convert(value, dtype)
