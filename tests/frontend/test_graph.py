"""Graphs: names, scopes, lookup, collections, devices, dependencies, seeds, and what every op records."""

from __future__ import annotations

import pathlib
import threading

import numpy as np
import pytest

import stepjit.compat.v1 as tf
from stepjit.framework.apply import apply_op
from stepjit.framework.random_seed import get_seed
from stepjit.framework.tensor import OperatorNotAllowedInGraphError, override_operator


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as g:
        yield g


def test_names_are_unique_without_regard_to_case():
    names = [tf.no_op(name=name).name for name in ("n", "n", "N", "n_1", "n", "a/b", "a")]
    assert names == ["n", "n_1", "N_2", "n_1_1", "n_3", "a/b", "a"]


@pytest.mark.parametrize("name", ["a b", "-a", "_a", "a:0", "a^", "a$", "é"])
def test_invalid_names(name):
    with pytest.raises(ValueError, match="not a valid"):
        tf.constant(1, name=name)
    with pytest.raises(ValueError, match="not a valid"):
        tf.name_scope(name).__enter__()


def test_name_scopes(graph):
    with tf.name_scope("s") as scope:
        assert scope == "s/"
        assert graph.get_name_scope() == "s"
        with tf.name_scope("_t"):
            assert tf.no_op(name="a").name == "s/_t/a"
    with tf.name_scope("s"):
        assert tf.no_op(name="a").name == "s_1/a"
    with tf.name_scope(scope):
        assert tf.no_op(name="d").name == "s/d"
        with tf.name_scope(None):
            assert tf.no_op(name="e").name == "e"
        with tf.name_scope(None, "default", [tf.constant(1)]):
            assert tf.no_op(name="f").name == "s/default/f"
        assert tf.no_op(name="z/").name == "z"
    with pytest.raises(ValueError, match="Duplicate node name"):
        tf.no_op(name="z/")
    with pytest.raises(ValueError, match="must be provided"):
        tf.name_scope(None, None, [1]).__enter__()


def test_a_scope_is_left_when_its_block_fails(graph):
    with pytest.raises(KeyError), tf.name_scope("s"), tf.device("/cpu:0"), tf.control_dependencies([tf.no_op()]):
        raise KeyError
    assert graph.get_name_scope() == ""
    assert tf.no_op(name="n").control_inputs == []
    assert tf.no_op().device == ""


def test_implicit_constants_are_named_after_the_op_and_input():
    x = tf.placeholder(tf.float32)
    assert apply_op("AddV2", x=x, y=1, name="sum").op.inputs[1].name == "sum/y:0"


def test_ops_go_to_the_graph_of_their_inputs(graph):
    with tf.Graph().as_default() as other:
        a = tf.constant(1.0)
    b = apply_op("Neg", x=a)
    assert b.graph is other
    assert graph.get_operations() == []
    with tf.name_scope("s", values=[a]):
        assert tf.get_default_graph() is other
    with pytest.raises(ValueError, match="must be from the same graph"):
        apply_op("AddV2", x=tf.constant(1.0), y=a)


def test_lookup(graph):
    a = tf.constant([1, 2], name="a")
    assert graph.get_tensor_by_name("a:0") is a
    assert graph.get_operation_by_name("a") is a.op
    assert graph.as_graph_element("a:0") is a
    assert graph.as_graph_element(a.op) is a.op
    with pytest.raises(KeyError, match="exists but only has 1 outputs"):
        graph.get_tensor_by_name("a:1")
    with pytest.raises(KeyError, match="'zz', does not exist in the graph"):
        graph.get_tensor_by_name("zz:0")
    with pytest.raises(ValueError, match="not a valid one"):
        graph.as_graph_element("a:x")
    with pytest.raises(ValueError, match="refers to an Operation, not a Tensor"):
        graph.get_tensor_by_name("a")
    with pytest.raises(ValueError, match="appears to refer to a Tensor"):
        graph.get_operation_by_name("a:0")
    with pytest.raises(TypeError, match="Can not convert a int"):
        graph.as_graph_element(3)
    with pytest.raises(ValueError, match="not an element of this graph"):
        tf.Graph().as_graph_element(a)


