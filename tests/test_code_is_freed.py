"""Code that is no longer used leaves the process: memory and maps after many compiles, and after many loads."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import numpy as np
import pytest

import stepjit.compat.v1 as tf
from stepjit_compiler.options import options
from stepjit_runtime import elf, memory_cache
from stepjit_runtime.link import link

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is told of in /proc")


def memory() -> tuple[float, int]:
    """Resident kB, and the number of memory maps."""
    gc.collect()
    maps = Path("/proc/self/maps").read_text().count("\n")
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4.0, maps


def compile_once(number: int) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 4])
        total = tf.reduce_sum(tf.tanh(x * float(number)))
        session.run(total, {x: np.ones((3, 4), np.float32)})
    memory_cache.CACHE.clear()


def test_compiled_steps_are_freed() -> None:
    with options(cache="off"):
        for number in range(10):
            compile_once(number + 1)
        before, maps = memory()
        for number in range(30):
            compile_once(number + 100)
        after, maps_now = memory()
    assert (after - before) / 30 < 100
    assert maps_now - maps <= 3


@pytest.mark.skipif(not elf.is_known(), reason="LLVM's JIT keeps some of each object")
def test_loaded_code_is_freed() -> None:
    with options(cache="off"), tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 4])
        memory_cache.CACHE.clear()
        session.run(tf.nn.softmax(tf.matmul(x, x, transpose_b=True)), {x: np.ones((3, 4), np.float32)})
        (entry,) = (each for each in memory_cache.CACHE._entries.values() if each.program is not None)
    program = entry.program
    assert program is not None
    for _ in range(50):
        link(program.object_code, program.manifest.imports)
    before, maps = memory()
    for _ in range(500):
        link(program.object_code, program.manifest.imports)
    after, maps_now = memory()
    assert (after - before) / 500 < 10
    assert maps_now <= maps
