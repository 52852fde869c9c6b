"""A step of a session and its compiled variants: one per rank of its feeds and per set of extents that are 1."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from stepjit.explain import Explanation, ProgramReport
from stepjit.session.about import about_step
from stepjit.session.attempts import (
    GuessFailed,
    Record,
    ShapeFound,
    Shapes,
    current_record,
    first_guess,
    is_guess,
    probing,
    recording,
)
from stepjit.session.failures import extents_of, filled_in, op_error
from stepjit.session.feeds import convert_feed
from stepjit.session.host import host_function
from stepjit.session.streams import streams_of
from stepjit_compiler import dims, opdef
from stepjit_compiler.dims import Shape
from stepjit_compiler.ir import StepFailure, Type
from stepjit_compiler.passes.needed import StepError
from stepjit_compiler.passes.prune import Pruned, Request, prune
from stepjit_compiler.step_inference import NeedsShapeError, NeedsStaticError
from stepjit_runtime import abi, forking
from stepjit_runtime.cancellation import not_counted
from stepjit_runtime.dtypes import as_dtype
from stepjit_runtime.errors import FAILED_PRECONDITION, RESOURCE_EXHAUSTED, OpError, OpFailure
from stepjit_runtime.executable import Context, Executable, Layout
from stepjit_runtime.resources import Resources, Variable
from stepjit_runtime.step_callable import StepCallable, reenter

if TYPE_CHECKING:
    from stepjit.session.session import BaseSession

Signature = tuple["tuple[int | None, ...]", ...]
"""By feed, by axis: the extent where it is compiled in, None where it is a symbol."""

_COMPILING = forking.lock()

KEPT_VARIANTS = 16
"""Variants kept for one signature, each for other shapes of the variables."""


class Variant:
    """A step compiled for one signature and bound to its session."""

    __slots__ = ("executable", "guessed", "hosts", "key", "ops", "pruned_ops", "seconds", "source")

    def __init__(
        self, executable: Executable, ops: Sequence[Any], hosts: Sequence[Any], compiled: Any, pruned_ops: int
    ) -> None:
        self.executable, self.ops, self.hosts = executable, ops, hosts
        self.pruned_ops = pruned_ops
        self.guessed = any(is_guess(host, self._op(host.origin)) for host in executable.manifest.hosts)
        """Whether calls must go by `Binding`, as shapes may turn out to be others."""
        self.key: str = compiled.key
        self.seconds: float = compiled.seconds
        self.source: str = compiled.source

    def fail(self, number: int, at: Any, value: int, bound: int, *more: int) -> NoReturn:
        """A kernel's check failed; or, with number -1, memory ran out, and `at` is Python's error or None."""
        if number < 0:
            raise op_error(None, OpFailure(f"OOM when allocating memory for a step: {at}", RESOURCE_EXHAUSTED))
        failure = self.executable.manifest.failures[number]
        op = self._op(failure.origin)
        text = failure.told(op.name if op else "", at, value, bound, more)
        raise op_error(op, OpFailure(text, failure.code))

    def fail_check(self, number: int, arrays: Sequence[np.ndarray]) -> NoReturn:
        """A check of extents failed."""
        check = self.executable.manifest.checks[number]
        text = filled_in(check.message, extents_of([array.shape for array in arrays]))
        raise op_error(self._op(check.origin), OpFailure(text))

    def fail_uninitialised(self, number: int) -> NoReturn:
        op = self._op(self.executable.manifest.slots[number].origin)
        if op.type == "VarHandleOp":
            text = (
                f"Could not find variable {op.name}. This could mean that the variable has been deleted. "
                "In TF1, it can also mean the variable is uninitialized."
            )
        else:
            text = f"Attempting to use uninitialized value {op.name}"
        raise op_error(op, OpFailure(text, FAILED_PRECONDITION))

    def check_assigned(self, number: int) -> None:
        """A variable that the step only assigns may have another shape than the value: only while it holds nothing."""
        slot, variable = self.executable.manifest.slots[number], self.executable.variables[number]
        shape = tuple(map(_number, slot.dims))
        if variable is None or slot.reads or -1 in shape or variable.shape == shape:
            return
        if variable.initialised:
            shapes = f"lhs shape= {opdef.show(variable.shape)} rhs shape= {opdef.show(shape)}"
            text = f"Assign requires shapes of both tensors to match. {shapes}"
            raise op_error(self._op(slot.origin), OpFailure(text))
        variable.reserve(shape)

    def _op(self, origin: int) -> Any:
        return self.ops[origin] if 0 <= origin < len(self.ops) else None


@contextmanager
def collected_later() -> Iterator[None]:
    """Keep the garbage collector from looking through the graph again and again while many small objects are made."""
    was_on = gc.isenabled()
    try:
        gc.disable()
        if was_on:
            forking.undo_in_children(gc.enable)
        yield
    finally:
        if was_on:
            gc.enable()
            forking.undo_in_children(None)


class SessionStep:
    """What one set of fetches, targets and feeds means in a session; compiled as signatures come up."""

    traced = False

    def __init__(
        self, session: BaseSession, fetches: tuple[Any, ...], targets: tuple[Any, ...], feeds: tuple[Any, ...]
    ) -> None:
        self.session, self.fetches, self.targets, self.feeds = session, fetches, targets, feeds
        self.variants: dict[Signature, Variant] = {}
        self._others: dict[Signature, list[Variant]] = {}
        """By signature: variants for other shapes of variables than they have now."""
        self._static: set[str] = set()
        """Symbols that the step can only be compiled for as numbers."""
        self._told: dict[Any, Shapes] = {}
        """By op of which only the running step knows the results' ranks: their shapes as found last."""
        self.done: Collection[Any] = ()
        self.refs: Mapping[Any, Any] = {}
        """Of a stage: what ran before it, and what references from there refer to (see `Request`)."""

    def convert(self, values: Sequence[Any]) -> list[np.ndarray]:
        return list(map(convert_feed, self.feeds, values, repeat(self.session._resources.tensors)))

    def signature(self, shapes: Sequence[tuple[int, ...]]) -> Signature:
        found = []
        for j, (tensor, shape) in enumerate(zip(self.feeds, shapes, strict=True)):
            known = tensor.dims or (None,) * len(shape)
            found.append(
                tuple(
                    extent if fixed is not None or extent == 1 or f"s{j}_{axis}" in self._static else None
                    for axis, (fixed, extent) in enumerate(zip(known, shape, strict=True))
                )
            )
        return tuple(found)

    def static_signature(self) -> Signature | None:
        """The signature, where the graph alone decides it."""
        shapes = [tensor.dims for tensor in self.feeds]
        if any(shape is None or None in shape for shape in shapes):
            return None
        return self.signature([shape for shape in shapes if shape is not None])

    def variant(self, shapes: Sequence[tuple[int, ...]], guessing: bool = False) -> Variant:
        """The variant for feeds of these shapes; compiled if need be.

        guessing: GuessFailed for an error that may come of a wrong guess.
        """
        while True:
            # Other threads may add to both meanwhile.
            told, static = tuple(self._told.items()), frozenset(self._static)
            signature: Any = self.signature(shapes) + told
            found = self._fitting(signature)
            if found is not None:
                return found
            try:
                with not_counted(), _COMPILING, collected_later():
                    # Another thread may have asked for the same, or ended the session.
                    found = self._fitting(signature)
                    if found is None:
                        self.session._check_open()
                        found = self._compile(signature[: len(shapes)], shapes, dict(told))
                        self._put(signature, found)
                        self.session._count_variant(self)
                return found
            except NeedsShapeError as error:
                op = error.op
                if op is None or op in dict(told):
                    raise op_error(op, OpFailure(str(error))) from None
                self._told.setdefault(op, first_guess(op))
            except OpError as error:
                if guessing and told:
                    raise GuessFailed(error, told) from None
                raise
            except NeedsStaticError as error:
                if not error.symbols or error.symbols <= static:
                    raise op_error(None, OpFailure(str(error))) from None
                self._static |= error.symbols

    def tell(self, found: ShapeFound) -> None:
        """Go by other shapes from now on."""
        self._told[found.op] = found.shapes

    def _fitting(self, signature: Any) -> Variant | None:
        """The variant of the signature for the shapes that variables have now."""
        found = self.variants.get(signature)
        if found is None or not self._outdated(found):
            return found
        for other in self._others.get(signature, ()):
            if not self._outdated(other):
                self._put(signature, other)
                return other
        return None

    def _put(self, signature: Any, variant: Variant) -> None:
        """Have a variant stand for its signature; those that did before are kept for when variables change back."""
        before = self.variants.get(signature)
        if before is not None:
            kept = [each for each in (*self._others.get(signature, ()), before) if each is not variant]
            self._others[signature] = kept[-KEPT_VARIANTS:]
        self.variants[signature] = variant

    def _outdated(self, variant: Variant) -> bool:
        """Whether a variable has another shape than the variant was compiled for."""
        for slot, variable in zip(variant.executable.manifest.slots, variant.executable.variables):
            if variable is not None and slot.reads and variable.shape != tuple(map(_number, slot.dims)):
                return True
        return False

    def _compile(
        self, signature: Signature, shapes: Sequence[tuple[int, ...]], told: Mapping[Any, Shapes]
    ) -> Variant:
        from stepjit_compiler.compile import compile_step

        types = tuple(
            Type(
                tensor.dtype.base_dtype,
                tuple(dims.symbol(f"s{j}_{a}") if extent is None else extent for a, extent in enumerate(shape)),
            )
            for j, (tensor, shape) in enumerate(zip(self.feeds, signature, strict=True))
        )
        request = Request(
            self.fetches, self.targets, self.feeds, types, self._variable_shape, told, self.done, self.refs
        )
        try:
            pruned = prune(request)
        except StepError as error:
            raise op_error(error.op, self._filled(error.failure, shapes)) from None
        self.session._placement.place(self.session._graph, pruned.ops)
        try:
            compiled = compile_step(pruned.step, self.traced, about_step(self, pruned.ops, signature))
        except NeedsShapeError as error:
            error.op = pruned.ops[error.origin] if error.origin >= 0 else None
            raise
        except StepFailure as error:
            op = pruned.ops[error.origin] if error.origin >= 0 else None
            raise op_error(op, self._filled(error.failure, shapes)) from None
        self.session._count_compile(compiled)
        return self._bind(pruned, compiled)

    @staticmethod
    def _filled(failure: OpFailure, shapes: Sequence[tuple[int, ...]]) -> OpFailure:
        return OpFailure(filled_in(failure.message, extents_of(shapes)), failure.code)

    def _bind(self, pruned: Pruned, compiled: Any) -> Variant:
        resources, manifest = self.session._resources, compiled.program.manifest
        ops = [pruned.ops[origin] if origin >= 0 else None for origin in compiled.origins]
        variables = [_variable(resources, slot, ops) for slot in manifest.slots]
        streams = streams_of(manifest.slots, [ops[slot.origin] for slot in manifest.slots], resources)
        executable = Executable(compiled.linked, manifest, resources, variables, streams)
        guessed = any(is_guess(host, ops[host.origin] if host.origin >= 0 else None) for host in manifest.hosts)
        hosts = [
            host_function(host, ops, resources, variables, manifest.slots, guessed, session=self.session)
            for host in manifest.hosts
        ]
        return Variant(executable, ops, hosts, compiled, len(pruned.ops))

    def _variable_shape(self, op: Any) -> Shape | None:
        variable = _find_variable(self.session._resources, op, None)
        return variable.shape if variable.initialised else None


