"""Gradients of loops: the loop's trips again, from the last to the first.

The forward loop is made to give back, for each trip, what the gradients of that trip need (`_WhileStacked`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.backward import HEAVY, Backward, is_pure, own_op, reached_parameters
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.func_graph import FuncGraph
from stepjit.framework.gradients import carries_gradient, gradients_between, summed
from stepjit.framework.graph import Graph, get_default_graph, op_def_of
from stepjit.framework.indexed_slices import IndexedSlices
from stepjit.framework.registry import RegisterGradient, RegisterRegionGradient
from stepjit.framework.stack import default_graphs
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.while_loop import make_while
from stepjit_runtime import dtypes


def stack_up(holder: Operation, tensor: Tensor) -> Tensor:
    """A further output of a loop: what `tensor` of its body was in each trip, in rows."""
    known: dict[Tensor, Tensor] = holder.__dict__.setdefault("stacked_up", {})
    if tensor in known:
        return known[tensor]
    attrs, body = holder.attrs, holder.attrs["body"]
    dtype = tensor.dtype.base_dtype
    with holder.graph.lock:
        if holder.type != "_WhileStacked":
            holder.type, holder.op_def = "_WhileStacked", op_def_of("_WhileStacked")
            attrs["stacked"], attrs["Tout"] = 0, attrs["T"]
        attrs["stacked"] += 1
        attrs["Tout"] = (*attrs["Tout"], dtype)
        attrs["body"] = body.with_outputs([*body.outputs, tensor])
        dims = None if tensor.dims is None else (None, *tensor.dims)
        known[tensor] = rows = Tensor(holder, len(holder.outputs), dtype, dims)
        holder.outputs.append(rows)
    return rows


def stack_up_extents(holder: Operation, tensor: Tensor) -> Tensor:
    """A further output of a loop: the shapes that `tensor` of its body had, a row for each trip.

    Rows of other shapes are stacked up in the corner of one that has room for all. A step that sees that the shape is
    always the same has it here once, as a vector.
    """
    known: dict[Tensor, Tensor] = holder.__dict__.setdefault("extents_stacked_up", {})
    if tensor not in known:
        body = holder.attrs["body"].home
        with default_graphs.enter(body), body.control_dependencies(None):
            extents = apply_op("_RowExtents", input=tensor, name="extents")
        known[tensor] = stack_up(holder, extents)
    return known[tensor]


def _is_fixed(dims: Any) -> bool:
    return dims is not None and None not in dims


class _LoopBackward(Backward):
    """One trip backwards: trip `number` of the forward loop."""

    def __init__(self, outer_graph: Graph, label: str, holder: Operation, kept: frozenset[int]) -> None:
        super().__init__(outer_graph, label, "while loop", holder, holder.attrs["body"])
        self._numbers = {parameter: k for k, parameter in enumerate(self.forward.inputs)}
        self._kept = kept
        self.number = self.add_parameter(dtypes.int32, ())

    def _given(self, tensor: Tensor) -> Tensor | None:
        number = self._numbers.get(tensor)
        if number in self._kept:
            return self.capture(self.holder.inputs[number])
        if number is None and is_pure(tensor.op) and tensor.op.type not in HEAVY:
            return None
        return self.row(stack_up(self.holder, tensor), tensor)

    def row(self, rows: Tensor, like: Tensor) -> Tensor:
        """The row of this trip, in the shape that `like`, a tensor of the forward loop's body, had there."""
        with default_graphs.enter(self), self.control_dependencies(None):
            found = apply_op("GatherV2", params=self.capture(rows), indices=self.number, axis=0, name="row")
            if not _is_fixed(like.dims):
                every = self.capture(stack_up_extents(self.holder, like))
                extents = apply_op("_ExtentsOfRow", extents=every, index=self.number)
                begin = apply_op("ZerosLike", x=extents)
                found = apply_op("Slice", input=found, begin=begin, size=extents, name="row")
        found.set_shape(like.shape)
        return found


@RegisterRegionGradient("While", "StatelessWhile", "_WhileStacked")
def _while_gradient(op: Operation, grads: Sequence[Any], needed: Sequence[bool]) -> list[Any]:
    return _LoopGradient(op, grads, needed).results()


