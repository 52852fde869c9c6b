"""Steps built by hand, compiled, run natively and compared with the interpreter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepjit_compiler import dims
from stepjit_compiler.compile import compile_step
from stepjit_compiler.dims import Shape
from stepjit_compiler.interpret import interpret
from stepjit_compiler.ir import Step, Type
from stepjit_compiler.options import options
from stepjit_compiler.step_builder import StepBuilder
from stepjit_runtime.dtypes import as_dtype
from stepjit_runtime.executable import Executable
from stepjit_runtime.resources import Resources
from stepjit_runtime.step_callable import StepCallable


class Refused(Exception):
    """Native code handed the call to Python."""


class Failed(Exception):
    """A kernel's check failed: failure, at, value, bound."""


def build(arrays: Sequence[np.ndarray], make: Callable[..., Any], symbolic: bool, space: Sequence[int] = ()) -> Step:
    """A step over feeds of the arrays' types; with `symbolic`, extents other than 1 are symbols where equal by axis 0.

    space: axes of the first feed that are symbols too.
    """
    types = []
    for j, array in enumerate(arrays):
        shape: Shape = tuple(
            dims.symbol(f"s{j}_{a}") if symbolic and (a == 0 or (j == 0 and a in space)) and extent != 1 else extent
            for a, extent in enumerate(array.shape)
        )
        types.append(Type(as_dtype(array.dtype), shape))
    builder = StepBuilder(types)
    made = make(builder, *[builder.feed(j) for j in range(len(types))])
    return builder.finish(made if isinstance(made, list) else [made])


def native(step: Step) -> Callable[..., list[np.ndarray]]:
    """The step as a native function that returns its fetches as a list."""
    with options(verify=True):
        compiled = compile_step(step)
    manifest = compiled.program.manifest
    assert not manifest.hosts, [host.op for host in manifest.hosts]

    def slow(reason: int, args: Any, names: Any) -> None:
        raise Refused(reason & 255, reason >> 8)

    def fail(*facts: int) -> None:
        raise Failed(*facts)

    executable = Executable(compiled.linked, manifest, Resources(), [None] * len(manifest.slots))
    call = StepCallable(slow)
    call.attach(executable.context(slow, fail))
    return call


def check(
    arrays: Sequence[np.ndarray], make: Callable[..., Any], symbolic: bool = False, rtol: float = 1e-5,
    space: Sequence[int] = (),
) -> None:  # fmt: skip
    """Native results equal the interpreter's: shapes and dtypes exactly, floats to `rtol`."""
    step = build(arrays, make, symbolic, space)
    before = [array.copy() for array in arrays]
    with np.errstate(all="ignore"):
        want, _ = interpret(step, list(arrays), [])
    got = native(step)(*arrays)
    for array, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, old)
    for g, w in zip(got, want, strict=True):
        assert (g.shape, g.dtype) == (w.shape, w.dtype)
        if w.dtype.kind == "f":
            np.testing.assert_allclose(g, w, rtol=rtol, atol=rtol)
        else:
            np.testing.assert_array_equal(g, w)
