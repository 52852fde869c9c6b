"""Dim algebra: canonical forms, text, and values."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepjit_compiler import dims
from stepjit_compiler.dims import Dim, Extent, symbol

a, b = symbol("s0_0"), symbol("s1_0")
NAMES = ("s0_0", "s1_0", "h1")
values = st.fixed_dictionaries({name: st.integers(0, 12) for name in NAMES})


def python_value(tree: Any, numbers: dict[str, int]) -> int:
    """What an expression tree is in plain integers."""
    if isinstance(tree, int):
        return tree
    if isinstance(tree, str):
        return numbers[tree]
    op, left, right = tree
    x, y = python_value(left, numbers), python_value(right, numbers)
    return {
        "+": lambda: x + y, "-": lambda: x - y, "*": lambda: x * y, "//": lambda: x // y if y else 0,
        "%": lambda: x % y if y else 0, "min": lambda: min(x, y), "max": lambda: max(x, y),
    }[op]()  # fmt: skip


def extent(tree: Any) -> Extent:
    """The same tree as an extent."""
    if isinstance(tree, int):
        return tree
    if isinstance(tree, str):
        return symbol(tree)
    op, left, right = tree
    x, y = extent(left), extent(right)
    return {
        "+": lambda: x + y, "-": lambda: x - y, "*": lambda: x * y, "//": lambda: x // y, "%": lambda: x % y,
        "min": lambda: dims.minimum(x, y), "max": lambda: dims.maximum(x, y),
    }[op]()  # fmt: skip


leaves = st.one_of(st.integers(-4, 8), st.sampled_from(NAMES))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["+", "-", "*", "min", "max"]), inner, inner),
        st.tuples(st.sampled_from(["//", "%"]), inner, st.integers(1, 7)),
    ),
    max_leaves=7,
)


@settings(max_examples=150, deadline=None)
@given(trees, values)
def test_value_is_that_of_the_integers(tree: Any, numbers: dict[str, int]) -> None:
    assert dims.evaluate(extent(tree), numbers) == python_value(tree, numbers)


@settings(max_examples=100, deadline=None)
@given(trees)
def test_text_parses_back(tree: Any) -> None:
    found = extent(tree)
    assert dims.parse(str(found)) is found or dims.parse(str(found)) == found


@settings(max_examples=100, deadline=None)
@given(trees, values)
def test_claims_hold_for_all_values(tree: Any, numbers: dict[str, int]) -> None:
    found = extent(tree)
    if dims.is_natural(found):
        assert python_value(tree, numbers) >= 0
    if dims.at_most(found, a):
        assert python_value(tree, numbers) <= numbers["s0_0"]


def test_equal_expressions_are_one_object() -> None:
    assert (a + b) * (a - b) is a * a - b * b
    assert 2 * (a + 1) - 2 is 2 * a
    assert a - a == 0 and isinstance(a - a, int)
    assert dims.minimum(a, b) is dims.minimum(b, a)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (a * 2 + b - 3, "2*s0_0+s1_0-3"), (-a + 1, "-s0_0+1"), (a * b, "s0_0*s1_0"), (a // 2, "floordiv(s0_0,2)"),
        ((a * 6) // 3, "2*s0_0"), ((a * 6) % 3, "0"), ((a * b) // b, "s0_0"), (dims.maximum(a, a + 1), "s0_0+1"),
        (dims.maximum(a, 0), "s0_0"), (a // a, "1"),
    ],
)  # fmt: skip
def test_canonical_form(found: Extent, text: str) -> None:
    assert str(found) == text


@pytest.mark.parametrize("text", ["", "s0_0+", "min(s0_0)", "s0_0)", "2 3"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an extent"):
        dims.parse(text)


def test_substitution_and_symbols() -> None:
    mixed = dims.minimum(a, b) + a // 2
    assert isinstance(mixed, Dim) and mixed.symbols == {"s0_0", "s1_0"}
    assert mixed.substitute({"s1_0": a}) is a + a // 2
    assert mixed.substitute({"s0_0": 4, "s1_0": 3}) == 5
    with pytest.raises(KeyError, match="s1_0"):
        dims.evaluate(mixed, {"s0_0": 4})


def test_pickle_keeps_identity() -> None:
    mixed = dims.minimum(a, b) * 3
    assert pickle.loads(pickle.dumps(mixed)) is mixed
