"""Seeds of random ops, from the graph's seed and the op's."""

from __future__ import annotations

from stepjit.framework.stack import get_default_graph

DEFAULT_GRAPH_SEED = 87654321
_MODULUS = 2**31 - 1


def set_random_seed(seed: int | None) -> None:
    """Give the default graph a seed, from which its ops derive theirs."""
    get_default_graph().seed = seed


def get_seed(op_seed: int | None) -> tuple[int | None, int | None]:
    """The pair (seed, seed2) for a random op; (None, None) when neither the graph nor the op has a seed.

    Without an op seed, each call takes the next number under the graph's seed.
    """
    graph = get_default_graph()
    seed = graph.seed
    if seed is None:
        if op_seed is None:
            return None, None
        pair = DEFAULT_GRAPH_SEED, op_seed
    elif op_seed is None:
        pair = seed, graph.next_seedless()
    else:
        pair = seed, op_seed
    reduced = int(pair[0]) % _MODULUS, int(pair[1]) % _MODULUS
    # (0, 0) would mean: seed at random.
    return (0, _MODULUS) if reduced == (0, 0) else reduced
