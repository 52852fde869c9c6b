"""The default session of each thread, and what runs in it: `Tensor.eval` and `Operation.run`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepjit.framework.stack import DefaultStack

if TYPE_CHECKING:
    from stepjit.framework.graph import Graph

default_sessions: DefaultStack[Any] = DefaultStack()


def get_default_session() -> Any:
    """The innermost session of this thread that is the default, or None."""
    return default_sessions.top()


def eval_using_default_session(tensors: Any, feed_dict: Any, graph: Graph, session: Any = None) -> Any:
    """`Tensor.eval`: run in the session or the default one; ValueError when there is none or it has another graph."""
    return _session_for(graph, session, "evaluate tensor", "eval", "tensor").run(tensors, feed_dict)


def run_using_default_session(operation: Any, feed_dict: Any, graph: Graph, session: Any = None) -> None:
    """`Operation.run`, likewise."""
    _session_for(graph, session, "execute operation", "run", "operation").run(operation, feed_dict)


def _session_for(graph: Graph, session: Any, what: str, method: str, thing: str) -> Any:
    given = session is not None
    session = session if given else get_default_session()
    if session is None:
        raise ValueError(
            f"Cannot {what} using `{method}()`: No default session is registered. Use `with sess.as_default()` or pass "
            f"an explicit session to `{method}(session=sess)`"
        )
    if session.graph is not graph:
        whose = "given session" if given else "session"
        raise ValueError(f"Cannot {what}: the {thing}'s graph is different from the {whose}'s graph.")
    return session
