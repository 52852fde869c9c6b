"""Traced steps as pictures: a StepStats message in Chrome's trace format, which Perfetto and chrome://tracing open.

    metadata = tf.RunMetadata()
    session.run(fetches, options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), run_metadata=metadata)
    Path("trace.json").write_text(Timeline(metadata.step_stats).generate_chrome_trace_format())

Each device has a process of rows for its ops and one for their results. Ops that ran one after the other share a row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

_LABEL = re.compile(r"(?P<name>.*?) = (?P<op>[^\s()]+)\((?P<inputs>.*)\)\s*", re.DOTALL)
_ALLOCATORS = 0
"""The process of the memory counters."""


class AllocationMaximum(NamedTuple):
    """The most that an allocator held: when (in microseconds), how many bytes, and the names of the tensors then."""

    timestamp: int
    num_bytes: int
    tensors: set[str]


class StepStatsAnalysis(NamedTuple):
    """A step as a trace, and the most that each allocator held by its name."""

    chrome_trace: ChromeTrace
    allocator_maximums: dict[str, AllocationMaximum]


class ChromeTrace:
    """Events in Chrome's trace format: metadata first, then the others as they were added."""

    def __init__(self) -> None:
        self._metadata: list[dict[str, Any]] = []
        self._events: list[dict[str, Any]] = []

    def name_process(self, process: int, name: str) -> None:
        """Give a process its title."""
        self._metadata.append({"name": "process_name", "ph": "M", "pid": process, "args": {"name": name}})

    def add(self, kind: str, category: str, name: str, row: tuple[int, int], time: int, **more: Any) -> None:
        """An event of a kind (`ph`) in a row: (process, thread)."""
        process, thread = row
        event = {"ph": kind, "cat": category, "name": name, "pid": process, "tid": thread, "ts": time}
        self._events.append(event | more)

    def format_to_string(self, pretty: bool = False) -> str:
        """The whole trace as JSON."""
        events = [*self._metadata, *self._events]
        whole = {"traceEvents": events}
        return json.dumps(whole, indent=4) if pretty else json.dumps(whole, separators=(",", ":"))


@dataclass
class _Node:
    """A record of a step: an op that ran, its row, and what it made and took."""

    stats: Any
    op: str
    inputs: list[str]
    row: tuple[int, int] = (0, 0)

    @property
    def start(self) -> int:
        return int(self.stats.all_start_micros)

    @property
    def end(self) -> int:
        return int(self.stats.all_start_micros + self.stats.all_end_rel_micros)


@dataclass
class _Tensor:
    """A result of an op: where it is shown, what it takes, and from when to when it is needed."""

    name: str
    number: int
    row: tuple[int, int]
    description: Any
    start: int
    seen: int
    uses: list[int] = field(default_factory=list)

    @property
    def allocator(self) -> str:
        return str(self.description.allocation_description.allocator_name)

    @property
    def bytes(self) -> int:
        return int(self.description.allocation_description.requested_bytes)

    @property
    def end(self) -> int | None:
        """The end of its last use; None when it outlives the step."""
        return max(self.seen, *self.uses) if self.uses else None


class Timeline:
    """What a traced step did, from the `step_stats` of its RunMetadata; the graph is taken for TensorFlow's sake."""

    def __init__(self, step_stats: Any, graph: Any = None) -> None:
        self._step_stats = step_stats

    def generate_chrome_trace_format(
        self, show_dataflow: bool = True, show_memory: bool = False, op_time: str = "schedule"
    ) -> str:
        """The step as JSON text.

        show_dataflow: add an arrow from each op to the ops that take its results.
        show_memory: add the results' lifetimes, and a counter of each allocator's bytes.
        op_time: TensorFlow's way to put ops at the times of GPU streams; there are none, so it decides nothing.
        """
        return self.analyze_step_stats(show_dataflow, show_memory, op_time).chrome_trace.format_to_string(pretty=True)

    def analyze_step_stats(
        self, show_dataflow: bool = True, show_memory: bool = True, op_time: str = "schedule"
    ) -> StepStatsAnalysis:
        """The step as a trace, and the most memory that it held; parameters as above."""
        trace = ChromeTrace()
        nodes = self._rows(trace)
        tensors = _tensors(nodes)
        if show_memory:
            _show_tensors(trace, tensors.values())
        for node in nodes:
            _show_op(trace, node)
        if show_dataflow:
            _show_arrows(trace, nodes)
        maximums = {}
        for allocator, steps in _balances(list(tensors.values())).items():
            maximums[allocator] = _maximum(steps)
            if show_memory:
                for time, held, _ in steps:
                    trace.add("C", "Memory", allocator, (_ALLOCATORS, 0), time, args={allocator: held})
        return StepStatsAnalysis(trace, maximums)

    def _rows(self, trace: ChromeTrace) -> list[_Node]:
        """All records, with processes for their devices and rows in which none overlaps another."""
        trace.name_process(_ALLOCATORS, "Allocators")
        nodes: list[_Node] = []
        for number, device in enumerate(self._step_stats.dev_stats):
            process = 2 * number + 1
            trace.name_process(process, f"{device.device} Compute")
            trace.name_process(process + 1, f"{device.device} Tensors")
            own = [_node(stats) for stats in device.node_stats]
            ends: list[int] = []
            for node in sorted(own, key=lambda node: node.start):
                lane = next((lane for lane, end in enumerate(ends) if end <= node.start), len(ends))
                ends[lane : lane + 1] = [node.end]
                node.row = process, lane
            nodes += own
        return nodes


