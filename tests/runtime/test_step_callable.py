"""Step callables as Python objects: cold and attached, variants, lifetime, speed."""

from __future__ import annotations

import gc
import sys
import timeit
import weakref
from typing import Any

import numpy as np
import pytest
from hand import Refused, callable_of, executable, fail, multiply_add, refuse

from stepjit_runtime import abi
from stepjit_runtime.executable import Layout
from stepjit_runtime.step_callable import StepCallable, reenter

SINGLE = Layout(abi.PACK_SINGLE, (0,))
ONES = np.ones(8, np.float32)


@pytest.fixture(scope="module")
def eight() -> Any:
    return executable(*multiply_add(8))


def test_a_cold_callable_asks_slow() -> None:
    step = StepCallable(lambda *told: told)
    assert step(1, 2) == (abi.COLD, (1, 2), None)
    assert step(*[1], options=3) == (abi.COLD, (1, 3), ("options",))
    assert reenter(step, (1,)) == abi.COLD


def test_slow_may_attach_and_go_on(eight: Any) -> None:
    reasons = []

    def slow(reason: int, args: tuple[Any, ...], names: Any) -> Any:
        reasons.append(reason)
        if reason == abi.COLD:
            step.attach(eight.context(slow, fail, layout=SINGLE))
        return reenter(step, tuple(np.asarray(arg, np.float32) for arg in args))

    step = StepCallable(slow)
    for _ in range(2):
        assert step(ONES, ONES).tolist() == [2.0] * 8
    assert step([2] * 8, ONES).tolist() == [4.0] * 8
    assert reasons == [abi.COLD, abi.FEED]


def test_all_ways_to_call(eight: Any) -> None:
    step = callable_of(eight)
    for result in (
        step(ONES, ONES), step(*(ONES, ONES)), step(*[ONES], ONES),
        next(map(step, [ONES], [ONES])), (lambda f: f(ONES, ONES))(step),
    ):  # fmt: skip
        assert result.tolist() == [2.0] * 8


def test_variants_are_tried_in_turn() -> None:
    step = StepCallable(refuse)
    sizes = (8, 3, None)
    for size in sizes:
        step.attach(executable(*multiply_add(size)).context(refuse, fail, layout=SINGLE))
    assert len(step.contexts) == 3
    for size in (8, 3, 5, 0):
        one = np.ones(size, np.float32)
        assert step(one, one).shape == (size,)
    with pytest.raises(Refused) as refused:
        step(ONES.reshape(2, 4), ONES)
    assert (refused.value.code, refused.value.number) == (abi.FEED, 0)


def test_variants_of_other_ranks() -> None:
    step = callable_of(
        executable(*multiply_add(None)), executable(*multiply_add(None, None)), executable(*multiply_add(1))
    )
    for shape in ((4,), (2, 3), (1,), (0, 5)):
        one = np.ones(shape, np.float32)
        assert step(one, one).shape == shape


def test_detach_is_cold_again(eight: Any) -> None:
    step = callable_of(eight)
    step(ONES, ONES)
    step.detach()
    with pytest.raises(Refused) as refused:
        step(ONES, ONES)
    assert refused.value.code == abi.COLD
    step.attach(eight.context(refuse, fail, layout=SINGLE))
    assert step(ONES, ONES)[0] == 2


def test_it_is_an_ordinary_object(eight: Any) -> None:
    step = callable_of(eight)
    step.note = "anything"  # type: ignore[attr-defined]
    assert step.note == "anything"  # type: ignore[attr-defined]
    assert callable(step)
    assert weakref.ref(step)() is step
    assert {step: 1}[step] == 1
    assert "StepCallable" in repr(step)


def cycle() -> list[weakref.ref[Any]]:
    """Weak references to a callable that holds itself in three ways, to its executable and to its code."""
    made, held = executable(*multiply_add(5)), []
    step = StepCallable(lambda *told: held)
    step.attach(made.context(lambda *told: held, fail, layout=SINGLE))
    step.me = step  # type: ignore[attr-defined]
    held.append(step)
    return [weakref.ref(step), weakref.ref(made), weakref.ref(made.linked)]


def test_cycles_are_collected_with_code_and_contexts() -> None:
    gone = cycle()
    gc.collect()
    assert [each() for each in gone] == [None] * 3


def test_the_callable_keeps_what_native_code_needs() -> None:
    step = callable_of(executable(*multiply_add(8)), slow=lambda *told: "slow")
    gc.collect()
    assert step(ONES, ONES)[0] == 2
    assert step(1, ONES) == "slow"


def test_callables_do_not_leak(eight: Any) -> None:
    def one() -> None:
        step = callable_of(eight)
        step(ONES, ONES)
        step.me = step  # type: ignore[attr-defined]

    one()
    gc.collect()
    before, count = sys.getallocatedblocks(), sys.getrefcount(eight)
    for _ in range(300):
        one()
    gc.collect()
    assert sys.getrefcount(eight) == count
    assert sys.getallocatedblocks() - before < 100


def test_hundred_thousand_calls_do_not_leak(eight: Any) -> None:
    step = callable_of(eight)
    counts = sys.getrefcount(ONES), sys.getrefcount(step), sys.getrefcount(np.dtype(np.float32))
    before = sys.getallocatedblocks()
    for _ in range(100_000):
        step(ONES, ONES)
    assert (sys.getrefcount(ONES), sys.getrefcount(step), sys.getrefcount(np.dtype(np.float32))) == counts
    assert abs(sys.getallocatedblocks() - before) < 50


def test_a_call_costs_less_than_a_ufunc(eight: Any) -> None:
    step = callable_of(eight)

    def best(function: Any) -> float:
        return min(timeit.repeat(lambda: [function(ONES, ONES) for _ in range(2000)], number=1, repeat=15))

    assert best(step) < best(np.add)
