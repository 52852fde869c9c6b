"""Sessions from feeds to results: dtypes, memory layouts, special values, compile counts, threads, memory."""

from __future__ import annotations

import gc
import resource
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

FLOATS = (np.float32, np.float64)
INTS = (np.int32, np.int64)
NUMBERS = (*FLOATS, *INTS)
ANY = (*NUMBERS, np.bool_, np.uint8, np.int8, np.int16)

Op = tuple[tuple[Any, ...], Callable[..., Any], Callable[..., Any]]
"""dtypes, what builds the tensor, what numpy makes of the same arrays."""

OPS: dict[str, Op] = {
    "add": (NUMBERS, lambda x, y: x + y, np.add),
    "subtract": (NUMBERS, lambda x, y: x - y, np.subtract),
    "multiply": (NUMBERS, lambda x, y: x * y, np.multiply),
    "maximum": (NUMBERS, tf.maximum, np.maximum),
    "less": (NUMBERS, tf.less, np.less),
    "not_equal": (NUMBERS, tf.not_equal, np.not_equal),
    "broadcast": (NUMBERS, lambda x, y: x[:, :1] * y, lambda x, y: x[:, :1] * y),
    "negate": ((*NUMBERS, np.int8, np.int16), lambda x, y: -x, lambda x, y: -x),
    "exp": (FLOATS, lambda x, y: tf.exp(x), lambda x, y: np.exp(x)),
    "sum": (NUMBERS, lambda x, y: tf.reduce_sum(x), lambda x, y: x.sum(dtype=x.dtype)),
    "sum_rows": (NUMBERS, lambda x, y: tf.reduce_sum(x, 1), lambda x, y: x.sum(1, dtype=x.dtype)),
    "sum_columns": (NUMBERS, lambda x, y: tf.reduce_sum(x, 0), lambda x, y: x.sum(0, dtype=x.dtype)),
    "matmul": (FLOATS, lambda x, y: tf.matmul(x, y, transpose_b=True), lambda x, y: x @ y.T),
    "transpose": (ANY, lambda x, y: tf.transpose(x), lambda x, y: x.T),
    "slice": (ANY, lambda x, y: x[::2, 1:], lambda x, y: x[::2, 1:]),
    "concat": (ANY, lambda x, y: tf.concat([x, y], 0), lambda x, y: np.concatenate([x, y])),
    "stack": (ANY, lambda x, y: tf.stack([x, y], 1), lambda x, y: np.stack([x, y], 1)),
    "gather": (ANY, lambda x, y: tf.gather(x, [1, 0], axis=1), lambda x, y: x[:, [1, 0]]),
    "reshape": (ANY, lambda x, y: tf.reshape(x, [-1]), lambda x, y: x.reshape(-1)),
    "identity": (ANY, lambda x, y: tf.identity(x), lambda x, y: x),
    "where": (ANY, lambda x, y: tf.where(tf.equal(x, y), x, y), lambda x, y: np.where(x == y, x, y)),
    "cast": (ANY, lambda x, y: tf.cast(x, tf.float64), lambda x, y: x.astype(np.float64)),
    "tile": (ANY, lambda x, y: tf.tile(x, [1, 2]), lambda x, y: np.tile(x, [1, 2])),
    "pad": (NUMBERS, lambda x, y: tf.pad(x, [[0, 1], [1, 0]]), lambda x, y: np.pad(x, [[0, 1], [1, 0]])),
}

SHAPE = (4, 6)


def _plain(x: np.ndarray) -> np.ndarray:
    return x.copy()


def _unaligned(x: np.ndarray) -> np.ndarray:
    raw = np.zeros(x.nbytes + 1, np.uint8)
    found = raw[1:].view(x.dtype).reshape(x.shape)
    found[...] = x
    return found


def _read_only(x: np.ndarray) -> np.ndarray:
    found = x.copy()
    found.flags.writeable = False
    return found


def _strided(x: np.ndarray) -> np.ndarray:
    wide = np.zeros((x.shape[0] * 2, x.shape[1] * 3), x.dtype)
    wide[::2, ::3] = x
    return wide[::2, ::3]