class _LoopGradient:
    """The backward loop of one loop: which loop variables and invariants it concerns, and the op."""

    def __init__(self, op: Operation, grads: Sequence[Any], needed: Sequence[bool]) -> None:
        self.graph = get_default_graph()
        self.count = len(op.inputs)
        self.grads = list(grads)
        self.holder = own_op(op)
        self.body: FuncGraph = self.holder.attrs["body"]
        pairs = zip(self.body.inputs, self.body.outputs)
        self.kept = frozenset(k for k, (before, after) in enumerate(pairs) if before is after)
        self._find_concerned(needed)

    def _find_concerned(self, needed: Sequence[bool]) -> None:
        """The parameters that depend on what is differentiated by, and those of them that a gradient comes to."""
        reach = [reached_parameters(each, self.body, carries_gradient) for each in self.body.outputs]
        wanted = {k for k, is_needed in enumerate(needed) if is_needed and carries_gradient(self.body.inputs[k])}
        flows = {k for k, grad in enumerate(self.grads) if grad is not None}
        size = (-1, -1)
        while size != (len(wanted), len(flows)):
            size = len(wanted), len(flows)
            wanted |= {k for k in range(self.count) if reach[k] & wanted and carries_gradient(self.body.inputs[k])}
            flows |= {number for k in flows for number in reach[k]}
        self.wanted = sorted(wanted)
        self.variables = [k for k in self.wanted if k in flows and k not in self.kept]

    def results(self) -> list[Any]:
        """One gradient per input of the loop."""
        label = self.graph.local.scope
        region = _LoopBackward(self.graph, label, self.holder, self.kept)
        incoming = {k: self._incoming(k) for k in self.variables}
        places = {k: region.add_parameter(grad.dtype, self.body.inputs[k].dims) for k, grad in incoming.items()}
        with default_graphs.enter(region):
            found = self._trip(region, places)
            after = [apply_op("Sub", x=region.number, y=1)]
            after += [self._next(found[k], place) for k, place in places.items()]
        sums = {k: found[k] for k in self.kept if found.get(k) is not None}
        return self._run(region, label, incoming, places, after, sums)

    def _incoming(self, k: int) -> Tensor:
        """The gradient that a loop variable has after the last trip."""
        grad = self.grads[k]
        if grad is not None:
            return self.graph.capture(convert_to_tensor(grad))
        with default_graphs.enter(self.graph):
            return apply_op("ZerosLike", x=self.holder.outputs[k])

    def _trip(self, region: _LoopBackward, places: dict[int, Tensor]) -> dict[int, Any]:
        """The gradients of the parameters by those of the results of the same trip."""
        ys = [self.body.outputs[k] for k in places]
        starts: list[Any] = list(places.values())
        for k in range(self.count, len(self.grads)):
            if self.grads[k] is not None:
                ys.append(self.body.outputs[k])
                starts.append(region.row(convert_to_tensor(self.grads[k]), self.body.outputs[k]))
        xs = [self.body.inputs[k] for k in self.wanted]
        return dict(zip(self.wanted, gradients_between(ys, xs, starts)))

    @staticmethod
    def _next(grad: Any, place: Tensor) -> Tensor:
        if grad is None:
            return apply_op("ZerosLike", x=place)
        return get_default_graph().capture(convert_to_tensor(grad))

    def _run(
        self,
        region: _LoopBackward,
        label: str,
        incoming: dict[int, Tensor],
        places: dict[int, Tensor],
        after: list[Tensor],
        sums: dict[int, Any],
    ) -> list[Any]:
        """Make the op. Dense gradients of invariants are added up from trip to trip, slices kept trip by trip."""
        dense = {k: grad for k, grad in sums.items() if not isinstance(grad, IndexedSlices)}
        parameters, initial = [region.number, *places.values()], [self._last_trip(), *incoming.values()]
        for k, grad in dense.items():
            total = region.add_parameter(grad.dtype.base_dtype, grad.dims)
            parameters.append(total)
            initial.append(self._zeros(k, grad))
            with default_graphs.enter(region):
                after.append(apply_op("AddV2", x=total, y=grad))
        test = FuncGraph(self.graph, label, "while loop")
        numbers = [test.add_parameter(each.dtype, each.dims) for each in parameters]
        with default_graphs.enter(test):
            test.outputs = [apply_op("GreaterEqual", x=numbers[0], y=0)]
        op = make_while(self.graph, test, region, numbers, parameters, initial, after)
        results: list[Any] = [grad if k in self.kept else None for k, grad in enumerate(self.grads[: self.count])]
        for k, total in zip([*places, *dense], op.outputs[1:]):
            results[k] = total if k in places else _plus(results[k], total)
        for k, grad in sums.items():
            if k not in dense:
                results[k] = _plus(results[k], self._all_slices(op, region, k, grad))
        return results

    def _last_trip(self) -> Tensor:
        rows = next(iter(self.holder.__dict__.get("stacked_up", {}).values()), None)
        if rows is None:
            body = self.body.home
            with default_graphs.enter(body), body.control_dependencies(None):
                rows = stack_up(self.holder, constant(0, name="trip"))
        trips = apply_op(
            "StridedSlice", input=apply_op("Shape", input=rows), begin=[0], end=[1], strides=[1], shrink_axis_mask=1
        )
        return apply_op("Sub", x=trips, y=1)

    def _zeros(self, k: int, grad: Tensor) -> Tensor:
        source = self.graph.capture(self.holder.inputs[k])
        if source.dtype.base_dtype.kind != "o":
            return apply_op("ZerosLike", x=source)
        shape = apply_op("VariableShape", input=source)
        return apply_op("Fill", dims=shape, value=constant(0, dtype=grad.dtype.base_dtype))

    def _all_slices(self, op: Operation, region: _LoopBackward, k: int, grad: IndexedSlices) -> IndexedSlices:
        """The slices of all trips, one after the other."""
        with default_graphs.enter(region):
            values, indices = region.capture(grad.values), region.capture(grad.indices)
        source = self.graph.capture(self.holder.inputs[k])
        return IndexedSlices(
            _together(op, values),
            _together(op, indices),
            apply_op("VariableShape" if source.dtype.base_dtype.kind == "o" else "Shape", input=source),
        )


def _together(op: Operation, tensor: Tensor) -> Tensor:
    """What `tensor` of a loop's body was in all trips, one after the other along its first axis."""
    rows, dims = stack_up(op, tensor), tensor.dims
    if not _is_fixed(dims):
        return apply_op("_RowsTogether", rows=rows, extents=stack_up_extents(op, tensor))
    shape = constant([-1, *(dims or ())[1:]], dtype="int32")
    return apply_op("Reshape", tensor=rows, shape=shape)


@RegisterGradient("_RowsTogether")
def _rows_together_grad(op: Operation, grad: Tensor) -> list[Tensor | None]:
    rows, extents = op.inputs
    return [apply_op("_RowsApart", values=grad, rows=rows, extents=extents), None]


@RegisterGradient("_RowsApart")
def _rows_apart_grad(op: Operation, grad: Tensor) -> list[Tensor | None]:
    return [apply_op("_RowsTogether", rows=grad, extents=op.inputs[2]), None, None]


def _plus(a: Any, b: Any) -> Any:
    return b if a is None else summed([a, b])
