"""Symbolic gradients: `gradients`, `hessians` and `custom_gradient`, by reverse accumulation over the graph."""

from __future__ import annotations

import contextlib
import enum
import functools
import itertools
from collections import deque
from collections.abc import Callable, Sequence
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
    "AggregationMethod", "NoGradient", "NotDifferentiable", "RegisterGradient", "UnconnectedGradients",
    "custom_gradient", "gradients", "hessians",
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

    grad_ys: the gradients to start from, one per y; ones by default.
    stop_gradients: tensors taken as constants.
    An x that no y depends on gives None, or zeros with `UnconnectedGradients.ZERO`. LookupError when an op on the
    way has no gradient, ValueError or TypeError for ys and grad_ys that don't fit.
    """
    unconnected = UnconnectedGradients(unconnected_gradients)
    sources, targets = _as_list(xs), _as_list(ys)
    graph = get_default_graph()
    with name_scope(name, "gradients", [*targets, *sources]):
        tensors = [convert_to_tensor(_dense(y), name="y") for y in targets]
        wanted = [_source(x) for x in sources]
        stops = [_source(x) for x in _as_list(stop_gradients)]
        starts = _starting_gradients(grad_ys, tensors)
        sweep = _Sweep(graph, tensors, wanted, stops, colocate_gradients_with_ops, gate_gradients, aggregation_method)
        sweep.run(starts)
        return [sweep.result(x, unconnected) for x in wanted]


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _source(x: Any) -> Tensor:
    """The tensor to differentiate by: for a variable its reference or handle."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, IndexedSlices):
        return x.values
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
    return [_ones_like(y, i) if grad is None else _checked_start(grad, y) for i, (grad, y) in enumerate(zip(given, ys))]


def _ones_like(y: Tensor, i: int) -> Tensor:
    if not _differentiable(y):
        raise TypeError(
            f"Gradients of tensors must be floating or complex; y {y.name} has dtype {y.dtype.base_dtype.name}"
        )
    shape = _shape(y)
    name = f"grad_ys_{i}"
    with name_scope(name) as scope:
        one = constant(1, dtype=y.dtype.base_dtype, name="Const")
        return apply_op("Fill", dims=shape, value=one, name=scope)


def _shape(tensor: Tensor) -> Tensor:
    dims = tensor.dims
    if dims is not None and None not in dims:
        return constant(list(dims), dtype="int32", shape=[len(dims)], name="Shape")
    return apply_op("Shape", input=tensor)


def _checked_start(grad: Any, y: Tensor) -> Gradient:
    if isinstance(grad, IndexedSlices):
        values = grad.values
    else:
        grad = values = convert_to_tensor(grad, dtype=y.dtype.base_dtype, name="grad_y")
    ours, wanted = values.dtype.base_dtype, y.dtype.base_dtype
    if ours.kind != wanted.kind:
        raise TypeError(f"Gradient type {ours.name} generated for {wanted.name}-valued tensor {y.name} does not match")
    if isinstance(grad, Tensor) and not y.shape.is_compatible_with(grad.shape):
        raise ValueError(f"grad_ys of shape {grad.shape} does not fit y {y.name} of shape {y.shape}")
    return grad


class _Sweep:
    """One backward pass: which ops lie between xs and ys, and the gradients gathered so far per output."""

    def __init__(
        self,
        graph: Graph,
        ys: Sequence[Tensor],
        xs: Sequence[Tensor],
        stops: Sequence[Tensor],
        colocate: bool,
        gate: bool,
        method: int | None,
    ) -> None:
        self.graph, self.ys, self.colocate, self.gate = graph, ys, colocate, gate
        if method not in (None, 0, 1, 2):
            raise ValueError(f"Invalid aggregation_method specified {method}.")
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
        self.ends |= {each.op for each in stops}

    def run(self, starts: Sequence[Gradient]) -> None:
        for y, start in zip(self.ys, starts):
            self._gather(y, start)
        queue: deque[Operation] = deque()
        for op in dict.fromkeys(y.op for y in self.ys):
            if self.pending.get(op) == 0:
                queue.append(op)
        while queue:
            op = queue.popleft()
            for each, grad in zip(_inputs(op, self.graph), self._input_gradients(op)):
                if grad is not None:
                    self._gather(each, _shaped(grad, each, op))
            for each in _inputs(op, self.graph):
                if each.op in self.pending:
                    self.pending[each.op] -= 1
                    if self.pending[each.op] == 0:
                        queue.append(each.op)

    def _gather(self, tensor: Tensor, grad: Gradient) -> None:
        self.gathered.setdefault((tensor.op, tensor.value_index), []).append(grad)

    def result(self, x: Tensor, unconnected: UnconnectedGradients) -> Gradient:
        grad = self._total(x.op, x.value_index)
        if grad is None and unconnected is UnconnectedGradients.ZERO:
            return apply_op("ZerosLike", x=x)
        return grad

    def _total(self, op: Operation, index: int) -> Gradient:
        parts = self.gathered.get((op, index))
        if not parts:
            return None
        if len(parts) > 1:
            with self._place(op):
                parts[:] = [summed(parts, self.method)]
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
            if grad.dtype.base_dtype is not each.dtype.base_dtype:
                raise ValueError(
                    f"Gradient type {grad.dtype.name} generated for op {op.name} "
                    f"does not match the input's type {each.dtype.name}"
                )


