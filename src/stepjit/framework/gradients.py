"""Symbolic gradients, by reverse accumulation over the graph."""

from __future__ import annotations

import contextlib
import enum
import functools
from collections import deque
from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.graph import Graph, Operation, Tensor, get_default_graph, name_scope
from stepjit.framework.indexed_slices import IndexedSlices
from stepjit.framework.registry import (
    NoGradient,
    NotDifferentiable,
    RegisterGradient,
    gradient_function,
    region_gradient,
)  # fmt: skip

__all__ = [
    "AggregationMethod", "NoGradient", "NotDifferentiable", "RegisterGradient", "UnconnectedGradients", "gradients",
]  # fmt: skip

Gradient = Any
"""A Tensor, IndexedSlices, or None where nothing flows."""


class AggregationMethod:
    """How the gradients that meet at one tensor are added up."""

    ADD_N = 0
    DEFAULT = ADD_N
    EXPERIMENTAL_TREE = 1
    EXPERIMENTAL_ACCUMULATE_N = 2


class UnconnectedGradients(enum.Enum):
    """What `gradients` gives for an x that no y depends on."""

    NONE = "none"
    ZERO = "zero"


def gradients(
    ys: Any,
    xs: Any,
    grad_ys: Any = None,
    name: str = "gradients",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: int | None = None,
    stop_gradients: Any = None,
    unconnected_gradients: Any = UnconnectedGradients.NONE,
) -> list[Any]:
    """The derivatives of sum(ys) with respect to each of `xs`, as tensors of the xs' shapes.

    grad_ys: the gradients to start from, one per y; ones by default, which complex ys have none of.
    stop_gradients: tensors taken as constants.
    An x that no y depends on gives None, or zeros with `UnconnectedGradients.ZERO`. LookupError when an op on the
    way has no gradient, ValueError or TypeError for ys and grad_ys that don't fit.
    """
    try:
        unconnected = UnconnectedGradients(unconnected_gradients)
    except ValueError:
        raise ValueError(f"Unknown value for unconnected_gradients: '{unconnected_gradients}'") from None
    sources, targets = _as_list(xs), _as_list(ys)
    graph = get_default_graph()
    with name_scope(name, "gradients", [*targets, *sources]):
        tensors = [convert_to_tensor(_dense(y), name="y") for y in targets]
        wanted = [_source(x) for x in sources]
        stops = [] if stop_gradients is None else [x.op for x in _as_list(stop_gradients)]
        starts = _starting_gradients(grad_ys, tensors)
        sweep = _Sweep(graph, tensors, wanted, stops, colocate_gradients_with_ops, gate_gradients, aggregation_method)
        sweep.run(starts)
        found = [sweep.result(x) for x in wanted]
    if unconnected is UnconnectedGradients.ZERO:
        return [_zeros_for(x) if grad is None else grad for grad, x in zip(found, wanted)]
    return found


