"""C: baselines.c, compiled by the machine's compiler as an extension module when the worker starts."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sysconfig
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.plain import PlainPeer
from benchmarks.workloads.base import Arrays, Call, Workload

FLAGS = ("-O3", "-march=native", "-fopenmp-simd", "-fno-math-errno", "-shared", "-fPIC")


def _compile(name: str, *more: str) -> Any:
    source = Path(__file__).parent.parent / "baselines.c"
    compiler = os.environ.get("CC", "cc")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / f"{name}.so"
        includes = [f"-I{sysconfig.get_paths()['include']}", f"-I{np.get_include()}"]
        command = [compiler, *FLAGS, *more, f"-DMODULE={name}", *includes, str(source), "-o", str(library), "-lm"]
        subprocess.run(command, check=True, capture_output=True)
        spec = importlib.util.spec_from_file_location(name, library)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


class Peer(PlainPeer):
    """Workloads written in C; `fast` is the same source under -ffast-math, with the vector math library."""

    def __init__(self, name: str) -> None:
        self._libraries = {"c": _compile("baselines")}
        # Where there is no vector math library, the plain build stands alone.
        with contextlib.suppress(subprocess.CalledProcessError, ImportError):
            self._libraries["fast"] = _compile("baselines_fast", "-ffast-math", "-lmvec")

    def about(self) -> str:
        """The compiler's first line of version."""
        command = [os.environ.get("CC", "cc"), "--version"]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return f"{out.splitlines()[0]} {' '.join(FLAGS[:4])}"

    def functions(self, workload: Workload, inputs: Arrays) -> Mapping[str, Call]:
        """See PlainPeer."""
        return {
            (way if way == "c" else f"c_{way}"): call
            for way, library in self._libraries.items()
            for call in workload.c(library, inputs).values()
        }
