"""What an op is: its schema as in TF's OpDef, shape rule, numpy reference, lowering and traits; and the registry.

A family file under `ops/` holds one `define(...)` section per op type. `infer` serves the graph (unknown extents are
None) and the compiler (they are `Dim`s) alike: it computes with whatever extents it is given, through `Inference`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from stepjit_compiler.dims import Dim, Extent
from stepjit_runtime import dtypes
from stepjit_runtime.cached_property import cached_property
from stepjit_runtime.dtypes import DType
from stepjit_runtime.errors import INVALID_ARGUMENT, OpFailure

ShapeLike = tuple[Extent | None, ...] | None
"""A shape whose extents may be unknown (None), or None when even the rank is."""

FLOATS = (dtypes.float32, dtypes.float64, dtypes.float16, dtypes.bfloat16)
INTEGERS = (
    dtypes.int32, dtypes.int64, dtypes.int8, dtypes.int16, dtypes.uint8, dtypes.uint16, dtypes.uint32, dtypes.uint64,
)  # fmt: skip
COMPLEX = (dtypes.complex64, dtypes.complex128)
REALS = FLOATS + INTEGERS
NUMBERS = REALS + COMPLEX
INDICES = (dtypes.int32, dtypes.int64)
NATIVE = frozenset((dtypes.float32, dtypes.float64, dtypes.bool_, *INTEGERS))
"""The dtypes that generated code computes with; ops on others run on the host."""

_TYPE_SETS = {"float": FLOATS, "int": INTEGERS, "complex": COMPLEX, "real": REALS, "number": NUMBERS, "index": INDICES}


@dataclass(frozen=True, slots=True)
class Arg:
    """One input or output of an op: `dtype` fixed, or named by `type_attr`; `count_attr` for N of one type."""

    name: str
    dtype: DType | None = None
    type_attr: str | None = None
    count_attr: str | None = None
    list_attr: str | None = None
    """The attr holding a list of types, for heterogeneous lists."""
    is_ref: bool = False


@dataclass(frozen=True, slots=True)
class Attr:
    """One attribute: `type` in TF's words (`type`, `int`, `shape`, `list(int)`, ...), and its default if it has one."""

    name: str
    type: str
    default: Any = None
    optional: bool = False
    allowed: tuple[Any, ...] | None = None


class Call:
    """One use of an op, as its reference and lowering see it."""

    __slots__ = ("attrs", "dtypes", "name", "types")

    def __init__(self, name: str, attrs: Mapping[str, Any], out: Sequence[DType], types: Sequence[Any] = ()) -> None:
        self.name, self.attrs = name, attrs
        self.dtypes = tuple(out)
        """The outputs' dtypes."""
        self.types = tuple(types)

    def fail(self, message: str, code: int = INVALID_ARGUMENT) -> NoReturn:
        """End the step with an error of this op; `message` is the kernel's text."""
        raise OpFailure(message, code)


class Inference:
    """What a shape rule may ask. The graph and the compiler each derive one; extents are int, Dim or None."""

    __slots__ = ("attrs", "dtypes", "op")

    op: str
    attrs: Mapping[str, Any]
    dtypes: Sequence[DType]
    """The inputs' dtypes."""
    building = False
    """Whether the graph is being built; much of what kernels ask for is only looked at when they run."""

    def shape(self, i: int) -> ShapeLike:
        """The shape of input i."""
        raise AssertionError

    def value(self, i: int) -> np.ndarray | None:
        """The value of input i where it is a constant."""
        raise AssertionError

    def extents(self, i: int) -> tuple[Extent | None, ...] | None:
        """The elements of integer input i (a vector, or a scalar as one element), each None where unknown."""
        raise AssertionError

    def count(self) -> int:
        """How many inputs there are."""
        return len(self.dtypes)

    def fail(self, message: str) -> NoReturn:
        """The inputs can't be right: ValueError when the graph is built, InvalidArgumentError when it runs."""
        raise AssertionError

    def equal(self, a: Extent | None, b: Extent | None, message: str) -> Extent | None:
        """The extent that both are; fails when they differ, and leaves a check for run time when that is unsure."""
        raise AssertionError

    def check(self, holds: str, a: Extent | None, b: Extent | None, message: str) -> None:
        """Ask for `a >= b` (`holds="ge"`) or `a % b == 0` (`"divides"`): fails now, or when the step runs."""
        raise AssertionError

    def settle(self, extent: Extent | None) -> None:
        """Ask that the extent be a number: where it is one of a feed's, the step is compiled for the number it has."""

    # What follows is built of the above.

    def rank(self, i: int) -> int | None:
        shape = self.shape(i)
        return None if shape is None else len(shape)

    def with_rank(self, i: int, rank: int) -> tuple[Extent | None, ...]:
        """The shape of input i, which must have `rank` dimensions."""
        shape = self.shape(i)
        if shape is None:
            return (None,) * rank
        if len(shape) != rank:
            self.fail(f"Shape must be rank {rank} but is rank {len(shape)} for '{self.op}' with input {show(shape)}")
        return shape

    def axis(self, axis: int, rank: int) -> int:
        """`axis` counted from the front; fails when it is out of range."""
        if not -rank <= axis < max(rank, 1):
            self.fail(f"Expected dimension in the range [{-rank}, {rank}), but got {axis}: axis out of bounds")
        return axis + rank if axis < 0 else axis

    def broadcast(self, *shapes: ShapeLike) -> ShapeLike:
        """The shape that all broadcast to, by numpy's rules."""
        if any(shape is None for shape in shapes):
            return None
        known = [shape for shape in shapes if shape is not None]
        rank = max(map(len, known))
        result: list[Extent | None] = []
        for k in range(rank):
            extent: Extent | None = 1
            for shape in known:
                at = k - rank + len(shape)
                if at >= 0:
                    extent = self._broadcast_extent(extent, shape[at], known)
            result.append(extent)
        return tuple(result)

    def _broadcast_extent(self, a: Extent | None, b: Extent | None, shapes: list[Any]) -> Extent | None:
        if a == 1:
            return b
        if b == 1 or a is b:
            return a
        if a is None or b is None:
            # The known side decides, unless it is the one that may be stretched.
            return a if b is None else b
        texts = " vs. ".join(show(shape) for shape in shapes)
        pair = f"{extent_text(a)} and {extent_text(b)}"
        return self.equal(a, b, f"Incompatible shapes: {texts} (Dimensions must be equal, but are {pair})")


