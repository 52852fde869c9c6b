"""Branches: `cond`, `case` and `switch_case`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from stepjit.framework import nest
from stepjit.framework.composites import is_composite
from stepjit.framework.convert import constant, convert_to_tensor
from stepjit.framework.func_graph import FuncGraph
from stepjit.framework.graph import Graph, Operation, Tensor, get_default_graph, op_def_of
from stepjit.framework.scopes import control_dependencies, name_scope
from stepjit.framework.stack import default_graphs
from stepjit.ops.array import stack
from stepjit.ops.cast import cast
from stepjit.ops.comparison import equal, less_equal
from stepjit.ops.control import Assert
from stepjit.ops.reductions import reduce_sum
from stepjit_runtime import dtypes


def cond(
    pred: Any,
    true_fn: Callable[[], Any] | None = None,
    false_fn: Callable[[], Any] | None = None,
    strict: bool = False,
    name: str | None = None,
    fn1: Callable[[], Any] | None = None,
    fn2: Callable[[], Any] | None = None,
) -> Any:
    """What `true_fn` returns if `pred` holds in a step, else what `false_fn` does; the step runs only that branch.

    Both are called once, and must return the same structure of the same dtypes; an op among the results counts as a
    bool. A list or tuple of one element gives the element, unless `strict`. TypeError for a `pred` that is a Python
    bool or no bool scalar and for what is no function; ValueError when the branches don't agree.
    """
    true_fn = _either_name(true_fn, fn1, "true_fn", "fn1")
    false_fn = _either_name(false_fn, fn2, "false_fn", "fn2")
    for function, label in ((true_fn, "true_fn"), (false_fn, "false_fn")):
        if not callable(function):
            raise TypeError(f"'{label}' must be callable.")
    with name_scope(name, "cond", [pred]) as scope:
        if isinstance(pred, bool):
            raise TypeError("'pred' must not be a Python bool.")
        graph = get_default_graph()
        chosen = _checked_pred(pred)
        then = _Branch(graph, scope, true_fn, "true_fn", strict)
        other = _Branch(graph, scope, false_fn, "false_fn", strict)
        _agree(then, other)
        then.adapt(other)
        other.adapt(then)
        merged = merge(chosen, then.region, other.region, scope)
        result = nest.pack_sequence_as(then.structure, merged, expand_composites=True)
        return result if strict else _unpacked(result)


def _either_name(function: Any, old: Any, name: str, old_name: str) -> Any:
    if old is not None:
        if function is not None:
            raise TypeError(f"cond(): '{name}' and '{old_name}' may not be set simultaneously.")
        return old
    if function is None:
        raise TypeError(f"cond(): '{name}' argument required")
    return function


def _checked_pred(pred: Any) -> Tensor:
    chosen = convert_to_tensor(pred, name="pred")
    if chosen.dtype.base_dtype is not dtypes.bool_:
        raise TypeError(
            f"Input 'pred' of 'Switch' Op has type {chosen.dtype.name} that does not match expected type of bool."
        )
    if chosen.dims not in (None, ()):
        raise ValueError(f"Shape must be rank 0 but is rank {len(chosen.dims or ())} for the 'pred' of a cond.")
    return chosen


def _unpacked(result: Any) -> Any:
    return result[0] if isinstance(result, (list, tuple)) and len(result) == 1 else result


class _Branch:
    """A function run once to make its region."""

    def __init__(self, graph: Graph, scope: str, function: Any, label: str, strict: bool) -> None:
        self.label = label
        self.region = region = FuncGraph(graph, scope.rstrip("/"), "cond branch")
        with default_graphs.enter(region):
            result = function()
            if result is None:
                raise ValueError(f"'{label}' must have a return value.")
            result = nest.map_structure(self._result, result)
            self.structure = result if strict else _unpacked(result)
            leaves = nest.flatten(self.structure, expand_composites=True)
            self.leaves = [region.capture(each) for each in leaves]
        region.outputs = self.leaves

    def _result(self, value: Any) -> Any:
        if isinstance(value, Operation):
            with control_dependencies([value]):
                return constant(self.label == "true_fn")
        return value if is_composite(value) else convert_to_tensor(value)

    def adapt(self, other: _Branch) -> None:
        """Let composite results be like those of the other branch, where that one knows more of them."""
        structure, changed = [], False
        pairs = zip(nest.flatten(self.structure), nest.flatten(other.structure))
        with default_graphs.enter(self.region):
            for mine, theirs in pairs:
                like = getattr(mine, "_made_like", None)
                structure.append(mine if like is None else like(theirs))
                changed = changed or structure[-1] is not mine
            if changed:
                self.structure = nest.pack_sequence_as(self.structure, structure)
                leaves = nest.flatten(self.structure, expand_composites=True)
                self.region.outputs = self.leaves = [self.region.capture(each) for each in leaves]


def _agree(then: _Branch, other: _Branch) -> None:
    """ValueError or TypeError unless the branches give the same structure of the same dtypes."""
    nest.assert_same_structure(then.structure, other.structure, expand_composites=True)
    if not then.leaves:
        raise ValueError("'true_fn' and 'false_fn' must return at least one result.")
    for mine, theirs in zip(then.leaves, other.leaves):
        if mine.dtype.base_dtype is not theirs.dtype.base_dtype:
            raise ValueError(
                "Outputs of 'true_fn' and 'false_fn' must have the same type(s). Received "
                f"{mine.dtype.base_dtype.name} from 'true_fn' and {theirs.dtype.base_dtype.name} from 'false_fn'."
            )


def merge(chosen: Tensor, then: FuncGraph, other: FuncGraph, scope: str) -> list[Tensor]:
    """The results of an `If` op with these regions, whose parameters it makes the same."""
    graph = get_default_graph()
    captured = list(dict.fromkeys([*then.captures, *other.captures]))
    for region in (then, other):
        region.order_parameters((), captured)
    dtypes_out = tuple([tensor.dtype.base_dtype for tensor in then.outputs])
    attrs = {
        "Tcond": dtypes.bool_,
        "Tin": tuple([tensor.dtype for tensor in captured]),
        "Tout": dtypes_out,
        "then_branch": then,
        "else_branch": other,
        "output_shapes": (),
    }
    chosen = graph.capture(chosen)
    op = graph.add(op_def_of("If"), [chosen, *captured], attrs, graph.unique_name("If"), dtypes_out)
    for region in (then, other):
        region.hand_on_controls(op)
    return named_results(graph, op.outputs, "Merge")


def named_results(graph: Graph, tensors: Sequence[Tensor], name: str) -> list[Tensor]:
    """The tensors under the names that users know them by."""
    identity = op_def_of("Identity")
    results = []
    for tensor in tensors:
        op = graph.add(identity, [tensor], {"T": tensor.dtype}, graph.unique_name(name), (tensor.dtype,))
        results.append(op.outputs[0])
    return results


# --- case ---


def case(
    pred_fn_pairs: Any,
    default: Callable[[], Any] | None = None,
    exclusive: bool = False,
    strict: bool = False,
    name: str = "case",
) -> Any:
    """What the function of the first pair (pred, function) returns whose `pred` holds in a step, else `default`'s.

    Without a `default` the last pair's function stands in. exclusive: the step fails with InvalidArgumentError when
    several hold. Results as in `cond`; TypeError for pairs that are none.
    """
    pairs = _pairs(pred_fn_pairs)
    with name_scope(name, "case", [pred for pred, _ in pairs]):
        if default is None:
            default, pairs = pairs[-1][1], pairs[:-1]
            if not pairs:
                return default()
        elif not callable(default):
            raise TypeError("'false_fn' must be callable.")
        with _one_at_most([pred for pred, _ in pairs]) if exclusive else contextlib.nullcontext():
            chosen = default
            for pred, function in reversed(pairs):
                chosen = _else(pred, function, chosen, strict)
            return chosen()


def _else(pred: Any, function: Any, otherwise: Any, strict: bool) -> Callable[[], Any]:
    return lambda: cond(pred, true_fn=function, false_fn=otherwise, strict=strict)


def _pairs(pred_fn_pairs: Any) -> list[tuple[Any, Any]]:
    if isinstance(pred_fn_pairs, Mapping):
        pairs: list[Any] = list(pred_fn_pairs.items())
    elif isinstance(pred_fn_pairs, (list, tuple)):
        pairs = list(pred_fn_pairs)
    else:
        raise TypeError(f"'pred_fn_pairs' must be a list, tuple, or dict. Received: {type(pred_fn_pairs)}")
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(f"Each entry in 'pred_fn_pairs' must be a 2-tuple. Received {pair}.")
        pred, function = pair
        if not isinstance(pred, Tensor):
            raise TypeError(f"pred must be a Tensor, got: {pred}")
        if not callable(function):
            raise TypeError(f"fn for pred {pred.name} must be callable.")
    if not pairs:
        raise ValueError("'pred_fn_pairs' must hold at least one pair.")
    return pairs


@contextlib.contextmanager
def _one_at_most(preds: Sequence[Tensor]) -> Iterator[None]:
    """A block whose ops fail when several of `preds` hold."""
    together = stack(list(preds), name="preds_c")
    count = reduce_sum(cast(together, dtypes.int32), name="num_conds")
    names = ", ".join(pred.name for pred in preds)
    message = f"Input error: exclusive=True: more than 1 conditions ({names}) evaluated as True:"
    with control_dependencies([Assert(less_equal(count, 1), [message, together], summarize=len(preds))]):
        yield


# --- switch_case ---


def switch_case(
    branch_index: Any, branch_fns: Any, default: Callable[[], Any] | None = None, name: str = "switch_case"
) -> Any:
    """What the function number `branch_index` (an int32 scalar) returns; out of range `default`, else the last.

    branch_fns: a list of functions, or a dict or list of pairs (number, function) whose numbers are 0, 1, ….
    TypeError and ValueError for what is none of these.
    """
    functions = _numbered(branch_fns)
    if not isinstance(branch_index, Tensor):
        raise TypeError(f"'branch_index' must be a Tensor, got {type(branch_index)}")
    if branch_index.dtype.base_dtype.kind not in "iu":
        raise TypeError(f"'branch_index' must be an integer Tensor, got {branch_index.dtype}")
    if branch_index.dtype.base_dtype is not dtypes.int32:
        raise TypeError(
            f"Input 'branch_index' of 'Case' Op has type {branch_index.dtype.name} that does not match expected type "
            "of int32."
        )
    if default is not None and not callable(default):
        raise TypeError("'default' must be callable.")
    with name_scope(name, "switch_case", [branch_index]):
        if default is None:
            default = functions[-1]
            functions = functions[:-1]
        pairs = [(equal(branch_index, number), function) for number, function in enumerate(functions)]
        chosen = default
        for pred, function in reversed(pairs):
            chosen = _else(pred, function, chosen, False)
        return chosen() if pairs else nest.map_structure(convert_to_tensor, default())


def _numbered(branch_fns: Any) -> list[Callable[[], Any]]:
    """The functions in the order of their numbers."""
    if isinstance(branch_fns, Mapping):
        branch_fns = list(branch_fns.items())
    if not isinstance(branch_fns, (list, tuple)):
        raise TypeError(f"'branch_fns' must be a list, tuple, or dict. Received: {type(branch_fns)}")
    if not branch_fns:
        raise ValueError("Must provide at least one item in 'branch_fns'")
    if all(callable(each) for each in branch_fns):
        return list(branch_fns)
    for pair in branch_fns:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise TypeError(f"Each entry in 'branch_fns' must be a 2-tuple. Received {pair}.")
        if not isinstance(pair[0], int):
            raise TypeError(f"key must be a Python `int`, got {pair[0]} {type(pair[0])}")
        if not callable(pair[1]):
            raise TypeError(f"fn for key {pair[0]} must be callable.")
    numbers = sorted(number for number, _ in branch_fns)
    if numbers != list(range(len(numbers))):
        found = ",".join(map(str, numbers))
        raise ValueError(
            f"branch indices (keys) must form contiguous range of [0 to {len(numbers)}) but found {{{found}}}"
        )
    return [function for _, function in sorted(branch_fns, key=lambda pair: pair[0])]
