"""einsum: sums of products by index letters, as transpositions, broadcasts and batched matrix products."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.gradients import gradients_between
from stepjit.framework.registry import RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.array import shape as shape_of
from stepjit.ops.array import transpose
from stepjit.ops.reductions import reduce_sum


def einsum(equation: str, *inputs: Any, **kwargs: Any) -> Tensor:
    """The tensor with elements summed over the letters that the result lacks, as `einsum("ij,jk->ik", a, b)`.

    `...` stands for dimensions that broadcast. ValueError for an equation that doesn't fit the inputs.
    """
    name = kwargs.pop("name", None)
    kwargs.pop("optimize", None)
    if kwargs:
        raise TypeError(f"Invalid keyword arguments for this function: {', '.join(sorted(kwargs))}")
    with name_scope(name, "einsum", [equation, *inputs]) as scope:
        tensors = [convert_to_tensor(each) for each in inputs]
        terms, result = _parse(equation, tensors)
        operands = [_diagonal(each, term) for each, term in zip(tensors, terms)]
        if not operands:
            raise ValueError("einsum needs at least one input")
        tensor, letters = operands[0]
        for k, (other, other_letters) in enumerate(operands[1:], 2):
            needed = set(result).union(*(set(each) for _, each in operands[k:]))
            tensor, letters = _contract(tensor, letters, other, other_letters, needed)
        tensor, letters = _summed(tensor, letters, set(result))
        order = [letters.index(letter) for letter in result]
        if order != list(range(len(order))):
            tensor = transpose(tensor, order)
        return apply_op("Identity", input=tensor, name=scope + "Einsum/" if scope else None)


@RegisterGradient("Einsum")
def _einsum_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    # The op's own inputs may lead to each other: a gradient by copies does not go on to what they are made of.
    copies = [apply_op("Identity", input=each) for each in op.inputs]
    return gradients_between([einsum(op.attrs["equation"].decode(), *copies)], copies, [grad])


def _parse(equation: str, tensors: list[Tensor]) -> tuple[list[str], str]:
    """The letters of every input and of the result; dimensions under `...` get letters of their own."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(tensors):
        raise ValueError(f"Got {len(tensors)} arguments for equation '{equation}', expecting {len(terms)}")
    if not re.fullmatch(r"[A-Za-z.,]*", left) or not re.fullmatch(r"[A-Za-z.]*", right):
        raise ValueError(f"Indices have incorrect format: '{equation}'")
    used = set(re.findall("[A-Za-z]", text))
    free = [letter for letter in (chr(code) for code in range(0x3B1, 0x3B1 + 64)) if letter not in used]
    expanded, widest = [], 0
    for term, tensor in zip(terms, tensors):
        if tensor.dims is None:
            raise ValueError(f"einsum needs static ranks, and {tensor.name} has none")
        rank = len(tensor.dims)
        extra = rank - len(term.replace("...", ""))
        if ("..." not in term and extra) or extra < 0:
            raise ValueError(f"Equation '{equation}' asks for another rank than {rank} of input {tensor.name}")
        widest = max(widest, extra)
        expanded.append((term, extra))
    letters = [term.replace("...", "".join(free[widest - extra : widest])) for term, extra in expanded]
    if arrow:
        result = right.replace("...", "".join(free[:widest]))
    else:
        counts = "".join(term.replace("...", "") for term in terms)
        result = "".join(free[:widest]) + "".join(each for each in sorted(set(counts)) if counts.count(each) == 1)
    missing = [letter for letter in result if not any(letter in term for term in letters)]
    if missing or len(set(result)) != len(result):
        raise ValueError(f"The result of '{equation}' has indices that no input has, or one of them twice")
    return letters, result


def _diagonal(tensor: Tensor, term: str) -> tuple[Tensor, str]:
    """An input whose letters are all different: of equal ones the diagonal is taken."""
    letters = term
    while len(set(letters)) < len(letters):
        letter = next(each for each in letters if letters.count(each) > 1)
        places = [k for k, each in enumerate(letters) if each == letter][:2]
        rest = [k for k in range(len(letters)) if k not in places]
        tensor = transpose(tensor, rest + places)
        tensor = apply_op("MatrixDiagPart", input=tensor)
        letters = "".join(letters[k] for k in rest) + letter
    return tensor, letters


def _summed(tensor: Tensor, letters: str, needed: set[str]) -> tuple[Tensor, str]:
    axes = [k for k, letter in enumerate(letters) if letter not in needed]
    if not axes:
        return tensor, letters
    return reduce_sum(tensor, axes), "".join(letter for letter in letters if letter in needed)


