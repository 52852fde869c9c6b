"""Philox streams: known answers, TensorFlow's numbers, and the position of a stream from step to step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stepjit_compiler import opdef, philox
from stepjit_compiler.opdef import Call
from stepjit_compiler.philox import Source
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType
from stepjit_runtime.errors import OpFailure
from stepjit_runtime.random_stream import RandomStream


def draw(name: str, dtype: DType, *inputs: Any, stream: RandomStream | None = None, **attrs: Any) -> np.ndarray:
    op = opdef.lookup(name)
    assert op is not None
    assert op.reference is not None
    call = Call(name, {**attrs, "_stream": stream or RandomStream(7, 3)}, [dtype])
    found: np.ndarray = op.reference(call, *[np.asarray(each) for each in inputs])
    assert found.dtype == dtype.np
    return found


@pytest.mark.parametrize(
    ("counter", "key", "want"),
    [
        (0, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        (2**64 - 1, (2**32 - 1, 2**32 - 1), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (0x85A308D3243F6A88, (0xA4093822, 0x299F31D0), [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
    ],
)
def test_known_blocks(counter: int, key: tuple[int, int], want: list[int]) -> None:
    upper = {0: (0, 0), 2**64 - 1: (2**32 - 1, 2**32 - 1)}.get(counter, (0x13198A2E, 0x03707344))
    assert philox.philox(np.array(counter, np.uint64), upper, key).tolist() == want


def test_normals_and_truncated_normals() -> None:
    want = [0.9447038, -0.9667907, 0.80517167]
    np.testing.assert_allclose(draw("RandomStandardNormal", dtypes.float32, [3]), want, rtol=1e-6)
    half = draw("TruncatedNormal", dtypes.float16, [6])
    assert half.astype(np.float32).round(4).tolist() == pytest.approx([0.945, -0.967, 0.805, 1.304, -0.2188, -0.8047], abs=1e-3)
    assert np.abs(draw("TruncatedNormal", dtypes.float64, [501])).max() < 2


def test_integers() -> None:
    got = draw("RandomUniformInt", dtypes.int64, [3], -5, 2**40)
    assert got.tolist() == [286002570664, 69368012421, 930197199818]
    with pytest.raises(OpFailure, match="Need minval < maxval, got 3 >= 3"):
        draw("RandomUniformInt", dtypes.int32, [3], 3, 3)
    assert draw("RandomUniformInt", dtypes.int32, [0], 3, 3).shape == (0,)


def test_gamma_counts_blocks_alpha_by_alpha() -> None:
    got = draw("RandomGamma", dtypes.float32, [2], np.float32([0.5, 3]))
    np.testing.assert_allclose(got, [[0.10705151, 2.7192469], [1.1853371, 3.776835]], rtol=1e-6)
    assert np.isnan(draw("RandomGamma", dtypes.float32, [1], np.float32(-1))).all()


def test_multinomial() -> None:
    logits = np.log(np.float32([[0.1, 0.9], [0.5, 0.5]]))
    assert draw("Multinomial", dtypes.int64, logits, 6).tolist() == [[1, 1, 1, 0, 1, 1], [1, 1, 1, 1, 0, 1]]


def test_stateless_ops_depend_on_their_seed_alone() -> None:
    truncated = draw("StatelessTruncatedNormal", dtypes.float32, [3], [1, 2])
    np.testing.assert_allclose(truncated, [0.5441101, 0.20738031, 0.07356432], rtol=1e-5)
    double = draw("StatelessTruncatedNormal", dtypes.float64, [3], [3, 4])
    np.testing.assert_allclose(double, [-0.33108456, 0.0278124, -0.34266179], rtol=1e-6)
    assert draw("StatelessRandomUniformInt", dtypes.int32, [5], [1, 2], 0, 10).tolist() == [0, 9, 4, 9, 7]
    full = draw("StatelessRandomUniformFullInt", dtypes.int32, [3], [1, 2])
    assert full.tolist() == [1105988140, 1738052849, -335576002]
    assert draw("StatelessMultinomial", dtypes.int64, [[0.0, 1, 2]], 5, [1, 2]).tolist() == [[2, 2, 1, 2, 2]]


def test_streams_go_on_by_256_blocks_a_number() -> None:
    stream = RandomStream(123, 456)
    draw("RandomUniform", dtypes.float32, [2, 5], stream=stream)
    second = draw("RandomUniform", dtypes.float32, [2, 5], stream=stream)
    want = philox.uniform(Source((123, 0), (456, 0), 2560), 10, np.dtype(np.float32))
    assert second.ravel().tolist() == want.tolist()


def test_shuffle_takes_a_word_a_row() -> None:
    stream = RandomStream(1, 9)
    rows = np.arange(26).reshape(13, 2)
    first = draw("RandomShuffle", dtypes.int64, rows, stream=stream)
    assert sorted(first[:, 0].tolist()) == rows[:, 0].tolist()
    assert stream.take(0) == 3
    assert draw("RandomShuffle", dtypes.int64, np.int64(3), stream=stream) == 3


def test_no_seed_is_a_random_key() -> None:
    assert RandomStream(0, 0).key != RandomStream(0, 0).key
    negative = RandomStream(-1, -2)
    assert negative.key == (2**32 - 1, 2**32 - 1)
    assert negative.counter_hi == (2**32 - 2, 2**32 - 1)


def test_poisson_has_its_moments() -> None:
    got = draw("RandomPoissonV2", dtypes.int64, [20000], np.float64(4))
    assert abs(got.mean() - 4) < 0.1
    assert abs(got.std() - 2) < 0.1