def gradients_between(ys: Sequence[Tensor], xs: Sequence[Tensor], starts: Sequence[Tensor]) -> list[Gradient]:
    """The gradients of ys by xs from those of the ys, in the default graph; None for an x that nothing comes to."""
    graph = get_default_graph()
    sweep = _Sweep(graph, ys, xs, (), False, False, None)
    sweep.run(starts)
    return [sweep.result(x, UnconnectedGradients.NONE) for x in xs]


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


def _shaped(grad: Gradient, forward: Tensor, op: Operation) -> Gradient:
    if isinstance(grad, Tensor) and forward.dtype.base_dtype.kind != "o":
        try:
            grad.set_shape(forward.shape)
        except ValueError:
            raise ValueError(
                f"Incompatible shapes between op input and calculated input gradient. Forward operation: {op.name}. "
                f"Original input shape: {forward.shape}. Calculated input gradient shape: {grad.shape}"
            ) from None
    return grad


def summed(parts: Sequence[Gradient], method: int = AggregationMethod.ADD_N) -> Gradient:
    """All of `parts` added up; slices stay slices when all are."""
    if all(isinstance(part, IndexedSlices) for part in parts):
        return _joined(parts)
    dense = [convert_to_tensor(part) for part in parts]
    if method == AggregationMethod.EXPERIMENTAL_TREE:
        total = dense[0]
        for part in dense[1:]:
            total = apply_op("AddV2", x=total, y=part, name="add")
        return total
    return apply_op("AddN", inputs=dense)


def _joined(parts: Sequence[IndexedSlices]) -> IndexedSlices:
    axis = constant(0, dtype="int32", name="concat/axis")
    values = apply_op("ConcatV2", values=[part.values for part in parts], axis=axis, name="concat")
    # int64 where any is: two index dtypes can't be concatenated.
    indices = [part.indices for part in parts]
    if len({each.dtype for each in indices}) > 1:
        indices = [apply_op("Cast", x=each, DstT="int64") for each in indices]
    rows = apply_op("ConcatV2", values=indices, axis=axis, name="concat")
    shape = next((part.dense_shape for part in parts if part.dense_shape is not None), None)
    return IndexedSlices(values, rows, shape)


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


def hessians(
    ys: Any,
    xs: Any,
    name: str = "hessians",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: int | None = None,
) -> list[Tensor]:
    """The second derivatives of sum(ys) by each x: a tensor of shape x.shape + x.shape each.

    ValueError when an x's static shape isn't fully known.
    """
    options = (colocate_gradients_with_ops, gate_gradients, aggregation_method)
    result = []
    with name_scope(name, "hessians", [*_as_list(ys), *_as_list(xs)]):
        for x in _as_list(xs):
            dims = x.shape.as_list() if x.shape.is_fully_defined() else None
            if dims is None:
                raise ValueError(f"hessians needs the static shape of {x}; it is {x.shape}")
            (first,) = gradients(ys, x, None, "gradients", *options)
            flat = apply_op("Reshape", tensor=convert_to_tensor(first), shape=[-1])
            size = functools.reduce(int.__mul__, dims, 1)
            rows = []
            for k in range(size):
                element = apply_op("StridedSlice", input=flat, begin=[k], end=[k + 1], strides=[1], shrink_axis_mask=1)
                (row,) = gradients(element, x, None, "gradients", *options)
                rows.append(apply_op("ZerosLike", x=convert_to_tensor(x)) if row is None else convert_to_tensor(row))
            table = apply_op("Pack", values=rows, axis=0)
            result.append(apply_op("Reshape", tensor=table, shape=[*dims, *dims]))
    return result


_custom_numbers = itertools.count()


def custom_gradient(f: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Decorator for a function that returns its result and the function of its gradient.

    The second maps the gradients of the results to those of the arguments.
    """
    if f is None:
        return custom_gradient

    @functools.wraps(f)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        inputs = [apply_op("Identity", input=convert_to_tensor(arg)) for arg in args]
        result, function = f(*inputs, **kwargs)
        is_list = isinstance(result, (list, tuple))
        outputs = [convert_to_tensor(each) for each in (result if is_list else [result])]
        kind = f"CustomGradient-{next(_custom_numbers)}"

        @RegisterGradient(kind)
        def gradient(op: Operation, *grads: Gradient) -> list[Gradient]:
            own = function(*grads[: len(outputs)])
            own = list(own) if isinstance(own, (list, tuple)) else [own]
            if len(own) != len(inputs):
                raise ValueError(
                    f"custom_gradient function expected to return {len(inputs)} gradients, but returned {len(own)}"
                )
            return [None] * len(outputs) + own

        with get_default_graph().gradient_override_map({"IdentityN": kind}):
            joined = apply_op("IdentityN", input=[*outputs, *inputs])
        kept = joined[: len(outputs)]
        return type(result)(kept) if is_list else kept[0]

    return decorated
