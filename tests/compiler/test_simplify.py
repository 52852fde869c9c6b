"""simplify: what becomes of a step by golden files, that its value stays, and that it comes to an end."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from golden import Golden, golden_files, golden_input
from step_tools import outcome

from stepjit_compiler import dims, opdef
from stepjit_compiler.interpret import interpret
from stepjit_compiler.ir import Check, Ref, Step, StepFailure, Type
from stepjit_compiler.lowering import Composite
from stepjit_compiler.opdef import OpDef
from stepjit_compiler.passes import matching
from stepjit_compiler.passes import simplify as simplify_module
from stepjit_compiler.passes.rebuild import rebuild
from stepjit_compiler.passes.simplify import RuleLoopError, Simplifier, simplify
from stepjit_compiler.step_builder import StepBuilder
from stepjit_compiler.step_text import parse, to_text
from stepjit_compiler.verify import verify
from stepjit_runtime import dtypes

FILES = golden_files("simplify")
f32 = dtypes.float32


def rules() -> dict[str, matching.Rule]:
    """All rules by name."""
    for op in opdef.registered().values():
        matching.rules_for(op)
    found = [rule for each in matching.RULES.values() for rule in each] + [rule for _, rule in matching.GENERAL]
    return {rule.__name__: rule for rule in found}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_text(path: Path, golden: Golden) -> None:
    golden.check(path, lambda text: to_text(simplify(parse(text))))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_value_is_the_same(path: Path) -> None:
    step = parse(golden_input(path))
    verify(step)
    builder = Simplifier(step)
    simple = rebuild(step, builder)
    verify(simple)
    assert outcome(simple) == outcome(step)
    if path.stem in rules():
        assert builder.fired[path.stem], "the file's own rule did not apply"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_twice_is_once(path: Path) -> None:
    once = simplify(parse(golden_input(path)))
    assert to_text(simplify(once)) == to_text(once)


@pytest.mark.parametrize("name", sorted(rules()))
def test_rule_has_equation_and_golden_file(name: str) -> None:
    assert "->" in (rules()[name].__doc__ or "")
    assert any(path.stem == name for path in FILES)


def chain(length: int) -> Step:
    """A step of about `length` nodes in a row."""
    b = StepBuilder([Type(f32, (dims.symbol("s0_0"), 4))])
    value, i = b.feed(0), 0
    while len(b.nodes) < length:
        value = b.op("AddV2", b.op("Mul", value, b.const(1.5 + i, f32)), b.op("Exp", value))
        value, i = b.op("Sub", value, b.const([1.0 + i, 2, 3, 4], f32)), i + 1
    return b.finish([value])


def test_time_is_linear_and_short() -> None:
    step = chain(5000)
    begin = time.perf_counter()
    simple = simplify(step)
    assert time.perf_counter() - begin < 10  # 0.25 s on an idle machine; minutes where it is quadratic
    assert len(simple.nodes) == len(step.nodes)


def test_long_chain_of_identities_and_integers() -> None:
    b = StepBuilder([Type(dtypes.int32, (dims.symbol("s0_0"),))])
    value = b.op("Size", b.feed(0))
    for _ in range(3000):
        value = b.op("Identity", b.op("AddV2", value, b.const(1, dtypes.int32)))
    simple = simplify(b.finish([value]))
    assert [node.op for node in simple.nodes] == ["_Dims"]
    assert interpret(simple, [np.zeros(5, np.int32)])[0][0] == 3005


def define_op(monkeypatch: pytest.MonkeyPatch, name: str, **how: object) -> OpDef:
    """An op of the test's own: `x: T -> y: T`."""
    monkeypatch.setattr(opdef, "_REGISTRY", dict(opdef.registered()))
    return opdef.define(name, "x: T -> y: T", "T: type", infer=opdef.unchanged, **how)  # type: ignore[arg-type]


def one_op(name: str) -> Step:
    b = StepBuilder([Type(f32, (dims.symbol("s0_0"), 4))])
    b.origin = 7
    return b.finish([b.op(name, b.feed(0, 1))])


