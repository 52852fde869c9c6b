"""Data sets that come with the package; `SOURCE.md` tells where they are from."""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple

import numpy as np


class Digits(NamedTuple):
    """Images float32[n, 64] with pixels in [0, 1], and their classes int64[n]."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load_digits(seed: int = 0, test_fraction: float = 0.2) -> Digits:
    """The UCI handwritten digits, shuffled by `seed` and split in two."""
    with resources.files(__package__).joinpath("digits.npz").open("rb") as file, np.load(file) as stored:
        images = stored["images"].astype(np.float32) / 16
        labels = stored["labels"].astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(images))
    images, labels = images[order], labels[order]
    split = len(images) - int(len(images) * test_fraction)
    return Digits(images[:split], labels[:split], images[split:], labels[split:])
