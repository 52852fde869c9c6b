"""Examples and other messages in strings."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

FIXED, VARIABLE, SEQUENCE = tf.FixedLenFeature, tf.VarLenFeature, tf.FixedLenSequenceFeature


@pytest.fixture
def session() -> Iterator[tf.Session]:
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def example(**features: Any) -> bytes:
    message = tf.train.Example()
    for key, values in features.items():
        feature = message.features.feature[key]
        if not values:
            continue
        kind = {bytes: "bytes_list", float: "float_list", int: "int64_list"}[type(values[0])]
        getattr(feature, kind).value.extend(values)
    data: bytes = message.SerializeToString()
    return data


TWO = example(a=[1, 2], e=[])


def test_numbers_of_any_size(session: tf.Session) -> None:
    values = [0, 1, -1, 127, 128, 2**40, -(2**63), 2**63 - 1]
    floats = [0.5, float("inf"), -0.0]
    found = session.run(
        tf.parse_single_example(
            example(i=values, f=floats, s=[b"", b"\xff\x00"]),
            {"i": FIXED([8], tf.int64), "f": FIXED([3], tf.float32), "s": FIXED([2], tf.string)},
        )
    )
    assert found["i"].tolist() == values and found["f"].tolist() == floats and found["s"].tolist() == [b"", b"\xff\x00"]


def test_numbers_that_are_not_packed(session: tf.Session) -> None:
    # Fields 1 one by one: as old writers put them.
    ints = b"\x08\x05\x08\x80\x01"
    floats = b"\x0d\x00\x00\x80\x3f\x0d\x00\x00\x00\x40"
    parts = b""
    for name, tag, body in ((b"i", 0x1A, ints), (b"f", 0x12, floats)):
        feature = bytes([tag, len(body)]) + body
        pair = b"\x0a\x01" + name + b"\x12" + bytes([len(feature)]) + feature
        parts += b"\x0a" + bytes([len(pair)]) + pair
    data = b"\x0a" + bytes([len(parts)]) + parts
    found = session.run(tf.parse_single_example(data, {"i": FIXED([2], tf.int64), "f": FIXED([2], tf.float32)}))
    assert found["i"].tolist() == [5, 128] and found["f"].tolist() == [1, 2]


def test_defaults_and_sequences(session: tf.Session) -> None:
    rows = [TWO, example(a=[1, 2, 3, 4], b=[7])]
    found = session.run(
        tf.parse_example(
            rows,
            {
                "a": SEQUENCE([2], tf.int64, allow_missing=True),
                "b": FIXED([], tf.int64, 9),
                "c": SEQUENCE([], tf.string, allow_missing=True, default_value="?"),
                "e": FIXED([2], tf.float32, [1.5, 2.5]),
            },
        )
    )
    assert found["a"].tolist() == [[[1, 2], [0, 0]], [[1, 2], [3, 4]]]
    assert found["b"].tolist() == [9, 7] and found["c"].shape == (2, 0)
    assert found["e"].tolist() == [[1.5, 2.5]] * 2


def test_sparse_features(session: tf.Session) -> None:
    rows = [example(i=[3, 1], v=[1.0, 2.0]), example(i=[0], v=[5.0]), example()]
    found = session.run(
        tf.parse_example(rows, {"x": tf.SparseFeature("i", "v", tf.float32, 5), "v": VARIABLE(tf.float32)})
    )
    assert sorted(found) == ["v", "x"]
    assert found["x"].indices.tolist() == [[0, 1], [0, 3], [1, 0]] and found["x"].values.tolist() == [2, 1, 5]
    assert found["x"].dense_shape.tolist() == [3, 5] and found["v"].dense_shape.tolist() == [3, 2]


def test_single_sparse(session: tf.Session) -> None:
    found = session.run(tf.parse_single_example(TWO, {"a": VARIABLE(tf.int64), "q": VARIABLE(tf.string)}))
    assert found["a"].indices.tolist() == [[0], [1]] and found["a"].dense_shape.tolist() == [2]
    assert found["q"].indices.shape == (0, 1) and found["q"].dense_shape.tolist() == [0]


def test_static_shapes(session: tf.Session) -> None:
    features = {"a": FIXED([2], tf.int64), "v": VARIABLE(tf.string)}
    many = tf.parse_example(tf.placeholder(tf.string, [None]), features)
    assert many["a"].shape.as_list() == [None, 2] and many["v"].indices.shape.as_list() == [None, 2]
    one = tf.parse_single_example(tf.placeholder(tf.string), features)
    assert one["a"].shape.as_list() == [2] and one["v"].indices.shape.as_list() == [None, 1]
    assert many["a"].op.name == "ParseExample/ParseExampleV2"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tf.parse_example([TWO], {"z": FIXED([], tf.int64)}, example_names=["n"]),
         r"Name: n, Feature: z \(data type: int64\) is required but could not be found"),
        (lambda: tf.parse_single_example(TWO, {"e": FIXED([], tf.string)}), r"Feature: e \(data type: string\)"),
        (lambda: tf.parse_example([TWO], {"a": FIXED([3], tf.int64)}), r"Values size: 2 but output shape: \[3\]"),
        (lambda: tf.parse_example([TWO], {"a": VARIABLE(tf.float32)}), "Expected type: float, Actual type: int64"),
        (lambda: tf.parse_single_example(TWO, {"a": FIXED([2], tf.string)}), "Key: a.  Data types don't match"),
        (lambda: tf.parse_example([example(a=[1, 2, 3])], {"a": SEQUENCE([2], tf.int64, allow_missing=True)}),
         "not a multiple of stride length. Saw 3 values"),
        (lambda: tf.parse_example([b"\xff\xff"], {"a": FIXED([], tf.int64)}), "Could not parse example input"),
        (lambda: tf.parse_tensor(b"\xff", tf.float32), "Could not parse `serialized` as TensorProto"),
        (lambda: tf.parse_tensor(tf.make_tensor_proto([1]).SerializeToString(), tf.float32),
         r"parsed tensor \(int32\) and dtype \(float\)"),
        (lambda: tf.decode_json_example(b"{x"), "Error while parsing JSON"),
        (lambda: tf.decode_json_example(b'{"unknown": 1}'), "no such field: 'unknown'"),
    ],
)  # fmt: skip
def test_mistakes_in_steps(session: tf.Session, make: Callable[[], Any], message: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        session.run(make())


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({}, "cannot be None or falsy"),
        ({"a": 3}, "Unsupported int 3 for key 'a'"),
        ({"a": SEQUENCE([2], tf.int64)}, "requires allow_missing to be True"),
        ({"a": FIXED([None], tf.int64)}, "Consider using FixedLenSequenceFeature"),
        ({"a": FIXED(None, tf.int64)}, "Missing shape"),
        ({"a": FIXED([], None)}, "Missing type"),
        ({"a": VARIABLE(tf.int64), "x": tf.SparseFeature("a", "a", tf.float32, 3)}, "Conflicting type"),
    ],
)
def test_mistakes_at_build(session: tf.Session, features: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tf.parse_example([TWO], features)


# --- tensors and JSON ---


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "uint16", "int64", "bool", "complex64"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3)])
def test_tensors_come_back(session: tf.Session, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.random.RandomState(0).randint(0, 2, shape).astype(dtype)
    kind = tf.as_dtype(dtype)
    for data in (tf.serialize_tensor(tf.constant(array)), tf.make_tensor_proto(array).SerializeToString()):
        found = session.run(tf.parse_tensor(data, kind))
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_tensors_of_changing_rank(session: tf.Session) -> None:
    data = tf.placeholder(tf.string, [])
    total = tf.reduce_sum(tf.parse_tensor(data, tf.int32)) + 1
    for values in (3, [1, 2], [[4]], 5):
        assert session.run(total, {data: tf.make_tensor_proto(values).SerializeToString()}) == np.sum(values) + 1


def test_strings_and_repeated_values(session: tf.Session) -> None:
    assert session.run(tf.parse_tensor(tf.serialize_tensor(["a", ""]), tf.string)).tolist() == [b"a", b""]
    proto = tf.make_tensor_proto(2.5, shape=[2, 2])
    assert session.run(tf.parse_tensor(proto.SerializeToString(), tf.float32)).tolist() == [[2.5, 2.5]] * 2
    assert tf.make_ndarray(proto).tolist() == [[2.5, 2.5]] * 2
    with pytest.raises(ValueError, match="can't fill"):
        tf.make_tensor_proto([1, 2], shape=[3])


def test_json(session: tf.Session) -> None:
    text = base64.b64encode(b"\xff\x00").decode()
    feature = {
        "b": {"bytesList": {"value": [text]}},
        "f": {"float_list": {"value": [1.5, "NaN"]}},
        "i": {"int64List": {"value": ["-4", 5]}},
    }
    (data,) = session.run(tf.decode_json_example([json.dumps({"features": {"feature": feature}})]))
    features = tf.train.Example.FromString(data).features.feature
    assert list(features["b"].bytes_list.value) == [b"\xff\x00"] and list(features["i"].int64_list.value) == [-4, 5]
    assert features["f"].float_list.value[0] == 1.5 and np.isnan(features["f"].float_list.value[1])
