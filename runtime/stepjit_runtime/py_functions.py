"""Python functions that ops call in mid-step, by token; each lives as long as the graph that it was put in."""

from __future__ import annotations

import itertools
import traceback
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from stepjit_runtime import errors
from stepjit_runtime.dtypes import DType, as_dtype
from stepjit_runtime.errors import OpFailure

_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (ValueError, errors.INVALID_ARGUMENT),
    (TypeError, errors.INVALID_ARGUMENT),
    (StopIteration, errors.OUT_OF_RANGE),
    (MemoryError, errors.RESOURCE_EXHAUSTED),
    (NotImplementedError, errors.UNIMPLEMENTED),
)
_NAMES = {"float32": "float", "float64": "double", "float16": "half"}


class PyFunction:
    """A function and the token that ops know it by."""

    __slots__ = ("__weakref__", "function", "token")

    def __init__(self, function: Callable[..., Any], token: str) -> None:
        self.function, self.token = function, token


_numbers = itertools.count()
_known: weakref.WeakValueDictionary[str, PyFunction] = weakref.WeakValueDictionary()


def register(function: Callable[..., Any]) -> PyFunction:
    """Give the function a token; it is forgotten with the object that is returned."""
    made = PyFunction(function, f"pyfunc_{next(_numbers)}")
    _known[made.token] = made
    return made


def call(token: str, arrays: Sequence[np.ndarray], dtypes: Sequence[DType]) -> tuple[np.ndarray, ...]:
    """What the function gives for arrays, as arrays of just these dtypes.

    The function gets arrays of its own, and scalars of numpy's (bytes for strings) for arrays without dimensions.
    OpFailure with TF's code for what the function raises, and for results of other number or dtype.
    """
    found = _known.get(token)
    if found is None:
        raise OpFailure(f"ValueError: callback {token} is not found: the graph that it was made in is gone")
    try:
        # Numpy warns inside the function as it does outside of steps.
        with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
            given = found.function(*[array.copy() if array.ndim else array[()] for array in arrays])
        values = _values(given)
    except OpFailure:
        raise
    except (Exception, SystemExit) as error:
        _fail(error)
    if len(values) != len(dtypes):
        raise OpFailure(f"{token} returns {len(values)} values, but expects to see {len(dtypes)} values.")
    for k, (value, dtype) in enumerate(zip(values, dtypes, strict=True)):
        have = as_dtype(value.dtype)
        if have is not dtype:
            raise OpFailure(f"{k}-th value returned by {token} is {_name(have)}, but expects {_name(dtype)}")
    return tuple(values)


def _values(given: Any) -> list[np.ndarray]:
    if given is None:
        return []
    return [_array(each) for each in given] if isinstance(given, (list, tuple)) else [_array(given)]


def _array(value: Any) -> np.ndarray:
    array = np.asarray(value, order="C")
    if array.dtype.kind == "U":
        return np.char.encode(array, "utf-8").astype(object)
    if array.dtype.kind == "S":
        # numpy's own arrays of bytes lose zeros at the ends.
        return array.astype(object) if isinstance(value, np.ndarray) else np.asarray(value, object)
    if array.dtype.kind == "O":
        found = np.empty(array.shape, object)
        for index, element in np.ndenumerate(array):
            if not isinstance(element, (bytes, str)):
                raise OpFailure(f"Unsupported object type {type(element).__name__}", errors.INTERNAL)
            found[index] = element.encode() if isinstance(element, str) else bytes(element)
        return found
    return array


def _fail(error: BaseException) -> NoReturn:
    code = next((code for kind, code in _CODES if isinstance(error, kind)), errors.UNKNOWN)
    # The frames below this module's are the user's.
    frames = error.__traceback__.tb_next if error.__traceback__ is not None else None
    kind = type(error)
    name = kind.__name__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__name__}"
    where = "".join(traceback.format_tb(frames)).rstrip()
    text = f"{name}: {error}"
    raise OpFailure(f"{text}\nTraceback (most recent call last):\n{where}\n{text}" if where else text, code) from error


def _name(dtype: DType) -> str:
    return _NAMES.get(dtype.name, dtype.name)
