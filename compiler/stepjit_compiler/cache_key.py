"""What a program's key is made of, by name: the step's text, and all else that decides the code it becomes.

Nothing of it depends on names, ids, paths, file times or the order of hashes, so equal steps have equal keys in all
processes, and on all machines with the same CPU features.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import stepjit_compiler
import stepjit_runtime
from stepjit_compiler.ir import Step
from stepjit_compiler.options import current
from stepjit_compiler.step_text import to_text
from stepjit_runtime import abi, cache_entry, forking
from stepjit_runtime.cache_folder import Folder, Refused

_TUNING = ("fast-", "slow-", "prefer-", "false-deps", "tuning", "branchfusion", "macrofusion", "idivl", "idivq", "pad-")
"""How features start that say what is quick on a CPU, not what it can do."""
_FACTS = ".facts"
_FOUND = ("code", "abi", "llvmlite", "llvm", "triple", "features", "python", "numpy")

_lock = forking.lock()
_environment: dict[str, str] | None = None


def key_entries(step: Step, traced: bool = False) -> dict[str, str]:
    """All that decides the code of a step, by name; the step first, as its canonical text."""
    options = {"traced": str(traced), "skipped rules": ",".join(sorted(current().skip))}
    return {"step": to_text(step, names=False), **options, **environment()}


def content_key(entries: Mapping[str, str]) -> str:
    """The digest of the entries, 40 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=20)
    for name, value in sorted(entries.items()):
        for text in (name, value):
            digest.update(len(text).to_bytes(8, "little") + text.encode())
    return digest.hexdigest()


def environment(folder: str | None = None) -> dict[str, str]:
    """The entries that are the same for all steps of a process.

    To find them takes loading LLVM and reading the compiler's source, so they are kept in `folder`, if one is given,
    for as long as the files and the CPU that they follow from are the same.
    """
    global _environment
    with _lock:
        if _environment is None:
            _environment = _remembered(folder) if folder else _found()
        return _environment


def enabled_features(features: str) -> str:
    """Of LLVM's `+avx,-avx2,...` what the CPU can do, sorted, without what only tunes."""
    names = (feature[1:] for feature in features.split(",") if feature.startswith("+"))
    return ",".join(sorted(name for name in names if not name.startswith(_TUNING)))


def _found() -> dict[str, str]:
    import llvmlite
    import numpy as np

    from stepjit_compiler.native import target_facts

    triple, features, llvm = target_facts()
    return {
        "code": _source_digest(), "abi": abi.VERSION, "llvmlite": llvmlite.__version__, "llvm": llvm,
        "triple": triple, "features": enabled_features(features), "python": sys.implementation.cache_tag or "",
        "numpy": f"abi {np.lib.NumpyVersion(np.__version__).major}",
    }  # fmt: skip


# --- Short cut ----------------------------------------------------------------------------------------------------


def _remembered(path: str) -> dict[str, str]:
    key = _identity()
    if key is None:
        return _found()
    name = key + _FACTS
    with suppress(Refused, OSError):
        folder = Folder(path)
        with suppress(Refused):
            header, _ = cache_entry.unpack(folder.read(name))
            facts = header.get("facts")
            if header.get("key") == key and isinstance(facts, dict) and facts.keys() == set(_FOUND):
                return {entry: str(value) for entry, value in facts.items()}
        facts = _found()
        folder.write(name, cache_entry.pack({"key": key, "facts": facts}, {}), replace=True)
        return facts
    return _found()


def _identity() -> str | None:
    """A digest of what the environment follows from, quick to take; None where the system does not tell of its CPU."""
    import llvmlite
    import numpy as np

    try:
        with open("/proc/cpuinfo", "rb", buffering=0) as file:
            cpu = file.read(4096).split(b"\n\n")[0]
        library = os.stat(os.path.join(os.path.dirname(llvmlite.__file__), "binding"))
    except OSError:
        return None
    fixed = [line for line in cpu.splitlines() if line.startswith((b"flags", b"Features", b"model name", b"vendor_id"))]
    parts: list[Any] = [fixed, os.uname().machine, sys.version, llvmlite.__version__, library.st_mtime_ns]
    parts += [np.__version__, abi.VERSION]
    for name, item in _sources():
        info = item.stat()
        parts += [name, info.st_size, info.st_mtime_ns]
    return hashlib.blake2b(repr(parts).encode(), digest_size=20).hexdigest()


# --- Source -------------------------------------------------------------------------------------------------------


def _sources() -> Iterator[tuple[str, os.DirEntry[str]]]:
    """The files that decide what code a step becomes, by their names in the packages, sorted."""
    found = []
    for package in (stepjit_compiler, stepjit_runtime):
        pending = [(package.__name__, os.path.dirname(os.path.abspath(package.__file__ or "")))]
        while pending:
            name, path = pending.pop()
            with os.scandir(path) as items:
                for item in items:
                    if item.name.endswith(".py"):
                        found.append((f"{name}/{item.name}", item))
                    elif item.name != "__pycache__" and item.is_dir():
                        pending.append((f"{name}/{item.name}", item.path))
    yield from sorted(found, key=lambda each: each[0])


def _source_digest() -> str:
    """So no one has to remember to raise a version: other source, other programs."""
    digest = hashlib.blake2b(digest_size=10)
    for name, item in _sources():
        with open(item.path, "rb") as file:
            text = file.read().replace(b"\r\n", b"\n")
        digest.update(f"{name} {len(text)}\n".encode() + text)
    return digest.hexdigest()