def _number(text: str) -> int:
    return int(text) if text.lstrip("-").isdigit() else -1


def _variable(resources: Resources, slot: Any, ops: Sequence[Any]) -> Variable | None:
    if slot.kind != "variable":
        return None
    shape = tuple(map(_number, slot.dims))
    return _find_variable(resources, ops[slot.origin], shape if -1 not in shape else None, slot.dtype)


def _find_variable(resources: Resources, op: Any, shape: tuple[int, ...] | None, dtype: str | None = None) -> Variable:
    name = (op.attrs.get("shared_name") or op.name.encode()).decode()
    container = (op.attrs.get("container") or b"").decode()
    return resources.variable(name, as_dtype(dtype or op.attrs["dtype"]).base_dtype, shape, container)


class Binding:
    """One callable of a step, with the layout of its results; what native code can't do ends up in `slow`."""

    def __init__(self, step: SessionStep, layout: Layout, exact: bool = True) -> None:
        self.step, self.layout, self.exact = step, layout, exact
        self.callable = StepCallable(self.slow, self.explain)
        self._attached: set[int] = set()
        self._contexts: dict[int, Context] = {}
        """By id of a variant, which the context keeps."""
        self._shorter: dict[int, Binding] = {}
        self._guesses: dict[int, StepCallable] = {}
        """By id of a variant that has guessed shapes."""
        self._strings = any(tensor.dtype.kind == "s" for tensor in step.feeds)

    def prepare(self) -> None:
        """Compile at once what the graph alone decides."""
        signature = self.step.static_signature()
        if signature is not None:
            try:
                variant = self.step.variant([tuple(e for e in shape if e is not None) for shape in signature], True)
            except GuessFailed:
                return  # a call will find out
            self._attach(variant)

    def _attach(self, variant: Variant) -> StepCallable:
        """What to call to run the variant."""
        key = id(variant)
        if variant.guessed:
            return self._guesses.get(key) or self._guesses.setdefault(key, self._guess(variant))
        if key not in self._attached:
            self._attached.add(key)
            context = self._contexts.get(key) or self._contexts.setdefault(key, self._context(variant))
            self.callable.attach(context)
        return self.callable

    def _guess(self, variant: Variant) -> StepCallable:
        """A callable of its own: users' calls must not reach the variant but by `slow`."""
        made = StepCallable(self.slow)
        made.attach(self._context(variant))
        return made

    def _context(self, variant: Variant) -> Context:
        return variant.executable.context(self.slow, variant.fail, variant.hosts, self.layout)

    def explain(self) -> Explanation:
        """What was compiled for the step so far."""
        programs = []
        for variant in list(self.step.variants.values()):
            executable = variant.executable
            programs.append(
                ProgramReport(
                    executable.manifest,
                    variant.ops,
                    variant.pruned_ops,
                    variant.seconds,
                    variant.source,
                    variant.key,
                    executable.arena_bytes,
                )
            )
        return Explanation(self.step.session.graph.version, tuple(programs))

    def slow(self, reason: int, args: tuple[Any, ...], names: tuple[str, ...] | None) -> Any:
        """Convert, compile, wait or raise; then call again."""
        step = self.step
        step.session._check_open()
        if names:
            raise TypeError(f"a step takes its feeds by position, not by name: {', '.join(names)}")
        if len(args) != len(step.feeds):
            return self._other_count(args)
        arrays = step.convert(args)
        if reason & 255 == abi.FEED and not self._strings:
            # The feed that was refused first tells whether a conversion was all that was missing.
            number = reason >> 8
            if arrays[number] is not args[number]:
                return self.callable(*arrays)
        record = current_record()
        while True:
            try:
                variant = step.variant([array.shape for array in arrays], guessing=True)
            except GuessFailed as failed:
                record = record or Record()
                self._find_out(failed, arrays, record)
                continue
            callable_ = self._attach(variant)
            if variant.guessed:
                record = record or Record()
                result = self._try(callable_, arrays, record)
            else:
                result = reenter(callable_, arrays)
            if type(result) is not int:
                return result
            self._refused(result & 255, result >> 8, variant, arrays)

    def _try(self, callable_: StepCallable, arrays: Sequence[np.ndarray], record: Record) -> Any:
        """Call by guessed shapes; abi.COLD when they are others."""
        record.rewind()
        try:
            with recording(record):
                return reenter(callable_, arrays)
        except ShapeFound as found:
            record.note(found)
            if record.probed is found.op:
                raise
            self.step.tell(found)
            return abi.COLD

    def _find_out(self, failed: GuessFailed, arrays: Sequence[np.ndarray], record: Record) -> None:
        """Learn a shape that a failed compile only guessed; raise its error when all were true."""
        for op, shapes in failed.told:
            if op not in record.found and op.graph is self.step.session.graph:  # not one in a loop's body
                self._probe(op, arrays, record)
            if record.found.get(op, shapes) != shapes:
                self.step.tell(ShapeFound(op, record.found[op]))
                return
        raise failed.error

    def _probe(self, op: Any, arrays: Sequence[np.ndarray], record: Record) -> None:
        """Run the step up to the op; nothing is written."""
        step = SessionStep(self.step.session, (), (op,), self.step.feeds)
        step.done, step.refs = self.step.done, self.step.refs
        step._told.update(self.step._told)
        try:
            with probing(record, op):
                Binding(step, Layout(abi.PACK_LIST)).callable(*arrays)
        except ShapeFound as found:
            if found.op is not op:
                raise

    def _refused(self, reason: int, number: int, variant: Variant, arrays: Sequence[np.ndarray]) -> None:
        if reason == abi.BUSY:
            try:
                self.step.session._resources.wait(any(slot.writes for slot in variant.executable.manifest.slots))
            except OpFailure as failure:
                raise op_error(None, failure) from None
        elif reason == abi.SLOT_UNINITIALISED:
            variant.fail_uninitialised(number)
        elif reason == abi.CHECK:
            variant.fail_check(number, arrays)
        elif reason == abi.CLOSED:
            self.step.session._check_open()
        elif reason == abi.SLOT_LAYOUT:
            # A variable changed its shape: begin anew with variants for the shapes of today.
            variant.check_assigned(number)
            self.callable.detach()
            self._attached.clear()
            self._guesses.clear()
        elif reason not in (abi.COLD, abi.FEED):
            raise AssertionError(f"a converted call was refused: {reason}")
        elif reason == abi.FEED:
            raise AssertionError(f"converted feed {number} was refused")

    def _other_count(self, args: tuple[Any, ...]) -> Any:
        """More arguments than feeds are left over; fewer leave the rest of the feeds out."""
        step = self.step
        if self.exact:
            raise TypeError(f"this step takes {len(step.feeds)} positional arguments, but {len(args)} were given")
        if len(args) > len(step.feeds):
            return self.callable(*args[: len(step.feeds)])
        if len(args) not in self._shorter:
            fewer = SessionStep(step.session, step.fetches, step.targets, step.feeds[: len(args)])
            self._shorter[len(args)] = Binding(fewer, self.layout)
        return self._shorter[len(args)].callable(*args)
