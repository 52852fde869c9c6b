"""Variables that have another shape than they were made for."""

from __future__ import annotations

import numpy as np
import pytest

import stepjit.compat.v1 as tf


def test_reading_and_assigning_after_a_change_of_shape() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.Variable([1.0, 2.0])
        value = tf.placeholder(tf.float32, [2])
        assign, doubled = variable.assign(value), variable * 2
        anything = tf.placeholder(tf.float32)
        reshape = tf.assign(variable, anything, validate_shape=False)
        session.run(variable.initializer)
        assert session.run(doubled).tolist() == [2, 4]
        for shape in ((3,), (), (2, 2)):
            session.run(reshape, {anything: np.ones(shape)})
            assert session.run(doubled).shape == shape
            with pytest.raises(tf.errors.InvalidArgumentError, match="requires shapes of both tensors to match"):
                session.run(assign, {value: [1, 2]})
            assert session.run(variable).shape == shape
        session.run(reshape, {anything: [5, 6]})
        session.run(assign, {value: [7, 8]})
        assert session.run(variable).tolist() == [7, 8]
