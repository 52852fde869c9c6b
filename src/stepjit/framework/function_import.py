"""The functions of a GraphDef's library: as regions of `If` and `While` ops, or put in the place of their calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.attr_values import read_attr
from stepjit.framework.backward import all_pure, recompute
from stepjit.framework.func_graph import FuncGraph
from stepjit.framework.function_io import SHAPES, outputs_of_arg
from stepjit.framework.graph import Graph, op_def_of
from stepjit.framework.importer import NodePlan, Source, make_ops
from stepjit.framework.shape import Dims, as_dims, compatible, merged
from stepjit.framework.stack import default_graphs, get_default_graph
from stepjit.framework.tensor import Operation, Tensor
from stepjit.framework.tensor_lists import OPEN
from stepjit.ops.creation import zeros
from stepjit_compiler.opdef import lookup
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import as_dtype

_LOOPS = ("While", "StatelessWhile", "_WhileStacked")


class Library:
    """The functions of a GraphDef, by name."""

    def __init__(self, graph_def: Any) -> None:
        self.producer = graph_def.versions.producer
        self.functions = {each.signature.name: each for each in graph_def.library.function}

    def find(self, function: Any) -> Any:
        """The FunctionDef that a NameAttrList names; ValueError when there is none."""
        found = self.functions.get(function.name)
        if found is None:
            raise ValueError(f"Function '{function.name}' is not in the library of the GraphDef")
        return found

    # --- Regions ---

    def with_regions(
        self, graph: Graph, name: str, op_type: str, attrs: dict[str, Any], inputs: list[Tensor]
    ) -> dict[str, Any]:
        """The attrs of an op with its functions as regions of `graph`; buffers among `inputs` get their shapes."""
        declared = op_def_of(op_type).attr
        result = dict(attrs)
        loop = op_type in _LOOPS
        shapes: Sequence[Dims] = [tensor.dims for tensor in (inputs if loop else inputs[1:])]
        if loop and attrs.get("output_shapes"):
            # They say what stays the same; what is only passed on has all that its tensor has.
            passed = self._passed_on(attrs["body"])
            shapes = [own if k in passed else said for k, (own, said) in enumerate(zip(shapes, attrs["output_shapes"]))]
        for key, value in attrs.items():
            attr = declared.get(key)
            if attr is None or attr.type != "func":
                continue
            kind = "while loop" if loop else "cond branch"
            region = self.region(graph, name, kind, value, shapes)
            self._pass_in(region, inputs if loop else inputs[1:], loop and key == "body")
            result[key] = region
        if loop:
            self._pass_on(result["cond"], result["body"])
            _settle(graph, result["body"], inputs)
        result["output_shapes"] = ()
        return result

    def _passed_on(self, function: Any) -> set[int]:
        """The numbers of the arguments that a loop's body gives back as they are."""
        definition = self.find(function)
        pairs = zip(definition.signature.input_arg, definition.signature.output_arg)
        return {k for k, (given, result) in enumerate(pairs) if definition.ret[result.name] == given.name}

    @staticmethod
    def _pass_in(region: FuncGraph, inputs: Sequence[Tensor], body: bool) -> None:
        """Note which parameters always stand for the same tensor."""
        if region.kind == "while loop" and not body:
            return
        for number, (parameter, tensor) in enumerate(zip(region.inputs, inputs)):
            if not body or region.outputs[number] is parameter:
                region.sources[parameter] = tensor

    @staticmethod
    def _pass_on(cond: FuncGraph, body: FuncGraph) -> None:
        for mine, theirs in zip(cond.inputs, body.inputs):
            if theirs in body.sources:
                cond.sources[mine] = body.sources[theirs]

    def region(self, graph: Graph, name: str, kind: str, function: Any, shapes: Sequence[Dims]) -> FuncGraph:
        """A function as a region of `graph`, its parameters of the given shapes."""
        definition = self.find(function)
        region = FuncGraph(graph, name, kind)
        region.local.scope = name
        with default_graphs.enter(region):
            for number, arg in enumerate(definition.signature.input_arg):
                dims = _both(shapes[number] if number < len(shapes) else None, _declared_shape(definition, number))
                region.add_parameter(as_dtype(arg.type), dims)
            made, _ = self._body(region, definition, region.inputs, name + "/")
            region.outputs = made
        return region

    def _body(
        self, graph: Graph, definition: Any, arguments: Sequence[Tensor], scope: str
    ) -> tuple[list[Tensor], list[Operation]]:
        """The ops of a function in `graph`: its results, and the ops that it asks for besides."""
        names = [arg.name for arg in definition.signature.input_arg]
        given = {(name, 0): tensor for name, tensor in zip(names, arguments)}
        plan = _FunctionPlan(definition.node_def, self.producer, given, self)
        made = make_ops(graph, plan, scope)
        results = []
        for arg in definition.signature.output_arg:
            source = plan.source_of(definition.ret[arg.name])
            results.append(given[source] if source in given else made[source[0]].outputs[source[1]])
        return results, [made[name] for name in definition.control_ret.values() if name in made]

    # --- Calls ---

    def call(
        self, graph: Graph, name: str, function: Any, inputs: Sequence[Tensor], controls: Sequence[Operation]
    ) -> Operation:
        """What a call gives: an op of that name whose outputs are the function's results."""
        with default_graphs.enter(graph), graph.control_dependencies(controls):
            results, asked = self._body(graph, self.find(function), inputs, name + "/body/")
            with graph.control_dependencies(asked):
                if not results:
                    return apply_op("NoOp", name=name + "/")
                return apply_op("IdentityN", input=results, name=name + "/")[0].op

    def case(
        self, graph: Graph, name: str, attrs: dict[str, Any], inputs: Sequence[Tensor], controls: Sequence[Operation]
    ) -> Operation:
        """What a Case gives: an op whose outputs are the chosen function's results."""
        from stepjit.ops.cond import switch_case

        def branch(function: Any) -> Any:
            def run() -> list[Tensor]:
                region: Any = get_default_graph()
                arguments = [region.capture(tensor) for tensor in inputs[1:]]
                results, _ = self._body(region, self.find(function), arguments, region.local.scope + "/")
                return results

            return run

        with default_graphs.enter(graph), graph.control_dependencies(controls):
            found = switch_case(inputs[0], [branch(each) for each in attrs["branches"]], name=name + "/")
            results = list(found) if isinstance(found, (list, tuple)) else [found]
            return apply_op("IdentityN", input=results, name=graph.free_name(name) + "/")[0].op


