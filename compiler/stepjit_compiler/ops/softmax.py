"""Softmax and the cross entropies on top of it; the largest logit is subtracted first, so nothing overflows."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepjit_compiler.lowering import Check, Composite, Indexed
from stepjit_compiler.opdef import Call, Inference, ShapeLike, define, show
from stepjit_compiler.ops.kinds import in_float

FLOAT = "T: type in float"
_BAD_LABEL = "Received a label value of {value} which is outside the valid range of [0, {bound})"


def _shifted(x: np.ndarray) -> np.ndarray:
    return x - np.max(x, -1, keepdims=True, initial=-np.inf)


def _expand_shifted(x: Any, logits: Any) -> tuple[Any, Any, Any]:
    """The logits less their row's largest, the exponentials of that, and their sums as a column."""
    last = [len(x.type(logits).dims) - 1]
    shifted = x.op("Sub", logits, x.reduce("Max", logits, last, True))
    exponentials = x.op("Exp", shifted)
    return shifted, exponentials, x.reduce("Sum", exponentials, last, True)


# --- Softmax, LogSoftmax: along the last axis ---
def _rows_shape(x: Inference) -> list[ShapeLike]:
    if x.shape(0) == ():
        x.fail("logits must have >= 1 dimension, got []. Shape must be at least rank 1 but is rank 0")
    return [x.shape(0)]


def _softmax(x: np.ndarray) -> np.ndarray:
    exponentials = np.exp(_shifted(x))
    return exponentials / exponentials.sum(-1, keepdims=True)


def _log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = _shifted(x)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _of_rows(function: Any) -> Any:
    def reference(call: Call, logits: np.ndarray) -> np.ndarray:
        if not logits.ndim:
            call.fail("logits must have >= 1 dimension, got []")
        return in_float(function)(call, logits)

    return reference


def _expand_softmax(x: Any, call: Any, logits: Any) -> Any:
    _, exponentials, sums = _expand_shifted(x, logits)
    return x.op("RealDiv", exponentials, sums)


def _expand_log_softmax(x: Any, call: Any, logits: Any) -> Any:
    shifted, _, sums = _expand_shifted(x, logits)
    return x.op("Sub", shifted, x.op("Log", sums))


define("Softmax", "logits: T -> softmax: T", FLOAT, infer=_rows_shape, reference=_of_rows(_softmax),
       lower=Composite(_expand_softmax))  # fmt: skip
define("LogSoftmax", "logits: T -> logsoftmax: T", FLOAT, infer=_rows_shape, reference=_of_rows(_log_softmax),
       lower=Composite(_expand_log_softmax))  # fmt: skip


# --- SoftmaxCrossEntropyWithLogits: labels are distributions; either side broadcasts ---
_TWO = "logits and labels must be either 2-dimensional, or broadcasted to be 2-dimensional"


def _entropy_shape(x: Inference) -> list[ShapeLike]:
    features, labels = x.shape(0), x.shape(1)
    if features is None or labels is None:
        return [(None,), (None, None)]
    if max(len(features), len(labels)) != 2:
        x.fail(_TWO)
    both = x.broadcast(features, labels)
    assert both is not None
    return [both[:1], both]