def _node(stats: Any) -> _Node:
    match = _LABEL.fullmatch(stats.timeline_label)
    if match is None:
        return _Node(stats, "unknown", [])
    inputs = [name.strip() for name in match["inputs"].split(",")]
    return _Node(stats, match["op"], [name for name in inputs if name])


def _tensors(nodes: list[_Node]) -> dict[str, _Tensor]:
    """All results by name; of ops that ran again and again, those of the last time."""
    found: dict[str, _Tensor] = {}
    for node in nodes:
        for output in node.stats.output:
            name = _tensor_name(node.stats.node_name, output.slot)
            row = node.row[0] + 1, len(found)
            known = found.get(name)
            number = len(found) if known is None else known.number
            found[name] = _Tensor(name, number, row, output.tensor_description, node.start, node.end)
    for node in nodes:
        for name in node.inputs:
            if name in found:
                found[name].uses.append(node.end)
    return found


def _tensor_name(node: str, slot: int) -> str:
    return f"{node}:{slot}" if slot else node


def _show_tensors(trace: ChromeTrace, tensors: Any) -> None:
    for tensor in tensors:
        trace.add("N", "Tensor", tensor.name, tensor.row, tensor.start, id=tensor.number)
        snapshot = {"tensor_description": str(tensor.description).replace('"', "")}
        trace.add(
            "O", "Tensor", tensor.name, tensor.row, tensor.seen, id=tensor.number, args={"snapshot": snapshot}
        )
        if tensor.end is not None:
            trace.add("D", "Tensor", tensor.name, tensor.row, tensor.end, id=tensor.number)


def _show_op(trace: ChromeTrace, node: _Node) -> None:
    args = {"name": node.stats.node_name, "op": node.op}
    args |= {f"input{number}": name for number, name in enumerate(node.inputs)}
    trace.add("X", "Op", node.op, node.row, node.start, dur=node.end - node.start, args=args)


def _show_arrows(trace: ChromeTrace, nodes: list[_Node]) -> None:
    """From each op to those that take its results, where they are in another row: in one, order says it all."""
    made: dict[str, _Node] = {}
    for node in nodes:
        made.setdefault(node.stats.node_name, node)
    number = 0
    for node in nodes:
        for name in dict.fromkeys(_producer(name) for name in node.inputs):
            source = made.get(name)
            if source is None or source.row == node.row:
                continue
            trace.add("s", "DataFlow", name, source.row, source.end, id=number)
            trace.add("t", "DataFlow", name, node.row, node.start, id=number)
            number += 1


def _producer(name: str) -> str:
    """The op in `op`, `op:1` or `^op`."""
    head, colon, slot = name.removeprefix("^").rpartition(":")
    return head if colon and slot.isdigit() else name.removeprefix("^")


def _balances(tensors: list[_Tensor]) -> dict[str, list[tuple[int, int, frozenset[str] | None]]]:
    """By allocator: (time, bytes held from then on, tensors held where that is a new maximum)."""
    changes: dict[str, list[tuple[int, int, _Tensor]]] = {}
    for tensor in tensors:
        each = changes.setdefault(tensor.allocator, [])
        each.append((tensor.start, 1, tensor))
        if tensor.end is not None:
            each.append((tensor.end, 0, tensor))
    return {name: list(_balance(each)) for name, each in changes.items()}


def _balance(changes: list[tuple[int, int, _Tensor]]) -> Iterator[tuple[int, int, frozenset[str] | None]]:
    held: dict[str, None] = {}
    total, most = 0, -1
    # What ends at a moment makes room for what begins then, unless it is the same tensor.
    ordered = sorted(changes, key=lambda each: (each[0], each[1] if each[2].start < each[0] else 2 - each[1]))
    for time, begins, tensor in ordered:
        total += tensor.bytes if begins else -tensor.bytes
        if begins:
            held[tensor.name] = None
        else:
            held.pop(tensor.name, None)
        new = total > most
        most = max(most, total)
        yield time, total, frozenset(held) if new else None


def _maximum(steps: list[tuple[int, int, frozenset[str] | None]]) -> AllocationMaximum:
    time, held, names = max((step for step in steps if step[2] is not None), key=lambda step: step[1])
    return AllocationMaximum(time, held, set(names or ()))
