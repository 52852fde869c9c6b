"""Convolution and pooling as generated code, against the references."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from native_steps import Refused, build, check, native

from stepjit_compiler.interpret import interpret
from stepjit_runtime import dtypes

RNG = np.random.default_rng(5)


def normal(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


def ties(*shape: int) -> np.ndarray:
    return RNG.integers(0, 3, shape).astype(np.float32)


def conv_attrs(strides: Any = (1, 1), padding: Any = b"SAME", rates: Any = (1, 1), layout: bytes = b"NHWC") -> Any:
    def around(pair: Any) -> Any:
        return (1, 1, *pair) if layout == b"NCHW" else (1, *pair, 1)

    return {"strides": around(strides), "dilations": around(rates), "padding": padding, "data_format": layout}


def three(attrs: Any, image: np.ndarray, kernel: np.ndarray, kind: str = "Conv2D") -> tuple[list[np.ndarray], Any]:
    """A convolution of the image and both gradients of its square."""
    names = {"Conv3D": ("Conv3DBackpropInputV2", "Conv3DBackpropFilterV2")}
    to_image, to_filter = names.get(kind, (f"{kind}BackpropInput", f"{kind}BackpropFilter"))

    # The filter is fed in a dimension of 1, which is no symbol.
    def make(b: Any, x: Any, fed: Any) -> list[Any]:
        k = b.op("Reshape", fed, b.const(kernel.shape, dtypes.int32))
        y = b.op(kind, x, k, **attrs)
        sizes = b.op("Shape", x), b.const(kernel.shape, dtypes.int32)
        return [y, b.op(to_image, sizes[0], k, y, **attrs), b.op(to_filter, x, sizes[1], y, **attrs)]

    return [image, kernel[None]], make


VOLUMES = {"strides": (1, 2, 1, 2, 1), "dilations": (1,) * 5, "padding": b"SAME", "data_format": b"NDHWC"}

CONVOLUTIONS: dict[str, tuple[list[np.ndarray], Callable[..., Any]]] = {
    "same": three(conv_attrs(), normal(3, 7, 9, 5), normal(3, 3, 5, 17)),
    "one channel": three(conv_attrs(padding=b"VALID"), normal(2, 9, 8, 1), normal(5, 5, 1, 6)),
    "doubles": three(conv_attrs((2, 1)), normal(2, 6, 5, 3, dtype=np.float64), normal(3, 2, 3, 10, dtype=np.float64)),
    "strides": three(conv_attrs((2, 3)), normal(2, 9, 11, 4), normal(3, 4, 4, 8)),
    "strides leave a rest": three(conv_attrs((3, 2), b"VALID"), normal(2, 9, 10, 4), normal(2, 3, 4, 24)),
    "dilated": three(conv_attrs((1, 1), b"SAME", (2, 3)), normal(2, 8, 9, 3), normal(3, 2, 3, 33)),
    "explicit": three(
        conv_attrs(padding=b"EXPLICIT") | {"explicit_paddings": (0, 0, 1, 0, 0, 2, 0, 0)}, normal(2, 5, 6, 3),
        normal(3, 3, 3, 9),
    ),
    "channels first": three(conv_attrs((2, 2), layout=b"NCHW"), normal(2, 3, 7, 6), normal(3, 3, 3, 5)),
    "single pixels": three(conv_attrs(), normal(2, 4, 5, 6), normal(1, 1, 6, 12)),
    "single pixels apart": three(conv_attrs((2, 2)), normal(2, 5, 5, 6), normal(1, 1, 6, 12)),
    "one window a row": three(conv_attrs(padding=b"VALID"), normal(2, 4, 3, 8), normal(3, 3, 8, 40)),
    "many panels": three(conv_attrs(), normal(2, 4, 13, 16), normal(3, 3, 16, 70)),
    "volumes": three(VOLUMES, normal(2, 4, 5, 6, 2), normal(2, 3, 2, 2, 7), "Conv3D"),
    "groups": three(conv_attrs((1, 2)), normal(2, 6, 7, 12), normal(3, 2, 4, 27)),
    "groups of single channels": three(conv_attrs(padding=b"VALID"), normal(2, 6, 7, 3), normal(2, 3, 1, 6)),
    "few results": three(conv_attrs((2, 1)), normal(2, 7, 9, 16), normal(3, 3, 16, 3)),
    "a large image from few channels": three(conv_attrs((3, 2)), normal(2, 10, 9, 3), normal(5, 5, 3, 16)),
    "strides beyond the filter": three(conv_attrs((3, 4), b"VALID"), normal(2, 10, 9, 3), normal(2, 1, 3, 9)),
    "strides and rates": three(conv_attrs((2, 3), b"VALID", (3, 2)), normal(2, 11, 12, 3), normal(3, 4, 3, 8)),
    "more padding than filter": three(
        conv_attrs((2, 1), padding=b"EXPLICIT") | {"explicit_paddings": (0, 0, 4, 1, 5, 0, 0, 0)}, normal(2, 5, 6, 3),
        normal(2, 3, 3, 9),
    ),
    "depthwise": three(conv_attrs((2, 2)), normal(2, 6, 7, 9), normal(3, 2, 9, 1), "DepthwiseConv2dNative"),
    "depthwise columns": three(
        conv_attrs((1, 1), b"VALID", (1, 2)), normal(2, 6, 7, 3), normal(2, 3, 3, 2), "DepthwiseConv2dNative"
    ),
    "depthwise vectors": three(conv_attrs((2, 1)), normal(2, 6, 7, 27), normal(3, 3, 27, 3), "DepthwiseConv2dNative"),
    "depthwise many places": three(conv_attrs((2, 2)), normal(2, 9, 9, 3), normal(8, 7, 3, 2), "DepthwiseConv2dNative"),
    "depthwise many columns": three(conv_attrs(), normal(2, 5, 6, 3), normal(3, 3, 3, 9), "DepthwiseConv2dNative"),
}  # fmt: skip


def pooled(sizes: Any, strides: Any, padding: bytes, image: np.ndarray, kind: str = "Max", layout: bytes = b"NHWC") -> Any:
    """Pooling of the image and the gradient of half its square, and for the largest also its gradient."""

    def around(pair: Any) -> Any:
        return (1, 1, *pair) if layout.startswith(b"NC") else (1, *pair, 1)

    attrs = {"ksize": around(sizes), "strides": around(strides), "padding": padding, "data_format": layout}
    space = "3D" if len(sizes) == 3 else ""

    def make(b: Any, x: Any) -> list[Any]:
        y = b.op(f"{kind}Pool{space}", x, **attrs)
        if kind == "Avg":
            return [y, b.op(f"AvgPool{space}Grad", b.op("Shape", x), y, **attrs)]
        back = b.op(f"MaxPool{space}Grad", x, y, y, **attrs)
        found = [y, back, b.op(f"MaxPool{space}GradGrad", x, y, back, **attrs)]
        return found if space or layout == b"NCHW" else [*found, *b.op(
            "MaxPoolWithArgmax", x, ksize=attrs["ksize"], strides=attrs["strides"], padding=padding)]  # fmt: skip

    return [image], make


POOLS = {
    "max 2x2": pooled((2, 2), (2, 2), b"VALID", ties(3, 6, 7, 5)),
    "max overlapping": pooled((3, 2), (1, 2), b"SAME", ties(2, 7, 6, 9)),
    "max far apart": pooled((2, 2), (3, 3), b"SAME", ties(2, 8, 7, 3)),
    "max channels first": pooled((2, 3), (2, 1), b"SAME", ties(2, 4, 6, 7), layout=b"NCHW"),
    "max volumes": pooled((2, 3, 2), (2, 1, 2), b"SAME", ties(2, 4, 5, 4, 3)),
    "mean 2x2": pooled((2, 2), (2, 2), b"VALID", normal(3, 6, 7, 5), "Avg"),
    "mean overlapping": pooled((3, 3), (2, 1), b"SAME", normal(2, 7, 6, 9), "Avg"),
    "mean doubles": pooled((3, 2), (2, 2), b"SAME", normal(2, 5, 5, 4, dtype=np.float64), "Avg"),
    "mean of all": pooled((7, 6), (1, 1), b"VALID", normal(2, 7, 6, 9), "Avg"),
    "mean beyond all": pooled((9, 5), (2, 9), b"SAME", normal(2, 4, 8, 3), "Avg"),
    "max beyond all": pooled((9, 5), (2, 9), b"SAME", ties(2, 4, 8, 3)),
    "mean volumes": pooled((2, 3, 2), (2, 1, 2), b"SAME", normal(2, 4, 5, 4, 3), "Avg"),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str) -> None:
    check(*CONVOLUTIONS[name], symbolic=True, rtol=1e-4)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_of_images_of_any_size(name: str) -> None:
    """One program for all heights and widths; rows of many lengths, so that tiles leave every rest."""
    (image, kernel), make = CONVOLUTIONS[name]
    first, channels = (2, 1) if name == "channels first" else (1, image.ndim - 1)
    space = range(first, first + image.ndim - 2)
    step = build([image, kernel], make, True, space)
    call = native(step)
    for more in (0, 1, 5):
        shape = [extent + more * (axis in space) for axis, extent in enumerate(image.shape)]
        assert shape[channels] == image.shape[channels]
        x = normal(*shape, dtype=image.dtype)
        want, _ = interpret(step, [x, kernel], [])
        for found, wanted in zip(call(x, kernel), want, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


def test_windows_that_just_do_not_fit_make_no_result() -> None:
    """A kernel refuses windows only when the image lacks more than a stride; until then there are none."""
    def make(b: Any, x: Any, k: Any) -> Any:
        fixed = b.op("Reshape", k, b.const((3, 3, 2, 4), dtypes.int32))
        return b.op("Conv2D", x, fixed, **conv_attrs(padding=b"VALID"))

    kernel = normal(1, 3, 3, 2, 4)
    call = native(build([normal(2, 5, 5, 2), kernel], make, True, (1, 2)))
    assert call(normal(2, 2, 5, 2), kernel)[0].shape == (2, 0, 3, 4)
    with pytest.raises(Refused):
        call(normal(2, 4, 0, 2), kernel)


def test_whole_numbers() -> None:
    x, k = (RNG.integers(-9, 9, shape).astype(np.int32) for shape in ((2, 5, 6, 3), (1, 3, 2, 3, 4)))

    def make(b: Any, x: Any, k: Any) -> Any:
        return b.op("Conv2D", x, b.op("Reshape", k, b.const((3, 2, 3, 4), dtypes.int32)), **conv_attrs((1, 2)))

    check([x, k], make, symbolic=True)


@pytest.mark.parametrize("name", POOLS)
def test_pooling_of_images_of_any_size(name: str) -> None:
    (image,), make = POOLS[name]
    first = 2 if name == "max channels first" else 1
    check([image], make, symbolic=True, rtol=1e-5, space=range(first, first + image.ndim - 2))


@pytest.mark.parametrize("name", POOLS)
def test_pooling(name: str) -> None:
    check(*POOLS[name], symbolic=True, rtol=1e-5)


def test_batches_whose_size_is_a_number() -> None:
    check(*CONVOLUTIONS["same"], rtol=1e-4)
    check(*POOLS["max overlapping"])


def test_one_program_for_all_batch_sizes() -> None:
    arrays, make = CONVOLUTIONS["same"]
    step = build(arrays, make, True)
    call = native(step)
    for batch in (0, 2, 5):
        x = normal(batch, 7, 9, 5)
        want, _ = interpret(step, [x, arrays[1]], [])
        for found, wanted in zip(call(x, arrays[1]), want, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_what_follows_is_computed_in_the_tiles() -> None:
    """Bias and activation join the convolution's kernel."""
    from stepjit_compiler.passes.analyse import analyse
    from stepjit_compiler.passes.fuse import fuse
    from stepjit_compiler.passes.simplify import simplify

    x, k, bias, other = normal(2, 6, 6, 3), normal(3, 3, 3, 20), normal(20), normal(2, 6, 6, 20)

    def make(b: Any, x: Any, k: Any, bias: Any, other: Any) -> Any:
        y = b.op("BiasAdd", b.op("Conv2D", x, k, **conv_attrs()), bias)
        return b.op("AddV2", b.op("Relu", y), other)

    check([x, k, bias, other], make, rtol=1e-4)
    step = simplify(build([x, k, bias, other], make, False))
    kernels = fuse(step, analyse(step))
    assert [kernel.kind for kernel in kernels] == ["assemble", "product"]
    assert {step.nodes[i].op for i in kernels[1].nodes} == {"_Conv", "AddV2", "Relu"}


