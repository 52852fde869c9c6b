"""Random steps, compiled and run natively, against the interpreter: results, variables, feeds left alone."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from native_steps import Failed, Refused
from random_regions import RegionGrower
from random_steps import Grower, RandomStep

from stepjit.session.host import host_function
from stepjit_compiler.compile import compile_step
from stepjit_compiler.interpret import interpret
from stepjit_compiler.ir import Step, StepFailure
from stepjit_compiler.options import options
from stepjit_compiler.pipeline import simplified
from stepjit_compiler.step_text import parse, to_text
from stepjit_runtime.errors import OpError
from stepjit_runtime.executable import Executable
from stepjit_runtime.resources import Resources
from stepjit_runtime.step_callable import StepCallable

EXTENTS = (0, 2, 3, 17)
TOLERANCE = {"float32": 3e-4, "float64": 1e-10}


class Native:
    """A step compiled and bound to variables."""

    def __init__(self, grown: RandomStep) -> None:
        with options(verify=True):
            compiled = compile_step(grown.step)
        manifest = compiled.program.manifest
        resources = Resources()
        self.variables = [
            resources.variable(f"v{k}", t.dtype, tuple(map(int, t.dims)))  # type: ignore[arg-type]
            for k, t in enumerate(grown.slots)
        ]
        origins = [compiled.origins[slot.origin] for slot in manifest.slots]
        self.bound = [self.variables[origin - 1001] for origin in origins]
        self.executable = Executable(compiled.linked, manifest, resources, self.bound)
        hosts = [
            host_function(host, [None] * 100_000, resources, self.bound, manifest.slots) for host in manifest.hosts
        ]
        self.call = StepCallable(self.slow)
        self.call.attach(self.executable.context(self.slow, self.fail, hosts))

    def slow(self, reason: int, args: Any, names: Any) -> Any:
        raise Refused(reason & 255, reason >> 8)

    def fail(self, *facts: int) -> Any:
        raise Failed(*facts)

    def run(self, feeds: list[np.ndarray], slots: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        for variable, value in zip(self.variables, slots, strict=True):
            variable.assign(value)
        results = self.call(*feeds)
        return results, [variable.read() for variable in self.variables]


def compare(got: np.ndarray, want: np.ndarray, what: str) -> None:
    if got.size == want.size == 0:
        # Rows of a loop that made no trip: extents that only a trip tells may be known where they left the loop.
        assert (got.ndim, got.dtype) == (want.ndim, want.dtype), what
        return
    assert (got.shape, got.dtype) == (want.shape, want.dtype), what
    if want.dtype.kind == "f":
        tolerance = TOLERANCE[want.dtype.name]
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=10 * tolerance, err_msg=what)
    else:
        np.testing.assert_array_equal(got, want, err_msg=what)


def meaning(step: Step, feeds: list[np.ndarray], slots: list[np.ndarray]) -> Any:
    """What the interpreter makes of the step; where that fails, of what is left of it when it is simplified.

    In regions there may be values that nobody takes, and that fail.
    """
    try:
        return interpret(step, feeds, slots)
    except StepFailure:
        return interpret(simplified(step), feeds, slots)


def check(grown: RandomStep, native: Native, extents: dict[str, int], seed: int, special: bool) -> None:
    feeds, slots = grown.arrays(extents, seed, special)
    before = [feed.copy() for feed in feeds]
    with np.errstate(all="ignore"):
        try:
            want, written = meaning(grown.step, feeds, slots)
        except StepFailure:
            with pytest.raises((Failed, Refused, OpError)):
                native.run(feeds, slots)
            for variable, value in zip(native.variables, slots, strict=True):
                np.testing.assert_array_equal(variable.read(), value, err_msg="a failed step changed a variable")
            return
    want_slots = [np.asarray(written.get(k, value)) for k, value in enumerate(slots)]
    got, got_slots = native.run(feeds, slots)
    for k, (g, w) in enumerate(zip(got, want, strict=True)):
        compare(g, w, f"fetch {k}")
    for k, (g, w) in enumerate(zip(got_slots, want_slots, strict=True)):
        compare(g, w, f"slot {k}")
    for k, (now, then) in enumerate(zip(feeds, before, strict=True)):
        np.testing.assert_array_equal(now, then, err_msg=f"feed {k} was written")


def run_seed(seed: int, length: int = 18, grower: type[Grower] = Grower) -> None:
    """Grow the step of a seed and run it for several extents and values."""
    known = [{}, {}, {"n": 1}, {"n": 3}, {"n": 17, "m": 2}, {"m": 1}, {"n": 0}][seed % 7]
    grown = grower(seed, known).grow(length)
    native, at = None, {}
    try:
        native = Native(grown)
        for k in range(3):
            at = {"n": EXTENTS[(seed + k) % 4], "m": EXTENTS[(seed // 4 + 2 * k) % 4]}
            check(grown, native, at, 10 * seed + k, special=seed % 5 == 4)
    except Exception as error:
        raise AssertionError(f"seed {seed}, length {length}, extents {at}\n{to_text(grown.step)}") from error


FOUND = {
    "replaced before it was read": """
        slot 0 : variable f32[3]
        feed 0 : f32[4,3]
        %0 = _Feed {index=0} : f32[4,3]
        %1 = Neg %0 {T=f32} : f32[4,3]
        %2 = Unpack %1 {T=f32, axis=0, num=4} : f32[3], f32[3], f32[3], f32[3]
        %3 = _Read {slot=0} : f32[3]
        %4 = Sub %2:1, %3 {T=f32} : f32[3]
        fetch %4
        write 0 = %2:2
    """,
    "a shape that was computed after its use": """
        feed 0 : f32[4,5]
        feed 1 : bool[4]
        %0 = _Feed {index=0} : f32[4,5]
        %1 = _Feed {index=1} : bool[4]
        %2 = Where %1 {T=bool} : i64[h1,1]
        %3 = Squeeze %2 {T=i64, squeeze_dims=(1)} : i64[h1]
        %4 = Const {dtype=i32, value=<i32[] 0>} : i32[]
        %5 = GatherV2 %0, %3, %4 {Taxis=i32, Tindices=i64, Tparams=f32, batch_dims=0} : f32[h1,5]
        %6 = Const {dtype=i32, value=<i32[2] 0 4>} : i32[2]
        %7 = Const {dtype=i32, value=<i32[2] -1 1>} : i32[2]
        %8 = Slice %5, %6, %7 {Index=i32, T=f32} : f32[h1,1]
        %9 = Maximum %8, %5 {T=f32} : f32[h1,5]
        %10 = Shape %3 {T=i64, out_type=i32} : i32[1]
        %11 = Reshape %8, %10 {T=f32, Tshape=i32} : f32[h1]
        %12 = Neg %11 {T=f32} : f32[h1]
        fetch %9, %12
    """,
    "a result allocated before its extents were known": """
        feed 0 : f32[0,0]
        feed 1 : bool[0]
        %0 = _Feed {index=0} : f32[0,0]
        %1 = Neg %0 {T=f32} : f32[0,0]
        %2 = _Feed {index=1} : bool[0]
        %3 = Where %2 {T=bool} : i64[h1,1]
        %4 = Shape %3 {T=i64, out_type=i32} : i32[2]
        %5 = Const {dtype=i32, value=<i32[2] 0 1>} : i32[2]
        %6 = Mul %4, %5 {T=i32} : i32[2]
        %7 = Shape %3 {T=i64, out_type=i32} : i32[2]
        %8 = Reshape %1, %7 {T=f32, Tshape=i32} : f32[h1,1] host
        fetch %8, %6
    """,
    "no row updates": """
        feed 0 : f32[5,0]
        feed 1 : i32[2]
        feed 2 : f32[2,0]
        %0 = _Feed {index=0} : f32[5,0]
        %1 = _Feed {index=1} : i32[2]
        %2 = _Feed {index=2} : f32[2,0]
        %3 = _ScatterRows %0, %1, %2 {T=f32, Tindices=i32, kind=b'add'} : f32[5,0]
        fetch %3
    """,
}
"""Steps that were wrong once, by what was wrong."""


@pytest.mark.parametrize("name", FOUND)
def test_found_step(name: str) -> None:
    step = parse(textwrap.dedent(FOUND[name]).strip() + "\n")
    slots = tuple(replace(slot, origin=1001 + k) for k, slot in enumerate(step.slots))
    step = replace(step, slots=slots)
    feeds = [(t.dtype, tuple(map(int, t.dims)), 4) for t in step.feeds]  # type: ignore[arg-type]
    grown = RandomStep(step, list(feeds), [slot.type for slot in slots])
    check(grown, Native(grown), {}, 1, special=False)


@pytest.mark.parametrize("seed", range(150))
def test_random_step(seed: int) -> None:
    run_seed(seed)


@pytest.mark.parametrize("seed", range(150))
def test_random_step_with_regions(seed: int) -> None:
    run_seed(seed, 12, RegionGrower)
