"""Static shapes while the graph is built: runs an op type's shape rule, and finds the values that shapes depend on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn, cast

import numpy as np

from stepjit_compiler.opdef import Call, Inference, show
from stepjit_runtime.dtypes import DType
from stepjit_runtime.errors import GraphArgumentError

if TYPE_CHECKING:
    from stepjit.framework.tensor import Operation, Tensor

LARGEST = 4096
"""Values of more elements than this are not looked into."""


class GraphInference(Inference):
    """What the shape rule of an op being made may ask; unknown extents are None."""

    __slots__ = ("_node", "_tensors")
    building = True

    def __init__(self, node: Operation, tensors: Sequence[Tensor]) -> None:
        self.op = node.type
        self.attrs = node.attrs
        self._node = node
        self._tensors = tensors

    @property
    def dtypes(self) -> Sequence[DType]:  # type: ignore[override]
        return [tensor.dtype.base_dtype for tensor in self._tensors]

    def count(self) -> int:
        return len(self._tensors)

    def shape(self, i: int) -> Any:
        return self._tensors[i].dims

    def value(self, i: int) -> np.ndarray | None:
        tensor = self._tensors[i]
        if tensor.op.type == "Const":
            return tensor.op.attrs["value"]
        found = evaluate(tensor)
        return None if found is None or (found.dtype == object and tensor.dtype.kind != "s") else found

    def extents(self, i: int) -> tuple[int | None, ...] | None:
        tensor = self._tensors[i]
        found = tensor.op.attrs["value"] if tensor.op.type == "Const" else evaluate(tensor)
        if found is not None:
            return tuple([None if each is UNKNOWN else int(each) for each in found.ravel().tolist()])
        dims = tensor.dims
        if dims == ():
            return (None,)
        return None if dims is None or len(dims) != 1 or dims[0] is None else (None,) * dims[0]

    def broadcast(self, *shapes: Any) -> Any:
        # Most operands are of one shape, or one is a number.
        if len(shapes) == 2:
            a, b = shapes
            if b == () or a == b:
                return a
            if a == ():
                return b
        return super().broadcast(*shapes)

    def fail(self, message: str) -> NoReturn:
        node = self._node
        shapes = ", ".join(show(tensor.dims) for tensor in self._tensors)
        text = f"{message} for '{node.name}' (op: '{node.type}') with input shapes: {shapes}."
        raise GraphArgumentError(None, None, text)

    def equal(self, a: Any, b: Any, message: str) -> Any:
        if a is None:
            return b
        if b is not None and a != b:
            self.fail(message)
        return a

    def check(self, holds: str, a: Any, b: Any, message: str) -> None:
        if a is None or b is None:
            return
        if not (a >= b if holds == "ge" else b != 0 and a % b == 0):
            self.fail(message)


def plain(shape: Any) -> Any:
    """A rule's shape as the graph keeps it: ints and None."""
    if shape is None:
        return None
    for extent in shape:
        if type(extent) is not int and extent is not None:
            return tuple([_extent(each) for each in shape])
    return shape if type(shape) is tuple else tuple(shape)


def _extent(value: Any) -> int | None:
    try:
        return None if value is None else value.__index__()
    except (AttributeError, TypeError):
        return None


class _Unknown:
    """An element that only the step knows: arithmetic with it is unknown, comparing it is an error."""

    __slots__ = ()

    def _unknown(self, *others: Any) -> _Unknown:
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __neg__ = _unknown
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _unknown

    def _undecided(self, *others: Any) -> NoReturn:
        raise TypeError("the value is known only when the step runs")

    __bool__ = __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __index__ = __int__ = _undecided  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "?"


UNKNOWN = _Unknown()


def evaluate(tensor: Tensor) -> np.ndarray | None:
    """The value of `tensor` as far as the graph alone tells it; None when it tells nothing.

    An array of the tensor's dtype when it is known whole; for integers, an object array holding ints and `UNKNOWN`
    when only some elements are. The work is kept in `graph.known`, so each tensor is looked at once.
    """
    known = tensor.op.graph.known
    if tensor in known:
        return known[tensor]
    pending = [tensor]
    while pending:
        current = pending[-1]
        if current in known:
            pending.pop()
            continue
        missing = [each for each in _needed(current) if each not in known]
        if missing:
            pending += missing
            continue
        pending.pop()
        known[current] = _value(current, known)
    return known[tensor]


