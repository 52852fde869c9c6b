"""Every registered op can be called by name, with nothing but its definition."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import stepjit.compat.v1 as tf
from stepjit_compiler import opdef
from stepjit_compiler.lowering import Elementwise
from stepjit_compiler.opdef import define, ufunc, unchanged


@pytest.fixture
def cube() -> Iterator[None]:
    define(
        "TestCube", "x: T -> y: T", "T: type in float", infer=unchanged, reference=ufunc(lambda x: x * x * x),
        lower=Elementwise(lambda b, call, x: b.mul(b.mul(x, x), x)),
    )  # fmt: skip
    yield
    opdef._REGISTRY.pop("TestCube")


def test_one_section_makes_an_op(cube: None) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None])
        run = session.make_callable(tf.raw_ops.TestCube(x=x) + 1.0, [x])
        np.testing.assert_array_equal(run(np.array([1, 2, 3], np.float32)), [2, 9, 28])
        assert not run.contexts[0].executable.manifest.hosts


def test_names() -> None:
    assert "MatMul" in dir(tf.raw_ops)
    assert tf.raw_ops.Add(x=tf.constant(1.0), y=2.0, name="sum").op.name == "sum"
    with pytest.raises(AttributeError, match="no op 'Nonsense'"):
        _ = tf.raw_ops.Nonsense
