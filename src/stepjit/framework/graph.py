"""The graph: operations in the order they were made, names, blocks, lookup, collections, what may be fed."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from typing import Any, cast

from stepjit.framework import device as devices
from stepjit.framework import source
from stepjit.framework.inference import GraphInference, plain
from stepjit.framework.scopes import AttrScope, ColocateScope, ControlScope, DeviceScope, NameScope, name_scope
from stepjit.framework.stack import Entered, default_graphs, get_default_graph, reset_default_graph
from stepjit.framework.tensor import Operation, Tensor
from stepjit_compiler.opdef import OpDef, lookup
from stepjit_runtime import forking
from stepjit_runtime.dtypes import DType

__all__ = [
    "Graph", "Operation", "Tensor", "default_graphs", "get_default_graph", "name_scope", "op_def_of",
    "reset_default_graph",
]  # fmt: skip

_VALID_NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*", re.ASCII)
_VALID_INNER_SCOPE = re.compile(r"[A-Za-z0-9_.\\/>-]*", re.ASCII)
NAME_PATTERN = "^[A-Za-z0-9.][A-Za-z0-9_.\\\\/>-]*$"


class _Local(threading.local):
    """What the blocks around the code being run ask of new ops; each thread has its own."""

    def __init__(self) -> None:
        self.scope = ""
        self.controls: tuple[ControlScope, ...] = ()
        self.devices: tuple[Any, ...] = ()
        self.colocated: tuple[Operation, ...] = ()
        self.attrs: dict[str, Any] = {}
        self.plain = True
        """Whether no block but name scopes is open, so that a new op needs no look at the others."""


class Graph:
    """A TF1 graph: append-only, may be built from several threads, and grow while sessions use it."""

    is_function = False
    """Whether this is a region of another graph, whose tensors may be inputs: `capture` stands one in for them."""
    depth = 0
    """How many graphs are around this one."""
    outer_controls: dict[Operation, None]
    sources: dict[Tensor, Tensor]

    def __init__(self) -> None:
        self.root = self
        """The outermost graph."""
        self.function_names: set[str] = set()
        """Of regions that were written into GraphDefs."""
        self.ops: list[Operation] = []
        self.by_name: dict[str, Operation] = {}
        self.local = _Local()
        self.known: dict[Tensor, Any] = {}
        """Values found by `inference`, by tensor."""
        self.lock = forking.lock()
        self.py_functions: list[Any] = []
        """What `py_func` ops call; the registry knows them only as long as they are here."""
        self._names: dict[str, int] = {}
        self._collections: dict[Any, list[Any]] = {}
        self._finalized = False
        self._seed: int | None = None
        self._seedless_count = 0
        self._unfeedable: set[Tensor] = set()
        self._unfetchable: set[Operation] = set()
        self._gradient_functions: dict[str, Any] = {}
        self._container = ""

    # --- Building ---

    def add(
        self,
        op_def: OpDef,
        inputs: Sequence[Tensor],
        attrs: dict[str, Any],
        name: str,
        output_dtypes: Sequence[DType],
        depth: int = 2,
    ) -> Operation:
        """Append an op under `name`, which is unique (see `unique_name`); attrs are canonical and complete.

        Raises ValueError when the shapes can't be right, RuntimeError when the graph is finalized.
        """
        if self._finalized:
            raise RuntimeError("Graph is finalized and cannot be modified.")
        if not _VALID_NAME.fullmatch(name):
            raise ValueError(f"'{name}' is not a valid node name: names must match {NAME_PATTERN}")
        op = Operation()
        op.name = name
        op.type = op_def.name
        op.graph = self
        op.op_def = op_def
        op.inputs = inputs = tuple(inputs)
        op.attrs = attrs
        op.device = ""
        op.control_inputs = []
        op._place = source.user_place(depth)
        for tensor in inputs:
            if tensor.op.graph is not self:
                op.inputs = inputs = tuple([self._own(each, inputs, name) for each in inputs])
                break
        if len(output_dtypes) == 1:
            op.outputs = [Tensor(op, 0, output_dtypes[0], plain(op_def.infer(GraphInference(op, inputs))[0]))]
        else:
            shapes = op_def.infer(GraphInference(op, inputs)) if output_dtypes or inputs else ()
            op.outputs = [Tensor(op, k, dtype, plain(shapes[k])) for k, dtype in enumerate(output_dtypes)]
        if not self.local.plain:
            self._obey_blocks(op)
        with self.lock:
            if name in self.by_name:
                raise ValueError(f"Duplicate node name in graph: '{name}'")
            self.by_name[name] = op
            self.ops.append(op)
            op._id = len(self.ops)
        for tensor in inputs:
            tensor._consumers.append(op)
        return op

    def create_op(
        self,
        op_type: str,
        inputs: Sequence[Tensor],
        dtypes: Any = None,
        input_types: Any = None,
        name: str | None = None,
        attrs: dict[str, Any] | None = None,
        op_def: Any = None,
        compute_shapes: bool = True,
        compute_device: bool = True,
    ) -> Operation:
        """Make an op of a type by its flat inputs and attrs; ValueError when the type is unknown."""
        from stepjit.framework.apply import apply_flat

        return apply_flat(self, op_type, inputs, attrs or {}, name)

    def capture(self, tensor: Tensor) -> Tensor:
        """A tensor of this graph that stands for one of another graph; ValueError in a graph that takes none."""
        if tensor.op.graph is self:
            return tensor
        if tensor.op.graph.is_function:
            raise ValueError(unreachable(tensor.op, "another op"))
        raise ValueError(f"{tensor!r} is not an element of this graph.")

    def encloses(self, graph: Graph) -> bool:
        """Whether `graph` is one of those around this one."""
        return False

    def _own(self, tensor: Tensor, inputs: Sequence[Tensor], name: str) -> Tensor:
        if tensor.op.graph is self:
            return tensor
        if self.is_function:
            return self.capture(tensor)
        if tensor.op.graph.is_function:
            raise ValueError(unreachable(tensor.op, name))
        other = next((each for each in inputs if each.op.graph is self), None)
        raise ValueError(f"{tensor} must be from the same graph as {other if other is not None else self}.")

    def _obey_blocks(self, op: Operation) -> None:
        """Apply the device, control, colocation and attr blocks that are open."""
        local = self.local
        for name, value in local.attrs.items():
            if callable(value):
                value = value(op)
            if value is not None:
                op.attrs[name] = value
        if local.devices:
            self._place_on_device(op, local.devices)
        if local.colocated:
            groups = {group for anchor in local.colocated for group in anchor.colocation_groups()}
            op.attrs["_class"] = tuple(sorted(groups))
            op.device = op.device or local.colocated[-1].device
        made_inside = {tensor.op for tensor in op.inputs}
        for scope in local.controls:
            # An input made in the same block waits already.
            if made_inside.isdisjoint(scope.seen):
                op._add_control_inputs([each for each in scope.ops if each not in made_inside])
        for scope in local.controls:
            scope.seen.add(op)

    @staticmethod
    def _place_on_device(op: Operation, stack: Sequence[Any]) -> None:
        for device in reversed(stack):
            if device is None:
                return
            if callable(device):
                op.device = devices.as_text(device(op))
            else:
                op.device = devices.merge(device, op.device)

    def _refresh_plain(self) -> None:
        local = self.local
        local.plain = not (local.controls or local.devices or local.colocated or local.attrs)

    def finalize(self) -> None:
        """Make the graph read-only: adding an op is a RuntimeError from now on."""
        self._finalized = True

    @property
    def finalized(self) -> bool:
        return self._finalized

    def _unsafe_unfinalize(self) -> None:
        self._finalized = False

    def _check_not_finalized(self) -> None:
        if self._finalized:
            raise RuntimeError("Graph is finalized and cannot be modified.")

    @property
    def version(self) -> int:
        """How many ops were made."""
        return len(self.ops)

    @property
    def seed(self) -> int | None:
        return self._seed

    @seed.setter
    def seed(self, value: int | None) -> None:
        self._seed = value

    def next_seedless(self) -> int:
        """The number of the next random op without a seed of its own, counted while the graph has a seed."""
        with self.lock:
            self._seedless_count += 1
            return self._seedless_count - 1

    # --- Names and blocks ---

    def unique_name(self, name: str, mark_as_used: bool = True) -> str:
        """`name` inside the current scope, with `_1`, `_2`, … when it is taken; compared without regard to case."""
        scope = self.local.scope
        if scope:
            name = f"{scope}/{name}"
        key = name.lower()
        names = self._names
        with self.lock:
            number = names.get(key)
            if number is None:
                if mark_as_used:
                    names[key] = 1
                return name
            numbered = f"{key}_{number}"
            while numbered in names:
                number += 1
                numbered = f"{key}_{number}"
            if mark_as_used:
                names[key] = number + 1
                names[numbered] = 1
            return f"{name}_{number}"

    def full_name(self, name: str) -> str:
        """The name a new op gets when `name` is asked for; a name ending in `/` is taken as it is."""
        return name[:-1] if name[-1] == "/" else self.unique_name(name)

    def free_name(self, name: str) -> str:
        """`name` as it is, from the root, where no op has it; else with `_1`, `_2`, …"""
        with self.lock:
            if name not in self.by_name:
                self._names.setdefault(name.lower(), 1)
                return name
            outer, self.local.scope = self.local.scope, ""
            try:
                return self.unique_name(name)
            finally:
                self.local.scope = outer

    def name_scope(self, name: str | None) -> NameScope:
        """A block whose ops' names begin with `name/`; gives that prefix."""
        return NameScope(self, name)

    def get_name_scope(self) -> str:
        """The current prefix, without its last slash."""
        return self.local.scope

    def open_scope(self, name: str | None) -> str:
        """Find the scope that a block asks for, and reserve it; ValueError when it is no valid name."""
        if not name:
            return ""
        if name[-1] == "/":
            return name[:-1]
        inner = self.local.scope
        if not (_VALID_INNER_SCOPE if inner else _VALID_NAME).fullmatch(name):
            kind = "scope name" if inner else "root scope name"
            raise ValueError(f"'{name}' is not a valid {kind}: names must match {NAME_PATTERN}")
        return self.unique_name(name)

    def control_dependencies(self, control_inputs: Iterable[Any] | None) -> ControlScope:
        """A block whose ops wait for all of `control_inputs`; None: for nothing, not even the outer blocks'."""
        if control_inputs is None:
            return ControlScope(self, None)
        ops: list[Operation] = []
        for item in control_inputs:
            found = self.as_graph_element(getattr(item, "_as_graph_element", lambda item=item: item)())
            op = found.op if isinstance(found, Tensor) else found
            if op.graph is not self and op.graph.is_function and not self.is_function:
                raise ValueError(unreachable(op, "a control dependency"))
            if op not in ops:
                ops.append(op)
        return ControlScope(self, ops)

    def device(self, device: Any) -> DeviceScope:
        """A block whose ops go to a device: a string, None (clears the outer ones), or a function of the op."""
        return DeviceScope(self, device)

    def colocate_with(self, op: Any, ignore_existing: bool = False) -> ColocateScope:
        """A block whose ops go where `op` is."""
        return ColocateScope(self, op, ignore_existing)

    def container(self, name: str) -> AttrScope:
        """A block whose stateful ops use the resource container `name`."""
        return AttrScope(self, {"container": lambda op: name.encode() if "container" in op.attrs else None})

    def gradient_override_map(self, op_type_map: dict[str, str]) -> AttrScope:
        """A block whose ops of the given types have the gradient registered under another name."""
        if not isinstance(op_type_map, dict):
            raise TypeError("op_type_map must be a dictionary mapping strings to strings")
        for item in op_type_map.items():
            if not all(isinstance(each, str) for each in item):
                raise TypeError(f"op_type_map must be a dictionary mapping strings to strings, got {item}")
        merged = {**getattr(self.local, "overrides", {}), **op_type_map}

        def chosen(op: Operation) -> bytes | None:
            name = merged.get(op.type)
            return None if name is None else name.encode()

        return AttrScope(self, {"_gradient_op_type": chosen}, overrides=merged)

    def _attr_scope(self, attrs: dict[str, Any]) -> AttrScope:
        """A block whose ops get these attrs (canonical values; None removes the outer one)."""
        return AttrScope(self, attrs)

    def as_default(self) -> Entered[Graph]:
        """A block in which this is the default graph of the thread."""
        return default_graphs.enter(self)

    # --- Lookup ---

    def get_operations(self) -> list[Operation]:
        """All ops, in the order they were made."""
        return list(self.ops)

    def get_operation_by_name(self, name: str) -> Operation:
        """The op of that name; KeyError when there is none, ValueError for a tensor's name."""
        if not isinstance(name, str):
            raise TypeError(f"Operation names are strings (or similar), not {type(name).__name__}.")
        return cast(Operation, self.as_graph_element(name, allow_tensor=False, allow_operation=True))

    def get_tensor_by_name(self, name: str) -> Tensor:
        """The tensor of that name (`op:0`); KeyError when there is none, ValueError for an op's name."""
        if not isinstance(name, str):
            raise TypeError(f"Tensor names are strings (or similar), not {type(name).__name__}.")
        return cast(Tensor, self.as_graph_element(name, allow_tensor=True, allow_operation=False))

    def as_graph_element(self, obj: Any, allow_tensor: bool = True, allow_operation: bool = True) -> Any:
        """The tensor or op that `obj` (one of them, a variable, or a name) stands for in this graph."""
        if allow_tensor and allow_operation:
            wanted = "Tensor or Operation"
        elif allow_tensor or allow_operation:
            wanted = "Tensor" if allow_tensor else "Operation"
        else:
            raise ValueError("allow_tensor and allow_operation can't both be False.")
        if not isinstance(obj, (Tensor, Operation)) and hasattr(obj, "_as_graph_element"):
            obj = obj._as_graph_element()
        if isinstance(obj, bytes):
            obj = obj.decode()
        if isinstance(obj, str):
            return self._by_text(obj, allow_tensor, allow_operation)
        if (isinstance(obj, Tensor) and allow_tensor) or (isinstance(obj, Operation) and allow_operation):
            if obj.graph.root is not self.root:
                raise ValueError(f"{type(obj).__name__} {obj!r} is not an element of this graph.")
            return obj
        raise TypeError(f"Can not convert a {type(obj).__name__} into a {wanted}.")

    def _by_text(self, name: str, allow_tensor: bool, allow_operation: bool) -> Any:
        if ":" in name:
            if not allow_tensor:
                raise ValueError(f"Name {name!r} appears to refer to a Tensor, not a Operation.")
            return self._tensor_by_text(name)
        op = self.by_name.get(name)
        if not allow_operation:
            what = "refers to an Operation" if op is not None else "looks like an (invalid) Operation name"
            raise ValueError(
                f"The name {name!r} {what}, not a Tensor. Tensor names must be of the form '<op_name>:<output_index>'."
            )
        if op is None:
            raise KeyError(f"The name {name!r} refers to an Operation not in the graph.")
        return op

    def _tensor_by_text(self, name: str) -> Tensor:
        try:
            op_name, number = name.split(":")
            index = int(number)
        except ValueError:
            raise ValueError(
                f"The name {name!r} looks a like a Tensor name, but is not a valid one. Tensor names have the form "
                "'<op_name>:<output_index>'."
            ) from None
        missing = f"The name {name!r} refers to a Tensor which does not exist."
        op = self.by_name.get(op_name)
        if op is None:
            raise KeyError(f"{missing} The operation, {op_name!r}, does not exist in the graph.")
        try:
            return op.outputs[index]
        except IndexError:
            raise KeyError(
                f"{missing} The operation, {op_name!r}, exists but only has {len(op.outputs)} outputs."
            ) from None

    def as_graph_def(self, from_version: int | None = None, add_shapes: bool = False) -> Any:
        """A new GraphDef, nodes in the order they were made; from_version: only those made after that `version`.

        add_shapes: whether nodes carry their outputs' static shapes. ValueError when it would have 2 GiB or more.
        """
        from stepjit.framework.graph_io import graph_def

        return graph_def(self, from_version, add_shapes)

    # --- Feeding and fetching ---

    def prevent_feeding(self, tensor: Tensor) -> None:
        """Mark a tensor as one that may not be fed."""
        self._unfeedable.add(tensor)

    def is_feedable(self, tensor: Tensor) -> bool:
        return tensor not in self._unfeedable and not tensor.op.graph.is_function

    def prevent_fetching(self, op: Operation) -> None:
        """Mark an op as one that may not be fetched, nor its outputs."""
        self._unfetchable.add(op)

    def is_fetchable(self, tensor_or_op: Any) -> bool:
        found = self.as_graph_element(tensor_or_op) if isinstance(tensor_or_op, str) else tensor_or_op
        op = found.op if isinstance(found, Tensor) else found
        return op not in self._unfetchable and not op.graph.is_function

    # --- Collections ---

    def add_to_collection(self, name: Any, value: Any) -> None:
        """Append to a collection."""
        self._check_not_finalized()
        self._collections.setdefault(name, []).append(value)

    def add_to_collections(self, names: Any, value: Any) -> None:
        """Append to each of several collections, once."""
        for name in [names] if isinstance(names, str) else dict.fromkeys(names):
            self.add_to_collection(name, value)

    def get_collection_ref(self, name: Any) -> list[Any]:
        """The collection itself; changes to the list last."""
        return self._collections.setdefault(name, [])

    def get_collection(self, name: Any, scope: str | None = None) -> list[Any]:
        """A copy of the collection; with `scope`, of the items whose name begins with that regular expression."""
        items = self._collections.get(name, [])
        if scope is None:
            return list(items)
        pattern = re.compile(scope)
        return [item for item in items if hasattr(item, "name") and pattern.match(item.name)]

    def get_all_collection_keys(self) -> list[Any]:
        """The names of collections that are strings."""
        return [name for name in self._collections if isinstance(name, str)]

    @property
    def collections(self) -> list[Any]:
        return list(self._collections)

    def clear_collection(self, name: Any) -> None:
        """Empty a collection."""
        self._check_not_finalized()
        self._collections.pop(name, None)


def unreachable(op: Any, user: str) -> str:
    """Why what is inside a branch or loop can't be used outside."""
    return (
        f"Cannot use '{op.name}' as input to '{user}' because '{op.name}' is in a {op.graph.kind}: only what the "
        "function that made it returns is to be had outside."
    )


def op_def_of(op_type: str) -> OpDef:
    """The definition of an op type; ValueError when there is none."""
    op_def = lookup(op_type)
    if op_def is None:
        raise ValueError(f"Op type not registered '{op_type}'")
    return op_def
