"""GraphDefs taken apart and frozen, and MetaGraphDefs written and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf


def _model() -> Any:
    v = tf.Variable([1.0, 2.0], name="v")
    w = tf.get_variable("w", [2], initializer=tf.ones_initializer(), use_resource=True)
    table = tf.get_variable("table", initializer=np.arange(6, dtype=np.float32).reshape(3, 2), use_resource=True)
    tf.identity(v * 3.0 + w, name="out")
    tf.gather(table, [0, 2], name="rows")
    return v, w, table


def _ops(graph_def: Any) -> dict[str, str]:
    return {node.name: node.op for node in graph_def.node}


def test_extract_keeps_what_is_needed_in_order() -> None:
    with tf.Graph().as_default() as graph:
        a = tf.constant(1.0, name="a")
        tf.constant(2.0, name="unused")
        with tf.control_dependencies([tf.no_op("first")]):
            tf.negative(a, name="b")
        found = tf.graph_util.extract_sub_graph(graph.as_graph_def(), ["b"])
    assert [node.name for node in found.node] == ["a", "first", "b"]
    assert found.versions.producer == graph.as_graph_def().versions.producer


@pytest.mark.parametrize(("dest", "error"), [(["zz"], AssertionError), ("b", TypeError)])
def test_extract_errors(dest: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        tf.graph_util.extract_sub_graph(tf.GraphDef(), dest)
    with pytest.raises(TypeError, match="GraphDef proto"):
        tf.graph_util.extract_sub_graph(tf.Graph(), ["b"])


def test_frozen_variables_of_both_kinds() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        _model()
        session.run(tf.global_variables_initializer())
        wanted = session.run(["out:0", "rows:0"])
        frozen = tf.graph_util.convert_variables_to_constants(session, session.graph_def, ["out", "rows"])
    assert not {"VariableV2", "VarHandleOp", "ReadVariableOp", "ResourceGather"} & set(_ops(frozen).values())
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(frozen, name="")
        for mine, want in zip(session.run(["out:0", "rows:0"]), wanted, strict=True):
            np.testing.assert_array_equal(mine, want)


def test_only_some_variables_are_frozen() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        _model()
        session.run(tf.global_variables_initializer())
        convert = tf.graph_util.convert_variables_to_constants
        listed = _ops(convert(session, session.graph_def, ["out"], variable_names_whitelist=["v"]))
        spared = _ops(convert(session, session.graph_def, ["out"], variable_names_blacklist=["v"]))
    assert (listed["v"], listed["w"]) == ("Const", "VarHandleOp")
    assert (spared["v"], spared["w"]) == ("VariableV2", "Const")


def test_freezing_needs_values() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        _model()
        with pytest.raises(tf.errors.FailedPreconditionError):
            tf.graph_util.convert_variables_to_constants(session, session.graph_def, ["out"])


def test_training_nodes_are_taken_out() -> None:
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [2], name="x")
        y = tf.identity(tf.check_numerics(tf.identity(x, name="i"), "bad", name="check"), name="kept")
        waiting = tf.identity(x, name="waited_for")
        with tf.control_dependencies([waiting]):
            tf.square(y, name="out")
        found = tf.graph_util.remove_training_nodes(graph.as_graph_def(), protected_nodes=["kept"])
    nodes = {node.name: list(node.input) for node in found.node}
    assert nodes == {"x": [], "kept": ["x"], "waited_for": ["x"], "out": ["kept", "^waited_for"]}


def test_where_nodes_must_run() -> None:
    with tf.Graph().as_default():
        v, _, _ = _model()
        assert tf.graph_util.must_run_on_cpu(tf.constant("text").op)
        assert tf.graph_util.must_run_on_cpu(tf.constant(1).op.node_def)
        assert not tf.graph_util.must_run_on_cpu(tf.constant(1.0).op)
        assert not tf.graph_util.must_run_on_cpu(v.op)
        assert tf.graph_util.must_run_on_cpu(v.op, pin_variables_on_cpu=True)


def test_write_graph_makes_the_folder(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        tf.constant(1, name="a")
        binary = tf.train.write_graph(graph, tmp_path / "new" / "er", "g.pb", as_text=False)
        text = tf.train.write_graph(graph.as_graph_def(), str(tmp_path), "g.pbtxt")
    assert tf.GraphDef.FromString(Path(binary).read_bytes()).node[0].name == "a"
    assert 'name: "a"' in Path(text).read_text()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["g.pbtxt", "new"]


# --- MetaGraphDefs ---


def _collections() -> None:
    v = _model()[0]
    tf.add_to_collection("outs", tf.get_default_graph().get_tensor_by_name("out:0"))
    tf.add_to_collection("outs", v.op)
    tf.add_to_collection("numbers", 3)
    tf.add_to_collection("floats", 2.5)
    tf.add_to_collection("texts", "abc")
    tf.add_to_collection("objects", object())
    tf.add_to_collection("mixed", 1)
    tf.add_to_collection("mixed", "a")


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("scope", [None, "part"])
def test_meta_graph_round_trip(tmp_path: Path, as_text: bool, scope: str | None) -> None:
    with tf.Graph().as_default():
        _collections()
        made = tf.train.export_meta_graph(tmp_path / "m.meta", as_text=as_text)
    assert "objects" not in made.collection_def
    assert "mixed" not in made.collection_def
    prefix = f"{scope}/" if scope else ""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.train.import_meta_graph(str(tmp_path / "m.meta"), import_scope=scope)
        variables = tf.global_variables()
        assert [v.name for v in variables] == [f"{prefix}{name}:0" for name in ("v", "w", "table")]
        assert tf.trainable_variables() == variables
        out, op = tf.get_collection("outs")
        assert (out.name, op.name) == (f"{prefix}out:0", f"{prefix}v")
        assert tf.get_collection("numbers") == [3]
        assert tf.get_collection("floats") == [2.5]
        assert tf.get_collection("texts") == [b"abc"]
        session.run(tf.global_variables_initializer())
        assert session.run(out).tolist() == [4.0, 7.0]
        session.run(tf.assign(variables[0], [0.0, 0.0]))
        assert session.run([out, variables[1]])[0].tolist() == [1.0, 1.0]


def test_devices_and_defaults_can_be_left_out() -> None:
    with tf.Graph().as_default():
        with tf.device("/cpu:0"):
            tf.matmul(tf.ones([2, 2]), tf.ones([2, 2]), name="m")
        made = tf.train.export_meta_graph(clear_devices=True, strip_default_attrs=True)
        kept = tf.train.export_meta_graph()
    (node,) = (node for node in made.graph_def.node if node.name == "m")
    assert not node.device
    assert "transpose_a" not in node.attr
    assert made.meta_info_def.stripped_default_attrs
    assert next(node for node in kept.graph_def.node if node.name == "m").device == "/device:CPU:0"
    with tf.Graph().as_default():
        tf.train.import_meta_graph(kept, clear_devices=True)
        assert tf.get_default_graph().get_operation_by_name("m").device == ""


def test_one_scope_is_exported() -> None:
    with tf.Graph().as_default():
        with tf.name_scope("inside"):
            v = tf.Variable(2.0, name="v")
            tf.add_to_collection("outs", v * 2.0)
        tf.add_to_collection("outs", tf.constant(1.0, name="outside"))
        made = tf.train.export_meta_graph(export_scope="inside")
        with tf.name_scope("open"):
            tf.identity(v, name="i")
        with pytest.raises(ValueError, match="outside the scope"):
            tf.train.export_meta_graph(export_scope="open")
    assert {node.name for node in made.graph_def.node} >= {"v", "v/read", "mul"}
    assert list(made.collection_def["outs"].node_list.value) == ["mul:0"]
    with tf.Graph().as_default(), tf.Session() as session:
        tf.train.import_meta_graph(made)
        session.run(tf.global_variables_initializer())
        assert session.run(tf.get_collection("outs")) == [4.0]


def test_variable_def() -> None:
    with tf.Graph().as_default():
        with tf.name_scope("s"):
            v = tf.Variable(1.0, trainable=False, name="v")
        proto = v.to_proto()
        assert (proto.variable_name, proto.initializer_name, proto.snapshot_name) == ("s/v:0", "s/v/Assign", "s/v/read:0")
        assert proto.initial_value_name == "s/v/initial_value:0"
        assert not proto.trainable
        assert v.to_proto(export_scope="s").variable_name == "v:0"
        assert v.to_proto(export_scope="other") is None
        again = tf.Variable.from_proto(proto)
        assert again.op is v.op
        assert again.initializer is v.initializer
        assert not again.trainable
        with pytest.raises(KeyError):
            tf.Variable.from_proto(proto, import_scope="nowhere")


def test_parts_of_a_variable_know_their_place() -> None:
    with tf.Graph().as_default():
        tf.get_variable("p", [4, 2], partitioner=tf.fixed_size_partitioner(2))
        made = tf.train.export_meta_graph()
    with tf.Graph().as_default():
        tf.train.import_meta_graph(made)
        parts = [variable._get_save_slice_info() for variable in tf.global_variables()]
    assert [part.spec for part in parts] == ["4 2 0,2:0,2", "4 2 2,2:0,2"]


def test_files_that_are_no_meta_graph(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("not { a meta graph")
    with pytest.raises(OSError, match="does not exist"):
        tf.train.import_meta_graph(str(tmp_path / "none"))
    with pytest.raises(OSError, match="Cannot parse"):
        tf.train.import_meta_graph(str(tmp_path / "bad"))
    with pytest.raises(TypeError):
        tf.train.import_meta_graph(3)
