"""What may be fed and fetched, and as what it comes out: TF's conversions, structures and refusals."""

from __future__ import annotations

import collections
import dataclasses
import decimal
import enum
import warnings
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf


@pytest.fixture
def session() -> Any:
    with tf.Graph().as_default(), tf.Session() as found:
        yield found


class Three(enum.IntEnum):
    VALUE = 3


class Arrayish:
    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array([9.0, 8.0])


CONVERSIONS: dict[str, tuple[Any, Any, Any]] = {
    "range": (tf.float32, range(2), [0, 1]),
    "memoryview": (tf.float32, memoryview(np.array([1.0, 2.0])), [1, 2]),
    "__array__": (tf.float32, Arrayish(), [9, 8]),
    "Decimal": (tf.float32, [decimal.Decimal("1.5")], [1.5]),
    "number strings": (tf.float32, ["1", b"2.5"], [1, 2.5]),
    "big endian": (tf.float32, np.array([1, 2], ">f8"), [1, 2]),
    "strided": (tf.float32, np.arange(6.0)[::-2], [5, 3, 1]),
    "Fortran": (tf.int32, np.asfortranarray([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    "complex to float": (tf.float32, [1 + 2j], [1]),
    "complex to int": (tf.int32, 1 + 2j, 1),
    "cut toward zero": (tf.int32, [3.7, -3.7], [3, -3]),
    "NaN to int": (tf.int32, float("nan"), -(2**31)),
    "list wraps": (tf.int32, [2**40 + 1], [1]),
    "array wraps": (tf.int32, np.array(2**32 + 5), 5),
    "numpy integer wraps": (tf.uint8, np.int64(257), 1),
    "negative list wraps": (tf.uint8, [-1], [255]),
    "huge list to float": (tf.float64, [2**70], [2.0**70]),
    "IntEnum": (tf.int32, Three.VALUE, 3),
    "bool": (tf.float32, [True, False], [1, 0]),
    "int to bool": (tf.bool, 1, True),
    "float to bool": (tf.bool, [0.5, 0.0], [True, False]),
    "text": (tf.string, "é", "é".encode()),
    "NUL in text": (tf.string, ["a\0"], [b"a\0"]),
    "U array": (tf.string, np.array(["a", "bc"]), [b"a", b"bc"]),
    "empty": (tf.float32, [], []),
}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_conversions(session: tf.Session, name: str) -> None:
    dtype, value, want = CONVERSIONS[name]
    p = tf.placeholder(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, where a conversion loses something
        found = session.run(tf.identity(p), {p: value})
    expected = np.asarray(want, object if dtype == tf.string else dtype.as_numpy_dtype)
    np.testing.assert_array_equal(found, expected)
    assert np.asarray(found, object if dtype == tf.string else None).dtype == expected.dtype


REFUSED: dict[str, tuple[Any, Any, Any, str]] = {
    "int too large": (tf.int32, 2**31, TypeError, "larger type"),
    "negative": (tf.uint8, -1, TypeError, "is not compatible with Tensor type"),
    "two as bool": (tf.bool, 2, TypeError, "is not compatible with Tensor type"),
    "text": (tf.float32, "ab", ValueError, "could not convert string to float"),
    "object": (tf.float32, object(), TypeError, "real number"),
    "ragged": (tf.float32, [[1], [2, 3]], ValueError, "inhomogeneous"),
    "dict": (tf.float32, {}, TypeError, "real number"),
    "int as text": (tf.string, 3, TypeError, "is not compatible with Tensor type"),
    "float as text": (tf.string, 1.5, tf.errors.InternalError, "Unsupported object type float"),
    "None as text": (tf.string, ["a", None], tf.errors.InternalError, "Unsupported object type NoneType"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_values(session: tf.Session, name: str) -> None:
    dtype, value, error, text = REFUSED[name]
    p = tf.placeholder(dtype)
    with pytest.raises(error, match=text):
        session.run(tf.identity(p), {p: value})


def test_keys(session: tf.Session) -> None:
    t, other = tf.constant([1.0, 2.0], name="t"), tf.constant(3.0, name="o")
    double = t * 2
    for key in (t, "t:0", b"t:0", np.str_("t:0"), (t,)):
        np.testing.assert_array_equal(session.run(double, {key: (np.ones(2),) if key == (t,) else [1, 1]}), [2, 2])
    assert session.run(other + 0.0, {(t, (other,)): (np.ones(2), (4.0,))}) == 4
    with pytest.raises(ValueError, match="Key had 2 elements, but value had 3"):
        session.run(t, {(t, other): (1, 2, 3)})
    slices = tf.IndexedSlices(t, tf.constant([0, 1]))
    for value in (([5, 5], [2, 3]), ([5, 5], [2, 3], [9])):
        found = session.run(slices, {slices: value})
        assert found.values.tolist() == [5, 5] and found.indices.tolist() == [2, 3] and found.dense_shape is None


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("t", "refers to an Operation, not a Tensor"),
        ("zz", "looks like an \\(invalid\\) Operation name, not a Tensor"),
        ("zz:0", "does not exist in the graph"),
        ("t:1", "only has 1 outputs"),
        (3, "Can not convert a int into a Tensor"),
        (None, "Can not convert a NoneType into a Tensor"),
    ],
)
def test_refused_keys(session: tf.Session, key: Any, text: str) -> None:
    t = tf.constant([1.0, 2.0], name="t")
    with pytest.raises(TypeError, match=f"Cannot interpret feed_dict key as Tensor.*{text}"):
        session.run(t, {key: 1})


@pytest.mark.parametrize("feeds", [None, {}, [], (), 0])
def test_no_feeds(session: tf.Session, feeds: Any) -> None:
    assert session.run(tf.constant(1), feeds) == 1


def test_structures(session: tf.Session) -> None:
    t = tf.constant(1)

    class Sub(list[Any]):
        pass

    counted = collections.defaultdict(int, {"k": t})
    found = session.run({"l": Sub([t]), "d": counted, "e": [(), {}], (1, None): {"x": "Const:0"}})
    assert found == {"l": [1], "d": {"k": 1}, "e": [(), {}], (1, None): {"x": 1}}
    assert type(found["l"]) is list and found["d"].default_factory is int and list(found) == ["l", "d", "e", (1, None)]


class WithAttrs:
    __attrs_attrs__ = (collections.namedtuple("Field", "name")("a"), collections.namedtuple("Field", "name")("b"))

    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = a, b


def test_attrs_classes(session: tf.Session) -> None:
    found = session.run(WithAttrs(tf.constant(1), [tf.constant(2)]))
    assert type(found) is WithAttrs and found.a == 1 and found.b == [2]


@dataclasses.dataclass(frozen=True)
class Data:
    x: Any


@pytest.mark.parametrize("make", [Data, lambda t: {t}, lambda t: (x for x in [t]), lambda t: np.array([1]), lambda t: 3])
def test_no_structures(session: tf.Session, make: Any) -> None:
    fetch = make(tf.constant(1))
    for structure in (fetch, [fetch], {"k": fetch}):
        with pytest.raises(TypeError, match=r"has invalid type .* must be a string or Tensor"):
            session.run(structure)


def test_a_fed_fetch_is_the_callers_array(session: tf.Session) -> None:
    p, given = tf.placeholder(tf.float32, [None]), np.ones(3, np.float32)
    assert session.run(p, {p: given}) is given
    assert session.run(p, {p: [1, 2]}).tolist() == [1, 2]
    i = tf.placeholder(tf.int32, [])
    found = session.run([i, i + 1, i], {i: 3})
    assert isinstance(found[0], np.ndarray) and found[0] is found[2] and type(found[1]) is np.int32