def test_nan_and_infinity_pass_through_as_in_the_reference() -> None:
    x = np.array([[1, np.nan, 2, 2], [0, 3, np.nan, np.nan], [np.nan] * 4, [5, 5, np.nan, -np.inf]], np.float32)
    check(*pooled((2, 2), (2, 2), b"VALID", x.reshape(1, 4, 4, 1)))
    check(*pooled((3, 3), (1, 1), b"SAME", x.reshape(1, 4, 4, 1)))


def test_batch_normalisation() -> None:
    x, scale, offset, mean, spread = normal(3, 4, 5, 6), normal(6), normal(6), normal(6), np.abs(normal(6))
    for training in (True, False):
        def make(b: Any, *inputs: Any, training: bool = training) -> Any:
            found = b.op("FusedBatchNormV3", *inputs, is_training=training, exponential_avg_factor=0.25)
            back = b.op("FusedBatchNormGradV3", found[0], inputs[0], inputs[1], *inputs[3:], b.const(0, dtypes.float32),
                        is_training=training)  # fmt: skip
            return [*found, *back[:3]]

        check([x, scale, offset, mean, spread], make, rtol=1e-4)
    check([x], lambda b, x: b.op("LRN", x, depth_radius=2, alpha=0.4, beta=0.75), rtol=1e-4)
