"""Convolution, pooling and normalisation ops: references against loops over every window, shapes, messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conv_cases import conv, depthwise, pool
from test_ops_math import failing, run

from stepjit_compiler import opdef
from stepjit_runtime.errors import UNIMPLEMENTED

RNG = np.random.default_rng(3)
X = RNG.standard_normal((2, 6, 5, 3))
K = RNG.standard_normal((3, 2, 3, 4))
VOLUME = RNG.standard_normal((2, 4, 5, 3, 2))
K3 = RNG.standard_normal((2, 3, 2, 2, 3))
NAN = np.nan

GEOMETRIES = [
    ((1, 1), "SAME", (1, 1)),
    ((2, 1), "SAME", (1, 1)),
    ((2, 3), "VALID", (1, 1)),
    ((1, 1), "VALID", (2, 3)),
    ((2, 2), "SAME", (2, 1)),
    ((1, 2), ((1, 2), (0, 3)), (1, 1)),
]


def attrs_of(strides: Any, padding: Any, rates: Any = (1, 1), layout: str = "NHWC") -> dict[str, Any]:
    around = (lambda pair: (1, 1, *pair)) if layout == "NCHW" else (lambda pair: (1, *pair, 1))
    found = {"strides": around(strides), "dilations": around(rates), "data_format": layout.encode()}
    if isinstance(padding, str):
        return found | {"padding": padding.encode(), "explicit_paddings": ()}
    flat = [n for pair in padding for n in pair]
    edges = (0, 0, 0, 0, *flat) if layout == "NCHW" else (0, 0, *flat, 0, 0)
    return found | {"padding": b"EXPLICIT", "explicit_paddings": edges}


@pytest.mark.parametrize(("strides", "padding", "rates"), GEOMETRIES)
def test_convolution_and_its_gradients(strides: Any, padding: Any, rates: Any) -> None:
    attrs = attrs_of(strides, padding, rates)
    got = run("Conv2D", X, K, **attrs)
    want = conv(X, K, strides, padding, rates)
    np.testing.assert_allclose(got, want, atol=1e-12)
    # <conv(x, k), g> is linear in each, so the gradients are its adjoints.
    g = RNG.standard_normal(want.shape)
    to_image = run("Conv2DBackpropInput", np.int32(X.shape), K, g, **attrs)
    to_filter = run("Conv2DBackpropFilter", X, np.int32(K.shape), g, **attrs)
    assert (to_image.shape, to_filter.shape) == (X.shape, K.shape)
    np.testing.assert_allclose((to_image * X).sum(), (want * g).sum(), atol=1e-9)
    np.testing.assert_allclose((to_filter * K).sum(), (want * g).sum(), atol=1e-9)
    other = RNG.standard_normal(X.shape)
    np.testing.assert_allclose((to_image * other).sum(), (conv(other, K, strides, padding, rates) * g).sum(), atol=1e-9)


@pytest.mark.parametrize(("strides", "padding", "rates"), GEOMETRIES[:3])
def test_channels_may_come_first(strides: Any, padding: Any, rates: Any) -> None:
    first = np.moveaxis(X, -1, 1).copy()
    got = run("Conv2D", first, K, **attrs_of(strides, padding, rates, "NCHW"))
    np.testing.assert_allclose(np.moveaxis(got, 1, -1), conv(X, K, strides, padding, rates), atol=1e-12)
    got = run("MaxPool", first, ksize=(1, 1, 2, 2), strides=(1, 1, *strides), padding=b"SAME", data_format=b"NCHW")
    np.testing.assert_array_equal(np.moveaxis(got, 1, -1), pool("max", X, (2, 2), strides, "SAME"))


def test_groups_of_channels() -> None:
    x, k = RNG.standard_normal((1, 4, 4, 4)), RNG.standard_normal((2, 2, 2, 6))
    got = run("Conv2D", x, k, **attrs_of((1, 1), "VALID"))
    halves = [conv(x[..., i * 2 : i * 2 + 2], k[..., i * 3 : i * 3 + 3], (1, 1), "VALID") for i in range(2)]
    np.testing.assert_allclose(got, np.concatenate(halves, -1), atol=1e-12)
    g = RNG.standard_normal(got.shape)
    to_image = run("Conv2DBackpropInput", np.int32(x.shape), k, g, **attrs_of((1, 1), "VALID"))
    to_filter = run("Conv2DBackpropFilter", x, np.int32(k.shape), g, **attrs_of((1, 1), "VALID"))
    np.testing.assert_allclose([(to_image * x).sum(), (to_filter * k).sum()], [(got * g).sum()] * 2, atol=1e-9)


def test_integers_halves_and_no_images() -> None:
    x, k = np.arange(18, dtype=np.int32).reshape(1, 3, 3, 2), np.ones((2, 2, 2, 1), np.int32)
    got = run("Conv2D", x, k, **attrs_of((1, 1), "VALID"))
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, conv(x, k, (1, 1), "VALID"))
    assert run("Conv2D", X[:0], K, **attrs_of((1, 1), "SAME")).shape == (0, 6, 5, 4)
    half = run("Conv2D", X.astype(np.float16), K.astype(np.float16), **attrs_of((1, 1), "SAME"))
    np.testing.assert_allclose(half.astype(float), conv(X, K, (1, 1), "SAME"), atol=0.05)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_volumes(stride: int, padding: str) -> None:
    attrs = {"strides": (1, stride, stride, stride, 1), "padding": padding.encode(), "data_format": b"NDHWC",
             "dilations": (1,) * 5}  # fmt: skip
    want = conv(VOLUME, K3, (stride,) * 3, padding)
    np.testing.assert_allclose(run("Conv3D", VOLUME, K3, **attrs), want, atol=1e-12)
    g = RNG.standard_normal(want.shape)
    to_image = run("Conv3DBackpropInputV2", np.int32(VOLUME.shape), K3, g, **attrs)
    to_filter = run("Conv3DBackpropFilterV2", VOLUME, np.int32(K3.shape), g, **attrs)
    totals = [(to_image * VOLUME).sum(), (to_filter * K3).sum()]
    np.testing.assert_allclose(totals, [(want * g).sum()] * 2, atol=1e-9)
    pooled = {"ksize": (1, 2, 3, 2, 1), "strides": attrs["strides"], "padding": attrs["padding"]}
    np.testing.assert_allclose(
        run("AvgPool3D", VOLUME, **pooled), pool("mean", VOLUME, (2, 3, 2), (stride,) * 3, padding), atol=1e-12
    )
    single = VOLUME.astype(np.float32)
    np.testing.assert_array_equal(
        run("MaxPool3D", single, **pooled), pool("max", single, (2, 3, 2), (stride,) * 3, padding)
    )


@pytest.mark.parametrize(("strides", "padding"), [((1, 1), "SAME"), ((2, 2), "VALID"), ((2, 1), "SAME")])
def test_depthwise(strides: Any, padding: str) -> None:
    kernel, attrs = RNG.standard_normal((2, 3, 3, 2)), attrs_of(strides, padding)
    want = depthwise(X, kernel, strides, padding)
    np.testing.assert_allclose(run("DepthwiseConv2dNative", X, kernel, **attrs), want, atol=1e-12)
    g = RNG.standard_normal(want.shape)
    to_image = run("DepthwiseConv2dNativeBackpropInput", np.int32(X.shape), kernel, g, **attrs)
    to_filter = run("DepthwiseConv2dNativeBackpropFilter", X, np.int32(kernel.shape), g, **attrs)
    totals = [(to_image * X).sum(), (to_filter * kernel).sum()]
    np.testing.assert_allclose(totals, [(want * g).sum()] * 2, atol=1e-9)


@pytest.mark.parametrize(("sizes", "strides", "padding"), [((2, 2), (2, 2), "VALID"), ((3, 2), (1, 2), "SAME"), ((3, 3), (2, 2), "SAME")])
def test_pooling(sizes: Any, strides: Any, padding: str) -> None:
    attrs = {"ksize": (1, *sizes, 1), "strides": (1, *strides, 1), "padding": padding.encode()}
    np.testing.assert_array_equal(run("MaxPool", X, **attrs), pool("max", X, sizes, strides, padding))
    want = pool("mean", X, sizes, strides, padding)
    np.testing.assert_allclose(run("AvgPool", X, **attrs), want, atol=1e-12)
    g = RNG.standard_normal(want.shape)
    back = run("AvgPoolGrad", np.int32(X.shape), g, **attrs)
    np.testing.assert_allclose((back * X).sum(), (want * g).sum(), atol=1e-9)
    largest, at = run("MaxPoolWithArgmax", X, **attrs)
    np.testing.assert_array_equal(X.reshape(2, -1)[np.arange(2)[:, None, None, None], at], largest)
    back = run("MaxPoolGrad", X, largest, g, **attrs)
    np.testing.assert_allclose((back * X).sum(), (largest * g).sum(), atol=1e-9)
    np.testing.assert_array_equal(run("MaxPoolGradGrad", X, largest, X, **attrs), largest)
    np.testing.assert_allclose(run("MaxPoolGradWithArgmax", X, g, at, **attrs), back, atol=1e-12)


def test_the_first_of_equal_elements_wins_and_nan_counts_for_nothing() -> None:
    x = np.array([[1, NAN, 2, 2], [0, 3, NAN, NAN], [NAN] * 4, [5, 5, NAN, NAN]], np.float32).reshape(1, 4, 4, 1)
    attrs = {"ksize": (1, 2, 2, 1), "strides": (1, 2, 2, 1), "padding": b"VALID"}
    lowest = np.finfo(np.float32).min
    y = run("MaxPool", x, **attrs)
    np.testing.assert_array_equal(y.ravel(), [3, 2, 5, lowest])
    g = np.arange(1, 5, dtype=np.float32).reshape(1, 2, 2, 1)
    back = run("MaxPoolGrad", x, y, g, **attrs).reshape(4, 4)
    np.testing.assert_array_equal(back, [[0, 0, 2, 0], [0, 1, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]])
    every = run("MaxPool3DGrad", np.zeros((1, 1, 2, 2, 1), np.float32), np.zeros((1, 1, 1, 1, 1), np.float32),
                np.ones((1, 1, 1, 1, 1), np.float32), ksize=(1, 1, 2, 2, 1), strides=(1,) * 5, padding=b"VALID")  # fmt: skip
    np.testing.assert_array_equal(every.ravel(), [1, 1, 1, 1])


def test_pooling_across_channels() -> None:
    attrs = {"ksize": (1, 1, 1, 3), "strides": (1, 1, 1, 3), "padding": b"VALID"}
    np.testing.assert_array_equal(run("MaxPool", X, **attrs)[..., 0], X.max(-1))
    y = run("MaxPool", X, **attrs)
    assert "depth dimension" in str(failing("MaxPoolGrad", X, y, y, **attrs))
    over = failing("MaxPool", X, ksize=(1, 2, 1, 3), strides=(1, 1, 1, 3), padding=b"VALID")
    assert "exactly one of pooling across depth" in str(over) and over.code == UNIMPLEMENTED


def test_batch_normalisation_figures() -> None:
    x = np.random.RandomState(0).randn(2, 2, 2, 2).astype(np.float32)
    scale, offset, empty = np.float32([1, 2]), np.float32([0.5, 1]), np.zeros(0, np.float32)
    y, mean, unbiased, kept, variance, _ = run("FusedBatchNormV3", x, scale, offset, empty, empty)
    np.testing.assert_allclose(mean, [0.85077035, 0.4790796], rtol=1e-6)
    np.testing.assert_allclose(unbiased, [0.49676636, 0.961888], rtol=1e-6)
    np.testing.assert_allclose(variance, [0.43467057, 0.84165204], rtol=1e-6)
    np.testing.assert_array_equal(kept, mean)
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(variance + 1e-4) * scale + offset, atol=1e-6)
    old = np.float32([0.1, 0.2]), np.float32([1, 3])
    blended = run("FusedBatchNormV3", x, scale, offset, *old, exponential_avg_factor=0.5)
    np.testing.assert_allclose(blended[1], [0.4753852, 0.3395398], rtol=1e-6)
    np.testing.assert_allclose(blended[2], [0.7483832, 1.980944], rtol=1e-6)
    told = run("FusedBatchNorm", x, scale, offset, *old, is_training=False)
    np.testing.assert_allclose(told[0], (x - old[0]) / np.sqrt(old[1] + 1e-4) * scale + offset, atol=1e-6)
    first = np.moveaxis(x, -1, 1).copy()
    swapped = run("FusedBatchNormV3", first, scale, offset, empty, empty, data_format=b"NCHW")
    np.testing.assert_allclose(np.moveaxis(swapped[0], 1, -1), y, atol=1e-6)


def test_neighbouring_channels() -> None:
    x = RNG.standard_normal((1, 2, 2, 6)).astype(np.float32)
    sums = np.stack([(x[..., max(c - 2, 0) : c + 3] ** 2).sum(-1) for c in range(6)], -1)
    got = run("LRN", x, depth_radius=2, bias=1.5, alpha=0.3, beta=0.7)
    np.testing.assert_allclose(got, x / (1.5 + 0.3 * sums) ** 0.7, rtol=1e-5)


def test_dilation_of_grey_images() -> None:
    x, kernel = X.astype(np.float32), RNG.standard_normal((2, 2, 3)).astype(np.float32)
    attrs = {"strides": (1, 2, 1, 1), "rates": (1, 1, 2, 1), "padding": b"VALID"}
    got = run("Dilation2D", x, kernel, **attrs)
    parts = [x[:, a : a + 5 : 2, 2 * b : 2 * b + 3] + kernel[a, b] for a in range(2) for b in range(2)]
    np.testing.assert_array_equal(got, np.max(parts, 0))
    g = RNG.standard_normal(got.shape).astype(np.float32)
    totals = [run(f"Dilation2DBackprop{to}", x, kernel, g, **attrs).sum() for to in ("Input", "Filter")]
    np.testing.assert_allclose(totals, [g.sum()] * 2, rtol=1e-4)


MISTAKES = [
    ("Conv2D", (X, K[:, :, :2]), attrs_of((1, 1), "SAME"), "input depth must be evenly divisible by filter depth: 3 vs 2"),
    ("Conv2D", (X[0], K), attrs_of((1, 1), "SAME"), "Shape must be rank 4 but is rank 3"),
    ("Conv2D", (X, K[0]), attrs_of((1, 1), "SAME"), "Shape must be rank 4 but is rank 3"),
    ("Conv2D", (X[:, :1], K), attrs_of((1, 1), "VALID"), "Computed output size would be negative: -1 [input_size: 1"),
    ("Conv2D", (X, K), attrs_of((0, 1), "SAME"), "Stride must be > 0, but got 0"),
    ("Conv2D", (X, K), attrs_of((1, 1), "SAME", (0, 1)), "Dilation rate must be >= 1, but got 0"),
    ("Conv2D", (X, K), {**attrs_of((1, 1), "SAME"), "strides": (2, 1, 1, 1)}, "strides in the batch and depth"),
    ("Conv2D", (X, K), {**attrs_of((1, 1), "SAME"), "strides": (1, 1, 1)}, "to contain 4 values, but got: 3"),
    ("Conv2D", (X, K), {**attrs_of((1, 1), "SAME"), "explicit_paddings": (0,) * 8}, "must be empty"),
    ("Conv2D", (X, K), attrs_of((1, 1), ((-1, 0), (0, 0))), "must be nonnegative"),
    ("Conv2DBackpropInput", (np.int32([2, 6, 5, 3]), K, X), attrs_of((1, 1), "SAME"), "out_depth"),
    ("Conv2DBackpropInput", (np.int32([2, 6, 5]), K, X), attrs_of((1, 1), "SAME"), "to contain 4 values or 2 values"),
    ("Conv2DBackpropFilter", (X, np.int32(K.shape), K), attrs_of((1, 1), "SAME"), "same batch size"),
    ("DepthwiseConv2dNative", (X, K[:, :, :2]), attrs_of((1, 1), "SAME"), "input and filter must have the same depth: 3 vs 2"),
    ("MaxPool", (X,), {"ksize": (2, 1, 1, 1), "strides": (1,) * 4, "padding": b"SAME"}, "on the batch dimension"),
    ("MaxPool", (X,), {"ksize": (1, 0, 1, 1), "strides": (1,) * 4, "padding": b"SAME"}, "ksize must be positive"),
    ("MaxPoolGrad", (X, X, X), {"ksize": (1, 2, 2, 1), "strides": (1,) * 4, "padding": b"VALID"}, "Expected orig_output shape to be [2,5,4,3], but got [2,6,5,3]"),
    ("FusedBatchNorm", (np.float32(X), *[np.ones(4, np.float32)] * 4), {}, "same number of elements as the channels of x, got 4 and 3"),
    ("LRN", (np.float32(X[0]),), {}, "Shape must be rank 4 but is rank 3"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arrays", "attrs", "text"), MISTAKES)
def test_mistakes(name: str, arrays: Any, attrs: dict[str, Any], text: str) -> None:
    assert text in str(failing(name, *arrays, **attrs))


def test_attrs_have_the_defaults_that_graphs_leave_out() -> None:
    found = {attr.name: attr.default for attr in opdef.registered()["Conv2D"].attrs if attr.optional}
    assert found == {"use_cudnn_on_gpu": True, "explicit_paddings": (), "data_format": b"NHWC", "dilations": (1, 1, 1, 1)}
