"""Regions: what is captured, what they share with the graph around, what can't leave them, and GraphDefs."""

from __future__ import annotations

import time

import numpy as np
import pytest

import stepjit.compat.v1 as tf
from stepjit.framework.func_graph import FuncGraph
from stepjit.framework.graph import Graph
from stepjit.framework.stack import default_graphs


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as g:
        yield g


def regions(tensor):
    """The regions of the op that a result comes from."""
    op = tensor.op.inputs[0].op
    return [value for value in op.attrs.values() if isinstance(value, FuncGraph)]


def truth():
    return tf.placeholder_with_default(True, [])


def test_outer_tensors_become_parameters_once(graph):
    x, y = tf.constant(1.0), tf.constant(2.0)
    out = tf.cond(truth(), lambda: x * x + y, lambda: y)
    then, other = regions(out)
    assert list(then.captures) == [x, y]
    assert [each.op.type for each in then.inputs] == ["_Arg", "_Arg"]
    assert list(out.op.inputs[0].op.inputs[1:]) == [x, y]
    assert len(other.inputs) == 2, "both branches take the same"
    assert all(each.graph is then for each in then.ops[-1].inputs)


def test_captures_pass_through_every_level(graph):
    x = tf.constant(1.0)
    out = tf.cond(truth(), lambda: tf.cond(truth(), lambda: tf.cond(truth(), lambda: x + 1, lambda: x), lambda: x), lambda: x)
    level = regions(out)[0]
    for _ in range(2):
        level = next(value for op in level.ops if op.type == "If" for value in op.attrs.values() if isinstance(value, FuncGraph))
    assert level.depth == 3 and level.root is graph
    assert level.sources[next(iter(level.captures.values()))].graph is level.outer_graph


def test_names_are_those_of_one_graph(graph):
    out = tf.cond(truth(), lambda: tf.constant(1) + 1, lambda: tf.constant(2) + 2, name="c")
    assert out.name == "c/Merge:0"
    assert {"c/Const", "c/add", "c/Const_1", "c/add_1"} <= set(graph.by_name)
    assert tf.while_loop(lambda i: i < 3, lambda i: i + 1, [0]).name == "while/Exit:0"
    assert graph.get_tensor_by_name("c/add:0").graph is regions(out)[0]
    assert "c/add" not in [op.name for op in graph.get_operations()]


def test_blocks_around_hold_inside(graph):
    found = {}

    def branch():
        found["op"] = tf.constant(1.0, name="inside").op
        return found["op"].outputs[0]

    with tf.device("/cpu:0"), graph.gradient_override_map({"Const": "Mine"}):
        tf.cond(truth(), branch, lambda: 2.0)
    assert found["op"].device == "/device:CPU:0"
    assert found["op"].attrs["_gradient_op_type"] == b"Mine"


def test_collections_are_shared(graph):
    tf.while_loop(lambda i: i < 3, lambda i: (tf.add_to_collection("k", 7), i + 1)[1], [0])
    assert tf.get_collection("k") == [7]


def test_random_ops_count_in_the_outermost_graph():
    tf.set_random_seed(3)
    seeds = []

    def branch():
        seeds.append(tf.random_uniform([]).op)
        return 1

    tf.cond(truth(), branch, branch)
    seeds.append(tf.random_uniform([]).op)
    numbers = [op.inputs[0].op if op.type != "RandomUniform" else op for op in seeds]
    assert len({op.name for op in numbers}) == 3


def test_outer_control_inputs_go_to_the_op_that_holds_the_region():
    first = tf.no_op(name="first")

    def branch():
        with tf.control_dependencies([first]):
            return tf.cond(truth(), deeper, lambda: 1)

    def deeper():
        with tf.control_dependencies([first]):
            return tf.constant(2)

    out = tf.cond(truth(), branch, lambda: 3)
    assert first in out.op.inputs[0].op.control_inputs


