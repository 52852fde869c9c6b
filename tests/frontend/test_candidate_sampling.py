"""Candidate samplers and the losses that use them: numbers that TensorFlow gives, formulas, gradients, errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

RNG = np.random.RandomState(0)
W, B, X = RNG.randn(7, 4), RNG.randn(7), RNG.randn(3, 4)
LABELS = np.array([[1, 2], [0, 6], [3, 3]])
DRAWN = np.array([2, 0, 5, 3])
TRUE_COUNTS = np.random.RandomState(1).uniform(0.1, 1, (3, 2))
DRAWN_COUNTS = np.random.RandomState(1).uniform(0.1, 1, 4)
TRUE = [[1, 2], [0, 4]]


@pytest.fixture(autouse=True)
def graph() -> Any:
    with tf.Graph().as_default() as made:
        tf.set_random_seed(7)
        yield made


def run(fetches: Any, times: int = 1) -> Any:
    with tf.Session() as session:
        return [session.run(fetches) for _ in range(times)]


def classes(values: Any) -> Any:
    return tf.constant(values, tf.int64)


# --- Samplers ---


SEEDED: dict[str, tuple[Callable[..., Any], dict[str, Any], list[list[int]]]] = {
    "uniform": (tf.nn.uniform_candidate_sampler, {}, [[1, 3, 2, 0], [2, 4, 0, 3], [2, 0, 4, 3]]),
    "log uniform": (tf.nn.log_uniform_candidate_sampler, {}, [[0, 1, 4, 2], [3, 1, 0, 2], [1, 0, 2, 3]]),
    "learned": (tf.nn.learned_unigram_candidate_sampler, {}, [[3, 0, 2, 1], [4, 1, 3, 2], [2, 0, 1, 4]]),
    "fixed": (tf.nn.fixed_unigram_candidate_sampler, {"unigrams": [1.0, 2, 3, 4, 5]},
              [[3, 4, 1, 2], [3, 4, 1, 2], [4, 3, 0, 2]]),
    "distorted": (tf.nn.fixed_unigram_candidate_sampler, {"unigrams": [1.0, 2, 3, 4, 5], "distortion": 0.5},
                  [[3, 4, 1, 0], [3, 1, 2, 4]]),
}  # fmt: skip


@pytest.mark.parametrize("kind", SEEDED)
def test_a_seed_gives_the_candidates_that_it_gives_in_tensorflow(kind: str) -> None:
    sampler, options, expected = SEEDED[kind]
    sample = sampler(classes(TRUE), 2, 4, True, 5, seed=3, **options)
    got = run(sample.sampled_candidates, len(expected))
    assert [each.tolist() for each in got] == expected


def test_expected_counts_follow_the_number_of_tries() -> None:
    sample = tf.nn.uniform_candidate_sampler(classes(TRUE), 2, 4, True, 5, seed=3)
    (first, second) = run(sample, 2)
    np.testing.assert_allclose(first.true_expected_count, np.full((2, 2), 1 - 0.8**6), rtol=1e-6)
    np.testing.assert_allclose(first.sampled_expected_count, np.full(4, 1 - 0.8**6), rtol=1e-6)
    # Four tries for four candidates: as without uniqueness.
    np.testing.assert_allclose(second.sampled_expected_count, np.full(4, 0.8), rtol=1e-6)


def test_candidates_may_repeat_when_they_need_not_be_unique() -> None:
    (got,) = run(tf.nn.log_uniform_candidate_sampler(classes(TRUE), 2, 2000, False, 5, seed=1))
    probability = np.log((np.arange(5) + 2) / (np.arange(5) + 1)) / np.log(6)
    np.testing.assert_allclose(np.bincount(got[0], minlength=5) / 2000, probability, atol=0.05)
    np.testing.assert_allclose(got[1], 2000 * probability[np.array(TRUE)], rtol=1e-5)
    np.testing.assert_allclose(got[2], 2000 * probability[got[0]], rtol=1e-5)


@pytest.mark.parametrize("name", ["uniform", "log_uniform", "learned_unigram"])
def test_unique_candidates_are_unique(name: str) -> None:
    sampler = getattr(tf.random, f"{name}_candidate_sampler")
    (got,) = run(sampler(classes(TRUE), 2, 90, True, 100))
    assert len(set(got[0].tolist())) == 90 and got[0].min() >= 0 and got[0].max() < 100
    assert got[0].dtype == np.int64 and got[1].dtype == got[2].dtype == np.float32


def test_a_session_learns_and_the_next_one_begins_again() -> None:
    counts = tf.nn.learned_unigram_candidate_sampler(classes([[0, 0]]), 2, 1, False, 4).true_expected_count
    expected = [[[each, each]] for each in (1 / 4, 3 / 6, 5 / 8)]
    for _ in range(2):
        np.testing.assert_allclose(run(counts, 3), expected, rtol=1e-6)


def test_weights_come_from_a_file_and_reserved_ids_are_never_drawn(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary"
    path.write_text("a,1\n\nb,2\nc,5\n")
    (got,) = run(tf.nn.fixed_unigram_candidate_sampler(
        classes([[0, 3]]), 2, 3000, False, 4, vocab_file=str(path), num_reserved_ids=1, seed=1
    ))  # fmt: skip
    np.testing.assert_allclose(np.bincount(got[0], minlength=4) / 3000, [0, 1 / 8, 2 / 8, 5 / 8], atol=0.04)
    np.testing.assert_allclose(got[1], [[0, 3000 * 5 / 8]], rtol=1e-6)


def test_a_shard_has_its_own_weights() -> None:
    sample = tf.nn.fixed_unigram_candidate_sampler(
        classes([[0, 1]]), 2, 3, False, 2, unigrams=[1.0, 2, 3, 4, 5], num_shards=2, shard=1
    )
    np.testing.assert_allclose(run(sample.true_expected_count), [[[3 * 2 / 6, 3 * 4 / 6]]], rtol=1e-6)


def test_all_candidates() -> None:
    (got,) = run(tf.nn.all_candidate_sampler(classes(TRUE), 2, 5, True))
    assert got[0].tolist() == [0, 1, 2, 3, 4] and got[1].tolist() == [[1, 1], [1, 1]] and got[2].tolist() == [1] * 5


def test_accidental_hits_are_in_the_order_of_the_true_classes() -> None:
    hits = tf.nn.compute_accidental_hits(classes([[1, 2], [3, 1], [5, 6]]), classes([1, 3, 9, 3, 2]), 2)
    (got,) = run(hits)
    assert got.indices.tolist() == [0, 0, 1, 1] and got.ids.tolist() == [0, 4, 3, 0]
    assert (got.weights == np.finfo(np.float32).min).all() and got.indices.dtype == np.int32


def test_a_sampler_draws_anew_in_each_turn_of_a_loop() -> None:
    def turn(i: Any, drawn: Any) -> Any:
        found = tf.nn.uniform_candidate_sampler(classes(TRUE), 2, 4, True, 1000, seed=5).sampled_candidates
        return i + 1, drawn.write(i, found)

    drawn = tf.while_loop(lambda i, _: i < 3, turn, (0, tf.TensorArray(tf.int64, 3)))[1].stack()
    (got,) = run(drawn)
    assert len({tuple(each) for each in got.tolist()}) == 3


# --- Errors ---


def fed(values: Any) -> Any:
    return tf.placeholder_with_default(classes(values), None)


def uniform(true: Any, num_true: int = 2, num_sampled: int = 3, range_max: int = 5) -> Any:
    return tf.nn.uniform_candidate_sampler(true, num_true, num_sampled, True, range_max)


def fixed(count: int = 3, **options: Any) -> Any:
    return tf.nn.fixed_unigram_candidate_sampler(classes([[1, 2]]), 2, count, True, 5, **options)


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "too many": (lambda: uniform(classes([[1, 2]]), num_sampled=6), "Sampler's range is too small."),
    "columns": (lambda: uniform(classes([[1, 2]]), 3), "true_classes must have num_true columns, expected: 2 was: 3"),
    "rank": (lambda: uniform(fed([1, 2])), "true_classes must be a matrix"),
    "too high": (lambda: uniform(classes([[1, 7]])), r"`true_candidate` out of range \[0, 5\), received 7"),
    "negative": (lambda: uniform(classes([[-1, 2]])), r"`true_candidate` out of range \[0, 5\), received -1"),
    "no weights": (fixed, "Must provide either vocab_file or unigrams."),
    "two weights": (lambda: fixed(vocab_file="x", unigrams=[1.0]), "Must only provide one of vocab_file and unigrams."),
    "few weights": (lambda: fixed(unigrams=[1.0]), "range is 5 must be equal to weights size  1"),
    "few likely classes": (lambda: fixed(5, unigrams=[1.0, 1, 0, 1, 1]), "Sampler's range is too small."),
    "hits of a vector": (lambda: tf.nn.compute_accidental_hits(fed([1, 2]), [1], 2), "batch_size . num_true matrix"),
    "hits of columns": (lambda: tf.nn.compute_accidental_hits(fed([[1, 2]]), [1], 3), "batch_size . num_true matrix"),
    "hits in a matrix": (lambda: tf.nn.compute_accidental_hits([[1, 2]], fed([[1]]), 2), "must be a vector"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_a_step_refuses(kind: str) -> None:
    make, message = WRONG[kind]
    sample = make()
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        run(sample)


def test_files_that_are_missing_or_hold_no_numbers(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary"
    with pytest.raises(tf.errors.NotFoundError, match="No such file"):
        run(fixed(vocab_file=str(path)))
    path.write_text("a,1\nb\n")
    with pytest.raises(tf.errors.InvalidArgumentError, match="Wrong vocabulary format at line: b"):
        run(fixed(vocab_file=str(path)))


def test_what_a_graph_refuses() -> None:
    for make, message in (
        (lambda: uniform(classes([1, 2])), "Shape must be rank 2 but is rank 1"),
        (lambda: uniform(classes([[1, 2]]), num_sampled=0), "Attr 'num_sampled' .* passed 0 less than minimum 1"),
        (lambda: uniform(classes([[1, 2]]), range_max=0), "Attr 'range_max' .* passed 0 less than minimum 1"),
        (lambda: tf.nn.compute_accidental_hits([[1, 2]], [1], 3), "Dimension must be 3 but is 2"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_static_shapes() -> None:
    sample = uniform(tf.placeholder(tf.int64, [None, 2]))
    assert [each.shape.as_list() for each in sample] == [[3], [None, 2], [3]]


# --- Losses ---


def loss(name: str, w: Any, b: Any, x: Any, hits: bool, dtype: Any = tf.float64, **options: Any) -> Any:
    values = (classes(DRAWN), tf.constant(TRUE_COUNTS, dtype), tf.constant(DRAWN_COUNTS, dtype))
    function = getattr(tf.nn, name)
    return function(w, b, classes(LABELS), x, 4, 7, 2, values, remove_accidental_hits=hits, **options)


def meant(name: str, hits: bool, w: Any, b: Any, x: Any) -> np.ndarray:
    """The loss by its formula."""
    true = np.einsum("nd,ntd->nt", x, w[LABELS]) + b[LABELS] - np.log(TRUE_COUNTS)
    drawn = x @ w[DRAWN].T + b[DRAWN] - np.log(DRAWN_COUNTS)
    if hits:
        drawn = drawn - np.where((LABELS[:, :, None] == DRAWN).any(1), float(np.finfo(np.float32).max), 0)
    logits = np.concatenate([true, drawn], 1)
    targets = np.concatenate([np.full(true.shape, 0.5), np.zeros(drawn.shape)], 1)
    if name == "nce_loss":
        return (np.maximum(logits, 0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))).sum(1)
    top = logits.max(1, keepdims=True)
    return -(targets * (logits - top - np.log(np.exp(logits - top).sum(1, keepdims=True)))).sum(1)


NAMES = ("nce_loss", "sampled_softmax_loss")
IN_TENSORFLOW = {
    "nce_loss": [9.348989486694336, 3.9378793239593506, 5.096395969390869],
    "sampled_softmax_loss": [2.3389811515808105, 2.410522937774658, 0.8835959434509277],
}


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_tensorflows(name: str) -> None:
    w, b, x = (tf.constant(each, tf.float32) for each in (W, B, X))
    np.testing.assert_allclose(run(loss(name, w, b, x, True, tf.float32))[0], IN_TENSORFLOW[name], rtol=1e-6)


@pytest.mark.parametrize("hits", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_losses_and_their_gradients(name: str, hits: bool) -> None:
    arrays = [W, B, X]
    inputs = [tf.constant(each) for each in arrays]
    result = loss(name, *inputs, hits)
    w, b, x = tf.gradients(result, inputs)
    assert isinstance(w, tf.IndexedSlices) and isinstance(b, tf.IndexedSlices)
    got, *gradients = run([result, tf.convert_to_tensor(w), tf.convert_to_tensor(b), x])[0]
    np.testing.assert_allclose(got, meant(name, hits, *arrays), rtol=1e-9)
    for k, gradient in enumerate(gradients):
        numeric = np.zeros_like(arrays[k])
        for place in np.ndindex(numeric.shape):
            moved = []
            for step in (1e-5, -1e-5):
                other = [each.copy() for each in arrays]
                other[k][place] += step
                moved.append(meant(name, hits, *other).sum())
            numeric[place] = (moved[0] - moved[1]) / 2e-5
        np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("strategy", ["mod", "div"])
@pytest.mark.parametrize("name", NAMES)
def test_tables_in_shares(name: str, strategy: str) -> None:
    places = [range(k, 7, 3) for k in range(3)] if strategy == "mod" else np.array_split(range(7), 3)
    w, b = ([tf.constant(each[list(part)]) for part in places] for each in (W, B))
    got = run(loss(name, w, b, tf.constant(X), True, partition_strategy=strategy))[0]
    np.testing.assert_allclose(got, meant(name, True, W, B, X), rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_training_with_samples_of_its_own(name: str) -> None:
    w, b = (tf.Variable(each.astype(np.float32)) for each in (W, B))
    labels = tf.constant([[1], [4], [6]])
    total = tf.reduce_mean(getattr(tf.nn, name)(w, b, labels, tf.constant(X, tf.float32), 3, 7))
    step = tf.train.GradientDescentOptimizer(0.3).minimize(total)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        losses = [session.run([total, step])[0] for _ in range(60)]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])


# --- The oldest names of argmax and argmin ---


def test_arg_max_and_arg_min() -> None:
    x = np.array([[3, 1, 4], [1, 5, 9]])
    got = run([tf.arg_max(x, 1), tf.arg_min(x, 0, tf.int32), tf.arg_max(x, dimension=0, name="top")])[0]
    assert [each.tolist() for each in got] == [[2, 2], [1, 0, 0], [0, 1, 1]]
    assert got[0].dtype == np.int64 and got[1].dtype == np.int32
