"""Variables of both kinds: the ops they make, their collections and members."""

from __future__ import annotations

import numpy as np
import pytest

import stepjit.compat.v1 as tf

BOTH = pytest.mark.parametrize("resource", [False, True], ids=["ref", "resource"])


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as g:
        yield g


def names(graph):
    return [(op.name, op.type) for op in graph.get_operations()]


def test_ops_of_a_reference_variable(graph):
    tf.Variable([1.0, 2.0], name="v")
    assert names(graph) == [
        ("v/initial_value", "Const"),
        ("v", "VariableV2"),
        ("v/Assign", "Assign"),
        ("v/read", "Identity"),
    ]
    assert graph.get_operation_by_name("v/read").attrs["_class"] == (b"loc:@v",)


def test_ops_of_a_resource_variable(graph):
    tf.Variable([1.0, 2.0], name="v", use_resource=True)
    assert names(graph) == [
        ("v/Initializer/initial_value", "Const"),
        ("v", "VarHandleOp"),
        ("v/IsInitialized/VarIsInitializedOp", "VarIsInitializedOp"),
        ("v/Assign", "AssignVariableOp"),
        ("v/Read/ReadVariableOp", "ReadVariableOp"),
    ]


@BOTH
def test_members(resource):
    v = tf.Variable([1.0, 2.0], name="w", use_resource=resource, trainable=False)
    assert isinstance(v, tf.Variable)
    assert (v.name, v.op.name, v.shape, v.dtype.base_dtype) == ("w:0", "w", (2,), tf.float32)
    assert v.initial_value.op.type == "Const"
    assert v.initializer.name == "w/Assign"
    assert not v.trainable
    assert v.constraint is None
    assert v.graph is tf.get_default_graph()
    assert v == v
    assert v != 3
    assert len({v, v}) == 1
    with pytest.raises(TypeError, match="not iterable"):
        iter(v)


def test_dtype_is_a_reference_for_reference_variables_only():
    assert tf.Variable(1.0).dtype == tf.float32._as_ref
    assert tf.Variable(1.0, use_resource=True).dtype == tf.float32


@BOTH
def test_operators_read_the_value(graph, resource):
    v = tf.Variable([1.0, 2.0], name="v", use_resource=resource)
    read = "ReadVariableOp:0" if resource else "v/read:0"
    assert (v + 1.0).op.inputs[0].name == read
    for result in (2.0 * v, v - v, v / 2.0, v**2.0, -v, abs(v), v < 1.0, v[0], v[:1]):
        assert isinstance(result, tf.Tensor)


@BOTH
def test_assign_checks_shape_and_dtype(resource):
    v = tf.Variable([1.0, 2.0], use_resource=resource)
    with pytest.raises(ValueError, match=r"[Ss]hape"):
        tf.assign(v, [1.0, 2.0, 3.0])
    with pytest.raises((TypeError, ValueError)):
        tf.assign(v, tf.constant([1, 2]))
    assert tf.assign(v, [3.0, 4.0]).dtype.base_dtype == tf.float32


def test_default_names_of_updates(graph):
    v = tf.Variable([1.0], name="v")
    made = [tf.assign(v, [1.0]), v.assign_add([1.0]), v.assign_sub([1.0]), tf.scatter_add(v, [0], [1.0])]
    assert [t.op.name for t in made] == ["Assign", "AssignAdd", "AssignSub", "ScatterAdd"]
    assert v.assign([1.0], read_value=False).type == "Assign"


def test_slice_of_a_variable_can_be_assigned_to():
    v = tf.Variable([1.0, 2.0])
    assert callable(v[0].assign)


@BOTH
def test_bad_arguments(resource):
    with pytest.raises(ValueError, match="initial_value must be specified"):
        tf.Variable(use_resource=resource)
    with pytest.raises(ValueError, match="collections argument"):
        tf.Variable(1.0, collections="mine", use_resource=resource)
    with pytest.raises(ValueError, match="constraint"):
        tf.Variable(1.0, constraint=3, use_resource=resource)


def test_collections():
    a = tf.Variable(1.0)
    b = tf.Variable(2.0, trainable=False)
    c = tf.Variable(3.0, collections=["mine"])
    d = tf.Variable(4.0, collections=[tf.GraphKeys.LOCAL_VARIABLES], trainable=False)
    assert tf.global_variables() == [a, b]
    assert tf.trainable_variables() == [a, c]
    assert tf.local_variables() == [d]
    assert tf.get_collection("mine") == [c]


def test_initial_value_ignores_control_dependencies():
    with tf.control_dependencies([tf.no_op()]):
        v = tf.Variable(tf.zeros([2]))
    assert v.initializer.control_inputs == []
    assert v.initial_value.op.control_inputs != []


def test_initializers_wait_for_every_variable():
    a, b = tf.Variable(1.0), tf.Variable(2.0, use_resource=True)
    op = tf.global_variables_initializer()
    assert op.name == "init"
    assert set(op.control_inputs) == {a.initializer, b.initializer}
    assert tf.local_variables_initializer().control_inputs == []


def test_unvalidated_shape_is_unknown():
    v = tf.Variable([1.0, 2.0], validate_shape=False)
    assert v.shape.ndims is None


def test_callable_initial_value_is_made_inside_the_variable(graph):
    v = tf.Variable(lambda: tf.constant([1, 2]), dtype=tf.int32, name="v")
    assert v.initial_value.op.name == "v/Initializer/Const"


@BOTH
def test_run_both_kinds(resource):
    v = tf.Variable([1.0, 2.0], use_resource=resource)
    with tf.Session() as s:
        with pytest.raises(tf.errors.FailedPreconditionError):
            s.run(v)
        s.run(v.initializer)
        assert s.run(tf.assign_add(v, [1.0, 1.0])).tolist() == [2, 3]
        v.load([5.0, 6.0], s)
        np.testing.assert_array_equal(s.run(v), [5, 6])


def test_partitioned_variable_converts_to_the_whole():
    with tf.variable_scope("p", partitioner=tf.fixed_size_partitioner(3)):
        v = tf.get_variable("v", [7, 2], initializer=tf.ones_initializer())
    assert [part.shape.as_list() for part in v] == [[3, 2], [2, 2], [2, 2]]
    assert [part.op.name for part in v] == ["p/v/part_0", "p/v/part_1", "p/v/part_2"]
    whole = tf.convert_to_tensor(v)
    assert whole.op.type == "ConcatV2"
    assert whole.shape == (7, 2)
