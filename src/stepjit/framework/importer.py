"""`import_graph_def`: the nodes of a GraphDef as ops of the default graph.

Everything but shapes is checked before the first op is made, so that a wrong GraphDef changes nothing.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stepjit.framework import device as devices
from stepjit.framework.apply import arg_dtypes
from stepjit.framework.attr_values import read_attr
from stepjit.framework.attrs import check_allowed
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.graph import Graph
from stepjit.framework.scopes import name_scope
from stepjit.framework.shape import as_dims
from stepjit.framework.stack import get_default_graph
from stepjit.framework.tensor import Operation, Tensor
from stepjit.proto import MESSAGES
from stepjit_compiler.opdef import Attr, OpDef, lookup
from stepjit_compiler.ops.control_v1 import BACK, MERGES
from stepjit_runtime.dtypes import DType

_NODE_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*", re.ASCII)
_UNKNOWN_SCALARS = 21
"""Up to this producer version, a placeholder with the shape of a scalar has an unknown shape."""
_SHAPES, _GROUP = "_output_shapes", "loc:@"

Source = tuple[str, int]
"""A node's name and the number of one of its outputs."""


def import_graph_def(
    graph_def: Any,
    input_map: Mapping[str, Any] | None = None,
    return_elements: Sequence[str] | None = None,
    name: str | None = None,
    op_dict: Any = None,
    producer_op_list: Any = None,
) -> list[Any] | None:
    """Add the nodes of a GraphDef to the default graph, under the prefix `name` (default: `import`; empty: none).

    input_map: tensors (or values for constants) that stand in for tensors of the GraphDef, by name: `x` or `x:0`.
    return_elements: names of tensors (`x:0`) and ops (`x`) to return.
    Raises TypeError for arguments of wrong types, ValueError for a GraphDef that is no valid graph, has op types that
    don't exist here, or lacks what is mapped or asked for.
    """
    graph_def = _checked(graph_def)
    if input_map is not None and not (
        isinstance(input_map, Mapping) and all(isinstance(key, (str, bytes)) for key in input_map)
    ):
        raise TypeError("Argument `input_map` must be a dictionary mapping strings to Tensor objects.")
    if return_elements is not None and not all(isinstance(each, (str, bytes)) for each in return_elements):
        raise TypeError("Argument `return_elements` must be a list of strings.")
    wanted = [_text(each) for each in return_elements or ()]
    values = {_text(key): value for key, value in (input_map or {}).items()}
    with name_scope(name, "import", list(values.values())) as scope:
        graph = get_default_graph()
        replaced = _replacements(values, name)
        graph_def = _without_lists(graph_def)
        plan = NodePlan(graph_def.node, graph_def.versions.producer, replaced, _library(graph_def))
        plan.check_mapped()
        returned = [plan.find(each) for each in wanted]
        made = make_ops(graph, plan, scope)
    return None if return_elements is None else [_element(each, made, replaced) for each in returned]


def _without_lists(graph_def: Any) -> Any:
    """The GraphDef, with buffers in the place of the lists of tensors that TensorFlow 2 writes."""
    if not any(node.op.startswith("TensorList") for node in _all_nodes(graph_def)):
        return graph_def
    from stepjit.framework.tensor_lists import without_lists

    return without_lists(graph_def)


def _all_nodes(graph_def: Any) -> Iterator[Any]:
    yield from graph_def.node
    for function in graph_def.library.function:
        yield from function.node_def


