"""Timelines: Chrome's trace format from traced steps and from StepStats made by hand."""

from __future__ import annotations

import json
from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import stepjit.client.timeline
import stepjit.compat.v1 as tf
import stepjit.timeline
from stepjit.proto import MESSAGES
from stepjit.python.client import timeline


def made(*records: tuple[Any, ...], device: str = "/job:worker/replica:0/task:0/cpu:0", stats: Any = None) -> Any:
    """A StepStats with records of (name, label, start, duration, bytes of the result or 0)."""
    found = MESSAGES["StepStats"]() if stats is None else stats
    nodes = found.dev_stats.add(device=device).node_stats
    for name, label, start, duration, size in records:
        node = nodes.add(
            node_name=name, timeline_label=label, all_start_micros=start, all_end_rel_micros=duration
        )
        if size:
            description = node.output.add(slot=0).tensor_description
            description.allocation_description.requested_bytes = size
            description.allocation_description.allocator_name = "cpu"
    return found


def events_of(stats: Any, **options: Any) -> list[dict[str, Any]]:
    text = timeline.Timeline(stats).generate_chrome_trace_format(**options)
    events: list[dict[str, Any]] = json.loads(text)["traceEvents"]
    return events


def of_kind(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["ph"] == kind]


def check_form(events: list[dict[str, Any]]) -> None:
    """What every reader of the format relies on, and that no row holds two things at a time."""
    rows: dict[Any, list[tuple[int, int]]] = defaultdict(list)
    flows: dict[int, list[str]] = defaultdict(list)
    names = {event["pid"]: event["args"]["name"] for event in of_kind(events, "M")}
    for event in events:
        assert event["pid"] in names
        if event["ph"] == "M":
            continue
        assert isinstance(event["ts"], int) and isinstance(event["name"], str) and "tid" in event
        if event["ph"] == "X":
            assert event["dur"] >= 0 and event["args"]["op"] == event["name"]
            assert names[event["pid"]].endswith(" Compute")
            rows[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
        elif event["ph"] in "st":
            flows[event["id"]].append(event["ph"])
        elif event["ph"] in "NOD":
            assert names[event["pid"]].endswith(" Tensors")
        else:
            assert event["ph"] == "C" and names[event["pid"]] == "Allocators"
    for row in rows.values():
        row.sort()
        assert all(before[1] <= after[0] for before, after in pairwise(row))
    assert all(kinds == ["s", "t"] for kinds in flows.values())


def test_a_traced_step() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [64, 64], name="x")
        y = x
        for _ in range(3):
            y = tf.nn.relu(tf.matmul(y, y) + 1.0)
        metadata = tf.RunMetadata()
        options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
        session.run(y, {x: np.ones((64, 64))}, options=options, run_metadata=metadata)
    events = events_of(metadata.step_stats, show_memory=True)
    check_form(events)
    ran = {event["args"]["name"]: event for event in of_kind(events, "X")}
    assert {"MatMul", "add", "Relu", "MatMul_2", "Relu_2"} <= ran.keys()
    assert ran["MatMul"]["args"] == {"name": "MatMul", "op": "MatMul", "input0": "x", "input1": "x"}
    node = next(node for node in metadata.step_stats.dev_stats[0].node_stats if node.node_name == "MatMul_1")
    assert (ran["MatMul_1"]["ts"], ran["MatMul_1"]["dur"]) == (node.all_start_micros, node.all_end_rel_micros)
    maximum = timeline.Timeline(metadata.step_stats).analyze_step_stats().allocator_maximums["cpu"]
    assert maximum.num_bytes >= 2 * 64 * 64 * 4
    assert maximum.num_bytes == max(event["args"]["cpu"] for event in of_kind(events, "C"))


def test_ops_at_one_time_have_rows_of_their_own() -> None:
    stats = made(("a", "a = Foo()", 10, 5, 0), ("b", "b = Bar(a)", 12, 6, 0), ("c", "c = Baz(a, b)", 15, 1, 0))
    events = events_of(stats)
    check_form(events)
    rows = {event["args"]["name"]: event["tid"] for event in of_kind(events, "X")}
    assert rows == {"a": 0, "b": 1, "c": 0}


