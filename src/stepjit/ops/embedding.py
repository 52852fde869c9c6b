"""Embeddings of sparse ids: rows of a table, combined by row of a sparse tensor."""

from __future__ import annotations

from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import constant
from stepjit.framework.scopes import name_scope
from stepjit.framework.sparse_tensor import SparseTensor, as_sparse_tensor
from stepjit.framework.tensor import Tensor
from stepjit.ops import array, indexing, reductions, segments
from stepjit.ops.math import div_no_nan
from stepjit.ops.normalization import embedding_lookup
from stepjit.ops.sparse import sparse_fill_empty_rows, sparse_reshape, sparse_retain
from stepjit_runtime import dtypes

_COMBINE = {
    "sum": segments.sparse_segment_sum, "mean": segments.sparse_segment_mean, "sqrtn": segments.sparse_segment_sqrt_n,
}  # fmt: skip


def embedding_lookup_sparse(
    params: Any,
    sp_ids: Any,
    sp_weights: Any,
    partition_strategy: str = "mod",
    name: str | None = None,
    combiner: str | None = None,
    max_norm: float | None = None,
    allow_fast_lookup: bool = False,
) -> Tensor:
    """By row of `sp_ids`, the rows of a table that its ids name, combined: a sum, a mean, or a sum over sqrt(n).

    sp_weights: by id its weight, at the same places; None for 1. ValueError for an unknown combiner.
    """
    combiner = combiner or "mean"
    if combiner not in _COMBINE:
        raise ValueError(f"combiner must be one of 'mean', 'sqrtn' or 'sum', got {combiner}")
    ids = as_sparse_tensor(sp_ids)
    with name_scope(name, "embedding_lookup_sparse", [ids.values]) as scope:
        rows = apply_op("Cast", x=ids.indices[:, 0], DstT=dtypes.int32)
        distinct, places = apply_op("Unique", x=ids.values)
        table = embedding_lookup(params, distinct, partition_strategy, max_norm=max_norm)
        if sp_weights is None:
            return _COMBINE[combiner](table, places, rows, name=scope)
        weights = as_sparse_tensor(sp_weights)
        ids.values.shape.assert_is_compatible_with(weights.values.shape)
        return _weighted(indexing.gather(table, places), weights.values, rows, combiner, scope)


def _weighted(found: Tensor, weights: Tensor, rows: Tensor, combiner: str, name: str) -> Tensor:
    if weights.dtype.base_dtype is not found.dtype.base_dtype:
        weights = apply_op("Cast", x=weights, DstT=found.dtype.base_dtype)
    ones = apply_op("Fill", dims=array.expand_dims(array.rank(found) - 1, 0), value=constant(1))
    column = array.reshape(weights, array.concat([array.shape(weights), ones], axis=0))
    if found.dims is not None:
        column.set_shape([None] + [1] * (len(found.dims) - 1))
    total = segments.segment_sum(found * column, rows, name=name if combiner == "sum" else None)
    if combiner == "sum":
        return total
    if combiner == "mean":
        return div_no_nan(total, segments.segment_sum(column, rows), name=name)
    squares = segments.segment_sum(column * column, rows)
    return div_no_nan(total, apply_op("Sqrt", x=squares), name=name)


def safe_embedding_lookup_sparse(
    embedding_weights: Any,
    sparse_ids: Any,
    sparse_weights: Any = None,
    combiner: str = "mean",
    default_id: Any = None,
    name: str | None = None,
    partition_strategy: str = "div",
    max_norm: float | None = None,
    allow_fast_lookup: bool = False,
) -> Tensor:
    """`embedding_lookup_sparse` that leaves out negative ids and weights that are not positive.

    Rows without ids give the embedding of `default_id`, or zeros. All but the last axis of `sparse_ids` are rows.
    """
    ids = as_sparse_tensor(sparse_ids)
    with name_scope(name, "embedding_lookup", [ids.values]) as scope:
        whole = ids.dense_shape
        lead = reductions.reduce_prod(whole[:-1])
        flat = sparse_reshape(ids, array.stack([lead, whole[-1]]))
        weights = None if sparse_weights is None else flat.with_values(as_sparse_tensor(sparse_weights).values)
        flat, weights = _valid(flat, weights, combiner)
        default = constant(0 if default_id is None else default_id, ids.dtype.base_dtype)
        flat, empty = sparse_fill_empty_rows(flat, default)
        if weights is not None:
            weights = sparse_fill_empty_rows(weights, 1.0)[0]
        found = embedding_lookup_sparse(
            embedding_weights, flat, weights, partition_strategy, None if default_id is None else scope, combiner,
            max_norm,
        )  # fmt: skip
        if default_id is None:
            column = array.reshape(empty, array.stack([-1, 1]))
            found = apply_op("SelectV2", condition=column, t=apply_op("ZerosLike", x=found), e=found, name=scope)
        rows = apply_op("Cast", x=whole[:-1], DstT=dtypes.int32)
        return array.reshape(found, array.concat([rows, array.shape(found)[1:]], axis=0))


def _valid(
    ids: SparseTensor, weights: SparseTensor | None, combiner: str
) -> tuple[SparseTensor, SparseTensor | None]:
    kept = apply_op("GreaterEqual", x=ids.values, y=constant(0, ids.dtype.base_dtype))
    ids = sparse_retain(ids, kept)
    if weights is None:
        return ids, None
    weights = sparse_retain(weights, kept)
    if combiner != "sum":
        positive = apply_op("Greater", x=weights.values, y=constant(0, weights.dtype.base_dtype))
        ids, weights = sparse_retain(ids, positive), sparse_retain(weights, positive)
    return ids, weights
