"""tf.image."""

# ruff: noqa: F401

from __future__ import annotations

from stepjit.ops.image import (
    ResizeMethod,
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    central_crop,
    convert_image_dtype,
    crop_and_resize,
    crop_to_bounding_box,
    decode_image,
    decode_png,
    encode_png,
    flip_left_right,
    flip_up_down,
    grayscale_to_rgb,
    hsv_to_rgb,
    non_max_suppression,
    pad_to_bounding_box,
    per_image_standardization,
    resize_bilinear,
    resize_image_with_crop_or_pad,
    resize_images,
    resize_nearest_neighbor,
    rgb_to_grayscale,
    rgb_to_hsv,
    rot90,
    total_variation,
    transpose_image,
)  # fmt: skip
from stepjit.ops.positions import extract_image_patches

resize = resize_images
transpose = transpose_image
