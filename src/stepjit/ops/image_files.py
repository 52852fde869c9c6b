"""tf.image: image files read and written, in TF1's signatures."""

from __future__ import annotations

from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.registry import NotDifferentiable
from stepjit.framework.tensor import Tensor
from stepjit_runtime import dtypes


def decode_png(contents: Any, channels: int = 0, dtype: Any = dtypes.uint8, name: str | None = None) -> Tensor:
    """[height, width, channels] of a PNG file in memory; channels 0 is what the file has."""
    return apply_op("DecodePng", contents=contents, channels=channels, dtype=dtype, name=name)


def decode_image(
    contents: Any, channels: int | None = None, dtype: Any = dtypes.uint8, name: str | None = None,
    expand_animations: bool = True,
) -> Tensor:  # fmt: skip
    """`decode_png`; a float dtype gives numbers from 0 to 1."""
    return apply_op(
        "DecodeImage", contents=contents, channels=channels or 0, dtype=dtype, expand_animations=expand_animations,
        name=name,
    )  # fmt: skip


def encode_png(image: Any, compression: int = -1, name: str | None = None) -> Tensor:
    """The PNG file of an image [height, width, 1 to 4 channels] of uint8 or uint16."""
    return apply_op("EncodePng", image=image, compression=compression, name=name)


for _kind in ("DecodePng", "DecodeImage", "EncodePng"):
    NotDifferentiable(_kind)