def _checked(graph_def: Any) -> Any:
    kind = MESSAGES["GraphDef"]
    if isinstance(graph_def, kind):
        return graph_def
    descriptor = getattr(graph_def, "DESCRIPTOR", None)
    if getattr(descriptor, "full_name", None) == kind.DESCRIPTOR.full_name:
        # TensorFlow's own message, in a process that has both.
        return kind.FromString(graph_def.SerializeToString())
    raise TypeError(f"Argument `graph_def` must be a GraphDef proto, not {type(graph_def).__name__}.")


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _replacements(values: Mapping[str, Any], name: str | None) -> dict[Source, Tensor]:
    """The tensors of `input_map` by what they stand in for; other values become constants under `_inputs`."""
    result: dict[Source, Tensor] = {}
    for key, value in values.items():
        if key.startswith("^"):
            raise ValueError(f"input_map maps tensors only, not the control input {key!r}")
        if not isinstance(value, Tensor):
            if name == "":
                raise ValueError(
                    "tf.import_graph_def() requires a non-empty `name` if `input_map` contains non-Tensor values. "
                    "Call tf.convert_to_tensor() on them first."
                )
            with name_scope("_inputs"):
                value = convert_to_tensor(value)
        result[_source(key)] = value
    return result


def _source(text: str) -> Source:
    """`x:1` as ("x", 1); `x` as ("x", 0)."""
    name, colon, number = text.rpartition(":")
    return (name, int(number)) if colon and number.isdecimal() else (text, 0)


@dataclass(slots=True)
class _Node:
    proto: Any
    op_def: OpDef
    attrs: dict[str, Any]
    outputs: Sequence[DType]
    sources: list[Source] = field(default_factory=list)
    controls: list[str] = field(default_factory=list)


def _library(graph_def: Any) -> Any:
    if not graph_def.library.function:
        return None
    from stepjit.framework.function_import import Library

    return Library(graph_def)


class NodePlan:
    """The nodes of a GraphDef or function, checked; `replaced` are tensors that stand in for some of theirs."""

    def __init__(self, nodes: Any, producer: int, replaced: Mapping[Source, Tensor], library: Any) -> None:
        self.replaced, self.library = replaced, library
        self.nodes: dict[str, _Node] = {}
        for proto in nodes:
            if proto.name in self.nodes:
                raise ValueError(f"Node '{proto.name}' is not unique")
            if not _NODE_NAME.fullmatch(proto.name):
                raise ValueError(f"Node '{proto.name}': Node name contains invalid characters")
            self.nodes[proto.name] = _node(proto, producer)
        for node in self.nodes.values():
            self._connect(node)

    def source_of(self, text: str) -> Source:
        """What a node's input names."""
        return _source(text)

    def _connect(self, node: _Node) -> None:
        name = node.proto.name
        for text in node.proto.input:
            if text.startswith("^"):
                if text[1:] not in self.nodes:
                    raise ValueError(f"Node '{name}': Unknown input node '{text}'")
                node.controls.append(text[1:])
                continue
            if node.controls:
                raise ValueError(f"Node '{name}': Control dependencies must come after regular dependencies")
            source = self.source_of(text)
            if source not in self.replaced:
                origin = self.nodes.get(source[0])
                if origin is None:
                    raise ValueError(f"Node '{name}': Unknown input node '{text}'")
                if source[1] >= len(origin.outputs):
                    raise ValueError(
                        f"Node '{name}': Connecting to invalid output {source[1]} of source node {source[0]} which has "
                        f"{len(origin.outputs)} outputs."
                    )
            node.sources.append(source)
        self._check_dtypes(node)

    def _check_dtypes(self, node: _Node) -> None:
        expected = arg_dtypes(node.op_def.inputs, node.attrs)
        if len(expected) != len(node.sources):
            names = ", ".join(dtype.name for dtype in expected)
            raise ValueError(
                f"Node '{node.proto.name}': '{node.op_def.name}' expected inputs '{names}' do not match "
                f"{len(node.sources)} inputs specified"
            )
        for k, (source, wanted) in enumerate(zip(node.sources, expected)):
            tensor = self.replaced.get(source)
            found = self.nodes[source[0]].outputs[source[1]] if tensor is None else tensor.dtype
            if found is not wanted and (wanted._is_ref_dtype or found.base_dtype is not wanted):
                origin = f"{source[0]}:{source[1]}" if tensor is None else tensor.name
                raise ValueError(
                    f"Input {k} of node {node.proto.name} was passed {found.name} from {origin} incompatible with "
                    f"expected {wanted.name}."
                )

    def check_mapped(self) -> None:
        """ValueError when something is mapped that the GraphDef does not have."""
        missing = [
            f"{name}:{index}"
            for name, index in self.replaced
            if name not in self.nodes or index >= len(self.nodes[name].outputs)
        ]
        if missing:
            raise ValueError(f"Attempted to map inputs that were not found in graph_def: [{', '.join(missing)}]")

    def find(self, text: str) -> str | Source:
        """What a return element is, a node's name or a source; ValueError when there is none."""
        found = _source(text) if ":" in text else text
        name, index = found if isinstance(found, tuple) else (found, -1)
        if name not in self.nodes or index >= len(self.nodes[name].outputs):
            raise ValueError(f"Requested return_element '{text}' not found in graph_def.")
        return found

    def closes_loop(self, node: _Node, origin: str) -> bool:
        """Whether an input brings a loop variable from the trip before: what gives it is made after the node."""
        return node.proto.op in MERGES and self.nodes[origin].proto.op in BACK

    def order(self) -> list[_Node]:
        """The nodes, each after those it needs, else as they stand; ValueError when there is a cycle."""
        names = list(self.nodes)
        needed: list[set[str]] = []
        users: dict[str, list[int]] = {name: [] for name in names}
        for k, node in enumerate(self.nodes.values()):
            sources = [source for source in node.sources if source not in self.replaced]
            origins = {name for name, _ in sources if not self.closes_loop(node, name)}.union(node.controls)
            needed.append(origins)
            for origin in origins:
                users[origin].append(k)
        ready = [k for k, origins in enumerate(needed) if not origins]
        result: list[_Node] = []
        while ready:
            name = names[heapq.heappop(ready)]
            result.append(self.nodes[name])
            for user in users[name]:
                needed[user].discard(name)
                if not needed[user]:
                    heapq.heappush(ready, user)
        if len(result) < len(names):
            left = [name for name, origins in zip(names, needed) if origins]
            raise ValueError(f"{len(left)} nodes in a cycle, or after one: {', '.join(left[:5])}")
        return result


