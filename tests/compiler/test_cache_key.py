"""Content keys: equal for equal steps wherever and whenever they are made, different for all that changes the code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stepjit.compat.v1 as tf
import stepjit_compiler
import stepjit_runtime
from stepjit_compiler import cache_key
from stepjit_compiler.cache_key import content_key, enabled_features, key_entries
from stepjit_compiler.dims import symbol
from stepjit_compiler.ir import Type
from stepjit_compiler.options import options
from stepjit_compiler.passes.prune import Request, prune
from stepjit_compiler.step_text import to_text
from stepjit_runtime import dtypes

Build = Callable[[Any], Any]
FED = (None, 4)


def text(build: Build, shape: tuple[int | None, ...] = FED, dtype: Any = tf.float32) -> str:
    """The canonical text of the step that computes what `build` makes of a feed."""
    with tf.Graph().as_default():
        x = tf.placeholder(dtype, shape, name="x")
        made = build(x)
        fetches = tuple(made) if isinstance(made, (list, tuple)) else (made,)
        extents = tuple(symbol(f"s0_{axis}") if extent is None else extent for axis, extent in enumerate(shape))
        request = Request(fetches, (), (x,), (Type(dtypes.as_dtype(dtype.as_numpy_dtype), extents),))
        return to_text(prune(request).step, names=False)


def nan(bits: int) -> Any:
    return np.array([bits, 0, 0, 0], np.uint32).view(np.float32)


def large(at: int, value: Any) -> Build:
    values = np.zeros(4000, np.float32)
    values[at] = value
    return lambda x: tf.reduce_sum(x) + tf.constant(values)


def loop(count: int, factor: float) -> Build:
    return lambda x: tf.while_loop(lambda i, v: i < count, lambda i, v: (i + 1, v * factor), [tf.constant(0), x])[1]


def branch(yes: float, no: float) -> Build:
    return lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: x + yes, lambda: x + no)


DIFFERENT: list[Build] = [
    lambda x: x + tf.constant([0.0, 0.0, 0.0, 0.0]), lambda x: x + tf.constant([-0.0, 0.0, 0.0, 0.0]),
    lambda x: x + tf.constant(nan(0x7FC00001)), lambda x: x + tf.constant(nan(0x7FC00002)),
    lambda x: x + tf.constant(nan(0xFFC00001)), lambda x: x + 0.0, lambda x: x + (-0.0),
    large(7, 0.0), large(7, -0.0), large(7, 1.0), large(8, 1.0), large(7, nan(0x7FC00001)[0]),
    large(7, nan(0x7FC00002)[0]), lambda x: tf.reduce_sum(x) + tf.constant(np.zeros((40, 100), np.float32)),
    lambda x: tf.reduce_sum(x, 0), lambda x: tf.reduce_sum(x, 1), lambda x: tf.reduce_sum(x, 1, True),
    lambda x: tf.reduce_max(x, 1), lambda x: tf.cast(x, tf.int32), lambda x: tf.cast(x, tf.int64),
    lambda x: tf.matmul(x, x, transpose_b=True), lambda x: tf.matmul(x, x, transpose_a=True),
    lambda x: [tf.sin(x), tf.cos(x)], lambda x: [tf.cos(x), tf.sin(x)], lambda x: [tf.sin(x)],
    lambda x: tf.nn.leaky_relu(x, 0.1), lambda x: tf.nn.leaky_relu(x, 0.2),
    lambda x: tf.as_string(x, precision=3), lambda x: tf.as_string(x, precision=4),
    lambda x: tf.string_join([tf.as_string(x), b"a\0b"]), lambda x: tf.string_join([tf.as_string(x), b"a\0c"]),
    lambda x: x + tf.random_uniform([4], seed=1), lambda x: x + tf.random_uniform([4], seed=2),
    loop(3, 2.0), loop(4, 2.0), loop(3, 3.0), branch(1.0, 2.0), branch(2.0, 1.0),
    lambda x: x + tf.get_variable("w", [4]), lambda x: x + tf.get_variable("w", [1]),
    lambda x: x * tf.get_variable("w", [4]) + tf.get_variable("v", [4]),
    lambda x: tf.strided_slice(x, [0, 0], [1, 2]), lambda x: tf.strided_slice(x, [0, 0], [1, 2], shrink_axis_mask=1),
]  # fmt: skip


def test_different_steps_have_different_texts() -> None:
    texts = [text(build) for build in DIFFERENT]
    same = [(i, texts.index(each)) for i, each in enumerate(texts) if texts.index(each) != i]
    assert same == []
    sums = [text(tf.reduce_sum, shape) for shape in ((None, 4), (2, 4), (None, 5), (None, None), (4,))]
    assert len({*sums, text(tf.reduce_sum, dtype=tf.float64)}) == 6


def test_names_scopes_and_unused_ops_do_not_count() -> None:
    def plain(x: Any) -> Any:
        return tf.sin(x) * tf.cos(x) + tf.get_variable("w", [4])

    def named(x: Any) -> Any:
        tf.exp(x)
        with tf.variable_scope("deep"):
            return tf.add(tf.multiply(tf.sin(x, name="a"), tf.cos(x), name="b"), tf.get_variable("u", [4]))

    assert text(plain) == text(named)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40), st.integers(0, 39), st.integers(0, 31))
def test_every_bit_of_a_constant_counts(words: list[int], at: int, bit: int) -> None:
    array = np.array(words, np.uint32)
    changed = array.copy()
    changed[at % len(words)] ^= np.uint32(1 << bit)
    one, other, again = (text(lambda x, a=a: x[0, 0] + tf.constant(a.view(np.float32))) for a in (array, changed, array))  # type: ignore[misc]
    assert one == again
    assert one != other


def test_options_and_environment_count() -> None:
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [4])
        step = prune(Request((tf.sin(x),), (), (x,), (Type(dtypes.as_dtype("float32"), (4,)),))).step
    base = key_entries(step)
    keys = {content_key(base), content_key(key_entries(step, traced=True))}
    with options(skip={"add_zero"}):
        keys.add(content_key(key_entries(step)))
    with options(verify=True, log={"compile"}, dump={"fuse"}):
        assert content_key(key_entries(step)) in keys  # these change no code
    for name in base:
        keys.add(content_key({**base, name: base[name] + "?"}))
    assert len(keys) == 3 + len(base)
    assert content_key(dict(reversed(base.items()))) in keys
    assert content_key({"ab": "c"}) != content_key({"a": "bc"})


def test_features_that_only_tune_do_not_count() -> None:
    assert enabled_features("+fma,-avx512f,+avx,+fast-15bytenop,+prefer-256-bit") == "avx,fma"


@pytest.mark.parametrize("seed", ["1", "77"])
def test_copies_of_the_source_have_equal_keys(seed: str, tmp_path: Path) -> None:
    for package in (stepjit_compiler, stepjit_runtime):
        home = Path(package.__file__ or "").parent
        shutil.copytree(home, tmp_path / home.name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in tmp_path.rglob("*.py"):
        os.utime(file, (1, 1))
    code = "from stepjit_compiler.cache_key import environment, content_key; print(content_key(environment()))"
    run = {"env": {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONHASHSEED": seed}, "cwd": "/"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, **run)  # type: ignore[call-overload]
    assert done.stdout.strip() == content_key(cache_key._found())
