"""Assertions about tensors: checked at once where the graph alone tells, else by an op that fails the step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from stepjit.framework.constant_value import constant_value
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.indexed_slices import IndexedSlices
from stepjit.framework.scopes import control_dependencies, name_scope
from stepjit.framework.sparse_tensor import SparseTensor
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops import array, comparison, control, elementwise, reductions
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType, as_dtype
from stepjit_runtime.errors import InvalidArgumentError

# --- comparisons of elements ---


def _check(holds: Tensor, static: bool | None, data: Sequence[Any], summarize: int | None) -> Operation:
    """An op that fails unless all of `holds`; InvalidArgumentError now where that is known to be false."""
    if static is False:
        raise InvalidArgumentError(None, None, "\n".join(map(_plain, data)))
    return control.Assert(reductions.reduce_all(holds), data, summarize=summarize)


def _plain(item: Any) -> str:
    value = constant_value(item) if isinstance(item, Tensor) else item
    return str(item if value is None else value)


def _compared(
    kind: str, sign: str, compare: Callable[..., Tensor], numpy_compare: Callable[..., Any],
) -> Callable[..., Operation]:  # fmt: skip
    def check(
        x: Any, y: Any, data: Sequence[Any] | None = None, summarize: int | None = None, message: str | None = None,
        name: str | None = None,
    ) -> Operation:  # fmt: skip
        with name_scope(name, kind, [x, y, data]):
            x, y = _pair(x, y)
            if data is None:
                says = f"Condition x {sign} y did not hold element-wise:"
                data = [*([] if message is None else [message]), says, f"x ({x.name}) = ", x, f"y ({y.name}) = ", y]
            known = constant_value(x), constant_value(y)
            static = None if known[0] is None or known[1] is None else bool(np.all(numpy_compare(*known)))
            return _check(compare(x, y), static, data, summarize)

    check.__name__ = check.__qualname__ = kind
    check.__doc__ = (
        f"An op that fails with InvalidArgumentError unless `x {sign} y` for all pairs of elements, broadcast.\n\n"
        "    data: what the message shows; by default `message`, x and y. Raises now what is wrong in any run.\n    "
    )
    return check


def _pair(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    if isinstance(y, Tensor) and not isinstance(x, Tensor):
        y = convert_to_tensor(y, name="y")
        return convert_to_tensor(x, preferred_dtype=y.dtype.base_dtype, name="x"), y
    x = convert_to_tensor(x, name="x")
    return x, convert_to_tensor(y, preferred_dtype=x.dtype.base_dtype, name="y")


assert_equal = _compared("assert_equal", "==", comparison.equal, np.equal)
assert_none_equal = _compared("assert_none_equal", "!=", comparison.not_equal, np.not_equal)
assert_less = _compared("assert_less", "<", comparison.less, np.less)
assert_less_equal = _compared("assert_less_equal", "<=", comparison.less_equal, np.less_equal)
assert_greater = _compared("assert_greater", ">", comparison.greater, np.greater)
assert_greater_equal = _compared("assert_greater_equal", ">=", comparison.greater_equal, np.greater_equal)


def _signed(kind: str, sign: str, check: Callable[..., Operation]) -> Callable[..., Operation]:
    def signed(
        x: Any, data: Sequence[Any] | None = None, summarize: int | None = None, message: str | None = None,
        name: str | None = None,
    ) -> Operation:  # fmt: skip
        with name_scope(name, kind, [x, data]):
            x = convert_to_tensor(x, name="x")
            if data is None:
                data = [message or "", f"Condition x {sign} 0 did not hold element-wise:", f"x ({x.name}) = ", x]
            return check(x, np.zeros((), x.dtype.base_dtype.np), data=data, summarize=summarize)

    signed.__name__ = signed.__qualname__ = kind
    signed.__doc__ = f"An op that fails with InvalidArgumentError unless `x {sign} 0` for all elements."
    return signed


assert_negative = _signed("assert_negative", "<", assert_less)
assert_positive = _signed("assert_positive", ">", assert_greater)
assert_non_negative = _signed("assert_non_negative", ">=", assert_greater_equal)
assert_non_positive = _signed("assert_non_positive", "<=", assert_less_equal)


def assert_near(
    x: Any, y: Any, rtol: Any = None, atol: Any = None, data: Sequence[Any] | None = None,
    summarize: int | None = None, message: str | None = None, name: str | None = None,
) -> Operation:  # fmt: skip
    """An op that fails with InvalidArgumentError unless `|x - y| <= atol + rtol |y|` for all pairs of elements.

    rtol, atol: ten times the dtype's resolution by default.
    """
    with name_scope(name, "assert_near", [x, y, rtol, atol, data]):
        x = convert_to_tensor(x, name="x")
        y = convert_to_tensor(y, x.dtype.base_dtype, name="y")
        real = x.dtype.base_dtype.real_dtype
        default = 0 if real.is_integer else 10 * float(np.finfo(np.float32 if real.itemsize == 2 else real.np).eps)
        rtol = convert_to_tensor(default if rtol is None else rtol, real, name="rtol")
        atol = convert_to_tensor(default if atol is None else atol, real, name="atol")
        if data is None:
            data = [
                message or "", f"x and y not equal to tolerance rtol = {rtol}, atol = {atol}", f"x ({x.name}) = ", x,
                f"y ({y.name}) = ", y,
            ]  # fmt: skip
        near = comparison.less_equal(elementwise.abs(x - y), atol + rtol * elementwise.abs(y))
        return control.Assert(reductions.reduce_all(near), data, summarize=summarize)


# --- ranks ---


def _of_rank(
    x: Any, ranks: Sequence[Any], what: str, fits: Callable[[int, list[int]], bool],
    holds: Callable[[Tensor, list[Tensor]], Tensor], data: Any, summarize: int | None, message: str | None,
) -> Operation:  # fmt: skip
    if not isinstance(x, SparseTensor):
        x = convert_to_tensor(x, name="x")
    tensors = [convert_to_tensor(rank, name="rank") for rank in ranks]
    for tensor in tensors:
        if tensor.dtype.base_dtype is not dtypes.int32:
            raise TypeError(f"{tensor.name} must be of type tf.int32; got {tensor.dtype.base_dtype.name}")
        if tensor.dims not in ((), None):
            raise ValueError("Rank must be a scalar.")
    name = getattr(x, "name", "")
    known = [constant_value(tensor) for tensor in tensors]
    have = x.shape.ndims
    if have is not None and all(each is not None for each in known):
        numbers = [int(each) for each in known if each is not None]
        if not fits(have, numbers):
            shown = numbers[0] if what != "rank in" else tuple(numbers)
            raise ValueError(
                f"{_prefix(message)}Tensor {name} must have {what} {shown}.  Received rank {have}, shape {x.shape}"
            )
        return control.no_op(name="static_checks_determined_all_ok")
    if data is None:
        shape = x.dense_shape if isinstance(x, SparseTensor) else array.shape(x)
        data = [message or "", f"Tensor {name} must have {what}", *tensors, "Received shape: ", shape]
    return control.Assert(holds(array.rank(x), tensors), data, summarize=summarize)


def _prefix(message: str | None) -> str:
    return f"{message}.  " if message else ""


def assert_rank(
    x: Any, rank: Any, data: Any = None, summarize: int | None = None, message: str | None = None,
    name: str | None = None,
) -> Operation:  # fmt: skip
    """An op that fails unless `x` has that rank; ValueError now where the graph tells that it has another one."""
    with name_scope(name, "assert_rank", [x, rank, data]):
        return _of_rank(
            x, [rank], "rank", lambda have, ranks: have == ranks[0],
            lambda have, ranks: comparison.equal(have, ranks[0]), data, summarize, message,
        )  # fmt: skip


def assert_rank_at_least(
    x: Any, rank: Any, data: Any = None, summarize: int | None = None, message: str | None = None,
    name: str | None = None,
) -> Operation:  # fmt: skip
    """An op that fails unless `x` has that rank or a higher one; ValueError where the graph tells that it has not."""
    with name_scope(name, "assert_rank_at_least", [x, rank, data]):
        return _of_rank(
            x, [rank], "rank at least", lambda have, ranks: have >= ranks[0],
            lambda have, ranks: comparison.greater_equal(have, ranks[0]), data, summarize, message,
        )  # fmt: skip


def assert_rank_in(
    x: Any, ranks: Iterable[Any], data: Any = None, summarize: int | None = None, message: str | None = None,
    name: str | None = None,
) -> Operation:  # fmt: skip
    """An op that fails unless `x` has one of those ranks; ValueError where the graph tells that it has not."""
    with name_scope(name, "assert_rank_in", [x, data]):
        return _of_rank(
            x, list(ranks), "rank in", lambda have, ranks: have in ranks,
            lambda have, ranks: reductions.reduce_any(comparison.equal(have, array.stack(ranks))),
            data, summarize, message,
        )  # fmt: skip


# --- dtypes and shapes: known when the graph is built ---


def assert_integer(x: Any, message: str | None = None, name: str | None = None) -> Operation:
    """An op that does nothing; TypeError unless `x` has an integer dtype."""
    with name_scope(name, "assert_integer", [x]):
        x = convert_to_tensor(x, name="x")
        if not x.dtype.is_integer:
            found = f"Found: {x.name} of dtype {x.dtype!r}"
            raise TypeError(f'{_prefix(message)}Expected "x" to be integer type.  {found}')
        return control.no_op(name="statically_determined_was_integer")


def assert_type(tensor: Any, tf_type: Any, message: str | None = None, name: str | None = None) -> Operation:
    """An op that does nothing; TypeError unless the tensor has that dtype."""
    wanted = as_dtype(tf_type)
    with name_scope(name, "assert_type", [tensor]):
        if not isinstance(tensor, SparseTensor):
            tensor = convert_to_tensor(tensor, name="tensor")
        if tensor.dtype.base_dtype is not wanted:
            have = f"{tensor.name} must be of type tf.{wanted.name}; got tf.{tensor.dtype.base_dtype.name}"
            raise TypeError(f"{_prefix(message)}{have}")
        return control.no_op(name="statically_determined_correct_type")


def assert_scalar(tensor: Any, name: str | None = None, message: str | None = None) -> Tensor:
    """The tensor; ValueError unless it is known to be a scalar."""
    with name_scope(name, "assert_scalar", [tensor]):
        tensor = convert_to_tensor(tensor, name="tensor")
        if tensor.shape.ndims != 0:
            unknown = tensor.shape.ndims is None
            seen = "unknown shape" if unknown else f"shape: {tensor.shape}"
            raise ValueError(f"{_prefix(message)}Expected scalar shape for {tensor.name}, saw {seen}.")
        return tensor


def assert_same_float_dtype(tensors: Sequence[Any] | None = None, dtype: Any = None) -> DType:
    """The one dtype of the tensors (float32 when there is neither a tensor nor a dtype).

    ValueError when they differ, or are not floating point.
    """
    found = None if dtype is None else as_dtype(dtype).base_dtype
    for each in tensors or ():
        if each is None:
            continue
        have = each.dtype.base_dtype
        if found is not None and have is not found:
            raise ValueError(f"Tensor {each!r} must be of type {found.name}, not {have.name}")
        found = have
    found = found or dtypes.float32
    if not found.is_floating:
        raise ValueError(f"Expected floating point type, got {found.name}.")
    return found


def assert_proper_iterable(values: Any) -> None:
    """TypeError for what can't be iterated over, and for tensors, arrays and text, whose parts nobody meant."""
    if isinstance(values, (Tensor, IndexedSlices, SparseTensor, np.ndarray, str, bytes)):
        raise TypeError(f'Expected argument "values" to be a "proper" iterable.  Found: {type(values)}')
    if not hasattr(values, "__iter__"):
        raise TypeError(f'Expected argument "values" to be iterable.  Found: {type(values)}')


