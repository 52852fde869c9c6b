"""Python and numpy values as arrays of TF dtypes: which dtype a value has, and what fits into one that is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from stepjit.framework.shape import Dimension, TensorShape
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType

SCALARS = frozenset({int, float, bool, complex, str, bytes})
_LIMIT = 2**31
_FITS_ALL = 65504.0
"""No float dtype overflows up to here: the largest float16."""


def to_array(value: Any, dtype: DType | None = None) -> tuple[np.ndarray, DType]:
    """A new read-only array and its dtype; `dtype` is the one asked for.

    Python ints are int32 where they fit, floats float32; numpy values keep their dtype. TypeError when the value is
    of another kind than `dtype`, or of none; ValueError for None and ragged lists.
    """
    array, found = _convert(value, None if dtype is None else dtype.base_dtype)
    array.setflags(write=False)
    return array, found


def _convert(value: Any, dtype: DType | None) -> tuple[np.ndarray, DType]:
    kind = type(value)
    if kind is float:
        if dtype is None:
            dtype = dtypes.float32
        elif dtype.kind not in "fcq":
            mismatch(value, dtype)
        return _scalar(value, dtype), dtype
    if kind is int:
        return _from_int(value, dtype)
    if isinstance(value, (np.ndarray, np.generic)):
        return _from_numpy(np.asarray(value), dtype, value)
    if kind is bool:
        return _from_sequence(value, dtype)
    if value is None:
        raise ValueError("None values not supported.")
    if isinstance(value, (TensorShape, Dimension)):
        return _from_sequence(shape_value(value), dtype)
    if isinstance(value, (str, bytes, list, tuple, range, complex, int, float)):
        return _from_sequence(value, dtype)
    if hasattr(value, "__array__") or isinstance(value, memoryview):
        return _from_numpy(np.asarray(value), dtype, value)
    raise unconvertible(value)


def _scalar(value: Any, dtype: DType) -> np.ndarray:
    try:
        if -_FITS_ALL <= value <= _FITS_ALL:
            return np.array(value, dtype.np)
        # A number too large for the dtype is infinite; numpy's `errstate` takes longer than all else here.
        with np.errstate(over="ignore"):
            return np.array(value, dtype.np)
    except OverflowError:
        return np.array(value).astype(dtype.np)


def _from_int(value: int, dtype: DType | None) -> tuple[np.ndarray, DType]:
    if dtype is None:
        if -_LIMIT <= value < _LIMIT:
            dtype = dtypes.int32
        elif -(2**63) <= value < 2**63:
            dtype = dtypes.int64
        elif 0 < value < 2**64:
            dtype = dtypes.uint64
        else:
            raise unconvertible(value)
    elif dtype.kind in "bso":
        mismatch(value, dtype)
    return _scalar(value, dtype), dtype


def _from_numpy(array: np.ndarray, dtype: DType | None, value: Any) -> tuple[np.ndarray, DType]:
    kind = array.dtype.kind
    if kind in "USO":
        return _from_objects(array, dtype, value)
    if dtype is None:
        dtype = dtypes.as_dtype(array.dtype)
    elif dtype.kind in "so":
        raise TypeError(f"Expected binary or unicode string, got {value!r}")
    with np.errstate(all="ignore"):
        return np.array(array, dtype.np, order="C"), dtype


def _from_objects(array: np.ndarray, dtype: DType | None, value: Any) -> tuple[np.ndarray, DType]:
    leaves = array.ravel().tolist()
    if leaves and not all(isinstance(leaf, (str, bytes)) for leaf in leaves):
        if not any(isinstance(leaf, (str, bytes)) or leaf is None for leaf in leaves):
            numbers = np.array([shape_value(leaf) for leaf in leaves])
            if numbers.dtype.kind in "biufc" and numbers.ndim == 1:
                return _from_list_array(numbers.reshape(array.shape), dtype, leaves)
        if any(isinstance(leaf, (list, tuple)) for leaf in leaves):
            raise ValueError(f"The elements of {value!r} have an inhomogeneous shape: they can't be a dense tensor")
        raise unconvertible(value)
    if dtype is not None and dtype.kind != "s":
        mismatch(leaves[0] if leaves else value, dtype)
    texts = np.empty(array.shape, object)
    texts.reshape(-1)[:] = [leaf.encode() if isinstance(leaf, str) else bytes(leaf) for leaf in leaves]
    return texts, dtypes.string


def _from_sequence(value: Any, dtype: DType | None) -> tuple[np.ndarray, DType]:
    first = next(leaves_of(value), None)
    if isinstance(first, (str, bytes)):
        return _from_objects(_object_array(value), dtype, value)
    try:
        array = np.array(value)
    except OverflowError:
        raise unconvertible(value) from None
    if array.dtype.kind in "USO":
        if array.dtype.kind != "O":
            # Numbers among texts, which numpy would turn into texts.
            raise unconvertible(value)
        return _from_objects(array, dtype, value)
    if array.size == 0 and first is None:
        dtype = dtype or dtypes.float32
        return np.empty(array.shape, dtype.np), dtype
    return _from_list_array(array, dtype, value)


def _object_array(value: Any) -> np.ndarray:
    """A nested sequence of texts; its shape comes from numpy, its elements don't (they may end in NULs)."""
    if isinstance(value, (str, bytes)):
        array = np.empty((), object)
        array[()] = value
        return array
    return np.array(value, object)