def _entropy(call: Call, features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    try:
        shape = np.broadcast_shapes(features.shape, labels.shape)
    except ValueError:
        call.fail("logits and labels must be broadcastable: "
                  f"logits_size={show(features.shape)} labels_size={show(labels.shape)}")  # fmt: skip
    if len(shape) != 2:
        call.fail(_TWO)
    wide = np.float64 if features.dtype == np.float64 else np.float32
    dtype = call.dtypes[0].np
    with np.errstate(all="ignore"):
        shifted = _shifted(np.broadcast_to(features, shape).astype(wide))
        labels = labels.astype(wide)
        exponentials = np.exp(shifted)
        sums = exponentials.sum(-1, keepdims=True)
        loss = (labels * (np.log(sums) - shifted)).sum(-1)
        return loss.astype(dtype), (exponentials / sums - labels).astype(dtype)


def _expand_entropy(x: Any, call: Any, features: Any, labels: Any) -> Any:
    rank, columns, wanted = len(x.type(features).dims), x.type(features).dims[-1:], x.type(labels).dims[-1:]
    if rank < 2 or (columns != wanted and columns == (1,)):
        # The sum over classes has to see them all.
        features = x.op("Add", features, x.op("ZerosLike", labels))
    shifted, exponentials, sums = _expand_shifted(x, features)
    loss = x.reduce("Sum", x.op("Mul", labels, x.op("Sub", x.op("Log", sums), shifted)), [1])
    return loss, x.op("Sub", x.op("RealDiv", exponentials, sums), labels)


define("SoftmaxCrossEntropyWithLogits", "features: T, labels: T -> loss: T, backprop: T", FLOAT,
       infer=_entropy_shape, reference=_entropy, lower=Composite(_expand_entropy))  # fmt: skip


# --- SparseSoftmaxCrossEntropyWithLogits: labels are class numbers ---
def _sparse_shape(x: Inference) -> list[ShapeLike]:
    (rows, classes), (labels,) = x.with_rank(0, 2), x.with_rank(1, 1)
    x.check("ge", classes, 1, f"Must have at least one class, but got logits shape {show((rows, classes))}")
    text = ("logits and labels must have the same first dimension, got logits shape "
            f"{show((rows, classes))} and labels shape {show((labels,))} (Dimensions must be equal)")  # fmt: skip
    rows = x.equal(rows, labels, text)
    return [(rows,), (rows, classes)]


def _sparse_entropy(call: Call, features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if features.ndim != 2:
        call.fail(f"logits must be 2-D, but got shape {show(features.shape)}")
    if labels.shape != features.shape[:1]:
        call.fail("logits and labels must have the same first dimension, got logits shape "
                  f"{show(features.shape)} and labels shape {show(labels.shape)}")  # fmt: skip
    if not features.shape[1]:
        call.fail(f"Must have at least one class, but got logits shape {show(features.shape)}")
    _check_labels(call, labels, features.shape[1])
    rows, dtype = np.arange(len(labels)), call.dtypes[0].np
    with np.errstate(all="ignore"):
        shifted = _shifted(features.astype(np.float64 if features.dtype == np.float64 else np.float32))
        exponentials = np.exp(shifted)
        sums = exponentials.sum(-1, keepdims=True)
        loss = np.log(sums[:, 0]) - shifted[rows, labels]
        backprop = exponentials / sums
        backprop[rows, labels] -= 1
        return loss.astype(dtype), backprop.astype(dtype)


def _check_labels(call: Call, labels: np.ndarray, classes: int) -> None:
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        text = _BAD_LABEL.format(value=labels[outside][0], bound=classes)
        call.fail(f"{text}.  Label values: {' '.join(map(str, labels))}")


def _expand_sparse(x: Any, call: Any, features: Any, labels: Any) -> Any:
    shifted, exponentials, sums = _expand_shifted(x, features)
    log_sums = x.op("Squeeze", x.op("Log", sums), squeeze_dims=(1,))
    loss = x.op("Sub", log_sums, x.op("_Pick", shifted, labels))
    return loss, x.op("_LessOneHot", x.op("RealDiv", exponentials, sums), labels)


define("SparseSoftmaxCrossEntropyWithLogits", "features: T, labels: Tlabels -> loss: T, backprop: T",
       f"{FLOAT}, Tlabels: type in index = int64",
       infer=_sparse_shape, reference=_sparse_entropy, lower=Composite(_expand_sparse))  # fmt: skip


# --- _Pick: of each row, the element that its label names ---
def _pick(call: Call, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    _check_labels(call, labels, rows.shape[1])
    return rows[np.arange(len(labels)), labels]


def _label_checks(call: Any) -> list[Check]:
    return [Check(1, call.inputs[0].dims[1], _BAD_LABEL)]


define("_Pick", "rows: T, labels: Tlabels -> picked: T", f"{FLOAT}, Tlabels: type in index",
       infer=lambda x: [x.with_rank(1, 1)], reference=_pick,
       lower=Indexed(lambda k, call, output, index: k.load(0, (index[0], k.index(k.load(1, (index[0],))))),
                     checks=_label_checks))  # fmt: skip


# --- _LessOneHot: 1 is taken off the element that the row's label names ---
def _less_one_hot(call: Call, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    _check_labels(call, labels, rows.shape[1])
    out = rows.copy()
    out[np.arange(len(labels)), labels] -= 1
    return out


def _emit_less_one_hot(k: Any, call: Any, output: int, index: Any) -> Any:
    value = k.load(0, index)
    here = k.value(k.index(k.load(1, (index[0],))) - index[1])
    one, zero = k.const(1, value.dtype), k.const(0, value.dtype)
    off = k.select(k.b.compare("eq", here, k.b.like(0, here)), one, zero)
    return k.b.sub(*k.same_lanes(value, off))


define("_LessOneHot", "rows: T, labels: Tlabels -> less: T", f"{FLOAT}, Tlabels: type in index",
       infer=lambda x: [x.shape(0)], reference=_less_one_hot,
       lower=Indexed(_emit_less_one_hot, checks=_label_checks, cost=4))  # fmt: skip
