"""Graphs that grow while they run: ops made in a loop, where they were meant to be made once."""

from __future__ import annotations

import logging

from stepjit.framework.graph import Graph

_LOG = logging.getLogger("tensorflow")

MANY_GROWTHS = 20
"""Runs before which one line of the user's program has added ops, from which on a warning says so.

Building a model and then running it, over and over, adds ops from ever new lines; only loops come back to one.
"""


class Growth:
    """Looks, whenever a session is asked for a new step, at what has been added to the graph since the last one."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._seen, self._warned = graph, graph.version, False
        self._growths: dict[str, int] = {}

    def look(self) -> None:
        """Warn, once, when one line keeps adding ops."""
        seen, self._seen = self._seen, self._graph.version
        if self._seen == seen or self._warned:
            return
        op = self._graph.ops[seen]
        line = op.traceback_line
        count = self._growths[line] = self._growths.get(line, 0) + 1
        if count >= MANY_GROWTHS:
            self._warned = True
            self._growths.clear()
            _LOG.warning(
                "The graph grew before %d runs, each time by ops made at %s, last by '%s' (%s). Ops that are made in a "
                "loop are kept for good, and each new one that runs is compiled. Make them once, before the loop; "
                "after tf.get_default_graph().finalize() making more is an error.",
                count, line or "an unknown line", op.name, op.type,
            )  # fmt: skip
