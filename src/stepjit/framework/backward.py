"""The regions that gradients of branches and loops run in: what they take from the forward region, and how.

A value of the forward region is computed again from the region's parameters where that is cheap and gives the same;
else the forward op hands it out as one more result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from stepjit.framework.func_graph import FuncGraph
from stepjit.framework.graph import Graph, get_default_graph
from stepjit.framework.tensor import Operation, Tensor

_REGION_ATTRS = {
    "If": ("then_branch", "else_branch"),
    "StatelessIf": ("then_branch", "else_branch"),
    "While": ("cond", "body"),
    "StatelessWhile": ("cond", "body"),
    "_WhileStacked": ("cond", "body"),
}


HEAVY = frozenset({
    "MatMul", "BatchMatMul", "BatchMatMulV2", "Einsum", "Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter",
    "DepthwiseConv2dNative", "Conv3D", "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3", "Cholesky", "Qr",
    "Svd", "SelfAdjointEigV2", "MatrixInverse", "MatrixSolve", "MatrixTriangularSolve", "MatrixDeterminant", "LRN",
    "TopKV2", "MaxPool", "AvgPool",
})  # fmt: skip
"""Op types whose results are rather kept than computed again."""


def regions_of(op: Operation) -> list[FuncGraph]:
    """The regions that an op holds."""
    return [op.attrs[name] for name in _REGION_ATTRS.get(op.type, ())]


def is_pure(op: Operation) -> bool:
    """Whether running the op again gives the same values and changes nothing."""
    pending, seen = [op], set()
    while pending:
        current = pending.pop()
        if any(each.dtype._is_ref_dtype or each.dtype.base_dtype.kind == "o" for each in current.inputs):
            return False
        regions = regions_of(current)
        if current.op_def.stateful and not regions:
            return False
        for region in regions:
            if region.home not in seen:
                seen.add(region.home)
                pending += region.ops
    return True


def all_pure(tensor: Tensor) -> bool:
    """Whether everything that `tensor` is computed from in its region is pure."""
    pending, seen = [tensor], {tensor}
    while pending:
        op = pending.pop().op
        if not is_pure(op):
            return False
        for each in op.inputs:
            if each not in seen:
                seen.add(each)
                pending.append(each)
    return True


class Backward(FuncGraph):
    """A region of a gradient, in which tensors of `forward`, the region of `holder`, may be used."""

    def __init__(self, outer_graph: Graph, label: str, kind: str, holder: Operation, forward: FuncGraph) -> None:
        super().__init__(outer_graph, label, kind)
        self.holder, self.forward = holder, forward
        self._again: dict[Tensor, Tensor] = {}
        """What stands for tensors of the forward region."""

    def capture(self, tensor: Tensor) -> Tensor:
        """As in `FuncGraph`; tensors of the forward region are computed again, or handed out by the forward op."""
        if tensor.op.graph is not self.forward.home:
            return super().capture(tensor)
        found = self._again.get(tensor)
        return recompute(self, [tensor], self._again, self._given)[0] if found is None else found

    def own(self, op: Operation) -> Operation:
        """The op in this region that does again what `op` of the forward region does; `op` when it is not pure."""
        if op.graph is not self.forward.home or not is_pure(op):
            return op
        return self.capture(op.outputs[0]).op

    def _given(self, tensor: Tensor) -> Tensor | None:
        """What stands for a forward tensor that is not to be computed again."""
        raise AssertionError


def recompute(
    graph: Graph,
    tensors: Sequence[Tensor],
    again: dict[Tensor, Tensor],
    given: Callable[[Tensor], Tensor | None],
) -> list[Tensor]:
    """Copies in `graph` of tensors of another region, down to those that are `given`; `again` keeps what was copied."""
    pending = list(tensors)
    while pending:
        tensor = pending[-1]
        if tensor in again:
            pending.pop()
            continue
        found = given(tensor)
        if found is not None:
            again[tensor] = found
            pending.pop()
            continue
        missing = [each for each in tensor.op.inputs if each not in again]
        if missing:
            pending += missing
            continue
        copied = _copy(graph, tensor.op, [again[each] for each in tensor.op.inputs])
        again.update(zip(tensor.op.outputs, copied.outputs))
        pending.pop()
    return [again[tensor] for tensor in tensors]


def _copy(graph: Graph, op: Operation, inputs: Iterable[Tensor]) -> Operation:
    local = graph.local
    plain, local.plain = local.plain, True
    try:
        name = graph.unique_name(op.name.rpartition("/")[2])
        dtypes = [output.dtype for output in op.outputs]
        copied = graph.add(op.op_def, tuple(inputs), dict(op.attrs), name, dtypes)
    finally:
        local.plain = plain
    copied.device, copied._place = op.device, op._place
    for mine, theirs in zip(copied.outputs, op.outputs):
        mine.dims = theirs.dims
    return copied


def own_op(op: Operation) -> Operation:
    """The op whose gradient is built: in a region of a gradient, what stands for the forward op there."""
    graph: Any = get_default_graph()
    return graph.own(op) if isinstance(graph, Backward) else op


def reached_parameters(tensor: Tensor, region: FuncGraph, carries: Callable[[Tensor], bool]) -> set[int]:
    """The numbers of the region's parameters that `tensor` depends on by a path of tensors that carry a gradient."""
    numbers = {parameter: number for number, parameter in enumerate(region.inputs)}
    seen, pending, found = {tensor}, [tensor], set()
    while pending:
        current = pending.pop()
        if not carries(current):
            continue
        if current in numbers:
            found.add(numbers[current])
        for each in current.op.inputs:
            if each not in seen:
                seen.add(each)
                pending.append(each)
    return found
