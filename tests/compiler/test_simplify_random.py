"""simplify on random steps: the same bits by the interpreter before and after, and a step that verifies."""

from __future__ import annotations

import random

import numpy as np
import pytest
from step_tools import outcome

from stepjit_compiler import dims
from stepjit_compiler.ir import Ref, Step, Type
from stepjit_compiler.passes.simplify import simplify
from stepjit_compiler.step_builder import StepBuilder
from stepjit_compiler.step_text import literals, parse, to_text
from stepjit_compiler.verify import verify
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType

BINARY = ("AddV2", "Sub", "Mul", "Maximum", "Minimum")
UNARY = ("Neg", "Abs", "Square", "Identity", "ZerosLike", "OnesLike")
NUMBERS = (0.0, -0.0, 1.0, -1.0, 2.0, 3.0, 0.5)


class RandomStep:
    """Grows a step over values of shapes that broadcast with one another."""

    def __init__(self, seed: int, dtype: DType) -> None:
        self.random, self.dtype = random.Random(seed), dtype
        n = dims.symbol("s0_0")
        feeds = [Type(dtype, (n, 4)), Type(dtype, (4,)), Type(dtype, (1, 4)), Type(dtype, ())]
        self.b = StepBuilder(feeds)
        self.values = [self.b.feed(i, i) for i in range(len(feeds))]

    def constant(self) -> Ref:
        shape = self.random.choice([(), (1,), (4,), (1, 4)])
        numbers = self.random.choices(NUMBERS, k=4) if self.random.random() < 0.3 else [self.random.choice(NUMBERS)] * 4
        return self.b.const(np.resize(numbers, shape).astype(self.dtype.np), self.dtype)

    def operand(self) -> Ref:
        return self.constant() if self.random.random() < 0.35 else self.random.choice(self.values[-6:])

    def value(self) -> Ref:
        kind, x = self.random.random(), self.operand()
        if kind < 0.55:
            return self.b.op(self.random.choice(BINARY), x, self.operand())  # type: ignore[no-any-return]
        if kind < 0.8:
            return self.b.op(self.random.choice(UNARY), x)  # type: ignore[no-any-return]
        if kind < 0.9:
            condition = self.b.op("Less", self.operand(), self.operand())
            return self.b.op("SelectV2", condition, x, self.operand())  # type: ignore[no-any-return]
        shape = self.b.op("Shape", self.random.choice(self.values))
        zeros = self.b.op("Fill", shape, self.b.const(self.random.choice(NUMBERS), self.dtype))
        return self.b.op("AddV2", zeros, x)  # type: ignore[no-any-return]

    def build(self, length: int) -> Step:
        for i in range(length):
            self.b.origin = 10 + i
            self.values.append(self.value())
        fetches = self.random.sample(self.values[4:], 3)
        return self.b.finish([*fetches, self.b.op("Shape", fetches[0])])


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.int32], ids=lambda dtype: dtype.code)
@pytest.mark.parametrize("seed", range(40))
def test_random_step(seed: int, dtype: DType) -> None:
    step = RandomStep(seed, dtype).build(25)
    verify(step)
    simple = simplify(step)
    verify(simple)
    assert outcome(simple) == outcome(step), f"{to_text(step)}\n{to_text(simple)}"
    assert len(simple.nodes) <= len(step.nodes)
    assert to_text(simplify(simple)) == to_text(simple)
    assert parse(to_text(simple), literals(simple)) == simple