def _settle(graph: Graph, body: FuncGraph, inputs: list[Tensor]) -> None:
    """Let buffers that enter a loop without a shape for their rows have that of what the first trip writes."""
    for k, tensor in enumerate(inputs):
        after = body.outputs[k]
        if OPEN not in tensor.op.attrs or after is body.inputs[k] or not all_pure(after):
            continue
        with default_graphs.enter(body):
            extents = apply_op("Shape", input=after)
        places = dict(zip(body.inputs, inputs))
        (extents,) = recompute(graph, [extents], {}, places.get)
        with default_graphs.enter(graph):
            inputs[k] = zeros(extents, tensor.dtype)


class _FunctionPlan(NodePlan):
    """The nodes of a function, whose inputs are named otherwise: `argument`, or `node:output:number`."""

    def __init__(self, nodes: Any, producer: int, given: dict[Source, Tensor], library: Library) -> None:
        self._attrs: dict[str, tuple[Any, dict[str, Any]]] = {}
        for proto in nodes:
            op_def = lookup(proto.op)
            if op_def is not None:
                kinds = {attr.name: attr.type for attr in op_def.attrs}
                counts = {
                    key: read_attr(proto.attr[key], kinds[key])
                    for arg in op_def.outputs
                    for key in (arg.list_attr, arg.count_attr)
                    if key is not None and key in proto.attr
                }
                self._attrs[proto.name] = op_def, counts
        super().__init__(nodes, producer, given, library)

    def source_of(self, text: str) -> Source:
        name, _, rest = text.partition(":")
        if not rest or name not in self._attrs:
            return name, 0
        output, _, number = rest.partition(":")
        op_def, attrs = self._attrs[name]
        position = 0
        for arg in op_def.outputs:
            if arg.name == output:
                return name, position + int(number or 0)
            position += outputs_of_arg(arg, attrs)
        return name, int(output) if output.isdecimal() else 0


def _declared_shape(definition: Any, number: int) -> Dims:
    attrs = definition.arg_attr[number].attr if number in definition.arg_attr else {}
    if SHAPES not in attrs or not attrs[SHAPES].list.shape:
        return None
    if definition.signature.input_arg[number].type == dtypes.resource.as_datatype_enum:
        return None
    return as_dims(attrs[SHAPES].list.shape[0])


def _both(a: Dims, b: Dims) -> Dims:
    """What two statements about a shape say together; the second where they contradict each other."""
    return merged(a, b) if compatible(a, b) else b
