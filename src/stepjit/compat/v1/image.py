"""tf.image."""

# ruff: noqa: F401, I001

from __future__ import annotations

from stepjit.ops.image_boxes import (
    combined_non_max_suppression, crop_and_resize, draw_bounding_boxes, non_max_suppression,
    non_max_suppression_overlaps, non_max_suppression_padded, non_max_suppression_with_scores,
    sample_distorted_bounding_box,
)  # fmt: skip
from stepjit.ops.image_color import (
    adjust_brightness, adjust_contrast, adjust_gamma, adjust_hue, adjust_saturation, convert_image_dtype,
    grayscale_to_rgb, hsv_to_rgb, per_image_standardization, random_brightness, random_contrast, random_hue,
    random_saturation, rgb_to_grayscale, rgb_to_hsv, rgb_to_yiq, rgb_to_yuv, yiq_to_rgb, yuv_to_rgb,
)  # fmt: skip
from stepjit.ops.image_crop import (
    central_crop, crop_to_bounding_box, pad_to_bounding_box, random_crop, resize_image_with_crop_or_pad,
)  # fmt: skip
from stepjit.ops.image_files import decode_image, decode_png, encode_png
from stepjit.ops.image_quality import (
    image_gradients, psnr, sobel_edges, ssim, ssim_multiscale, total_variation,
)  # fmt: skip
from stepjit.ops.image_resize import (
    resize_area, resize_bicubic, resize_bilinear, resize_image_with_pad, resize_images, resize_nearest_neighbor,
    ResizeMethod,
)  # fmt: skip
from stepjit.ops.image_turn import (
    flip_left_right, flip_up_down, random_flip_left_right, random_flip_up_down, rot90, transpose_image,
)  # fmt: skip
from stepjit.ops.positions import extract_image_patches

extract_patches = extract_image_patches
resize = resize_images
resize_with_crop_or_pad = resize_image_with_crop_or_pad
transpose = transpose_image
