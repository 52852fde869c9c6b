"""Connectionist temporal classification: the loss and the decoders, in TF1's signatures, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.registry import NotDifferentiable, RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.sparse_tensor import SparseTensor, SparseTensorValue, as_sparse_tensor
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.array import concat, expand_dims, shape, transpose
from stepjit.ops.cast import cast
from stepjit.ops.comparison import where
from stepjit.ops.creation import sequence_mask
from stepjit.ops.indexing import gather_nd
from stepjit_runtime import dtypes


def ctc_greedy_decoder(
    inputs: Any, sequence_length: Any, merge_repeated: bool = True, blank_index: int | None = None
) -> tuple[list[SparseTensor], Tensor]:
    """([the likeliest classes of each sequence], minus the sums of their logits) of logits [time, batch, classes]."""
    indices, values, dense_shape, score = apply_op(
        "CTCGreedyDecoder", inputs=inputs, sequence_length=sequence_length, merge_repeated=merge_repeated,
        blank_index=-1 if blank_index is None else blank_index,
    )  # fmt: skip
    return [SparseTensor(indices, values, dense_shape)], score


def ctc_beam_search_decoder(
    inputs: Any, sequence_length: Any, beam_width: int = 100, top_paths: int = 1, merge_repeated: bool = True
) -> tuple[list[SparseTensor], Tensor]:
    """(the likeliest label sequences, their log probabilities [batch, top_paths]) of logits [time, batch, classes].

    The last class is the blank. merge_repeated: equal labels that follow each other in the result become one.
    """
    found = apply_op(
        "CTCBeamSearchDecoder", inputs=inputs, sequence_length=sequence_length, beam_width=beam_width,
        top_paths=top_paths, merge_repeated=merge_repeated,
    )  # fmt: skip
    parts = [found[k * top_paths : (k + 1) * top_paths] for k in range(3)]
    return [SparseTensor(*each) for each in zip(*parts)], found[-1]


def ctc_beam_search_decoder_v2(
    inputs: Any, sequence_length: Any, beam_width: int = 100, top_paths: int = 1
) -> tuple[list[SparseTensor], Tensor]:
    """`ctc_beam_search_decoder` that keeps equal labels."""
    return ctc_beam_search_decoder(inputs, sequence_length, beam_width, top_paths, merge_repeated=False)


def ctc_loss(
    labels: Any, inputs: Any = None, sequence_length: Any = None, preprocess_collapse_repeated: bool = False,
    ctc_merge_repeated: bool = True, ignore_longer_outputs_than_inputs: bool = False, time_major: bool = True,
    logits: Any = None,
) -> Tensor:  # fmt: skip
    """[batch]: minus the log probability of sparse int32 labels under logits [time, batch, classes].

    The last class is the blank. ignore_longer_outputs_than_inputs: labels that don't fit into their sequence cost
    nothing, in place of an error. TypeError for labels that aren't sparse.
    """
    if not isinstance(labels, (SparseTensor, SparseTensorValue)):
        kind = type(labels).__name__
        raise TypeError(f"Expected argument 'labels' to be a SparseTensor. Received labels={labels} of type: {kind}")
    sparse = as_sparse_tensor(labels)
    x = convert_to_tensor(logits if inputs is None else inputs, name="logits")
    if not time_major:
        x = transpose(x, [1, 0, 2])
    own = x.dtype.base_dtype
    if own in (dtypes.float16, dtypes.bfloat16):
        x = cast(x, dtypes.float32)
    loss, _ = apply_op(
        "CTCLoss", inputs=x, labels_indices=sparse.indices, labels_values=sparse.values,
        sequence_length=sequence_length, preprocess_collapse_repeated=preprocess_collapse_repeated,
        ctc_merge_repeated=ctc_merge_repeated, ignore_longer_outputs_than_inputs=ignore_longer_outputs_than_inputs,
    )  # fmt: skip
    return cast(loss, own)


def ctc_loss_v2(
    labels: Any, logits: Any, label_length: Any, logit_length: Any, logits_time_major: bool = True, unique: Any = None,
    blank_index: int | None = None, name: str | None = None,
) -> Tensor:  # fmt: skip
    """`ctc_loss` of sparse labels, or of labels [batch, most labels] with their lengths, and with any class as blank.

    blank_index: 0 by default for dense labels; ValueError for sparse ones without. unique: accepted, not needed.
    """
    if isinstance(labels, (SparseTensor, SparseTensorValue)) and blank_index is None:
        raise ValueError("Argument `blank_index` must be provided when labels is a SparseTensor.")
    blank = blank_index or 0
    with name_scope(name, "ctc_loss", [labels, logits]):
        x = convert_to_tensor(logits, name="logits")
        if not logits_time_major:
            x = transpose(x, [1, 0, 2])
        classes = None if x.dims is None else x.dims[2]
        if blank < 0:
            if classes is None:
                raise ValueError("A blank_index below 0 needs a known number of classes.")
            blank += classes
        sparse = _as_sparse(labels, label_length)
        # The op wants the blank as the last class.
        x = concat([x[:, :, :blank], x[:, :, blank + 1 :], x[:, :, blank : blank + 1]], 2)
        values = where(sparse.values < blank, sparse.values, sparse.values - 1)
        return ctc_loss(SparseTensor(sparse.indices, values, sparse.dense_shape), x, logit_length)


def _as_sparse(labels: Any, lengths: Any) -> SparseTensor:
    if isinstance(labels, (SparseTensor, SparseTensorValue)):
        return as_sparse_tensor(labels)
    dense = cast(labels, dtypes.int32)
    places = where(sequence_mask(lengths, shape(dense)[1]))
    return SparseTensor(places, gather_nd(dense, places), cast(shape(dense), dtypes.int64))


@RegisterGradient("CTCLoss")
def _loss_grad(op: Operation, grad: Tensor, _: Any) -> Sequence[Any]:
    return [expand_dims(expand_dims(grad, -1), 0) * apply_op("PreventGradient", input=op.outputs[1], message=(
        "Currently there is no way to take the second derivative of ctc_loss due to the fused implementation's "
        "interaction with tf.gradients()")), None, None, None]  # fmt: skip


NotDifferentiable("CTCGreedyDecoder")
NotDifferentiable("CTCBeamSearchDecoder")
