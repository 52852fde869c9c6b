"""Python functions as ops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepjit.framework.apply import apply_op
from stepjit.framework.registry import NotDifferentiable
from stepjit_runtime import py_functions
from stepjit_runtime.dtypes import as_dtype


def py_func(
    func: Callable[..., Any], inp: Any, Tout: Any, stateful: bool = True, name: str | None = None  # noqa: N803
) -> Any:
    """What `func` gives, called in mid-step with the values of `inp` as numpy arrays (numpy scalars for scalars).

    Tout: a dtype for one result, a list of dtypes for several; they have to be just what the function returns.
    What the function raises ends the step with a `tf.errors.OpError`, whose `__cause__` it is. ValueError when `func`
    can't be called. The op has no gradient.
    """
    if not callable(func):
        raise ValueError(f"Expected func to be callable. Received func={func} of type {type(func)}.")
    if Tout is None:
        raise TypeError("Tout must be a dtype or a list of dtypes, not None")
    many = isinstance(Tout, (list, tuple))
    function = py_functions.register(func)
    made = apply_op(
        "PyFunc" if stateful else "PyFuncStateless", input=list(inp), token=function.token,
        Tout=[as_dtype(each) for each in (Tout if many else [Tout])], name=name,
    )  # fmt: skip
    graph = made[0].graph if isinstance(made, list) else made.graph
    graph.root.py_functions.append(function)
    return made if many else made[0]


def numpy_function(
    func: Callable[..., Any], inp: Any, Tout: Any, stateful: bool = True, name: str | None = None  # noqa: N803
) -> Any:
    """`py_func` under its later name."""
    return py_func(func, inp, Tout, stateful, name)


NotDifferentiable("PyFunc")
NotDifferentiable("PyFuncStateless")
