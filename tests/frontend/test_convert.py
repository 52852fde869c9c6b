"""Values as tensors, and ops from values: dtypes, shapes, errors."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import stepjit.compat.v1 as tf
from stepjit.framework.apply import apply_op
from stepjit.framework.convert import functions_for


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as g:
        yield g


def value_of(tensor):
    return tensor.op.attrs["value"].tolist()


@pytest.mark.parametrize(("value", "dtype", "expected"), [
    (1, tf.int32, 1), (2**40, tf.int64, 2**40), (2**63, tf.uint64, 2**63), (1.5, tf.float32, 1.5),
    (True, tf.bool, True), ("é", tf.string, "é".encode()), (1j, tf.complex128, 1j), (np.int64(1), tf.int64, 1),
    (np.float64(1), tf.float64, 1.0), ([1, 2.5], tf.float32, [1.0, 2.5]), ([1, True], tf.int32, [1, 1]),
    ([np.float64(1)], tf.float32, [1.0]), ([2**40, 1], tf.int64, [2**40, 1]), ([], tf.float32, []),
    (range(3), tf.int32, [0, 1, 2]), ([b"a\0", "b"], tf.string, [b"a\0", b"b"]), (np.array(["a"]), tf.string, [b"a"]),
    (np.array([1, 2], ">i4"), tf.int32, [1, 2]), (tf.TensorShape([2, 3]), tf.int32, [2, 3]),
    (tf.Dimension(3), tf.int32, 3), ([tf.Dimension(3), 5], tf.int32, [3, 5]), (np.zeros((2, 0), np.int16), tf.int16, [[], []]),
])  # fmt: skip
def test_dtype_of_values(value, dtype, expected):
    t = tf.convert_to_tensor(value)
    assert t.dtype == dtype
    assert value_of(t) == expected


@pytest.mark.parametrize(("value", "dtype", "expected"), [
    (1, tf.float64, 1.0), (True, tf.int32, 1), (2**32 + 5, tf.int32, 5), (-1, tf.uint8, 255),
    (np.array([1.7]), tf.int32, [1]), (1, tf.complex64, 1), (1.5, tf.bfloat16, 1.5), ([1, 2], tf.float16, [1.0, 2.0]),
    ([], tf.string, []),
])  # fmt: skip
def test_dtype_asked_for(value, dtype, expected):
    t = tf.constant(value, dtype)
    assert t.dtype == dtype
    assert value_of(t) == expected


@pytest.mark.parametrize(("value", "dtype"), [
    (1.5, tf.int32), ([1, 2.5], tf.int32), (1, tf.bool), (1, tf.string), ("a", tf.float32), (1j, tf.float32),
    ([True, 1], tf.bool), (np.array([1]), tf.string), (np.array(["1"]), tf.float32),
])  # fmt: skip
def test_values_of_another_kind(value, dtype):
    with pytest.raises(TypeError, match="Expected"):
        tf.constant(value, dtype)


@pytest.mark.parametrize(("value", "error"), [
    (None, ValueError), ([None], TypeError), ({}, TypeError), (object(), TypeError), (["a", 1], TypeError),
    ([1, "a"], TypeError), ([[1], [2, 3]], ValueError), ([["a"], ["b", "c"]], ValueError), (2**70, TypeError),
    (tf.TensorShape([1, None]), ValueError), (tf.float32, TypeError),
])  # fmt: skip
def test_values_that_are_no_tensors(value, error):
    with pytest.raises(error):
        tf.convert_to_tensor(value)


def test_constant_forms(graph):
    assert value_of(tf.constant(7, shape=[2, 2])) == [[7, 7], [7, 7]]
    assert value_of(tf.constant([1, 2], shape=[2, 2])) == [[1, 2], [2, 2]]
    assert value_of(tf.constant([], shape=[2])) == [0.0, 0.0]
    with pytest.raises(ValueError, match="Too many elements"):
        tf.constant([1, 2, 3], shape=[2])
    with pytest.raises(TypeError, match="shape"):
        tf.constant([1], shape=[2], verify_shape=True)
    with pytest.raises(TypeError, match="tensor"):
        tf.constant(tf.constant(1))


def test_a_constant_keeps_its_own_value():
    array = np.array([1, 2])
    t = tf.constant(array)
    array[0] = 9
    assert value_of(t) == [1, 2]
    assert not t.op.attrs["value"].flags.writeable


def test_tensors_convert_to_themselves():
    t = tf.constant(1)
    assert tf.convert_to_tensor(t) is t
    assert tf.convert_to_tensor(t, tf.int32) is t
    with pytest.raises(ValueError, match="Tensor conversion requested dtype float32 for Tensor with dtype int32"):
        tf.convert_to_tensor(t, tf.float32)


def test_preferred_dtype():
    assert tf.convert_to_tensor(1, preferred_dtype=tf.float64).dtype == tf.float64
    assert tf.convert_to_tensor(1.5, preferred_dtype=tf.int32).dtype == tf.float32


def test_lists_that_hold_tensors_are_packed():
    x = tf.placeholder(tf.float32, [2])
    t = tf.convert_to_tensor([[x, [1, 2]], [[3.0, 4], x]], name="p")
    assert t.op.type == "Pack"
    assert t.name == "p:0"
    assert t.shape.as_list() == [2, 2, 2]
    assert t.dtype == tf.float32
    assert t.op.inputs[0].op.inputs[1].name == "p/0/1:0"


def test_registered_conversions():
    class Celsius:
        def __init__(self, value):
            self.value = value

    tf.register_tensor_conversion_function(Celsius, lambda v, dtype, name, as_ref: NotImplemented, priority=1)
    tf.register_tensor_conversion_function(
        Celsius, lambda v, dtype=None, name=None, as_ref=False: tf.constant(v.value, dtype, name=name)
    )
    assert tf.convert_to_tensor(Celsius(1.5)).dtype == tf.float32
    assert tf.convert_to_tensor([Celsius(1.5), 2]).shape.as_list() == [2]
    assert apply_op("Neg", x=Celsius(2.0)).op.inputs[0].op.type == "Const"
    assert len(functions_for(Celsius)) == 2
    with pytest.raises(TypeError):
        tf.register_tensor_conversion_function(3, lambda: None)


# --- apply_op ---


def test_values_take_the_dtype_of_the_tensor_beside_them():
    x = tf.placeholder(tf.float64)
    for t in (apply_op("AddV2", x=x, y=1), apply_op("AddV2", x=[1, 2], y=x)):
        assert t.dtype == tf.float64


def test_dtype_errors_name_both_inputs():
    i, x = tf.placeholder(tf.int32), tf.placeholder(tf.float32)
    for y in (x, 1.5, [1.5]):
        with pytest.raises(TypeError, match="'y' of 'AddV2' Op has type float32 that does not match type int32 of argument 'x'"):
            apply_op("AddV2", x=i, y=y)
    with pytest.raises(TypeError, match="DataType string not in list of allowed values: float32"):
        apply_op("Exp", x="a")
    with pytest.raises(TypeError, match="expected type of bool"):
        apply_op("LogicalNot", x=x)
    with pytest.raises(TypeError, match="does not match type float32"):
        apply_op("Pack", values=[x, i])


def test_attr_errors():
    x = tf.placeholder(tf.float32, [2, 2])
    with pytest.raises(TypeError, match="Expected bool for argument 'transpose_a' not 3"):
        apply_op("MatMul", a=x, b=x, transpose_a=3)
    with pytest.raises(TypeError, match="Expected int for argument 'axis'"):
        apply_op("Pack", values=[x], axis=1.5)
    with pytest.raises(TypeError, match="unexpected argument 'z'"):
        apply_op("Neg", x=x, z=1)
    with pytest.raises(TypeError, match="No argument for input 'x'"):
        apply_op("Neg")
    with pytest.raises(TypeError, match="Expected list"):
        apply_op("IdentityN", input=x)
    with pytest.raises(ValueError, match="not registered"):
        apply_op("NoSuchOp")


def test_shape_errors_come_when_the_op_is_made(graph):
    with pytest.raises(ValueError, match=r"[Dd]imensions must be equal.*input shapes"):
        apply_op("AddV2", x=[1.0, 2.0], y=[1.0, 2.0, 3.0])
    before = graph.version
    with pytest.raises(ValueError):
        apply_op("Reshape", tensor=tf.constant([1, 2, 3]), shape=[2, 2])
    assert [op.type for op in graph.get_operations()[before:]] == ["Const", "Const"]


def test_outputs():
    assert [t.dtype for t in apply_op("IdentityN", input=[1, "a", 2.0])] == [tf.int32, tf.string, tf.float32]
    assert len(apply_op("Unpack", value=[1, 2, 3], num=3)) == 3
    assert isinstance(apply_op("NoOp"), tf.Operation)


def test_create_op(graph):
    x = tf.placeholder(tf.float32, [2])
    op = graph.create_op("AddV2", [x, x], name="sum", attrs={"_note": b"hi"})
    assert op.name == "sum"
    assert op.outputs[0].shape.as_list() == [2]
    assert op.get_attr("_note") == b"hi"
    assert graph.create_op("ConcatV2", [x, x, tf.constant(0)], attrs={"N": 2}).outputs[0].shape.as_list() == [4]
    with pytest.raises(ValueError, match="too many"):
        graph.create_op("Neg", [x, x])


def test_numbers_too_large_for_their_dtype_are_infinite_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value, dtype in ((1e40, tf.float32), ([1e40, 1.0], tf.float32), (-1e6, tf.float16)):
            t = tf.constant(value, dtype)
            assert np.isinf(np.ravel(value_of(t))[0]) and t.dtype == dtype