LAYOUTS: dict[str, Callable[[np.ndarray], Any]] = {
    "plain": _plain,
    "fortran": np.asfortranarray,
    "strided": _strided,
    "reversed": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "byte_swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "read_only": _read_only,
    "unaligned": _unaligned,
    "stretched": lambda x: np.broadcast_to(x[:1], x.shape),
    "subclass": lambda x: x.view(np.ma.MaskedArray),
    "list": lambda x: x.tolist(),
}


def values(dtype: Any, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, 2 if dtype is np.bool_ else 5, shape).astype(dtype)


def assert_same(got: Any, want: Any) -> None:
    want = np.asarray(want)
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    if want.dtype.kind == "f":
        np.testing.assert_allclose(got, want, rtol=1e-5 if want.dtype == np.float32 else 1e-12, atol=1e-6)
    else:
        np.testing.assert_array_equal(got, want)


@pytest.fixture
def graph() -> Any:
    with tf.Graph().as_default() as g:
        yield g


# --- dtypes and layouts ---


@pytest.mark.parametrize("name", OPS)
def test_dtypes_and_extents(name: str, graph: tf.Graph) -> None:
    dtypes, build, want = OPS[name]
    for dtype in dtypes:
        x, y = (tf.placeholder(dtype, [None, 6]) for _ in range(2))
        out = build(x, y)
        with tf.Session() as session:
            run = session.make_callable(out, [x, y])
            for rows in (4, 0, 1, 9):
                a, b = values(dtype, (rows, 6), 1), values(dtype, (rows, 6), 2)
                before = a.copy(), b.copy()
                result = run(a, b)
                assert_same(result, want(*before))
                assert isinstance(result, np.generic) or (result.flags.owndata and result.flags.writeable)
                np.testing.assert_array_equal(a, before[0])
                np.testing.assert_array_equal(b, before[1])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("through", ["run", "callable"])
def test_layouts(layout: str, through: str, graph: tf.Graph) -> None:
    for dtype in (np.float32, np.float64, np.int32, np.int64, np.bool_):
        x, y = tf.placeholder(dtype, SHAPE), tf.placeholder(dtype, [None, None])
        fetches = [tf.transpose(x), tf.concat([x, y], 0), tf.identity(y), x[1:]]
        a, b = (LAYOUTS[layout](values(dtype, SHAPE, seed)) for seed in (1, 2))
        kept = [np.array(a), np.array(b)]
        wide = [array.astype(dtype) for array in kept]
        want = [wide[0].T, np.concatenate(wide), wide[1], wide[0][1:]]
        with tf.Session() as session:
            run = session.make_callable(fetches, [x, y])
            for _ in range(2):
                got = run(a, b) if through == "callable" else session.run(fetches, {x: a, y: b})
                for g, w in zip(got, want, strict=True):
                    assert_same(g, w)
        np.testing.assert_array_equal(np.array(a), kept[0])
        np.testing.assert_array_equal(np.array(b), kept[1])


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3)])
def test_empty_feeds(shape: tuple[int, ...], graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [None] * len(shape))
    y = tf.placeholder(tf.float32, shape)
    with tf.Session() as session:
        feed = {x: np.zeros(shape, np.float32), y: np.zeros(shape, np.float32)}
        total, flat, largest, twice = session.run(
            [tf.reduce_sum(x + y), tf.reshape(x, [-1]), tf.reduce_max(y), tf.concat([x, y], 0)], feed
        )
    assert total == 0
    assert flat.shape == (0,)
    assert largest == -np.inf
    assert twice.shape == (2 * shape[0], *shape[1:])


# --- special values ---

