"""Functions that bring their own gradient."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.convert import convert_to_tensor
from stepjit.framework.graph import Graph, Operation, Tensor, get_default_graph
from stepjit.framework.graph_keys import GraphKeys
from stepjit.framework.nest import flatten, pack_sequence_as
from stepjit.framework.registry import RegisterGradient

_numbers = itertools.count()


class _Decorated:
    """A function with a gradient of its own; in a class, a method."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            raise ValueError(
                "The custom_gradient decorator currently supports keywords arguments only when eager execution "
                "is enabled."
            )
        return _call(self._function, args)

    def __get__(self, instance: Any, owner: Any = None) -> Callable[..., Any]:
        return self if instance is None else functools.partial(_call_method, self._function, instance)


def custom_gradient(f: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """Decorator for a function that returns its result and the function of its gradient.

    The second maps the gradients of the results to those of the arguments. When the first reads variables, the second
    takes a list of them as `variables` and returns a pair: the gradients of the arguments and those of the variables.
    """
    return custom_gradient if f is None else _Decorated(f)


def grad_pass_through(f: Callable[..., Any]) -> Callable[..., Any]:
    """The function f with the gradient of the identity; variables that it reads get none."""

    def function(*args: Any) -> Any:
        def gradient(*grads: Any, variables: Any = None) -> Any:
            return grads if variables is None else (grads, [None] * len(variables))

        return f(*args), gradient

    return _Decorated(functools.wraps(f)(function))


def _call_method(function: Callable[..., Any], instance: Any, *args: Any) -> Any:
    return _call(functools.partial(function, instance), args)


def _call(function: Callable[..., Any], args: Sequence[Any]) -> Any:
    graph = get_default_graph()
    inputs = [apply_op("Identity", input=convert_to_tensor(each)) for each in flatten(args)]
    before = set(map(id, _variables(graph)))
    result, gradient = function(*pack_sequence_as(args, inputs))
    outputs = [convert_to_tensor(each) for each in flatten(result)]
    known = _variables(graph)
    if any(id(each) not in before and not hasattr(each, "handle") for each in known):
        raise TypeError(
            "All variables used by a function wrapped with @custom_gradient must be `ResourceVariable`s. "
            "Ensure that no `variable_scope` is created with `use_resource=False`."
        )
    variables = _used(known, outputs, inputs)
    if variables and not _takes_variables(gradient):
        raise TypeError(
            "@tf.custom_gradient grad_fn must accept keyword argument 'variables', since function uses variables: "
            f"{variables}"
        )
    kind = f"CustomGradient-{next(_numbers)}"
    RegisterGradient(kind)(_registered(gradient, len(outputs), variables))
    with graph.gradient_override_map({"IdentityN": kind}):
        joined = apply_op("IdentityN", input=[*outputs, *inputs, *variables])
    return pack_sequence_as(result, joined[: len(outputs)])


def _variables(graph: Graph) -> list[Any]:
    return [*graph.get_collection(GraphKeys.GLOBAL_VARIABLES), *graph.get_collection(GraphKeys.LOCAL_VARIABLES)]


def _used(variables: Sequence[Any], outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> list[Any]:
    """Those of the variables that the outputs are computed from, other than through the inputs."""
    by_op = {each.op: each for each in variables}
    stops = {each.op for each in inputs}
    pending, seen = [each.op for each in outputs], set(stops)
    while pending:
        op = pending.pop()
        if op not in seen:
            seen.add(op)
            pending += [each.op for each in op.inputs]
    return [variable for op, variable in by_op.items() if op in seen]


def _takes_variables(gradient: Callable[..., Any]) -> bool:
    found = inspect.getfullargspec(gradient)
    return "variables" in found.args or "variables" in found.kwonlyargs or found.varkw is not None


def _registered(gradient: Any, outputs: int, variables: Sequence[Any]) -> Callable[..., Any]:
    """The gradient of the op that joins results, arguments and variables."""

    def function(op: Operation, *grads: Any) -> list[Any]:
        given, own = grads[:outputs], []
        if variables:
            found, own = gradient(*given, variables=list(variables))
            if len(own) != len(variables):
                raise ValueError("Must return gradient for each variable from @custom_gradient grad_fn.")
        else:
            found = gradient(*given)
        return [None] * outputs + flatten(found) + list(own)

    return function
