"""Windows that slide along the axes of images and volumes: how many there are, and where each one stands."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stepjit_compiler import dims
from stepjit_compiler.dims import Extent
from stepjit_compiler.opdef import Inference, extent_text
from stepjit_runtime.errors import INVALID_ARGUMENT, UNIMPLEMENTED

CONV_ATTRS = (
    "strides: list(int), use_cudnn_on_gpu: bool = True, padding: string in SAME|VALID|EXPLICIT, "
    "explicit_paddings: list(int) = [], data_format: string in NHWC|NCHW = NHWC, dilations: list(int) = [1, 1, 1, 1]"
)
CONV3D_ATTRS = (
    "strides: list(int), padding: string in SAME|VALID, data_format: string in NDHWC|NCDHW = NDHWC, "
    "dilations: list(int) = [1, 1, 1, 1, 1]"
)


@dataclass(frozen=True)
class Slide:
    """Windows along one axis: `size` elements, `rate` apart; `count` windows, `stride` apart.

    The first one begins `before` elements ahead of the axis. In shape rules, what follows from an unknown extent is
    None; everywhere else extents are known.
    """

    axis: int
    extent: Any
    size: Any
    stride: int
    rate: int
    count: Any
    before: Any
    within: bool = False
    """Whether no window reaches beyond the axis, though that may not show in the expressions."""

    @property
    def span(self) -> Any:
        """How far a window reaches."""
        return (self.size - 1) * self.rate + 1

    @property
    def reach(self) -> Any:
        """How many elements all windows together cover, padding included."""
        return (self.count - 1) * self.stride + self.span

    @property
    def after(self) -> Any:
        """How many elements of padding the last window needs."""
        if self.within:
            return 0
        return dims.maximum(self.reach - self.before - self.extent, 0)


def channel_axis(attrs: Mapping[str, Any], rank: int) -> int:
    """The axis of channels: the last, or the second by attr `data_format`."""
    return 1 if attrs.get("data_format", b"NHWC")[1:2] == b"C" else rank - 1


def spatial_axes(attrs: Mapping[str, Any], rank: int) -> tuple[int, ...]:
    """The axes that are neither batch nor channels."""
    channel = channel_axis(attrs, rank)
    return tuple(axis for axis in range(1, rank) if axis != channel)


def slides(x: Any, shape: Sequence[Any], sizes: Mapping[int, Any], strides: Sequence[int]) -> tuple[Slide, ...]:
    """The windows of `sizes[axis]` along axes of a shape, by attrs padding, dilations and explicit_paddings.

    `x` is an Inference or a Call; windows that do not fit fail.
    """
    found = []
    for axis, size in sizes.items():
        rate = x.attrs.get("dilations", x.attrs.get("rates", (1,) * len(shape)))[axis]
        margins = x.attrs["explicit_paddings"][2 * axis : 2 * axis + 2] if x.attrs["padding"] == b"EXPLICIT" else None
        found.append(_slide(x, axis, shape[axis], size, strides[axis], rate, margins))
    return tuple(found)


def windows_of(x: Any, image: Sequence[Any], kernel: Sequence[Any]) -> tuple[Slide, ...]:
    """The windows of a filter of that shape over an image."""
    return slides(x, image, dict(zip(spatial_axes(x.attrs, len(image)), kernel)), x.attrs["strides"])


def unpadded(attrs: Mapping[str, Any], sizes: Sequence[int], counts: Sequence[Any]) -> tuple[Slide, ...]:
    """`counts` windows along axes 1, 2 ... of an image that needs no padding; attrs have one number for each."""
    numbers = zip(sizes, attrs["strides"], attrs["dilations"], counts, strict=True)
    return tuple(Slide(k + 1, None, size, stride, rate, count, 0)
                 for k, (size, stride, rate, count) in enumerate(numbers))  # fmt: skip


def _slide(x: Any, axis: int, extent: Any, size: Any, stride: int, rate: int, margins: Any) -> Slide:
    if x.attrs["padding"] == b"SAME":
        if extent is None:
            return Slide(axis, extent, size, stride, rate, None, None)
        count = (extent + (stride - 1)) // stride
        before = None
        if size is not None:
            before = dims.maximum((count - 1) * stride + (size - 1) * rate + 1 - extent, 0) // 2
        return Slide(axis, extent, size, stride, rate, count, before)
    before, after = margins or (0, 0)
    if extent is None or size is None:
        return Slide(axis, extent, size, stride, rate, None, before)
    whole, span = extent + before + after, (size - 1) * rate + 1
    _check_fit(x, extent, whole, span, stride)
    return Slide(axis, extent, size, stride, rate, (whole - span) // stride + 1, before, not (before or after))


def _check_fit(x: Any, extent: Extent, whole: Extent, span: Extent, stride: int) -> None:
    """While most graphs are built, windows beyond the padded image fail; later, those that a kernel refuses."""
    if isinstance(x, Inference) and x.building and not x.op.startswith("Dilation2D"):
        x.check("ge", whole, span, f"Negative dimension size caused by subtracting {extent_text(span)} from "
                                   f"{extent_text(whole)}")  # fmt: skip
        return
    count = -((span - whole - stride) // stride)
    message = (
        f"Computed output size would be negative: {extent_text(count)} [input_size: {extent_text(extent)}, "
        f"effective_filter_size: {extent_text(span)}, stride: {stride}]"
    )
    if isinstance(x, Inference):
        x.check("ge", whole, span - stride, message)
    elif isinstance(whole, int) and isinstance(span, int) and whole < span - stride:
        x.fail(message)


def check_window_attrs(x: Any, rank: int) -> None:
    """Fail for strides, dilations and explicit paddings that no input could have."""
    strides, rates = x.attrs["strides"], x.attrs.get("dilations", (1,) * rank)
    channel = channel_axis(x.attrs, rank)
    for name, numbers in (("stride", strides), ("dilation", rates)):
        if len(numbers) != rank:
            x.fail(
                f"{x.op if isinstance(x, Inference) else x.name} requires the {name} attribute to contain {rank} "
                f"values, but got: {len(numbers)}"
            )
    for number in strides:
        if number <= 0:
            x.fail(f"Stride must be > 0, but got {number}")
    for number in rates:
        if number <= 0:
            x.fail(f"Dilation rate must be >= 1, but got {number}")
    if not isinstance(x, Inference):
        for name, numbers in (("strides", strides), ("dilations", rates)):
            if numbers[0] != 1 or numbers[channel] != 1:
                code = UNIMPLEMENTED if x.name.startswith("Conv2D") else INVALID_ARGUMENT
                x.fail(f"Current implementation does not yet support {name} in the batch and depth dimensions.", code)
    check_explicit(x, rank)


def check_explicit(x: Any, rank: int) -> None:
    """Fail for explicit paddings that are too many, too few, negative, or not along the space of the image."""
    explicit = x.attrs.get("explicit_paddings", ())
    if x.attrs["padding"] != b"EXPLICIT":
        if explicit:
            x.fail("explicit_paddings attribute must be empty if the padding attribute is not EXPLICIT")
        return
    if len(explicit) != 2 * rank:
        x.fail(f"explicit_paddings attribute must contain {2 * rank} values, but got: {len(explicit)}")
    if min(explicit) < 0:
        x.fail("All elements of explicit_paddings must be nonnegative")
    for axis in (0, channel_axis(x.attrs, rank)):
        if explicit[2 * axis] or explicit[2 * axis + 1]:
            x.fail("Nonzero explicit padding in the batch or depth dimensions is not supported")


# --- numpy ---


def padded(x: np.ndarray, windows: Sequence[Slide], value: Any = 0) -> np.ndarray:
    """x with as much of `value` around it as the windows reach beyond it."""
    widths = [(0, 0)] * x.ndim
    for each in windows:
        widths[each.axis] = (each.before, each.after)
    return np.pad(x, widths, constant_values=value) if any(map(any, widths)) else x


def taps(windows: Sequence[Slide]) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """(place in the window, what a padded input holds there for all windows) for each place, row by row."""
    for place in itertools.product(*(range(each.size) for each in windows)):
        cut: dict[int, slice] = {}
        for at, each in zip(place, windows, strict=True):
            first = at * each.rate
            cut[each.axis] = slice(first, first + max((each.count - 1) * each.stride + 1, 0), each.stride)
        yield place, tuple(cut.get(axis, slice(None)) for axis in range(max(cut, default=-1) + 1))


def inside(x: np.ndarray, windows: Sequence[Slide]) -> np.ndarray:
    """What of a padded array is not padding."""
    cut = [slice(None)] * x.ndim
    for each in windows:
        cut[each.axis] = slice(each.before, each.before + each.extent)
    return x[tuple(cut)]


def channels_last(x: np.ndarray, attrs: Mapping[str, Any]) -> np.ndarray:
    """A view with the channels as the last axis."""
    return np.moveaxis(x, 1, -1) if channel_axis(attrs, x.ndim) == 1 else x


def in_order(windows: Sequence[Slide]) -> tuple[Slide, ...]:
    """The windows along axes 1, 2 ...: where `channels_last` puts space."""
    return tuple(replace(each, axis=k + 1) for k, each in enumerate(windows))


def channels_back(x: np.ndarray, attrs: Mapping[str, Any]) -> np.ndarray:
    """The reverse of `channels_last`."""
    return np.ascontiguousarray(np.moveaxis(x, -1, 1)) if channel_axis(attrs, x.ndim) == 1 else x


def wide(x: np.ndarray) -> np.ndarray:
    """x in the dtype that sums are kept in: float32 for floats of 16 bits."""
    return x.astype(np.float32) if x.dtype.kind not in "iub" and x.dtype.itemsize == 2 else x
