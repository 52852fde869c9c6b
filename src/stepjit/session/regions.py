"""Branches and loops that Python drives, because shapes change in them: every region is a program of its own.

A region's program is compiled for what its parameters are at first: for extents of 1, and for any other extents. So a
loop whose variables grow compiles once or twice, and calls into native code twice per trip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from stepjit.session.failures import extents_of, filled_in, op_error
from stepjit_compiler import dims
from stepjit_compiler.dims import Extent
from stepjit_compiler.ir import Check, Step, StepFailure, Type
from stepjit_compiler.passes.rebuild import rebuild
from stepjit_compiler.regions import retyped, stacked
from stepjit_compiler.step_builder import StepBuilder
from stepjit_compiler.step_text import parse
from stepjit_runtime import abi
from stepjit_runtime.dtypes import as_dtype
from stepjit_runtime.errors import INTERNAL, OpFailure
from stepjit_runtime.executable import Executable
from stepjit_runtime.manifest import HostOp, TypeText
from stepjit_runtime.random_stream import RandomStream
from stepjit_runtime.resources import Resources
from stepjit_runtime.step_callable import StepCallable, reenter

Bind = Callable[[HostOp, Sequence[Any]], Callable[..., Any]]
"""Makes the function of a host op; its graph ops are by origin."""


def driven(
    host: HostOp, ops: Sequence[Any], resources: Resources, bind: Bind, streams: Mapping[int, RandomStream]
) -> Callable[..., list[np.ndarray]]:
    """The function that runs a `_If` or a `_While` over arrays; `streams` are those of the step, by slot."""
    regions = {
        name: _Region(parse(value["text"], value["literals"]), ops, resources, bind, streams)
        for name, value in host.attrs.items()
        if isinstance(value, dict)
    }
    if host.op == "_If":
        return lambda condition, *values: regions["then" if condition else "else"](values)
    return _Loop(host, regions["cond"], regions["body"], resources)


class _Loop:
    """A loop in Python around two programs."""

    def __init__(self, host: HostOp, cond: _Region, body: _Region, resources: Resources) -> None:
        self.host, self.cond, self.body, self.resources = host, cond, body, resources

    def __call__(self, *values: np.ndarray) -> list[np.ndarray]:
        variables, rows = list(values), []
        while self.cond(variables)[0]:
            self.resources.cancellation.check()
            found = self.body(variables)
            variables = found[: len(values)]
            rows.append(found[len(values) :])
        types = self.host.outputs[len(values) :]
        if not rows:
            return [*variables, *(self._no_rows(type_, values) for type_ in types)]
        return [*variables, *(stacked([row[k] for row in rows]) for k in range(len(types)))]

    def _no_rows(self, type_: TypeText, values: Sequence[np.ndarray]) -> np.ndarray:
        known = {
            text: have
            for each, array in zip(self.host.inputs, values, strict=True)
            for text, have in zip(each.dims, array.shape)
        }
        extents = [dims.parse(text) for text in type_.dims[1:]]
        row = [dims.evaluate(extent, known) if dims.symbols(extent) <= known.keys() else 0 for extent in extents]
        return np.zeros((0, *row), as_dtype(type_.dtype).np)


class _Region:
    """A step inside a node, compiled for the shapes that come up."""

    def __init__(
        self, step: Step, ops: Sequence[Any], resources: Resources, bind: Bind, streams: Mapping[int, RandomStream]
    ) -> None:
        self.step, self.ops, self.resources, self.bind, self.streams = step, ops, resources, bind, streams
        self._programs: dict[tuple[tuple[int | None, ...], ...], _Program] = {}

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        signature = tuple(
            tuple(
                have if isinstance(extent, int) or have == 1 else None for extent, have in zip(type_.dims, array.shape)
            )
            for type_, array in zip(self.step.feeds, arrays, strict=True)
        )
        program = self._programs.get(signature)
        if program is None:
            program = self._programs[signature] = _Program(self, signature, arrays)
        return program(arrays)


class _Program:
    """A region compiled for one signature, and bound to the session."""

    def __init__(
        self, region: _Region, signature: Sequence[Sequence[int | None]], arrays: Sequence[np.ndarray]
    ) -> None:
        from stepjit_compiler.compile import compile_step

        self.resources = region.resources
        try:
            compiled = compile_step(_over(region.step, signature))
        except StepFailure as error:
            self._fail(region.ops, error.origin, error.failure, arrays)
        self.ops = [region.ops[origin] if origin >= 0 else None for origin in compiled.origins]
        self.manifest = compiled.program.manifest
        self.dtypes = [as_dtype(result.dtype).np for result in self.manifest.results]
        executable = Executable(compiled.linked, self.manifest, region.resources, streams=region.streams)
        hosts = [region.bind(host, self.ops) for host in self.manifest.hosts]
        self.callable = StepCallable(self._refuse)
        self.callable.attach(executable.context(self._refuse, self._failed, hosts))

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        found = reenter(self.callable, arrays)
        if type(found) is int:
            self._refused(found & 255, found >> 8, arrays)
        # Results without dimensions are scalars, strings among them bytes.
        return [np.asarray(each, dtype) for each, dtype in zip(found, self.dtypes, strict=True)]

    def _refused(self, reason: int, number: int, arrays: Sequence[np.ndarray]) -> NoReturn:
        if reason == abi.CHECK:
            check = self.manifest.checks[number]
            self._fail(self.ops, check.origin, OpFailure(check.message), arrays)
        self.resources.cancellation.check()
        raise OpFailure(f"a region refused its parameters: reason {reason}, number {number}", INTERNAL)

    def _failed(self, number: int, at: int, value: int, bound: int, *more: int) -> NoReturn:
        failure = self.manifest.failures[number]
        op = self.ops[failure.origin] if failure.origin >= 0 else None
        text = failure.told(op.name if op else "", at, value, bound, more)
        self._fail(self.ops, failure.origin, OpFailure(text, failure.code), ())

    @staticmethod
    def _fail(ops: Sequence[Any], origin: int, failure: OpFailure, arrays: Sequence[np.ndarray]) -> NoReturn:
        text = filled_in(failure.message, extents_of([array.shape for array in arrays])) if arrays else failure.message
        raise op_error(ops[origin] if origin >= 0 else None, OpFailure(text, failure.code)) from None

    def _refuse(self, reason: int, args: Any, names: Any) -> NoReturn:
        raise AssertionError(f"a region's program is only entered by `reenter`: {reason}")


def _over(region: Step, signature: Sequence[Sequence[int | None]]) -> Step:
    """The region as a step of its own, over feeds of that signature."""
    feeds: list[Type] = []
    names: dict[str, Extent] = {}
    for j, (type_, shape) in enumerate(zip(region.feeds, signature, strict=True)):
        extents = tuple(dims.symbol(f"s{j}_{a}") if extent is None else extent for a, extent in enumerate(shape))
        feeds.append(Type(type_.dtype, extents))
        for was, now in zip(type_.dims, extents, strict=True):
            names.setdefault(str(was), now)
    # What was known of the feeds' extents holds still: several may be one, or follow from others.
    equal = [
        Check("eq", now, dims.substitute(was, names), "the extents of a region's parameters do not agree", -1)
        for type_, feed in zip(region.feeds, feeds, strict=True)
        for was, now in zip(type_.dims, feed.dims, strict=True)
    ]
    told = {name for feed in feeds for extent in feed.dims for name in dims.symbols(extent)}
    checks = tuple(check for check in equal if check.a != check.b and dims.symbols(check.b) <= told)
    inside = retyped(region, feeds, names)
    return rebuild(replace(inside, checks=(*checks, *inside.checks)), StepBuilder(feeds))