SPECIAL = [np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-42, -1e-42, 1.0, -2.5, 3e38]
KEEPING = {
    "abs": np.abs, "negative": np.negative, "sqrt": np.sqrt, "exp": np.exp, "log": np.log, "tanh": np.tanh,
    "floor": np.floor, "square": np.square, "sign": np.sign, "atan": np.arctan, "is_nan": np.isnan, "is_inf": np.isinf,
    "identity": lambda x: x, "log1p": np.log1p, "expm1": np.expm1, "rint": np.rint,
}  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", KEEPING)
def test_special_values(name: str, dtype: Any, graph: tf.Graph) -> None:
    x = tf.placeholder(dtype, [None])
    array = np.array(SPECIAL, dtype)
    with tf.Session() as session, np.errstate(all="ignore"):
        got, want = session.run(getattr(tf, name)(x), {x: array}), KEEPING[name](array)
    if want.dtype.kind == "f":
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=0)
        number = ~np.isnan(want)
        np.testing.assert_array_equal(np.signbit(got[number]), np.signbit(want[number]))
    else:
        np.testing.assert_array_equal(got, want)


def test_special_values_meet(graph: tf.Graph) -> None:
    x, y = tf.placeholder(tf.float32, [None, 1]), tf.placeholder(tf.float32, [None])
    array = np.array(SPECIAL, np.float32)
    pairs = [
        (x + y, np.add), (x - y, np.subtract), (x * y, np.multiply), (x / y, np.divide), (tf.maximum(x, y), np.maximum),
        (tf.minimum(x, y), np.minimum), (x < y, np.less), (tf.equal(x, y), np.equal), (x >= y, np.greater_equal),
    ]  # fmt: skip
    with tf.Session() as session, np.errstate(all="ignore"):
        got = session.run([pair[0] for pair in pairs], {x: array[:, None], y: array})
        for result, (_, function) in zip(got, pairs, strict=True):
            want = function(array[:, None], array)
            np.testing.assert_array_equal(result, want, err_msg=function.__name__)


def test_nan_reaches_the_reductions(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [None, 33])
    array = np.ones((5, 33), np.float32)
    array[1, 20], array[2, 0], array[3, 32] = np.nan, np.inf, -np.inf
    fetches = [tf.reduce_sum(x, 1), tf.reduce_mean(x, 1), tf.reduce_max(x, 1), tf.reduce_min(x, 1), tf.nn.softmax(x)]
    with tf.Session() as session:
        total, mean, largest, least, softmax = session.run(fetches, {x: array})
    np.testing.assert_array_equal(total, array.sum(1))
    np.testing.assert_array_equal(mean, array.mean(1))
    np.testing.assert_array_equal(largest, array.max(1))
    np.testing.assert_array_equal(least, array.min(1))
    assert [bool(np.isnan(row).any()) for row in softmax] == [False, True, True, False, False]


def test_integers_wrap(graph: tf.Graph) -> None:
    for dtype in (np.int8, np.int32, np.int64, np.uint8):
        limits = np.iinfo(dtype)
        x = tf.placeholder(dtype, [None])
        array = np.array([limits.max, limits.min, 1], dtype)
        with tf.Session() as session, np.errstate(all="ignore"):
            assert_same(session.run(x + x, {x: array}), array + array)
            assert_same(session.run(x * x, {x: array}), array * array)


# --- results are the caller's own ---


