"""Graphs from the wire with the older control flow: Switch and Merge, Enter and Exit, TensorArrays by their flow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

F32, I32 = 1, 3


class Wire:
    """A GraphDef in the making; `node` returns the node's name."""

    def __init__(self) -> None:
        self.graph = tf.GraphDef()
        self.graph.versions.producer = 27

    def node(self, op: str, name: str, *inputs: str, **attrs: Any) -> str:
        made = self.graph.node.add()
        made.op, made.name = op, name
        made.input.extend(inputs)
        for key, value in attrs.items():
            attr = made.attr[key]
            if isinstance(value, bytes):
                attr.s = value
            elif isinstance(value, bool):
                attr.b = value
            elif key in ("T", "dtype", "DstT", "SrcT", "Tidx", "index_type", "out_type"):
                attr.type = value
            elif isinstance(value, np.ndarray):
                attr.tensor.CopyFrom(tf.make_tensor_proto(value))
            elif isinstance(value, list):
                attr.shape.SetInParent()
                for extent in value:
                    attr.shape.dim.add().size = extent
            else:
                attr.i = value
        return name

    def fed(self, name: str, dtype: int, shape: list[int]) -> str:
        return self.node("Placeholder", name, dtype=dtype, shape=shape)

    def const(self, name: str, value: Any, dtype: Any = np.float32, *controls: str) -> str:
        kind = {np.float32: F32, np.int32: I32}[dtype]
        return self.node("Const", name, *(f"^{each}" for each in controls), value=np.asarray(value, dtype), dtype=kind)

    def enter(self, name: str, value: str, kind: int, frame: str, constant: bool = False) -> str:
        return self.node("Enter", name, value, T=kind, frame_name=frame.encode(), is_constant=constant)

    def run(self, fetches: list[str], feeds: dict[str, Any]) -> list[Any]:
        tf.reset_default_graph()
        found = tf.import_graph_def(self.graph, return_elements=fetches, name="")
        with tf.Session() as session:
            results: list[Any] = session.run(found, feeds)
        return results


def switched(w: Wire) -> Wire:
    """p ? (2x, 7) : (x + 1, x > 2 ? 10x : x)"""
    w.fed("x", F32, [])
    w.fed("p", 10, [])
    w.node("Switch", "s", "p", "p", T=10)
    w.node("Identity", "pivot_t", "s:1", T=10)
    w.node("Identity", "pivot_f", "s:0", T=10)
    w.node("Identity", "pred", "p", T=10)
    w.node("Switch", "x1", "x", "pred", T=F32)
    w.const("two", 2, np.float32, "pivot_t")
    w.const("seven", 7, np.float32, "pivot_t")
    w.const("one", 1, np.float32, "pivot_f")
    w.const("limit", 2, np.float32, "pivot_f")
    w.const("ten", 10, np.float32, "pivot_f")
    w.node("Mul", "twice", "x1:1", "two", T=F32)
    w.node("AddV2", "more", "x1:0", "one", T=F32)
    w.node("Greater", "large", "x1:0", "limit", T=F32)
    w.node("Switch", "x2", "x1:0", "large", T=F32)
    w.node("Mul", "much", "x2:1", "ten", T=F32)
    w.node("Merge", "inner", "x2:0", "much", T=F32, N=2)
    w.node("Merge", "a", "more", "twice", T=F32, N=2)
    w.node("Merge", "b", "inner", "seven", T=F32, N=2)
    return w


@pytest.mark.parametrize(
    ("x", "p", "want"), [(3, True, (6, 7)), (3, False, (4, 30)), (1, False, (2, 1)), (1, True, (2, 7))]
)
def test_switch_and_merge(x: float, p: bool, want: tuple[float, float]) -> None:
    assert switched(Wire()).run(["a:0", "b:0"], {"x:0": x, "p:0": p}) == list(want)


def test_two_branches_of_one_condition_one_after_the_other() -> None:
    w = switched(Wire())
    w.node("Switch", "again", "a", "p", T=F32)
    w.node("Neg", "negative", "again:1", T=F32)
    w.node("Merge", "c", "again:0", "negative", T=F32, N=2)
    assert w.run(["c:0"], {"x:0": 3, "p:0": True}) == [-6]
    assert w.run(["c:0"], {"x:0": 3, "p:0": False}) == [4]


