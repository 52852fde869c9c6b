"""What a Step's nodes tell the ops' own rules: shapes that may be symbols, and values that the compiler knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from stepjit_compiler import dims
from stepjit_compiler.dims import Dim, Extent
from stepjit_compiler.ir import Check, Literal, Node, Ref, Type
from stepjit_compiler.opdef import Call, Inference, ShapeLike
from stepjit_runtime.errors import OpFailure

if TYPE_CHECKING:
    from stepjit_compiler.step_builder import StepBuilder

KNOWN_ELEMENTS = 64
"""Integer tensors up to this many elements are followed as extents."""


class NeedsStaticError(Exception):
    """The step can't be typed unless these symbols are numbers."""

    def __init__(self, symbols: frozenset[str], message: str) -> None:
        super().__init__(message)
        self.symbols = symbols


class NeedsShapeError(Exception):
    """Not even the rank of an op's results follows from its inputs: the step must be told (attr `_shapes`)."""

    def __init__(self, origin: int, message: str) -> None:
        super().__init__(message)
        self.origin = origin
        self.op: Any = None
        """The graph's op, once it is known."""


class StepCall(Call):
    """A node as its reference and lowering see it: with input types and compile-time-known inputs."""

    __slots__ = ("_known", "inputs")

    def __init__(self, node: Node, inputs: Sequence[Type], known: Sequence[np.ndarray | None]) -> None:
        super().__init__(node.op, plain_attrs(node.attrs), [t.dtype for t in node.types], node.types)
        self.inputs, self._known = tuple(inputs), known

    def known(self, i: int) -> np.ndarray | None:
        """Input i as an object array of ints and Dims, where the compiler knows it."""
        return self._known[i]

    @property
    def count(self) -> int:
        return len(self.inputs)


def plain_attrs(attrs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value.array if type(value) is Literal else value for name, value in attrs}


class StepInference(Inference):
    """Shape inference inside the compiler: ranks are known and extents are ints or Dims."""

    __slots__ = ("_builder", "_checks", "_inputs", "_origin", "late")

    late: bool
    """Whether a condition can only be seen when the op runs: its reference looks at it then."""

    def __init__(
        self, builder: StepBuilder, op: str, attrs: Mapping[str, Any], inputs: Sequence[Ref], origin: int
    ) -> None:
        self.op, self.attrs = op, attrs
        self._builder, self._inputs, self._origin = builder, inputs, origin
        self.dtypes = [builder.nodes[n].types[k].dtype for n, k in inputs]
        self._checks: list[Check] = []
        self.late = False

    def shape(self, i: int) -> ShapeLike:
        return self._builder.type(self._inputs[i]).dims

    def value(self, i: int) -> np.ndarray | None:
        node = self._builder.nodes[self._inputs[i].node]
        return node.attr["value"].array if node.op == "Const" else None

    def extents(self, i: int) -> tuple[Extent | None, ...] | None:
        known = self._builder.known(self._inputs[i])
        if known is not None:
            return tuple(known.ravel())
        shape = self._builder.type(self._inputs[i]).dims
        length = dims.product(shape)
        return (None,) * length if isinstance(length, int) and length <= KNOWN_ELEMENTS else None

    def fail(self, message: str) -> NoReturn:
        raise OpFailure(message)

    def equal(self, a: Extent | None, b: Extent | None, message: str) -> Extent | None:
        if a is None or b is None:
            return b if a is None else a
        a, b = self._builder.resolve(a), self._builder.resolve(b)
        if a is b or a == b:
            return a
        if isinstance(a, int) and isinstance(b, int):
            self.fail(message)
        if is_late(a) or is_late(b):
            self.late = True
            return b if is_late(a) else a
        self._checks.append(Check("eq", a, b, message, self._origin))
        return self._builder.unify(a, b)

    def check(self, holds: str, a: Extent | None, b: Extent | None, message: str) -> None:
        if a is None or b is None:
            return
        a, b = self._builder.resolve(a), self._builder.resolve(b)
        found = Check(holds, a, b, message, self._origin)
        if isinstance(a, int) and isinstance(b, int):
            if found.fails({}):
                self.fail(message)
        elif (holds == "ge" and dims.at_most(b, a)) or (holds == "divides" and isinstance(b, int) and b and a % b == 0):
            return
        elif is_late(a) or is_late(b):
            self.late = True
        else:
            self._checks.append(found)

    def settle(self, extent: Extent | None) -> None:
        fed = frozenset(name for name in dims.symbols(extent or 0) if not name.startswith("h"))
        if fed:
            raise NeedsStaticError(fed, f"'{self.op}' needs to know an extent")

    def _broadcast_extent(self, a: Extent | None, b: Extent | None, shapes: list[Any]) -> Extent | None:
        if a == 1 or b == 1 or a is b or a == b:
            return b if a == 1 else a
        if not (dims.never_one(a) and dims.never_one(b)):
            self.late = True  # whether one of the two is stretched is only known when the op runs
            return None
        return super()._broadcast_extent(a, b, shapes)

    def finish(self) -> None:
        self._builder.checks.extend(self._checks)


def is_late(extent: Extent) -> bool:
    """Whether the extent is only known in mid-step."""
    return isinstance(extent, Dim) and any(name.startswith("h") for name in extent.symbols)
