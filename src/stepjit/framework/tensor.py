"""The nodes of a graph: `Operation`, and `Tensor`, one output of one. Made by `Graph.add` only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import CodeType
from typing import TYPE_CHECKING, Any, NoReturn

from stepjit.framework import source
from stepjit.framework.shape import Dims, TensorShape, as_dims, compatible, merged
from stepjit_compiler.opdef import show
from stepjit_runtime.dtypes import DType

if TYPE_CHECKING:
    from stepjit.framework.graph import Graph
    from stepjit_compiler.opdef import OpDef


_MESSAGES = frozenset({"shape", "tensor", "list(shape)", "list(tensor)"})
"""Types of attrs whose values users see as protocol-buffer messages."""


class OperatorNotAllowedInGraphError(TypeError):
    """A Python construct asks a symbolic tensor for its value."""


class Tensor:
    """A value that a step computes: output `value_index` of `op`. Compared and hashed by identity."""

    __slots__ = ("__dict__", "__weakref__", "_consumers", "dims", "dtype", "op", "value_index")

    # numpy operands leave binary operators to the tensor.
    __array_priority__ = 100

    op: Operation
    value_index: int
    dtype: DType
    dims: Dims
    """The static shape: extents (None: unknown), or None when the rank is unknown."""
    _consumers: list[Operation]

    def __init__(self, op: Operation, value_index: int, dtype: DType, dims: Dims = None) -> None:
        self.op, self.value_index, self.dtype, self.dims = op, value_index, dtype, dims
        self._consumers = []

    OVERLOADABLE_OPERATORS = frozenset(
        f"__{name}__"
        for name in (  # noqa: SIM905 - as a list it would be a screen long
            "add radd sub rsub mul rmul div rdiv truediv rtruediv floordiv rfloordiv mod rmod lt le gt ge and rand or "
            "ror xor rxor getitem pow rpow invert neg abs matmul rmatmul"
        ).split()
    )

    if TYPE_CHECKING:
        # `ops/operators.py` sets them.
        def __getitem__(self, item: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __floordiv__(self, other: Any) -> Tensor: ...
        def __mod__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __and__(self, other: Any) -> Tensor: ...
        def __or__(self, other: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...

    @property
    def graph(self) -> Graph:
        return self.op.graph

    @property
    def name(self) -> str:
        return f"{self.op.name}:{self.value_index}"

    @property
    def device(self) -> str:
        return self.op.device

    @property
    def shape(self) -> TensorShape:
        return TensorShape(self.dims)

    def get_shape(self) -> TensorShape:
        """The static shape."""
        return TensorShape(self.dims)

    @property
    def ndim(self) -> int | None:
        return None if self.dims is None else len(self.dims)

    def set_shape(self, shape: Any) -> None:
        """Narrow the static shape by what the user knows; ValueError when it contradicts what is known."""
        dims = as_dims(shape)
        if not compatible(self.dims, dims):
            raise ValueError(f"{_difference(self.dims, dims)}: set_shape of '{self.name}'")
        self.dims = merged(self.dims, dims)
        # Values that were derived from the shape may be known better now.
        self.op.graph.known.clear()

    def consumers(self) -> list[Operation]:
        """The ops that take this tensor, each once, in the order they were made."""
        return list(dict.fromkeys(self._consumers))

    def eval(self, feed_dict: Any = None, session: Any = None) -> Any:
        """The tensor's value, run in `session` or the default one; ValueError when there is none."""
        from stepjit.session import eval_using_default_session

        return eval_using_default_session(self, feed_dict, self.graph, session)

    def experimental_ref(self) -> Any:
        """A hashable reference to this tensor, which in TF1 is the tensor."""
        return self

    ref = experimental_ref

    def _as_tf_output(self) -> tuple[Operation, int]:
        return self.op, self.value_index

    def __str__(self) -> str:
        shape = "" if self.dims is None else f", shape={self.shape}"
        device = f", device={self.device}" if self.device else ""
        return f'Tensor("{self.name}"{shape}, dtype={self.dtype.name}{device})'

    def __repr__(self) -> str:
        return f"<tf.Tensor '{self.name}' shape={self.shape} dtype={self.dtype.name}>"

    def __bool__(self) -> bool:
        raise OperatorNotAllowedInGraphError(
            f"Using a symbolic `tf.Tensor` as a Python `bool` is not allowed: '{self.name}' has a value only inside a "
            "step. Use tf.cond or tf.where, or compare with `is None`."
        )

    def __iter__(self) -> NoReturn:
        raise OperatorNotAllowedInGraphError(
            f"Iterating over a symbolic `tf.Tensor` is not allowed ('{self.name}'): use tf.unstack, tf.map_fn or "
            "tf.while_loop."
        )

    def __len__(self) -> int:
        raise TypeError(
            f"len is not well defined for a symbolic Tensor ({self.name}). Use `x.shape[0]` for the static extent or "
            "`tf.shape(x)[0]` for the one of the step."
        )

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        # TF raises this class, and numpy passes it on unchanged; a TypeError would make numpy build an object array.
        raise NotImplementedError(
            f"Cannot convert a symbolic tf.Tensor ({self.name}) to a numpy array: it has a value only inside a step."
        )

    def __copy__(self) -> Tensor:
        return self

    def __deepcopy__(self, memo: Any) -> Tensor:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"can't pickle Tensor {self.name}: save the graph or the value instead")


