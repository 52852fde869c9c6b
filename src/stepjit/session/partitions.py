"""A step as GraphDefs, one for each device it uses, and what its ops cost as a CostGraphDef.

`a` on CPU:0 fed through `p`, `b = a + 1` on CPU:1, b fetched, gives

    CPU:0: _arg_p_0_0 = _Arg, a, a/_0 = _Send(a), b/_3 = _Recv, _retval_b_0_0 = _Retval(b/_3)
    CPU:1: a/_1 = _Recv, b, b/_2 = _Send(b)

The ops are the user's: what the compiler makes of them is told by `explain()`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.attr_values import shape_proto
from stepjit.framework.function_io import functions_of, put_function
from stepjit.framework.graph_io import PRODUCER, node_def
from stepjit.proto import MESSAGES
from stepjit.session.devices import Placement
from stepjit_compiler.passes.prune import ops_of_step
from stepjit_runtime.dtypes import float32


class StepGraph:
    """The ops that a step runs, with their devices."""

    def __init__(
        self, placement: Placement, fetches: Sequence[Any], targets: Sequence[Any], feeds: Sequence[Any]
    ) -> None:
        self.fetches, self.feeds = tuple(fetches), tuple(feeds)
        self.ops = ops_of_step(fetches, targets, feeds)
        self.device = {op: placement.device_of(op) for op in self.ops}
        self.first_device = placement.names[0]
        """Where feeds come in and results go out."""

    def partitions(self) -> list[Any]:
        """A GraphDef for each device, in the order of the devices."""
        return _Partitions(self).graphs()

    def costs(self, graph: Any, step_stats: Any) -> None:
        """Write into a CostGraphDef what is known of the ops' results and, from StepStats, of their times."""
        stats = {node.node_name: node for device in step_stats.dev_stats for node in device.node_stats}
        numbers = {op: number for number, op in enumerate(self.ops)}
        for op, number in numbers.items():
            node = graph.node.add(name=op.name, device=self.device[op], id=number)
            for tensor in op.inputs:
                if tensor.op in numbers and tensor not in self.feeds:
                    node.input_info.add(preceding_node=numbers[tensor.op], preceding_port=tensor.value_index)
            node.control_input.extend(numbers[each] for each in op.control_inputs if each in numbers)
            for tensor in op.outputs:
                info = node.output_info.add(alias_input_port=-1, dtype=tensor.dtype.as_datatype_enum)
                info.shape.CopyFrom(shape_proto(tensor.dims))
            node.is_final = any(tensor.op is op for tensor in self.fetches)
            if op.name in stats:
                _put_times(node, stats[op.name])


def _put_times(node: Any, stats: Any) -> None:
    node.compute_cost = stats.op_end_rel_micros - stats.op_start_rel_micros
    node.compute_time = node.compute_cost
    for output in stats.output:
        if output.slot < len(node.output_info):
            info = node.output_info[output.slot]
            info.shape.CopyFrom(output.tensor_description.shape)
            info.size = output.tensor_description.allocation_description.requested_bytes


class _Partitions:
    """GraphDefs by device under way."""

    def __init__(self, step: StepGraph) -> None:
        self._step = step
        self._graphs: dict[str, Any] = {}
        self._arguments: dict[Any, str] = {}
        self._received: dict[tuple[Any, str], str] = {}
        self._transfers = 0

    def graphs(self) -> list[Any]:
        step = self._step
        for op in step.ops:
            self._add_op(op)
        for index, tensor in enumerate(step.fetches):
            source = self._value(tensor, step.first_device)
            node = self._node(f"_retval_{_numbered(tensor)}_{index}", "_Retval", step.first_device, [source])
            node.attr["index"].i = index
            node.attr["T"].type = tensor.dtype.base_dtype.as_datatype_enum
        for device, graph in self._graphs.items():
            for region in functions_of([op for op in step.ops if step.device[op] == device]):
                put_function(graph.library.function.add(), region)
        return [self._graphs[device] for device in sorted(self._graphs, key=_number_of)]

    def _add_op(self, op: Any) -> None:
        device = self._step.device[op]
        inputs = [self._value(tensor, device) for tensor in op.inputs]
        inputs += [self._control(each, device) for each in op.control_inputs if each in self._step.device]
        node = self._graph(device).node.add()
        node.CopyFrom(node_def(op))
        node.device = device
        del node.input[:]
        node.input.extend(inputs)

    def _value(self, tensor: Any, device: str) -> str:
        """What a node on the device calls the tensor; sent there if need be."""
        if tensor in self._step.feeds:
            name, source = self._argument(tensor), self._step.first_device
        else:
            name = f"{tensor.op.name}:{tensor.value_index}" if tensor.value_index else tensor.op.name
            source = self._step.device[tensor.op]
        return name if source == device else self._transfer(tensor, name, source, device, tensor.dtype.base_dtype)

    def _argument(self, tensor: Any) -> str:
        if tensor not in self._arguments:
            index = len(self._arguments)
            name = self._arguments[tensor] = f"_arg_{_numbered(tensor)}_{index}"
            node = self._node(name, "_Arg", self._step.first_device)
            node.attr["index"].i = index
            node.attr["T"].type = tensor.dtype.base_dtype.as_datatype_enum
        return self._arguments[tensor]

    def _control(self, op: Any, device: str) -> str:
        source = self._step.device[op]
        if source == device:
            return f"^{op.name}"
        # Only values travel: an empty one that waits for the op stands for it.
        if (op, device) not in self._received:
            signal = self._node(f"{op.name}/_{self._count()}", "Const", source, [f"^{op.name}"])
            signal.attr["dtype"].type = float32.as_datatype_enum
            signal.attr["value"].tensor.dtype = float32.as_datatype_enum
            signal.attr["value"].tensor.tensor_shape.dim.add(size=0)
            self._transfer(op, signal.name, source, device, float32)
        return f"^{self._received[op, device]}"

    def _transfer(self, what: Any, name: str, source: str, device: str, dtype: Any) -> str:
        """Send what a node of `source` gives to `device`, once; the name it has there."""
        if (what, device) in self._received:
            return self._received[what, device]
        stem = name.partition(":")[0]
        send = self._node(f"{stem}/_{self._count()}", "_Send", source, [name])
        send.attr["T"].type = dtype.as_datatype_enum
        receive = self._node(f"{stem}/_{self._count()}", "_Recv", device)
        receive.attr["tensor_type"].type = dtype.as_datatype_enum
        for node in (send, receive):
            node.attr["tensor_name"].s = f"edge_{self._transfers}_{name}".encode()
            node.attr["send_device"].s, node.attr["recv_device"].s = source.encode(), device.encode()
            node.attr["send_device_incarnation"].i = 1
            node.attr["client_terminated"].b = False
        self._received[what, device] = receive.name
        return str(receive.name)

    def _count(self) -> int:
        self._transfers += 1
        return self._transfers - 1

    def _node(self, name: str, op_type: str, device: str, inputs: Sequence[str] = ()) -> Any:
        return self._graph(device).node.add(name=name, op=op_type, device=device, input=inputs)

    def _graph(self, device: str) -> Any:
        if device not in self._graphs:
            self._graphs[device] = MESSAGES["GraphDef"]()
            self._graphs[device].versions.producer = PRODUCER
        return self._graphs[device]


def _numbered(tensor: Any) -> str:
    return f"{tensor.op.name}_{tensor.value_index}"


def _number_of(device: str) -> int:
    return int(device.rpartition(":")[2])