_FROM_SHAPE = {"Shape", "Size", "Rank", "ShapeN"}
_OPAQUE = {"PlaceholderWithDefault", "NextIteration", "Merge", "Enter", "Exit", "Switch"}


def _small(tensor: Tensor) -> bool:
    dims = tensor.dims
    return dims is not None and None not in dims and math.prod(cast(Any, dims)) <= LARGEST


def _foldable(op: Operation) -> bool:
    return (
        not op.op_def.stateful
        and op.op_def.reference is not None
        and op.type not in _OPAQUE
        and all(each.dtype.kind in "iub" and _small(each) for each in op.outputs)
    )


def _needed(tensor: Tensor) -> Sequence[Tensor]:
    """The tensors whose values decide this one's."""
    op = tensor.op
    if op.type == "Const" or op.type in _FROM_SHAPE or not _foldable(op):
        return ()
    return [each for each in op.inputs if _small(each)] if op.op_def.symbolic else _all_small(op)


def _all_small(op: Operation) -> Sequence[Tensor]:
    return op.inputs if all(_small(each) for each in op.inputs) else ()


def _value(tensor: Tensor, known: dict[Tensor, Any]) -> np.ndarray | None:
    op = tensor.op
    if op.type == "Const":
        return op.attrs["value"] if op.attrs["value"].size <= LARGEST else None
    if op.type == "_Arg":
        # A captured tensor has the same value inside.
        source = op.graph.sources.get(tensor)
        return _or_unknown(None, tensor) if source is None else evaluate(source)
    if op.type in _FROM_SHAPE:
        return _from_shape(tensor)
    if op.inputs and _foldable(op):
        inputs = [known.get(each) for each in op.inputs]
        whole = [v is not None and (v.dtype != object or t.dtype.kind == "s") for v, t in zip(inputs, op.inputs)]
        if all(whole):
            found = _run(tensor, inputs, op)
        elif op.op_def.symbolic:
            found = _run(tensor, [_or_unknown(v, t) for v, t in zip(inputs, op.inputs)], op)
        else:
            found = None
        if found is not None:
            return found
    return _or_unknown(None, tensor)


def _or_unknown(value: np.ndarray | None, tensor: Tensor) -> np.ndarray | None:
    """The value; or all elements unknown, where the tensor is a small one of integers."""
    if value is not None or tensor.dtype.kind not in "iu" or not _small(tensor):
        return value
    return np.full(cast(Any, tensor.dims), UNKNOWN, object)


def _run(tensor: Tensor, inputs: Sequence[np.ndarray | None], op: Operation) -> np.ndarray | None:
    """The op's reference on what is known; None when that does not decide it."""
    if any(each is None for each in inputs):
        return None
    call = Call(op.name, op.attrs, [each.dtype.base_dtype for each in op.outputs])
    try:
        with np.errstate(all="ignore"):
            found: Any = op.op_def.reference(call, *inputs)  # type: ignore[misc]
    except Exception:
        # Either the unknown elements decide, or the op fails, which is for the step to report if it runs it.
        return None
    value = np.asarray(found[tensor.value_index] if isinstance(found, (tuple, list)) else found)
    if value.dtype == object and tensor.dtype.kind != "s":
        elements = value.ravel().tolist()
        if any(each is UNKNOWN for each in elements):
            return value
        return np.array([int(each) for each in elements], tensor.dtype.base_dtype.np).reshape(value.shape)
    return value


def _from_shape(tensor: Tensor) -> np.ndarray | None:
    op = tensor.op
    dims = op.inputs[tensor.value_index].dims
    if dims is None:
        return _or_unknown(None, tensor)
    dtype = tensor.dtype.np
    if op.type == "Rank":
        return np.array(len(dims), dtype)
    if None not in dims:
        return np.array(math.prod(cast(Any, dims)) if op.type == "Size" else dims, dtype)
    if op.type == "Size":
        return _or_unknown(None, tensor)
    result = np.empty(len(dims), object)
    result[:] = [UNKNOWN if extent is None else extent for extent in dims]
    return result
