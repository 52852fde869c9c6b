"""Candidate sampling, and the losses over many classes that look at a sample of them; in TF1's signatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.random_seed import get_seed
from stepjit.framework.registry import NotDifferentiable
from stepjit.framework.scopes import name_scope
from stepjit.framework.tensor import Tensor
from stepjit.ops import array, reductions
from stepjit.ops.control import stop_gradient
from stepjit.ops.creation import ones_like, zeros_like
from stepjit.ops.cross_entropy import sigmoid_cross_entropy_with_logits, softmax_cross_entropy_with_logits_v2
from stepjit.ops.normalization import embedding_lookup
from stepjit_runtime import dtypes


class Candidates(NamedTuple):
    """What a sampler gives: classes, and how often true and sampled classes are to be expected in such a sample."""

    sampled_candidates: Tensor
    true_expected_count: Tensor
    sampled_expected_count: Tensor


class AccidentalHits(NamedTuple):
    """Rows of the batch, places in the sample, and what to add to the logits there."""

    indices: Tensor
    ids: Tensor
    weights: Tensor


def _seeds(seed: int | None) -> dict[str, int]:
    first, second = get_seed(seed)
    return {"seed": first or 0, "seed2": second or 0}


def _sampler(kind: str, true_classes: Any, seed: int | None, name: str | None, **attrs: Any) -> Candidates:
    return Candidates(*apply_op(kind, true_classes=true_classes, name=name, **attrs, **_seeds(seed)))


def uniform_candidate_sampler(
    true_classes: Any, num_true: int, num_sampled: int, unique: bool, range_max: int, seed: int | None = None,
    name: str | None = None,
) -> Candidates:  # fmt: skip
    """Classes in [0, range_max), all as probable.

    true_classes: int64[batch, num_true]. InvalidArgumentError for a unique sample of more classes than there are.
    """
    return _sampler(
        "UniformCandidateSampler", true_classes, seed, name,
        num_true=num_true, num_sampled=num_sampled, unique=unique, range_max=range_max,
    )  # fmt: skip


def log_uniform_candidate_sampler(
    true_classes: Any, num_true: int, num_sampled: int, unique: bool, range_max: int, seed: int | None = None,
    name: str | None = None,
) -> Candidates:  # fmt: skip
    """As `uniform_candidate_sampler`; class k has probability log((k + 2) / (k + 1)) / log(range_max + 1)."""
    return _sampler(
        "LogUniformCandidateSampler", true_classes, seed, name,
        num_true=num_true, num_sampled=num_sampled, unique=unique, range_max=range_max,
    )  # fmt: skip


def learned_unigram_candidate_sampler(
    true_classes: Any, num_true: int, num_sampled: int, unique: bool, range_max: int, seed: int | None = None,
    name: str | None = None,
) -> Candidates:  # fmt: skip
    """As `uniform_candidate_sampler`; a class is as probable as it was often among this session's true classes."""
    return _sampler(
        "LearnedUnigramCandidateSampler", true_classes, seed, name,
        num_true=num_true, num_sampled=num_sampled, unique=unique, range_max=range_max,
    )  # fmt: skip


def fixed_unigram_candidate_sampler(
    true_classes: Any, num_true: int, num_sampled: int, unique: bool, range_max: int, vocab_file: str = "",
    distortion: float = 1.0, num_reserved_ids: int = 0, num_shards: int = 1, shard: int = 0,
    unigrams: Sequence[float] = (), seed: int | None = None, name: str | None = None,
) -> Candidates:  # fmt: skip
    """As `uniform_candidate_sampler`; class k's probability goes with its weight to the power of `distortion`.

    The weights are `unigrams`, or the last column of a CSV file; reserved ids come before them, and are never drawn.
    """
    return _sampler(
        "FixedUnigramCandidateSampler", true_classes, seed, name,
        num_true=num_true, num_sampled=num_sampled, unique=unique, range_max=range_max, vocab_file=vocab_file,
        distortion=distortion, num_reserved_ids=num_reserved_ids, num_shards=num_shards, shard=shard,
        unigrams=list(unigrams),
    )  # fmt: skip


def all_candidate_sampler(
    true_classes: Any, num_true: int, num_sampled: int, unique: bool, seed: int | None = None, name: str | None = None
) -> Candidates:
    """All classes in [0, num_sampled), in order."""
    return _sampler(
        "AllCandidateSampler", true_classes, seed, name, num_true=num_true, num_sampled=num_sampled, unique=unique
    )


def compute_accidental_hits(
    true_classes: Any, sampled_candidates: Any, num_true: int, seed: int | None = None, name: str | None = None
) -> AccidentalHits:
    """Where a sampled class is a true one of a row: the weights are the lowest float32."""
    found = apply_op(
        "ComputeAccidentalHits", true_classes=true_classes, sampled_candidates=sampled_candidates, num_true=num_true,
        name=name, **_seeds(seed),
    )  # fmt: skip
    return AccidentalHits(*found)


for _kind in (
    "UniformCandidateSampler", "LogUniformCandidateSampler", "LearnedUnigramCandidateSampler",
    "FixedUnigramCandidateSampler", "AllCandidateSampler", "ThreadUnsafeUnigramCandidateSampler",
    "ComputeAccidentalHits",
):  # fmt: skip
    NotDifferentiable(_kind)


# --- Losses ---