def show(shape: ShapeLike) -> str:
    """A shape in TF's form: `[2,?]`, or `<unknown>`; symbolic extents in braces, to be filled in when the step runs."""
    return "<unknown>" if shape is None else "[" + ",".join(map(extent_text, shape)) + "]"


def extent_text(extent: Extent | None) -> str:
    """An extent as `show` writes it."""
    return "?" if extent is None else f"{{{extent}}}" if isinstance(extent, Dim) else str(extent)


@dataclass(frozen=True)
class OpDef:
    """An op type: see `define`. What its texts say is found out when it is asked for: few steps use many types."""

    name: str
    signature: str
    attr_text: str
    infer: Callable[[Inference], Sequence[ShapeLike]]
    reference: Callable[..., Any] | None
    lower: Any
    stateful: bool
    commutative: bool
    symbolic: bool
    resources: bool = False

    @cached_property
    def attrs(self) -> tuple[Attr, ...]:
        return tuple(_parse_attr(text) for text in _split(self.attr_text))

    @cached_property
    def inputs(self) -> tuple[Arg, ...]:
        return self._args(self.signature.partition("->")[0])

    @cached_property
    def outputs(self) -> tuple[Arg, ...]:
        return self._args(self.signature.partition("->")[2])

    def _args(self, text: str) -> tuple[Arg, ...]:
        kinds = {attr.name: attr.type for attr in self.attrs}
        return tuple(_parse_arg(each, kinds) for each in _split(text))

    @cached_property
    def attr(self) -> dict[str, Attr]:
        return {attr.name: attr for attr in self.attrs}


_REGISTRY: dict[str, OpDef] = {}


def lookup(name: str) -> OpDef | None:
    """The op type of that name, or None."""
    found = _REGISTRY.get(name)
    if found is None:
        # Whoever imported one family alone has not registered the others.
        importlib.import_module("stepjit_compiler.ops")
        found = _REGISTRY.get(name)
    return found


def registered() -> Mapping[str, OpDef]:
    """All op types by name."""
    importlib.import_module("stepjit_compiler.ops")
    return _REGISTRY


def define(
    name: str,
    signature: str,
    attrs: str = "",
    *,
    infer: Callable[[Inference], Sequence[ShapeLike]],
    reference: Callable[..., Any] | None = None,
    lower: Any = None,
    stateful: bool = False,
    commutative: bool = False,
    symbolic: bool = False,
    resources: bool = False,
) -> OpDef:
    """Register an op type.

    signature: `"a: T, b: T -> product: T"`; a type is an attr's name, a dtype's name, `N*T` for a list of one type,
        `Ref(T)` for a reference, or the name of a `list(type)` attr.
    attrs: `"T: type in float|index, transpose_a: bool = False"`; TF's attr types and defaults, in TF's order.
    infer: the outputs' shapes from the inputs' (`Inference`).
    reference: `reference(call, *arrays)`, the op's meaning in numpy: returns an array, or a tuple for several outputs.
    lower: one of the classes in `lowering.py`, or None for an op that runs on the host.
    stateful: has an effect or draws from a stream; never merged with an equal call nor folded.
    commutative: the two inputs may be swapped.
    symbolic: the reference also works on object arrays of extents (ints and Dims), so shapes are computed through it.
    resources: the reference finds the session's `Resources` in attr `_resources`, the graph op's name in `_name`.
    """
    if infer is broadcasting and reference is not None:
        reference = _of_fitting_shapes(reference)
    op = OpDef(name, signature, attrs, infer, reference, lower, stateful, commutative, symbolic, resources)
    if name in _REGISTRY:
        raise ValueError(f"op type {name!r} is defined twice")
    _REGISTRY[name] = op
    return op


