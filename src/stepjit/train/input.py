"""Input pipelines of queues: producers of rows, limits of epochs, and batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.constant_value import constant_value
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.graph_keys import GraphKeys
from stepjit.framework.scopes import control_dependencies, name_scope
from stepjit.framework.shape import TensorShape, as_shape
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
from stepjit_runtime.dtypes import bool_, int64, string

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


def _as_list(tensors: Any) -> list[Any]:
    return [tensors[key] for key in sorted(tensors, key=str)] if isinstance(tensors, dict) else list(tensors)


def _like(original: Any, tensors: Any) -> Any:
    """What a queue gave, in the structure that the user put in."""
    if not isinstance(original, dict):
        return tensors
    tensors = tensors if isinstance(tensors, list) else [tensors]
    return dict(zip(sorted(original, key=str), tensors))


def _converted(tensors: Any, caller: str) -> list[Tensor]:
    if not len(tensors):
        raise ValueError(f"Expected at least one tensor in {caller}().")
    return [convert_to_tensor(each) for each in _as_list(tensors)]


def _converted_join(tensors_list: Any, caller: str) -> list[list[Tensor]]:
    found = [_converted(tensors, caller) for tensors in tensors_list]
    if not found:
        raise ValueError(f"Expected at least one input in {caller}().")
    if len({len(tensors) for tensors in found}) > 1:
        raise ValueError(f"All inputs of {caller}() must have the same number of tensors.")
    if len({tuple(tensor.dtype.base_dtype.name for tensor in tensors) for tensors in found}) > 1:
        raise TypeError(f"All inputs of {caller}() must have the same dtypes.")
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


def _element_shapes(lists: Sequence[Sequence[Tensor]], shapes: Any, enqueue_many: bool) -> list[TensorShape]:
    """By component: the shape of an element in any of the lists."""
    if shapes is not None:
        return [as_shape(shape) for shape in shapes]
    merged: list[TensorShape] = []
    for tensors in zip(*lists):
        shape = TensorShape(None)
        for tensor in tensors:
            if tensor.dims is None:
                raise ValueError(f"Cannot infer Tensor's rank: {tensor}")
            shape = shape.merge_with(tensor.shape[1:] if enqueue_many else tensor.shape)
        merged.append(shape)
    return merged


def _fill(queue: QueueBase, lists: Sequence[Sequence[Tensor]], keep: Tensor | None, enqueue_many: bool) -> None:
    """Let a queue runner put in what each list gives, one thread per list."""
    add_queue_runner(QueueRunner(queue, [_enqueue(queue, list(tensors), keep, enqueue_many) for tensors in lists]))


def _enqueue(queue: QueueBase, tensors: list[Tensor], keep: Tensor | None, enqueue_many: bool) -> Any:
    put = queue.enqueue_many if enqueue_many else queue.enqueue
    kept = None if keep is None else constant_value(keep)
    if keep is None or (kept is not None and kept.all() and not kept.ndim):
        return put(tensors)
    if keep.dims:
        return queue.enqueue_many([boolean_mask(tensor, keep) for tensor in tensors])
    chosen = cond(keep, lambda: _done(put(tensors)), lambda: _done(no_op()))
    return chosen.op


def _done(op: Operation) -> Tensor:
    with control_dependencies([op]):
        return identity(convert_to_tensor(True))


def _taken(queue: QueueBase, batch_size: Any, smaller: bool, name: str) -> Any:
    return queue.dequeue_up_to(batch_size, name) if smaller else queue.dequeue_many(batch_size, name)


def _batch(
    caller: str, tensors: Any, keep_input: Any, batch_size: Any, num_threads: int, capacity: int, enqueue_many: bool,
    shapes: Any, dynamic_pad: bool, smaller: bool, shared_name: str | None, name: str | None,
) -> Any:  # fmt: skip
    with name_scope(name, "batch", _as_list(tensors)) as scope:
        converted = _converted(tensors, caller)
        keep = None if keep_input is None else _checked_keep(keep_input, enqueue_many)
        kind = PaddingFIFOQueue if dynamic_pad else FIFOQueue
        dtypes = [tensor.dtype.base_dtype for tensor in converted]
        found = _element_shapes([converted], shapes, enqueue_many)
        queue = kind(capacity, dtypes, found, shared_name=shared_name)
        add_queue_runner(QueueRunner(queue, [_enqueue(queue, converted, keep, enqueue_many)] * num_threads))
        return _like(tensors, _taken(queue, batch_size, smaller, scope))


def _batch_join(
    caller: str, tensors_list: Any, keep_input: Any, batch_size: Any, capacity: int, enqueue_many: bool, shapes: Any,
    dynamic_pad: bool, smaller: bool, shared_name: str | None, name: str | None,
) -> Any:  # fmt: skip
    with name_scope(name, "batch_join", [each for tensors in tensors_list for each in _as_list(tensors)]) as scope:
        lists = _converted_join(tensors_list, caller)
        keep = None if keep_input is None else _checked_keep(keep_input, enqueue_many)
        kind = PaddingFIFOQueue if dynamic_pad else FIFOQueue
        dtypes = [tensor.dtype.base_dtype for tensor in lists[0]]
        queue = kind(capacity, dtypes, _element_shapes(lists, shapes, enqueue_many), shared_name=shared_name)
        _fill(queue, lists, keep, enqueue_many)
        return _like(tensors_list[0], _taken(queue, batch_size, smaller, scope))


def _shuffle_batch(
    caller: str, tensors: Any, keep_input: Any, batch_size: Any, num_threads: int, capacity: int, least: int,
    seed: int | None, enqueue_many: bool, shapes: Any, smaller: bool, shared_name: str | None, name: str | None,
) -> Any:  # fmt: skip
    with name_scope(name, "shuffle_batch", _as_list(tensors)) as scope:
        converted = _converted(tensors, caller)
        keep = None if keep_input is None else _checked_keep(keep_input, enqueue_many)
        dtypes = [tensor.dtype.base_dtype for tensor in converted]
        found = _element_shapes([converted], shapes, enqueue_many)
        queue = RandomShuffleQueue(capacity, least, dtypes, found, seed=seed, shared_name=shared_name)
        add_queue_runner(QueueRunner(queue, [_enqueue(queue, converted, keep, enqueue_many)] * num_threads))
        return _like(tensors, _taken(queue, batch_size, smaller, scope))


def _shuffle_batch_join(
    caller: str, tensors_list: Any, keep_input: Any, batch_size: Any, capacity: int, least: int, seed: int | None,
    enqueue_many: bool, shapes: Any, smaller: bool, shared_name: str | None, name: str | None,
) -> Any:  # fmt: skip
    values = [each for tensors in tensors_list for each in _as_list(tensors)]
    with name_scope(name, "shuffle_batch_join", values) as scope:
        lists = _converted_join(tensors_list, caller)
        keep = None if keep_input is None else _checked_keep(keep_input, enqueue_many)
        dtypes = [tensor.dtype.base_dtype for tensor in lists[0]]
        found = _element_shapes(lists, shapes, enqueue_many)
        queue = RandomShuffleQueue(capacity, least, dtypes, found, seed=seed, shared_name=shared_name)
        _fill(queue, lists, keep, enqueue_many)
        return _like(tensors_list[0], _taken(queue, batch_size, smaller, scope))


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
    return _batch(
        "batch", tensors, None, batch_size, num_threads, capacity, enqueue_many, shapes, dynamic_pad,
        allow_smaller_final_batch, shared_name, name,
    )  # fmt: skip


def maybe_batch(
    tensors: Any, keep_input: Any, batch_size: Any, num_threads: int = 1, capacity: int = 32,
    enqueue_many: bool = False, shapes: Any = None, dynamic_pad: bool = False,
    allow_smaller_final_batch: bool = False, shared_name: str | None = None, name: str | None = None,
) -> Any:  # fmt: skip
    """`batch` of those elements for which `keep_input`, a bool (with `enqueue_many` also one per row), holds."""
    return _batch(
        "maybe_batch", tensors, keep_input, batch_size, num_threads, capacity, enqueue_many, shapes, dynamic_pad,
        allow_smaller_final_batch, shared_name, name,
    )  # fmt: skip


def batch_join(
    tensors_list: Any, batch_size: Any, capacity: int = 32, enqueue_many: bool = False, shapes: Any = None,
    dynamic_pad: bool = False, allow_smaller_final_batch: bool = False, shared_name: str | None = None,
    name: str | None = None,
) -> Any:  # fmt: skip
    """`batch` from several lists of tensors, each computed by a thread of its own."""
    return _batch_join(
        "batch_join", tensors_list, None, batch_size, capacity, enqueue_many, shapes, dynamic_pad,
        allow_smaller_final_batch, shared_name, name,
    )  # fmt: skip


def maybe_batch_join(
    tensors_list: Any, keep_input: Any, batch_size: Any, capacity: int = 32, enqueue_many: bool = False,
    shapes: Any = None, dynamic_pad: bool = False, allow_smaller_final_batch: bool = False,
    shared_name: str | None = None, name: str | None = None,
) -> Any:  # fmt: skip
    """`batch_join` of those elements for which `keep_input` holds."""
    return _batch_join(
        "maybe_batch_join", tensors_list, keep_input, batch_size, capacity, enqueue_many, shapes, dynamic_pad,
        allow_smaller_final_batch, shared_name, name,
    )  # fmt: skip


def shuffle_batch(
    tensors: Any, batch_size: Any, capacity: int, min_after_dequeue: int, num_threads: int = 1,
    seed: int | None = None, enqueue_many: bool = False, shapes: Any = None, allow_smaller_final_batch: bool = False,
    shared_name: str | None = None, name: str | None = None,
) -> Any:  # fmt: skip
    """`batch` of elements in random order, drawn from more than `min_after_dequeue` of them."""
    return _shuffle_batch(
        "shuffle_batch", tensors, None, batch_size, num_threads, capacity, min_after_dequeue, seed, enqueue_many,
        shapes, allow_smaller_final_batch, shared_name, name,
    )  # fmt: skip


def maybe_shuffle_batch(
    tensors: Any, batch_size: Any, capacity: int, min_after_dequeue: int, keep_input: Any, num_threads: int = 1,
    seed: int | None = None, enqueue_many: bool = False, shapes: Any = None, allow_smaller_final_batch: bool = False,
    shared_name: str | None = None, name: str | None = None,
) -> Any:  # fmt: skip
    """`shuffle_batch` of those elements for which `keep_input` holds."""
    return _shuffle_batch(
        "maybe_shuffle_batch", tensors, keep_input, batch_size, num_threads, capacity, min_after_dequeue, seed,
        enqueue_many, shapes, allow_smaller_final_batch, shared_name, name,
    )  # fmt: skip


def shuffle_batch_join(
    tensors_list: Any, batch_size: Any, capacity: int, min_after_dequeue: int, seed: int | None = None,
    enqueue_many: bool = False, shapes: Any = None, allow_smaller_final_batch: bool = False,
    shared_name: str | None = None, name: str | None = None,
) -> Any:  # fmt: skip
    """`shuffle_batch` from several lists of tensors, each computed by a thread of its own."""
    return _shuffle_batch_join(
        "shuffle_batch_join", tensors_list, None, batch_size, capacity, min_after_dequeue, seed, enqueue_many, shapes,
        allow_smaller_final_batch, shared_name, name,
    )  # fmt: skip


def maybe_shuffle_batch_join(
    tensors_list: Any, batch_size: Any, capacity: int, min_after_dequeue: int, keep_input: Any,
    seed: int | None = None, enqueue_many: bool = False, shapes: Any = None, allow_smaller_final_batch: bool = False,
    shared_name: str | None = None, name: str | None = None,
) -> Any:  # fmt: skip
    """`shuffle_batch_join` of those elements for which `keep_input` holds."""
    return _shuffle_batch_join(
        "maybe_shuffle_batch_join", tensors_list, keep_input, batch_size, capacity, min_after_dequeue, seed,
        enqueue_many, shapes, allow_smaller_final_batch, shared_name, name,
    )  # fmt: skip
