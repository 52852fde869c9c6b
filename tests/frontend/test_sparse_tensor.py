"""SparseTensors: made, fed, fetched, and through the functions that take them, with gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

M = np.array([[0, 1, 0], [2, 0, 3]], np.float32)
N = np.array([[4, 0, 0], [5, 0, 6]], np.float32)


@pytest.fixture(autouse=True)
def session() -> Iterator[Any]:
    with tf.Graph().as_default(), tf.Session() as opened:
        yield opened


def sparse(array: Any) -> Any:
    array = np.asarray(array)
    return tf.SparseTensor(np.argwhere(array != 0).reshape(-1, array.ndim), array[array != 0], array.shape)


def value_of(array: Any) -> Any:
    array = np.asarray(array)
    return tf.SparseTensorValue(np.argwhere(array != 0), array[array != 0], np.array(array.shape))


def dense(t: Any) -> Any:
    return tf.sparse_tensor_to_dense(t)


# --- the class ---


def test_parts_and_static_shape() -> None:
    t = tf.SparseTensor([[0, 1]], [5.0], [2, 3])
    assert (t.dtype, t.indices.dtype, t.dense_shape.dtype) == (tf.float32, tf.int64, tf.int64)
    assert t.shape.as_list() == t.get_shape().as_list() == [2, 3]
    assert t.op is t.values.op
    assert t.graph is tf.get_default_graph()
    assert str(t).startswith("SparseTensor(indices=Tensor(")
    t.set_shape([2, None])
    with pytest.raises(ValueError, match="not compatible"):
        t.set_shape([2, 4])
    other = t.with_values([7])
    assert (other.dtype, other.indices) == (tf.int32, t.indices)
    doubled = t.values * 2.0
    assert t.consumers() == [doubled.op]


@pytest.mark.parametrize(
    "parts", [([[0, 1]], [5.0, 6.0], [2, 3]), ([[0, 1, 2]], [5.0], [2, 3]), ([0], [5.0], [2]), ([[0]], 5.0, [2])]
)
def test_parts_must_fit(parts: Any) -> None:
    with pytest.raises(ValueError, match=r"compatible|rank"):
        tf.SparseTensor(*parts)


def test_conversions(session: Any) -> None:
    value = tf.SparseTensorValue([[0]], [1], [2])
    t = tf.convert_to_tensor_or_sparse_tensor(value)
    assert isinstance(t, tf.SparseTensor)
    assert isinstance(tf.convert_to_tensor_or_sparse_tensor([1, 2]), tf.Tensor)
    assert isinstance(tf.SparseTensor.from_value(t), tf.SparseTensor)
    with pytest.raises(TypeError, match="neither a SparseTensor nor SparseTensorValue"):
        tf.SparseTensor.from_value(5)
    with pytest.raises(RuntimeError, match="dtype mismatch"):
        tf.convert_to_tensor_or_sparse_tensor(t, dtype=tf.float32)
    with pytest.raises(TypeError):
        tf.convert_to_tensor(t)
    with pytest.raises(TypeError, match="must be a SparseTensor"):
        tf.sparse_reorder(tf.constant([1.0]))
    assert t.eval(session=session).values.tolist() == [1]


def test_placeholders(session: Any) -> None:
    named = tf.sparse_placeholder(tf.float32, [2, None, -1], name="p")
    assert named.shape.as_list() == [2, None, None]
    assert (named.indices.name, named.values.name, named.dense_shape.name) == ("p/indices:0", "p/values:0", "p/shape:0")
    free = tf.sparse_placeholder(tf.float32)
    assert free.shape.ndims is None
    assert tf.sparse_placeholder(tf.float32, tf.constant([2, 3], tf.int64)).shape.as_list() == [2, 3]
    for array in (M, np.array([0.0, 2.0], np.float32)):
        np.testing.assert_array_equal(session.run(dense(free), {free: value_of(array)}), array)
    fixed = tf.sparse_placeholder(tf.float32, [2, 3])
    fed = {fixed.indices: [[1, 1]], fixed.values: [4.0]}
    assert session.run(dense(fixed), fed).tolist() == [[0, 0, 0], [0, 4, 0]]


# --- fed and fetched ---


def test_fetched_in_structures(session: Any) -> None:
    t = sparse(M)
    out = session.run({"a": t, "b": [t, t.values]})
    assert isinstance(out["a"], tf.SparseTensorValue)
    assert out["b"][0].indices.tolist() == [[0, 1], [1, 0], [1, 2]]
    indices, values, shape = out["a"]
    assert (indices.dtype, shape.dtype) == (np.int64, np.int64)
    assert values.tolist() == [1, 2, 3]


def test_fed_values_may_be_any_three(session: Any) -> None:
    p = tf.sparse_placeholder(tf.int32)
    for value in (([[1]], [7], [3]), [np.array([[1]]), np.array([7]), np.array([3])], tf.SparseTensorValue([[1]], [7], [3])):
        assert session.run(dense(p), {p: value}).tolist() == [0, 7, 0]
    back = session.run(p, {p: ([[1]], [7], [3])})
    assert isinstance(back, tf.SparseTensorValue)
    assert back.dense_shape.tolist() == [3]
    with pytest.raises(ValueError, match="had 3 elements, but value had 2"):
        session.run(dense(p), {p: ([[1]], [7])})
    with pytest.raises(TypeError):
        session.run(dense(p), {p: 5})


def test_callables_take_sparse_values(session: Any) -> None:
    p, q = tf.sparse_placeholder(tf.float32), tf.placeholder(tf.float32)
    scaled = tf.SparseTensor(p.indices, p.values * q, p.dense_shape)
    f = session.make_callable([dense(scaled), p.values + 1.0], [p, q])
    for factor in (1.0, 2.0, 3.0):
        both = f(value_of(M), factor)
        np.testing.assert_array_equal(both[0], M * factor)
        assert both[1].tolist() == [2, 3, 4]
    g = session.make_callable(tf.sparse_transpose(p), [p])
    out = g(value_of(M))
    assert isinstance(out, tf.SparseTensorValue)
    assert out.dense_shape.tolist() == [3, 2]
    with pytest.raises(ValueError, match="had 3 elements"):
        g(([[0]], [1.0]))


def test_other_functions_take_sparse_tensors(session: Any) -> None:
    t = sparse(-M)
    assert session.run(tf.abs(t)).values.tolist() == [1, 2, 3]
    assert session.run(tf.square(t)).values.tolist() == [1, 4, 9]
    assert session.run(tf.cast(t, tf.int32)).values.dtype == np.int32
    assert session.run(tf.identity(t)).dense_shape.tolist() == [2, 3]
    assert session.run(tf.zeros_like(t)).shape == (2, 3)
    assert session.run([tf.shape(t), tf.size(t), tf.rank(t)])[1:] == [6, 2]
    assert {op.name for op in tf.group(t).control_inputs} == {t.indices.op.name, t.values.op.name, t.dense_shape.op.name}
    with pytest.raises(ValueError, match="not supported as a gradient source"):
        tf.gradients(t.values, t)


# --- functions ---

SP = sparse
FUNCTIONS: dict[str, tuple[Callable[[], Any], Any]] = {
    "operators": (lambda: dense(SP(M) * (N + 1) / 2.0), M * (N + 1) / 2),
    "integer division": (lambda: dense(SP(M.astype(np.int32)) / 2), (M / 2).astype(np.float64)),
    "tensor times sparse": (lambda: dense(tf.constant(N) * SP(M)), M * N),
    "dense times sparse": (lambda: tf.sparse_tensor_dense_matmul(M, SP(N.T)), M @ N.T),
    "expanded concat": (
        lambda: dense(tf.sparse_concat(0, [SP(M), SP(N[:, :2])], expand_nonconcat_dim=True)),
        np.concatenate([M, np.pad(N[:, :2], ((0, 0), (0, 1)))]),
    ),
    "transpose": (lambda: dense(tf.sparse_transpose(SP(M[None]), [2, 0, 1])), M[None].transpose(2, 0, 1)),
    "expand dims": (lambda: dense(tf.sparse.expand_dims(SP(M), -2)), M[:, None]),
    "from dense": (lambda: dense(tf.sparse.from_dense(M)), M),
    "from texts": (lambda: tf.sparse.from_dense([["", "a"]]).indices, np.array([[0, 1]])),
    "eye": (lambda: dense(tf.sparse.eye(2, 3)), np.eye(2, 3, dtype=np.float32)),
    "indicator": (
        lambda: tf.sparse_to_indicator(tf.SparseTensor([[0, 0], [1, 0]], np.array([2, 0]), [2, 1]), 3),
        np.array([[False, False, True], [True, False, False]]),
    ),
    "reset": (lambda: tf.sparse_reset_shape(SP(M[:, :2])).dense_shape, np.array([2, 2])),
    "reset to": (lambda: dense(tf.sparse_reset_shape(SP(M), [3, 4])), np.pad(M, ((0, 1), (0, 1)))),
    "retain": (lambda: tf.sparse_retain(SP(M), [True, False, True]).values, np.array([1, 3], np.float32)),
    "sum of all": (lambda: tf.sparse_reduce_sum(SP(M)), np.float32(6)),
    "largest by row": (lambda: tf.sparse_reduce_max(SP(M), 1, keepdims=True), np.array([[1], [3]], np.float32)),
    "with dense": (lambda: tf.sparse_add(N, SP(M)), M + N),
    "minimum": (lambda: dense(tf.sparse_minimum(SP(M), SP(-N))), np.minimum(M, -N)),
    "lookup": (
        lambda: tf.nn.safe_embedding_lookup_sparse(
            tf.constant(N), tf.SparseTensor([[0, 0], [2, 0], [2, 1]], np.array([1, 0, -1]), [3, 2]), combiner="sum"
        ),
        np.array([[5, 0, 6], [0, 0, 0], [4, 0, 0]], np.float32),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(session: Any, name: str) -> None:
    build, want = FUNCTIONS[name]
    got = session.run(build())
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert got.dtype == np.asarray(want).dtype


def test_split_masks_and_errors(session: Any) -> None:
    parts = tf.sparse_split(sp_input=sparse(np.hstack([M, N])), num_split=4, axis=1)
    widths = [part.shape[1] for part in session.run([dense(part) for part in parts])]
    assert widths == [2, 2, 1, 1]
    rows = tf.sparse_mask(tf.IndexedSlices(tf.constant([[1.0], [2.0]]), tf.constant([5, 7])), [7])
    assert session.run(rows).indices.tolist() == [5]
    with pytest.raises(ValueError, match="Keyword arguments"):
        tf.sparse_split(sparse(M), 2, 1)
    with pytest.raises(ValueError, match="Cannot specify both"):
        tf.sparse_reduce_sum(sparse(M), 1, reduction_axes=1)
    with pytest.raises(TypeError, match="At least one input"):
        tf.sparse_add(M, N)
    with pytest.raises(ValueError, match="Cannot reshape"):
        tf.sparse_reshape(sparse(M), [4, 4])
    with pytest.raises(ValueError, match="dimension sizes >="):
        tf.sparse_reset_shape(sparse(M), [1, 1])
    fed = tf.placeholder(tf.int64, [2])
    reset = tf.sparse_reset_shape(sparse(M), fed)
    with pytest.raises(tf.errors.InvalidArgumentError, match="dimension sizes >="):
        session.run(reset, {fed: [1, 1]})


# --- gradients ---

X = np.array([0.5, -1.5, 2.0])
WHERE = np.array([[0, 1], [1, 0], [1, 2]])
WEIGHTS = np.arange(1.0, 7.0).reshape(2, 3)


def _of(values: Any) -> Any:
    return tf.SparseTensor(WHERE, values, [2, 3])


def _weighed(t: Any) -> Any:
    return tf.reduce_sum(tf.sparse_tensor_to_dense(t) * WEIGHTS)


GRADIENTS: dict[str, Callable[[Any], Any]] = {
    "to dense": lambda x: _weighed(_of(x * x)),
    "to dense default": lambda x: tf.sparse_to_dense(WHERE, [2, 3], x, x[0]) * WEIGHTS,
    "to dense vector": lambda x: tf.sparse_to_dense([0, 2, 3], [4], x) ** 2.0,
    "to dense scalar": lambda x: tf.sparse_to_dense([0, 2, 3], [4], x[1]) ** 2.0,
    "matmul values": lambda x: tf.sparse_tensor_dense_matmul(_of(x), tf.constant(WEIGHTS.T)) ** 2.0,
    "matmul adjoint": lambda x: tf.sparse_tensor_dense_matmul(_of(x), tf.constant(WEIGHTS), adjoint_a=True) ** 2.0,
    "matmul adjoint b": lambda x: tf.sparse_tensor_dense_matmul(_of(x), tf.constant(WEIGHTS), adjoint_b=True) ** 2.0,
    "matmul dense": lambda x: tf.sparse_tensor_dense_matmul(_of(WEIGHTS[0]), tf.reshape(x, [3, 1])) ** 2.0,
    "matmul dense adjoint": lambda x: tf.sparse_tensor_dense_matmul(_of(X), tf.reshape(x, [1, 3]), adjoint_b=True) ** 2.0,
    "reorder": lambda x: _weighed(tf.sparse_reorder(tf.SparseTensor(WHERE[[2, 0, 1]], x, [2, 3]))),
    "add": lambda x: _weighed(tf.sparse_add(_of(x), tf.SparseTensor([[0, 0], [1, 0]], x[:2] * x[1:], [2, 3]))),
    "add dense": lambda x: tf.sparse_add(_of(x), x * tf.constant(WEIGHTS)) ** 2.0,
    "sum": lambda x: tf.sparse_reduce_sum(_of(x), 1) ** 2.0,
    "sum keep": lambda x: tf.sparse_reduce_sum(_of(x), [-2], keep_dims=True) ** 2.0,
    "sum all": lambda x: tf.sparse_reduce_sum(_of(x)) ** 2.0,
    "softmax": lambda x: tf.sparse_softmax(_of(x)).values * X,
    "slice": lambda x: tf.sparse_slice(_of(x), [1, 0], [1, 2]).values ** 2.0,
    "fill": lambda x: tf.sparse_fill_empty_rows(tf.SparseTensor([[0, 0], [2, 0], [2, 1]], x, [4, 2]), x[0])[0].values ** 2.0,
    "mul": lambda x: (_of(x) * tf.reshape(x, [1, 3])).values,
    "mul column": lambda x: (_of(x) * tf.reshape(x[:2], [2, 1])).values,
    "div": lambda x: (_of(x) / x).values,
    "mul scalar": lambda x: (_of(x) * x[1]).values,
    "dense matmul": lambda x: tf.cast(
        tf.sparse_matmul(tf.cast(tf.reshape(x, [3, 1]), tf.float32), tf.cast(tf.reshape(x, [1, 3]), tf.float32)),
        tf.float64,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(session: Any, name: str) -> None:
    x = tf.placeholder(tf.float64, [3])
    y = tf.reduce_sum(GRADIENTS[name](x))
    (grad,) = tf.gradients(y, x)
    step = 1e-2 if name == "dense matmul" else 1e-6
    f = session.make_callable(y, [x])
    want = [(f(X + step * e) - f(X - step * e)) / (2 * step) for e in np.eye(3)]
    np.testing.assert_allclose(session.run(grad, {x: X}), want, rtol=1e-4, atol=1e-6)


# --- products as they are compiled ---


def _product(rows: Any, columns: Any, **flags: bool) -> Callable[[Any, Any], Any]:
    p, b = tf.sparse_placeholder(tf.float32), tf.placeholder(tf.float32, [rows, columns])
    step = tf.get_default_session().make_callable(tf.sparse_tensor_dense_matmul(p, b, **flags), [p, b])
    return lambda sparse_value, array: step(sparse_value, array)


@pytest.mark.parametrize("adjoint_a", [False, True])
@pytest.mark.parametrize("adjoint_b", [False, True])
@pytest.mark.parametrize("static", [False, True])
def test_products_of_fed_matrices(adjoint_a: bool, adjoint_b: bool, static: bool) -> None:
    rng = np.random.default_rng(5)
    shapes = [(7, 5, 3), (2, 9, 1)] if not static else [(7, 5, 3)]
    step = None
    for m, k, n in shapes:
        a = rng.integers(-3, 4, (m, k)).astype(np.float32)
        right = rng.integers(-3, 4, (m if adjoint_a else k, n)).astype(np.float32)
        b = right.T.copy() if adjoint_b else right
        if step is None:
            extents = b.shape if static else (None, None)
            step = _product(*extents, adjoint_a=adjoint_a, adjoint_b=adjoint_b)
        np.testing.assert_allclose(step(value_of(a), b), (a.T if adjoint_a else a) @ right)
        empty = tf.SparseTensorValue(np.zeros((0, 2), np.int64), np.zeros(0, np.float32), [m, k])
        assert not step(empty, b).any()


@pytest.mark.parametrize(
    ("indices", "shape", "text"),
    [
        ([[0, 0], [5, 0]], [2, 3], r"m \(5\) from index\[1,0\] out of bounds \(>=2\)"),
        ([[0, 3]], [2, 3], r"k \(3\) from index\[0,1\] out of bounds \(>=3\)"),
        ([[-1, 0]], [2, 3], r"m \(-1\) from index\[0,0\]"),
        ([[0, 0]], [2, 4], "inner dimension does not match: 4 vs. 3"),
        ([[0, 0]], [-2, 3], "Expected shape dimensions to be non-negative"),
    ],
)
def test_products_refuse_what_is_fed(indices: Any, shape: Any, text: str) -> None:
    values = np.ones(len(indices), np.float32)
    step = _product(3, 2)
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        step(tf.SparseTensorValue(indices, values, shape), np.ones((3, 2)))
    assert step(tf.SparseTensorValue([[1, 2]], [2.0], [2, 3]), np.ones((3, 2))).tolist() == [[0, 0], [2, 2]]


def test_products_of_constant_matrices(session: Any) -> None:
    b = tf.placeholder(tf.float32, [3, None])
    found = tf.sparse_tensor_dense_matmul(sparse(M), b)
    np.testing.assert_array_equal(session.run(found, {b: N.T}), M @ N.T)
    with pytest.raises(ValueError, match="inner dimension does not match"):
        tf.sparse_tensor_dense_matmul(sparse(M), tf.ones([2, 2]))


# --- as texts ---


@pytest.mark.parametrize("array", [M, np.array([[0, 2], [0, 0], [1, 0]], np.int64), np.array([[b"", b"x"]], object)])
def test_serialized_by_row(session: Any, array: np.ndarray) -> None:
    empty = b"" if array.dtype == object else 0
    t = tf.SparseTensor(np.argwhere(array != empty), array[array != empty], array.shape)
    rows = tf.serialize_many_sparse(t)
    assert rows.shape.as_list() == [len(array), 3]
    back = tf.deserialize_many_sparse(rows, t.dtype, rank=2)
    np.testing.assert_array_equal(session.run(dense(back)), array)


def test_serialized_one_by_one(session: Any) -> None:
    both = tf.stack([tf.serialize_sparse(sparse(M)), tf.serialize_sparse(sparse(M[:1, :2]))])
    out = session.run(tf.deserialize_many_sparse(both, tf.float32))
    assert out.dense_shape.tolist() == [2, 2, 3]
    assert out.indices.tolist() == [[0, 0, 1], [0, 1, 0], [0, 1, 2], [1, 0, 1]]
    assert out.values.tolist() == [1, 2, 3, 1]
    for wrong, text in ((tf.int32, "of type int32"), (tf.float32, "Could not parse")):
        texts = both if wrong is tf.int32 else tf.constant([["a", "b", "c"]])
        with pytest.raises(tf.errors.InvalidArgumentError, match=text):
            session.run(tf.deserialize_many_sparse(texts, wrong))
    with pytest.raises(tf.errors.InvalidArgumentError, match="should be > 1, but saw rank: 1"):
        session.run(tf.serialize_many_sparse(sparse([0.0, 1.0])))