def test_group_inside_stays_inside(graph):
    x = tf.constant(1)
    before = len(graph.ops)

    def branch():
        with tf.control_dependencies([tf.group(x)]):
            return tf.constant(2)

    tf.cond(truth(), branch, lambda: 3)
    assert [op.type for op in graph.ops[before:]].count("NoOp") == 0


def test_variables_made_inside_are_outside(graph):
    def body(i):
        tf.get_variable("v", [2])
        tf.Variable(lambda: tf.ones([3]), name="w", use_resource=True)
        return i + 1

    tf.while_loop(lambda i: i < 3, body, [0])
    assert [v.name for v in tf.global_variables()] == ["v:0", "while/w:0"]
    assert all(v.graph is graph and v.initializer.graph is graph for v in tf.global_variables())
    with pytest.raises(ValueError, match="from inside a control-flow construct"):
        tf.while_loop(lambda i: i < 3, lambda i: (tf.Variable(i), i + 1)[1], [0])


def leaked():
    tensors = []
    tf.while_loop(lambda i: i < 3, lambda i: tensors.append(i * 2) or i + 1, [0])
    return tensors[0]


def test_what_is_inside_is_out_of_reach():
    inside = leaked()
    with pytest.raises(ValueError, match="is in a while loop"):
        inside + 1
    with pytest.raises(ValueError, match="is in a while loop"):
        tf.control_dependencies([inside])
    with pytest.raises(ValueError, match="is in a while loop"):
        tf.cond(truth(), lambda: inside, lambda: 1)
    with tf.Session() as session:
        with pytest.raises(tf.errors.InaccessibleTensorError, match="has been marked as not fetchable"):
            session.run(inside)
        with pytest.raises(ValueError, match="may not be fed"):
            session.run(tf.constant(1), {inside: 3})


def test_static_values_of_captured_tensors_are_known_inside():
    shape = tf.constant([2, 3])
    x = tf.placeholder(tf.float32, [None])
    assert tf.cond(truth(), lambda: tf.reshape(x, shape), lambda: tf.zeros([2, 3])).shape.as_list() == [2, 3]


def test_a_view_has_results_of_its_own():
    region = FuncGraph(Graph(), "f", "cond branch")
    with default_graphs.enter(region):
        one = tf.constant(1)
    region.outputs = [one]
    view = region.with_outputs([one, one])
    assert len(region.outputs) == 1 and view.home is region and view.ops is region.ops


def test_building_inside_costs_what_it_costs_outside():
    def chain(x, n=1000):
        for _ in range(n):
            x = tf.negative(x)
        return x

    def took(build):
        start = time.perf_counter()
        build()
        return time.perf_counter() - start

    outside = min(took(lambda: chain(tf.constant(1.0))) for _ in range(4))
    inside = min(took(lambda: tf.while_loop(lambda x: True, lambda x: chain(x), [1.0])) for _ in range(4))
    assert inside < 3 * outside


# --- GraphDefs ---


def model():
    x = tf.placeholder(tf.float32, [], name="x")
    n = tf.placeholder(tf.int32, [], name="n")
    v = tf.placeholder(tf.float32, [None, 2], name="v")

    def body(i, a):
        return i + 1, tf.cond(tf.equal(i % 2, 0), lambda: a * x, lambda: a + 1.0)

    looped = tf.while_loop(lambda i, a: i < n, body, [0, x])[1]
    one, two = tf.cond(x > 1.0, lambda: (looped * 2.0, v + x), lambda: (looped, v))
    return [tf.identity(one, name="one"), tf.identity(two, name="two"), tf.map_fn(lambda row: row * x, v, name="rows")]


FEEDS = [{"x:0": 1.5, "n:0": 4, "v:0": [[1, 2]]}, {"x:0": 0.5, "n:0": 0, "v:0": [[1, 2], [3, 4]]}]


def results(fetches):
    with tf.Session() as session:
        return [session.run(fetches, feed) for feed in FEEDS]