def test_arrows_go_between_rows() -> None:
    stats = made(("a", "a = Foo()", 10, 5, 0), ("b", "b = Bar(a:1, ^a)", 12, 6, 0), ("c", "c = Baz(a)", 15, 1, 0))
    arrows = [event for event in events_of(stats) if event["ph"] in "st"]
    assert [(event["ph"], event["name"], event["ts"]) for event in arrows] == [("s", "a", 15), ("t", "a", 12)]
    assert not any(event["ph"] in "st" for event in events_of(stats, show_dataflow=False))


@pytest.mark.parametrize(
    ("label", "op", "inputs"),
    [
        ("n = Foo(x, y:1, ^z)", "Foo", ["x", "y:1", "^z"]),
        ("n = Foo()", "Foo", []),
        ("scope/n = _Send(a/b)", "_Send", ["a/b"]),
        ("", "unknown", []),
        ("nothing of the kind", "unknown", []),
        ("n = ", "unknown", []),
    ],
)
def test_labels(label: str, op: str, inputs: list[str]) -> None:
    [event] = of_kind(events_of(made(("n", label, 1000, 7, 0))), "X")
    assert (event["name"], event["ts"], event["dur"]) == (op, 1000, 7)
    assert event["args"] == {"name": "n", "op": op} | {f"input{k}": name for k, name in enumerate(inputs)}


def test_memory_is_counted_from_the_first_op_to_the_last_use() -> None:
    stats = made(
        ("a", "a = Foo()", 10, 2, 100), ("b", "b = Bar(a)", 20, 2, 30), ("c", "c = Baz(b)", 30, 2, 7),
    )  # fmt: skip
    events = events_of(stats, show_memory=True)
    check_form(events)
    assert [(event["ts"], event["args"]) for event in of_kind(events, "C")] == [
        (10, {"cpu": 100}), (20, {"cpu": 130}), (22, {"cpu": 30}), (30, {"cpu": 37}), (32, {"cpu": 7}),
    ]  # fmt: skip
    lives = [(event["ph"], event["name"], event["ts"]) for event in events if event["ph"] in "ND"]
    assert sorted(lives) == [("D", "a", 22), ("D", "b", 32), ("N", "a", 10), ("N", "b", 20), ("N", "c", 30)]
    found = timeline.Timeline(stats).analyze_step_stats().allocator_maximums
    assert found == {"cpu": timeline.AllocationMaximum(20, 130, {"a", "b"})}
    assert not any(event["ph"] in "NODC" for event in events_of(stats))


def test_devices_have_processes_of_their_own() -> None:
    stats = made(("a", "a = Foo()", 10, 2, 8))
    made(("b", "b = Bar(a)", 20, 2, 0), device="/device:CPU:1", stats=stats)
    events = events_of(stats)
    check_form(events)
    titles = [event["args"]["name"] for event in of_kind(events, "M")]
    assert titles[0] == "Allocators" and titles[3:] == ["/device:CPU:1 Compute", "/device:CPU:1 Tensors"]
    assert len({event["pid"] for event in of_kind(events, "X")}) == 2
    assert len(of_kind(events, "s")) == 1


def test_an_op_in_a_loop_may_run_many_times() -> None:
    records = [("a", "a = Foo(b)", 10 * k, 2, 8) for k in range(3)] + [("b", "b = Bar(a)", 10 * 3, 2, 8)]
    events = events_of(made(*records), show_memory=True)
    check_form(events)
    assert len(of_kind(events, "X")) == 4


def test_nothing_at_all() -> None:
    empty = MESSAGES["StepStats"]()
    assert [event["ph"] for event in events_of(empty, show_memory=True)] == ["M"]
    assert timeline.Timeline(empty).analyze_step_stats().allocator_maximums == {}


def test_compact_and_pretty_text_say_the_same() -> None:
    trace = timeline.Timeline(made(("a", "a = Foo()", 10, 2, 8))).analyze_step_stats().chrome_trace
    compact, pretty = trace.format_to_string(), trace.format_to_string(pretty=True)
    assert json.loads(compact) == json.loads(pretty)
    assert "\n" not in compact and "\n    " in pretty


def test_one_module_under_three_names() -> None:
    assert stepjit.timeline.Timeline is stepjit.client.timeline.Timeline is timeline.Timeline
