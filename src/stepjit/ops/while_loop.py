"""Loops: `while_loop`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stepjit.framework import nest
from stepjit.framework.backward import all_pure, recompute
from stepjit.framework.composites import count, is_composite
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.func_graph import FuncGraph
from stepjit.framework.graph import Graph, Operation, Tensor, get_default_graph, op_def_of
from stepjit.framework.indexed_slices import IndexedSlices
from stepjit.framework.scopes import name_scope
from stepjit.framework.shape import Dims, TensorShape, as_dims, as_shape
from stepjit.framework.stack import default_graphs
from stepjit.ops.array import shape
from stepjit.ops.cast import cast
from stepjit.ops.comparison import less, logical_and
from stepjit.ops.cond import named_results
from stepjit.ops.control import identity, stop_gradient
from stepjit.ops.creation import zeros
from stepjit.ops.math import add
from stepjit.ops.tensor_array import TensorArray
from stepjit_runtime import dtypes


def while_loop(
    cond: Callable[..., Any],
    body: Callable[..., Any],
    loop_vars: Any,
    shape_invariants: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    name: str | None = None,
    maximum_iterations: Any = None,
    return_same_structure: bool = False,
) -> Any:
    """The loop variables once `cond` of them fails, `body` of them taking their place as long as it holds.

    loop_vars: a list or tuple of values of any structure; each keeps its dtype and, unless `shape_invariants` (of the
        same structure) says less, its static shape. Both functions are called once.
    maximum_iterations: a scalar; the loop ends after that many trips.
    back_prop: False takes the results as constants for gradients.
    A single loop variable is returned bare, unless `return_same_structure`. TypeError and ValueError for what is no
    function, for a body that returns another structure, dtype or shape, and for a `cond` that is no bool scalar.
    """
    if not callable(cond):
        raise TypeError("'cond' must be callable.")
    if not callable(body):
        raise TypeError("'body' must be callable.")
    if not isinstance(parallel_iterations, int) or parallel_iterations < 1:
        wrong = TypeError if isinstance(parallel_iterations, int) else ValueError
        raise wrong("'parallel_iterations' must be a positive integer.")
    if not isinstance(loop_vars, Tensor) and not loop_vars:
        raise ValueError("'loop_vars' must be provided.")
    if not nest.is_nested(loop_vars):
        loop_vars = [loop_vars]
    with name_scope(name, "while", nest.flatten(loop_vars)) as scope:
        loop = Loop(scope, loop_vars, shape_invariants, maximum_iterations, parallel_iterations)
        loop.trace_cond(cond)
        loop.trace_body(body)
        return loop.results(back_prop, return_same_structure)


class Loop:
    """A loop that is being made: its regions, and what goes in and comes out."""

    def __init__(self, scope: str, loop_vars: Any, invariants: Any, maximum: Any, parallel: int) -> None:
        self.graph: Graph = get_default_graph()
        self.parallel = parallel
        self.structure = nest.map_structure(_converted, loop_vars)
        self.leaves = nest.flatten(self.structure)
        self.counted = maximum is not None
        if self.counted:
            self.counter, self.maximum = _zero(), _checked_maximum(maximum)
        label = scope.rstrip("/")
        self.cond = FuncGraph(self.graph, label, "while loop")
        self.body = FuncGraph(self.graph, label, "while loop")
        self.initial = [self.graph.capture(each) for each in nest.flatten(self.structure, expand_composites=True)]
        self.dims = self._declared(invariants)
        self._open_arrays()
        self.places = {id(region): self._parameters(region) for region in (self.cond, self.body)}

    # --- Loop variables ---

    def _declared(self, invariants: Any) -> list[Dims]:
        """The static shapes that the loop variables are said to keep."""
        if invariants is not None:
            nest.assert_same_structure(self.structure, invariants)
        said = [None] * len(self.leaves) if invariants is None else nest.flatten(invariants)
        declared: list[Dims] = []
        for leaf, shape_said in zip(self.leaves, said):
            entries = self.initial[len(declared) : len(declared) + (count(leaf) if is_composite(leaf) else 1)]
            if is_composite(leaf):
                # Sparse tensors may come to have more rows; what is last is their dense shape. So may slices, if said.
                rows = 0 if isinstance(leaf, (TensorArray, IndexedSlices)) and invariants is None else 2
                declared += [_without_rows(each.dims) if k < rows else each.dims for k, each in enumerate(entries)]
            elif shape_said is None:
                declared.append(entries[0].dims)
            else:
                declared.append(_stated(leaf, shape_said))
        return declared

    def _parameters(self, region: FuncGraph) -> tuple[list[Tensor], Any, Tensor | None]:
        """A region's parameters for the loop variables, and the structure of them that the user's function gets."""
        tensors = [
            region.add_parameter(tensor.dtype.base_dtype, dims) for tensor, dims in zip(self.initial, self.dims)
        ]
        counter = region.add_parameter(dtypes.int32, ()) if self.counted else None
        return tensors, nest.pack_sequence_as(self.structure, tensors, expand_composites=True), counter

    def _open_arrays(self) -> None:
        """Arrays take the shape of their elements from what the body writes, and may grow."""
        self.open: dict[int, int] = {}
        position = 0
        for number, leaf in enumerate(self.leaves):
            parts = count(leaf) if is_composite(leaf) else 1
            if isinstance(leaf, TensorArray):
                if leaf._is_open:
                    self.open[position] = number
                    self.dims[position] = None
                if leaf.dynamic_size:
                    for k in range(position, position + parts):
                        self.dims[k] = _without_rows(self.dims[k])
            position += parts

    def _settle_arrays(self) -> None:
        """Let the loop begin with arrays of the shape that the first trip writes."""
        returned = nest.flatten(self.returned)
        for position, number in self.open.items():
            array, after = self.leaves[number], self.after[position]
            parameter = self.places[id(self.body)][0][position]
            if after is parameter:
                continue
            made = array._made_like(returned[number])
            buffer = made._filled()
            if made._is_open and all_pure(after):
                with default_graphs.enter(self.body):
                    extents = shape(after)
                (extents,) = recompute(self.graph, [extents], {}, self._before_the_loop)
                buffer = zeros(extents, array.dtype)
            self.initial[position] = buffer
            if after.dims is not None:
                rows = None if array.dynamic_size or buffer.dims is None else buffer.dims[0]
                after.dims = self.dims[position] = (rows, *after.dims[1:])
                for region in (self.cond, self.body):
                    self.places[id(region)][0][position].dims = after.dims

    def _before_the_loop(self, tensor: Tensor) -> Tensor | None:
        """What a parameter of the body is in the first trip."""
        parameters, _, counter = self.places[id(self.body)]
        if tensor in parameters:
            return self.initial[parameters.index(tensor)]
        return self.graph.capture(self.counter) if tensor is counter else self.body.sources.get(tensor)

    # --- Regions ---

    def trace_cond(self, function: Callable[..., Any]) -> None:
        """Make the region that says whether to go on."""
        _, arguments, counter = self.places[id(self.cond)]
        with default_graphs.enter(self.cond):
            found = convert_to_tensor(_call(function, arguments))
            if found.dtype.base_dtype is not dtypes.bool_:
                raise TypeError(
                    f"Input 'input' of 'LoopCond' Op has type {found.dtype.name} that does not match expected type of "
                    "bool."
                )
            if found.dims not in (None, ()):
                raise ValueError(f"Shape must be rank 0 but is rank {len(found.dims or ())} for a loop's condition.")
            if counter is not None:
                found = logical_and(less(counter, self.maximum), found)
            self.cond.outputs = [self.cond.capture(found)]

    def trace_body(self, function: Callable[..., Any]) -> None:
        """Make the region of a trip."""
        _, arguments, counter = self.places[id(self.body)]
        with default_graphs.enter(self.body):
            result = _call(function, arguments)
            self.returned = result if nest.is_nested(result) else [result]
            if len(self.leaves) == 1 and not nest.is_nested(self.structure):
                self.returned = [result]
            nest.assert_same_structure(list(self.structure), list(self.returned), expand_composites=True)
            after = [
                _next_value(value, entered)
                for value, entered in zip(
                    nest.flatten(self.returned, expand_composites=True),
                    nest.flatten(arguments, expand_composites=True),
                )
            ]
            self.after = [self.body.capture(each) for each in after]
            if counter is not None:
                self.counted_up = add(counter, 1)
        self._settle_arrays()
        self._check_shapes()

    def _check_shapes(self) -> None:
        for entered, dims, value in zip(self.initial, self.dims, self.after):
            if not _less_specific(dims, value.dims):
                raise ValueError(
                    f"Input tensor '{entered.name}' enters the loop with shape {TensorShape(dims)}, but has shape "
                    f"{value.shape} after one iteration. To allow the shape to vary across iterations, use the "
                    "`shape_invariants` argument of tf.while_loop to specify a less-specific shape."
                )

    # --- The op ---

    def results(self, back_prop: bool, same_structure: bool) -> Any:
        """Make the op, and give its results in the structure that the body returned."""
        outputs = self._op().outputs[: len(self.initial) + self.counted]
        # The counter comes first in the order of names.
        order = [*outputs[len(self.initial) :], *outputs[: len(self.initial)]]
        tensors = named_results(self.graph, order, "Exit")[self.counted :]
        if not back_prop:
            tensors = [stop_gradient(tensor) for tensor in tensors]
        packed = nest.pack_sequence_as(self.returned, tensors, expand_composites=True)
        single = len(tensors) == 1 and not same_structure
        return nest.flatten(packed)[0] if single and not isinstance(packed, dict) else packed

    def _op(self) -> Operation:
        first = {key: list(place[0]) for key, place in self.places.items()}
        initial, after = list(self.initial), list(self.after)
        if self.counted:
            initial.append(self.graph.capture(self.counter))
            after.append(self.counted_up)
            for key, place in self.places.items():
                assert place[2] is not None
                first[key].append(place[2])
        return make_while(
            self.graph, self.cond, self.body, first[id(self.cond)], first[id(self.body)], initial, after, self.parallel
        )


def make_while(
    graph: Graph,
    cond: FuncGraph,
    body: FuncGraph,
    cond_parameters: Sequence[Tensor],
    body_parameters: Sequence[Tensor],
    initial: Sequence[Tensor],
    after: Sequence[Tensor],
    parallel: int = 10,
) -> Operation:
    """A `While` op in `graph` of regions whose parameters for the loop variables are given; captures come last."""
    captured = list(dict.fromkeys([*cond.captures, *body.captures]))
    cond.order_parameters(cond_parameters, captured)
    body.order_parameters(body_parameters, captured)
    body.outputs = [*after, *body.inputs[len(after) :]]
    inputs = [*initial, *captured]
    types = (*(tensor.dtype.base_dtype for tensor in initial), *(tensor.dtype for tensor in captured))
    attrs = {"T": types, "cond": cond, "body": body, "output_shapes": (), "parallel_iterations": parallel}
    op = graph.add(op_def_of("While"), inputs, attrs, graph.unique_name("While"), types)
    for region in (cond, body):
        region.hand_on_controls(op)
    return op


def _stated(variable: Tensor, shape_said: Any) -> Dims:
    """The shape that is said to be kept; ValueError when it isn't that of the loop variable at first."""
    dims = as_dims(shape_said)
    if not _less_specific(dims, variable.dims):
        raise ValueError(
            f"The shape invariant specified for {variable.name} is not compatible with the initial shape of the loop "
            f"variable. It enters the loop with shape {variable.shape}, but the specified shape invariant is "
            f"{as_shape(shape_said)}."
        )
    return dims


