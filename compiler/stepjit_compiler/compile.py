"""The way of a step through the compiler, read from top to bottom."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from stepjit_compiler.ir import Step
from stepjit_compiler.lower.entry import emit_entry
from stepjit_compiler.lower.kernels import lower
from stepjit_compiler.lower.manifest import manifest_of
from stepjit_compiler.native import assembly, code_options, compile_module
from stepjit_compiler.options import current
from stepjit_compiler.passes.analyse import analyse
from stepjit_compiler.passes.early_checks import early_checks
from stepjit_compiler.passes.fuse import fuse
from stepjit_compiler.passes.part_swaps import part_swaps
from stepjit_compiler.passes.plan_memory import plan_memory
from stepjit_compiler.passes.simplify import simplify
from stepjit_compiler.plan_text import kernels_text, plan_text
from stepjit_compiler.step_text import to_text
from stepjit_compiler.verify import verify
from stepjit_compiler.verify_plan import verify_plan
from stepjit_runtime import memory_cache
from stepjit_runtime.executable import Program
from stepjit_runtime.link import Linked

CODE_VERSION = "2"
"""Raised by whoever changes the code that equal steps are compiled to."""


@dataclass
class _Stage:
    """What the pipeline has made so far."""

    step: Step
    facts: Any = None
    kernels: Any = None
    plan: Any = None
    codes: Any = None
    text: str = ""
    program: Program | None = None
    traced: bool = False


def _analyse(at: _Stage) -> None:
    at.facts = analyse(at.step)


def _fuse(at: _Stage) -> None:
    at.kernels = early_checks(at.step, fuse(at.step, at.facts))


def _plan_memory(at: _Stage) -> None:
    at.plan = plan_memory(at.step, at.kernels)
    if current().verify:
        verify_plan(at.plan)


def _lower(at: _Stage) -> None:
    at.codes = lower(at.plan)
    at.text = emit_entry(at.plan, at.codes, at.traced)


def _native(at: _Stage) -> None:
    at.program = Program(compile_module(at.text), manifest_of(at.plan, at.codes, at.text, at.traced))


PIPELINE: tuple[tuple[str, Callable[[_Stage], None], Callable[[_Stage], str]], ...] = (
    ("analyse", _analyse, lambda at: ""),
    ("fuse", _fuse, lambda at: kernels_text(at.step, at.kernels)),
    ("plan_memory", _plan_memory, lambda at: plan_text(at.plan)),
    ("lower", _lower, lambda at: at.text),
    ("native", _native, lambda at: assembly(at.text)),
)
"""(name, pass, its result as text), in order; `prune` and `simplify` come before: the key is of what they make."""


@dataclass(frozen=True)
class Compiled:
    """A step's program, linked into this process."""

    program: Program
    linked: Linked
    key: str
    fresh: bool
    """Whether it was compiled for this request."""
    seconds: float
    """What the request took, simplifying and looking up included."""
    origins: tuple[int, ...]
    """By origin in the manifest: the number of the graph op in the pruned step."""


def compile_step(pruned: Step, traced: bool = False) -> Compiled:
    """The program of a pruned step: from this process's cache when an equal step was compiled before.

    A traced one writes down when its kernels run (`stepjit_runtime/trace.py`).
    """
    started = time.perf_counter()
    step, origins = _numbered(_simplified(pruned))
    key = content_key(step, traced)
    made: list[Program] = []

    def make() -> Program:
        made.append(build(step, traced))
        return made[0]

    program, linked = memory_cache.CACHE.get(key, make)
    seconds = time.perf_counter() - started
    if made and "compile" in current().log:
        counts = f"{len(pruned.nodes)} ops, {len(step.nodes)} nodes, {len(program.manifest.hosts)} on the host"
        print(f"stepjit compile {key[:12]} {seconds * 1e3:.1f} ms: {counts}", file=sys.stderr)
    return Compiled(program, linked, key, bool(made), seconds, origins)


def build(step: Step, traced: bool = False) -> Program:
    """Compile a simplified step."""
    at = _Stage(step, traced=traced)
    for name, run, text in PIPELINE:
        run(at)
        if current().dumps(name):
            _dump(name, text(at))
    assert at.program is not None
    return at.program


def content_key(step: Step, traced: bool = False) -> str:
    """A digest of what decides the code: the step's text, the code generator's version, triple, CPU and features."""
    entries = (to_text(step, names=False), CODE_VERSION, *code_options(), *(["traced"] if traced else []))
    digest = hashlib.blake2b(digest_size=20)
    for entry in entries:
        digest.update(len(entry).to_bytes(8, "little") + entry.encode())
    return digest.hexdigest()


def _simplified(pruned: Step) -> Step:
    options = current()
    if options.dumps("prune"):
        _dump("prune", to_text(pruned))
    if options.verify:
        verify(pruned)
    step = part_swaps(simplify(pruned))
    if options.dumps("simplify"):
        _dump("simplify", to_text(step))
    if options.verify:
        verify(step)
    return step


def _numbered(step: Step) -> tuple[Step, tuple[int, ...]]:
    """The step with origins that follow from its text, and what they were.

    Equal steps of two graphs share a program, though the graphs may number their ops in different ways.
    """
    origins = [node.origin for node in step.nodes]
    nodes = tuple(replace(node, origin=i) for i, node in enumerate(step.nodes))
    first_slot = len(nodes)
    slots = tuple(replace(slot, origin=first_slot + k) for k, slot in enumerate(step.slots))
    first_check = first_slot + len(slots)
    checks = tuple(replace(check, origin=first_check + k) for k, check in enumerate(step.checks))
    origins += [slot.origin for slot in step.slots] + [check.origin for check in step.checks]
    names = tuple(step.names[origin] if 0 <= origin < len(step.names) else "" for origin in origins)
    return replace(step, nodes=nodes, slots=slots, checks=checks, names=names), tuple(origins)


def _dump(name: str, text: str) -> None:
    if text:
        print(f"--- {name} ---\n{text}", file=sys.stderr)
