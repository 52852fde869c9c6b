"""Slices as Python writes them, and as StridedSlice does."""

from __future__ import annotations

from typing import Any

import numpy as np

SLICES = [
    np.s_[0], np.s_[-1], np.s_[1, 2], np.s_[:, 1], np.s_[..., 0], np.s_[..., 1:3], np.s_[:, ::-1],
    np.s_[::2, 1:, -2:], np.s_[:, None], np.s_[..., None], np.s_[0, ..., 1], np.s_[:, 2:1], np.s_[1:5], np.s_[:, -2:],
    np.s_[:, :, 3:0:-2], np.s_[None, 0, :, None, 2], np.s_[...], np.s_[..., ::-2], np.s_[5:], np.s_[:, :-1, 1::2],
    np.s_[:, -9:2], np.s_[:, :, 9:-9:-1], np.s_[-1:0], np.s_[:, -2::-1], np.s_[..., 1:-1, :],
]  # fmt: skip


def strided(item: Any) -> tuple[list[list[int]], dict[str, int]]:
    """begin, end, strides and masks that say what a Python index says."""
    bounds: list[list[int]] = [[], [], []]
    masks = dict.fromkeys(("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"), 0)
    for i, each in enumerate(item if isinstance(item, tuple) else (item,)):
        begin, end, stride = 0, 0, 1
        if each is Ellipsis:
            masks["ellipsis_mask"] |= 1 << i
        elif each is None:
            masks["new_axis_mask"] |= 1 << i
        elif isinstance(each, int):
            begin, end = each, each + 1
            masks["shrink_axis_mask"] |= 1 << i
        else:
            begin, end, stride = each.start or 0, each.stop or 0, each.step or 1
            masks["begin_mask"] |= (each.start is None) << i
            masks["end_mask"] |= (each.stop is None) << i
        for bound, value in zip(bounds, (begin, end, stride), strict=True):
            bound.append(value)
    return bounds, masks