def test_results_never_change_afterwards(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    v = tf.Variable(np.ones(3, np.float32))
    constant = tf.constant(np.arange(600, dtype=np.float32))
    step = [x, tf.identity(x), x * 2.0, v, v.value(), v.assign_add([1.0, 1.0, 1.0]), constant, tf.reshape(x, [-1])]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        run = session.make_callable(step[1:], [x])
        feed = np.ones((2, 3), np.float32)
        results, kept = [], []
        for k in range(5):
            feed[...] = k
            results.append(run(feed))
            kept.append([np.array(each) for each in results[-1]])
            results.append(session.run(step, {x: feed}))
            kept.append([np.array(each) for each in results[-1]])
        feed[...] = 99
        for group in results[-2:]:
            for array in group[1:]:
                array[...] = -1  # nobody but the caller sees it
        again = session.run([constant, v])
    for group, wanted in zip(results[:-2], kept[:-2], strict=True):
        for array, want in zip(group, wanted, strict=True):
            if array is not feed:
                np.testing.assert_array_equal(array, want)
    np.testing.assert_array_equal(again[0], np.arange(600))
    np.testing.assert_array_equal(again[1], [11, 11, 11])


def test_no_two_results_share_memory(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [4])
    fetches = [tf.identity(x), tf.identity(x), tf.reshape(x, [2, 2]), tf.expand_dims(x, 0), tf.stop_gradient(x)]
    with tf.Session() as session:
        feed = np.ones(4, np.float32)
        got = session.make_callable(fetches, [x])(feed)
    for k, a in enumerate(got):
        assert not np.shares_memory(a, feed)
        assert not any(np.shares_memory(a, b) for b in got[:k])


# --- state ---


def test_values_of_variables_within_a_step(graph: tf.Graph) -> None:
    a, b = tf.Variable([1.0, 2.0], use_resource=True), tf.Variable([3.0, 4.0], use_resource=True)
    old_a, old_b = a.read_value(), b.read_value()
    with tf.control_dependencies([old_a, old_b]):
        swap = tf.group(a.assign(old_b), b.assign(old_a))
    with tf.control_dependencies([swap]):
        after = [a.read_value(), b.read_value()]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for turn in range(3):
            got = session.run([old_a, old_b, *after])
            want = ([1, 2], [3, 4])[:: -1 if turn % 2 else 1]
            np.testing.assert_array_equal(got, [*want, *want[::-1]])


def test_old_value_beside_what_replaces_it(graph: tf.Graph) -> None:
    v = tf.Variable(np.arange(5.0), use_resource=True)
    old = v.read_value()
    doubled = old * 2.0
    with tf.control_dependencies([old]):
        update = v.assign(doubled + 1.0)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        want = np.arange(5.0)
        for _ in range(3):
            got = session.run([old, doubled, old - 1.0, update])
            for result, wanted in zip(got, [want, 2 * want, want - 1, 2 * want + 1], strict=True):
                np.testing.assert_array_equal(result, wanted)
            want = 2 * want + 1


# --- gradients through unknown extents ---


def _central(run: Callable[[np.ndarray], Any], x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    found = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        high, low = x.copy(), x.copy()
        high[at] += step
        low[at] -= step
        found[at] = (run(high) - run(low)) / (2 * step)
    return found


MODELS: dict[str, Callable[[Any], Any]] = {
    "dense": lambda x: tf.nn.relu(tf.matmul(x, tf.constant(values(np.float64, (5, 7)))) + 0.1),
    "norm": lambda x: (x - tf.reduce_mean(x, 1, keepdims=True)) / tf.sqrt(tf.reduce_mean(x * x, 1, keepdims=True) + 1),
    "attention": lambda x: tf.matmul(tf.nn.softmax(tf.matmul(x, x, transpose_b=True)), x),
    "batch_norm": lambda x: (x - tf.reduce_mean(x, 0)) * tf.rsqrt(tf.nn.moments(x, [0])[1] + 0.5),
    "logits": lambda x: tf.nn.softmax_cross_entropy_with_logits_v2(labels=tf.nn.softmax(x[:, ::-1]), logits=x),
    "flat": lambda x: tf.reshape(tf.transpose(x), [-1]) ** 3.0,
    "sized": lambda x: x * tf.cast(tf.shape(x)[0], tf.float64),
    "broadcast": lambda x: x[:1] * x[:, :1] * x,
    "joined": lambda x: tf.concat([x, tf.reverse(x, [0]) * 2.0], 0) ** 2.0,
    "masked": lambda x: tf.boolean_mask(x, tf.reduce_sum(x, 1) > 0) ** 2.0,
}


@pytest.mark.parametrize("name", MODELS)
def test_gradients_with_unknown_extents(name: str, graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float64, [None, 5])
    out = MODELS[name](x)
    loss = tf.reduce_sum(out * tf.cos(tf.cast(tf.reshape(tf.range(tf.size(out)), tf.shape(out)), tf.float64)))
    gradient = tf.convert_to_tensor(tf.gradients(loss, x)[0])
    with tf.Session() as session:
        run = session.make_callable([loss, gradient], [x])
        for rows in (3, 1, 4):
            array = values(np.float64, (rows, 5), rows)
            want = _central(lambda each: run(each)[0], array)
            np.testing.assert_allclose(run(array)[1], want, rtol=1e-5, atol=1e-6)


# --- what is compiled ---


def _model(extra: int = 0) -> tuple[Any, Any, Any]:
    for _ in range(extra):
        tf.constant(1.0)
    x = tf.placeholder(tf.float32, [None, 4])
    w = tf.Variable(tf.constant(values(np.float32, (4, 3))), use_resource=True)
    b = tf.Variable(np.zeros(3, np.float32), use_resource=True)
    return x, tf.nn.softmax(tf.matmul(x, w) + b), (w, b)


@pytest.mark.parametrize(("sizes", "compiles"), [(range(2, 22), 1), ([*range(19), 40], 2), ([0, 5], 1), ([0], 1)])
def test_one_program_for_all_batch_sizes(sizes: Any, compiles: int, graph: tf.Graph) -> None:
    # A model that no other test has, so that nothing is in the cache.
    unique = float(1000 * compiles + len(list(sizes)) + max(sizes) / 64)
    x = tf.placeholder(tf.float32, [None, 4])
    out = tf.nn.softmax(x * unique)
    with tf.Session() as session:
        run = session.make_callable(out, [x])
        for size in sizes:
            assert run(np.ones((size, 4), np.float32)).shape == (size, 4)
            assert session.run(out, {x: np.ones((size, 4))}).shape == (size, 4)
        stats = session.compile_stats()
    assert (stats.compiled, stats.variants, stats.steps) == (compiles, compiles, 1)


def test_the_same_step_compiles_once(graph: tf.Graph) -> None:
    x, out, _ = _model()
    array = np.ones((3, 4), np.float32)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        first = session.make_callable(out, [x])(array)
        before = session.compile_stats()
        np.testing.assert_array_equal(session.make_callable(out, [x])(array), first)
        np.testing.assert_array_equal(session.run(out, {x: array}), first)
        np.testing.assert_array_equal(session.run([out], {x: array})[0], first)
        np.testing.assert_array_equal(session.make_callable([out, out], [x])(array)[1], first)
        tf.constant(1.0)  # the graph grows, the step does not
        np.testing.assert_array_equal(session.run({"a": out}, {x: array})["a"], first)
        after = session.compile_stats()
    assert (before.compiled, before.variants, before.steps) == (after.compiled, after.variants, after.steps)


def test_the_same_model_in_another_graph_compiles_nothing() -> None:
    array, found = np.ones((3, 4), np.float32), []
    for extra in (0, 0, 7):
        with tf.Graph().as_default(), tf.Session() as session:
            x, out, (w, b) = _model(extra)
            loss = tf.reduce_mean(out**2.0)
            gradients = tf.gradients(loss, [w, b])
            train = [v.assign_sub(0.1 * g) for v, g in zip((w, b), gradients, strict=True)]
            session.run(tf.global_variables_initializer())
            for _ in range(3):
                session.run(train, {x: array})
            found.append((session.run([out, w, b], {x: array}), session.compile_stats().compiled))
    assert [compiled for _, compiled in found[1:]] == [0, 0]
    for results, _ in found[1:]:
        for result, want in zip(results, found[0][0], strict=True):
            np.testing.assert_array_equal(result, want)


def test_shared_programs_bind_their_own_variables() -> None:
    """Equal steps of graphs that number and name their variables in other ways."""
    for order in ((0, 1), (1, 0)):
        with tf.Graph().as_default(), tf.Session() as session:
            made: dict[int, Any] = {}
            for which in order:
                tf.no_op()
                name = f"{'ab'[which]}{order[0]}"
                made[which] = tf.Variable(np.full(3, 10.0 * which + 1), name=name, use_resource=True)
            out = made[0] * 100.0 + made[1]
            step = made[0].assign_add(made[1])
            session.run(tf.global_variables_initializer())
            np.testing.assert_array_equal(session.run(out), np.full(3, 111.0))
            session.run(step)
            np.testing.assert_array_equal(session.run(out), np.full(3, 1211.0))
            np.testing.assert_array_equal(session.run([made[0], made[1]]), [np.full(3, 12.0), np.full(3, 11.0)])


def test_sessions_of_one_graph_have_their_own_state(graph: tf.Graph) -> None:
    v = tf.Variable(1.0)
    step = v.assign_add(1.0)
    with tf.Session() as one, tf.Session() as other:
        one.run(v.initializer)
        other.run(v.initializer)
        for _ in range(3):
            one.run(step)
        assert (one.run(v), other.run(v)) == (4.0, 1.0)


# --- threads and memory ---


def test_eight_threads_share_a_callable(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [None, 16])
    out = [tf.nn.softmax(tf.matmul(x, x, transpose_b=True)), tf.reduce_sum(x, 0)]
    with tf.Session() as session:
        run = session.make_callable(out, [x])
        arrays = [values(np.float32, (rows, 16), rows) for rows in (1, 2, 3, 17, 40, 0, 64, 5)]
        want = [run(array) for array in arrays]
        barrier = threading.Barrier(8)

        def work(k: int) -> bool:
            barrier.wait()
            same = True
            for turn in range(300):
                at = (k + turn) % len(arrays)
                got = run(arrays[at])
                same &= all(np.array_equal(g, w) for g, w in zip(got, want[at], strict=True))
            return same

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(8)))


