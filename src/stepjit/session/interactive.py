"""InteractiveSession: the session of shells and notebooks."""

from __future__ import annotations

import logging
import weakref
from typing import Any

from stepjit.framework.graph import Graph
from stepjit.framework.stack import Entered, default_graphs
from stepjit.session.defaults import default_sessions
from stepjit.session.session import BaseSession

_LOG = logging.getLogger("tensorflow")


class InteractiveSession(BaseSession):
    """A session that is the default from its making to its close, for shells and notebooks."""

    _active: weakref.WeakSet[InteractiveSession] = weakref.WeakSet()
    _pruned_placement = True

    def __init__(self, target: Any = "", graph: Graph | None = None, config: Any = None) -> None:
        super().__init__(target, graph, config)
        if InteractiveSession._active:
            _LOG.error(
                "An interactive session is already active. This can cause out-of-memory errors in some cases. You must "
                "explicitly call `InteractiveSession.close()` to release resources held by the other session(s)."
            )
        InteractiveSession._active.add(self)
        # Until it is closed the stack keeps the session, since users need not.
        self._blocks: list[Entered[Any]] = []
        for block in [default_sessions.enter(self), *([default_graphs.enter(graph)] if graph is not None else [])]:
            block.enforce_nesting = False
            block.__enter__()
            self._blocks.append(block)

    def close(self) -> None:
        """End the session and be the default no more; a second call does nothing."""
        if self._closed:
            return
        super().close()
        InteractiveSession._active.discard(self)
        blocks = vars(self).get("_blocks", [])
        while blocks:
            blocks.pop().__exit__(None, None, None)
