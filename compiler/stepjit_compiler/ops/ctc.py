"""Connectionist temporal classification: the greedy decoder, and what all decoders check."""

from __future__ import annotations

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_runtime.errors import FAILED_PRECONDITION


# --- CTCGreedyDecoder: the likeliest class of every frame, without blanks, and without repeats if they are merged ---
def _shape(x: Inference) -> list[ShapeLike]:
    inputs, lengths = x.with_rank(0, 3), x.with_rank(1, 1)
    batch = x.equal(inputs[1], lengths[0], "len(sequence_length) != batch_size: Dimensions must be equal")
    return [(None, 2), (None,), (2,), (batch, 1)]


def check_lengths(call: Call, inputs: np.ndarray, lengths: np.ndarray, code: int = FAILED_PRECONDITION) -> None:
    """Fail for logits that are no [time, batch, classes], and for lengths of sequences that can't be theirs."""
    if inputs.ndim != 3:
        call.fail("inputs is not a 3-Tensor")
    if lengths.ndim != 1:
        call.fail("sequence_length is not a vector")
    frames, batch, _ = inputs.shape
    if lengths.shape != (batch,):
        call.fail(f"len(sequence_length) != batch_size. len(sequence_length):  {len(lengths)} batch_size: {batch}")
    for k, length in enumerate(lengths):
        if not 0 <= length <= frames:
            call.fail(f"sequence_length({k}) <= {frames}", code)


def _greedy(call: Call, inputs: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, ...]:
    check_lengths(call, inputs, lengths)
    frames, batch, classes = inputs.shape
    blank = call.attrs["blank_index"]
    blank = blank + classes if blank < 0 else blank
    if not 0 <= blank < classes:
        call.fail(f"blank_index expected to be between 0 and num_classes, got {call.attrs['blank_index']}")
    best = inputs.argmax(2)
    top = np.take_along_axis(inputs, best[..., None], 2)[..., 0]
    rows = []
    for k, length in enumerate(lengths):
        path = best[:length, k]
        kept = path != blank
        if call.attrs["merge_repeated"]:
            kept[1:] &= path[1:] != path[:-1]
        rows.append(path[kept])
    places = [(k, at) for k, row in enumerate(rows) for at in range(len(row))]
    values = np.concatenate([*rows, np.zeros(0, np.int64)]).astype(np.int64)
    inside = np.arange(frames)[:, None] < lengths
    score = 0 - np.where(inside, top, 0).sum(0, dtype=inputs.dtype)
    shape = np.array([batch, max(map(len, rows), default=0)], np.int64)
    return np.array(places, np.int64).reshape(-1, 2), values, shape, score[:, None].astype(inputs.dtype)


define(
    "CTCGreedyDecoder",
    "inputs: T, sequence_length: int32 -> "
    "decoded_indices: int64, decoded_values: int64, decoded_shape: int64, log_probability: T",
    "merge_repeated: bool = False, blank_index: int = -1, T: type in float32|float64 = float32",
    infer=_shape, reference=_greedy,
)  # fmt: skip