def test_eight_threads_meet_a_new_step(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float64, [None])
    out = tf.sin(x) * 12345.0
    with tf.Session() as session:
        run = session.make_callable(out, [x])
        barrier = threading.Barrier(8)

        def work(k: int) -> Any:
            barrier.wait()
            return run(np.full(3, float(k)))

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(work, range(8)))
        assert session.compile_stats().compiled == 1
    for k, result in enumerate(found):
        np.testing.assert_allclose(result, np.full(3, np.sin(k) * 12345.0), rtol=1e-12)


def test_no_update_is_lost_between_threads(graph: tf.Graph) -> None:
    v = tf.Variable(np.zeros(50, np.float64), use_resource=True)
    x = tf.placeholder(tf.float64, [])
    step = v.assign_add(tf.fill([50], x))
    with tf.Session() as session:
        session.run(v.initializer)
        run = session.make_callable(step, [x])

        def work(k: int) -> None:
            for _ in range(500):
                run(1.0)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        np.testing.assert_array_equal(session.run(v), np.full(50, 4000.0))


def test_calls_leave_nothing_behind(graph: tf.Graph) -> None:
    x, y = tf.placeholder(tf.float32, [None, 8]), tf.placeholder(tf.float32, [])
    v = tf.Variable(np.zeros(8, np.float32), use_resource=True)
    fetches = [tf.nn.softmax(x) * y, v.assign_add(tf.reduce_sum(x, 0)), tf.reduce_sum(x)]
    with tf.Session() as session:
        session.run(v.initializer)
        run = session.make_callable(fetches, [x, y])
        arrays = [np.ones((rows, 8), np.float32) for rows in (2, 50)]

        def calls(count: int) -> int:
            for k in range(count):
                run(arrays[k & 1], 0.5)
            gc.collect()
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        before = calls(20_000)
        after = calls(200_000)
        refused = 0
        for _ in range(2000):
            try:
                run(np.ones((2, 9), np.float32), 0.5)
            except ValueError:
                refused += 1
        assert refused == 2000
    assert after - before < 1500, f"{after - before} KiB in 200,000 calls"


def test_runs_leave_nothing_behind(graph: tf.Graph) -> None:
    x = tf.placeholder(tf.float32, [None])
    out = {"a": tf.exp(x), "b": [x + 1.0]}
    with tf.Session() as session:
        for _ in range(500):
            session.run(out, {x: [1.0, 2.0]})
        gc.collect()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(5000):
            session.run(out, {x: [1.0, 2.0]})
        gc.collect()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert session.compile_stats().steps == 1
    assert after - before < 1500