def test_regions_are_functions_of_the_library(graph):
    model()
    proto = graph.as_graph_def()
    names = {function.signature.name for function in proto.library.function}
    held = [node.attr[key].func.name for node in proto.node for key in ("then_branch", "else_branch", "cond", "body") if key in node.attr]
    assert set(held) <= names and len(names) == 8
    for function in proto.library.function:
        assert set(function.ret) == {arg.name for arg in function.signature.output_arg}
        assert not any(node.op == "_Arg" for node in function.node_def)


def test_round_trip(graph):
    tensors = model()
    expected = results(tensors)
    proto = tf.GraphDef.FromString(graph.as_graph_def().SerializeToString())
    for _ in range(2):
        with tf.Graph().as_default() as other:
            tf.import_graph_def(proto, name="")
            found = results([tensor.name for tensor in tensors])
            for mine, theirs in zip(found, expected):
                for a, b in zip(mine, theirs):
                    np.testing.assert_allclose(a, b)
            assert other.get_tensor_by_name("two:0").shape.as_list() == [None, 2]
            # Once more, from what was imported.
            proto = other.as_graph_def()


def test_gradient_of_an_imported_loop(graph):
    tensors = model()
    (expected,) = tf.gradients(tensors[0], graph.get_tensor_by_name("x:0"))
    with tf.Session() as session:
        expected = session.run(expected, FEEDS[0])
    proto = graph.as_graph_def()
    with tf.Graph().as_default() as other:
        tf.import_graph_def(proto, name="")
        (found,) = tf.gradients(other.get_tensor_by_name("one:0"), other.get_tensor_by_name("x:0"))
        with tf.Session() as session:
            assert session.run(found, FEEDS[0]) == expected


def call_graph():
    """A GraphDef with a call, a case and functions, as TensorFlow 2 writes them."""
    proto = tf.GraphDef()
    proto.versions.producer = 134

    def add_function(name, op):
        function = proto.library.function.add()
        function.signature.name = name
        function.signature.input_arg.add(name="a", type=1)
        function.signature.output_arg.add(name="r", type=1)
        node = function.node_def.add(name="n", op=op, input=["a", "a"] if op in ("Mul", "AddV2") else ["a"])
        node.attr["T"].type = 1
        function.ret["r"] = "n:z:0" if op in ("Mul", "AddV2") else "n:y:0"

    add_function("square", "Mul")
    add_function("double", "AddV2")
    add_function("minus", "Neg")
    for name, dtype in (("x", 1), ("i", 3)):
        node = proto.node.add(name=name, op="Placeholder")
        node.attr["dtype"].type = dtype
        node.attr["shape"].shape.SetInParent()
    call = proto.node.add(name="call", op="StatefulPartitionedCall", input=["x"])
    call.attr["Tin"].list.type.append(1)
    call.attr["Tout"].list.type.append(1)
    call.attr["f"].func.name = "square"
    case = proto.node.add(name="case", op="StatelessCase", input=["i", "call"])
    case.attr["Tin"].list.type.append(1)
    case.attr["Tout"].list.type.append(1)
    for name in ("square", "double", "minus"):
        case.attr["branches"].list.func.add(name=name)
    return proto


@pytest.mark.parametrize(("number", "expected"), [(0, 81.0), (1, 18.0), (2, -9.0), (7, -9.0), (-1, -9.0)])
def test_calls_and_cases_of_functions(number, expected):
    tf.import_graph_def(call_graph(), name="")
    with tf.Session() as session:
        assert session.run("case:0", {"x:0": 3.0, "i:0": number}) == expected
        assert session.run("call:0", {"x:0": 3.0}) == 9.0


def test_missing_function_is_named():
    proto = call_graph()
    del proto.library.function[0]
    with pytest.raises(ValueError, match="'square'"):
        tf.import_graph_def(proto, name="")
