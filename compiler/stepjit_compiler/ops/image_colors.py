"""Colours of images: hue, saturation and value; contrast."""

from __future__ import annotations

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define


# --- RGBToHSV, HSVToRGB ---
def _colours(x: Inference) -> list[ShapeLike]:
    shape = x.shape(0)
    if shape is not None and not shape:
        x.fail("input must be at least 1D: Shape must be at least rank 1 but is rank 0")
    if shape is not None and isinstance(shape[-1], int) and shape[-1] != 3:
        x.fail(f"input must have 3 channels: Dimension must be 3 but is {shape[-1]}")
    return [shape]


def _to_hsv(call: Call, images: np.ndarray) -> np.ndarray:
    red, green, blue = np.moveaxis(images.astype(np.promote_types(images.dtype, np.float32)), -1, 0)
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    with np.errstate(all="ignore"):
        saturation = np.where(value > 0, spread / value, 0)
        norm = 1 / (6 * spread)
        hue = np.where(red == value, norm * (green - blue), np.where(
            green == value, norm * (blue - red) + 2 / 6, norm * (red - green) + 4 / 6))  # fmt: skip
        hue = np.where(spread > 0, hue, 0)
        hue = hue + (hue < 0)
    return np.stack([hue, saturation, value], -1).astype(images.dtype)


def _to_rgb(call: Call, images: np.ndarray) -> np.ndarray:
    hue, saturation, value = np.moveaxis(images.astype(np.promote_types(images.dtype, np.float32)), -1, 0)
    turns = hue * 6
    parts = (np.abs(turns - 3) - 1, 2 - np.abs(turns - 2), 2 - np.abs(turns - 4))
    channels = [((1 - saturation) + saturation * np.clip(part, 0, 1)) * value for part in parts]
    return np.stack(channels, -1).astype(images.dtype)


define("RGBToHSV", "images: T -> output: T", "T: type in float = float32", infer=_colours, reference=_to_hsv)
define("HSVToRGB", "images: T -> output: T", "T: type in float = float32", infer=_colours, reference=_to_rgb)


# --- AdjustHue, AdjustSaturation, AdjustContrastv2 ---
def _adjusted_shape(x: Inference) -> list[ShapeLike]:
    shape = x.shape(0)
    if shape is not None and len(shape) < 3:
        x.fail(f"Shape must be at least rank 3 but is rank {len(shape)}: input must be at least 3-D")
    if x.op == "AdjustContrastv2":
        x.with_rank(1, 0)
    return [shape]


def _check_colours(call: Call, images: np.ndarray, amount: np.ndarray, name: str) -> None:
    if images.ndim < 3:
        call.fail(f"input must be at least 3-D, got shape {list(images.shape)}")
    if amount.ndim:
        call.fail(f"{name} must be scalar: {list(amount.shape)}")
    if images.shape[-1] != 3:
        call.fail(f"input must have 3 channels but instead has {images.shape[-1]} channels.")


def _turned_hue(call: Call, images: np.ndarray, delta: np.ndarray) -> np.ndarray:
    _check_colours(call, images, delta, "delta")
    with np.errstate(all="ignore"):
        hsv = _to_hsv(call, images.astype(np.float32))
        hsv[..., 0] = np.mod(hsv[..., 0] + delta, np.float32(1))
        return _to_rgb(call, hsv).astype(images.dtype)


def _scaled_saturation(call: Call, images: np.ndarray, scale: np.ndarray) -> np.ndarray:
    _check_colours(call, images, scale, "scale")
    with np.errstate(all="ignore"):
        hsv = _to_hsv(call, images.astype(np.float32))
        hsv[..., 1] = np.clip(hsv[..., 1] * scale, 0, 1)
        return _to_rgb(call, hsv).astype(images.dtype)


def _contrast(call: Call, images: np.ndarray, factor: np.ndarray) -> np.ndarray:
    if images.ndim < 3:
        call.fail(f"input must be at least 3-D, got shape {list(images.shape)}")
    if factor.ndim:
        call.fail(f"contrast_factor must be scalar: {list(factor.shape)}")
    x = images.astype(np.float32)
    with np.errstate(all="ignore"):
        mean = x.mean((-3, -2), keepdims=True)
        return ((x - mean) * factor + mean).astype(images.dtype)


for _name, _amount, _adjust in (
    ("AdjustHue", "delta", _turned_hue), ("AdjustSaturation", "scale", _scaled_saturation),
    ("AdjustContrastv2", "contrast_factor", _contrast),
):  # fmt: skip
    define(_name, f"images: T, {_amount}: float32 -> output: T", "T: type in float16|float32 = float32",
           infer=_adjusted_shape, reference=_adjust)  # fmt: skip