def _from_list_array(array: np.ndarray, dtype: DType | None, value: Any) -> tuple[np.ndarray, DType]:
    """An array that numpy made of Python values, whose dtype is therefore numpy's choice and not the user's."""
    kind = array.dtype.kind
    if dtype is None:
        dtype = _narrowed(array)
    elif not fits(kind, dtype):
        offender = next((leaf for leaf in leaves_of(value) if not fits(np.asarray(leaf).dtype.kind, dtype)), value)
        mismatch(offender, dtype)
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(array, dtype.np).reshape(array.shape), dtype


def _narrowed(array: np.ndarray) -> DType:
    if array.dtype == np.float64:
        return dtypes.float32
    if array.dtype == np.int64 and (not array.size or (array.min() >= -_LIMIT and array.max() < _LIMIT)):
        return dtypes.int32
    return dtypes.as_dtype(array.dtype)


def fits(kind: str, dtype: DType) -> bool:
    """Whether Python values of a numpy kind may become `dtype`: no float is cut, no number is a truth value."""
    target = dtype.kind
    if target in "so":
        return False
    if kind == "c":
        return target == "c"
    if kind == "f" or kind == "V":
        return target in "fcq"
    return target != "b" or kind == "b"


def leaves_of(value: Any) -> Iterator[Any]:
    """The elements of nested lists and tuples, or the value itself."""
    if isinstance(value, (list, tuple, range)):
        for each in value:
            yield from leaves_of(each)
    elif isinstance(value, np.ndarray):
        yield from value.ravel().tolist()
    else:
        yield value


def shape_value(value: Any) -> Any:
    """Extents of a TensorShape or Dimension as ints, other values as they are; ValueError when an extent is unknown."""
    if isinstance(value, Dimension):
        if value.value is None:
            raise ValueError("Cannot convert an unknown Dimension to a Tensor: ?")
        return value.value
    if isinstance(value, TensorShape):
        if not value.is_fully_defined():
            raise ValueError(f"Cannot convert a partially known TensorShape {value} to a Tensor.")
        return value.as_list()
    return value


def mismatch(value: Any, dtype: DType) -> NoReturn:
    """The TypeError for a value of another kind than the dtype."""
    raise TypeError(f"Expected {dtype.name}, but got {value} of type '{type(value).__name__}'.")


def unconvertible(value: Any) -> TypeError:
    text = repr(value)
    text = text if len(text) < 200 else text[:200] + "…"
    return TypeError(
        f"Failed to convert elements of {text} to Tensor: an object of type '{type(value).__name__}' has no dtype here."
    )


def filled(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The elements in `shape`, the last one repeated to fill it; ValueError when there are too many."""
    count = math.prod(shape)
    if array.size > max(count, 1):
        raise ValueError(f"Too many elements provided. Takes at most {count}, but got {array.size}.")
    if array.size == 0 or count == 0:
        return np.zeros(shape, array.dtype) if array.dtype != object else np.full(shape, b"", object)
    result = np.full(shape, array.flat[-1], array.dtype)
    result.reshape(-1)[: array.size] = array.ravel()
    return result