def loop(w: Wire, name: str, frame: str, limit: str, start: str, step: Any) -> str:
    """A loop over a counter and a float: `step(w, switched float)` names the next float. Returns the counter inside."""
    zero = w.const(f"{name}zero", 0, np.int32) if not name.startswith("in") else "in0"
    w.enter(f"{name}i_enter", zero, I32, frame)
    w.enter(f"{name}y_enter", start, F32, frame)
    w.enter(f"{name}limit", limit, I32, frame, True)
    w.node("Merge", f"{name}i", f"{name}i_enter", f"{name}i_next", T=I32, N=2)
    w.node("Merge", f"{name}y", f"{name}y_enter", f"{name}y_next", T=F32, N=2)
    w.node("Less", f"{name}less", f"{name}i", f"{name}limit", T=I32)
    w.node("LoopCond", f"{name}cond", f"{name}less")
    w.node("Switch", f"{name}i_switch", f"{name}i", f"{name}cond", T=I32)
    w.node("Switch", f"{name}y_switch", f"{name}y", f"{name}cond", T=F32)
    w.node("Identity", f"{name}i_in", f"{name}i_switch:1", T=I32)
    w.node("Identity", f"{name}y_in", f"{name}y_switch:1", T=F32)
    w.const(f"{name}one", 1, np.int32, f"{name}i_in")
    w.node("AddV2", f"{name}i_more", f"{name}i_in", f"{name}one", T=I32)
    w.node("NextIteration", f"{name}i_next", f"{name}i_more", T=I32)
    w.node("NextIteration", f"{name}y_next", step(w, f"{name}y_in"), T=F32)
    w.node("Exit", f"{name}i_exit", f"{name}i_switch", T=I32)
    w.node("Exit", f"{name}y_exit", f"{name}y_switch", T=F32)
    return f"{name}i_in"


@pytest.mark.parametrize("n", [0, 1, 4])
def test_enter_and_exit(n: int) -> None:
    w = Wire()
    w.fed("x", F32, [-1])
    w.fed("n", I32, [])

    def step(w: Wire, y: str) -> str:
        w.enter("x_in", "x", F32, "frame", True)
        w.node("AddV2", "twice", y, y, T=F32)
        return w.node("AddV2", "sum", "twice", "x_in", T=F32)

    loop(w, "", "frame", "n", "x", step)
    count, y = w.run(["i_exit:0", "y_exit:0"], {"x:0": [1, 2], "n:0": n})
    assert count == n
    np.testing.assert_array_equal(y, np.array([1, 2]) * (2 ** (n + 1) - 1))


def test_loops_in_loops() -> None:
    """The outer loop adds 0.5 to y as many times as its counter says, in an inner one."""
    w = Wire()
    w.fed("x", F32, [])
    w.fed("n", I32, [])

    def outer(w: Wire, y: str) -> str:
        def inner(w: Wire, z: str) -> str:
            w.const("half", 0.5, np.float32, "ini_in")
            return w.node("AddV2", "inmore", z, "half", T=F32)

        w.const("in0", 0, np.int32, "i_in")
        loop(w, "in", "inner", "i_in", y, inner)
        return "iny_exit"

    loop(w, "", "outer", "n", "x", outer)
    assert w.run(["y_exit:0"], {"x:0": 1.0, "n:0": 5}) == [1 + 0.5 * (0 + 1 + 2 + 3 + 4)]


def array(parts: bool) -> Wire:
    """Rows of i ones for each i < n, joined; or the numbers 0, 1, ..., stacked."""
    w = Wire()
    w.fed("n", I32, [])
    w.node("TensorArrayV3", "ta", "n", dtype=F32)

    def step(w: Wire, flow: str) -> str:
        w.enter("handle", "ta", 20, "frame", True)
        w.node("Cast", "number", "i_in", SrcT=I32, DstT=F32)
        value = "number"
        if parts:
            w.const("none", 0, np.int32, "i_in")
            w.node("ExpandDims", "length", "i_in", "none", T=F32)
            w.graph.node[-1].attr["T"].type = I32
            value = w.node("Fill", "row", "length", "number", T=F32, index_type=I32)
        w.node("Identity", "flow_in", flow, T=F32)
        return w.node("TensorArrayWriteV3", "write", "handle", "i_in", value, "flow_in", T=F32)

    loop(w, "", "frame", "n", "ta:1", step)
    if parts:
        w.node("TensorArrayConcatV3", "out", "ta", "y_exit", dtype=F32)
    else:
        w.const("begin", 0, np.int32)
        w.const("by", 1, np.int32)
        w.node("Range", "all", "begin", "n", "by", Tidx=I32)
        w.node("TensorArrayGatherV3", "out", "ta", "all", "y_exit", dtype=F32)
    return w


def test_tensor_array_of_one_shape() -> None:
    (found,) = array(False).run(["out:0"], {"n:0": 5})
    np.testing.assert_array_equal(found, np.arange(5))


def test_tensor_array_of_many_shapes() -> None:
    found, lengths = array(True).run(["out:0", "out:1"], {"n:0": 4})
    np.testing.assert_array_equal(found, [1, 2, 2, 3, 3, 3])
    np.testing.assert_array_equal(lengths, [0, 1, 2, 3])


def test_what_is_no_loop_is_told() -> None:
    w = Wire()
    w.fed("x", F32, [])
    w.node("Switch", "a", "x", "p", T=F32)
    w.fed("p", 10, [])
    w.fed("q", 10, [])
    w.node("Switch", "b", "x", "q", T=F32)
    w.node("Merge", "m", "a:0", "b:1", T=F32, N=2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="does not join the two sides of a condition"):
        w.run(["m:0"], {"x:0": 1, "p:0": True, "q:0": True})
