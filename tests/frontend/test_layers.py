"""tf.layers: names, shapes and values, reuse, updates and regularisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepjit.compat.v1 as tf

RNG = np.random.default_rng(2)


@pytest.fixture(autouse=True)
def _graph() -> Any:
    with tf.Graph().as_default():
        yield


def names(collection: str = tf.GraphKeys.GLOBAL_VARIABLES) -> list[str]:
    return [variable.name for variable in tf.get_collection(collection)]


def images(*shape: int | None) -> Any:
    return tf.placeholder(tf.float32, shape)


@pytest.mark.parametrize(
    ("build", "shape", "want"),
    [
        (lambda x: tf.layers.conv2d(x, 5, 3), (None, 8, 7, 2), [None, 6, 5, 5]),
        (lambda x: tf.layers.conv2d(x, 5, (3, 2), (2, 1), "same"), (None, 8, 7, 2), [None, 4, 7, 5]),
        (lambda x: tf.layers.conv2d(x, 5, 3, data_format="channels_first"), (None, 2, 8, 7), [None, 5, 6, 5]),
        (lambda x: tf.layers.conv2d(x, 5, 3, dilation_rate=2), (None, 8, 7, 2), [None, 4, 3, 5]),
        (lambda x: tf.layers.conv1d(x, 5, 3, 2), (None, 9, 2), [None, 4, 5]),
        (lambda x: tf.layers.conv3d(x, 5, 2), (None, 4, 5, 6, 2), [None, 3, 4, 5, 5]),
        (lambda x: tf.layers.conv2d_transpose(x, 5, 3, 2), (None, 4, 3, 2), [None, 9, 7, 5]),
        (lambda x: tf.layers.conv2d_transpose(x, 5, 3, 2, "same"), (None, None, 3, 2), [None, None, 6, 5]),
        (lambda x: tf.layers.conv3d_transpose(x, 5, 2), (1, 2, 3, 4, 2), [1, 3, 4, 5, 5]),
        (lambda x: tf.layers.separable_conv2d(x, 5, 3, depth_multiplier=2), (None, 8, 7, 2), [None, 6, 5, 5]),
        (lambda x: tf.layers.separable_conv1d(x, 5, 3), (None, 8, 2), [None, 6, 5]),
        (lambda x: tf.layers.max_pooling2d(x, 2, 2), (None, 8, 7, 2), [None, 4, 3, 2]),
        (lambda x: tf.layers.average_pooling2d(x, (3, 2), 1, "same"), (None, 8, 7, 2), [None, 8, 7, 2]),
        (lambda x: tf.layers.max_pooling1d(x, 2, 2), (None, 7, 2), [None, 3, 2]),
        (lambda x: tf.layers.average_pooling1d(x, 2, 1), (None, 7, 2), [None, 6, 2]),
        (lambda x: tf.layers.max_pooling3d(x, 2, 2), (None, 4, 5, 6, 2), [None, 2, 2, 3, 2]),
        (lambda x: tf.layers.average_pooling3d(x, 2, 2), (None, 4, 5, 6, 2), [None, 2, 2, 3, 2]),
        (lambda x: tf.layers.flatten(x), (None, 4, 5, 2), [None, 40]),
        (lambda x: tf.layers.dense(x, 6), (None, 4, 5), [None, 4, 6]),
        (lambda x: tf.layers.batch_normalization(x), (None, 4, 5), [None, 4, 5]),
    ],
)
def test_shapes(build: Any, shape: Any, want: list[int | None]) -> None:
    x = images(*shape)
    y = build(x)
    assert y.shape.as_list() == want
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        fed = RNG.standard_normal([2 if extent is None else extent for extent in shape])
        got = session.run(y, {x: fed})
    assert all(b is None or a == b for a, b in zip(got.shape, want, strict=True))


def test_names_and_reuse() -> None:
    x = images(None, 8, 8, 3)
    first = tf.layers.conv2d(x, 4, 3)
    tf.layers.conv2d(x, 4, 3)
    with tf.variable_scope("tower"):
        tf.layers.conv2d(x, 4, 3, name="in")
    with tf.variable_scope("tower", reuse=True):
        tf.layers.conv2d(x, 4, 3, name="in")
    tf.layers.separable_conv2d(x, 4, 3, use_bias=False)
    tf.layers.batch_normalization(x, name="bn")
    assert first.op.name == "conv2d/BiasAdd"
    assert names() == [
        "conv2d/kernel:0", "conv2d/bias:0", "conv2d_1/kernel:0", "conv2d_1/bias:0", "tower/in/kernel:0",
        "tower/in/bias:0", "separable_conv2d/depthwise_kernel:0", "separable_conv2d/pointwise_kernel:0", "bn/gamma:0",
        "bn/beta:0", "bn/moving_mean:0", "bn/moving_variance:0",
    ]  # fmt: skip
    assert "bn/moving_mean:0" not in names(tf.GraphKeys.TRAINABLE_VARIABLES)
    with pytest.raises(ValueError, match="already exists"):
        tf.layers.conv2d(x, 4, 3, name="conv2d_1")


def test_a_layer_object_keeps_its_variables() -> None:
    layer = tf.layers.Conv2D(4, 3, name="eye", kernel_regularizer=lambda w: tf.reduce_sum(w * w))
    a, b = layer(images(None, 8, 8, 3)), layer.apply(images(None, 5, 5, 3))
    assert (a.op.name, b.op.name) == ("eye/BiasAdd", "eye/BiasAdd_1")
    assert [variable.name for variable in layer.variables] == ["eye/kernel:0", "eye/bias:0"]
    assert (layer.name, layer.count_params(), len(layer.losses)) == ("eye", 3 * 3 * 3 * 4 + 4, 1)
    assert len(tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)) == 1
    assert tf.layers.Dense(3, trainable=False)(images(2, 4)) is not None
    assert names(tf.GraphKeys.TRAINABLE_VARIABLES) == ["eye/kernel:0", "eye/bias:0"]


def test_a_layer_of_ones_own() -> None:
    class Scale(tf.layers.Layer):
        def build(self, input_shape: Any) -> None:
            self.gain = self.add_weight("gain", [input_shape[-1]], initializer=tf.ones_initializer())
            super().build(input_shape)

        def call(self, inputs: Any) -> Any:
            return inputs * self.gain

    layer = Scale(activity_regularizer=tf.reduce_sum)
    y = layer(tf.constant([[1.0, 2.0]])) + layer(tf.constant([[3.0, 4.0]]))
    assert names() == ["scale/gain:0"]
    assert len(layer.losses) == 2
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert session.run(y).tolist() == [[4.0, 6.0]]


@pytest.mark.parametrize("fused", [True, False])
def test_batch_normalisation_moves_its_averages_in_training_only(fused: bool) -> None:
    x, training = images(None, 2, 2, 3), tf.placeholder(tf.bool, [])
    y = tf.layers.batch_normalization(x, momentum=0.9, training=training, fused=fused)
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    data = RNG.standard_normal((4, 2, 2, 3)).astype(np.float32)
    mean, variance = data.mean((0, 1, 2)), data.var((0, 1, 2), ddof=1 if fused else 0)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run([y, *updates], {x: data, training: False})
        assert session.run("batch_normalization/moving_mean:0").tolist() == [0, 0, 0]
        got = session.run([y, *updates], {x: data, training: True})[0]
        np.testing.assert_allclose(got, (data - mean) / np.sqrt(data.var((0, 1, 2)) + 1e-3), atol=1e-5)
        np.testing.assert_allclose(session.run("batch_normalization/moving_mean:0"), 0.1 * mean, rtol=1e-4)
        np.testing.assert_allclose(session.run("batch_normalization/moving_variance:0"), 0.9 + 0.1 * variance, rtol=1e-5)
        told = session.run(y, {x: data, training: False})
        np.testing.assert_allclose(told, (data - 0.1 * mean) / np.sqrt(0.9 + 0.1 * variance + 1e-3), rtol=1e-4, atol=1e-5)


def test_dropout_by_a_tensor() -> None:
    training = tf.placeholder(tf.bool, [])
    y = tf.layers.dropout(tf.ones([1000]), 0.5, training=training, seed=1)
    with tf.Session() as session:
        assert session.run(y, {training: False}).tolist() == [1.0] * 1000
        assert set(session.run(y, {training: True})) == {0.0, 2.0}


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: tf.layers.conv2d(images(None, 8, 8), 4, 3), "expected ndim=4, found ndim=3"),
        (lambda: tf.layers.conv2d(images(None, 8, 8, None), 4, 3), "should be defined. Found `None`"),
        (lambda: tf.layers.conv2d(images(None, 8, 8, 1), 4, 3, padding="full"), '"valid", "same"'),
        (lambda: tf.layers.conv2d(images(None, 8, 8, 1), 4, (3, 3, 3)), "must be a tuple of 2 integers"),
        (lambda: tf.layers.max_pooling2d(images(None, 8, 8, 1), 2, 2, data_format="last"), "channels_first"),
        (lambda: tf.layers.dense(images(None, None), 4), "should be defined. Found None"),
        (lambda: tf.layers.batch_normalization(images(None, None)), "undefined `axis` dimension"),
        (lambda: tf.layers.Conv2D(4, 3).scope_name, "has not been used yet"),
    ],
)
def test_mistakes(build: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text.replace("(", r"\(")):
        build()