def _difference(a: Dims, b: Dims) -> str:
    assert a is not None
    assert b is not None
    if len(a) != len(b):
        return f"Shapes must be equal rank, but are {len(a)} and {len(b)}"
    k = next(k for k, (x, y) in enumerate(zip(a, b)) if x is not None and y is not None and x != y)
    shapes = f"Shapes are {show(a)} and {show(b)}."
    return f"Dimension {k} in both shapes must be equal, but are {a[k]} and {b[k]}. {shapes}"


def override_operator(name: str, function: Callable[..., Any]) -> None:
    """Let `function` be the Python operator `name` (such as `__add__`) of tensors; ValueError for another name."""
    if name not in Tensor.OVERLOADABLE_OPERATORS:
        raise ValueError(f"Tensor has no operator {name!r} that may be overridden")
    setattr(Tensor, name, function)


class Operation:
    """A node: an op type with inputs, control inputs and canonical attrs."""

    __slots__ = (
        "__dict__", "__weakref__", "_id", "_place", "attrs", "control_inputs", "device", "graph", "inputs", "name",
        "op_def", "outputs", "type",
    )  # fmt: skip

    name: str
    type: str
    graph: Graph
    inputs: Sequence[Tensor]
    control_inputs: list[Operation]
    attrs: dict[str, Any]
    """By name; types are DTypes, strings bytes, shapes tuples or None, lists tuples, tensors read-only arrays."""
    outputs: list[Tensor]
    device: str
    op_def: OpDef
    _id: int
    """Number in the order of making, from 1."""
    _place: tuple[CodeType, int] | None

    @property
    def traceback_line(self) -> str:
        """The user's line that made the op, such as `train.py:41`."""
        return source.line(self._place)

    @property
    def node_def(self) -> Any:
        """A new NodeDef of the op."""
        from stepjit.framework.graph_io import node_def

        return node_def(self)

    def values(self) -> tuple[Tensor, ...]:
        """The outputs."""
        return tuple(self.outputs)

    def get_attr(self, name: str) -> Any:
        """The attr's value: shapes and tensors as messages, lists as list; ValueError when the op has no such attr."""
        try:
            value = self.attrs[name]
        except KeyError:
            raise ValueError(f"Operation '{self.name}' has no attr named '{name}'.") from None
        attr = self.op_def.attr.get(name)
        if attr is not None and attr.type in _MESSAGES:
            from stepjit.framework.graph_io import attr_message

            return attr_message(self, attr)
        return list(value) if isinstance(value, tuple) else value

    def run(self, feed_dict: Any = None, session: Any = None) -> None:
        """Run the op in `session` or the default one; ValueError when there is none."""
        from stepjit.session import run_using_default_session

        run_using_default_session(self, feed_dict, self.graph, session)

    def colocation_groups(self) -> list[bytes]:
        """The `loc:@name` groups of the op; its own when it was colocated with nothing."""
        return list(self.attrs.get("_class", ())) or [b"loc:@" + self.name.encode()]

    def _set_attr(self, name: str, value: Any) -> None:
        """Set an attr to a canonical value."""
        self.attrs[name] = value

    def _set_device(self, device: Any) -> None:
        """Set the device, as it is written."""
        from stepjit.framework import device as devices

        self.device = devices.as_text(device)

    def _add_control_input(self, op: Operation) -> None:
        if op not in self.control_inputs:
            self.control_inputs.append(op)

    def _add_control_inputs(self, ops: Sequence[Operation]) -> None:
        for op in ops:
            self._add_control_input(op)

    def _update_input(self, index: int, tensor: Tensor) -> None:
        """Let input `index` be `tensor`, as is needed to close the loops of an imported graph."""
        inputs = list(self.inputs)
        inputs[index]._consumers.remove(self)
        inputs[index] = tensor
        tensor._consumers.append(self)
        self.inputs = tuple(inputs)
        self.graph.known.clear()

    def __repr__(self) -> str:
        return f"<tf.Operation '{self.name}' type={self.type}>"

    def __str__(self) -> str:
        return str(self.node_def)

    def __copy__(self) -> Operation:
        return self

    def __deepcopy__(self, memo: Any) -> Operation:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"can't pickle Operation {self.name}: save the graph instead")
