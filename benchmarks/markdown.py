"""The table of a saved run (`--json`) for a README: `python -m benchmarks.markdown FILE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.workloads import WORKLOADS

COLUMNS = (
    ("TF `Session.run`", ("tensorflow.run",)),
    ("TF private, 1 thread", ("tensorflow.direct",)),
    ("TF XLA", ("tensorflow.xla",)),
    ("JAX", ("jax.jit", "jax.closed")),
    ("onnxruntime", ("onnxruntime.",)),
    ("numba", ("numba.",)),
    ("numpy", ("numpy.",)),
    ("C", ("c.",)),
)
"""Heading, and the ways of a peer that it stands for: the fastest of them counts."""


def table(saved: dict[str, Any]) -> str:
    """Markdown: stepjit's median in us, and how many times longer each peer's fastest way takes."""
    lines = ["| workload | stepjit, µs | " + " | ".join(name for name, _ in COLUMNS) + " |"]
    lines.append("|---|--:|" + "--:|" * len(COLUMNS))
    for workload in WORKLOADS:
        ways = saved["workloads"].get(workload.name, {})
        own = _fastest(ways, ("stepjit.callable",))
        if own is not None:
            cells = [_ratio(_fastest(ways, names), own) for _, names in COLUMNS]
            lines.append(f"| {workload.title} | {_short(own)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _fastest(ways: dict[str, Any], names: tuple[str, ...]) -> float | None:
    times = [
        way["us"] for name, way in ways.items() if name.startswith(names) and way["us"] and not way["error"]
    ]  # fmt: skip
    return min(times, default=None)


def _ratio(other: float | None, own: float) -> str:
    return "" if other is None else f"{_short(other / own)}x"


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text())))