def is_numeric_tensor(tensor: Any) -> bool:
    """Whether it is a tensor of integers, floating-point or complex numbers."""
    return isinstance(tensor, (Tensor, SparseTensor)) and tensor.dtype.base_dtype.kind in "iufc"


# --- order of elements ---


def is_non_decreasing(x: Any, name: str | None = None) -> Tensor:
    """Whether no element of `x`, as a flat list, is smaller than the one before it: a bool scalar."""
    with name_scope(name, "is_non_decreasing", [x]):
        before, after = _neighbours(x)
        return reductions.reduce_all(comparison.less_equal(before, after))


def is_strictly_increasing(x: Any, name: str | None = None) -> Tensor:
    """Whether every element of `x`, as a flat list, is larger than the one before it: a bool scalar."""
    with name_scope(name, "is_strictly_increasing", [x]):
        before, after = _neighbours(x)
        return reductions.reduce_all(comparison.less(before, after))


def _neighbours(x: Any) -> tuple[Tensor, Tensor]:
    x = convert_to_tensor(x, name="x")
    if not is_numeric_tensor(x):
        raise TypeError(f"Expected x to be numeric, instead found: {x}")
    flat = array.reshape(x, [-1])
    return flat[:-1], flat[1:]


# --- NaN and infinities ---


def verify_tensor_all_finite(
    t: Any = None, msg: str | None = None, name: str | None = None, x: Any = None, message: str | None = None
) -> Tensor:
    """The tensor, after a check that fails with InvalidArgumentError where it has a NaN or an infinity."""
    value = t if x is None else x
    text = msg if message is None else message
    with name_scope(name, "VerifyFinite", [value]):
        value = convert_to_tensor(value, name="x")
        checked = control.check_numerics(value, text or "")
        with control_dependencies([checked]):
            return control.identity(value)


def add_check_numerics_ops() -> Operation:
    """An op that fails with InvalidArgumentError when a tensor of floats made so far has a NaN or an infinity."""
    from stepjit.framework.stack import get_default_graph

    checks: list[Operation] = []
    for op in get_default_graph().get_operations():
        for tensor in op.outputs:
            if tensor.dtype in (dtypes.float16, dtypes.float32, dtypes.float64):
                with control_dependencies(checks[-1:]):
                    checks.append(control.check_numerics(tensor, f"{op.name}:{tensor.value_index}").op)
    return control.group(*checks)
