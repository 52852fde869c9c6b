"""What is stored of a compiled step beside its code: who asked for it, what it cost, its forms between the passes."""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stepjit_compiler import cache_key
from stepjit_compiler.ir import Step
from stepjit_compiler.native import cpu_name
from stepjit_compiler.options import current
from stepjit_runtime import disk_cache, link, support
from stepjit_runtime.disk_cache import DiskCache
from stepjit_runtime.executable import Program

SUPPORT = "helpers"
"""What the helpers' entry is named in place of fetches."""


@dataclass(frozen=True)
class About:
    """A step in the user's words: for reports, no part of what it means."""

    fetches: tuple[str, ...] = ()
    feeds: tuple[str, ...] = ()
    graph_ops: int = 0
    ops: int = 0
    """Ops of the graph that the step needs."""
    line: str = ""
    """Where the user asked for it."""
    version: str = ""
    """Of the front end that asked."""
    why: str = ""
    """Why it was compiled: `first`, or what differs from the variants before."""


def cache() -> DiskCache | None:
    """The disk cache that the options name; None when they say that there is none."""
    options = current()
    path = folder(options.cache)
    if path is None:
        return None
    found = disk_cache.at(path, options.cache_bytes)
    cache_key.environment(found.path)
    return found


def folder(chosen: str) -> str | None:
    """The whole path of the folder that was chosen; the user's own for an empty choice, None for `off`."""
    if chosen == "off":
        return None
    return os.path.abspath(os.path.expanduser(chosen)) if chosen else disk_cache.default_path()


def header(entries: Mapping[str, str], step: Step, about: About, program: Program, seconds: float) -> dict[str, Any]:
    """What `stepjit cache list` reads, and the key's entries but for the step itself."""
    manifest = program.manifest
    made_of = {name: value for name, value in entries.items() if name != "step"}
    return {
        "entries": made_of,
        "costs": {"compile_seconds": seconds},
        "name": _name(about),
        "fetches": list(about.fetches),
        "feeds": [
            [name, type_.dtype, ",".join(type_.dims)]
            for name, type_ in zip(about.feeds or [f"feed {k}" for k in range(len(step.feeds))], manifest.feeds)
        ],
        "counts": {
            "graph ops": about.graph_ops, "ops": about.ops, "nodes": manifest.counts["nodes"],
            "kernels": len(manifest.kernels), "host ops": len(manifest.hosts), "object": len(program.object_code),
        },
        "made": {
            "time": time.time(), "by": os.path.basename(sys.argv[0]) if sys.argv else "", "line": about.line,
            "cpu": cpu_name(), "version": about.version,
        },
    }  # fmt: skip


def _name(about: About) -> str:
    return about.fetches[0] if about.fetches else "nothing"


def sections(texts: Mapping[str, str]) -> dict[str, bytes]:
    """The step's forms by the names of passes, as the entry's section `report`."""
    return {"report": zlib.compress(json.dumps(texts).encode(), 3)}


def report(section: bytes | memoryview) -> dict[str, str]:
    """What `sections` stored; ValueError for anything else."""
    try:
        found = json.loads(zlib.decompress(section))
    except zlib.error as error:
        raise ValueError(f"no report: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("no report")
    return {str(name): str(text) for name, text in found.items()}


def prepare_helpers(found: DiskCache) -> None:
    """Take the helpers that steps call from the cache too: compiling them costs more than loading a step."""
    from stepjit_runtime.manifest import Manifest

    if link.has_support():
        return
    entries = {"step": support.text(), **cache_key.environment()}
    key = cache_key.content_key(entries)
    program = found.get(key, entries)
    if program is None:
        started = time.perf_counter()
        empty = Manifest((), (), (), (), (), (), (), (), (), "0", "0", {"nodes": 0})
        program = Program(link.support_object(), empty)
        about = About(fetches=(SUPPORT,))
        nothing = Step((), (), ())
        found.put(key, program, header(entries, nothing, about, program, time.perf_counter() - started), {})
    link.provide_support(program.object_code)
