"""Variable scopes: names, reuse, defaults."""

from __future__ import annotations

import pytest

import stepjit.compat.v1 as tf


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as g:
        yield g


def test_names_follow_variable_scopes_not_name_scopes():
    with tf.name_scope("n"), tf.variable_scope("a"), tf.name_scope("m"):
        v = tf.get_variable("v", [1])
        op = tf.no_op(name="op")
    assert (v.op.name, op.name) == ("a/v", "n/a/m/op")


def test_a_second_creation_is_refused():
    tf.get_variable("v", [1])
    with pytest.raises(ValueError, match="already exists"):
        tf.get_variable("v", [1])


def test_reuse_must_find_and_fit():
    with tf.variable_scope("s"):
        v = tf.get_variable("v", [2])
    with tf.variable_scope("s", reuse=True) as scope:
        assert scope.reuse
        assert tf.get_variable("v", [2]) is v
        assert tf.get_variable("v") is v
        for arguments, phrase in (
            (("w", [2]), "does not exist"),
            (("v", [3]), "shape"),
            (("v", [2], tf.int32), "dtype"),
        ):
            with pytest.raises(ValueError, match=phrase):
                tf.get_variable(*arguments)


def test_auto_reuse_is_inherited():
    with tf.variable_scope("s", reuse=tf.AUTO_REUSE), tf.variable_scope("t"):
        v = tf.get_variable("v", [1])
        assert tf.get_variable("v", [1]) is v
    with tf.variable_scope("s"):
        assert tf.get_variable_scope().reuse is False


def test_reentering_a_scope_object():
    with tf.variable_scope("a"), tf.variable_scope("b") as scope:
        v = tf.get_variable("v", [1])
        assert scope.original_name_scope == "a/b/"
    with tf.variable_scope(scope, reuse=True):
        assert tf.get_variable("v", [1]) is v
        assert tf.no_op(name="x").name == "b/x"
    with tf.variable_scope(scope, auxiliary_name_scope=False, reuse=True):
        assert tf.no_op(name="y").name == "y"


def test_default_names_are_unique_per_variable_scope():
    made = []
    for _ in range(2):
        with tf.variable_scope(None, default_name="layer"):
            made.append(tf.get_variable("v", [1]).op.name)
            with tf.variable_scope(None, default_name="inner"):
                made.append(tf.get_variable("v", [1]).op.name)
    assert made == ["layer/v", "layer/inner/v", "layer_1/v", "layer_1/inner/v"]


def test_bad_scopes():
    with pytest.raises(TypeError, match="name_or_scope is required"):
        tf.variable_scope(None)
    with pytest.raises(TypeError, match="string or VariableScope"):
        tf.variable_scope(3)
    with pytest.raises(ValueError, match="reuse"):
        tf.variable_scope("s", reuse="yes")


def test_an_error_inside_leaves_the_outer_scope():
    with pytest.raises(KeyError), tf.variable_scope("a"):
        raise KeyError
    assert tf.get_variable("v", [1]).op.name == "v"
    assert tf.no_op(name="x").name == "x"


def test_defaults_of_the_scope():
    with tf.variable_scope("s", initializer=tf.zeros_initializer(), dtype=tf.float64, use_resource=True):
        v = tf.get_variable("v", [2])
        with tf.variable_scope("t"):
            w = tf.get_variable("w", [2], dtype=tf.float32)
    assert v.dtype == tf.float64
    assert v.op.type == "VarHandleOp"
    assert v.initial_value.op.name == "s/v/Initializer/zeros"
    assert w.dtype == tf.float32


def test_regularizer_losses():
    with tf.variable_scope("s", regularizer=tf.nn.l2_loss):
        tf.get_variable("v", [2])
        tf.get_variable("w", [2], regularizer=tf.no_regularizer)
    (loss,) = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    assert loss.op.name == "s/v/Regularizer/L2Loss"


def test_custom_getters_nest():
    def outer(getter, name, *args, **kwargs):
        return getter(name + "_outer", *args, **kwargs)

    def inner(getter, name, *args, **kwargs):
        return getter(name + "_inner", *args, **kwargs)

    with tf.variable_scope("a", custom_getter=outer), tf.variable_scope("b", custom_getter=inner):
        assert tf.get_variable("v", [1]).op.name == "a/b/v_inner_outer"


def test_default_initializers():
    assert tf.get_variable("f", [3, 4]).initial_value.op.name == "f/Initializer/random_uniform"
    assert tf.get_variable("i", [3], tf.int32).initial_value.op.name == "i/Initializer/zeros"
    assert tf.get_variable("s", [3], tf.string).initial_value.op.name == "s/Initializer/zeros"
    with pytest.raises(ValueError, match="An initializer for variable c of <dtype: 'complex64'> is required"):
        tf.get_variable("c", [2], tf.complex64)


def test_initializer_values():
    assert tf.get_variable("v", initializer=2.0).shape == ()
    with pytest.raises(ValueError, match="do not specify shape"):
        tf.get_variable("w", [1], initializer=tf.constant([1.0]))
    with pytest.raises(ValueError, match="fully defined"):
        tf.get_variable("x", [None, 2])
    with pytest.raises(ValueError, match="don't match"):
        tf.get_variable("y", dtype=tf.float64, initializer=tf.constant([1.0]))


def test_local_variables():
    v = tf.get_local_variable("v", [1])
    assert tf.local_variables() == [v]
    assert not tf.global_variables()
    assert not tf.trainable_variables()


def test_glorot_limits_come_from_the_fans():
    v = tf.get_variable("v", [5, 3, 10, 20])
    bounds = {
        op.name: op.attrs["value"]
        for op in tf.get_default_graph().get_operations()
        if op.name.endswith(("/min", "/max"))
    }
    assert v.shape == (5, 3, 10, 20)
    assert bounds["v/Initializer/random_uniform/max"] == pytest.approx((6 / (15 * 30)) ** 0.5)


def test_a_scope_entered_again_keeps_its_first_name_scope() -> None:
    with tf.Graph().as_default():
        with tf.variable_scope("a") as first:
            pass
        with tf.variable_scope(first) as again:
            assert again.original_name_scope == "a/"
            assert tf.get_default_graph().get_name_scope() == "a_1"


def test_a_variable_of_strings_starts_empty():
    v = tf.get_variable("v", [2], tf.string)
    with tf.Session() as session:
        session.run(v.initializer)
        assert session.run(v).tolist() == [b"", b""]
