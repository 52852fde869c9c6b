"""`stepjit cache doctor`: the machine, LLVM, the cache's folder and its file system, and what is wrong with them."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

from stepjit.cache.entries import entries, is_foreign, is_stale
from stepjit.cli.cache_commands import print_json
from stepjit.cli.columns import size
from stepjit_compiler.cache_key import environment
from stepjit_compiler.options import current
from stepjit_runtime import elf, memory_cache
from stepjit_runtime.cache_folder import Folder, Refused

NETWORK = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs", "lustre")
"""File systems on which files may take long, or be seen late by others."""


def doctor(options: argparse.Namespace, path: str) -> int:
    """Print what is found; 1 when something is wrong."""
    facts = {"machine": _machine(), "versions": _versions(), "cache": _cache(path), "limits": _limits()}
    problems = list(_problems(path))
    if options.json:
        print_json({**facts, "problems": problems})
        return int(bool(problems))
    for title, section in facts.items():
        print(title)
        for name, value in section.items():
            print(f"  {name:<20}{value}")
    print("problems" if problems else "no problems found")
    for problem in problems:
        print(f"  {problem}")
    return int(bool(problems))


def _machine() -> dict[str, Any]:
    import llvmlite.binding as llvm

    here = environment()
    return {
        "cpu": llvm.get_host_cpu_name(), "triple": here["triple"], "features": here["features"].replace(",", " "),
        "processors": _processors(), "linker": "own" if elf.is_known() else "LLVM's JIT",
    }  # fmt: skip


def _processors() -> str:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{usable} usable of {os.cpu_count()}"


def _versions() -> dict[str, Any]:
    import platform

    import ml_dtypes
    import numpy as np

    import stepjit

    here = environment()
    return {
        "stepjit": stepjit.__version__, "its code": here["code"], "Python": platform.python_version(),
        "numpy": np.__version__, "llvmlite": here["llvmlite"], "LLVM": here["llvm"].removeprefix("llvm "),
        "ml_dtypes": ml_dtypes.__version__, "BLAS": _blas(),
    }  # fmt: skip


def _blas() -> str:
    import importlib.metadata

    try:
        return f"OpenBLAS {importlib.metadata.version('scipy-openblas64')}, called for large products"
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _cache(path: str) -> dict[str, Any]:
    found: dict[str, Any] = {"folder": path, "file system": file_system(path) or "unknown"}
    place = path
    while not os.path.exists(place) and os.path.dirname(place) != place:
        place = os.path.dirname(place)
    found["free"] = size(shutil.disk_usage(place).free)
    try:
        held = entries(Folder(path, create=False))
    except Refused as refused:
        found["entries"] = "none yet" if refused.reason == "absent" else f"not usable: {refused}"
        return found
    here = environment()
    sound = [entry for entry in held if not entry.problem]
    found["entries"] = f"{len(held)}, {size(sum(entry.bytes for entry in held))} of {size(current().cache_bytes)}"
    found["stale"] = sum(is_stale(entry, here) for entry in sound)
    found["for other CPUs"] = sum(is_foreign(entry, here) for entry in sound)
    return found


def _limits() -> dict[str, Any]:
    found: dict[str, Any] = {
        "programs in memory": f"{memory_cache.MOST_PROGRAMS}, {size(memory_cache.MOST_BYTES)}",
        "cache on disk": size(current().cache_bytes),
    }
    if sys.platform == "linux":
        with open("/proc/sys/vm/max_map_count") as file:
            found["memory maps"] = file.read().strip()
    return found


def _problems(path: str) -> Iterator[str]:
    try:
        folder = Folder(path, create=False)
    except Refused as refused:
        if refused.reason != "absent":
            yield f"the cache's folder is not used: {refused}"
        elif not _can_make(path):
            yield f"the cache's folder can't be made: {path}"
        return
    if not os.access(path, os.W_OK):
        yield f"the cache's folder is read-only: steps that are not in it are compiled in each process ({path})"
    bad = [entry for entry in entries(folder) if entry.problem]
    if bad:
        yield f"{len(bad)} entries can't be read ({bad[0].problem}); `stepjit cache verify --fix` deletes them"
    if file_system(path) in NETWORK:
        yield f"the cache is on a network file system ({file_system(path)}): STEPJIT_CACHE can name a local folder"
    if shutil.disk_usage(path).free < current().cache_bytes:
        yield "there is less room on the disk than the cache may take (STEPJIT_CACHE_BYTES)"


def _can_make(path: str) -> bool:
    parent = os.path.dirname(path)
    while not os.path.exists(parent) and os.path.dirname(parent) != parent:
        parent = os.path.dirname(parent)
    return os.path.isdir(parent) and os.access(parent, os.W_OK)


def file_system(path: str) -> str:
    """The kind of file system that the path is on, as Linux names it; empty where the system does not tell."""
    real, best = os.path.realpath(path), ("", "")
    try:
        with open("/proc/self/mounts") as file:
            for line in file:
                _, where, kind, *_ = line.split()
                inside = real == where or real.startswith(where.rstrip("/") + "/")
                if inside and len(where) >= len(best[0]):
                    best = (where, kind)
    except OSError:
        return ""
    return best[1]
