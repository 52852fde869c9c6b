"""Products of tensors other than matrices: cross products of vectors, sums of products by index letters."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from stepjit_compiler.dims import Extent
from stepjit_compiler.lowering import Indexed
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, extent_text, show
from stepjit_compiler.ops.arguments import at_least, merge, remainder
from stepjit_runtime.errors import FAILED_PRECONDITION

# --- Cross ---
_THREE = "Cross-products are only defined for 3-element vectors."


def _cross_shape(x: Inference) -> list[ShapeLike]:
    a, b = at_least(x, 0, 1), at_least(x, 1, 1)
    shape = merge(x, a, b, f"Shapes must be equal rank: Both inputs must be of same shape: {show(a)} vs. {show(b)}")
    if shape is None:
        return [None]
    last = x.equal(shape[-1], 3, f"Dimension must be 3 but is {extent_text(shape[-1])}: {_THREE}")
    return [(*shape[:-1], last)]


def _cross(call: Call, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.shape != b.shape:
        call.fail(f"Both inputs must be of same shape: {show(a.shape)} vs. {show(b.shape)}")
    if a.ndim < 1:
        call.fail("Input must be at least 1D")
    if a.shape[-1] != 3:
        call.fail(_THREE, FAILED_PRECONDITION)
    turn = np.array([1, 2, 0]), np.array([2, 0, 1])
    with np.errstate(all="ignore"):
        return np.asarray(a[..., turn[0]] * b[..., turn[1]] - a[..., turn[1]] * b[..., turn[0]])


def _emit_cross(k: Any, call: Any, output: int, index: Any) -> Any:
    (*lead, component) = index
    first, second = (remainder(k, component + step, 3) for step in (1, 2))
    a, b = ([k.load(i, (*lead, at)) for at in (first, second)] for i in (0, 1))
    return k.b.sub(k.b.mul(*k.same_lanes(a[0], b[1])), k.b.mul(*k.same_lanes(a[1], b[0])))


define("Cross", "a: T, b: T -> product: T", "T: type in real", infer=_cross_shape, reference=_cross,
       lower=Indexed(_emit_cross))  # fmt: skip


# --- Einsum ---
def _letters(x: Any, ranks: list[int]) -> tuple[list[str], str]:
    """The letters of every input and of the result; dimensions under `...` get letters of their own."""
    equation = x.attrs["equation"].decode().replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if not arrow or len(terms) != len(ranks) or not re.fullmatch(r"[A-Za-z.,]*->[A-Za-z.]*", equation):
        x.fail(f"Expecting exactly one '->' and {len(ranks)} inputs in einsum equation: {equation}")
    covered = [rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks)]
    for term, rank, extra in zip(terms, ranks, covered):
        if extra < 0 or (extra and "..." not in term):
            x.fail(f"Expected input of rank {len(term)} for the labels '{term}' but got rank {rank}")
    own = [chr(0x3B1 + each) for each in range(max(covered, default=0))]
    full = [term.replace("...", "".join(own[len(own) - extra :])) for term, extra in zip(terms, covered)]
    result = right.replace("...", "".join(own))
    if not set(result) <= set("".join(full)):
        x.fail(f"Output subscripts must appear in the inputs: {equation}")
    return full, result


def _einsum_shape(x: Inference) -> list[ShapeLike]:
    shapes = [x.shape(i) for i in range(x.count())]
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes):
        return [None]
    terms, result = _letters(x, [len(shape) for shape in known])
    extents: dict[str, Extent | None] = {}
    for letter in dict.fromkeys("".join(terms)):
        found = [shape[k] for term, shape in zip(terms, known) for k, each in enumerate(term) if each == letter]
        extents[letter] = found[0]
        for other in found[1:]:
            if letter > "z":  # under the dots, dimensions broadcast
                (extents[letter],) = x.broadcast((extents[letter],), (other,)) or (None,)
            else:
                message = f"Dimensions must be equal for label '{letter}', got {extent_text(other)}"
                extents[letter] = x.equal(extents[letter], other, message)
    return [tuple(extents[letter] for letter in result)]


def _einsum(call: Call, *arrays: np.ndarray) -> np.ndarray:
    terms, result = _letters(call, [array.ndim for array in arrays])
    numbers = {letter: n for n, letter in enumerate(dict.fromkeys("".join([*terms, result])))}
    operands: list[Any] = []
    for array, term in zip(arrays, terms):
        wide = array.astype(np.float32) if array.dtype.itemsize == 2 and array.dtype.kind != "i" else array
        operands += [wide, [numbers[letter] for letter in term]]
    try:
        found = np.einsum(*operands, [numbers[letter] for letter in result], optimize=len(arrays) > 1)
    except ValueError as error:
        call.fail(f"Inputs do not fit the equation '{call.attrs['equation'].decode()}': {error}")
    return np.asarray(found).astype(call.dtypes[0].np)


define("Einsum", "inputs: N*T -> output: T", "equation: string, N: int, T: type in number",
       infer=_einsum_shape, reference=_einsum)  # fmt: skip
