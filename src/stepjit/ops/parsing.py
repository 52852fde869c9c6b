"""Examples and other messages parsed to tensors: features as users describe them, and the ops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.registry import NotDifferentiable
from stepjit.framework.scopes import name_scope
from stepjit.framework.shape import TensorShape, as_shape
from stepjit.framework.sparse_tensor import SparseTensor
from stepjit.framework.tensor import Tensor
from stepjit.ops.array import reshape
from stepjit.ops.sparse import sparse_merge
from stepjit_runtime.dtypes import as_dtype, int64, string


class VarLenFeature(NamedTuple):
    """A feature of any number of values; parsed to a SparseTensor."""

    dtype: Any


class SparseFeature(NamedTuple):
    """Values in one feature and their indices in others; parsed to a SparseTensor of shape [examples, *size]."""

    index_key: Any
    value_key: str
    dtype: Any
    size: Any
    already_sorted: bool = False


class FixedLenFeature(NamedTuple):
    """A feature of a fixed shape; `default_value` where an example lacks it, else that is an error."""

    shape: Any
    dtype: Any
    default_value: Any = None


class FixedLenSequenceFeature(NamedTuple):
    """A feature of any number of items of a fixed shape; padded with `default_value` to the longest."""

    shape: Any
    dtype: Any
    allow_missing: bool = False
    default_value: Any = None


class _Plan:
    """The keys of an op's inputs and outputs, from the user's features."""

    def __init__(self, features: Mapping[str, Any]) -> None:
        self.sparse: dict[str, Any] = {}
        """By key: dtype."""
        self.dense: dict[str, tuple[Any, TensorShape, Any]] = {}
        """By key: dtype, shape, default."""
        self.merged: dict[str, SparseFeature] = {}
        self.asked = sorted(features)
        for key in self.asked:
            self._add(key, features[key])

    def _add(self, key: str, feature: Any) -> None:
        if not isinstance(feature, (VarLenFeature, SparseFeature, FixedLenFeature, FixedLenSequenceFeature)):
            raise ValueError(f"Unsupported {type(feature).__name__} {feature} for key '{key}'")
        if not feature.dtype:
            raise ValueError(f"Missing type for feature {key}. Received feature={feature}.")
        if isinstance(feature, VarLenFeature):
            self._add_sparse(key, feature.dtype)
        elif isinstance(feature, SparseFeature):
            self._add_merged(key, feature)
        else:
            self._add_dense(key, feature)

    def _add_sparse(self, key: str, dtype: Any) -> None:
        known = self.sparse.setdefault(key, as_dtype(dtype))
        if known is not as_dtype(dtype):
            raise ValueError(f"Conflicting type {known.name} vs {as_dtype(dtype).name} for feature {key}.")

    def _add_merged(self, key: str, feature: SparseFeature) -> None:
        for what in ("index_key", "value_key", "size"):
            if getattr(feature, what) in (None, "", []):
                raise ValueError(f"Missing {what} for SparseFeature {key}. Received feature={feature}.")
        keys, sizes = _listed(feature.index_key), _listed(feature.size)
        if len(keys) != len(sizes):
            raise ValueError(
                f"SparseFeature {key} has {len(keys)} index keys but {len(sizes)} sizes: they must be as many."
            )
        self.merged[key] = feature
        for each in sorted(keys):
            self._add_sparse(each, int64)
        self._add_sparse(feature.value_key, feature.dtype)

    def _add_dense(self, key: str, feature: Any) -> None:
        if feature.shape is None:
            raise ValueError(f"Missing shape for feature {key}. Received feature={feature}.")
        shape = as_shape(feature.shape)
        if isinstance(feature, FixedLenSequenceFeature):
            if not feature.allow_missing:
                raise ValueError("Unsupported: FixedLenSequenceFeature requires allow_missing to be True.")
            shape = TensorShape([None]).concatenate(shape)
        elif shape.dims and shape.as_list()[0] is None:
            raise ValueError(
                f"First dimension of shape for feature {key} unknown. Consider using FixedLenSequenceFeature. "
                f"Received feature={feature}."
            )
        if not TensorShape(shape.dims and shape.dims[1:]).is_fully_defined():
            raise ValueError(f"All dimensions of shape for feature {key} need to be known but received {shape}.")
        self.dense[key] = as_dtype(feature.dtype), shape, feature.default_value

    def defaults(self) -> list[Tensor]:
        found = []
        for key, (dtype, shape, default) in self.dense.items():
            varies = bool(shape.dims) and shape.as_list()[0] is None
            if default is None:
                filler: Any = ("" if dtype is string else 0) if varies else []
                found.append(convert_to_tensor(filler, dtype))
            elif varies:
                found.append(reshape(convert_to_tensor(default, dtype), []))
            else:
                given = convert_to_tensor(default, dtype, f"key_{key.translate(_PLAIN)}")
                found.append(reshape(given, shape.as_list()))
        return found

    def result(self, outputs: Sequence[Tensor]) -> dict[str, Any]:
        """Tensors by the user's keys, from the op's outputs."""
        n = len(self.sparse)
        found: dict[str, Any] = {
            key: SparseTensor(outputs[k], outputs[n + k], outputs[2 * n + k]) for k, key in enumerate(self.sparse)
        }
        parts = dict(found)
        found.update(zip(self.dense, outputs[3 * n :]))
        for key, feature in self.merged.items():
            indices = [parts[each] for each in _listed(feature.index_key)]
            sizes = _listed(feature.size)
            values = parts[feature.value_key]
            many = isinstance(feature.index_key, (list, tuple))
            found[key] = sparse_merge(
                indices if many else indices[0], values, sizes if many else sizes[0],
                already_sorted=feature.already_sorted,
            )  # fmt: skip
        return {key: found[key] for key in self.asked}


_PLAIN = {code: "_" for code in range(128) if not (chr(code).isalnum() or chr(code) in "_.\\-/")}


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _parsed(serialized: Any, features: Any, names: Any) -> dict[str, Any]:
    if not features:
        raise ValueError(f"Argument `features` cannot be None or falsy. Got {features}")
    plan = _Plan(features)
    defaults = plan.defaults()
    outputs = apply_op(
        "ParseExampleV2", serialized=serialized, names=[] if names is None else names,
        sparse_keys=list(plan.sparse), dense_keys=list(plan.dense), ragged_keys=[], dense_defaults=defaults,
        num_sparse=len(plan.sparse),
        sparse_types=list(plan.sparse.values()), ragged_value_types=[], ragged_split_types=[],
        dense_shapes=[shape for _, shape, _ in plan.dense.values()],
        Tdense=[dtype for dtype, _, _ in plan.dense.values()],
    )  # fmt: skip
    return plan.result(outputs)


def parse_example(
    serialized: Any, features: Mapping[str, Any], name: str | None = None, example_names: Any = None
) -> dict[str, Any]:
    """Tensors by key, of a vector of serialized Example messages: dense [examples, *shape] or SparseTensors.

    In the step, InvalidArgumentError names the example and key of a feature that is missing or of another kind.
    """
    with name_scope(name, "ParseExample", [serialized, example_names]):
        return _parsed(convert_to_tensor(serialized, string, "serialized"), features, example_names)


def parse_single_example(
    serialized: Any, features: Mapping[str, Any], name: str | None = None, example_names: Any = None
) -> dict[str, Any]:
    """Tensors by key, of one serialized Example message, a string scalar: without the dimension of examples."""
    if not features:
        raise ValueError(f"Argument `features` cannot be None or falsy. Got {features}")
    with name_scope(name, "ParseSingleExample", [serialized, example_names]):
        given = convert_to_tensor(serialized, string, "serialized")
        given.shape.assert_has_rank(0) if given.dims is not None else given.set_shape([])
        with name_scope("ParseExample"):
            return _parsed(given, features, example_names)


# --- messages ---


def parse_tensor(serialized: Any, out_type: Any, name: str | None = None) -> Tensor:
    """The tensor in a serialized TensorProto, of any shape; InvalidArgumentError in the step for another type."""
    return apply_op("ParseTensor", serialized=serialized, out_type=out_type, name=name)


def serialize_tensor(tensor: Any, name: str | None = None) -> Tensor:
    """A tensor as a serialized TensorProto, a string scalar."""
    return apply_op("SerializeTensor", tensor=tensor, name=name)


def decode_json_example(json_examples: Any, name: str | None = None) -> Tensor:
    """Example messages in JSON as serialized ones, of the same shape."""
    return apply_op("DecodeJSONExample", json_examples=json_examples, name=name)


NotDifferentiable("ParseTensor")
NotDifferentiable("SerializeTensor")