def test_composite_is_expanded_with_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    define_op(monkeypatch, "TestOuter", lower=Composite(lambda x, call, value: x.op("TestInner", x.op("Neg", value))))
    monkeypatch.setattr(opdef, "_REGISTRY", dict(opdef.registered()))
    opdef.define(
        "TestInner", "x: T -> y: T", "T: type", infer=opdef.unchanged,
        lower=Composite(lambda x, call, value: x.op("Mul", x.op("Exp", value), x.op("Neg", value))),
    )  # fmt: skip
    step = one_op("TestOuter")
    simple = simplify(step)
    assert [(node.op, node.origin) for node in simple.nodes] == [("_Feed", 1), ("Neg", 7), ("Exp", 7), ("Mul", 7)]
    assert outcome(step) == outcome(simple)  # the interpreter expands what has no reference


def test_composite_of_other_type_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    define_op(monkeypatch, "TestWrong", lower=Composite(lambda x, call, value: x.op("Shape", value)))
    with pytest.raises(Exception, match=r"'TestWrong' is f32.* but expands to i32"):
        simplify(one_op("TestWrong"))


def test_rules_that_chase_one_another_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def ever_longer(x: StepBuilder, node: object) -> Ref:
        """f(x) -> f(-f(x))"""
        return x.op("TestLoop", x.op("Exp", node.inputs[0]))  # type: ignore[attr-defined]

    define_op(monkeypatch, "TestLoop")
    monkeypatch.setattr(simplify_module, "rules_for", lambda op: (ever_longer,) if op.name == "TestLoop" else ())
    with pytest.raises(RuleLoopError, match="'ever_longer' was applied"):
        simplify(one_op("TestLoop"))


def test_rule_that_comes_back_to_its_root_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simplify_module, "rules_for", lambda op: (lambda x, node: x.op(node.op, *node.inputs),))
    assert [node.op for node in simplify(one_op("Exp")).nodes] == ["_Feed", "Exp"]


def test_failing_op_is_named_by_its_origin() -> None:
    text = """feed 0 : f32[3,4]
%0 = _Feed {index=0} : f32[3,4]
%1 = Const {dtype=i32, value=<i32[1] 5>} : i32[1]
%2 = Reshape %0, %1 {T=f32, Tshape=i32} : f32[5]  ; @7
fetch %2
"""
    with pytest.raises(StepFailure, match="Cannot reshape") as caught:
        simplify(parse(text))
    assert caught.value.origin == 7


def test_effects_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    define_op(monkeypatch, "TestEffect", stateful=True, reference=lambda call, x: x)
    b = StepBuilder([Type(f32, (4,))])
    first = b.add("TestEffect", [b.feed(0)], {"T": f32})
    second = b.add("TestEffect", [b.op("Identity", b.feed(0))], {"T": f32}, [first])
    simple = simplify(b.finish([], targets=[first, second]))
    verify(simple)
    assert [(node.op, node.after) for node in simple.nodes] == [("_Feed", ()), ("TestEffect", ()), ("TestEffect", (1,))]
    assert simple.targets == (1, 2)


def test_checks_stay_when_their_op_goes() -> None:
    b = StepBuilder([Type(f32, (dims.symbol("s0_0"),)), Type(f32, (dims.symbol("s1_0"),))])
    total = b.op("AddV2", b.feed(0), b.feed(1))
    simple = simplify(b.finish([b.op("Shape", total)]))
    assert [node.op for node in simple.nodes] == ["_Dims"]
    (check,) = simple.checks
    assert isinstance(check, Check) and check.holds == "eq"


def test_nothing_is_known_early_of_late_extents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opdef, "_REGISTRY", dict(opdef.registered()))
    opdef.define(
        "TestLate", "x: T -> y: T", "T: type", infer=lambda x: [(None,)], reference=lambda call, x: x[x > 0],
    )  # fmt: skip
    b = StepBuilder([Type(f32, (dims.symbol("s0_0"),))])
    for _ in range(2):
        dead = b.op("TestLate", b.op("Exp", b.feed(0)))
    late = b.op("TestLate", b.op("Neg", b.feed(0)))
    assert dead != late
    step = b.finish([b.op("Size", late), b.op("Reshape", late, b.op("Pack", b.op("Size", late), axis=0))])
    verify(step)
    simple = simplify(step)
    verify(simple)
    assert "TestLate" in [node.op for node in simple.nodes]
    assert outcome(simple) == outcome(step)
