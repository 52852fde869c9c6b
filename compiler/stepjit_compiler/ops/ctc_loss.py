"""Connectionist temporal classification: the loss of label sequences, over all ways to spread them over time."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler.opdef import Call, Inference, ShapeLike, define
from stepjit_compiler.ops.ctc import check_lengths
from stepjit_runtime.errors import INVALID_ARGUMENT


# --- CTCLoss: minus the log probability of each sequence's labels, and its gradient by the logits ---
def _shapes(x: Inference) -> list[ShapeLike]:
    inputs, indices, values, lengths = x.with_rank(0, 3), x.with_rank(1, 2), x.with_rank(2, 1), x.with_rank(3, 1)
    x.equal(indices[0], values[0], "labels_indices and labels_values: Dimensions must be equal")
    batch = x.equal(inputs[1], lengths[0], "len(sequence_length) != batch_size: Dimensions must be equal")
    return [(batch,), (inputs[0], batch, inputs[2])]


def _loss(
    call: Call, inputs: np.ndarray, indices: np.ndarray, values: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    check_lengths(call, inputs, lengths, INVALID_ARGUMENT)
    _, batch, classes = inputs.shape
    if indices.ndim != 2 or values.ndim != 1 or len(indices) != len(values):
        call.fail("labels_indices and labels_values must contain the same number of rows, but saw shapes: "
                  f"{list(indices.shape)} vs. {list(values.shape)}")  # fmt: skip
    if not batch:
        call.fail("batch_size must not be 0")
    if indices.size and not ((indices[:, 0] >= 0) & (indices[:, 0] < batch)).all():
        call.fail(f"labels batch index must be between 0 and {batch}")
    loss, gradient = np.zeros(batch, inputs.dtype), np.zeros_like(inputs)
    for k in range(batch):
        length = int(lengths[k])
        given = values[indices[:, 0] == k]
        if not given.size:
            call.fail(f"Labels length is zero in batch {k}")
        labels = _labels(call, k, given, classes)
        if length == 0 and not labels.size:
            continue
        if len(labels) > length:
            if call.attrs["ignore_longer_outputs_than_inputs"]:
                continue
            call.fail(
                f"Not enough time for target transition sequence (required: {len(labels)}, available: {length}){k}"
                "You can turn this error into a warning by using the flag ignore_longer_outputs_than_inputs"
            )
        # Equal labels need a blank between them: without time for that, the loss is infinite.
        loss[k], gradient[:length, k] = _of_sequence(call, inputs[:length, k].astype(np.float64), labels)
    return loss, gradient


def _labels(call: Call, k: int, given: np.ndarray, classes: int) -> np.ndarray:
    """The labels of sequence k up to the first blank."""
    if (given < 0).any():
        call.fail(f"All labels must be nonnegative integers, batch: {k} labels: {','.join(map(str, given.tolist()))}")
    blank = given >= classes - 1
    if blank.any():
        first = int(blank.argmax())
        if not blank[first:].all():
            text = ",".join(map(str, given.tolist()))
            call.fail("Saw a non-null label (index >= num_classes - 1) following a null label, batch: "
                      f"{k} num_classes: {classes} labels: {text}")  # fmt: skip
        given = given[:first]
    if call.attrs["preprocess_collapse_repeated"] and given.size:
        given = given[np.append(True, given[1:] != given[:-1])]
    return given


def _of_sequence(call: Call, logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """(loss, gradient [frames, classes]) of one sequence, by the forward and backward probabilities of its states."""
    merge = call.attrs["ctc_merge_repeated"]
    frames, classes = logits.shape
    blank = classes - 1
    shifted = logits - logits.max(1, keepdims=True)
    log_y = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    # States: a blank before, between and after the labels.
    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    stays = (states == blank) | merge
    skips = np.zeros(len(states), bool)
    skips[2:] = (states[2:] != blank) & ((states[2:] != states[:-2]) | (not merge))
    chances = log_y[:, states]
    forward = np.full((frames, len(states)), -np.inf)
    forward[0, :2] = chances[0, :2]
    for t in range(1, frames):
        forward[t] = _step(forward[t - 1], stays, skips) + chances[t]
    backward = np.full_like(forward, -np.inf)
    backward[-1, -2:] = 0
    reach = np.zeros(len(states), bool)
    reach[:-2] = skips[2:]
    for t in range(frames - 2, -1, -1):
        ahead = backward[t + 1] + chances[t + 1]
        backward[t] = _step(ahead[::-1], stays[::-1], reach[::-1])[::-1]
    log_p = np.logaddexp.reduce(forward[-1, -2:])
    y = np.exp(log_y)
    if log_p == -np.inf:
        return np.inf, y
    share = np.zeros_like(y)
    where: Any = (slice(None), states)
    np.add.at(share, where, np.exp(forward + backward - log_p))
    return -float(log_p), y - share


def _step(before: np.ndarray, stays: np.ndarray, skips: np.ndarray) -> np.ndarray:
    """Log probabilities of the states one frame on: one stays, moves to the next, or leaves out a blank."""
    found = np.where(stays, before, -np.inf)
    found[1:] = np.logaddexp(found[1:], before[:-1])
    found[2:] = np.logaddexp(found[2:], np.where(skips[2:], before[:-2], -np.inf))
    return found


define(
    "CTCLoss", "inputs: T, labels_indices: int64, labels_values: int32, sequence_length: int32 -> loss: T, gradient: T",
    "preprocess_collapse_repeated: bool = False, ctc_merge_repeated: bool = True, "
    "ignore_longer_outputs_than_inputs: bool = False, T: type in float32|float64 = float32",
    infer=_shapes, reference=_loss,
)  # fmt: skip