def _contract(a: Tensor, a_letters: str, b: Tensor, b_letters: str, needed: set[str]) -> tuple[Tensor, str]:
    """The product of two operands, summed over letters that nothing else needs."""
    a, a_letters = _summed(a, a_letters, needed | set(b_letters))
    b, b_letters = _summed(b, b_letters, needed | set(a_letters))
    both = [letter for letter in a_letters if letter in b_letters]
    summed = [letter for letter in both if letter not in needed]
    batch = [letter for letter in both if letter in needed]
    left = [letter for letter in a_letters if letter not in both]
    right = [letter for letter in b_letters if letter not in both]
    if not summed or _stretches(a, a_letters, b, b_letters, summed):
        return _outer(a, a_letters, b, b_letters, batch + left + right, needed)
    x = _grouped(a, a_letters, batch, left, summed)
    y = _grouped(b, b_letters, batch, summed, right)
    product = apply_op("BatchMatMulV2", x=x, y=y) if batch else apply_op("MatMul", a=x, b=y)
    shapes = [(a, a_letters, letter) for letter in [*batch, *left]] + [(b, b_letters, letter) for letter in right]
    if len(left) == len(right) == 1:
        return product, "".join(batch + left + right)
    sizes = [_extent(tensor, letters.index(letter)) for tensor, letters, letter in shapes]
    return apply_op("Reshape", tensor=product, shape=_shape(sizes)), "".join(batch + left + right)


def _stretches(a: Tensor, a_letters: str, b: Tensor, b_letters: str, summed: list[str]) -> bool:
    """Whether a summed dimension has extent 1 on one side only, and so broadcasts."""
    assert a.dims is not None
    assert b.dims is not None
    pairs = [(a.dims[a_letters.index(letter)], b.dims[b_letters.index(letter)]) for letter in summed]
    return any((x == 1) != (y == 1) for x, y in pairs)


def _outer(
    a: Tensor, a_letters: str, b: Tensor, b_letters: str, letters: list[str], needed: set[str]
) -> tuple[Tensor, str]:  # fmt: skip
    every = "".join(dict.fromkeys([*letters, *a_letters, *b_letters]))
    product = apply_op("Mul", x=_spread(a, a_letters, every), y=_spread(b, b_letters, every))
    return _summed(product, every, needed)


def _spread(x: Tensor, letters: str, every: str) -> Tensor:
    """x with its dimensions in the order of `every`, and extents of 1 for letters it lacks."""
    order = [letters.index(letter) for letter in every if letter in letters]
    if order != list(range(len(order))):
        x = transpose(x, order)
    for axis, letter in enumerate(every):
        if letter not in letters:
            x = apply_op("ExpandDims", input=x, dim=axis)
    return x


def _grouped(x: Tensor, letters: str, batch: list[str], rows: list[str], columns: list[str]) -> Tensor:
    """x as batches of matrices."""
    order = [letters.index(letter) for letter in [*batch, *rows, *columns]]
    if order != list(range(len(order))):
        x = transpose(x, order)
    if len(rows) == len(columns) == 1:
        return x
    first, second = len(batch), len(batch) + len(rows)
    sizes = [_extent(x, k) for k in range(len(batch))]
    sizes += [_product([_extent(x, k) for k in range(first, second)])]
    sizes += [_product([_extent(x, k) for k in range(second, len(order))])]
    return apply_op("Reshape", tensor=x, shape=_shape(sizes))


def _extent(x: Tensor, axis: int) -> Any:
    assert x.dims is not None
    if x.dims[axis] is not None:
        return x.dims[axis]
    return apply_op("StridedSlice", input=shape_of(x), begin=[axis], end=[axis + 1], strides=[1], shrink_axis_mask=1)


def _product(extents: list[Any]) -> Any:
    result: Any = 1
    for extent in extents:
        if isinstance(extent, int) and isinstance(result, int):
            result *= extent
        elif isinstance(result, int) and result == 1:
            result = extent
        else:
            result = (
                apply_op("Mul", x=result, y=extent)
                if isinstance(result, Tensor)
                else apply_op("Mul", x=extent, y=result)
            )
    return result


def _shape(sizes: list[Any]) -> Any:
    if all(isinstance(each, int) for each in sizes):
        return constant(sizes, dtype="int32", shape=[len(sizes)])
    return apply_op("Pack", values=sizes, T="int32")
