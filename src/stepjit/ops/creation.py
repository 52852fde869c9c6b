"""Tensors made from shapes and numbers: fill, zeros, ones, range, linspace, eye, diagonals, masks; with gradients."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepjit.framework.apply import apply_op, convert_to_tensor_dtype
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.registry import NotDifferentiable, RegisterGradient
from stepjit.framework.scopes import name_scope
from stepjit.framework.shape import TensorShape
from stepjit.framework.sparse_tensor import SparseTensor
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.reductions import reduce_max, reduce_sum
from stepjit_runtime import dtypes
from stepjit_runtime.dtypes import DType, as_dtype

# Small constants are kept as values; larger ones are filled in the step, which keeps the graph small.
_LARGEST_CONSTANT = 1000


def fill(dims: Any, value: Any, name: str | None = None, layout: Any = None) -> Tensor:
    """A tensor of shape `dims` whose elements are all `value`."""
    return apply_op("Fill", dims=dims, value=value, name=name)


@RegisterGradient("Fill")
def _fill_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    return [None, reduce_sum(grad)]


def _static_dims(shape: Any) -> tuple[int, ...] | None:
    """`shape` as ints when it is given as such."""
    if isinstance(shape, TensorShape):
        return tuple(int(each) for each in shape.as_list()) if shape.is_fully_defined() else None  # type: ignore[arg-type]
    if isinstance(shape, Tensor):
        return None
    items = list(shape) if isinstance(shape, (list, tuple)) or np.ndim(shape) else [shape]
    if any(isinstance(each, Tensor) for each in items):
        return None
    return tuple(int(getattr(each, "value", each)) for each in items)


def _filled(shape: Any, number: Any, dtype: DType, scope: str) -> Tensor:
    dims = None if isinstance(shape, Tensor) else _static_dims(shape)
    if dims is not None:
        if int(np.prod(dims, dtype=np.int64)) < _LARGEST_CONSTANT:
            return constant(number, dtype=dtype, shape=list(dims), name=scope)
        shape = constant(list(dims), dtype="int32", shape=[len(dims)], name="shape_as_tensor")
    elif not isinstance(shape, Tensor):
        shape = convert_to_tensor(shape, dtype="int32", name="shape")
    if shape.dims == ():
        shape = apply_op("Reshape", tensor=shape, shape=[-1])
    return apply_op("Fill", dims=shape, value=constant(number, dtype=dtype), name=scope)


def _zero_of(dtype: DType) -> Any:
    return {"b": False, "s": ""}.get(dtype.kind, 0)


def zeros(shape: Any, dtype: Any = dtypes.float32, name: str | None = None, layout: Any = None) -> Tensor:
    """A tensor of zeros (empty strings, False)."""
    with name_scope(name, "zeros", [shape]) as scope:
        base = as_dtype(dtype).base_dtype
        return _filled(shape, _zero_of(base), base, scope)


def ones(shape: Any, dtype: Any = dtypes.float32, name: str | None = None, layout: Any = None) -> Tensor:
    """A tensor of ones (True)."""
    with name_scope(name, "ones", [shape]) as scope:
        base = as_dtype(dtype).base_dtype
        return _filled(shape, True if base.is_bool else 1, base, scope)


def zeros_like(tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True) -> Tensor:
    """Zeros of the shape, and by default the dtype, of `tensor`."""
    with name_scope(name, "zeros_like", [tensor]) as scope:
        if isinstance(tensor, SparseTensor):
            base = as_dtype(dtype or tensor.dtype).base_dtype
            return zeros(tensor.shape if tensor.shape.is_fully_defined() else tensor.dense_shape, base, name=scope)
        x = convert_to_tensor(tensor, name="tensor")
        base = x.dtype.base_dtype if dtype is None else as_dtype(dtype).base_dtype
        if optimize and x.dims is not None and None not in x.dims and base.kind not in "o":
            return zeros(TensorShape(x.dims), base, name=scope)
        if base is not x.dtype.base_dtype:
            from stepjit.ops.array import shape as shape_of

            return zeros(shape_of(x), base, name=scope)
        return apply_op("ZerosLike", x=x, name=scope)


def ones_like(tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True) -> Tensor:
    """Ones of the shape, and by default the dtype, of `tensor`."""
    from stepjit.ops.array import shape as shape_of

    with name_scope(name, "ones_like", [tensor]) as scope:
        x = convert_to_tensor(tensor, name="tensor")
        base = x.dtype.base_dtype if dtype is None else as_dtype(dtype).base_dtype
        return ones(shape_of(x), base, name=scope)


for _kind in ("ZerosLike", "OnesLike"):
    NotDifferentiable(_kind)


# --- sequences ---


def range(
    start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: str | None = "range"
) -> Tensor:  # fmt: skip
    """Numbers from `start` (0 when one bound is given) up to but without `limit`, `delta` apart."""
    if limit is None:
        start, limit = 0, start
    with name_scope(name, "Range", [start, limit, delta]) as scope:
        wanted = None if dtype is None else as_dtype(dtype)
        labelled = ((start, "start"), (limit, "limit"), (delta, "delta"))
        plain = (int, float, np.generic, np.ndarray)
        given = [each if isinstance(each, plain) else convert_to_tensor(each, name=label) for each, label in labelled]
        if wanted is None:
            order = [dtypes.int32, dtypes.int64, dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64]
            kinds = (each.dtype if isinstance(each, Tensor) else convert_to_tensor_dtype(each) for each in given)
            wanted = max((kind.base_dtype for kind in kinds), key=order.index)
        values = [convert_to_tensor(each, None if isinstance(each, Tensor) else wanted, label)
                  for each, (_, label) in zip(given, labelled)]  # fmt: skip
        low, high, step = (
            each if each.dtype.base_dtype is wanted else apply_op("Cast", x=each, DstT=wanted) for each in values
        )
        return apply_op("Range", start=low, limit=high, delta=step, name=scope)


NotDifferentiable("Range")


def linspace(start: Any, stop: Any, num: Any, name: str | None = None, axis: int = 0) -> Tensor:
    """`num` numbers at equal distance from `start` to `stop`, both included; tensors get the new dimension `axis`.

    Integers become float64.
    """
    first = convert_to_tensor(start, name="start")
    last = convert_to_tensor(stop, dtype=first.dtype.base_dtype, name="stop")
    if first.dtype.is_integer:
        first, last = (apply_op("Cast", x=each, DstT=dtypes.float64) for each in (first, last))
    if first.dims == () and last.dims == ():
        return apply_op("LinSpace", start=first, stop=last, num=num, name=name)
    with name_scope(name, "linspace", [start, stop]) as scope:
        weights = apply_op(
            "LinSpace",
            start=constant(0, dtype=first.dtype.base_dtype),
            stop=constant(1, dtype=first.dtype.base_dtype),
            num=num,
        )
        rank = len(first.dims or ())
        place = axis % (rank + 1)
        row = apply_op("Reshape", tensor=weights, shape=[-1] + [1] * (rank - place))
        low, high = (apply_op("ExpandDims", input=each, dim=place) for each in (first, last))
        distance = apply_op("Sub", x=high, y=low)
        return apply_op("AddV2", x=low, y=apply_op("Mul", x=distance, y=row), name=scope)


lin_space = linspace

@RegisterGradient("LinSpace")
def _linspace_grad(op: Operation, grad: Tensor) -> list[Any]:
    count = op.inputs[2]
    kind = grad.dtype.base_dtype
    # How far each number is on the way to the last.
    way = apply_op("LinSpace", start=constant(0, dtype=kind), stop=constant(1, dtype=kind), num=count)
    to_last = apply_op("Mul", x=grad, y=way)
    shares = (apply_op("Sub", x=grad, y=to_last), to_last)
    return [*(apply_op("Sum", input=each, reduction_indices=constant([0])) for each in shares), None]


# --- diagonals ---


def eye(
    num_rows: Any,
    num_columns: Any = None,
    batch_shape: Any = None,
    dtype: Any = dtypes.float32,
    name: str | None = None,
) -> Tensor:
    """The identity matrix, or one of `num_columns` columns, for every element of `batch_shape`."""
    with name_scope(name, default_name="eye", values=[num_rows, num_columns, batch_shape]):
        columns = num_rows if num_columns is None else num_columns
        sizes = [num_rows, columns]
        if any(isinstance(each, Tensor) for each in sizes) or isinstance(batch_shape, Tensor):
            return _dynamic_eye(sizes, batch_shape, as_dtype(dtype))
        rows, wide = (int(each) for each in sizes)
        batch = [] if batch_shape is None else [int(each) for each in _static_dims(batch_shape) or ()]
        diagonal = ones([*batch, min(rows, wide)], dtype)
        if rows == wide:
            return matrix_diag(diagonal)
        return matrix_set_diag(zeros([*batch, rows, wide], dtype), diagonal)


def _dynamic_eye(sizes: Sequence[Any], batch_shape: Any, dtype: DType) -> Tensor:
    rows, columns = (apply_op("Cast", x=convert_to_tensor(each), DstT="int32") for each in sizes)
    batch = constant([], dtype="int32") if batch_shape is None else convert_to_tensor(batch_shape, dtype="int32")
    short = apply_op("Pack", values=[apply_op("Minimum", x=rows, y=columns)])
    length = apply_op("ConcatV2", values=[batch, short], axis=0, name="concat")
    whole = apply_op("ConcatV2", values=[batch, apply_op("Pack", values=[rows, columns])], axis=0, name="concat")
    return matrix_set_diag(zeros(whole, dtype), ones(length, dtype))


def diag(diagonal: Any, name: str | None = None) -> Tensor:
    """A tensor of twice the rank with `diagonal` on its diagonal and zeros elsewhere."""
    return apply_op("Diag", diagonal=diagonal, name=name)


@RegisterGradient("Diag")
def _diag_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("DiagPart", input=grad)


def diag_part(input: Any, name: str | None = None) -> Tensor:
    """The diagonal of a tensor of even rank, halves alike."""
    return apply_op("DiagPart", input=input, name=name)


@RegisterGradient("DiagPart")
def _diag_part_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("Diag", diagonal=grad)


def _is_main(k: Any, padding_value: Any) -> bool:
    """Whether the main diagonal alone is meant, with zeros elsewhere: what the first version of these ops does."""
    plain = not isinstance(k, Tensor) and not isinstance(padding_value, Tensor)
    return plain and np.ndim(k) == 0 and int(k) == 0 and not padding_value


def matrix_diag(
    diagonal: Any, name: str | None = "diag", k: Any = 0, num_rows: Any = -1, num_cols: Any = -1,
    padding_value: Any = 0, align: str = "RIGHT_LEFT",
) -> Tensor:  # fmt: skip
    """Matrices with the last dimension of `diagonal` on their diagonals (or the bands `k`), padded elsewhere."""
    x = convert_to_tensor(diagonal, name="diagonal")
    if _is_main(k, padding_value) and (num_rows, num_cols) == (-1, -1):
        return apply_op("MatrixDiag", diagonal=x, name=name)
    padding = False if x.dtype.base_dtype.is_bool and padding_value == 0 else padding_value
    return apply_op(
        "MatrixDiagV3",
        diagonal=x,
        k=k,
        num_rows=num_rows,
        num_cols=num_cols,
        padding_value=padding,
        align=align,
        name=name,
    )


@RegisterGradient("MatrixDiagV3")
def _matrix_diag_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    return [matrix_diag_part(grad, k=op.inputs[1], align=op.attrs["align"].decode()), None, None, None, None]


@RegisterGradient("MatrixDiag")
def _matrix_diag_v1_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("MatrixDiagPart", input=grad)


def matrix_diag_part(
    input: Any, name: str | None = "diag_part", k: Any = 0, padding_value: Any = 0, align: str = "RIGHT_LEFT"
) -> Tensor:  # fmt: skip
    """The diagonals (or the bands `k`) of the matrices in the last two dimensions."""
    x = convert_to_tensor(input, name="input")
    if _is_main(k, padding_value):
        return apply_op("MatrixDiagPart", input=x, name=name)
    padding = False if x.dtype.base_dtype.is_bool and padding_value == 0 else padding_value
    return apply_op("MatrixDiagPartV3", input=x, k=k, padding_value=padding, align=align, name=name)


@RegisterGradient("MatrixDiagPartV3")
def _matrix_diag_part_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    x, k = op.inputs[0], op.inputs[1]
    align = op.attrs["align"].decode()
    zero = apply_op("ZerosLike", x=x)
    return [matrix_set_diag(zero, grad, k=k, align=align), None, None]


@RegisterGradient("MatrixDiagPart")
def _matrix_diag_part_v1_grad(op: Operation, grad: Tensor) -> Tensor:
    return apply_op("MatrixSetDiag", input=apply_op("ZerosLike", x=op.inputs[0]), diagonal=grad)


def matrix_set_diag(
    input: Any, diagonal: Any, name: str | None = "set_diag", k: Any = 0, align: str = "RIGHT_LEFT"
) -> Tensor:  # fmt: skip
    """The matrices of `input` with their diagonals (or the bands `k`) replaced."""
    if _is_main(k, 0):
        return apply_op("MatrixSetDiag", input=input, diagonal=diagonal, name=name)
    return apply_op("MatrixSetDiagV3", input=input, diagonal=diagonal, k=k, align=align, name=name)


@RegisterGradient("MatrixSetDiagV3")
def _matrix_set_diag_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    diagonal, k = op.inputs[1], op.inputs[2]
    align = op.attrs["align"].decode()
    cleared = matrix_set_diag(grad, apply_op("ZerosLike", x=diagonal), k=k, align=align)
    return [cleared, matrix_diag_part(grad, k=k, align=align), None]


@RegisterGradient("MatrixSetDiag")
def _matrix_set_diag_v1_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    cleared = apply_op("MatrixSetDiag", input=grad, diagonal=apply_op("ZerosLike", x=op.inputs[1]))
    return [cleared, apply_op("MatrixDiagPart", input=grad)]


def matrix_band_part(input: Any, num_lower: Any, num_upper: Any, name: str | None = None) -> Tensor:
    """The matrices with zeros outside the band; -1 keeps the whole triangle."""
    return apply_op("MatrixBandPart", input=input, num_lower=num_lower, num_upper=num_upper, name=name)


@RegisterGradient("MatrixBandPart")
def _matrix_band_part_grad(op: Operation, grad: Tensor) -> Sequence[Any]:
    return [apply_op("MatrixBandPart", input=grad, num_lower=op.inputs[1], num_upper=op.inputs[2]), None, None]


# --- grids and masks ---


def meshgrid(*args: Any, **kwargs: Any) -> list[Tensor]:
    """The coordinates of a grid over vectors; `indexing="xy"` (default) swaps the first two, `"ij"` doesn't."""
    indexing, name = kwargs.pop("indexing", "xy"), kwargs.pop("name", "meshgrid")
    if kwargs:
        raise TypeError(f"'{next(iter(kwargs))}' is an invalid keyword argument for this function")
    if indexing not in ("xy", "ij"):
        raise ValueError(f"Argument `indexing` parameter must be either 'xy' or 'ij', got '{indexing}'")
    with name_scope(name, "meshgrid", list(args)):
        count = len(args)
        vectors = [apply_op("Reshape", tensor=convert_to_tensor(each), shape=[-1]) for each in args]
        sizes = [apply_op("Size", input=each) for each in vectors]
        places = list(builtins.range(count))
        if indexing == "xy" and count > 1:
            places[0], places[1] = 1, 0
        order = sorted(builtins.range(count), key=places.__getitem__)
        if not vectors:
            return []
        shape = apply_op("Pack", values=[sizes[k] for k in order], name="shape")
        result = []
        for vector, place in zip(vectors, places):
            row = apply_op("Reshape", tensor=vector, shape=[-1 if k == place else 1 for k in builtins.range(count)])
            result.append(apply_op("BroadcastTo", input=row, shape=shape))
        return result


def sequence_mask(lengths: Any, maxlen: Any = None, dtype: Any = dtypes.bool_, name: str | None = None) -> Tensor:
    """For every length a row that is True up to it; `maxlen` wide, by default the largest length."""
    with name_scope(name, "SequenceMask", [lengths, maxlen]):
        lengths = convert_to_tensor(lengths)
        number = lengths.dtype.base_dtype
        if maxlen is None:
            width = apply_op("Maximum", x=constant(0, dtype=number), y=reduce_max(lengths))
        else:
            width = convert_to_tensor(maxlen)
            if width.dims not in (None, ()):
                raise ValueError("Argument `maxlen` must be scalar for sequence_mask")
        base = width.dtype.base_dtype
        positions = apply_op("Range", start=constant(0, dtype=base), limit=width, delta=constant(1, dtype=base))
        ends = apply_op("ExpandDims", input=lengths, dim=-1)
        if base is not number:
            ends = apply_op("Cast", x=ends, DstT=base)
        mask = apply_op("Less", x=positions, y=ends)
        target = as_dtype(dtype).base_dtype
        return mask if target is dtypes.bool_ else apply_op("Cast", x=mask, DstT=target)