def _node(proto: Any, producer: int) -> _Node:
    """A node by its definition, its attrs complete and checked; ValueError when it can't be."""
    op_def = lookup(proto.op)
    if op_def is None:
        raise ValueError(f"Op type not registered '{proto.op}', of node '{proto.name}'")
    attrs: dict[str, Any] = {}
    try:
        for attr in op_def.attrs:
            if attr.name in proto.attr:
                attrs[attr.name] = _declared(proto.op, attr, proto.attr[attr.name])
            elif attr.optional:
                attrs[attr.name] = attr.default
            else:
                raise ValueError(f"NodeDef missing attr '{attr.name}' from Op {proto.op}")
        for name in sorted(set(proto.attr) - set(attrs) - {_SHAPES}):
            attrs[name] = read_attr(proto.attr[name], None)
        if proto.device:
            devices.canonical(proto.device)
        if proto.op == "Const" and attrs["value"].dtype != attrs["dtype"].np:
            raise ValueError(f"a constant of {attrs['dtype'].name} has a value of {attrs['value'].dtype}")
    except ValueError as error:
        raise ValueError(f"Node '{proto.name}': {error}") from None
    if proto.op == "Placeholder" and producer <= _UNKNOWN_SCALARS and attrs["shape"] == ():
        attrs["shape"] = None
    return _Node(proto, op_def, attrs, arg_dtypes(op_def.outputs, attrs))


def _declared(op_type: str, attr: Attr, proto: Any) -> Any:
    try:
        value = read_attr(proto, attr.type)
        if attr.allowed is not None:
            for each in value if isinstance(value, tuple) else (value,):
                check_allowed(op_type, attr, each, attr.name)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{error} for attr '{attr.name}' of Op {op_type}") from None
    return value


