"""Non-maximum suppression: the best of boxes that overlap."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, show

_LEAST = -np.inf


def _overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a box with others, whichever corners they are told by."""
    low, high = np.minimum(others[:, :2], others[:, 2:]), np.maximum(others[:, :2], others[:, 2:])
    first, last = np.minimum(box[:2], box[2:]), np.maximum(box[:2], box[2:])
    shared = np.maximum(np.minimum(high, last) - np.maximum(low, first), 0).prod(1)
    areas, own = (high - low).prod(1), (last - first).prod()
    with np.errstate(all="ignore"):
        return np.where((areas > 0) & (own > 0), shared / (areas + own - shared), 0)


def _select(
    scores: np.ndarray, overlaps: Callable[[int, Any], np.ndarray], most: int, limit: float, least: float = _LEAST,
    sigma: float = 0.0, symmetric: bool = True,
) -> tuple[list[int], list[float]]:  # fmt: skip
    """Boxes by falling score, and their scores, without those that overlap a better one by more than `limit`.

    overlaps: of one box with those of a list; `symmetric` where the other way round they are the same.
    sigma > 0 lowers the scores of boxes that overlap better ones.
    """
    if symmetric and sigma <= 0:
        chosen = _greedy(scores, overlaps, most, limit, least)
        if chosen is not None:
            return chosen, [float(scores[k]) for k in chosen]
    queue = [(-float(score), k, 0) for k, score in enumerate(scores) if score > least]
    heapq.heapify(queue)
    kept: list[int] = []
    found: list[float] = []
    while queue and len(kept) < most:
        negative, k, seen = heapq.heappop(queue)
        score, dropped = -negative, False
        if seen < len(kept):
            # The latest chosen ones first, as their weights are applied in that order.
            for overlap in overlaps(k, kept[seen:])[::-1]:
                weight = np.exp(np.float32(-0.5 / sigma) * overlap * overlap) if sigma > 0 else 1.0
                score = float(np.float32(score * (weight if overlap <= limit or sigma > 0 else 0.0)))
                dropped = sigma <= 0 and overlap > limit
                if dropped or score <= least:
                    break
        if dropped:
            continue
        if score == -negative:
            kept.append(k)
            found.append(score)
        elif score > least:
            heapq.heappush(queue, (-score, k, len(kept)))
    return kept, found


def _greedy(
    scores: np.ndarray, overlaps: Callable[[int, Any], np.ndarray], most: int, limit: float, least: float
) -> list[int] | None:
    """What `_select` keeps when no score is lowered: each one kept strikes out all after it that overlap it too much.

    None where an overlap is NaN, which lowers scores.
    """
    ranked = np.argsort(-scores.astype(np.float64), kind="stable")
    left = ranked[scores[ranked] > least]
    kept: list[int] = []
    while len(left) and len(kept) < most:
        kept.append(int(left[0]))
        shared = overlaps(kept[-1], left[1:])
        if np.isnan(shared).any():
            return None
        left = left[1:][shared <= limit]
    return kept


def _check(call: Call, boxes: np.ndarray, scores: np.ndarray, most: np.ndarray, limit: float) -> int:
    """How many boxes may be chosen; fails for arguments that don't fit."""
    if most.ndim:
        call.fail(f"max_output_size must be 0-D, got shape {show(most.shape)}")
    if int(most) < 0:
        call.fail("output size must be non-negative")
    if not 0 <= limit <= 1:
        call.fail("iou_threshold must be in [0, 1]")
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        call.fail(f"boxes must be 2-D with 4 columns, got shape {show(boxes.shape)}")
    if scores.shape != boxes.shape[:1]:
        call.fail("scores has incompatible shape")
    return int(most)


def _of_boxes(boxes: np.ndarray) -> Callable[[int, Any], np.ndarray]:
    wide = boxes.astype(np.float32)
    return lambda k, others: _overlaps(wide[k], wide[others])


