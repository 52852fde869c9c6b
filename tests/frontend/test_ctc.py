"""Connectionist temporal classification: losses and decoders against all paths."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

LOGITS = np.random.default_rng(5).standard_normal((4, 2, 3)).astype(np.float32)


def run(build: Any) -> Any:
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(build())


def chances(k: int) -> dict[tuple[int, ...], float]:
    """By label sequence, the sum over all paths of batch element k; class 2 is the blank."""
    y = np.exp(LOGITS[:, k].astype(np.float64))
    y /= y.sum(1, keepdims=True)
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(3), repeat=4):
        labels = tuple(label for label, _ in itertools.groupby(path) if label != 2)
        found[labels] = found.get(labels, 0.0) + float(np.prod(y[np.arange(4), path]))
    return found


def sparse(*rows: tuple[int, ...]) -> Any:
    places = [(k, at) for k, row in enumerate(rows) for at in range(len(row))]
    values = np.int32([label for row in rows for label in row])
    return tf.SparseTensor(np.int64(places), values, (len(rows), max(map(len, rows))))


@pytest.mark.parametrize("rows", [((0, 1), (1,)), ((0, 0), (1, 0, 1)), ((1, 1), (0, 1, 0, 1))])
def test_the_loss_is_of_all_paths(rows: Any) -> None:
    loss = run(lambda: tf.nn.ctc_loss(sparse(*rows), LOGITS, [4, 4]))
    np.testing.assert_allclose(loss, [-np.log(chances(k)[row]) for k, row in enumerate(rows)], rtol=1e-5)


def test_the_gradient() -> None:
    with tf.Graph().as_default(), tf.Session():
        x = tf.constant(LOGITS.astype(np.float64))
        loss = tf.nn.ctc_loss(sparse((0, 0), (1,)), x, [4, 3]) * tf.constant([1.0, 2.0], tf.float64)
        assert tf.gradients(loss, x)[0].shape.as_list() == [4, 2, 3]
        with tf.Session() as session:
            gradient = session.run(tf.gradients(loss, x)[0])
            for place in [(0, 0, 1), (2, 0, 2), (1, 1, 0), (3, 1, 0)]:
                step = np.zeros(LOGITS.shape)
                step[place] = 1e-5
                up, down = (session.run(loss, {x: LOGITS + sign * step}).sum() for sign in (1, -1))
                np.testing.assert_allclose(gradient[place], (up - down) / 2e-5, atol=1e-6)


@pytest.mark.parametrize("width", [20, 100])
def test_a_wide_beam_finds_the_likeliest_labels(width: int) -> None:
    decoded, scores = run(lambda: tf.nn.ctc_beam_search_decoder(LOGITS, [4, 4], width, 3, merge_repeated=False))
    for k in range(2):
        best = sorted(chances(k).items(), key=lambda each: -each[1])[:3]
        np.testing.assert_allclose(scores[k], np.log([chance for _, chance in best]), rtol=1e-5)
        for p, (labels, _) in enumerate(best):
            rows = decoded[p].indices[:, 0] == k
            assert tuple(decoded[p].values[rows]) == labels


def test_a_narrow_beam_is_tensorflows() -> None:
    x = np.random.RandomState(101).randn(18, 1, 9).astype(np.float32)
    decoded, scores = run(lambda: tf.nn.ctc_beam_search_decoder(x, [18], 3, 3, merge_repeated=False))
    np.testing.assert_allclose(scores[0], [-16.2718811, -16.95263863, -17.30714989], rtol=1e-5)
    assert decoded[1].values[:10].tolist() == [0, 0, 1, 3, 7, 4, 1, 6, 1, 3]


def test_dense_labels_and_other_blanks() -> None:
    moved = np.concatenate([LOGITS[..., 2:], LOGITS[..., :2]], -1)
    loss = run(lambda: tf.nn.ctc_loss_v2([[1, 2], [2, 0]], moved, [2, 1], [4, 4]))
    np.testing.assert_allclose(loss, [-np.log(chances(0)[0, 1]), -np.log(chances(1)[1,])], rtol=1e-5)


def test_mistakes() -> None:
    for build, text in (
        (lambda: tf.nn.ctc_loss(sparse((0, 1), (1,)), LOGITS, [1, 4]), "Not enough time"),
        (lambda: tf.nn.ctc_loss(sparse((0, 1), (1,)), LOGITS, [4, 5]), r"sequence_length\(1\) <= 4"),
        (lambda: tf.nn.ctc_loss(sparse((0, 2, 1), (1,)), LOGITS, [4, 4]), "following a null label"),
        (lambda: tf.nn.ctc_loss(sparse((0, 1), ()), LOGITS, [4, 4]), "Labels length is zero"),
    ):  # fmt: skip
        with pytest.raises(tf.errors.InvalidArgumentError, match=text):
            run(build)
    ignored = run(
        lambda: tf.nn.ctc_loss(sparse((0, 1), (1,)), LOGITS, [1, 4], ignore_longer_outputs_than_inputs=True)
    )
    assert ignored[0] == 0 < ignored[1]
    assert run(lambda: tf.nn.ctc_loss(sparse((0, 0), (1,)), LOGITS, [2, 4]))[0] == np.inf
    with pytest.raises(TypeError, match="SparseTensor"):
        tf.nn.ctc_loss([[1]], LOGITS, [4, 4])
