"""The way of a step through the compiler, read from top to bottom."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from stepjit_compiler import store
from stepjit_compiler.cache_key import content_key, key_entries
from stepjit_compiler.ir import Step, StepFailure
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
from stepjit_compiler.plan_text import kernels_text, plan_text
from stepjit_compiler.regions import CONTROL, with_regions
from stepjit_compiler.step_builder import NeedsShapeError
from stepjit_compiler.step_text import to_text
from stepjit_compiler.store import About
from stepjit_compiler.verify import verify
from stepjit_compiler.verify_plan import verify_plan
from stepjit_runtime import memory_cache
from stepjit_runtime.disk_cache import DiskCache
from stepjit_runtime.executable import Program
from stepjit_runtime.link import Linked

NOTHING_KNOWN = About()


@dataclass
class _Stage:
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


def _simplify(at: _Stage) -> None:
    at.step = part_swaps(simplify(at.step))
    if current().verify:
        verify(at.step)


def _analyse(at: _Stage) -> None:
    at.facts = analyse(at.step)


def _fuse(at: _Stage) -> None:
    at.kernels = early_checks(at.step, fuse(at.step, at.facts))


def _plan_memory(at: _Stage) -> None:
    at.plan = plan_regions(plan_memory(at.step, at.kernels))
    if current().verify:
        verify_plan(at.plan)


def _lower(at: _Stage) -> None:
    at.codes = lower(at.plan)
    at.text = emit_entry(at.plan, at.codes, at.traced)


def _native(at: _Stage) -> None:
    at.program = Program(compile_module(at.text), manifest_of(at.plan, at.codes, at.text, at.traced))


PIPELINE: tuple[tuple[str, Callable[[_Stage], None], Callable[[_Stage], str]], ...] = (
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


@dataclass(frozen=True)
class Compiled:
    """A step's program, linked into this process."""

    program: Program
    linked: Linked
    key: str
    source: str
    """Where it came from: `memory`, `disk`, or `compiler`."""
    seconds: float
    """What the request took, looking up included."""
    origins: tuple[int, ...]
    """By origin in the manifest: the number of the graph op in the pruned step."""

    @property
    def fresh(self) -> bool:
        """Whether it was compiled for this request."""
        return self.source == "compiler"


def compile_step(pruned: Step, traced: bool = False, about: About = NOTHING_KNOWN) -> Compiled:
    """The program of a pruned step: from memory or disk when an equal step was compiled before.

    A traced one writes down when its kernels run (`stepjit_runtime/trace.py`). Raises StepFailure when the step can't
    run at all.
    """
    started = time.perf_counter()
    step, origins = _numbered(pruned)
    if current().verify:
        verify(step)
    cache = store.cache()
    entries = key_entries(step, traced)
    request = _Request(step, traced, about, cache, content_key(entries), entries)
    try:
        program, linked = memory_cache.CACHE.get(request.key, request.make)
    except (StepFailure, NeedsShapeError) as error:
        error.origin = origins[error.origin] if error.origin >= 0 else -1
        raise
    seconds = time.perf_counter() - started
    if request.source != "memory":
        _log(request, program, seconds)
    return Compiled(program, linked, request.key, request.source, seconds, origins)


@dataclass
class _Request:
    """A program that is not in memory."""

    step: Step
    traced: bool
    about: About
    cache: DiskCache | None
    key: str
    entries: dict[str, str]
    source: str = "memory"

    def make(self) -> Program:
        cache = self.cache
        if cache is not None:
            store.prepare_helpers(cache)
            found = cache.get(self.key, self.entries)
            if found is not None:
                self.source = "disk"
                return found
        self.source = "compiler"
        started = time.perf_counter()
        at = run_passes(self.step, self.traced, texts=cache is not None)
        assert at.program is not None
        if cache is not None:
            seconds = time.perf_counter() - started
            head = store.header(self.entries, self.step, self.about, at.program, seconds)
            cache.put(self.key, at.program, head, store.sections({**at.texts, "step": self.entries["step"]}))
        return at.program


def run_passes(step: Step, traced: bool = False, texts: bool = False) -> _Stage:
    """All passes in order, and, if asked for, what the stored ones made as `texts`."""
    at = _Stage(step, traced)
    for name, run, text in PIPELINE:
        run(at)
        if texts and name in STORED:
            at.texts[name] = text(at)
        if current().dumps(name):
            _dump(name, at.texts.get(name) or text(at))
    return at


def _log(request: _Request, program: Program, seconds: float) -> None:
    """A line for a compile, or a program read from disk: `stepjit compile 1a2b3c4d5e6f 41.3 ms: ...`."""
    what, about = ("compile" if request.source == "compiler" else "cache"), request.about
    if what not in current().log:
        return
    counts = f"{len(request.step.nodes)} ops, {program.manifest.counts['nodes']} nodes"
    words = [counts, f"{len(program.manifest.hosts)} on the host", about.why, about.line and f"at {about.line}"]
    text = ", ".join(filter(None, words))
    print(f"stepjit {what} {request.key[:12]} {seconds * 1e3:.1f} ms: {text}", file=sys.stderr)


def _numbered(step: Step) -> tuple[Step, tuple[int, ...]]:
    """The step with origins that follow from its text, and what they were.

    Equal steps of two graphs share a program, though the graphs may number their ops in different ways.
    """
    origins: list[int] = []
    numbered = _renumbered(step, origins)
    names = tuple(step.names[origin] if 0 <= origin < len(step.names) else "" for origin in origins)
    return replace(numbered, names=names), tuple(origins)


def _renumbered(step: Step, origins: list[int]) -> Step:
    """The step with origins counted from len(origins) on: of its nodes, slots and checks, then of regions."""
    first = len(origins)
    origins += [node.origin for node in step.nodes]
    nodes = [replace(node, origin=first + i) for i, node in enumerate(step.nodes)]
    first = len(origins)
    origins += [slot.origin for slot in step.slots]
    slots = tuple(replace(slot, origin=first + k) for k, slot in enumerate(step.slots))
    first = len(origins)
    origins += [check.origin for check in step.checks]
    checks = tuple(replace(check, origin=first + k) for k, check in enumerate(step.checks))
    for i, node in enumerate(nodes):
        if node.op in CONTROL:
            nodes[i] = with_regions(node, lambda name, region: _renumbered(region, origins))
    return replace(step, nodes=tuple(nodes), slots=slots, checks=checks)


def _dump(name: str, text: str) -> None:
    if text:
        print(f"--- {name} ---\n{text}", file=sys.stderr)