def _call(function: Callable[..., Any], arguments: Any) -> Any:
    return function(**arguments) if isinstance(arguments, dict) else function(*arguments)


def _converted(value: Any) -> Any:
    if is_composite(value):
        return value
    tensor = convert_to_tensor(value)
    if tensor.dtype._is_ref_dtype:
        return identity(tensor)
    return tensor


def _next_value(value: Any, entered: Tensor) -> Tensor:
    if isinstance(value, Operation):
        raise TypeError(f"can't convert Operation '{value.name}' to Tensor")
    found = convert_to_tensor(value)
    if found.dtype.base_dtype is not entered.dtype.base_dtype:
        raise TypeError(
            f"A loop variable enters a trip as {entered.dtype.base_dtype.name} ('{entered.name}'), but the body gives "
            f"{found.dtype.base_dtype.name} ('{found.name}') for it."
        )
    return found


def _zero() -> Tensor:
    return convert_to_tensor(0, dtypes.int32, name="iteration_counter")


def _checked_maximum(maximum: Any) -> Tensor:
    found = convert_to_tensor(maximum, name="maximum_iterations")
    if found.dims not in (None, ()):
        raise ValueError(f"'maximum_iterations' must be a scalar. Received shape: {found.shape}")
    return cast(found, dtypes.int32)


def _less_specific(general: Dims, special: Dims) -> bool:
    """Whether every shape that `special` allows is one that `general` does."""
    if general is None:
        return True
    if special is None or len(general) != len(special):
        return False
    return all(m is None or m == n for m, n in zip(general, special))


def _without_rows(dims: Dims) -> Dims:
    return None if dims is None else (None, *dims[1:]) if dims else dims
