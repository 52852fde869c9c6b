"""From a pruned step to linked code: out of memory, off the disk, or through the pipeline of passes."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace

from stepjit_compiler import store
from stepjit_compiler.cache_key import content_key, key_entries
from stepjit_compiler.ir import Step, StepFailure
from stepjit_compiler.options import current
from stepjit_compiler.regions import CONTROL, with_regions
from stepjit_compiler.step_inference import NeedsShapeError
from stepjit_compiler.store import About
from stepjit_runtime import memory_cache
from stepjit_runtime.disk_cache import DiskCache
from stepjit_runtime.executable import Program
from stepjit_runtime.link import Linked, LinkError

NOTHING_KNOWN = About()


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
        from stepjit_compiler.verify import verify

        verify(step)
    cache = store.cache()
    entries = key_entries(step, traced)
    request = _Request(step, traced, about, cache, content_key(entries), entries)
    try:
        program, linked = _fetched(request)
    except (StepFailure, NeedsShapeError) as error:
        error.origin = origins[error.origin] if error.origin >= 0 else -1
        raise
    seconds = time.perf_counter() - started
    if request.source != "memory":
        _log(request, program, seconds)
    return Compiled(program, linked, request.key, request.source, seconds, origins)


def _fetched(request: _Request) -> tuple[Program, Linked]:
    try:
        return memory_cache.CACHE.get(request.key, request.make)
    except LinkError as error:
        if request.source != "disk" or request.cache is None:
            raise
        request.cache.refuse(request.key, "link", str(error))
        request.compile_anew = True
        return memory_cache.CACHE.get(request.key, request.make)


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
    compile_anew: bool = False

    def make(self) -> Program:
        cache = self.cache
        if cache is not None:
            store.prepare_helpers(cache)
            found = None if self.compile_anew else cache.get(self.key, self.entries)
            if found is not None:
                self.source = "disk"
                return found
        # A process whose steps are all cached never loads the passes.
        from stepjit_compiler.pipeline import run_passes

        self.source = "compiler"
        started = time.perf_counter()
        at = run_passes(self.step, self.traced, texts=cache is not None)
        assert at.program is not None
        if cache is not None:
            seconds = time.perf_counter() - started
            head = store.header(self.entries, self.step, self.about, at.program, seconds)
            cache.put(self.key, at.program, head, store.sections({**at.texts, "step": self.entries["step"]}))
        return at.program


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
    nodes = [node.changed(origin=first + i) for i, node in enumerate(step.nodes)]
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
