"""The interpreter: values, state, symbols, and how failures are told."""

from __future__ import annotations

import numpy as np
import pytest

from stepjit_compiler import dims, opdef
from stepjit_compiler.interpret import WrongTypeError, interpret
from stepjit_compiler.ir import Check, Ref, Slot, StepFailure, Type
from stepjit_compiler.opdef import Call
from stepjit_compiler.step_builder import StepBuilder
from stepjit_runtime import dtypes
from stepjit_runtime.errors import FAILED_PRECONDITION

f32 = dtypes.float32
s0 = dims.symbol("s0_0")


@pytest.fixture
def scratch_ops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ops that the test defines go away with it."""
    monkeypatch.setattr(opdef, "_REGISTRY", dict(opdef.registered()))


def test_values_and_extents() -> None:
    b = StepBuilder([Type(f32, (s0, 2))])
    x = b.feed(0)
    step = b.finish([b.op("AddV2", x, b.const([1, 2], f32)), b.dims((s0, s0 * 2)), b.dims(s0 // 2)])
    (total, vector, scalar), written = interpret(step, [np.ones((3, 2), np.float32)])
    assert total.tolist() == [[2, 3]] * 3 and total.dtype == np.float32
    assert vector.tolist() == [3, 6] and vector.dtype == np.int32
    assert scalar.shape == () and scalar == 1 and not written


def test_state() -> None:
    b = StepBuilder(slots=[Slot("variable", Type(f32, (2,)), 0)], names=["W"])
    old = b.read(0, 0)
    step = b.finish([old, b.initialized(0)], [(0, b.op("Neg", old))])
    held = np.array([1, 2], np.float32)
    (value, there), written = interpret(step, [], [held])
    assert value.tolist() == [1, 2] and bool(there) and written[0].tolist() == [-1, -2] and held.tolist() == [1, 2]
    with pytest.raises(StepFailure) as caught:
        interpret(step, [], [None])
    assert caught.value.failure.code == FAILED_PRECONDITION
    assert "uninitialized value W" in caught.value.failure.message


def test_checks_come_first() -> None:
    b = StepBuilder([Type(f32, (s0,)), Type(f32, (dims.symbol("s1_0"),))])
    b.origin = 4
    step = b.finish([b.op("AddV2", b.feed(0), b.feed(1))])
    with pytest.raises(StepFailure, match="Incompatible shapes") as caught:
        interpret(step, [np.zeros(2, np.float32), np.zeros(3, np.float32)])
    assert caught.value.origin == 4


@pytest.mark.parametrize(
    ("holds", "a", "b", "fails"),
    [("ge", s0, 3, True), ("ge", s0, 2, False), ("divides", s0 * 3, 6, False), ("divides", s0, 0, True)],
)
def test_kinds_of_checks(holds: str, a: dims.Extent, b: dims.Extent, fails: bool) -> None:
    assert Check(holds, a, b, "", 0).fails({"s0_0": 2}) is fails


def test_failure_names_its_op(scratch_ops: None) -> None:
    def refuse(call: Call, x: np.ndarray) -> np.ndarray:
        call.fail("no such luck")

    opdef.define("TestFail", "x: T -> y: T", "T: type", infer=opdef.unchanged, reference=refuse)
    b = StepBuilder([Type(f32, ())])
    x = b.feed(0)
    b.origin = 9
    with pytest.raises(StepFailure, match="@9: no such luck"):
        interpret(b.finish([b.op("TestFail", x)]), [np.zeros((), np.float32)])


def test_extents_born_in_mid_step(scratch_ops: None) -> None:
    opdef.define(
        "TestPositive", "x: T -> y: T", "T: type", infer=lambda x: [(None,)], reference=lambda call, x: x[x > 0],
    )  # fmt: skip
    b = StepBuilder([Type(f32, (s0,))])
    found = b.op("Exp", b.op("TestPositive", b.feed(0)))
    assert str(b.type(found)) == "f32[h1]"
    (value,), _ = interpret(b.finish([found]), [np.array([-1, 0, 3, 4], np.float32)])
    assert value.shape == (2,)


def test_reference_of_wrong_type_is_found(scratch_ops: None) -> None:
    opdef.define(
        "TestWrong", "x: T -> y: T", "T: type", infer=opdef.unchanged, reference=lambda call, x: x.astype(np.float64),
    )  # fmt: skip
    b = StepBuilder([Type(f32, (s0,))])
    with pytest.raises(WrongTypeError, match=r"TestWrong: float64\[2\] is no f32\[s0_0\]"):
        interpret(b.finish([b.op("TestWrong", b.feed(0))]), [np.zeros(2, np.float32)])


def test_stream_is_handed_to_its_op(scratch_ops: None) -> None:
    opdef.define(
        "TestDraw", "x: T -> y: T", "T: type", infer=opdef.unchanged, stateful=True,
        reference=lambda call, x: x + call.attrs["_stream"].pop(),
    )  # fmt: skip
    b = StepBuilder([Type(f32, ())], [Slot("stream", Type(dtypes.int64, ()), 0)])
    node = b.add("TestDraw", [b.feed(0)], {"T": f32, "_slot": 0})
    step = b.finish([Ref(node, 0)], targets=[node])
    assert interpret(step, [np.array(1, np.float32)], [], {0: [np.float32(5)]})[0][0] == 6


@pytest.mark.parametrize("array", [np.zeros(2), np.zeros((2, 2), np.float32), np.zeros(1, np.float32)])
def test_feeds_that_do_not_fit(array: np.ndarray) -> None:
    b = StepBuilder([Type(f32, (s0,))])
    with pytest.raises(ValueError, match="feed 0 is f32"):
        interpret(b.finish([b.feed(0)]), [array])