def _split(text: str) -> list[str]:
    """Comma-separated parts, not splitting inside brackets or quotes."""
    parts, depth, part = [], 0, ""
    quoted = False
    for char in text:
        quoted ^= char == "'"
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0 and not quoted:
            parts.append(part)
            part = ""
        else:
            part += char
    return [each.strip() for each in [*parts, part] if each.strip()]


def _parse_arg(text: str, kinds: Mapping[str, str]) -> Arg:
    name, _, kind = (part.strip() for part in text.partition(":"))
    count = None
    if "*" in kind:
        count, kind = (part.strip() for part in kind.split("*"))
    is_ref = kind.startswith("Ref(")
    if is_ref:
        kind = kind[4:-1]
    if kinds.get(kind) == "list(type)":
        return Arg(name, list_attr=kind)
    if kind in kinds:
        return Arg(name, type_attr=kind, count_attr=count, is_ref=is_ref)
    return Arg(name, dtype=dtypes.as_dtype(kind), count_attr=count, is_ref=is_ref)


def _parse_attr(text: str) -> Attr:
    head, has_default, default_text = (part.strip() for part in text.partition("="))
    name, _, kind = (part.strip() for part in head.partition(":"))
    kind, _, allowed_text = (part.strip() for part in kind.partition(" in "))
    allowed: tuple[Any, ...] | None = None
    if allowed_text:
        parts = [part.strip() for part in allowed_text.split("|")]
        if kind in ("type", "list(type)"):
            allowed = tuple(t for part in parts for t in _TYPE_SETS.get(part) or (dtypes.as_dtype(part),))
        else:
            allowed = tuple(part.encode() for part in parts)
    default = _parse_default(kind, default_text) if has_default else None
    return Attr(name, kind, default, bool(has_default), allowed)


def _parse_default(kind: str, text: str) -> Any:
    if kind == "type":
        return dtypes.as_dtype(text)
    if kind == "string":
        return text.strip("'\"").encode()
    if kind == "shape":
        return None if text == "unknown" else tuple(int(part) for part in text.strip("[]").split(",") if part)
    if kind.startswith("list("):
        return tuple(_parse_default(kind[5:-1], part.strip()) for part in text.strip("[]").split(",") if part.strip())
    if kind == "bool":
        return text == "True"
    return float(text) if kind == "float" else int(text)


# --- Shape rules and references that many ops share -------------------------------------------------------------


def unchanged(x: Inference) -> list[ShapeLike]:
    """Every output has the shape of the first input."""
    return [x.shape(0)]


def broadcasting(x: Inference) -> list[ShapeLike]:
    """The inputs broadcast together."""
    return [x.broadcast(*(x.shape(i) for i in range(x.count())))]


def _of_fitting_shapes(reference: Callable[..., Any]) -> Callable[..., Any]:
    """The reference, failing as TF's kernels do for shapes that don't broadcast together."""

    def checked(call: Call, *arrays: np.ndarray) -> Any:
        try:
            np.broadcast_shapes(*(array.shape for array in arrays))
        except ValueError:
            call.fail("Incompatible shapes: " + " vs. ".join(show(array.shape) for array in arrays))
        return reference(call, *arrays)

    return checked


def scalar(x: Inference) -> list[ShapeLike]:
    return [()]


def no_outputs(x: Inference) -> list[ShapeLike]:
    return []


def ufunc(function: Callable[..., Any]) -> Callable[..., Any]:
    """The reference that is a numpy function of the inputs alone, in the output's dtype."""

    def reference(call: Call, *arrays: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            out = np.asarray(function(*arrays))
        return out if out.dtype == object else out.astype(call.dtypes[0].np, copy=False)

    return reference


def reduced_shape(x: Inference, axes: Sequence[int] | None, keep: bool) -> ShapeLike:
    """The shape of input 0 after reducing over `axes` (None: unknown axes)."""
    shape = x.shape(0)
    if shape is None:
        return None
    if axes is None:
        return (None,) * len(shape) if keep else None
    gone = {x.axis(int(axis), len(shape)) for axis in axes}
    return tuple(1 if k in gone else extent for k, extent in enumerate(shape) if keep or k not in gone)