def nce_loss(
    weights: Any, biases: Any, labels: Any, inputs: Any, num_sampled: int, num_classes: int, num_true: int = 1,
    sampled_values: Any = None, remove_accidental_hits: bool = False, partition_strategy: str = "mod",
    name: str | None = "nce_loss",
) -> Tensor:  # fmt: skip
    """Noise-contrastive estimation: [batch], by row the logistic losses of its true and the sampled classes, summed.

    weights: [num_classes, dim], or a list of shares of it. labels: [batch, num_true]. inputs: [batch, dim].
    sampled_values: what a sampler gave; by default `log_uniform_candidate_sampler` draws unique classes.
    """
    logits, targets = _sampled_logits(
        weights, biases, labels, inputs, num_sampled, num_classes, num_true, sampled_values, remove_accidental_hits,
        partition_strategy, name, None,
    )  # fmt: skip
    losses = sigmoid_cross_entropy_with_logits(labels=targets, logits=logits, name="sampled_losses")
    return reductions.reduce_sum(losses, 1)


def sampled_softmax_loss(
    weights: Any, biases: Any, labels: Any, inputs: Any, num_sampled: int, num_classes: int, num_true: int = 1,
    sampled_values: Any = None, remove_accidental_hits: bool = True, partition_strategy: str = "mod",
    name: str | None = "sampled_softmax_loss", seed: int | None = None,
) -> Tensor:  # fmt: skip
    """Softmax cross entropy over a row's true classes and the sampled ones: [batch]. Arguments are `nce_loss`'s."""
    logits, targets = _sampled_logits(
        weights, biases, labels, inputs, num_sampled, num_classes, num_true, sampled_values, remove_accidental_hits,
        partition_strategy, name, seed,
    )  # fmt: skip
    targets = stop_gradient(targets, name="labels_stop_gradient")
    return softmax_cross_entropy_with_logits_v2(labels=targets, logits=logits)


def _sampled_logits(
    weights: Any, biases: Any, labels: Any, inputs: Any, num_sampled: int, num_classes: int, num_true: int,
    sampled_values: Any, remove_hits: bool, strategy: str, name: str | None, seed: int | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Logits, less the logarithms of the expected counts, and targets: [batch, num_true + num_sampled] both."""
    with name_scope(name, "compute_sampled_logits", [weights, biases, inputs, labels]):
        true = _cast(convert_to_tensor(labels, name="labels"), dtypes.int64)
        x = convert_to_tensor(inputs, name="inputs")
        if sampled_values is None:
            sampled_values = log_uniform_candidate_sampler(true, num_true, num_sampled, True, num_classes, seed)
        drawn, true_count, drawn_count = (stop_gradient(each) for each in sampled_values)
        drawn = _cast(drawn, dtypes.int64)
        flat = array.reshape(true, [-1])
        ids = array.concat([flat, drawn], 0)
        sizes = array.stack([array.size(flat), array.size(drawn)])
        # One lookup for both: one IndexedSlices by gradient.
        rows, offsets = (
            _cast(embedding_lookup(table, ids, partition_strategy=strategy), x.dtype.base_dtype)
            for table in (weights, biases)
        )
        true_rows, drawn_rows = array.split(rows, sizes, num=2)
        true_offsets, drawn_offsets = array.split(offsets, sizes, num=2)
        true_logits = _own_logits(x, true_rows, num_true) + array.reshape(true_offsets, [-1, num_true])
        drawn_logits = apply_op("MatMul", a=x, b=drawn_rows, transpose_b=True) + drawn_offsets
        if remove_hits:
            drawn_logits = drawn_logits + _without_hits(true, drawn, num_true, num_sampled, drawn_logits)
        true_logits = true_logits - _log(true_count)
        drawn_logits = drawn_logits - _log(drawn_count)
        targets = [ones_like(true_logits) / num_true, zeros_like(drawn_logits)]
        return array.concat([true_logits, drawn_logits], 1), array.concat(targets, 1)


def _own_logits(x: Tensor, rows: Tensor, num_true: int) -> Tensor:
    """[batch, num_true]: each input times the rows of its own true classes."""
    width = array.shape(rows)[1:]
    by_row = array.reshape(rows, array.concat([[-1, num_true], width], 0))
    return reductions.reduce_sum(array.expand_dims(x, 1) * by_row, 2)


def _without_hits(true: Tensor, drawn: Tensor, num_true: int, num_sampled: int, logits: Tensor) -> Tensor:
    """[batch, num_sampled]: the lowest number where the sampled class is a true one, else 0."""
    hits = compute_accidental_hits(true, drawn, num_true)
    places = array.stack([_cast(hits.indices, dtypes.int64), hits.ids], 1)
    batch = _cast(array.shape(true)[:1], dtypes.int64)
    shape = array.concat([batch, convert_to_tensor([num_sampled], dtype=dtypes.int64)], 0)
    weights = _cast(hits.weights, logits.dtype.base_dtype)
    return apply_op(
        "SparseToDense", sparse_indices=places, output_shape=shape, sparse_values=weights,
        default_value=convert_to_tensor(0.0, dtype=weights.dtype.base_dtype), validate_indices=False,
    )  # fmt: skip


def _log(x: Tensor) -> Tensor:
    return apply_op("Log", x=x)


def _cast(x: Tensor, dtype: Any) -> Tensor:
    return x if x.dtype.base_dtype is dtype else apply_op("Cast", x=x, DstT=dtype)
