"""Values as tensors: `convert_to_tensor`, `constant`, and the registry of further types that can be converted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepjit.framework.graph import op_def_of
from stepjit.framework.shape import Dimension, TensorShape, as_dims, as_shape
from stepjit.framework.stack import get_default_graph
from stepjit.framework.tensor import Tensor
from stepjit.framework.values import SCALARS, filled, to_array
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType

ConversionFunction = Callable[..., Any]
"""`f(value, dtype, name, as_ref)` gives a Tensor, or NotImplemented to pass."""

_REGISTERED: list[tuple[int, int, Any, ConversionFunction]] = []
_BY_TYPE: dict[type, tuple[ConversionFunction, ...]] = {}


def register_tensor_conversion_function(
    base_type: Any, conversion_func: ConversionFunction, priority: int = 100
) -> None:
    """Convert values of a type (or of any in a tuple) by a function; lower priorities are tried first."""
    kinds = base_type if isinstance(base_type, tuple) else (base_type,)
    if not kinds or not all(isinstance(kind, type) for kind in kinds):
        raise TypeError(f"base_type must be a type or a tuple of types, got {base_type!r}")
    if not callable(conversion_func):
        raise TypeError("conversion_func must be callable")
    _REGISTERED.append((priority, len(_REGISTERED), kinds, conversion_func))
    _REGISTERED.sort(key=lambda entry: entry[:2])
    _BY_TYPE.clear()


def functions_for(kind: type) -> tuple[ConversionFunction, ...]:
    """The registered functions that may convert values of a type, in the order to try."""
    found = _BY_TYPE.get(kind)
    if found is None:
        found = tuple(function for _, _, kinds, function in _REGISTERED if issubclass(kind, kinds))
        _BY_TYPE[kind] = found
    return found


def convert_to_tensor(
    value: Any,
    dtype: Any = None,
    name: str | None = None,
    preferred_dtype: Any = None,
    dtype_hint: Any = None,
    as_ref: bool = False,
) -> Tensor:
    """`value` as a tensor: itself, a variable's value, or a new constant.

    dtype: the dtype it must have: ValueError for a tensor of another, TypeError for a value of another kind.
    preferred_dtype: used when the value allows it.
    """
    if dtype is not None and type(dtype) is not DType:
        dtype = dtypes.as_dtype(dtype)
    if isinstance(value, Tensor):
        if dtype is not None and dtype.base_dtype is not value.dtype.base_dtype:
            raise _wrong_dtype(value, dtype)
        return value
    preferred = preferred_dtype if preferred_dtype is not None else dtype_hint
    if dtype is None and preferred is not None:
        try:
            return _convert(value, dtypes.as_dtype(preferred), name, as_ref)
        except (TypeError, ValueError):
            pass
    return _convert(value, dtype, name, as_ref)


def _convert(value: Any, dtype: DType | None, name: str | None, as_ref: bool) -> Tensor:
    kind = type(value)
    if kind not in SCALARS:
        functions = functions_for(kind)
        for function in functions:
            found = function(value, dtype, name, as_ref)
            if found is not NotImplemented:
                return _checked(found, dtype, function)
        if isinstance(value, (list, tuple)) and has_tensor(value):
            return pack(value, dtype, name)
        if isinstance(value, (TensorShape, Dimension)):
            name = name or "shape_as_tensor"
    array, found_dtype = to_array(value, dtype)
    return new_constant(array, found_dtype, name or "Const")


def _checked(found: Any, dtype: DType | None, function: ConversionFunction) -> Tensor:
    if not isinstance(found, Tensor):
        raise RuntimeError(f"Conversion function {function!r} returned a value that is no Tensor: {found!r}")
    if dtype is not None and not dtype.is_compatible_with(found.dtype):
        raise _wrong_dtype(found, dtype)
    return found


def _wrong_dtype(tensor: Tensor, dtype: DType) -> ValueError:
    return ValueError(
        f"Tensor conversion requested dtype {dtype.name} for Tensor with dtype {tensor.dtype.name}: {tensor!r}"
    )


def new_constant(array: np.ndarray, dtype: DType, name: str) -> Tensor:
    """A Const op in the default graph; `array` is read-only and nobody else's."""
    graph = get_default_graph()
    attrs = {"value": array, "dtype": dtype}
    return graph.add(_const(), (), attrs, graph.full_name(name), (dtype,)).outputs[0]


_CONST: list[Any] = []


def _const() -> Any:
    if not _CONST:
        _CONST.append(op_def_of("Const"))
    return _CONST[0]


def constant(
    value: Any, dtype: Any = None, shape: Any = None, name: str = "Const", verify_shape: bool = False
) -> Tensor:
    """A tensor with a fixed value.

    shape: the value's elements are put in it and the last one repeated; with `verify_shape` it must be the value's
        own. ValueError when there are more elements than it holds, TypeError for a value of another kind than `dtype`.
    """
    if isinstance(value, Tensor):
        raise TypeError("Expected any non-tensor type, but got a tensor instead.")
    array, found = to_array(value, None if dtype is None else dtypes.as_dtype(dtype))
    if shape is not None:
        wanted = as_dims(shape)
        if wanted is None or None in wanted:
            raise ValueError(f"A constant's shape must be fully defined, got {as_shape(shape)}")
        if array.shape != wanted:
            if verify_shape:
                raise TypeError(f"Expected Tensor's shape: {as_shape(shape)}, but got {TensorShape(array.shape)}.")
            array = filled(array, wanted)  # type: ignore[arg-type]
            array.setflags(write=False)
    return new_constant(array, found, name or "Const")


def has_tensor(values: Any) -> bool:
    """Whether a nested list or tuple holds a tensor, or a value that only a conversion function makes one."""
    kinds = set(map(type, values))
    if kinds <= SCALARS:
        return False
    for value in values:
        kind = type(value)
        if kind in SCALARS:
            continue
        if isinstance(value, Tensor):
            return True
        if isinstance(value, (list, tuple)):
            if has_tensor(value):
                return True
        elif not isinstance(value, (np.ndarray, np.generic)) and functions_for(kind):
            return True
    return False


def pack(values: Any, dtype: DType | None, name: str | None) -> Tensor:
    """Stack the converted elements of a list that holds tensors; the first tensor's dtype is everyone's."""
    from stepjit.framework.apply import apply_op

    graph = get_default_graph()
    full = graph.full_name(name or "packed")
    local = graph.local
    outer, local.scope = local.scope, full
    try:
        elements: list[Any] = [None] * len(values)
        wanted = dtype
        for k, value in enumerate(values):
            if type(value) not in SCALARS and (isinstance(value, Tensor) or functions_for(type(value))):
                elements[k] = convert_to_tensor(value, dtype, str(k))
            elif isinstance(value, (list, tuple)) and has_tensor(value):
                elements[k] = pack(value, dtype, str(k))
            if wanted is None and elements[k] is not None:
                wanted = elements[k].dtype.base_dtype
        for k, value in enumerate(values):
            if elements[k] is None:
                elements[k] = convert_to_tensor(value, wanted, str(k))
    finally:
        local.scope = outer
    return apply_op("Pack", values=elements, axis=0, name=full + "/")


def convert_n_to_tensor(
    values: Any, dtype: Any = None, name: str | None = None, preferred_dtype: Any = None
) -> list[Tensor]:
    """Each of `values` as a tensor; TypeError unless they are a sequence."""
    if not isinstance(values, (list, tuple)):
        raise TypeError("values must be a sequence.")
    return [
        convert_to_tensor(value, dtype, None if name is None else f"{name}_{k}", preferred_dtype)
        for k, value in enumerate(values)
    ]