# --- NonMaxSuppression, NonMaxSuppressionV2 to V5 ---
def _chosen_shape(x: Inference) -> list[ShapeLike]:
    boxes, scores = x.with_rank(0, 2), x.with_rank(1, 1)
    x.equal(boxes[0], scores[0], "scores has incompatible shape: Dimensions must be equal")
    if isinstance(boxes[1], int) and boxes[1] != 4:
        x.fail(f"Dimension must be 4 but is {boxes[1]}: boxes must have 4 columns")
    for k in range(2, x.count()):
        x.with_rank(k, 0)
    return [(None,)]


def _chosen(
    call: Call, boxes: np.ndarray, scores: np.ndarray, most: np.ndarray, overlap: np.ndarray | None = None,
    least: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    limit = float(call.attrs["iou_threshold"] if overlap is None else overlap)
    count = _check(call, boxes, scores, most, limit)
    kept, _ = _select(scores, _of_boxes(boxes), count, limit, _LEAST if least is None else float(least))
    return np.array(kept, np.int32)


_BOXES = "boxes: {0}, scores: {0}, max_output_size: int32"
_TYPES = "T: type in float16|float32 = float32, T_threshold: type in float16|float32 = float32"
_LIMITS = "iou_threshold: T_threshold, score_threshold: T_threshold"
define("NonMaxSuppression", f"{_BOXES.format('float32')} -> selected_indices: int32", "iou_threshold: float = 0.5",
       infer=_chosen_shape, reference=_chosen)  # fmt: skip
define("NonMaxSuppressionV2", f"{_BOXES.format('T')}, iou_threshold: T_threshold -> selected_indices: int32", _TYPES,
       infer=_chosen_shape, reference=_chosen)  # fmt: skip
define("NonMaxSuppressionV3", f"{_BOXES.format('T')}, {_LIMITS} -> selected_indices: int32",
       _TYPES, infer=_chosen_shape, reference=_chosen)  # fmt: skip


def _padded(call: Call, values: list[Any], most: int, dtype: Any) -> np.ndarray:
    fill = most - len(values) if call.attrs["pad_to_max_output_size"] else 0
    return np.array([*values, *[0] * fill], dtype)


def _padded_length(x: Inference) -> ShapeLike:
    _chosen_shape(x)
    most = (x.extents(2) or (None,))[0]
    return (most if x.attrs["pad_to_max_output_size"] else None,)


def _chosen_padded(
    call: Call, boxes: np.ndarray, scores: np.ndarray, most: np.ndarray, overlap: np.ndarray, least: np.ndarray
) -> tuple[np.ndarray, ...]:
    count = _check(call, boxes, scores, most, float(overlap))
    kept, _ = _select(scores, _of_boxes(boxes), count, float(overlap), float(least))
    return _padded(call, kept, count, np.int32), np.array(len(kept), np.int32)


define("NonMaxSuppressionV4", f"{_BOXES.format('T')}, {_LIMITS} -> selected_indices: int32, valid_outputs: int32",
       f"{_TYPES}, pad_to_max_output_size: bool = False",
       infer=lambda x: [_padded_length(x), ()], reference=_chosen_padded)  # fmt: skip


def _chosen_softly(
    call: Call, boxes: np.ndarray, scores: np.ndarray, most: np.ndarray, overlap: np.ndarray, least: np.ndarray,
    sigma: np.ndarray,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    if float(sigma) < 0:
        call.fail(f"soft_nms_sigma_val must be non-negative: {float(sigma):g}")
    count = _check(call, boxes, scores, most, float(overlap))
    kept, found = _select(scores, _of_boxes(boxes), count, float(overlap), float(least), float(sigma))
    return (
        _padded(call, kept, count, np.int32), _padded(call, found, count, scores.dtype), np.array(len(kept), np.int32),
    )  # fmt: skip


define("NonMaxSuppressionV5",
       f"{_BOXES.format('T')}, iou_threshold: T, score_threshold: T, soft_nms_sigma: T -> "
       "selected_indices: int32, selected_scores: T, valid_outputs: int32",
       "T: type in float16|float32 = float32, pad_to_max_output_size: bool = False",
       infer=lambda x: [_padded_length(x), _padded_length(x), ()], reference=_chosen_softly)  # fmt: skip


# --- NonMaxSuppressionWithOverlaps ---
def _chosen_of_overlaps(
    call: Call, overlaps: np.ndarray, scores: np.ndarray, most: np.ndarray, limit: np.ndarray, least: np.ndarray
) -> np.ndarray:
    if overlaps.ndim != 2 or overlaps.shape[0] != overlaps.shape[1]:
        call.fail("overlaps must be square")
    if scores.shape != overlaps.shape[:1]:
        call.fail("scores has incompatible shape")
    kept, _ = _select(
        scores, lambda k, others: overlaps[k, others], int(most), float(limit), float(least), symmetric=False
    )
    return np.array(kept, np.int32)


def _square_shape(x: Inference) -> list[ShapeLike]:
    rows, columns = x.with_rank(0, 2)
    x.equal(rows, columns, "overlaps must be square: Dimensions must be equal")
    x.equal(rows, x.with_rank(1, 1)[0], "scores has incompatible shape: Dimensions must be equal")
    return [(None,)]


define("NonMaxSuppressionWithOverlaps",
       "overlaps: float32, scores: float32, max_output_size: int32, overlap_threshold: float32, "
       "score_threshold: float32 -> selected_indices: int32",
       infer=_square_shape, reference=_chosen_of_overlaps)  # fmt: skip


# --- CombinedNonMaxSuppression: per class and image, then the best of all classes ---
def _combined_shape(x: Inference) -> list[ShapeLike]:
    boxes, scores = x.with_rank(0, 4), x.with_rank(1, 3)
    batch = x.equal(boxes[0], scores[0], "boxes and scores must have equal batch size: Dimensions must be equal")
    x.equal(boxes[1], scores[1], "boxes and scores must have equal numbers of boxes: Dimensions must be equal")
    total = (x.extents(3) or (None,))[0]
    if x.attrs["pad_per_class"]:
        each = (x.extents(2) or (None,))[0]
        classes = scores[2]
        full = None if classes is None or each is None else classes * each
        total = min(total, full) if isinstance(total, int) and isinstance(full, int) else None
    return [(batch, total, 4), (batch, total), (batch, total), (batch,)]


def _combined(
    call: Call, boxes: np.ndarray, scores: np.ndarray, most: np.ndarray, total: np.ndarray, limit: np.ndarray,
    least: np.ndarray,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    if boxes.ndim != 4 or scores.ndim != 3:
        call.fail("boxes must be 4-D and scores must be 3-D")
    if not 0 <= float(limit) <= 1:
        call.fail("iou_threshold must be in [0, 1]")
    if int(most) <= 0 or int(total) <= 0:
        call.fail("max_size_per_class and max_total_size must be positive")
    classes = scores.shape[2]
    if boxes.shape[2] not in (1, classes):
        call.fail("third dimension of boxes must be either 1 or num classes")
    size = min(int(total), int(most) * classes) if call.attrs["pad_per_class"] else int(total)
    batch = len(boxes)
    found = np.zeros((batch, size, 4), np.float32), np.zeros((batch, size), np.float32)
    kinds, valid = np.zeros((batch, size), np.float32), np.zeros(batch, np.int32)
    for image in range(batch):
        best = []
        for kind in range(classes):
            own = boxes[image, :, min(kind, boxes.shape[2] - 1)]
            kept, values = _select(scores[image, :, kind], _of_boxes(own), int(most), float(limit), float(least))
            best += [(value, kind, own[k]) for k, value in zip(kept, values)]
        best.sort(key=lambda each: -each[0])
        valid[image] = min(len(best), size)
        for k, (value, kind, box) in enumerate(best[:size]):
            found[0][image, k] = np.clip(box, 0, 1) if call.attrs["clip_boxes"] else box
            found[1][image, k], kinds[image, k] = value, kind
    return *found, kinds, valid


define("CombinedNonMaxSuppression",
       "boxes: float32, scores: float32, max_output_size_per_class: int32, max_total_size: int32, "
       "iou_threshold: float32, score_threshold: float32 -> "
       "nmsed_boxes: float32, nmsed_scores: float32, nmsed_classes: float32, valid_detections: int32",
       "pad_per_class: bool = False, clip_boxes: bool = True",
       infer=_combined_shape, reference=_combined)  # fmt: skip
