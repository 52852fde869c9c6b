"""fuse, plan_memory and lower against golden files, and the invariants of plans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from golden import Golden, golden_files, golden_input
from native_steps import build

from stepjit_compiler.ir import Ref, Step
from stepjit_compiler.lower.kernels import lower
from stepjit_compiler.passes.analyse import analyse
from stepjit_compiler.passes.fuse import fuse
from stepjit_compiler.passes.plan_memory import plan_memory
from stepjit_compiler.passes.simplify import simplify
from stepjit_compiler.plan import Buffer, Plan
from stepjit_compiler.plan_text import kernels_text, plan_text
from stepjit_compiler.step_text import parse
from stepjit_compiler.verify import verify
from stepjit_compiler.verify_plan import PlanError, verify_plan


def planned(step: Step) -> Plan:
    verify(step)
    plan = plan_memory(step, fuse(step, analyse(step)))
    verify_plan(plan)
    return plan


@pytest.mark.parametrize("path", golden_files("fuse"), ids=lambda path: path.stem)
def test_fuse(path: Path, golden: Golden) -> None:
    def run(text: str) -> str:
        step = parse(text)
        return kernels_text(step, planned(step).kernels)

    golden.check(path, run)


@pytest.mark.parametrize("path", golden_files("plan_memory"), ids=lambda path: path.stem)
def test_plan_memory(path: Path, golden: Golden) -> None:
    golden.check(path, lambda text: plan_text(planned(parse(text))))


@pytest.mark.parametrize("path", golden_files("lower"), ids=lambda path: path.stem)
def test_lower(path: Path, golden: Golden) -> None:
    golden.check(path, lambda text: "".join(code.text for code in lower(planned(parse(text)))))


def test_every_pass_is_pure_and_deterministic() -> None:
    path = next(path for path in golden_files("fuse") if path.stem == "softmax")
    step = parse(golden_input(path))
    first, second = planned(step), planned(step)
    assert kernels_text(step, first.kernels) == kernels_text(step, second.kernels)
    assert [code.text for code in lower(first)] == [code.text for code in lower(second)]


def chain(length: int) -> Step:
    def make(b: object, x: Ref) -> Ref:
        for k in range(length):
            x = b.op("Add", x, b.const(float(k), b.type(x).dtype))  # type: ignore[attr-defined]
        return x

    return build([np.zeros(8, np.float32)], make, False)


def test_groups_are_bounded_and_nothing_recurses() -> None:
    plan = planned(simplify(chain(3000)))
    assert max(len(kernel.nodes) for kernel in plan.kernels) <= 40
    assert sum(len(kernel.nodes) for kernel in plan.kernels) >= 2900


def two_kernels() -> Plan:
    path = next(path for path in golden_files("plan_memory") if path.stem == "reuse")
    return planned(parse(golden_input(path)))


def test_kernels_out_of_order_are_found() -> None:
    plan = two_kernels()
    with pytest.raises(PlanError, match="no kernel before it stores"):
        verify_plan(replace(plan, kernels=plan.kernels[::-1]))


def test_shared_memory_is_found() -> None:
    plan = two_kernels()
    areas = tuple(area._replace(offset=0) for area in plan.areas)
    with pytest.raises(PlanError, match="share memory"):
        verify_plan(replace(plan, areas=areas))


def test_early_overwrite_is_found() -> None:
    path = next(path for path in golden_files("plan_memory") if path.stem == "old_value")
    plan = planned(parse(golden_input(path)))
    written = plan.kernels[0].outputs[0]
    with pytest.raises(PlanError, match="old value is still wanted"):
        verify_plan(replace(plan, buffers={**plan.buffers, written: Buffer("slot", 0)}))
