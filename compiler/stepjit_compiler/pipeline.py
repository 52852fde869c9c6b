"""The way of a step through the compiler, read from top to bottom."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stepjit_compiler.ir import Step
from stepjit_compiler.lower.entry import emit_entry
from stepjit_compiler.lower.kernels import lower
from stepjit_compiler.lower.manifest import manifest_of
from stepjit_compiler.native import assembly, compile_module
from stepjit_compiler.options import current
from stepjit_compiler.passes.analyse import analyse
from stepjit_compiler.passes.early_checks import early_checks
from stepjit_compiler.passes.fuse import fuse
from stepjit_compiler.passes.part_swaps import part_swaps
from stepjit_compiler.passes.plan_memory import plan_memory
from stepjit_compiler.passes.plan_regions import plan_regions
from stepjit_compiler.passes.simplify import simplify
from stepjit_compiler.passes.simplify_regions import simplify_regions
from stepjit_compiler.passes.tell_regions import tell_regions
from stepjit_compiler.plan_text import kernels_text, plan_text
from stepjit_compiler.step_text import to_text
from stepjit_compiler.verify import verify
from stepjit_compiler.verify_plan import verify_plan
from stepjit_runtime.executable import Program


@dataclass
class Stage:
    """What the pipeline has made so far."""

    step: Step
    traced: bool = False
    facts: Any = None
    kernels: Any = None
    plan: Any = None
    codes: Any = None
    text: str = ""
    program: Program | None = None
    texts: dict[str, str] = field(default_factory=dict)


def simplified(step: Step) -> Step:
    """The step with less to do, inside regions and across their borders."""
    while True:
        step = simplify(step)
        less = simplify_regions(step)
        if less is step:
            return step
        step = less


def _simplify(at: Stage) -> None:
    at.step = tell_regions(part_swaps(simplified(at.step)))
    if current().verify:
        verify(at.step)


def _analyse(at: Stage) -> None:
    at.facts = analyse(at.step)


def _fuse(at: Stage) -> None:
    at.kernels = early_checks(at.step, fuse(at.step, at.facts))


def _plan_memory(at: Stage) -> None:
    at.plan = plan_regions(plan_memory(at.step, at.kernels))
    if current().verify:
        verify_plan(at.plan)


def _lower(at: Stage) -> None:
    at.codes = lower(at.plan)
    at.text = emit_entry(at.plan, at.codes, at.traced)


def _native(at: Stage) -> None:
    at.program = Program(compile_module(at.text), manifest_of(at.plan, at.codes, at.text, at.traced))


PIPELINE: tuple[tuple[str, Callable[[Stage], None], Callable[[Stage], str]], ...] = (
    ("prune", lambda at: None, lambda at: to_text(at.step)),
    ("simplify", _simplify, lambda at: to_text(at.step)),
    ("analyse", _analyse, lambda at: ""),
    ("fuse", _fuse, lambda at: kernels_text(at.step, at.kernels)),
    ("plan_memory", _plan_memory, lambda at: plan_text(at.plan)),
    ("lower", _lower, lambda at: at.text),
    ("native", _native, lambda at: assembly(at.text)),
)
"""(name, pass, its result as text), in order. `prune` comes first: the session runs it, as the key is of its result."""

STORED = ("prune", "simplify", "fuse", "plan_memory", "lower")
"""The passes whose results are kept beside the code, for people to look at."""


def run_passes(step: Step, traced: bool = False, texts: bool = False) -> Stage:
    """All passes in order, and, if asked for, what the stored ones made as `texts`."""
    at = Stage(step, traced)
    for name, run, text in PIPELINE:
        run(at)
        if texts and name in STORED:
            at.texts[name] = text(at)
        if current().dumps(name):
            _dump(name, at.texts.get(name) or text(at))
    return at


def _dump(name: str, text: str) -> None:
    if text:
        print(f"--- {name} ---\n{text}", file=sys.stderr)
