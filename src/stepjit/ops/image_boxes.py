"""tf.image: boxes cut out, drawn, drawn at random, and chosen from; in TF1's signatures, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.registry import NotDifferentiable, RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.array import shape
from stepjit.ops.reductions import either

Grads = Sequence[Any]


def crop_and_resize(
    image: Any, boxes: Any, box_ind: Any = None, crop_size: Any = None, method: str = "bilinear",
    extrapolation_value: float = 0, name: str | None = None, box_indices: Any = None,
) -> Tensor:  # fmt: skip
    """The boxes (y1, x1, y2, x2; 0 to 1) cut out of images `box_ind`, each resized to `crop_size`, as float32."""
    return apply_op(
        "CropAndResize", image=image, boxes=boxes, box_ind=either("box_indices", box_indices, "box_ind", box_ind),
        crop_size=crop_size, method=method, extrapolation_value=extrapolation_value, name=name,
    )  # fmt: skip


@RegisterGradient("CropAndResize")
def _crop_grad(op: Operation, grad: Tensor) -> Grads:
    image, boxes, owners, _ = op.inputs
    by_image = None
    if image.dtype.is_floating:
        by_image = apply_op(
            "CropAndResizeGradImage", grads=grad, boxes=boxes, box_ind=owners, image_size=shape(image),
            T=image.dtype.base_dtype, method=op.attrs["method"],
        )  # fmt: skip
    by_boxes = apply_op("CropAndResizeGradBoxes", grads=grad, image=image, boxes=boxes, box_ind=owners)
    return [by_image, by_boxes, None, None]


def draw_bounding_boxes(images: Any, boxes: Any, name: str | None = None, colors: Any = None) -> Tensor:
    """Images [batch, height, width, channels] with the outlines of boxes [batch, boxes, 4] drawn in, by `colors`."""
    if colors is None:
        return apply_op("DrawBoundingBoxes", images=images, boxes=boxes, name=name)
    return apply_op("DrawBoundingBoxesV2", images=images, boxes=boxes, colors=colors, name=name)


def sample_distorted_bounding_box(
    image_size: Any, bounding_boxes: Any, seed: int | None = None, seed2: int | None = None,
    min_object_covered: Any = 0.1, aspect_ratio_range: Sequence[float] | None = None,
    area_range: Sequence[float] | None = None, max_attempts: int | None = None,
    use_image_if_no_bounding_boxes: bool | None = None, name: str | None = None,
) -> list[Tensor]:  # fmt: skip
    """A random part of an image of size [height, width, channels] that shows enough of one of the boxes.

    Gives what `tf.slice` needs, begin and size, and the part as a box [1, 1, 4]; the whole image when no attempt
    succeeds.
    """
    with name_scope(name, "sample_distorted_bounding_box"):
        return apply_op(
            "SampleDistortedBoundingBoxV2", image_size=image_size, bounding_boxes=bounding_boxes,
            min_object_covered=min_object_covered, seed=seed, seed2=seed2,
            aspect_ratio_range=aspect_ratio_range, area_range=area_range, max_attempts=max_attempts,
            use_image_if_no_bounding_boxes=use_image_if_no_bounding_boxes, name=name,
        )  # fmt: skip


# --- Non-maximum suppression ---


def non_max_suppression(
    boxes: Any, scores: Any, max_output_size: Any, iou_threshold: Any = 0.5, score_threshold: Any = float("-inf"),
    name: str | None = None,
) -> Tensor:  # fmt: skip
    """Indices of boxes by falling score, without those that overlap a better one by more than `iou_threshold`."""
    with name_scope(name, "non_max_suppression"):
        return apply_op(
            "NonMaxSuppressionV3", boxes=boxes, scores=scores, max_output_size=max_output_size,
            iou_threshold=iou_threshold, score_threshold=score_threshold,
        )  # fmt: skip


def non_max_suppression_with_scores(
    boxes: Any, scores: Any, max_output_size: Any, iou_threshold: Any = 0.5, score_threshold: Any = float("-inf"),
    soft_nms_sigma: Any = 0.0, name: str | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`non_max_suppression`, and the scores; sigma above 0 lowers the scores of boxes that overlap better ones."""
    with name_scope(name, "non_max_suppression_with_scores"):
        indices, found, _ = apply_op(
            "NonMaxSuppressionV5", boxes=boxes, scores=scores, max_output_size=max_output_size,
            iou_threshold=iou_threshold, score_threshold=score_threshold, soft_nms_sigma=soft_nms_sigma,
            pad_to_max_output_size=False,
        )  # fmt: skip
        return indices, found


def non_max_suppression_padded(
    boxes: Any, scores: Any, max_output_size: Any, iou_threshold: Any = 0.5, score_threshold: Any = float("-inf"),
    pad_to_max_output_size: bool = False, name: str | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`non_max_suppression` filled up with zeros to `max_output_size` if asked for, and how many indices are valid."""
    with name_scope(name, "non_max_suppression_padded"):
        indices, count = apply_op(
            "NonMaxSuppressionV4", boxes=boxes, scores=scores, max_output_size=max_output_size,
            iou_threshold=iou_threshold, score_threshold=score_threshold,
            pad_to_max_output_size=pad_to_max_output_size,
        )  # fmt: skip
        return indices, count


def non_max_suppression_overlaps(
    overlaps: Any, scores: Any, max_output_size: Any, overlap_threshold: Any = 0.5,
    score_threshold: Any = float("-inf"), name: str | None = None,
) -> Tensor:  # fmt: skip
    """`non_max_suppression` by a square matrix that tells how much boxes overlap."""
    with name_scope(name, "non_max_suppression_overlaps"):
        return apply_op(
            "NonMaxSuppressionWithOverlaps", overlaps=overlaps, scores=scores, max_output_size=max_output_size,
            overlap_threshold=overlap_threshold, score_threshold=score_threshold,
        )  # fmt: skip


def combined_non_max_suppression(
    boxes: Any, scores: Any, max_output_size_per_class: Any, max_total_size: Any, iou_threshold: Any = 0.5,
    score_threshold: Any = float("-inf"), pad_per_class: bool = False, clip_boxes: bool = True,
    name: str | None = None,
) -> list[Tensor]:  # fmt: skip
    """Of each image the best boxes of all classes, classes suppressed one by one: boxes, scores, classes, counts."""
    with name_scope(name, "combined_non_max_suppression"):
        return apply_op(
            "CombinedNonMaxSuppression", boxes=boxes, scores=scores,
            max_output_size_per_class=max_output_size_per_class, max_total_size=max_total_size,
            iou_threshold=iou_threshold, score_threshold=score_threshold, pad_per_class=pad_per_class,
            clip_boxes=clip_boxes,
        )  # fmt: skip


for _kind in (
    *(f"NonMaxSuppression{suffix}" for suffix in ("", "V2", "V3", "V4", "V5", "WithOverlaps")),
    "CombinedNonMaxSuppression", "DrawBoundingBoxes", "DrawBoundingBoxesV2", "SampleDistortedBoundingBox",
    "SampleDistortedBoundingBoxV2",
):  # fmt: skip
    NotDifferentiable(_kind)