# --- Making the ops ---


def make_ops(graph: Graph, plan: NodePlan, scope: str) -> dict[str, Operation]:
    """The ops of a plan, under the prefix `scope`, by the names of their nodes."""
    made: dict[str, Operation] = {}
    order = plan.order()
    for node in order:
        if "_class" in node.attrs:
            node.attrs["_class"] = tuple([_group(each, plan, scope) for each in node.attrs["_class"]])
    for node in order:
        proto = node.proto
        inputs = [_input(plan, node, source, made) for source in node.sources]
        name = graph.free_name(scope + proto.name)
        controls = [made[each] for each in node.controls]
        op = _without_function(graph, plan, node, name, inputs, controls)
        if op is not None:
            made[proto.name] = op
            continue
        attrs = node.attrs
        if any(attr.type == "func" for attr in node.op_def.attrs):
            attrs = _regions(plan, proto).with_regions(graph, name, proto.op, attrs, inputs)
        op = graph.add(node.op_def, inputs, attrs, name, node.outputs)
        if proto.device:
            op.device = devices.merge(op.device, proto.device)
        op._add_control_inputs(controls)
        if _SHAPES in proto.attr:
            for tensor, shape in zip(op.outputs, proto.attr[_SHAPES].list.shape):
                # What is known of a handle here is the shape of the value behind it.
                if tensor.dtype.kind != "o":
                    tensor.set_shape(as_dims(shape))
        made[proto.name] = op
    _close_loops(plan, order, made)
    return made


def _input(plan: NodePlan, node: _Node, source: Source, made: Mapping[str, Operation]) -> Tensor:
    if source in plan.replaced:
        return plan.replaced[source]
    if source[0] not in made:
        # It comes from the trip before; until that is made, what enters the loop stands in.
        return _input(plan, node, node.sources[0], made)
    return made[source[0]].outputs[source[1]]


def _close_loops(plan: NodePlan, order: Sequence[_Node], made: Mapping[str, Operation]) -> None:
    for node in order:
        for k, source in enumerate(node.sources):
            if source not in plan.replaced and plan.closes_loop(node, source[0]):
                made[node.proto.name]._update_input(k, made[source[0]].outputs[source[1]])


def _regions(plan: NodePlan, proto: Any) -> Any:
    if plan.library is None:
        raise ValueError(f"Node '{proto.name}' names functions, but the GraphDef has no library")
    return plan.library


def _without_function(
    graph: Graph, plan: NodePlan, node: _Node, name: str, inputs: list[Tensor], controls: list[Operation]
) -> Operation | None:
    """What stands for the call of a function; None when the node is none."""
    if node.proto.op in ("PartitionedCall", "StatefulPartitionedCall"):
        return _regions(plan, node.proto).call(graph, name, node.attrs["f"], inputs, controls)  # type: ignore[no-any-return]
    if node.proto.op in ("Case", "StatelessCase"):
        return _regions(plan, node.proto).case(graph, name, node.attrs, inputs, controls)  # type: ignore[no-any-return]
    return None


def _group(group: bytes, plan: NodePlan, scope: str) -> bytes:
    """A colocation group under the new names; ValueError when its op is not in the GraphDef."""
    text = group.decode()
    if not text.startswith(_GROUP):
        return group
    name = text[len(_GROUP) :]
    if name not in plan.nodes:
        raise ValueError(f"a node is colocated with '{name}', which does not exist in the GraphDef")
    return f"{_GROUP}{scope}{name}".encode()


def _element(found: str | Source, made: Mapping[str, Operation], replaced: Mapping[Source, Tensor]) -> Any:
    if isinstance(found, str):
        return made[found]
    return replaced[found] if found in replaced else made[found[0]].outputs[found[1]]
