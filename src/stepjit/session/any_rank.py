"""Loops whose variables change their rank: no Step can say what they do, so the graph's regions are steps of their own.

Python drives them; a region is compiled for each set of ranks that its parameters have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stepjit_runtime import abi
from stepjit_runtime.executable import Layout

if TYPE_CHECKING:
    from stepjit.session.session import BaseSession


def any_rank_loop(op: Any, live: Sequence[int], session: BaseSession) -> Callable[..., list[np.ndarray]]:
    """The function that runs the loop `op` of a graph over its variables with the numbers `live`."""
    cond, body = op.attrs["cond"], op.attrs["body"]
    changing = [n for n, k in enumerate(live) if body.outputs[k] is not body.inputs[k]]
    holds = _step(session, [cond.outputs[0]], [cond.inputs[k] for k in live])
    after = _step(session, [body.outputs[live[n]] for n in changing], [body.inputs[k] for k in live])
    cancellation = session._resources.cancellation

    def run(*values: np.ndarray) -> list[np.ndarray]:
        variables = list(values)
        while holds(variables)[0]:
            cancellation.check()
            for n, found in zip(changing, after(variables), strict=True):
                variables[n] = np.asarray(found, values[n].dtype)
        return variables

    return run


def _step(session: BaseSession, fetches: Sequence[Any], feeds: Sequence[Any]) -> Callable[[Sequence[Any]], list[Any]]:
    """A region's results over its parameters; results that are parameters are handed on."""
    from stepjit.session.steps import Binding, SessionStep

    computed = [tensor for tensor in dict.fromkeys(fetches) if tensor not in feeds]
    step = SessionStep(session, tuple(computed), (), tuple(feeds))
    binding = Binding(step, Layout(abi.PACK_LIST, tuple(range(len(computed)))))

    def run(arrays: Sequence[Any]) -> list[Any]:
        known = dict(zip(feeds, arrays))
        if computed:
            known.update(zip(computed, binding.callable(*arrays)))
        return [known[tensor] for tensor in fetches]

    return run
