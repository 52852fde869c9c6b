"""How an op becomes native code: one of these stands as `lower=` in the op's section.

Elementwise  one value out per value in, at the same index (operands broadcast)
Indexed      the value at an output index, from loads of the inputs at computed indices
Assemble     the output is put together of its inputs, each at an offset (concat, pack, pad)
Reduction    an accumulator over some axes
Alias        the same elements in the same order under another shape: no code at all
Contraction  a matrix product
Convolution  filters over images, or the gradient for the filters
Composite    replaced by other ops before fusion
Scatter      a copy of the first input in which rows named by indices are changed
Update       new values of variables, computed by other ops
Control      a branch or a loop over Steps that stand in the op's attrs
Matrices     an algorithm on small square matrices
Generate     random numbers from a Philox stream
Distinct     integers numbered by a hash table
Hits         where bools hold
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stepjit_runtime.errors import INVALID_ARGUMENT

OUTSIDE = "indices{place} = {value} is not in [0, {bound})"


def always(call: Any) -> bool:
    return True


@dataclass(frozen=True)
class Elementwise:
    """`emit(b, call, *values) -> value`: `b` is the Builder; values are scalars or vectors alike, already broadcast."""

    emit: Callable[..., Any]
    when: Callable[[Any], bool] = always
    cost: float = 1.0
    """Rough cost in simple arithmetic instructions per element; 15 and more counts as expensive to repeat."""


@dataclass(frozen=True)
class Indexed:
    """`emit(k, call, output, index) -> value` of output number `output` at `index`, a tuple of `Index`.

    `k` is the `Point` that reads inputs: `k.load(i, index)` the value of input i there (one Index per its dimension).
    `checks` names index inputs whose every element must lie in [0, extent of axis of another input): a sequence of
    `Check`.
    """

    emit: Callable[..., Any]
    when: Callable[[Any], bool] = always
    checks: Callable[[Any], Sequence[Check]] = lambda call: ()
    cost: float = 1.0
    born: int | None = None
    """The int64 scalar input that tells the result's first extent, which is only known in mid-step; input 0 has no
    fewer rows."""


@dataclass(frozen=True)
class Check:
    """Every element of input `indices` must be >= 0 and < `bound` (an extent).

    `message` has {at} (the element's number), {place} (its coordinates in brackets; nothing for a scalar), {value},
    {bound}, {row} (the values there of all columns), {shape} (the extents in `shape`), {left} (the first of these less
    the value), {op} (the op's name).
    """

    indices: int
    bound: Any
    message: str = OUTSIDE
    code: int = INVALID_ARGUMENT
    columns: tuple[tuple[int, Any], ...] = ()
    """Further inputs of the shape of `indices`, with their bounds: an index of several numbers is all of them."""
    shape: tuple[Any, ...] = ()
    negatives: bool = False
    """Whether an index may be below 0."""


@dataclass(frozen=True)
class Assemble:
    """`parts(call) -> [(input number, offsets), ...]`; what no part covers is `background(call)`, a number or None."""

    parts: Callable[[Any], Sequence[tuple[int, tuple[Any, ...]]]]
    background: Callable[[Any], Any] = lambda call: None
    when: Callable[[Any], bool] = always


@dataclass(frozen=True)
class Reduction:
    """Over the axes in input 1 (`keep_dims` attr), or `axes(call)`: accumulators start at `identity(dtype)`.

    `item(b, call, x, position)` turns an element (and its i64 index on the reduced axis) into accumulator values,
    `combine(b, call, acc, item)` joins two tuples of them (associative), `result(b, call, acc, count)` ends.
    """

    identity: Callable[[Any], tuple[Any, ...]]
    combine: Callable[..., tuple[Any, ...]]
    item: Callable[..., tuple[Any, ...]] = lambda b, call, x, position: (x,)
    result: Callable[..., Any] = lambda b, call, acc, count: acc[0]
    axes: Callable[[Any], Sequence[int] | None] | None = None
    when: Callable[[Any], bool] = always


@dataclass(frozen=True)
class Alias:
    """The output is input 0's elements in order; `checks` as for `Indexed`."""

    when: Callable[[Any], bool] = always
    checks: Callable[[Any], Sequence[Check]] | None = None


@dataclass(frozen=True)
class Contraction:
    """`plan(call) -> (transpose_a, transpose_b)` for a (batched) matrix product of inputs 0 and 1."""

    plan: Callable[[Any], tuple[bool, bool]]
    when: Callable[[Any], bool] = always


@dataclass(frozen=True)
class Convolution:
    """`window(call)` is the geometry (`lower.conv.Window`) of inputs image and filter.

    of_filter: the inputs are image and gradient, the result is the gradient for the filter.
    """

    window: Callable[[Any], Any]
    of_filter: bool = False
    when: Callable[[Any], bool] = always


@dataclass(frozen=True)
class Composite:
    """`expand(x, call, *inputs) -> output(s)`: `x` builds ops (`passes/expand.py`); removed by simplify."""

    expand: Callable[..., Any]
    when: Callable[[Any], bool] = always


@dataclass(frozen=True)
class Scatter:
    """Inputs (data, indices, updates): row `indices[i]` of data becomes `emit(b, call, old, update)`, i in order.

    Indices are checked against the first extent of data before anything is written.
    """

    emit: Callable[..., Any]
    when: Callable[[Any], bool] = always
    message: str = OUTSIDE
    """As that of a `Check`; nothing where the indices were checked when they were made."""


@dataclass(frozen=True)
class Update:
    """Changes variables: `expand(x, call, *inputs)` gives the new values of those whose input numbers are `slots`.

    A variable's input is the value that it holds (None for an op that replaces it unread). An output is the first
    variable's new value, or what `result(x, call, *inputs)` gives.
    """

    slots: tuple[int, ...]
    expand: Callable[..., Sequence[Any]]
    result: Callable[..., Any] | None = None


@dataclass(frozen=True)
class Control:
    """`kind` is `if` or `while`: native jumps around the code of regions; what `when` refuses is driven by Python."""

    kind: str
    when: Callable[[Any], bool]


@dataclass(frozen=True)
class Matrices:
    """An algorithm on the square matrices of input 0, of static size: see `lower/small_matrices.py` for `kind`.

    `message` ends the step where the algorithm finds no result.
    """

    kind: str
    when: Callable[[Any], bool]
    message: str = ""


@dataclass(frozen=True)
class Generate:
    """Random numbers of `distribution` (see `lower/random_kernels.py`), of the shape in input 0, to a buffer.

    They come from the op's stream (attr `_slot`), or, where `seed` is an input's number, from what that seed decides.
    Integers lie between the last two inputs. Choices (of classes, of rows) are made by input 0 itself.
    """

    distribution: str
    when: Callable[[Any], bool]
    seed: int | None = None
    cost: float = 8.0

    @property
    def chooses(self) -> bool:
        """Whether input 0 is what is chosen from, rather than a shape."""
        return self.distribution in ("classes", "shuffled")


@dataclass(frozen=True)
class Hits:
    """Input 0 is a vector of bools: the numbers of those that hold, in its own length, and how many there are."""

    when: Callable[[Any], bool] = always
    cost: float = 1.0


@dataclass(frozen=True)
class Distinct:
    """Input 0 is a vector of integers: for each the number of its value, where each value is first, how many there are.

    Values are numbered in the order of their first places; the second output has as many elements as the input.
    """

    when: Callable[[Any], bool] = always
