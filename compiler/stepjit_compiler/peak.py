"""How fast this machine can be, measured: the most multiply-adds and the most bytes read in a second, by one thread."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from stepjit_compiler.cache_key import environment
from stepjit_compiler.native import compile_module
from stepjit_runtime.link import link

SIZES = (32 << 10, 256 << 10, 4 << 20, 64 << 20)
"""Bytes of the data that is read, powers of two: about those of the caches, and more than they hold."""

_ACCUMULATORS = 12
"""As many sums as it takes to keep two multiply-add units busy."""
_LOADS = 8
"""Vectors read per turn of a loop."""
_SHORTEST_NS = 2_000_000
_TRIES = 5


@dataclass(frozen=True)
class Peak:
    """The machine's limits."""

    flops: float
    """Operations on float32 per second, a multiply-add counting as two; half as many on float64."""
    bandwidths: tuple[tuple[int, float], ...]
    """(size of the data, bytes read per second), ascending."""

    def bandwidth(self, size: int) -> float:
        """Bytes per second from the nearest memory that holds so many bytes."""
        return next((speed for most, speed in self.bandwidths if size <= most), self.bandwidths[-1][1])

    def seconds(self, flops: int, size: int, dtype_bytes: int = 4) -> float:
        """The least time in which so many operations can be done on so many bytes."""
        return max(flops / self.flops * max(1.0, dtype_bytes / 4), size / self.bandwidth(size))


@lru_cache(maxsize=1)
def peak() -> Peak:
    """This machine's, measured at the first call, which takes some 0.3 s."""
    lanes = _lanes()
    linked = link(compile_module(_text(lanes)), ())
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    multiply_add, read = prototype(linked.step), prototype(linked.run)
    data = np.ones(SIZES[-1] + 64, np.uint8)
    start = data.ctypes.data + -data.ctypes.data % 64
    turns = 100_000
    flops = 2 * lanes * _ACCUMULATORS * turns / _fastest(lambda: multiply_add(start, turns, 0)) * 1e9
    block = _LOADS * lanes * 4
    blocks = SIZES[-2] // block

    def speed(size: int) -> float:
        turns = max(blocks, size // block)
        return block * turns / _fastest(lambda: read(start, turns, size // block - 1)) * 1e9

    bandwidths = [(size, speed(size)) for size in SIZES]
    return Peak(flops, tuple(bandwidths))


def _fastest(run: Callable[[], None]) -> float:
    """Nanoseconds of one run, the best of several tries."""
    best = float("inf")
    for _ in range(_TRIES):
        started = time.perf_counter_ns()
        count = 0
        while (passed := time.perf_counter_ns() - started) < _SHORTEST_NS or not count:
            run()
            count += 1
        best = min(best, passed / count)
    return best


def _lanes() -> int:
    """float32 numbers in the machine's widest vector."""
    entries = environment()
    features = {feature.removeprefix("+") for feature in entries["features"].split(",")}
    return 16 if "avx512f" in features else 8 if "avx" in features or "x86" in entries["triple"] else 4


def _text(lanes: int) -> str:
    """A module of two functions under the names that are linked: `step` multiplies and adds, `run` reads."""
    vector = f"<{lanes} x float>"
    fma = f"@llvm.fma.v{lanes}f32"
    half = "splat (float 0.5)"
    ones = range(_ACCUMULATORS)
    carried = [f"  %a{k} = phi {vector} [ {half}, %entry ], [ %b{k}, %turn ]" for k in ones]
    steps = [f"  %b{k} = call {vector} {fma}({vector} %a{k}, {vector} {half}, {vector} {half})" for k in ones]
    sums = [f"  %s{k + 1} = fadd {vector} {'%s' + str(k) if k else half}, %b{k}" for k in ones]
    loads = []
    for k in range(_LOADS):
        loads += [
            f"  %p{k} = getelementptr {vector}, ptr %at, i64 {k}",
            f"  %x{k} = load {vector}, ptr %p{k}, align {4 * lanes}",
            f"  %d{k} = bitcast {vector} %x{k} to <{lanes} x i32>",
            f"  %r{k} = or <{lanes} x i32> %q{k}, %d{k}",
        ]
    at = f"  %at = getelementptr <{_LOADS * lanes} x float>, ptr %data, i64 %block"
    taken = [f"  %q{k} = phi <{lanes} x i32> [ zeroinitializer, %entry ], [ %r{k}, %turn ]" for k in range(_LOADS)]
    merged = [f"  %m{k + 1} = or <{lanes} x i32> {'%m' + str(k) if k else '%r0'}, %r{k}" for k in range(_LOADS)]
    return "\n".join([
        f"declare {vector} {fma}({vector}, {vector}, {vector})",
        *_loop("step", [*carried], steps, [*sums, f"  store {vector} %s{_ACCUMULATORS}, ptr %data"]),
        *_loop(
            "run",
            taken,
            ["  %block = and i64 %i, %mask", at, *loads],
            [*merged, f"  %sum = call i32 @llvm.vector.reduce.or.v{lanes}i32(<{lanes} x i32> %m{_LOADS})",
             "  call void asm sideeffect \"\", \"r\"(i32 %sum)"],
        ),
        f"declare i32 @llvm.vector.reduce.or.v{lanes}i32(<{lanes} x i32>)",
    ])  # fmt: skip


def _loop(name: str, carried: list[str], body: list[str], after: list[str]) -> list[str]:
    """A function of (data, turns, mask) that runs the body for each %i."""
    return [
        f"define void @{name}(ptr %data, i64 %turns, i64 %mask) {{",
        "entry:",
        "  br label %turn",
        "turn:",
        "  %i = phi i64 [ 0, %entry ], [ %i1, %turn ]",
        *carried,
        *body,
        "  %i1 = add i64 %i, 1",
        "  %more = icmp slt i64 %i1, %turns",
        "  br i1 %more, label %turn, label %done",
        "done:",
        *after,
        "  ret void",
        "}",
    ]
