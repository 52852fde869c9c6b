"""Blocks of space as batches, which spreads windows out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stepjit.framework.apply import apply_op
from stepjit.framework.constant_value import constant_value
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Tensor
from stepjit.ops.broadcasting import static_shape
from stepjit.ops.layout import batch_to_space_nd, space_to_batch_nd
from stepjit_runtime import dtypes


def required_space_to_batch_paddings(
    input_shape: Any, block_shape: Any, base_paddings: Any = None, name: str | None = None
) -> tuple[Any, Any]:
    """(paddings, crops) for `space_to_batch_nd` and back, so that the blocks divide the padded extents."""
    with name_scope(name, "required_space_to_batch_paddings", [input_shape, block_shape]):
        shape, block = (convert_to_tensor(each, dtype=dtypes.int32) for each in (input_shape, block_shape))
        count = block.dims[0] if block.dims else None
        if count is None:
            raise ValueError("block_shape must have a static length")
        base = convert_to_tensor([[0, 0]] * count if base_paddings is None else base_paddings, dtype=dtypes.int32)
        known = [constant_value(each) for each in (shape, block, base)]
        if all(each is not None for each in known):
            return _paddings(*map(np.asarray, known))
        before, after = apply_op("Unpack", value=base, num=2, axis=1)
        over = apply_op("FloorMod", x=shape + before + after, y=block)
        extra = apply_op("FloorMod", x=block - over, y=block)
        paddings = apply_op("Pack", values=[before, after + extra], axis=1)
        return paddings, apply_op("Pack", values=[extra * 0, extra], axis=1)


def _paddings(shape: np.ndarray, block: np.ndarray, base: np.ndarray) -> tuple[Tensor, Tensor]:
    before, after = base.reshape(-1, 2).T
    extra = (block - (shape + before + after) % block) % block
    found = np.stack([before, after + extra], 1), np.stack([extra * 0, extra], 1)
    paddings, crops = (convert_to_tensor(each.astype(np.int32)) for each in found)
    return paddings, crops


def with_space_to_batch(
    input: Any, dilation_rate: Any, padding: Any, op: Callable[..., Tensor], filter_shape: Any = None,
    spatial_dims: Sequence[int] | None = None, data_format: str | None = None,
) -> Tensor:  # fmt: skip
    """`op(input, num_spatial_dims, padding)` with windows whose elements are `dilation_rate` apart.

    ValueError for a padding that is neither SAME nor VALID nor pairs, for rates that are not positive numbers, and
    when SAME is asked for without `filter_shape`.
    """
    x = convert_to_tensor(input, name="input")
    found = constant_value(convert_to_tensor(dilation_rate, dtype=dtypes.int32, name="dilation_rate"))
    if found is None:
        raise ValueError("dilation_rate must be known when the graph is built")
    rates = [int(rate) for rate in np.asarray(found).ravel()]
    if any(rate < 1 for rate in rates):
        raise ValueError("dilation_rate must be positive")
    if all(rate == 1 for rate in rates):
        return op(x, len(rates), padding)
    first = 2 if data_format is not None and data_format.startswith("NC") else 1
    axes = list(spatial_dims) if spatial_dims is not None else [first + k for k in range(len(rates))]
    if padding == "SAME":
        if filter_shape is None:
            raise ValueError("filter_shape must be specified for SAME padding")
        sizes = np.asarray(constant_value(convert_to_tensor(filter_shape, dtype=dtypes.int32)))
        reach = (sizes[: len(rates)] - 1) * np.array(rates)
        base = np.stack([reach // 2, reach - reach // 2], 1)
    elif padding == "VALID":
        base = np.zeros((len(rates), 2), int)
    elif isinstance(padding, (list, tuple)):
        base = np.asarray(padding[first : first + len(rates)])
    else:
        raise ValueError(f"Invalid padding method {padding!r}: must be 'SAME' or 'VALID'")
    # Blocks are of consecutive dimensions from the first on; those without a rate have 1.
    every = list(range(1, max(axes) + 1))
    wide_rates = [dict(zip(axes, rates)).get(axis, 1) for axis in every]
    wide_base = [dict(zip(axes, base.tolist())).get(axis, [0, 0]) for axis in every]
    whole = static_shape(x)
    extents = apply_op("StridedSlice", input=whole, begin=[1], end=[max(axes) + 1], strides=[1])
    paddings, crops = required_space_to_batch_paddings(extents, wide_rates, wide_base)
    result = op(space_to_batch_nd(x, wide_rates, paddings), len(rates), "VALID")
    return batch_to_space_nd(result, wide_rates, crops)