def test_an_op_records_attrs_consumers_and_the_users_line(graph):
    a = tf.constant([[1.0, 2.0]], name="a")
    b = apply_op("MatMul", a=a, b=a, transpose_b=True, name="b")
    assert b.op.type == "MatMul"
    assert list(b.op.inputs) == [a, a]
    assert b.op.outputs == [b]
    assert b.op.get_attr("transpose_b") is True
    assert b.op.get_attr("T") == tf.float32
    assert a.consumers() == [b.op]
    assert b.shape.as_list() == [1, 1]
    assert b.op.traceback_line.startswith("test_graph.py:")
    line = int(b.op.traceback_line.split(":")[1])
    assert 'name="b"' in pathlib.Path(__file__).read_text().splitlines()[line - 1]
    with pytest.raises(ValueError, match="no attr named"):
        b.op.get_attr("nope")
    assert graph.version == 2
    assert [op._id for op in graph.get_operations()] == [1, 2]


def test_tensors_compare_by_identity_and_refuse_python_control_flow():
    a, b = tf.constant(1), tf.constant(1)
    assert len({a, b, a}) == 2
    assert (a == a) is True
    assert (a == b) is False
    assert a in [b, a]
    for use in (bool, iter, list):
        with pytest.raises(OperatorNotAllowedInGraphError):
            use(a)
    with pytest.raises(TypeError, match="not well defined"):
        len(a)
    with pytest.raises(NotImplementedError, match="symbolic"):
        np.array(a)
    with pytest.raises(ValueError, match="no operator"):
        override_operator("__eq__", lambda a, b: True)


def test_text_forms():
    t, p = tf.constant([1.0, 2.0], name="t"), tf.placeholder(tf.int32, [None, 2], name="p")
    assert str(t) == 'Tensor("t:0", shape=(2,), dtype=float32)'
    assert repr(t) == "<tf.Tensor 't:0' shape=(2,) dtype=float32>"
    assert str(p) == 'Tensor("p:0", shape=(?, 2), dtype=int32)'
    assert str(tf.placeholder(tf.int32, name="q")) == 'Tensor("q:0", dtype=int32)'
    assert repr(t.op) == "<tf.Operation 't' type=Const>"


def test_finalize(graph):
    graph.finalize()
    assert graph.finalized
    with pytest.raises(RuntimeError, match="Graph is finalized and cannot be modified"):
        tf.no_op()


def test_collections(graph):
    tf.add_to_collection("k", 1)
    graph.add_to_collections(["k", "m", "m"], "x")
    copy = tf.get_collection("k")
    copy.append(9)
    assert tf.get_collection("k") == [1, "x"]
    assert tf.get_collection("m") == ["x"]
    assert tf.get_collection("none") == []
    tf.get_collection_ref("k").append(9)
    assert tf.get_collection("k") == [1, "x", 9]
    assert set(graph.get_all_collection_keys()) == {"k", "m"}
    a, b = tf.constant(1, name="layer1/a"), tf.constant(1, name="layer2/a")
    graph.add_to_collections("t", a)
    graph.add_to_collections("t", b)
    assert tf.get_collection("t", scope="layer.") == [a, b]
    assert tf.get_collection("t", scope="layer2") == [b]
    graph.clear_collection("k")
    assert tf.get_collection("k") == []


def test_default_graphs_nest_and_belong_to_a_thread(graph):
    inner = tf.Graph()
    with inner.as_default() as got:
        assert got is inner
        assert tf.get_default_graph() is inner
        seen = []
        thread = threading.Thread(target=lambda: seen.append(tf.get_default_graph()))
        thread.start()
        thread.join()
        assert seen[0] is not inner
        with pytest.raises(AssertionError, match="nested graphs"):
            tf.reset_default_graph()
    assert tf.get_default_graph() is graph


def test_default_blocks_must_end_in_order():
    def out_of_order():
        a, b = tf.Graph().as_default(), tf.Graph().as_default()
        a.__enter__()
        b.__enter__()
        with pytest.raises(AssertionError, match="Nesting violated"):
            a.__exit__(None, None, None)

    thread = threading.Thread(target=out_of_order)
    thread.start()
    thread.join()


def test_many_threads_build_one_graph(graph):
    def work():
        with graph.as_default(), tf.name_scope("w"):
            for k in range(30):
                tf.constant(k, name="c")

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(graph.get_operations()) == 180 == len({op.name for op in graph.get_operations()})


# --- Devices ---


def test_device_strings_merge():
    with tf.device("/job:w"):
        with tf.device("/cpu:1"):
            a = tf.constant(1)
        with tf.device("/job:p/task:2"):
            b = tf.constant(1)
        with tf.device(None), tf.device(""):
            c = tf.constant(1)
    assert (a.device, b.device, c.device) == ("/job:w/device:CPU:1", "/job:p/task:2", "")
    with pytest.raises(ValueError, match="Unknown attribute"):
        tf.device("/foo:1")


