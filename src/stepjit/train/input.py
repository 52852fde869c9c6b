"""Input pipelines of queues: producers of rows, limits of epochs, and batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.constant_value import constant_value
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.graph_keys import GraphKeys
from stepjit.framework.scopes import control_dependencies, name_scope
from stepjit.framework.shape import TensorShape, as_shape
from stepjit.framework.sparse_tensor import SparseTensor
from stepjit.framework.tensor import Operation, Tensor
from stepjit.ops.array import shape as shape_of
from stepjit.ops.cond import cond
from stepjit.ops.control import Assert, identity, no_op
from stepjit.ops.creation import range as range_of
from stepjit.ops.indexing import boolean_mask, gather
from stepjit.ops.queues import FIFOQueue, PaddingFIFOQueue, QueueBase, RandomShuffleQueue
from stepjit.ops.random import random_shuffle
from stepjit.train.queue_runner import QueueRunner, add_queue_runner
from stepjit.variables import Variable
from stepjit_runtime.dtypes import DType, bool_, int64, string

# --- producers ---


def limit_epochs(tensor: Any, num_epochs: int | None = None, name: str | None = None) -> Any:
    """The tensor, for `num_epochs` steps (None: always); after those OutOfRangeError. Counts in a local variable."""
    if num_epochs is None:
        return tensor
    if num_epochs <= 0:
        raise ValueError(f"num_epochs must be > 0 not {num_epochs}.")
    with name_scope(name, "limit_epochs", [tensor]) as scope:
        zero = convert_to_tensor(0, int64, name="Const")
        epochs = Variable(zero, name="epochs", trainable=False, collections=[GraphKeys.LOCAL_VARIABLES])
        with control_dependencies([epochs.count_up_to(num_epochs)]):
            return identity(tensor, name=scope)


def input_producer(
    input_tensor: Any,
    element_shape: Any = None,
    num_epochs: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    capacity: int = 32,
    shared_name: str | None = None,
    summary_name: str | None = None,
    name: str | None = None,
    cancel_op: Operation | None = None,
) -> FIFOQueue:
    """A queue that a queue runner fills with the rows of a tensor, epoch after epoch.

    ValueError when neither the tensor nor `element_shape` tells the shape of a row.
    """
    with name_scope(name, "input_producer", [input_tensor]):
        rows = convert_to_tensor(input_tensor, name="input_tensor")
        shape = rows.shape[1:].merge_with(as_shape(element_shape))
        if not shape.is_fully_defined():
            raise ValueError(
                "Either `input_tensor` must have a fully defined shape or `element_shape` must be specified"
            )
        if shuffle:
            rows = random_shuffle(rows, seed=seed)
        rows = limit_epochs(rows, num_epochs)
        dtype = rows.dtype.base_dtype
        queue = FIFOQueue(capacity, [dtype], [shape], shared_name=shared_name, name=name)
        add_queue_runner(QueueRunner(queue, [queue.enqueue_many([rows])], cancel_op=cancel_op))
        return queue


def string_input_producer(
    string_tensor: Any,
    num_epochs: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    capacity: int = 32,
    shared_name: str | None = None,
    name: str | None = None,
    cancel_op: Operation | None = None,
) -> FIFOQueue:
    """A queue of strings, such as file names, which a queue runner fills; see `input_producer`."""
    empty = "string_input_producer requires a non-null input tensor"
    if not isinstance(string_tensor, Tensor) and not len(string_tensor):
        raise ValueError(empty)
    with name_scope(name, "input_producer", [string_tensor]) as scope:
        strings = convert_to_tensor(string_tensor, string)
        some = apply_op("Greater", x=apply_op("Size", input=strings), y=0)
        with control_dependencies([Assert(some, [empty])]):
            strings = identity(strings)
        return input_producer(
            strings, [], num_epochs, shuffle, seed, capacity, shared_name, None, scope, cancel_op
        )


def range_input_producer(
    limit: Any,
    num_epochs: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    capacity: int = 32,
    shared_name: str | None = None,
    name: str | None = None,
) -> FIFOQueue:
    """A queue of the integers from 0 to `limit` - 1, which a queue runner fills; see `input_producer`."""
    with name_scope(name, "input_producer", [limit]) as scope:
        return input_producer(range_of(limit), [], num_epochs, shuffle, seed, capacity, shared_name, None, scope)


def slice_input_producer(
    tensor_list: Sequence[Any],
    num_epochs: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    capacity: int = 32,
    shared_name: str | None = None,
    name: str | None = None,
) -> list[Tensor]:
    """A row of each tensor, the same row of all, another in each step; a queue runner supplies row numbers."""
    with name_scope(name, "input_producer", list(tensor_list)):
        tensors = [convert_to_tensor(each) for each in tensor_list]
        if not tensors:
            raise ValueError("Expected at least one tensor in slice_input_producer().")
        count = shape_of(tensors[0])[0]
        queue = range_input_producer(count, num_epochs, shuffle, seed, capacity, shared_name)
        index = queue.dequeue()
        return [gather(each, index) for each in tensors]


# --- batches ---


_Value = Tensor | SparseTensor
_MakeQueue = Callable[[list[DType], list[TensorShape]], QueueBase]
"""`make(dtypes, shapes)` makes the queue that batches are gathered in."""


def _as_list(tensors: Any) -> list[Any]:
    return [tensors[key] for key in sorted(tensors, key=str)] if isinstance(tensors, dict) else list(tensors)


def _like(original: Any, tensors: list[Any]) -> Any:
    """What a queue gave, in the structure that the user put in."""
    if isinstance(original, dict):
        return dict(zip(sorted(original, key=str), tensors))
    return tensors[0] if len(tensors) == 1 else tensors


def _converted(inputs: Sequence[Any], caller: str) -> list[list[_Value]]:
    """Each of the inputs as a list of tensors; they must be alike."""
    if not inputs or not all(len(tensors) for tensors in inputs):
        raise ValueError(f"Expected at least one tensor in {caller}().")
    found = [
        [each if isinstance(each, SparseTensor) else convert_to_tensor(each) for each in _as_list(tensors)]
        for tensors in inputs
    ]
    if len({len(tensors) for tensors in found}) > 1:
        raise ValueError(f"All inputs of {caller}() must have the same number of tensors.")
    if len({tuple((type(each), each.dtype.base_dtype.name) for each in tensors) for tensors in found}) > 1:
        raise TypeError(f"All inputs of {caller}() must have the same dtypes, and be sparse at the same places.")
    return found


def _checked_keep(keep_input: Any, enqueue_many: bool) -> Tensor:
    keep = convert_to_tensor(keep_input, bool_)
    if keep.dims is None:
        raise ValueError("`keep_input` dimensions must be known at graph construction.")
    if not enqueue_many and len(keep.dims) == 1:
        raise ValueError("`keep_input` cannot be a vector when `enqueue_many=False`.")
    if len(keep.dims) > 1:
        raise ValueError("`keep_input` must be 0 or 1 dimensions.")
    return keep


def _element_shapes(lists: Sequence[Sequence[_Value]], shapes: Any, enqueue_many: bool) -> list[TensorShape]:
    """By component: the shape of an element in any of the lists; of sparse ones, that of the number they go by."""
    if shapes is not None:
        return [as_shape(shape) for shape in shapes]
    merged: list[TensorShape] = []
    for tensors in zip(*lists):
        shape = TensorShape([] if isinstance(tensors[0], SparseTensor) else None)
        for tensor in tensors:
            if isinstance(tensor, SparseTensor):
                continue
            if tensor.dims is None:
                raise ValueError(f"Cannot infer Tensor's rank: {tensor}")
            shape = shape.merge_with(tensor.shape[1:] if enqueue_many else tensor.shape)
        merged.append(shape)
    return merged


def _enqueue(queue: QueueBase, tensors: Sequence[_Value], keep: Tensor | None, enqueue_many: bool) -> Any:
    def put() -> Operation:
        # Inside the branch, so that nothing is stored for elements that are not kept.
        dense = [_stored(queue, k, tensor, enqueue_many) for k, tensor in enumerate(tensors)]
        return queue.enqueue_many(dense) if enqueue_many else queue.enqueue(dense)

    kept = None if keep is None else constant_value(keep)
    if keep is None or (kept is not None and kept.all() and not kept.ndim):
        return put()
    if keep.dims:
        if any(isinstance(tensor, SparseTensor) for tensor in tensors):
            raise ValueError("a vector as `keep_input` can't choose among the rows of a SparseTensor")
        return queue.enqueue_many([boolean_mask(tensor, keep) for tensor in tensors])
    chosen = cond(keep, lambda: _done(put()), lambda: _done(no_op()))
    return chosen.op


def _done(op: Operation) -> Tensor:
    with control_dependencies([op]):
        return identity(convert_to_tensor(True))


def _store_name(queue: QueueBase, k: int) -> str:
    return f"{queue.name}/sparse_{k}"


def _stored(queue: QueueBase, k: int, tensor: _Value, enqueue_many: bool) -> Tensor:
    """What goes through the queue: of a sparse tensor, the number under which the session keeps it."""
    if not isinstance(tensor, SparseTensor):
        return tensor
    found: Tensor = apply_op(
        "AddManySparseToTensorsMap" if enqueue_many else "AddSparseToTensorsMap", sparse_indices=tensor.indices,
        sparse_values=tensor.values, sparse_shape=tensor.dense_shape, shared_name=_store_name(queue, k),
    )  # fmt: skip
    return found


def _restored(queue: QueueBase, k: int, tensor: Tensor, like: _Value, enqueue_many: bool) -> _Value:
    if not isinstance(like, SparseTensor):
        return tensor
    indices, values, shape = apply_op(
        "TakeManySparseFromTensorsMap", sparse_handles=tensor, dtype=like.dtype, shared_name=_store_name(queue, k)
    )
    rank = like.dense_shape.shape.as_list()[0] if like.dense_shape.dims is not None else None
    if rank is not None:
        indices.set_shape([None, rank + (not enqueue_many)])
        shape.set_shape([rank + (not enqueue_many)])
    return SparseTensor(indices, values, shape)


def _batched(
    caller: str, scope_name: str, inputs: Sequence[Any], make: _MakeQueue, keep_input: Any, batch_size: Any,
    enqueue_many: bool, shapes: Any, smaller: bool, name: str | None, num_threads: int = 1,
) -> Any:  # fmt: skip
    """Batches of what the inputs give, each of them computed by `num_threads` threads of a queue runner."""
    given = [each.values if isinstance(each, SparseTensor) else each for part in inputs for each in _as_list(part)]
    with name_scope(name, scope_name, given) as scope:
        lists = _converted(inputs, caller)
        keep = None if keep_input is None else _checked_keep(keep_input, enqueue_many)
        dtypes = [int64 if isinstance(each, SparseTensor) else each.dtype.base_dtype for each in lists[0]]
        queue = make(dtypes, _element_shapes(lists, shapes, enqueue_many))
        ops = [_enqueue(queue, tensors, keep, enqueue_many) for tensors in lists]
        add_queue_runner(QueueRunner(queue, ops * num_threads))
        taken = queue.dequeue_up_to(batch_size, scope) if smaller else queue.dequeue_many(batch_size, scope)
        parts = taken if isinstance(taken, list) else [taken]
        found = [_restored(queue, k, part, lists[0][k], enqueue_many) for k, part in enumerate(parts)]
        return _like(inputs[0], found)


def _in_order(capacity: int, dynamic_pad: bool, shared_name: str | None) -> _MakeQueue:
    kind = PaddingFIFOQueue if dynamic_pad else FIFOQueue
    return lambda dtypes, shapes: kind(capacity, dtypes, shapes, shared_name=shared_name)


def _shuffled(capacity: int, least: int, seed: int | None, shared_name: str | None) -> _MakeQueue:
    return lambda dtypes, shapes: RandomShuffleQueue(
        capacity, least, dtypes, shapes, seed=seed, shared_name=shared_name
    )


def batch(
    tensors: Any, batch_size: Any, num_threads: int = 1, capacity: int = 32, enqueue_many: bool = False,
    shapes: Any = None, dynamic_pad: bool = False, allow_smaller_final_batch: bool = False,
    shared_name: str | None = None, name: str | None = None,
) -> Any:  # fmt: skip
    """Batches of `tensors`, a list or dictionary: each thread of a queue runner computes an element at a time.

    enqueue_many: a computed value holds an element per row.
    dynamic_pad: elements may differ in extents, and are padded to the largest of the batch.
    Gives the same structure with a new first dimension; of a list of one, the tensor.
    """
    make = _in_order(capacity, dynamic_pad, shared_name)
    return _batched(
        "batch", "batch", [tensors], make, None, batch_size, enqueue_many, shapes,
        allow_smaller_final_batch, name, num_threads,
    )  # fmt: skip


def maybe_batch(
    tensors: Any, keep_input: Any, batch_size: Any, num_threads: int = 1, capacity: int = 32,
    enqueue_many: bool = False, shapes: Any = None, dynamic_pad: bool = False,
    allow_smaller_final_batch: bool = False, shared_name: str | None = None, name: str | None = None,
) -> Any:  # fmt: skip
    """`batch` of those elements for which `keep_input`, a bool (with `enqueue_many` also one per row), holds."""
    make = _in_order(capacity, dynamic_pad, shared_name)
    return _batched(
        "maybe_batch", "batch", [tensors], make, keep_input, batch_size, enqueue_many, shapes,
        allow_smaller_final_batch, name, num_threads,
    )  # fmt: skip


def batch_join(
    tensors_list: Any, batch_size: Any, capacity: int = 32, enqueue_many: bool = False, shapes: Any = None,
    dynamic_pad: bool = False, allow_smaller_final_batch: bool = False, shared_name: str | None = None,
    name: str | None = None,
) -> Any:  # fmt: skip
    """`batch` from several lists of tensors, each computed by a thread of its own."""
    make = _in_order(capacity, dynamic_pad, shared_name)
    return _batched(
        "batch_join", "batch_join", tensors_list, make, None, batch_size, enqueue_many, shapes,
        allow_smaller_final_batch, name,
    )  # fmt: skip


def maybe_batch_join(
    tensors_list: Any, keep_input: Any, batch_size: Any, capacity: int = 32, enqueue_many: bool = False,
    shapes: Any = None, dynamic_pad: bool = False, allow_smaller_final_batch: bool = False,
    shared_name: str | None = None, name: str | None = None,
) -> Any:  # fmt: skip
    """`batch_join` of those elements for which `keep_input` holds."""
    make = _in_order(capacity, dynamic_pad, shared_name)
    return _batched(
        "maybe_batch_join", "batch_join", tensors_list, make, keep_input, batch_size, enqueue_many, shapes,
        allow_smaller_final_batch, name,
    )  # fmt: skip


def shuffle_batch(
    tensors: Any, batch_size: Any, capacity: int, min_after_dequeue: int, num_threads: int = 1,
    seed: int | None = None, enqueue_many: bool = False, shapes: Any = None, allow_smaller_final_batch: bool = False,
    shared_name: str | None = None, name: str | None = None,
) -> Any:  # fmt: skip
    """`batch` of elements in random order, drawn from more than `min_after_dequeue` of them."""
    make = _shuffled(capacity, min_after_dequeue, seed, shared_name)
    return _batched(
        "shuffle_batch", "shuffle_batch", [tensors], make, None, batch_size, enqueue_many, shapes,
        allow_smaller_final_batch, name, num_threads,
    )  # fmt: skip


def maybe_shuffle_batch(
    tensors: Any, batch_size: Any, capacity: int, min_after_dequeue: int, keep_input: Any, num_threads: int = 1,
    seed: int | None = None, enqueue_many: bool = False, shapes: Any = None, allow_smaller_final_batch: bool = False,
    shared_name: str | None = None, name: str | None = None,
) -> Any:  # fmt: skip
    """`shuffle_batch` of those elements for which `keep_input` holds."""
    make = _shuffled(capacity, min_after_dequeue, seed, shared_name)
    return _batched(
        "maybe_shuffle_batch", "shuffle_batch", [tensors], make, keep_input, batch_size, enqueue_many, shapes,
        allow_smaller_final_batch, name, num_threads,
    )  # fmt: skip


def shuffle_batch_join(
    tensors_list: Any, batch_size: Any, capacity: int, min_after_dequeue: int, seed: int | None = None,
    enqueue_many: bool = False, shapes: Any = None, allow_smaller_final_batch: bool = False,
    shared_name: str | None = None, name: str | None = None,
) -> Any:  # fmt: skip
    """`shuffle_batch` from several lists of tensors, each computed by a thread of its own."""
    make = _shuffled(capacity, min_after_dequeue, seed, shared_name)
    return _batched(
        "shuffle_batch_join", "shuffle_batch_join", tensors_list, make, None, batch_size, enqueue_many, shapes,
        allow_smaller_final_batch, name,
    )  # fmt: skip


def maybe_shuffle_batch_join(
    tensors_list: Any, batch_size: Any, capacity: int, min_after_dequeue: int, keep_input: Any,
    seed: int | None = None, enqueue_many: bool = False, shapes: Any = None, allow_smaller_final_batch: bool = False,
    shared_name: str | None = None, name: str | None = None,
) -> Any:  # fmt: skip
    """`shuffle_batch_join` of those elements for which `keep_input` holds."""
    make = _shuffled(capacity, min_after_dequeue, seed, shared_name)
    return _batched(
        "maybe_shuffle_batch_join", "shuffle_batch_join", tensors_list, make, keep_input, batch_size, enqueue_many,
        shapes, allow_smaller_final_batch, name,
    )  # fmt: skip
