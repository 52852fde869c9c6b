"""Connectionist temporal classification: the greedy decoder."""

from __future__ import annotations

from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.registry import NotDifferentiable
from stepjit.framework.sparse_tensor import SparseTensor
from stepjit.framework.tensor import Tensor


def ctc_greedy_decoder(
    inputs: Any, sequence_length: Any, merge_repeated: bool = True, blank_index: int | None = None
) -> tuple[list[SparseTensor], Tensor]:
    """([the likeliest classes of each sequence], minus the sums of their logits) of logits [time, batch, classes]."""
    indices, values, shape, score = apply_op(
        "CTCGreedyDecoder", inputs=inputs, sequence_length=sequence_length, merge_repeated=merge_repeated,
        blank_index=-1 if blank_index is None else blank_index,
    )  # fmt: skip
    return [SparseTensor(indices, values, shape)], score


NotDifferentiable("CTCGreedyDecoder")