def test_device_functions_are_applied_per_op():
    with tf.device(lambda op: "/cpu:1" if op.type == "Const" else None):
        a = tf.constant(1)
        b = tf.identity(a)
    assert a.device == "/cpu:1"
    assert b.device == ""


def test_colocation_copies_the_device():
    with tf.device("/cpu:1"):
        a = tf.constant(1, name="anchor")
    with tf.device("/cpu:0"), tf.colocate_with(a):
        b = tf.constant(2)
    assert b.device == a.device
    assert b.op.get_attr("_class") == [b"loc:@anchor"] == b.op.colocation_groups()


def test_device_spec():
    spec = tf.DeviceSpec.from_string("/job:w/replica:1/task:2/gpu:3")
    assert spec.to_string() == "/job:w/replica:1/task:2/device:GPU:3"
    assert spec.replace(device_index=0).device_index == 0
    assert spec == tf.DeviceSpec("w", 1, 2, "GPU", 3)


# --- Dependencies, attrs, marks, seeds ---


def test_control_dependencies():
    a, b = tf.no_op(name="a"), tf.constant(1)
    with tf.control_dependencies([a]), tf.control_dependencies([b, b.op]):
        both = tf.no_op()
        inside = tf.identity(b)
        implied = tf.identity(inside)
        with tf.control_dependencies(None):
            none = tf.no_op()
    assert both.control_inputs == [a, b.op]
    assert inside.op.control_inputs == [a], "an input needs no waiting for"
    assert implied.op.control_inputs == [] == none.control_inputs
    with pytest.raises(TypeError, match="Can not convert a int"):
        tf.control_dependencies([3])


def test_gradient_override_map(graph):
    x = tf.constant(1.0)
    with graph.gradient_override_map({"Identity": "Mine"}), graph.gradient_override_map({"Neg": "Yours"}):
        y, z = tf.identity(x), apply_op("Neg", x=x)
    assert y.op.get_attr("_gradient_op_type") == b"Mine"
    assert z.op.get_attr("_gradient_op_type") == b"Yours"
    assert "_gradient_op_type" not in tf.identity(x).op.attrs
    with pytest.raises(TypeError):
        graph.gradient_override_map({"Identity": 3})


def test_marks(graph):
    t = tf.constant(1)
    graph.prevent_feeding(t)
    graph.prevent_fetching(t.op)
    assert not graph.is_feedable(t)
    assert not graph.is_fetchable(t)
    assert not graph.is_fetchable(t.op)
    assert graph.is_feedable(tf.constant(1))


def test_seeds(graph):
    assert get_seed(None) == (None, None)
    assert get_seed(3) == (87654321, 3)
    assert get_seed(-1) == (87654321, 2**31 - 2)
    tf.set_random_seed(42)
    assert [get_seed(None), get_seed(9), get_seed(None)] == [(42, 0), (42, 9), (42, 1)]
    tf.set_random_seed(0)
    assert graph.seed == 0
    assert get_seed(0) == (0, 2**31 - 1)
    assert get_seed(None) == (0, 2)


# --- Control ops ---


def test_group_and_tuple():
    a, b = tf.constant(1, name="a"), tf.constant(2.0, name="b")
    assert tf.group().type == "NoOp"
    assert tf.group(a, [b], name="g").control_inputs == [a.op, b.op]
    with pytest.raises(TypeError, match="zero or more"):
        tf.group(3)
    x, none, y = tf.tuple([a, None, b], control_inputs=[tf.no_op(name="c")])
    assert none is None
    assert x.dtype == tf.int32
    assert y.name == "tuple/control_dependency_1:0"
    (gate,) = x.op.control_inputs
    assert [op.name for op in gate.control_inputs] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="at least one Tensor"):
        tf.tuple([None])


def test_assert_op():
    op = tf.Assert(False, ["x is", tf.constant(3)], name="check")
    assert op.name == "check/Assert"
    assert op.get_attr("T") == [tf.string, tf.int32]
    assert op.get_attr("summarize") == 3
    with pytest.raises(TypeError, match="sequence"):
        tf.Assert(True, tf.constant(1))


def test_placeholders():
    p = tf.placeholder(tf.float32, [None, 3])
    assert p.shape.as_list() == [None, 3]
    assert p.op.get_attr("shape") == tf.TensorShape([None, 3])
    assert tf.placeholder_with_default([1.0, 2.0], [None]).shape.as_list() == [None]
    with pytest.raises(ValueError, match="must be equal"):
        tf.placeholder_with_default([1.0, 2.0], [3])
