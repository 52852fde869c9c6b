"""Regions: the graphs of branches and loop bodies, with parameters and results, made inside another graph.

A region shares names, collections and seeds with the graph around it. A tensor from outside that is used inside is
*captured*: a parameter stands for it, and the op that holds the region passes the tensor in.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from stepjit.framework.graph import Graph, op_def_of, unreachable
from stepjit.framework.scopes import ControlScope
from stepjit.framework.shape import Dims
from stepjit.framework.stack import default_graphs, get_default_graph
from stepjit.framework.tensor import Operation, Tensor
from stepjit_runtime.dtypes import DType


@contextlib.contextmanager
def init_scope() -> Iterator[None]:
    """A block whose ops are made outside all branches and loops, and wait for nothing; in the current name scope."""
    with outermost() as graph, graph.control_dependencies(None):
        yield


@contextlib.contextmanager
def outermost() -> Iterator[Graph]:
    """A block whose ops are made outside all regions, in the current name scope; gives that graph."""
    graph = get_default_graph()
    if not graph.is_function:
        yield graph
        return
    root = graph.root
    outer, root.local.scope = root.local.scope, graph.local.scope
    try:
        with default_graphs.enter(root), root.control_dependencies(None):
            yield root
    finally:
        root.local.scope = outer


class FuncGraph(Graph):
    """A region of `outer_graph`: `inputs` are its parameters, `outputs` its results.

    kind: what it is to users: "cond branch", "while loop".
    """

    is_function = True

    def __init__(self, outer_graph: Graph, label: str, kind: str) -> None:
        super().__init__()
        self.outer_graph = outer_graph
        self.label, self.kind = label, kind
        self.root = outer_graph.root
        self.depth = outer_graph.depth + 1
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.captures: dict[Tensor, Tensor] = {}
        """Parameters by the tensors of the graph around that they stand for."""
        self.sources: dict[Tensor, Tensor] = {}
        """The other way round."""
        self.outer_controls: dict[Operation, None] = {}
        """Ops of outer graphs that ops in here wait for: what holds the region waits for them."""
        self.function_name: str | None = None
        """As which it is written into a GraphDef."""
        self.home = self
        """The region itself; of a view, the one that the ops are in."""
        self._stands_in: dict[Tensor, Tensor] = {}
        self._share(outer_graph)

    def _share(self, outer: Graph) -> None:
        self.lock, self.by_name = outer.lock, outer.by_name
        self._names, self._collections, self._container = outer._names, outer._collections, outer._container
        self._gradient_functions = outer._gradient_functions
        mine, theirs = self.local, outer.local
        mine.scope, mine.devices, mine.colocated = theirs.scope, theirs.devices, theirs.colocated
        mine.attrs = theirs.attrs
        mine.overrides = getattr(theirs, "overrides", {})
        self._refresh_plain()

    @property
    def seed(self) -> int | None:
        return self.root.seed

    @seed.setter
    def seed(self, value: int | None) -> None:
        self.root.seed = value

    def next_seedless(self) -> int:
        """The number of the next random op without a seed; counted in the outermost graph."""
        return self.root.next_seedless()

    # --- Parameters ---

    def add_parameter(self, dtype: DType, dims: Dims) -> Tensor:
        """A new parameter, after those there are."""
        number = len(self.inputs)
        local = self.local
        plain, local.plain = local.plain, True
        try:
            name = f"{self.label}/arg_{len(self.by_name)}"
            op = self.add(op_def_of("_Arg"), (), {"T": dtype, "index": number}, name, (dtype,))
        finally:
            local.plain = plain
        tensor = op.outputs[0]
        tensor.dims = dims
        self.inputs.append(tensor)
        return tensor

    def encloses(self, graph: Graph) -> bool:
        """Whether `graph` is one of those around this one."""
        outer: Any = self
        while outer.is_function:
            outer = outer.outer_graph
            if outer is graph:
                return True
        return False

    def _is_in_loop_within(self, graph: Graph) -> bool:
        """Whether a loop lies between this region and a graph around it."""
        inner: Any = self
        while inner is not graph:
            if inner.kind == "while loop":
                return True
            inner = inner.outer_graph
        return False

    def capture(self, tensor: Tensor) -> Tensor:
        """The tensor of this region that stands for one of a graph around; ValueError for one of another graph."""
        if tensor.op.graph is self:
            return tensor
        found = self._stands_in.get(tensor)
        if found is None:
            source = tensor
            if tensor.op.graph is not self.outer_graph:
                source = self.outer_graph.capture(tensor)
            found = self._stands_in.get(source)
            if found is None:
                found = self.add_parameter(source.dtype, source.dims)
                self.pass_in(source, found)
            self._stands_in[tensor] = found
        return found

    def pass_in(self, source: Tensor, parameter: Tensor) -> None:
        """Let `parameter` stand for `source`, a tensor of the graph around."""
        self.captures[source] = parameter
        self.sources[parameter] = source
        self._stands_in[source] = parameter

    def order_parameters(self, first: Sequence[Tensor], captured: Iterable[Tensor]) -> None:
        """Let the parameters be `first`, then one for each of the captured tensors, in that order."""
        self.inputs = [*first, *(self.capture(each) for each in captured)]
        for number, tensor in enumerate(self.inputs):
            tensor.op.attrs["index"] = number

    def with_outputs(self, outputs: Sequence[Tensor]) -> FuncGraph:
        """A view of this region with these results; the ops are the same."""
        view = copy.copy(self)
        view.outputs, view.function_name = list(outputs), None
        return view

    # --- What is outside ---

    def control_dependencies(self, control_inputs: Iterable[Any] | None) -> ControlScope:
        """As in `Graph`; what is outside is waited for by the op that holds this region.

        As in TF, a loop's trips do not wait for an op around the loop that has no outputs.
        """
        scope = super().control_dependencies(control_inputs)
        for op in scope.ops:
            if self.encloses(op.graph):
                if op.outputs or not self._is_in_loop_within(op.graph):
                    self.outer_controls[op] = None
            elif op.graph is not self:
                raise ValueError(unreachable(op, "a control dependency"))
        scope.ops = [op for op in scope.ops if op.graph is self]
        return scope

    def hand_on_controls(self, holder: Operation) -> None:
        """Let the op that holds this region wait for what is waited for inside."""
        for op in self.outer_controls:
            if op.graph is holder.graph:
                holder._add_control_input(op)
            elif holder.graph.is_function:
                holder.graph.outer_controls[op] = None