def _zeros_for(x: Tensor) -> Tensor:
    if x.dtype.base_dtype.kind != "o":
        return apply_op("ZerosLike", x=x, name="zeros_like")
    zeros = apply_op(
        "Fill", dims=apply_op("VariableShape", input=x), value=constant(0, dtype=x.op.attrs["dtype"]), name="zeros"
    )
    zeros.set_shape(x.op.attrs["shape"])
    return zeros


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _source(x: Any) -> Tensor:
    """The tensor to differentiate by: for a variable its reference or handle."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, IndexedSlices):
        return x.values
    if isinstance(x, (list, tuple)):
        raise TypeError(f"xs is to be a list of tensors, not of lists: {x}")
    _check_kind(x)
    source = getattr(x, "_gradient_source", None)
    return convert_to_tensor(x, name="x") if source is None else source()


def _check_kind(value: Any) -> None:
    if hasattr(value, "_fetch_components"):
        raise ValueError(f"Type {type(value).__name__} is not supported as a gradient source or gradient target.")


def _dense(y: Any) -> Any:
    _check_kind(y)
    return y.values if isinstance(y, IndexedSlices) else y


def _differentiable(tensor: Tensor) -> bool:
    return tensor.dtype.base_dtype.kind in "fc"


def carries_gradient(tensor: Tensor) -> bool:
    """Whether gradients flow through tensors of this dtype."""
    # A gradient with respect to a resource handle is one with respect to the value behind it.
    return tensor.dtype.base_dtype.kind in "fco"


def _starting_gradients(grad_ys: Any, ys: Sequence[Tensor]) -> list[Gradient]:
    given = [None] * len(ys) if grad_ys is None else _as_list(grad_ys)
    if len(given) != len(ys):
        raise ValueError(f"Length mismatch. Passed {len(given)} grad_ys for {len(ys)} ys")
    return [
        _ones_like(y, i) if grad is None else _checked_start(grad, y, i) for i, (grad, y) in enumerate(zip(given, ys))
    ]


def _ones_like(y: Tensor, i: int) -> Tensor:
    dtype = y.dtype.base_dtype
    if dtype.kind == "c":
        raise TypeError(f"Gradients of complex tensors ({y}) must set grad_ys (y.dtype = {dtype!r})")
    if dtype.kind in "so":
        raise TypeError(f"Tensor {y.name} with type {dtype.name} must be numeric to obtain a default gradient")
    shape = _shape(y)
    name = f"grad_ys_{i}"
    with name_scope(name) as scope:
        one = constant(True if dtype.is_bool else 1, dtype=dtype, name="Const")
        return apply_op("Fill", dims=shape, value=one, name=scope)


def _shape(tensor: Tensor) -> Tensor:
    dims = tensor.dims
    if dims is not None and None not in dims:
        return constant(list(dims), dtype="int32", shape=[len(dims)], name="Shape")
    return apply_op("Shape", input=tensor)


def _checked_start(grad: Any, y: Tensor, i: int) -> Gradient:
    if not isinstance(grad, IndexedSlices):
        grad = convert_to_tensor(grad, name="grad_y")
    ours, wanted = grad.dtype.base_dtype, y.dtype.base_dtype
    kind = f"Gradient type {ours.name} generated for"
    if wanted.kind in "fiu" and ours.kind not in "fiu":
        raise TypeError(
            f"{kind} real or integer-valued tensor {y.name} with type {wanted.name} must be real or integer"
        )
    if wanted.kind == "c" and ours.kind != "c":
        raise TypeError(f"{kind} complex-valued tensor {y.name} with type {wanted.name} must be complex")
    if wanted.kind not in "fiuc":
        raise TypeError(f"Tensor {y.name} with type {wanted.name} must be numeric to obtain a default gradient")
    name = f"grad_ys_{i}"
    if isinstance(grad, Tensor):
        return apply_op("Identity", input=grad, name=name)
    parts = {"values": grad.values, "indices": grad.indices, "shape": grad.dense_shape}
    copies: list[Any] = [
        None if part is None else apply_op("Identity", input=part, name=f"{name}_{label}")
        for label, part in parts.items()
    ]
    return IndexedSlices(*copies)


class _Sweep:
    """One backward pass: which ops lie between xs and ys, and the gradients gathered so far per output."""

    def __init__(
        self,
        graph: Graph,
        ys: Sequence[Tensor],
        xs: Sequence[Tensor],
        stops: Sequence[Operation],
        colocate: bool,
        gate: bool,
        method: int | None,
    ) -> None:
        self.graph, self.ys, self.colocate, self.gate = graph, ys, colocate, gate
        if method not in (None, 0, 1, 2):
            raise ValueError(f"Invalid `aggregation_method` specified {method}. Accepted values are [0, 1, 2].")
        self.method = method or AggregationMethod.ADD_N
        self.gathered: dict[tuple[Operation, int], list[Gradient]] = {}
        sources = {x.op for x in xs}
        self.between = _ops_between([y.op for y in ys], sources, graph)
        self.pending = dict.fromkeys(self.between, 0)
        for op in self.between:
            for each in _inputs(op, graph):
                if each.op in self.pending:
                    self.pending[each.op] += 1
        # An x whose own inputs lead to no x ends the walk.
        self.ends = {op for op in sources if not any(each.op in self.pending for each in _inputs(op, graph))}
        self.ends |= set(stops)

    def run(self, starts: Sequence[Gradient]) -> None:
        for y, start in zip(self.ys, starts):
            self._gather(y, start)
        queue: deque[Operation] = deque()
        for op in dict.fromkeys(y.op for y in self.ys):
            if self.pending.get(op) == 0:
                queue.append(op)
        while queue:
            op = queue.popleft()
            for k, (each, grad) in enumerate(zip(_inputs(op, self.graph), self._input_gradients(op))):
                if grad is not None:
                    self._gather(each, _shaped(grad, each, op, k))
            for each in _inputs(op, self.graph):
                if each.op in self.pending:
                    self.pending[each.op] -= 1
                    if self.pending[each.op] == 0:
                        queue.append(each.op)

    def _gather(self, tensor: Tensor, grad: Gradient) -> None:
        self.gathered.setdefault((tensor.op, tensor.value_index), []).append(grad)

    def result(self, x: Tensor) -> Gradient:
        return self._total(x.op, x.value_index)

    def _total(self, op: Operation, index: int) -> Gradient:
        parts = self.gathered.get((op, index))
        if not parts:
            return None
        if len(parts) > 1:
            with self._place(op):
                parts[:] = [summed(parts, self.method, op.name)]
        return parts[0]

    def _place(self, op: Operation) -> Any:
        if not self.colocate:
            return contextlib.nullcontext()
        return self.graph.colocate_with(op, ignore_existing=True)

    def _input_gradients(self, op: Operation) -> Sequence[Gradient]:
        grads = [self._total(op, k) for k in range(len(op.outputs))]
        if op in self.ends or all(grad is None for grad in grads):
            return ()
        if op.type == "_Arg":
            # What stands for a tensor from outside has that one's gradient.
            return grads
        with_regions = region_gradient(op)
        if with_regions is not None:
            with self._place(op), name_scope(op.name + "_grad"):
                found = with_regions(op, grads, [each.op in self.pending for each in op.inputs])
                self._check(op, found)
                return _gated(found) if self.gate and sum(grad is not None for grad in found) > 1 else found
        try:
            function = gradient_function(op)
        except LookupError:
            raise LookupError(f"No gradient defined for operation '{op.name}' (op type: {op.type})") from None
        if function is None:
            return ()
        with self._place(op):
            for k, output in enumerate(op.outputs):
                if grads[k] is None and _differentiable(output):
                    grads[k] = apply_op("ZerosLike", x=output, name="zeros_like")
            with name_scope(op.name + "_grad"):
                result = function(op, *grads)
                found = list(result) if isinstance(result, (list, tuple)) else [result]
                self._check(op, found)
                if self.gate and sum(grad is not None for grad in found) > 1:
                    found = _gated(found)
        return found

    @staticmethod
    def _check(op: Operation, grads: Sequence[Gradient]) -> None:
        if len(grads) != len(op.inputs):
            raise ValueError(
                f"Num gradients {len(grads)} generated for op {op.name} (type {op.type}) "
                f"do not match num inputs {len(op.inputs)}"
            )
        for grad, each in zip(grads, op.inputs):
            if grad is None or each.dtype.base_dtype.kind == "o":
                continue
            if not isinstance(grad, (Tensor, IndexedSlices)):
                raise TypeError(f"the gradient of {op.type} gave a {type(grad).__name__} for {each.name}")


def gradients_between(ys: Sequence[Tensor], xs: Sequence[Tensor], starts: Sequence[Tensor]) -> list[Gradient]:
    """The gradients of ys by xs from those of the ys, in the default graph; None for an x that nothing comes to."""
    graph = get_default_graph()
    sweep = _Sweep(graph, ys, xs, (), False, False, None)
    sweep.run(starts)
    return [sweep.result(x) for x in xs]


def _inputs(op: Operation, graph: Graph) -> Sequence[Tensor]:
    """The inputs of an op; of a parameter of the region being built (or one around) the tensor that it stands for."""
    if op.type == "_Arg" and (op.graph is graph or (graph.is_function and graph.encloses(op.graph))):
        source = op.graph.sources.get(op.outputs[0])
        return () if source is None else (source,)
    return op.inputs


def _ops_between(ends: Sequence[Operation], sources: set[Operation], graph: Graph) -> list[Operation]:
    """The ops on some path of differentiable tensors from `sources` to `ends`, consumers first."""
    ancestors: set[Operation] = set(ends)
    stack = list(ancestors)
    while stack:
        for each in _inputs(stack.pop(), graph):
            if each.op not in ancestors:
                ancestors.add(each.op)
                stack.append(each.op)
    # Inputs are always older than their op, so one pass in the order of creation marks all.
    reached: set[Operation] = set()
    for op in sorted(ancestors, key=lambda op: (op.graph.depth, op._id)):
        if op in sources or any(each.op in reached and carries_gradient(each) for each in _inputs(op, graph)):
            reached.add(op)
    kept = [op for op in ends if op in reached]
    seen = set(kept)
    ordered: list[Operation] = []
    queue = deque(dict.fromkeys(kept))
    while queue:
        op = queue.popleft()
        ordered.append(op)
        for each in _inputs(op, graph):
            if each.op in reached and each.op not in seen:
                seen.add(each.op)
                queue.append(each.op)
    return ordered


def _shaped(grad: Gradient, forward: Tensor, op: Operation, index: int) -> Gradient:
    if isinstance(grad, Tensor) and forward.dtype.base_dtype.kind != "o":
        try:
            grad.set_shape(forward.shape)
        except ValueError:
            raise ValueError(
                f"Incompatible shapes between op input and calculated input gradient. Forward operation: {op.name}. "
                f"Input index: {index}. Original input shape: {forward.shape}. "
                f"Calculated input gradient shape: {grad.shape}"
            ) from None
    return grad


def summed(parts: Sequence[Gradient], method: int = AggregationMethod.ADD_N, label: str = "") -> Gradient:
    """All of `parts`, the gradients of what is called `label`, added up; slices stay slices when all are."""
    if all(isinstance(part, IndexedSlices) for part in parts):
        return _joined(parts)
    dense = [convert_to_tensor(part) for part in parts]
    if method == AggregationMethod.ADD_N:
        return _added(dense)
    with name_scope(label + "_gradient_sum"):
        return functools.reduce(lambda total, part: apply_op("AddN", inputs=[total, part]), dense)


def _added(parts: Sequence[Tensor]) -> Tensor:
    """The sum, those of each device first."""
    by_device: dict[str, list[Tensor]] = {}
    for part in parts:
        by_device.setdefault(part.device, []).append(part)
    totals = []
    for _, group in sorted(by_device.items()):
        with get_default_graph().colocate_with(group[0].op, ignore_existing=True):
            totals.append(apply_op("AddN", inputs=group) if len(group) > 1 else group[0])
    return totals[0] if len(totals) == 1 else apply_op("AddN", inputs=totals)


def _joined(parts: Sequence[IndexedSlices]) -> IndexedSlices:
    # int64 where any is: two index dtypes can't be concatenated.
    indices = [part.indices for part in parts]
    if len({each.dtype for each in indices}) > 1:
        indices = [apply_op("Cast", x=each, DstT="int64") for each in indices]
    shape = next((part.dense_shape for part in parts if part.dense_shape is not None), None)
    return IndexedSlices(_concatenated([part.values for part in parts]), _concatenated(indices), shape)


def _concatenated(rows: Sequence[Tensor]) -> Tensor:
    with name_scope("concat") as scope:
        axis = constant(0, dtype="int32", name="axis")
        return apply_op("ConcatV2", values=rows, axis=axis, name=scope)


def _gated(grads: Sequence[Gradient]) -> list[Gradient]:
    """The same gradients, none of which is used before all are computed."""
    graph = get_default_graph()
    with name_scope("tuple"):
        ops = [(_dense(grad)).op for grad in grads if grad is not None]
        with graph.control_dependencies(None), graph.control_dependencies(ops):
            gate = apply_op("NoOp", name="group_deps")
        result: list[Gradient] = []
        for grad in grads:
            if grad is None:
                result.append(None)
                continue
            with graph.control_dependencies([gate]):
                values = apply_op("Identity", input=_dense(grad), name="control_dependency")
            is_slices = isinstance(grad, IndexedSlices)
            result.append(IndexedSlices(values, grad.indices, grad.dense_shape) if is_slices else values)
        return result
