"""Graphs as GraphDefs: encodings on the wire, nodes, round trips, and what import refuses."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import stepjit.compat.v1 as tf
from stepjit.framework.attr_values import array_of, put_tensor, read_attr
from stepjit.proto import MESSAGES, schema
from stepjit_runtime import dtypes


def affine() -> Any:
    """A GraphDef of p, c -> mul; sp, a split of mul, -> out, after dep."""
    with tf.Graph().as_default() as graph:
        p = tf.placeholder(tf.float32, [2], name="p")
        mul = tf.multiply(p, tf.constant([2.0, 3.0], name="c"), name="mul")
        parts = tf.split(mul, 2, name="sp")
        with tf.control_dependencies([tf.no_op(name="dep")]):
            tf.subtract(parts[1], parts[0], name="out")
        return graph.as_graph_def()


def node_of(graph_def: Any, name: str) -> Any:
    return next(node for node in graph_def.node if node.name == name)


def run_imported(graph_def: Any, fetch: str, feeds: dict[str, Any] | None = None, **arguments: Any) -> Any:
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(graph_def, name="", **arguments)
        return session.run(fetch, feeds)


# --- Messages -----------------------------------------------------------------------------------------------------


def test_a_namespace_without_protobuf() -> None:
    code = (
        "import sys, stepjit.compat.v1 as tf; assert 'google.protobuf' not in sys.modules;"
        "tf.GraphDef; assert 'google.protobuf' in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_messages_copy_and_pickle() -> None:
    graph_def = affine()
    assert copy.deepcopy(graph_def) == graph_def
    assert pickle.loads(pickle.dumps(graph_def)) == graph_def


def test_a_node_on_the_wire() -> None:
    node = tf.NodeDef(name="n", op="Exp", input=["x:1", "^c"])
    node.attr["T"].type = 1
    assert node.SerializeToString() == b'\n\x01n\x12\x03Exp\x1a\x03x:1\x1a\x02^c*\x07\n\x01T\x12\x020\x01'


def test_fields_that_are_not_known_survive() -> None:
    unknown = b"\xfa\x3f\x03abc"
    assert tf.NodeDef.FromString(b"\n\x01n" + unknown).SerializeToString() == b"\n\x01n" + unknown


@pytest.mark.parametrize("text", ["service S {}", 'syntax = "proto2";', "message M { int32 a : 1; }", "import ?;"])
def test_a_schema_that_is_not_understood(text: str) -> None:
    with pytest.raises(ValueError, match=r"(un)?expected"):
        schema.read("bad.proto", text)


# --- Tensors ------------------------------------------------------------------------------------------------------

WIRE = [
    (np.float32(1.5), tf.float32, b"\x08\x01\x12\x00*\x04\x00\x00\xc0?"),
    (np.int32([1, 2]), tf.int32, b'\x08\x03\x12\x04\x12\x02\x08\x02"\x08\x01\x00\x00\x00\x02\x00\x00\x00'),
    (np.float16(3), tf.float16, b"\x08\x13\x12\x00j\x03\x80\x84\x01"),
    (np.array([b"a", b"b"], object), tf.string, b"\x08\x07\x12\x04\x12\x02\x08\x02B\x01aB\x01b"),
    (np.zeros(0, np.int32), tf.int32, b"\x08\x03\x12\x02\x12\x00"),
    (np.bool_(True), tf.bool, b"\x08\n\x12\x00Z\x01\x01"),
    (np.array(1 + 2j), tf.complex128, b"\x08\x12\x12\x00b\x10\x00\x00\x00\x00\x00\x00\xf0?\x00\x00\x00\x00\x00\x00\x00@"),
    (np.int8([1]), tf.int8, b"\x08\x06\x12\x04\x12\x02\x08\x01:\x01\x01"),
    (np.uint32(5), tf.uint32, b"\x08\x16\x12\x00\x82\x01\x01\x05"),
    (np.array(2, ml_dtypes.bfloat16), tf.bfloat16, b"\x08\x0e\x12\x00j\x03\x80\x80\x01"),
]
"""Values and the bytes that TensorFlow writes for them."""


@pytest.mark.parametrize(("value", "dtype", "wire"), WIRE)
def test_tensors_have_tensorflows_bytes(value: Any, dtype: Any, wire: bytes) -> None:
    proto = MESSAGES["TensorProto"]()
    put_tensor(proto, np.asarray(value), dtype)
    assert proto.SerializeToString() == wire


def back(array: np.ndarray) -> np.ndarray:
    proto = MESSAGES["TensorProto"]()
    put_tensor(proto, array, dtypes.as_dtype(array.dtype))
    return array_of(MESSAGES["TensorProto"].FromString(proto.SerializeToString()))


NUMPY = [dtype.np for dtype in dtypes.ALL if dtype.kind in "fiubc"]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NUMPY), hnp.array_shapes(min_dims=0, max_side=5, min_side=0), st.randoms())
def test_tensors_come_back(dtype: Any, shape: tuple[int, ...], random: Any) -> None:
    content = bytes(random.randrange(2 if dtype.kind == "b" else 256) for _ in range(int(np.prod(shape)) * dtype.itemsize))
    array = np.frombuffer(content, dtype).reshape(shape)
    found = back(array)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    # Listed floats pass through Python's, where the payload of a NaN may get lost.
    assert np.array_equal(found.tobytes(), array.tobytes()) or np.array_equal(found, array, equal_nan=True)


@pytest.mark.parametrize("value", [0.0, -0.0, np.nan, 7.5])
def test_a_long_array_of_one_value_is_short(value: float) -> None:
    array = np.full((100, 100), value, np.float32)
    proto = MESSAGES["TensorProto"]()
    put_tensor(proto, array, dtypes.float32)
    assert proto.ByteSize() < 40
    assert array_of(proto).tobytes() == array.tobytes()


def test_zeros_of_both_signs_are_not_one_value() -> None:
    array = np.zeros(100, np.float32)
    array[50] = -0.0
    assert back(array).tobytes() == array.tobytes()


def tensor_proto(dtype: int, shape: list[int], **fields: Any) -> Any:
    proto = MESSAGES["TensorProto"](dtype=dtype, **fields)
    for extent in shape:
        proto.tensor_shape.dim.add(size=extent)
    proto.tensor_shape.SetInParent()
    return proto


def test_missing_elements_are_the_last_one() -> None:
    assert array_of(tensor_proto(3, [4], int_val=[1, 2])).tolist() == [1, 2, 2, 2]
    assert array_of(tensor_proto(1, [2])).tolist() == [0, 0]
    assert array_of(tensor_proto(7, [2])).tolist() == [b"", b""]


@pytest.mark.parametrize(
    "proto",
    [
        tensor_proto(3, [1], int_val=[1, 2]),
        tensor_proto(3, [2], tensor_content=b"abc"),
        tensor_proto(3, [-1], int_val=[1]),
        tensor_proto(20, [1]),
        tensor_proto(99, [1]),
    ],
    ids=["many", "content", "shape", "handle", "dtype"],
)
def test_wrong_tensor_protos(proto: Any) -> None:
    with pytest.raises(ValueError, match="TensorProto"):
        array_of(proto)


# --- Shapes and attrs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [None, [], [3], [None, 2]])
def test_shapes_come_back(shape: Any) -> None:
    proto = tf.TensorShape(shape).as_proto()
    assert tf.TensorShape(proto).ndims == tf.TensorShape(shape).ndims
    assert str(tf.TensorShape(proto)) == str(tf.TensorShape(shape))


def test_attrs_of_each_kind() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 4], name="x")
        top = tf.transpose(x).op.node_def
        strided = x[:, 1:].op.node_def
        shapes = tf.placeholder(tf.int64, [2, None]).op.node_def
        same = tf.identity_n([x, 1])[0].op.node_def
    assert (top.attr["T"].type, top.attr["Tperm"].type) == (1, 3)
    assert strided.attr["begin_mask"].i == 1
    assert [dim.size for dim in shapes.attr["shape"].shape.dim] == [2, -1]
    assert list(same.attr["T"].list.type) == [1, 3]
    assert read_attr(same.attr["T"], "list(type)") == (dtypes.float32, dtypes.int32)


def test_undeclared_attrs_come_back() -> None:
    with tf.Graph().as_default() as graph, graph._attr_scope({"_a": 3, "_b": b"x", "_c": (1, 2), "_d": True, "_e": ()}):
        tf.no_op(name="n")
    graph_def = graph.as_graph_def()
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        attrs = graph.get_operation_by_name("n").attrs
    assert attrs == {"_a": 3, "_b": b"x", "_c": (1, 2), "_d": True, "_e": ()}


@pytest.mark.parametrize(("kind", "phrase"), [("int", "'type' when 'int'"), ("list(type)", "'list"), ("shape", "shape")])
def test_an_attr_of_another_kind(kind: str, phrase: str) -> None:
    with pytest.raises(ValueError, match=phrase.replace("(", r"\(")):
        read_attr(tf.AttrValue(type=1), kind)


# --- Graphs -------------------------------------------------------------------------------------------------------


def test_controls_come_last_and_sorted() -> None:
    with tf.Graph().as_default():
        x = tf.constant(1, name="x")
        with tf.control_dependencies([tf.no_op(name="z"), tf.no_op(name="b")]):
            node = tf.identity(x).op.node_def
    assert list(node.input) == ["x", "^b", "^z"]


def test_an_input_is_no_control_as_well() -> None:
    with tf.Graph().as_default():
        x = tf.constant(1, name="x")
        with tf.control_dependencies([x]):
            node = tf.identity(x).op.node_def
    assert list(node.input) == ["x"]


def test_from_a_version() -> None:
    with tf.Graph().as_default() as graph:
        tf.constant(1, name="a")
        version = graph.version
        tf.constant(2, name="b")
    assert [node.name for node in graph.as_graph_def(from_version=version).node] == ["b"]


def test_the_message_of_a_graph_is_new_each_time() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        tf.constant(1, name="a")
        session.graph_def.node[0].name = "other"
        assert session.graph_def.node[0].name == "a"


def test_shapes_of_handles_are_those_of_scalars() -> None:
    with tf.Graph().as_default() as graph:
        tf.get_variable("v", [2, 3], use_resource=True)
    graph_def = graph.as_graph_def(add_shapes=True)
    shape = node_of(graph_def, "v").attr["_output_shapes"].list.shape[0]
    assert (len(shape.dim), shape.unknown_rank) == (0, False)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        assert graph.get_tensor_by_name("v/Read/ReadVariableOp:0").shape.as_list() == [2, 3]


def test_an_errors_node() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32)
        bad = tf.reshape(x, [2, 2], name="bad")
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            session.run(bad, {x: [1.0]})
    assert caught.value.node_def == bad.op.node_def
    assert tf.errors.OpError(None, None, "text", 3).node_def is None


# --- Import -------------------------------------------------------------------------------------------------------


def test_a_model_with_state_trains_the_same_after_a_round_trip() -> None:
    data, labels = np.random.RandomState(0).randn(6, 4).astype(np.float32), np.arange(6) % 3
    with tf.Graph().as_default() as graph:
        x, y = tf.placeholder(tf.float32, [None, 4], name="x"), tf.placeholder(tf.int32, [None], name="y")
        w = tf.get_variable("w", initializer=tf.constant(np.eye(4, 3, dtype=np.float32)))
        b = tf.get_variable("b", [3], initializer=tf.zeros_initializer(), use_resource=True)
        logits = tf.matmul(x, w) + b
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits), name="loss")
        tf.train.GradientDescentOptimizer(0.5).minimize(loss, name="train")
        tf.group(w.initializer, b.initializer, name="init")
        graph_def = graph.as_graph_def(add_shapes=True)

    def losses() -> list[float]:
        with tf.Session() as session:
            session.run("init")
            feeds = {"x:0": data, "y:0": labels}
            return [session.run(["loss:0", "train"], feeds)[0] for _ in range(4)]

    with graph.as_default():
        expected = losses()
    with tf.Graph().as_default() as again:
        tf.import_graph_def(tf.GraphDef.FromString(graph_def.SerializeToString()), name="")
        assert losses() == expected
    assert again.as_graph_def(add_shapes=True) == graph_def


def test_nodes_in_any_order_far_apart() -> None:
    with tf.Graph().as_default() as graph:
        t = tf.constant(0, name="zero")
        for _ in range(3000):
            t = tf.identity(t)
        tf.identity(t, name="out")
    nodes = list(graph.as_graph_def().node)
    assert run_imported(tf.GraphDef(node=nodes[::-1]), "out:0") == 0


def test_input_map_of_a_second_output_and_of_a_value() -> None:
    graph_def = affine()
    with tf.Graph().as_default() as graph, tf.Session() as session:
        mapped = {"sp:1": tf.constant([10.0]), "mul": np.float32([1, 1])}
        out, first = tf.import_graph_def(graph_def, input_map=mapped, return_elements=["out:0", "sp:1"], name="m")
        assert first is mapped["sp:1"]
        assert graph.get_operation_by_name("m/_inputs/Const").type == "Const"
        assert session.run(out).tolist() == [9.0]


def test_values_in_input_map_need_a_prefix() -> None:
    with tf.Graph().as_default(), pytest.raises(ValueError, match="non-empty `name`"):
        tf.import_graph_def(affine(), input_map={"p": [1.0, 2.0]}, name="")


def test_taken_names_get_numbers() -> None:
    with tf.Graph().as_default() as graph:
        for _ in range(2):
            tf.import_graph_def(affine(), name="")
        assert {"out", "out_1"} <= {op.name for op in graph.get_operations()}
        assert tf.no_op(name="OUT").name == "OUT_2"


def test_devices_controls_and_groups() -> None:
    with tf.Graph().as_default() as graph:
        a = tf.constant(1, name="a")
        with tf.colocate_with(a), tf.device("/cpu:1"):
            tf.constant(2, name="b")
    graph_def = graph.as_graph_def()
    with tf.Graph().as_default(), tf.device("/job:w"), tf.control_dependencies([tf.no_op(name="first")]):
        a, b = tf.import_graph_def(graph_def, return_elements=["a", "b"])
    assert (a.device, b.device) == ("/job:w", "/job:w/device:CPU:1")
    assert b.get_attr("_class") == [b"loc:@import/a"]
    assert [op.name for op in b.control_inputs] == ["first"]


@pytest.mark.parametrize(("producer", "rank"), [(21, None), (22, 0)])
def test_shapes_of_old_placeholders(producer: int, rank: int | None) -> None:
    graph_def = tf.GraphDef()
    graph_def.versions.producer = producer
    node = graph_def.node.add(name="p", op="Placeholder")
    node.attr["dtype"].type = 1
    node.attr["shape"].shape.SetInParent()
    with tf.Graph().as_default():
        (p,) = tf.import_graph_def(graph_def, return_elements=["p:0"])
    assert p.shape.ndims == rank


def broken(which: str, /, **changes: Any) -> Any:
    """`affine` with a node changed: its inputs, device, or attrs (None: without)."""
    graph_def = affine()
    node = node_of(graph_def, which)
    for key, value in changes.items():
        if key == "input":
            del node.input[:]
            node.input.extend(value)
        elif key in ("name", "device", "op"):
            setattr(node, key, value)
        elif value is None:
            del node.attr[key]
        else:
            node.attr[key].CopyFrom(tf.AttrValue(**value))
    return graph_def


@pytest.mark.parametrize(
    ("graph_def", "phrase"),
    [
        (broken("mul", T=None), "missing attr 'T'"),
        (broken("mul", T={"i": 1}), "'int' expected|'type' expected"),
        (broken("mul", T={"type": 7}), "allowed"),
        (broken("mul", T={"type": 3}), "incompatible with expected int32"),
        (broken("mul", T={"type": 99}), "99"),
        (broken("mul", input=["p"]), "do not match 1 inputs"),
        (broken("mul", input=["p", "c", "c"]), "do not match 3 inputs"),
        (broken("mul", input=["p", "c:1"]), "invalid output 1 of source node c"),
        (broken("mul", input=["p", "out"]), "cycle"),
        (broken("mul", input=["^dep", "p", "c"]), "must come after"),
        (broken("mul", input=["p", "c", "^ghost"]), "ghost"),
        (broken("mul", name="a b"), "invalid characters"),
        (broken("mul", device="/nowhere:x:y"), "nowhere"),
        (broken("mul", _class={"list": {"s": [b"loc:@ghost"]}}), "ghost"),
        (broken("c", dtype={"type": 3}), "constant of int32"),
        (broken("dep", op="Magic"), "'Magic', of node 'dep'"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_is_wrong_is_said_and_changes_nothing(graph_def: Any, phrase: str) -> None:
    with tf.Graph().as_default() as graph:
        with pytest.raises(ValueError, match=phrase):
            tf.import_graph_def(graph_def)
        assert graph.get_operations() == []


def test_shapes_that_cannot_be() -> None:
    with tf.Graph().as_default(), pytest.raises(ValueError, match=r"equal|Incompatible"):
        tf.import_graph_def(affine(), input_map={"p:0": tf.zeros([3])})


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [({"input_map": {3: 1.0}}, TypeError), ({"input_map": {"^dep": 1}}, ValueError), ({"name": 3}, TypeError)],
)
def test_wrong_arguments(arguments: dict[str, Any], kind: type[Exception]) -> None:
    with tf.Graph().as_default(), pytest.raises(kind):
        tf.import_graph_def(affine(), **arguments)
